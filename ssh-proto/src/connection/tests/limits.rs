//! Bounds of `limits.rs` that a whole connection keeps, each at its edge: the last that passes and the first that
//! does not.

use super::hostile::{Offer, World};
use super::*;
use crate::config::TransportConfig;
use crate::connection::Connection;
use crate::connection::role::Role;
use crate::crypto::drbg::Drbg;
use crate::limits::Limits;
use crate::log::LogLevel;
use crate::msg::transport::{Debug, Disconnect, Ignore, KexInit};
use crate::packet::sealer::Sealer;
use crate::packet::sealer::Traffic;
use crate::wire::NameList;

const SIDES: [Side; 2] = [Side::Client, Side::Server];

fn limit(what: &'static str) -> Option<Error> {
    Some(PeerError::Limit(what).into())
}

fn server(change: impl FnOnce(&mut Limits)) -> ServerConfig {
    let mut config = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    change(&mut config.transport.limits);
    config
}

/// A server that heard these payloads in clear, behind a version line.
fn told(payloads: &[&[u8]]) -> Option<Error> {
    let mut out = Output::new(Drbg::new(Seed::new([3; 32])), Sealer::plain(), 0);
    out.raw(b"SSH-2.0-test\r\n");
    for payload in payloads {
        out.transport(&Raw(payload));
    }
    let now = start();
    let mut server = Server::new(Arc::new(server(|_| {})), Seed::new([2; 32]), now);
    server.handle_bytes(out.pending(), now);
    server.closed().cloned()
}

fn ignore(data: usize) -> Vec<u8> {
    Ignore {
        data: &vec![0; data],
    }
    .to_payload()
}

#[test]
fn bytes_before_version() {
    for (len, passes) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        let mut greeting = vec![b'x'; len - 1];
        greeting.push(b'\n');
        let mut pair = Pair::default();
        pair.client.handle_bytes(&greeting, pair.now);
        assert_eq!(pair.client.closed().is_none(), passes, "in one line");
    }
    let mut pair = Pair::default();
    for _ in 0..64 {
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        pair.client.handle_bytes(&line, pair.now);
        assert_eq!(pair.client.closed(), None);
    }
    pair.client.handle_bytes(b"\n", pair.now);
    assert!(pair.client.closed().is_some(), "in many");
}

#[test]
fn packet_len_before_auth() {
    // packet_length counts itself not, but padding_length and at least four bytes of padding.
    assert_eq!(told(&[&ignore(34_996 - 10)]), None);
    assert_eq!(
        told(&[&ignore(35_004 - 10)]),
        Some(PeerError::PacketLength(35_004).into())
    );
}

/// A pair that has tried to log in. One of the two, the one that may be hurt, is configured so.
fn configured(victim: Side, change: impl FnOnce(&mut TransportConfig)) -> Pair {
    let mut client = ClientConfig::new();
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    change(match victim {
        Side::Client => &mut client.transport,
        Side::Server => &mut server.transport,
    });
    let mut pair = Pair::new(client, server);
    pair.login();
    pair
}

/// The same under these limits.
fn logged_in(victim: Side, change: impl FnOnce(&mut Limits)) -> Pair {
    configured(victim, |transport| change(&mut transport.limits))
}

/// What this side has received and sent with its present keys.
const fn traffic(pair: &Pair, side: Side) -> (Traffic, Traffic) {
    const fn of<R: Role>(connection: &Connection<R>) -> (Traffic, Traffic) {
        let received = connection.transport.opener.traffic();
        (received, connection.out.sealer().traffic())
    }
    match side {
        Side::Client => of(&pair.client),
        Side::Server => of(&pair.server),
    }
}

#[track_caller]
fn assert_limit(pair: &Pair, victim: Side, what: &'static str) {
    pair.assert_ended(
        victim,
        PeerError::Limit(what),
        DisconnectReason::PROTOCOL_ERROR,
    );
}

