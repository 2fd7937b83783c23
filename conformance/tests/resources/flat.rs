//! Memory is flat over repetitions of anything that may be repeated: the number is small here, and a hundred thousand in
//! `conformance/test` (`REPETITIONS`).
//!
//! What may not be repeated is not here. DISCONNECT, SERVICE_ACCEPT and USERAUTH_SUCCESS come once, EXT_INFO twice
//! (`EXT_INFOS`), KEXINIT, the values and NEWKEYS once in each exchange, USERAUTH_REQUEST after a partial success as often as
//! `Limits::auth_requests` says. The limits that would end the others sooner are off: `Limits::idle_messages` (10,000 for
//! each exchange), `stray_messages` (1,000), `cheap_rekeys` (16), `auth_requests` (128), `auth_failures` (6),
//! `public_key_queries` (20), `banners` (16), `bytes_before_auth` (1 MiB) and `packets_before_auth` (10,000). Those of one
//! channel or list are on, and what is beyond them is refused: `env_variables` (64), `forwards` (16), one program and one exit.

use super::*;
use conformance::hostile::{password, request};
use ssh_proto::Error;
use ssh_proto::error::PeerError;
use ssh_proto::key::PrivateKey;
use ssh_proto::msg::connection::*;
use ssh_proto::msg::transport::*;
use ssh_proto::msg::{Message, Rest};
use ssh_proto::wire::Writer;
use ssh_proto::{Credential, ForwardAddress, OpenChannel};
use std::sync::Arc;
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
    let peak = peer.cost.usage().peak;
    println!("{name}: {before} bytes, {after} after {times} times, never more than {peak}");
    // What the threads of the tests themselves allocate meanwhile is counted as well.
    // Less would say that what is made outside is freed within, and hides what is not freed.
    assert!(
        before.abs_diff(after) <= 16 * 1024,
        "{name}: {before} bytes, and {after} after {times} times"
    );
}

