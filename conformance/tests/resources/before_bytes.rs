//! No number on the wire makes a connection allocate before so many bytes have come: every four bytes of every message, in
//! both roles, are made as large as they can be.

use super::*;
use conformance::hostile::{password, request};
use ssh_proto::msg::auth::*;
use ssh_proto::msg::connection::*;
use ssh_proto::msg::transport::*;
use ssh_proto::msg::{Message, Rest};
use ssh_proto::wire::{NameList, Writer};

/// What one look at a message of these may allocate: events, error texts, tables of a first channel, a key exchange.
const MOST: u64 = 24 * 1024;
const NUMBERS: [u32; 6] = [
    u32::MAX,
    1 << 31,
    (1 << 31) - 1,
    1 << 24,
    256 * 1024,
    35_000,
];

fn strings(number: u8, before: &[u8], strings: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![number];
    payload.extend_from_slice(before);
    for string in strings {
        Writer::new(&mut payload).string(string);
    }
    payload
}

/// Messages before a login, to both roles and to the one.
fn before_login<R: Usual>(peer: &Hostile<R>) -> Vec<Vec<u8>> {
    let mut messages = vec![
        Disconnect {
            reason_code: 11,
            description: b"bye",
            language_tag: b"",
        }
        .to_payload(),
        Ignore { data: b"data" }.to_payload(),
        Unimplemented { sequence_number: 3 }.to_payload(),
        Debug {
            always_display: true,
            message: b"text",
            language_tag: b"",
        }
        .to_payload(),
        strings(7, &[0, 0, 0, 1], &[b"server-sig-algs", b"ssh-ed25519"]),
        peer.kexinit(""),
    ];
    if R::IS_CLIENT {
        messages.extend([
            strings(6, &[], &[b"ssh-userauth"]),
            UserauthFailure {
                authentications_that_can_continue: NameList::new("password"),
                partial_success: false,
            }
            .to_payload(),
            UserauthBanner {
                message: b"text",
                language_tag: b"",
            }
            .to_payload(),
            strings(60, &[], &[b"ssh-ed25519", b"key"]),
            [
                strings(60, &[], &[b"name", b"", b""]),
                vec![0, 0, 0, 1],
                strings(0, &[], &[b"p"])[1..].to_vec(),
                vec![0],
            ]
            .concat(),
        ]);
    } else {
        let mut key = vec![1];
        Writer::new(&mut key)
            .string(b"ssh-ed25519")
            .nested(|blob| {
                blob.string(b"ssh-ed25519").string(&[7; 32]);
            })
            .nested(|blob| {
                blob.string(b"ssh-ed25519").string(&[7; 64]);
            });
        let mut rsa = vec![0];
        Writer::new(&mut rsa)
            .string(b"rsa-sha2-256")
            .nested(|blob| {
                blob.string(b"ssh-rsa")
                    .mpint(&[1, 0, 1])
                    .mpint(&[0x91; 256]);
            });
        messages.extend([
            strings(5, &[], &[b"ssh-userauth"]),
            request("alice", "password", &password("secret")),
            request("alice", "publickey", &key),
            request("alice", "publickey", &rsa),
            request("alice", "keyboard-interactive", &[0; 8]),
            strings(61, &[0, 0, 0, 1], &[b"answer"]),
        ]);
    }
    messages
}

/// Messages about channels; `channel` is one of the victim's.
fn of_channels<R: Usual>(channel: u32) -> Vec<Vec<u8>> {
    let mut messages = vec![
        GlobalRequest {
            request_name: OWN,
            want_reply: true,
            data: Rest(b"data"),
        }
        .to_payload(),
        RequestSuccess { data: Rest(b"") }.to_payload(),
        ChannelOpen {
            channel_type: OWN,
            sender_channel: 7,
            initial_window_size: 100_000,
            maximum_packet_size: 32_768,
            data: Rest(b"data"),
        }
        .to_payload(),
        ChannelOpenFailure {
            recipient_channel: channel,
            reason_code: 1,
            description: b"no",
            language_tag: b"",
        }
        .to_payload(),
        ChannelWindowAdjust {
            recipient_channel: channel,
            bytes_to_add: 100,
        }
        .to_payload(),
        ChannelData {
            recipient_channel: channel,
            data: b"data",
        }
        .to_payload(),
        ChannelExtendedData {
            recipient_channel: channel,
            data_type_code: 1,
            data: b"data",
        }
        .to_payload(),
        ChannelEof {
            recipient_channel: channel,
        }
        .to_payload(),
        ChannelClose {
            recipient_channel: channel,
        }
        .to_payload(),
        strings(192, &[], &[b"ping"]),
        strings(193, &[], &[b"pong"]),
    ];
    let mut forward = Vec::new();
    Writer::new(&mut forward).string(b"localhost").uint32(80);
    let forward = GlobalRequest {
        request_name: "tcpip-forward",
        want_reply: true,
        data: Rest(&forward),
    };
    messages.push(forward.to_payload());
    let mut tcpip = Vec::new();
    Writer::new(&mut tcpip)
        .string(b"localhost")
        .uint32(80)
        .string(b"127.0.0.1")
        .uint32(4_000);
    for channel_type in ["direct-tcpip", "forwarded-tcpip"] {
        let open = ChannelOpen {
            channel_type,
            sender_channel: 8,
            initial_window_size: 100_000,
            maximum_packet_size: 32_768,
            data: Rest(&tcpip),
        };
        messages.push(open.to_payload());
    }
    let mut pty = Vec::new();
    Writer::new(&mut pty)
        .string(b"xterm")
        .uint32(80)
        .uint32(24)
        .uint32(0)
        .uint32(0)
        .string(&[1, 0, 0, 0, 2, 0]);
    let mut env = Vec::new();
    Writer::new(&mut env).string(b"LANG").string(b"C");
    let mut command = Vec::new();
    Writer::new(&mut command).string(b"true");
    let mut signal = Vec::new();
    Writer::new(&mut signal)
        .string(b"TERM")
        .boolean(false)
        .string(b"text")
        .string(b"");
    let requests: &[(&str, &[u8])] = &[
        ("pty-req", &pty),
        ("env", &env),
        ("exec", &command),
        ("subsystem", &command),
        ("window-change", &[0; 16]),
        ("signal", &command),
        ("exit-signal", &signal),
        ("exit-status", &[0; 4]),
        (OWN, b"data"),
    ];
    for (request_type, data) in requests {
        let request = ChannelRequest {
            recipient_channel: channel,
            request_type,
            want_reply: true,
            data: Rest(data),
        };
        messages.push(request.to_payload());
    }
    messages
}