#[test]
fn packet_len() {
    for victim in SIDES {
        for (length, passes) in [
            (256 * 1024 - 16, true),
            (256 * 1024, true),
            (256 * 1024 + 16, false),
        ] {
            let mut pair = logged_in(victim, |_| {});
            let peer = other(victim);
            pair.out(peer).transport(&Raw(&ignore(length - 10)));
            pair.run(usize::MAX);
            if passes {
                assert_eq!(pair.closed(victim), None, "{length}");
            } else {
                let error = PeerError::PacketLength(length as u32);
                pair.assert_ended(victim, error, DisconnectReason::PROTOCOL_ERROR);
            }
        }
    }
}

#[test]
fn name_list_len() {
    let kexinit = |len: usize| {
        let mut names = "curve25519-sha256,".to_owned();
        names.extend(std::iter::repeat_n('x', len - names.len()));
        let none = NameList::new("none");
        KexInit {
            cookie: [0; 16],
            kex_algorithms: NameList::new(&names),
            server_host_key_algorithms: NameList::new("ssh-ed25519"),
            encryption_algorithms_client_to_server: NameList::new("aes128-gcm@openssh.com"),
            encryption_algorithms_server_to_client: NameList::new("aes128-gcm@openssh.com"),
            mac_algorithms_client_to_server: none,
            mac_algorithms_server_to_client: none,
            compression_algorithms_client_to_server: none,
            compression_algorithms_server_to_client: none,
            languages_client_to_server: none,
            languages_server_to_client: none,
            first_kex_packet_follows: false,
            reserved: 0,
        }
        .to_payload()
    };
    assert_eq!(told(&[&kexinit(16 * 1024)]), None);
    assert_eq!(told(&[&kexinit(16 * 1024 + 1)]), limit("names in KEXINIT"));
}

#[test]
fn packets_before_auth() {
    for (victim, packets) in [
        // KEXINIT, the value, NEWKEYS, SERVICE_REQUEST, the request.
        (Side::Server, 5),
        // KEXINIT, the value, NEWKEYS, EXT_INFO, SERVICE_ACCEPT, SUCCESS.
        (Side::Client, 6),
    ] {
        let pair = logged_in(victim, |limits| limits.packets_before_auth = packets);
        assert_eq!(pair.closed(victim), None);
        assert!(pair.client.is_authenticated());
        let pair = logged_in(victim, |limits| limits.packets_before_auth = packets - 1);
        assert_limit(&pair, victim, "traffic before authentication");
    }
}

#[test]
fn bytes_before_auth() {
    for victim in SIDES {
        let pair = logged_in(victim, |_| {});
        let sent = match victim {
            Side::Client => &pair.server_sent,
            Side::Server => &pair.client_sent,
        };
        let line = sent.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let packets = (sent.len() - line) as u64;
        let pair = logged_in(victim, |limits| limits.bytes_before_auth = packets);
        assert_eq!(pair.closed(victim), None);
        assert!(pair.client.is_authenticated());
        let pair = logged_in(victim, |limits| limits.bytes_before_auth = packets - 1);
        assert_limit(&pair, victim, "traffic before authentication");
    }
}

#[test]
fn idle_messages() {
    // IGNORE, UNIMPLEMENTED, DEBUG, PONG for no PING, a number that nobody knows, and to a server USERAUTH_REQUEST when the
    // user is authenticated.
    let kinds: [&[u8]; 6] = [
        b"\x02\0\0\0\0",
        b"\x03\0\0\0\0",
        b"\x04\0\0\0\0\0\0\0\0\0",
        b"\xc1\0\0\0\0",
        b"\xc8",
        b"\x32",
    ];
    for victim in SIDES {
        let peer = other(victim);
        for kind in kinds {
            if victim == Side::Client && kind[0] == 50 {
                continue;
            }
            let mut pair = logged_in(victim, |limits| limits.idle_messages = 10);
            // New keys have seen no traffic that would allow for more.
            pair.rekey(peer);
            for _ in 0..10 {
                pair.out(peer).transport(&Raw(kind));
            }
            pair.run(usize::MAX);
            assert_eq!(pair.closed(victim), None, "{kind:?}");
            assert!(traffic(&pair, victim).0.bytes < 900);
            pair.out(peer).transport(&Raw(kind));
            pair.run(usize::MAX);
            assert_limit(&pair, victim, "messages without effect");
        }
    }
}

