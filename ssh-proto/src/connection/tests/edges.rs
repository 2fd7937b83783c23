//! Bounds before authentication at their edges, one below, at and one above: which error, which DISCONNECT, and that
//! nobody is let in.

use super::*;
use crate::connection::role::Side;
use crate::crypto::drbg::Drbg;
use crate::error::DisconnectReason;
use crate::limits::READ_BEFORE_AUTH;
use crate::msg::transport::{Disconnect, Ignore, KexInit};
use crate::packet::Input;
use crate::packet::output::Output;
use crate::packet::sealer::Sealer;
use crate::wire::NameList;

/// What a connection does that hears these bytes and nothing else: its error, and the reason of its DISCONNECT.
fn heard(side: Side, bytes: &[u8]) -> Option<(Error, u32)> {
    let mut pair = Pair::default();
    let output = match side {
        Side::Client => {
            pair.client.handle_bytes(bytes, pair.now);
            pair.client.output().to_vec()
        }
        Side::Server => {
            pair.server.handle_bytes(bytes, pair.now);
            pair.server.output().to_vec()
        }
    };
    pair.events();
    let (error, events, is_in) = match side {
        Side::Client => (
            pair.client.closed().cloned(),
            pair.client_events,
            pair.client.is_authenticated(),
        ),
        Side::Server => (
            pair.server.closed().cloned(),
            pair.server_events,
            pair.server.is_authenticated(),
        ),
    };
    assert!(!is_in);
    let Some(error) = error else {
        assert!(events.is_empty());
        return None;
    };
    assert_eq!(events, ["Disconnected"]);
    Some((error, last_reason(&output)))
}

/// The reason of the DISCONNECT that is the last packet of an output in clear.
pub(super) fn last_reason(output: &[u8]) -> u32 {
    let mut at = output.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut last: &[u8] = &[];
    while let Some(header) = output.get(at..at + 5) {
        let end = at + 4 + u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
        last = &output[at + 5..end - usize::from(header[4])];
        at = end;
    }
    let said = Disconnect::decode(last).expect("a DISCONNECT");
    said.reason_code
}

fn version_error(why: &'static str) -> Option<(Error, u32)> {
    let reason = DisconnectReason::PROTOCOL_VERSION_NOT_SUPPORTED.0;
    Some((PeerError::Version(why).into(), reason))
}

fn protocol_error(error: PeerError) -> Option<(Error, u32)> {
    Some((error.into(), DisconnectReason::PROTOCOL_ERROR.0))
}

#[test]
fn a_version_line_of_255_bytes_is_read_and_a_longer_one_ends_the_connection() {
    let line = |len: usize| [b"SSH-2.0-", &vec![b'x'; len - 10][..], b"\r\n"].concat();
    for side in [Side::Client, Side::Server] {
        assert_eq!(heard(side, &line(254)), None);
        assert_eq!(heard(side, &line(255)), None);
        let too_long = version_error("it is too long");
        assert_eq!(heard(side, &line(256)), too_long);
        // Its end is not waited for.
        assert_eq!(heard(side, &line(400)[..254]), None);
        assert_eq!(heard(side, &line(400)[..255]), too_long);
        for bad in [&b"SSH-2.0-a\0b\r\n"[..], b"SSH-2.0-a\rb\r\n"] {
            assert_eq!(
                heard(side, bad),
                version_error("it has a NUL or a stray CR")
            );
        }
    }
}

#[test]
fn a_server_may_greet_with_1024_lines_and_a_client_with_none() {
    let lines = |count: usize| [&b"x\n".repeat(count)[..], b"SSH-2.0-x\r\n"].concat();
    let too_much = version_error("too much text before it");
    assert_eq!(heard(Side::Client, &lines(1_023)), None);
    assert_eq!(heard(Side::Client, &lines(1_024)), None);
    assert_eq!(heard(Side::Client, &lines(1_025)), too_much);
    let none = version_error("it does not begin with SSH-");
    assert_eq!(heard(Side::Server, &lines(0)), None);
    assert_eq!(heard(Side::Server, &lines(1)), none);
    assert_eq!(heard(Side::Server, b"x"), none, "at its first byte");
}

