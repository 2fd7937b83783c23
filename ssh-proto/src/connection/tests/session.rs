//! From the first packet behind authentication on.

use super::*;
use crate::channel::OpenChannel;
use crate::error::Misuse;
use crate::log::{LogLevel, LogSubject};

#[test]
fn what_follows_success_in_the_same_read_is_taken() {
    let mut pair = Pair::default();
    let attempt = pair.attempt(Credential::public_key(user_key()));
    pair.server.grant(attempt).unwrap();
    // As OpenSSH does, which tells its other host keys at once.
    pair.server
        .global_request("hostkeys-00@openssh.com", b"", false, pair.now)
        .unwrap();
    pair.run(usize::MAX);
    assert_eq!(pair.client.closed(), None);
    assert!(pair.client.is_authenticated());
}

#[test]
fn what_waited_behind_the_attempt_is_taken_when_it_is_granted() {
    let mut pair = Pair::default();
    pair.client
        .authenticate("alice", Credential::public_key(user_key()), pair.now)
        .unwrap();
    while !format!("{:?}", pair.client.auth).contains("Waiting") {
        pair.carry(usize::MAX);
        if let Some(ClientEvent::HostKeyOffered(offer)) = pair.client.poll_event() {
            pair.client.accept_host_key(offer).unwrap();
        }
    }
    // A client that is sure of itself.
    pair.client.out.transport(&Raw(b"\x50\0\0\0\x01x\0"));
    pair.carry(usize::MAX);
    let Some(ServerEvent::LoginAttempted(attempt)) = pair.server.poll_event() else {
        panic!("no attempt");
    };
    assert!(pair.server.stalled);
    pair.server.grant(attempt).unwrap();
    pair.run(usize::MAX);
    assert_eq!(pair.server.closed(), None);
}

#[test]
fn pings_while_somebody_types_never_end_a_connection() {
    let mut pair = Pair::default();
    pair.login();
    // OpenSSH's client hides keystrokes behind some fifty of them a second.
    for _ in 0..300 {
        for _ in 0..100 {
            pair.client.out.transport(&Raw(b"\xc0\0\0\0\x05PING!"));
        }
        let bytes = pair.client.output().to_vec();
        pair.client.consume_output(bytes.len());
        pair.server.handle_bytes(&bytes, pair.now);
        assert_eq!(pair.server.closed(), None);
        let pongs = pair.server.output().len();
        assert!(pongs > 0);
        pair.server.consume_output(pongs);
    }
}

#[test]
fn pings_that_are_not_read_stop_the_input() {
    let mut pair = Pair::default();
    pair.login();
    for _ in 0..10_000 {
        pair.client.out.transport(&Raw(b"\xc0\0\0\0\x05PING!"));
    }
    let bytes = pair.client.output().to_vec();
    let taken = pair.server.handle_bytes(&bytes, pair.now);
    assert!(taken < bytes.len());
    assert!(pair.server.output().len() < 256 * 1024);
    assert_eq!(pair.server.closed(), None);
}

#[test]
fn a_token_of_another_connection_answers_nothing() {
    let (mut pair, _tokens) = asked(1, 1);
    let (_, mut foreign) = asked(1, 2);
    let token = foreign.remove(0);
    assert_eq!(
        pair.server
            .answer_global(token, crate::channel::Answer::Refuse),
        Err(Misuse::StaleToken)
    );
}

#[test]
fn a_ping_of_ours_is_answered_with_its_bytes() {
    let mut pair = Pair::default();
    pair.login();
    let most = pair.client.limits().pending_requests;
    for _ in 0..most {
        pair.client.ping(b"are you there?", pair.now).unwrap();
    }
    assert_eq!(
        pair.client.ping(b"", pair.now),
        Err(Misuse::Limit("pending_requests"))
    );
    assert!(matches!(
        pair.client.ping(&[0; 257], pair.now),
        Err(Misuse::Argument(_))
    ));
    // Our client does not say that it answers.
    assert!(matches!(
        pair.server.ping(b"", pair.now),
        Err(Misuse::Argument(_))
    ));
    while pair.carry(usize::MAX) {}
    let mut pongs = 0;
    while let Some(event) = pair.client.poll_event() {
        let ClientEvent::PongReceived(data) = event else {
            panic!("{event:?}");
        };
        assert_eq!(data, b"are you there?");
        pongs += 1;
    }
    assert_eq!(pongs, most);
    // Others are messages without effect.
    pair.server.out.transport(&Raw(b"\xc1\0\0\0\x05PONG!"));
    while pair.carry(usize::MAX) {}
    assert_eq!(pair.client.closed(), None);
    assert!(pair.client.poll_event().is_none());
}

#[test]
fn the_log_tells_once_that_a_channel_is_closed_whoever_begins() {
    for by_client in [true, false] {
        let mut config = ClientConfig::new();
        config.transport.log = LogLevel::Debug;
        let mut pair = Pair::new(config, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
        pair.login();
        let id = pair.client.open(OpenChannel::Session, pair.now).unwrap();
        pair.carry(usize::MAX);
        let mut theirs = None;
        while let Some(event) = pair.server.poll_event() {
            if let ServerEvent::OpenRequested(request) = event {
                theirs = Some(pair.server.accept_open(request, b"").unwrap());
            }
        }
        pair.carry(usize::MAX);
        if by_client {
            pair.client.channel(id).unwrap().close();
        } else {
            pair.server.channel(theirs.unwrap()).unwrap().close();
        }
        while pair.carry(usize::MAX) {}
        let closed = std::iter::from_fn(|| pair.client.poll_log())
            .filter(|record| matches!(record.subject, LogSubject::ChannelClosed(_)))
            .count();
        assert_eq!(closed, 1);
    }
}
