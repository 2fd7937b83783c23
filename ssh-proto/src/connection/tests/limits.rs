//! Bounds of `limits.rs` that a whole connection keeps, each at its edge: the last that passes and the first that
//! does not.

use super::*;
use crate::crypto::drbg::Drbg;
use crate::msg::transport::{Disconnect, Ignore, KexInit};
use crate::packet::output::Output;
use crate::packet::sealer::Sealer;
use crate::wire::NameList;

fn limit(what: &'static str) -> Option<Error> {
    Some(PeerError::Limit(what).into())
}

fn server(change: impl FnOnce(&mut crate::limits::Limits)) -> ServerConfig {
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

#[test]
fn packet_len() {
    for (length, passes) in [
        (256 * 1024 - 16, true),
        (256 * 1024, true),
        (256 * 1024 + 16, false),
    ] {
        let mut pair = Pair::default();
        pair.login();
        pair.client.out.transport(&Raw(&ignore(length - 10)));
        pair.run(usize::MAX);
        assert_eq!(pair.server.closed().is_none(), passes, "{length}");
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

/// What a server says when a client logs in under these limits.
fn logged_in(change: impl FnOnce(&mut crate::limits::Limits)) -> (Option<Error>, Pair) {
    let mut pair = Pair::new(ClientConfig::new(), server(change));
    pair.login();
    (pair.server.closed().cloned(), pair)
}

#[test]
fn packets_before_auth() {
    // KEXINIT, the value, NEWKEYS, SERVICE_REQUEST, the request.
    assert_eq!(logged_in(|limits| limits.packets_before_auth = 5).0, None);
    assert_eq!(
        logged_in(|limits| limits.packets_before_auth = 4).0,
        limit("traffic before authentication")
    );
}

#[test]
fn bytes_before_auth() {
    let (_, pair) = logged_in(|_| {});
    let line = pair.client_sent.iter().position(|&byte| byte == b'\n');
    let packets = (pair.client_sent.len() - line.unwrap() - 1) as u64;
    assert_eq!(
        logged_in(|limits| limits.bytes_before_auth = packets).0,
        None
    );
    assert_eq!(
        logged_in(|limits| limits.bytes_before_auth = packets - 1).0,
        limit("traffic before authentication")
    );
}

#[test]
fn idle_messages() {
    // IGNORE, UNIMPLEMENTED, DEBUG, USERAUTH_REQUEST when the user is authenticated, and a number that nobody knows.
    let kinds: [&[u8]; 5] = [
        b"\x02\0\0\0\0",
        b"\x03\0\0\0\0",
        b"\x04\0\0\0\0\0\0\0\0\0",
        b"\x32",
        b"\xc8",
    ];
    for kind in kinds {
        let (_, mut pair) = logged_in(|limits| limits.idle_messages = 10);
        // New keys have seen no traffic that would allow for more.
        pair.client.rekey(pair.now).unwrap();
        pair.run(usize::MAX);
        for _ in 0..10 {
            pair.client.out.transport(&Raw(kind));
        }
        pair.run(usize::MAX);
        assert_eq!(pair.server.closed(), None);
        assert!(pair.server.transport.opener.traffic().bytes < 900);
        pair.client.out.transport(&Raw(kind));
        pair.run(usize::MAX);
        assert_eq!(
            pair.server.closed().cloned(),
            limit("messages without effect")
        );
    }
}

#[test]
fn cheap_rekeys() {
    let (_, mut pair) = logged_in(|limits| limits.cheap_rekeys = 2);
    for _ in 0..2 {
        pair.client.rekey(pair.now).unwrap();
        pair.run(usize::MAX);
        assert_eq!(pair.server.closed(), None);
    }
    pair.now += Duration::from_secs(10);
    pair.client.rekey(pair.now).unwrap();
    pair.run(usize::MAX);
    assert_eq!(pair.server.closed(), None, "time makes it dear");
    pair.client.rekey(pair.now).unwrap();
    pair.run(usize::MAX);
    assert_eq!(
        pair.server.closed().cloned(),
        limit("key exchanges that follow one another too fast")
    );
}

#[test]
fn text_len() {
    for (len, kept) in [(4_095, 4_095), (4_096, 4_096), (4_097, 4_096)] {
        let (_, mut pair) = logged_in(|_| {});
        pair.client.out.transport(&Disconnect {
            reason_code: 11,
            description: &vec![b'x'; len],
            language_tag: b"",
        });
        pair.run(usize::MAX);
        let Some(Error::Disconnected(said)) = pair.server.closed() else {
            panic!("{:?}", pair.server.closed());
        };
        assert_eq!(said.description.len(), kept);
    }
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
    // Bytes and packets of either direction, as they are counted on the wire.
    let rekeyed = |bytes: u64, packets: u64| {
        let mut config = server(|_| {});
        config.transport.rekey.bytes = bytes;
        config.transport.rekey.packets = packets;
        let mut pair = Pair::new(ClientConfig::new(), config);
        pair.login();
        let before = pair.server.transport.opener.traffic();
        for _ in 0..10 {
            pair.client.ignore(10_000).unwrap();
            pair.run(usize::MAX);
        }
        let traffic = pair.server.transport.opener.traffic();
        let changed = pair.server_events.iter().any(|event| event == "Rekeyed");
        (changed, before, traffic)
    };
    let (changed, _, traffic) = rekeyed(u64::MAX, u64::MAX);
    assert!(!changed);
    assert!(!rekeyed(traffic.bytes + 1, u64::MAX).0);
    assert!(rekeyed(traffic.bytes, u64::MAX).0);
    assert!(!rekeyed(u64::MAX, traffic.packets + 1).0);
    assert!(rekeyed(u64::MAX, traffic.packets).0);

    let mut pair = Pair::default();
    pair.login();
    let at = pair.now + Duration::from_secs(3_600);
    pair.server.handle_timeout(at - Duration::from_nanos(1));
    assert!(!pair.server.transport.is_exchanging());
    pair.server.handle_timeout(at);
    assert!(pair.server.transport.is_exchanging());
}