#[test]
fn a_greeting_has_64_kib_and_not_a_byte_more() {
    let text = |len: usize| [&vec![b'x'; len - 1][..], b"\n"].concat();
    let too_much = version_error("too much text before it");
    assert_eq!(heard(Side::Client, &text(65_535)), None);
    assert_eq!(heard(Side::Client, &text(65_536)), None);
    assert_eq!(heard(Side::Client, &text(65_537)), too_much);
    // A line without end.
    assert_eq!(heard(Side::Client, &vec![b'x'; 65_536]), None);
    assert_eq!(heard(Side::Client, &vec![b'x'; 65_537]), too_much);
}

/// A version line, and packets in clear.
fn packets(payloads: &[&[u8]]) -> Vec<u8> {
    let mut out = Output::new(Drbg::new(Seed::new([3; 32])), Sealer::plain(), 0);
    out.raw(b"SSH-2.0-test\r\n");
    for payload in payloads {
        out.transport(&Raw(payload));
    }
    out.pending().to_vec()
}

#[test]
fn a_packet_before_authentication_is_as_long_as_the_rfc_asks_for_and_no_longer() {
    // Lengths in clear go up by eight: the last one that is no more than 35,000 bytes, and its neighbours.
    for side in [Side::Client, Side::Server] {
        for (length, passes) in [(34_988, true), (34_996, true), (35_004, false)] {
            let data = vec![0; length as usize - 10];
            let bytes = packets(&[&Ignore { data: &data }.to_payload()]);
            let expected = if passes {
                None
            } else {
                protocol_error(PeerError::PacketLength(length))
            };
            assert_eq!(heard(side, &bytes), expected, "{length}");
        }
        // Any length at all is judged by its four bytes.
        for length in [0, 1, 35_001, 256 * 1024, 1 << 31, u32::MAX] {
            let bytes = [b"SSH-2.0-test\r\n", &length.to_be_bytes()[..]].concat();
            let expected = protocol_error(PeerError::PacketLength(length));
            assert_eq!(heard(side, &bytes), expected, "{length}");
        }
    }
}

#[test]
fn a_list_of_names_has_16_kib_and_not_a_byte_more() {
    let kexinit = |at: usize, len: usize| {
        let good = [
            "curve25519-sha256",
            "ssh-ed25519",
            "aes128-ctr",
            "aes128-ctr",
            "hmac-sha2-256",
            "hmac-sha2-256",
            "none",
            "none",
            "",
            "",
        ];
        let mut lists = good.map(str::to_owned);
        if lists[at].is_empty() {
            lists[at].push('x');
        }
        lists[at].push(',');
        let missing = len - lists[at].len();
        lists[at].extend(std::iter::repeat_n('x', missing));
        let [kex, keys, a, b, c, d, e, f, g, h] = lists.each_ref().map(|list| NameList::new(list));
        KexInit {
            cookie: [0; 16],
            kex_algorithms: kex,
            server_host_key_algorithms: keys,
            encryption_algorithms_client_to_server: a,
            encryption_algorithms_server_to_client: b,
            mac_algorithms_client_to_server: c,
            mac_algorithms_server_to_client: d,
            compression_algorithms_client_to_server: e,
            compression_algorithms_server_to_client: f,
            languages_client_to_server: g,
            languages_server_to_client: h,
            first_kex_packet_follows: false,
            reserved: 0,
        }
        .to_payload()
    };
    let limit = protocol_error(PeerError::Limit("names in KEXINIT"));
    for side in [Side::Client, Side::Server] {
        for at in 0..10 {
            assert_eq!(heard(side, &packets(&[&kexinit(at, 16_383)])), None, "{at}");
            assert_eq!(heard(side, &packets(&[&kexinit(at, 16_384)])), None, "{at}");
            assert_eq!(
                heard(side, &packets(&[&kexinit(at, 16_385)])),
                limit,
                "{at}"
            );
        }
    }
}

#[test]
fn before_authentication_16_kib_are_read_at_once_and_not_a_byte_more() {
    let mut pair = Pair::default();
    let room = |pair: &mut Pair, len| {
        let mut input = pair.server.take_input(Input::with_capacity(len)).unwrap();
        input.unfilled().len()
    };
    for len in [READ_BEFORE_AUTH - 1, READ_BEFORE_AUTH, READ_BEFORE_AUTH + 1] {
        assert_eq!(room(&mut pair, len), len.min(READ_BEFORE_AUTH));
    }
    pair.login();
    assert_eq!(room(&mut pair, READ_BEFORE_AUTH + 1), READ_BEFORE_AUTH + 1);
}