#[test]
fn cheap_rekeys() {
    for victim in SIDES {
        let peer = other(victim);
        let mut pair = logged_in(victim, |limits| limits.cheap_rekeys = 2);
        for _ in 0..2 {
            pair.rekey(peer);
            assert_eq!(pair.closed(victim), None);
        }
        pair.now += Duration::from_secs(10);
        pair.rekey(peer);
        assert_eq!(pair.closed(victim), None, "time makes it dear");
        pair.rekey(peer);
        let what = "key exchanges that follow one another too fast";
        assert_limit(&pair, victim, what);
    }
}

#[test]
fn text_len() {
    for victim in SIDES {
        for (len, kept) in [(4_095, 4_095), (4_096, 4_096), (4_097, 4_096)] {
            let mut pair = configured(victim, |transport| transport.log = LogLevel::Debug);
            let text = vec![b'x'; len];
            pair.out(other(victim)).transport(&Debug {
                always_display: true,
                message: &text,
                language_tag: b"",
            });
            pair.out(other(victim)).transport(&Disconnect {
                reason_code: 11,
                description: &text,
                language_tag: b"",
            });
            pair.run(usize::MAX);
            let Some(Error::Disconnected(said)) = pair.closed(victim) else {
                panic!("{:?}", pair.closed(victim));
            };
            assert_eq!(said.description.len(), kept);
            let records = std::iter::from_fn(|| match victim {
                Side::Client => pair.client.poll_log(),
                Side::Server => pair.server.poll_log(),
            });
            let debug: Vec<usize> = records
                .filter_map(|record| Some(record.text.strip_prefix("the peer says: ")?.len()))
                .collect();
            assert_eq!(debug, [kept]);
        }
    }
}

/// A request to log in that proves nothing.
fn request(method: &str, fields: &[u8]) -> Vec<u8> {
    let mut payload = vec![50];
    let mut writer = Writer::new(&mut payload);
    writer.string(b"alice").string(b"ssh-connection");
    writer.string(method.as_bytes()).bytes(fields);
    payload
}

/// A server that was asked for the service: the first of all requests.
fn listening() -> World {
    let mut world = World::new(Side::Server, Offer::STRICT);
    world.exchange();
    world.ask_service();
    world.forget();
    world
}

/// So many of these are answered with FAILURE, and one more ends the connection.
#[track_caller]
fn assert_last(request: &[u8], count: usize, error: PeerError, told: DisconnectReason) {
    let mut world = listening();
    for _ in 0..count {
        world.say(request);
        assert_eq!(world.closed(), None);
        assert_eq!(world.numbers(), [51]);
    }
    world.say(request);
    // A refusal waits for its time.
    world.wait(Duration::ZERO);
    assert_eq!(world.closed(), Some(error.into()));
    assert_eq!(world.disconnect_reason(), told.0);
    assert!(world.heard.is_empty());
    assert_eq!(world.events, ["Disconnected"]);
}

#[test]
fn what_a_server_says_to_those_who_try_too_often() {
    let no_more = DisconnectReason::NO_MORE_AUTH_METHODS_AVAILABLE;
    let too_many = PeerError::TooManyAuthFailures;
    // The sixth failure.
    assert_last(&request("hostbased", b""), 5, too_many, no_more);
    // A query about a key of a kind that nobody knows.
    let query = request("publickey", b"\0\0\0\0\x01x\0\0\0\x01x");
    assert_last(&query, 20, too_many, no_more);
    // The request for the service was the first of 128.
    let requests = PeerError::Limit("authentication requests");
    let error = DisconnectReason::PROTOCOL_ERROR;
    assert_last(&request("none", b""), 127, requests, error);
}

