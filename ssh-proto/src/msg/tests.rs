use super::auth::*;
use super::connection::*;
use super::kex::{KexEcdhInit, KexEcdhReply};
use super::modes::{Mode, TerminalModes};
use super::transport::*;
use super::*;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..48)
}

fn there_and_back<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(
    payload: &'a [u8],
    message: &M,
) {
    let decoded = M::decode(payload);
    assert_eq!(decoded.as_ref(), Ok(message));
    assert_eq!(decoded.unwrap().to_payload(), payload);
}

/// A message that was changed in one byte is refused, or written as it was read. Only a boolean may be anything but zero
/// where it means one (RFC 4251 section 5).
macro_rules! check_changed {
    ($payload:expr, $change:expr, $type:ident) => {
        let mut changed = $payload.clone();
        let (at, value) = $change;
        let at = at.index(changed.len());
        changed[at] = value;
        if let Ok(message) = $type::decode(&changed) {
            let again = message.to_payload();
            prop_assert_eq!(again.len(), changed.len());
            for (again, was) in again.iter().zip(&changed) {
                prop_assert!(again == was || (*again == 1 && *was > 1));
            }
        }
    };
}

/// Encodes, decodes, compares, and checks that no proper prefix and no longer payload is taken.
macro_rules! check {
    ($message:expr, $type:ident, $change:expr) => {
        let payload = $message.to_payload();
        there_and_back(&payload, &$message);
        check_changed!(payload, $change, $type);
        let mut longer = payload.clone();
        longer.push(0);
        prop_assert!($type::decode(&longer).is_err());
        prop_assert!($type::decode(&payload[..payload.len() - 1]).is_err());
    };
}

