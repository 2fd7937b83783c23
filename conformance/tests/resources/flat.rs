//! Memory is flat over repetitions of anything that may be repeated: the number is small here, and a hundred thousand in
//! `conformance/test` (`REPETITIONS`).

use super::*;
use conformance::hostile::request;
use ssh_proto::Error;
use ssh_proto::error::PeerError;
use ssh_proto::msg::connection::*;
use ssh_proto::msg::transport::*;
use ssh_proto::msg::{Message, Rest};
use std::time::Duration;

/// How often each message is said.
fn repetitions() -> u64 {
    std::env::var("REPETITIONS").map_or(20_000, |count| count.parse().expect("a number"))
}

/// Until memory has the shape that it keeps: rings are full, tables have grown.
const WARM: u64 = 2_000;

/// Says something so often, and holds the memory afterwards to what it was.
fn flat<R: Usual>(
    name: &str,
    times: u64,
    peer: &mut Hostile<R>,
    mut say: impl FnMut(&mut Hostile<R>, u64),
) {
    let mut before = 0;
    for i in 0..WARM + times {
        if i == WARM {
            before = settled(peer);
        }
        say(peer, i);
        if peer.closed().is_some() {
            panic!("{name}, {i} times: {:?}", peer.closed());
        }
    }
    let after = settled(peer);
    // What the threads of the tests themselves allocate meanwhile is counted as well.
    assert!(
        after <= before + 16 * 1024,
        "{name}: {before} bytes, and {after} after {times} times"
    );
}

/// Memory when nothing is under way and timers have trimmed it.
fn settled<R: Usual>(peer: &mut Hostile<R>) -> i64 {
    for _ in 0..3 {
        peer.now += Duration::from_secs(2);
        let now = peer.now;
        peer.cost.wait(&mut peer.conn, now);
        peer.carry();
    }
    peer.cost.live()
}

fn both<R: Usual>() {
    let times = repetitions();
    let mut peer = Hostile::<R>::open(R::patient());
    let data = [7; 256];
    let p = &mut peer;
    flat("IGNORE", times, p, |p, _| {
        _ = p.says(&Ignore { data: &data })
    });
    let debug = Debug {
        always_display: true,
        message: b"text",
        language_tag: b"",
    };
    flat("DEBUG", times, p, |p, _| _ = p.says(&debug));
    flat("UNIMPLEMENTED", times, p, |p, i| {
        _ = p.says(&Unimplemented {
            sequence_number: i as u32,
        });
    });
    flat("a message that nobody knows", times, p, |p, _| {
        _ = p.say(&[191])
    });
    flat("PING", times, p, |p, _| _ = p.says(&Ping { data: &data }));
    flat("PONG", times, p, |p, _| {
        let now = p.now;
        p.cost
            .act(&mut p.conn, |conn| conn.ping(b"ping", now))
            .expect("room");
        p.carry();
        p.says(&Pong { data: b"ping" });
    });
    for want_reply in [false, true] {
        for request_name in ["x", OWN] {
            let request = GlobalRequest {
                request_name,
                want_reply,
                data: Rest(b"data"),
            };
            flat("GLOBAL_REQUEST", times, p, |p, _| _ = p.says(&request));
        }
    }
    for number in [81, 82] {
        flat("the reply to a global request", times, p, |p, _| {
            let now = p.now;
            p.cost
                .act(&mut p.conn, |conn| conn.global_request("x", b"", true, now))
                .expect("room");
            p.carry();
            p.say(&[number]);
        });
    }
    channels(p, times);
    // An exchange costs a signature.
    flat("a key exchange", times / 100, p, |p, _| {
        p.now += Duration::from_secs(11);
        p.say(&[&[2, 0, 0, 64, 0][..], &[0; 16_384]].concat());
        p.exchange();
    });
}