/// Memory when nothing is under way and timers have trimmed it.
fn settled<R: Usual>(peer: &mut Hostile<R>) -> i64 {
    for _ in 0..3 {
        peer.wait(Duration::from_secs(2));
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
        p.act(|conn, now| conn.ping(b"ping", now)).expect("room");
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
            p.act(|conn, now| conn.global_request("x", b"", true, now))
                .expect("room");
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
            let kind = OpenChannel::Custom {
                kind: OWN,
                data: b"",
            };
            p.act(|conn, now| conn.open(kind, now)).expect("room");
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
        let kind = OpenChannel::Custom {
            kind: OWN,
            data: b"",
        };
        p.act(|conn, now| conn.open(kind, now)).expect("room");
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
            p.act(|conn, _| {
                let mut channel = conn.channel(id).expect("a channel");
                channel.request("x", b"data", true)
            })
            .expect("room");
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

fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut string = Vec::new();
    Writer::new(&mut string).string(bytes.as_ref());
    string
}

/// A request about a channel, with and without an answer.
fn request_of<R: Usual>(p: &mut Hostile<R>, channel: u32, request_type: &str, data: &[u8]) {
    for want_reply in [true, false] {
        let request = ChannelRequest {
            recipient_channel: channel,
            request_type,
            want_reply,
            data: Rest(data),
        };
        flat(request_type, repetitions(), p, |p, _| _ = p.says(&request));
    }
}

fn sessions_of_a_client(p: &mut Hostile<ClientRole>) {
    p.act(|conn, now| conn.open(OpenChannel::Session, now))
        .expect("room");
    let recipient_channel = ChannelOpen::decode(p.open_request())
        .expect("a session")
        .sender_channel;
    p.says(&ChannelOpenConfirmation {
        recipient_channel,
        sender_channel: 1,
        initial_window_size: 0,
        maximum_packet_size: 32_768,
        data: Rest(b""),
    });
    let exit = [string("TERM"), vec![0], string("text"), string("")].concat();
    for (name, data) in [
        ("exit-status", &[0; 4][..]),
        ("exit-signal", &exit),
        ("eow@openssh.com", b""),
    ] {
        request_of(p, recipient_channel, name, data);
    }
}

fn sessions_of_a_server(p: &mut Hostile<ServerRole>) {
    p.says(&ChannelOpen {
        channel_type: "session",
        sender_channel: 1,
        initial_window_size: 0,
        maximum_packet_size: 32_768,
        data: Rest(b""),
    });
    let channel = ChannelOpenConfirmation::decode(p.confirmation())
        .expect("a session")
        .sender_channel;
    let pty = [string("xterm"), vec![0; 16], string("\x01\0\0\0\x02\0")].concat();
    let variable = [string("LANG"), string("C")].concat();
    for (name, data) in [
        ("pty-req", &pty[..]),
        ("env", &variable),
        ("shell", b""),
        ("exec", &string("true")),
        ("subsystem", &string("sftp")),
        ("window-change", &[0; 16]),
        ("signal", &string("TERM")),
        ("break", &[0; 4]),
        ("eow@openssh.com", b""),
        ("x11-req", b""),
    ] {
        request_of(p, channel, name, data);
    }
}

/// Listeners that a server grants, and channels that a client asks for.
fn forwards_of_a_server(p: &mut Hostile<ServerRole>) {
    let times = repetitions();
    let global = |request_name, data| GlobalRequest {
        request_name,
        want_reply: true,
        data: Rest(data),
    };
    let port = [string("localhost"), vec![0, 0, 0, 80]].concat();
    let socket = string("/s");
    for (listen, cancel, address) in [
        ("tcpip-forward", "cancel-tcpip-forward", &port),
        (
            "streamlocal-forward@openssh.com",
            "cancel-streamlocal-forward@openssh.com",
            &socket,
        ),
    ] {
        let granted = p.heard[81];
        flat("a listener that is cancelled", times, p, |p, _| {
            p.says(&global(listen, address));
            p.says(&global(cancel, address));
        });
        assert_eq!(p.heard[81] - granted, 2 * (WARM + times));
        // As many as there may be are granted, and the rest is refused.
        flat(listen, times, p, |p, _| {
            _ = p.says(&global(listen, address))
        });
        flat(cancel, times, p, |p, _| {
            _ = p.says(&global(cancel, address))
        });
    }
    let tcpip = [&port[..], &port].concat();
    let streamlocal = [&socket[..], &[0; 8]].concat();
    for (channel_type, data) in [
        ("direct-tcpip", &tcpip),
        ("direct-streamlocal@openssh.com", &streamlocal),
    ] {
        flat(channel_type, times, p, |p, _| {
            opens_and_closes(p, channel_type, data);
        });
    }
    let no_more = global("no-more-sessions@openssh.com", b"");
    flat("no-more-sessions", times, p, |p, _| _ = p.says(&no_more));
}

/// Listeners that a client asks for, and their channels.
fn forwards_of_a_client(p: &mut Hostile<ClientRole>) {
    let times = repetitions();
    flat("a listener on any port", times, p, |p, i| {
        let forward = p.act(|conn, now| {
            let address = ForwardAddress::tcpip("localhost", 0);
            conn.request_forward(address, now)
        });
        if i % 2 == 0 {
            p.say(&[82]);
            return;
        }
        p.say(&[81, 0, 0, 0, 80]);
        p.act(|conn, now| conn.cancel_forward(forward.expect("room"), now))
            .expect("a listener");
        p.say(&[81]);
    });
    for socket in [false, true] {
        p.act(|conn, now| {
            let address = match socket {
                false => ForwardAddress::tcpip("localhost", 80),
                true => ForwardAddress::streamlocal("/s"),
            };
            conn.request_forward(address, now)
        })
        .expect("room");
        p.say(&[81]);
    }
    let port = [string("localhost"), vec![0, 0, 0, 80]].concat();
    let tcpip = [&port[..], &port].concat();
    let streamlocal = [string("/s"), string("")].concat();
    for (channel_type, data) in [
        ("forwarded-tcpip", &tcpip),
        ("forwarded-streamlocal@openssh.com", &streamlocal),
    ] {
        flat(channel_type, times, p, |p, _| {
            opens_and_closes(p, channel_type, data);
        });
    }
}

/// A channel that the victim grants, from its open to its close.
fn opens_and_closes<R: Usual>(p: &mut Hostile<R>, channel_type: &str, data: &[u8]) {
    let closed = p.heard[97];
    p.says(&ChannelOpen {
        channel_type,
        sender_channel: 1,
        initial_window_size: 0,
        maximum_packet_size: 32_768,
        data: Rest(data),
    });
    let recipient_channel = ChannelOpenConfirmation::decode(p.confirmation())
        .expect("a channel")
        .sender_channel;
    p.says(&ChannelClose { recipient_channel });
    assert_eq!(p.heard[97], closed + 1);
}

#[test]
fn memory_of_a_client_is_flat_over_any_repetition() {
    let _alone = alone();
    both::<ClientRole>();
    let mut peer = Hostile::open(ClientRole::patient());
    sessions_of_a_client(&mut peer);
    forwards_of_a_client(&mut peer);
}

#[test]
fn memory_of_a_server_is_flat_over_any_repetition() {
    let _alone = alone();
    both::<ServerRole>();
    let mut peer = Hostile::open(ServerRole::patient());
    sessions_of_a_server(&mut peer);
    forwards_of_a_server(&mut peer);
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
    logins_at_a_server();
    login_of_a_client();
}

fn logins_at_a_server() {
    let times = repetitions();
    let mut peer = Hostile::<ServerRole>::keyed(ServerRole::patient());
    peer.ask_service();
    peer.manners.verdict = Verdict::Refuse;
    let p = &mut peer;
    flat("SERVICE_REQUEST", times, p, |p, _| p.ask_service());
    let key = PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).expect("a key");
    let key = [string("ssh-ed25519"), string(key.public().blob())].concat();
    let query = [&[0][..], &key].concat();
    let forged = [
        vec![1],
        key,
        string([string("ssh-ed25519"), string([7; 64])].concat()),
    ]
    .concat();
    let change = [vec![1], string("secret"), string("another")].concat();
    // Each, and what it is answered with.
    for (method, fields, answer) in [
        ("none", &[][..], 51),
        ("none-such", &[], 51),
        ("password", &password("secret"), 51),
        ("password", &change, 51),
        ("keyboard-interactive", &[0; 8], 51),
        ("publickey", &query, 60),
        ("publickey", &forged, 51),
    ] {
        let (request, answered) = (request("alice", method, fields), p.heard[answer]);
        flat(method, times, p, |p, _| _ = p.say(&request));
        assert_eq!(p.heard[answer] - answered, WARM + times, "{method}");
    }
    flat("another user", times, p, |p, i| {
        _ = p.say(&request(&format!("user{i}"), "none-such", &[]));
    });
    let interactive = request("alice", "keyboard-interactive", &[0; 8]);
    let answer = [vec![61, 0, 0, 0, 1], string("answer")].concat();
    p.manners.verdict = Verdict::Prompt;
    flat("a round that is given up", times, p, |p, _| {
        _ = p.say(&interactive)
    });
    flat("a round after a round", times, p, |p, _| _ = p.say(&answer));
    flat("answers to nothing that was asked", times, p, |p, _| {
        p.say(&interactive);
        p.say(&[61, 0, 0, 0, 0]);
    });
    flat("answers that are refused", times, p, |p, _| {
        p.manners.verdict = Verdict::Prompt;
        p.say(&interactive);
        p.manners.verdict = Verdict::Refuse;
        p.say(&answer);
    });
    p.manners.verdict = Verdict::ChangePassword;
    for fields in [password("secret"), change] {
        let request = request("alice", "password", &fields);
        flat("a password that has expired", times, p, |p, _| {
            _ = p.say(&request)
        });
    }
}