proptest! {
    #[test]
    fn every_message_is_read_as_it_was_written_and_written_as_it_is_read(
        (a, b) in (bytes(), bytes()),
        (text, name) in ("\\PC{0,12}", "[a-z0-9@.-]{1,20}"),
        (x, y, z, flag) in any::<(u32, u32, u32, bool)>(),
        cookie in any::<[u8; 16]>(),
        change in any::<(prop::sample::Index, u8)>(),
    ) {
        let list = NameList::new(&name);
        check!(Disconnect { reason_code: x, description: &a, language_tag: &b }, Disconnect, change);
        check!(Ignore { data: &a }, Ignore, change);
        check!(Unimplemented { sequence_number: x }, Unimplemented, change);
        check!(Debug { always_display: flag, message: &a, language_tag: &b }, Debug, change);
        check!(ServiceRequest { service_name: &text }, ServiceRequest, change);
        check!(ServiceAccept { service_name: &text }, ServiceAccept, change);
        check!(NewKeys {}, NewKeys, change);
        check!(KexInit {
            cookie,
            kex_algorithms: list,
            server_host_key_algorithms: NameList::default(),
            encryption_algorithms_client_to_server: list,
            encryption_algorithms_server_to_client: list,
            mac_algorithms_client_to_server: list,
            mac_algorithms_server_to_client: list,
            compression_algorithms_client_to_server: list,
            compression_algorithms_server_to_client: list,
            languages_client_to_server: NameList::default(),
            languages_server_to_client: NameList::default(),
            first_kex_packet_follows: flag,
            reserved: x,
        }, KexInit, change);
        check!(KexEcdhInit { q_c: &a }, KexEcdhInit, change);
        check!(KexEcdhReply { k_s: &a, q_s: &b, signature: &a }, KexEcdhReply, change);
        check!(UserauthFailure { authentications_that_can_continue: list, partial_success: flag }, UserauthFailure, change);
        check!(UserauthSuccess {}, UserauthSuccess, change);
        check!(UserauthBanner { message: &a, language_tag: &b }, UserauthBanner, change);
        check!(UserauthPkOk { algorithm: &text, key: &a }, UserauthPkOk, change);
        check!(UserauthPasswdChangereq { prompt: &a, language_tag: &b }, UserauthPasswdChangereq, change);
        check!(RequestFailure {}, RequestFailure, change);
        check!(ChannelOpenFailure { recipient_channel: x, reason_code: y, description: &a, language_tag: &b }, ChannelOpenFailure, change);
        check!(ChannelWindowAdjust { recipient_channel: x, bytes_to_add: y }, ChannelWindowAdjust, change);
        check!(ChannelData { recipient_channel: x, data: &a }, ChannelData, change);
        check!(ChannelExtendedData { recipient_channel: x, data_type_code: y, data: &a }, ChannelExtendedData, change);
        check!(ChannelEof { recipient_channel: x }, ChannelEof, change);
        check!(ChannelClose { recipient_channel: x }, ChannelClose, change);
        check!(ChannelSuccess { recipient_channel: x }, ChannelSuccess, change);
        check!(ChannelFailure { recipient_channel: x }, ChannelFailure, change);
        check!(Ping { data: &a }, Ping, change);
        check!(Pong { data: &a }, Pong, change);
        // Those that end in data of their own take whatever follows.
        let rest = Rest(&a);
        macro_rules! open_ended {
            ($type:ident $fields:tt) => {
                let message = $type $fields;
                let payload = message.to_payload();
                there_and_back(&payload, &message);
                check_changed!(payload, change, $type);
            };
        }
        open_ended!(ExtInfo { nr_extensions: x, extensions: rest });
        open_ended!(UserauthRequest { user_name: &text, service_name: &name, method_name: &name, method_fields: rest });
        open_ended!(UserauthInfoRequest { name: &a, instruction: &b, language_tag: &b, num_prompts: x, prompts: rest });
        open_ended!(UserauthInfoResponse { num_responses: x, responses: rest });
        open_ended!(GlobalRequest { request_name: &name, want_reply: flag, data: rest });
        open_ended!(RequestSuccess { data: rest });
        open_ended!(ChannelOpen { channel_type: &name, sender_channel: x, initial_window_size: y, maximum_packet_size: z, data: rest });
        open_ended!(ChannelOpenConfirmation { recipient_channel: x, sender_channel: y, initial_window_size: z, maximum_packet_size: x, data: rest });
        open_ended!(ChannelRequest { recipient_channel: x, request_type: &name, want_reply: flag, data: rest });
    }

    #[test]
    fn no_payload_makes_a_decoder_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = KexInit::decode(&payload);
        let _ = UserauthRequest::decode(&payload);
        let _ = ChannelOpen::decode(&payload);
        let _ = TerminalModes::decode(&payload);
    }

    #[test]
    fn terminal_modes_are_read_as_they_were_written(modes in prop::collection::vec((1_u8..160, any::<u32>()), 0..40)) {
        let modes: TerminalModes = modes.into_iter().map(|(mode, value)| (Mode(mode), value)).collect();
        prop_assert_eq!(TerminalModes::decode(&modes.encode()), Ok(modes));
    }
}

#[test]
fn an_error_names_message_and_field() {
    let error = ChannelData::decode(&[94, 0, 0, 0, 1, 0, 0, 0, 9, b'x']).unwrap_err();
    assert_eq!(
        error,
        PeerError::Malformed {
            message: 94,
            field: "data",
            problem: Malformed::Truncated
        }
    );
}

#[test]
fn the_last_argument_of_a_mode_counts() {
    let modes: TerminalModes = [(Mode::ECHO, 1), (Mode::ISIG, 7), (Mode::ECHO, 0)]
        .into_iter()
        .collect();
    assert_eq!(modes.get(Mode::ECHO), Some(0));
    assert_eq!(modes.get(Mode::ISIG), Some(7));
    assert_eq!(modes.get(Mode::ICANON), None);
}

#[test]
fn undefined_modes_stop_the_parsing() {
    let modes = TerminalModes::decode(&[53, 0, 0, 0, 1, 160, 1, 2, 3]).unwrap();
    assert_eq!(modes.get(Mode::ECHO), Some(1));
}