fn channels<R: Usual>(p: &mut Hostile<R>, times: u64) {
    let kind = if R::IS_CLIENT { OWN } else { "session" };
    let open = |channel_type| ChannelOpen {
        channel_type,
        sender_channel: 1,
        initial_window_size: 1_000,
        maximum_packet_size: 32_768,
        data: Rest(b""),
    };
    let theirs = |p: &Hostile<R>| {
        ChannelOpenConfirmation::decode(p.confirmation())
            .expect("a channel")
            .sender_channel
    };
    flat("a channel of no kind", times, p, |p, _| {
        _ = p.says(&open("x"))
    });
    flat("a channel from its open to its close", times, p, |p, _| {
        p.says(&open(kind));
        let recipient_channel = theirs(p);
        p.says(&ChannelEof { recipient_channel });
        p.says(&ChannelClose { recipient_channel });
    });
    flat(
        "a channel of the victim that is refused",
        times,
        p,
        |p, _| {
            let now = p.now;
            let kind = ssh_proto::OpenChannel::Custom {
                kind: OWN,
                data: b"",
            };
            p.cost
                .act(&mut p.conn, |conn| conn.open(kind, now))
                .expect("room");
            p.carry();
            let asked = ChannelOpen::decode(p.open_request()).expect("a channel");
            let refusal = ChannelOpenFailure {
                recipient_channel: asked.sender_channel,
                reason_code: 1,
                description: b"no",
                language_tag: b"",
            }
            .to_payload();
            p.say(&refusal);
        },
    );
    flat("a channel of the victim", times, p, |p, _| {
        let now = p.now;
        let kind = ssh_proto::OpenChannel::Custom {
            kind: OWN,
            data: b"",
        };
        p.cost
            .act(&mut p.conn, |conn| conn.open(kind, now))
            .expect("room");
        p.carry();
        let recipient_channel = ChannelOpen::decode(p.open_request())
            .expect("a channel")
            .sender_channel;
        p.says(&ChannelOpenConfirmation {
            recipient_channel,
            sender_channel: 1,
            initial_window_size: 0,
            maximum_packet_size: 32_768,
            data: Rest(b""),
        });
        p.says(&ChannelClose { recipient_channel });
    });
    p.says(&open(kind));
    let recipient_channel = theirs(p);
    flat("WINDOW_ADJUST", times, p, |p, _| {
        _ = p.says(&ChannelWindowAdjust {
            recipient_channel,
            bytes_to_add: 1,
        });
    });
    for len in [0, 1, 1_000] {
        let data = vec![7; len];
        flat("DATA", times, p, |p, _| {
            _ = p.says(&ChannelData {
                recipient_channel,
                data: &data,
            });
        });
    }
    // Of stderr, and of types that nobody reads.
    for data_type_code in [1, 0, 7] {
        flat("EXTENDED_DATA", times, p, |p, _| {
            _ = p.says(&ChannelExtendedData {
                recipient_channel,
                data_type_code,
                data: b"data",
            });
        });
    }
    for want_reply in [false, true] {
        for request_type in ["x", OWN] {
            let request = ChannelRequest {
                recipient_channel,
                request_type,
                want_reply,
                data: Rest(b"data"),
            };
            flat("CHANNEL_REQUEST", times, p, |p, _| _ = p.says(&request));
        }
    }
    let accepted = ChannelSuccess { recipient_channel }.to_payload();
    let refused = ChannelFailure { recipient_channel }.to_payload();
    let id = *p.manners.channels.last().expect("a channel");
    for reply in [&accepted, &refused] {
        flat("the reply to a CHANNEL_REQUEST", times, p, |p, _| {
            p.cost
                .act(&mut p.conn, |conn| {
                    let mut channel = conn.channel(id).expect("a channel");
                    channel.request("x", b"data", true)
                })
                .expect("room");
            p.carry();
            p.say(reply);
        });
    }
    for reply in [&accepted, &refused, &vec![81], &vec![82]] {
        flat("a reply to nothing", times, p, |p, _| _ = p.say(reply));
    }
    // Again and again: see below.
    flat("EOF", times, p, |p, _| {
        _ = p.says(&ChannelEof { recipient_channel })
    });
    p.says(&ChannelClose { recipient_channel });
}

#[test]
fn memory_of_a_client_is_flat_over_any_repetition() {
    let _alone = alone();
    both::<ClientRole>();
}

#[test]
fn memory_of_a_server_is_flat_over_any_repetition() {
    let _alone = alone();
    both::<ServerRole>();
}

fn repeated_eof<R: Usual>() {
    let mut peer = Hostile::<R>::open(R::config());
    peer.says(&ChannelOpen {
        channel_type: if R::IS_CLIENT { OWN } else { "session" },
        sender_channel: 1,
        initial_window_size: 0,
        maximum_packet_size: 32_768,
        data: Rest(b""),
    });
    let recipient_channel = ChannelOpenConfirmation::decode(peer.confirmation())
        .expect("a channel")
        .sender_channel;
    peer.says(&ChannelEof { recipient_channel });
    let events = peer.manners.events;
    for again in 1..=1_000 {
        peer.says(&ChannelEof { recipient_channel });
        assert_eq!(peer.closed(), None, "said {again} times again");
    }
    assert_eq!(peer.manners.events, events);
    peer.says(&ChannelEof { recipient_channel });
    let limit = PeerError::Limit("messages that nobody asked for");
    assert_eq!(peer.closed(), Some(&Error::Peer(limit)));
}

#[test]
fn an_eof_says_nothing_new_a_thousand_times_and_once_more_ends_the_connection() {
    let _alone = alone();
    repeated_eof::<ClientRole>();
    repeated_eof::<ServerRole>();
}

#[test]
fn memory_of_a_login_is_flat_over_any_repetition() {
    let _alone = alone();
    let times = repetitions();
    let mut peer = Hostile::<ServerRole>::keyed(ServerRole::patient());
    peer.ask_service();
    peer.manners.verdict = Verdict::Refuse;
    flat("SERVICE_REQUEST", times, &mut peer, |p, _| p.ask_service());
    for method in ["none", "none-such"] {
        flat("USERAUTH_REQUEST", times, &mut peer, |p, _| {
            _ = p.say(&request("alice", method, &[]));
        });
    }
    flat("another user", times, &mut peer, |p, i| {
        _ = p.say(&request(&format!("user{i}"), "none-such", &[]));
    });
    let mut peer = Hostile::<ClientRole>::keyed(ClientRole::patient());
    peer.ask_service();
    let banner = b"\x35\0\0\0\x04text\0\0\0\0";
    flat("BANNER", times, &mut peer, |p, _| _ = p.say(banner));
    let failure = b"\x33\0\0\0\x14keyboard-interactive\0";
    flat("USERAUTH_FAILURE", times, &mut peer, |p, _| {
        _ = p.say(failure);
    });
    let round = b"\x3c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01p\0";
    flat("INFO_REQUEST", times, &mut peer, |p, _| _ = p.say(round));
}