/// Says each message with each number at each place; `make` gives a connection to say it to.
fn exaggerate<R: Usual>(make: impl Fn() -> Hostile<R>, messages: &[Vec<u8>]) -> u64 {
    let (mut largest, mut count) = (0, 0_u32);
    let mut peer = make();
    for message in messages {
        for at in 1..message.len().saturating_sub(3) {
            for number in NUMBERS {
                let mut message = message.clone();
                message[at..at + 4].copy_from_slice(&number.to_be_bytes());
                if peer.closed().is_some() {
                    peer = make();
                }
                let before = meter::heap().allocated;
                peer.say(&message);
                let all = meter::heap().allocated - before;
                let look = peer.cost.take_largest_look();
                assert!(look <= MOST, "{look} bytes for {message:02x?}");
                largest = largest.max(look);
                // Answers of the application are among these.
                assert!(all <= 4 * MOST, "{all} bytes for {message:02x?}");
                count += 1;
            }
        }
    }
    assert!(count > 1_000, "{count}");
    largest
}

fn in_every_message<R: Usual>() {
    drop(open::<R>());
    let clear = || {
        let mut peer = fresh::<R>();
        peer.say_version();
        peer.cost.take_largest_look();
        peer
    };
    let login = || {
        let mut peer = keyed::<R>();
        peer.ask_service();
        peer.cost.take_largest_look();
        peer
    };
    let with_channel = || {
        let mut peer = open::<R>();
        let channel_type = if R::IS_CLIENT { OWN } else { "session" };
        peer.says(&ChannelOpen {
            channel_type,
            sender_channel: 1,
            initial_window_size: 100_000,
            maximum_packet_size: 32_768,
            data: Rest(b""),
        });
        peer.cost.take_largest_look();
        peer
    };
    let messages = before_login(&clear());
    let first = exaggerate(clear, &messages);
    let second = exaggerate(login, &messages);
    let peer = with_channel();
    let channel = ChannelOpenConfirmation::decode(peer.confirmation()).expect("a channel");
    let messages = of_channels::<R>(channel.sender_channel);
    drop(peer);
    let third = exaggerate(with_channel, &messages);
    println!("at most {first}, {second} and {third} bytes for one message");
}

#[test]
fn no_number_makes_a_client_allocate_before_the_bytes_have_come() {
    let _alone = alone();
    in_every_message::<ClientRole>();
}

#[test]
fn no_number_makes_a_server_allocate_before_the_bytes_have_come() {
    let _alone = alone();
    in_every_message::<ServerRole>();
}

#[test]
fn the_length_of_a_packet_allocates_nothing() {
    let _alone = alone();
    fn lengths<R: Usual>() {
        for make in [
            || {
                let mut peer = fresh::<R>();
                peer.say_version();
                peer
            },
            keyed::<R>,
            open::<R>,
        ] {
            for length in NUMBERS.into_iter().chain([34_988, 262_128]) {
                let mut peer = make();
                let live = peer.cost.live();
                peer.cost.take_largest_look();
                peer.say_length(length);
                let (now, look) = (peer.cost.live(), peer.cost.take_largest_look());
                // The shortest of them is longer; and threads of the tests themselves allocate meanwhile.
                assert!(now < live + 16 * 1024, "{length}: {} bytes", now - live);
                assert!(look < 16 * 1024, "{length}: {look} bytes");
            }
        }
    }
    lengths::<ClientRole>();
    lengths::<ServerRole>();
}