#[test]
fn events() {
    let mut config = server(|limits| limits.events = 3);
    config.transport.own.global_requests = vec!["x".to_owned()];
    let mut pair = Pair::new(ClientConfig::new(), config);
    pair.login();
    for _ in 0..3 {
        assert!(pair.server.wants_input());
        pair.client.out.transport(&Raw(b"\x50\0\0\0\x01x\0"));
        pair.carry(usize::MAX);
    }
    assert!(!pair.server.wants_input());
    pair.client.out.transport(&Raw(b"\x50\0\0\0\x01x\0"));
    assert!(!pair.carry(usize::MAX));
    assert!(pair.server.poll_event().is_some());
    assert!(pair.server.wants_input());
}

#[test]
fn deferred_len() {
    let pong = |out: &mut Output| out.reply(&Raw(b"\xc1\0\0\0\0"));
    let mut out = Output::new(Drbg::new(Seed::new([3; 32])), Sealer::plain(), 90);
    out.shut_gate();
    for _ in 0..10 {
        assert_eq!(pong(&mut out), Ok(()));
    }
    assert_eq!(
        pong(&mut out).err(),
        limit("replies waiting for a key exchange")
    );
}

#[test]
fn deadlines() {
    let seconds = Duration::from_secs;
    let mut pair = Pair::default();
    pair.client
        .handle_timeout(pair.now + seconds(15) - Duration::from_nanos(1));
    assert_eq!(pair.client.closed(), None);
    pair.client.handle_timeout(pair.now + seconds(15));
    assert_eq!(
        pair.client.closed(),
        Some(&Error::TimedOut(Stage::VersionExchange))
    );
    let mut pair = Pair::default();
    pair.client.handle_bytes(b"SSH-2.0-x\r\n", pair.now);
    pair.client
        .handle_timeout(pair.now + seconds(30) - Duration::from_nanos(1));
    assert_eq!(pair.client.closed(), None);
    pair.client.handle_timeout(pair.now + seconds(30));
    assert_eq!(
        pair.client.closed(),
        Some(&Error::TimedOut(Stage::KeyExchange))
    );
}

#[test]
fn rekey_limits() {
    // Bytes and packets of either direction, as they are counted on the wire: whoever talks, the one with the limits starts.
    for owner in SIDES {
        for talker in SIDES {
            let talked = |bytes: u64, packets: u64| {
                let mut pair = configured(owner, |transport| {
                    transport.rekey.bytes = bytes;
                    transport.rekey.packets = packets;
                });
                for _ in 0..10 {
                    match talker {
                        Side::Client => pair.client.ignore(10_000).unwrap(),
                        Side::Server => pair.server.ignore(10_000).unwrap(),
                    }
                    pair.run(usize::MAX);
                }
                pair
            };
            let rekeyed = |bytes: u64, packets: u64| {
                let pair = talked(bytes, packets);
                assert_eq!(pair.closed(owner), None);
                let events = match owner {
                    Side::Client => &pair.client_events,
                    Side::Server => &pair.server_events,
                };
                events.iter().any(|event| event == "Rekeyed")
            };
            let (received, sent) = traffic(&talked(u64::MAX, u64::MAX), owner);
            let (most, other) = if owner == talker {
                (sent, received)
            } else {
                (received, sent)
            };
            assert!(most.bytes > 100_000 && other.bytes < 10_000);
            assert!(most.packets > other.packets);
            assert!(!rekeyed(u64::MAX, u64::MAX));
            assert!(!rekeyed(most.bytes + 1, u64::MAX));
            assert!(rekeyed(most.bytes, u64::MAX));
            assert!(!rekeyed(u64::MAX, most.packets + 1));
            assert!(rekeyed(u64::MAX, most.packets));
        }
    }

    let mut pair = Pair::default();
    pair.login();
    let at = pair.now + Duration::from_secs(3_600);
    let early = at - Duration::from_nanos(1);
    pair.server.handle_timeout(early);
    assert!(!pair.server.transport.is_exchanging());
    pair.server.handle_timeout(at);
    assert!(pair.server.transport.is_exchanging());
    pair.client.handle_timeout(early);
    assert!(!pair.client.transport.is_exchanging());
    pair.client.handle_timeout(at);
    assert!(pair.client.transport.is_exchanging());
}