fn login_of_a_client() {
    let times = repetitions();
    let mut peer = Hostile::<ClientRole>::keyed(ClientRole::patient());
    peer.ask_service();
    let p = &mut peer;
    let banner = b"\x35\0\0\0\x04text\0\0\0\0";
    flat("BANNER", times, p, |p, _| _ = p.say(banner));
    // Its first attempt is a password.
    let change = b"\x3c\0\0\0\x04text\0\0\0\0";
    flat("PASSWD_CHANGEREQ", times, p, |p, _| _ = p.say(change));
    for partial in [0, 1] {
        let failure = [vec![51], string("password"), vec![partial]].concat();
        flat("USERAUTH_FAILURE", times, p, |p, _| _ = p.say(&failure));
    }
    let round = b"\x3c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01p\0";
    flat("INFO_REQUEST", times, p, |p, _| _ = p.say(round));
    let key = PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).expect("a key");
    let pk_ok = [vec![60], string("ssh-ed25519"), string(key.public().blob())].concat();
    p.manners.next = Credential::PublicKey {
        key: Arc::new(key),
        query: true,
    };
    let failure = [vec![51], string("publickey"), vec![0]].concat();
    let said = p.heard[50];
    flat("PK_OK", times, p, |p, _| {
        p.say(&failure);
        p.say(&pk_ok);
    });
    assert_eq!(p.heard[50] - said, 2 * (WARM + times));
}

#[test]
fn partial_successes_are_counted_as_requests() {
    let _alone = alone();
    let mut peer = Hostile::<ServerRole>::keyed(ServerRole::config());
    peer.manners.verdict = Verdict::Partial;
    peer.ask_service();
    let most = ServerRole::config().transport.limits.auth_requests;
    // SERVICE_REQUEST is among them.
    for _ in 1..most {
        peer.say(&request("alice", "password", &password("secret")));
        assert_eq!(peer.closed(), None);
    }
    peer.say(&request("alice", "password", &password("secret")));
    let limit = PeerError::Limit("authentication requests");
    assert_eq!(peer.closed(), Some(&Error::Peer(limit)));
}
