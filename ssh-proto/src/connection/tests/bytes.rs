//! Bytes in and out: buffers, back-pressure, the end of the stream.

use super::*;
use crate::packet::Input;

/// Everything that a client says to log in, up to its first encrypted packets.
fn first_words(pair: &mut Pair) -> Vec<u8> {
    let credential = Credential::public_key(user_key());
    pair.client
        .authenticate("alice", credential, pair.now)
        .unwrap();
    pair.client.output().to_vec()
}

#[test]
fn a_buffer_that_is_dropped_takes_no_bytes_along() {
    let mut pair = Pair::default();
    let bytes = first_words(&mut pair);
    let (some, rest) = bytes.split_at(100);
    assert_eq!(pair.server.handle_bytes(some, pair.now), 100);
    // A reader that found nothing to read, or was cancelled.
    for _ in 0..3 {
        drop(pair.server.take_input(Input::new()).unwrap());
    }
    // A buffer that is cleared instead of given back.
    let mut kept = pair.server.take_input(Input::new()).unwrap();
    assert!(!kept.filled().is_empty());
    kept.clear();
    let mut input = pair.server.take_input(kept).unwrap();
    input.extend(rest);
    pair.server.handle_input(input, pair.now);
    pair.client.consume_output(bytes.len());
    pair.run(usize::MAX);
    assert!(pair.client.is_authenticated(), "{:?}", pair.server.closed());
}

#[test]
fn of_two_buffers_each_brings_what_was_read_into_it() {
    let mut pair = Pair::default();
    let bytes = first_words(&mut pair);
    pair.server.handle_bytes(&bytes[..100], pair.now);
    let mut first = pair.server.take_input(Input::new()).unwrap();
    let mut second = pair.server.take_input(Input::new()).unwrap();
    first.extend(&bytes[100..200]);
    second.extend(&bytes[200..300]);
    pair.server.handle_input(first, pair.now);
    pair.server.handle_input(second, pair.now);
    // One of the caller's own.
    pair.server
        .handle_input(Input::from(bytes[300..].to_vec()), pair.now);
    pair.client.consume_output(bytes.len());
    pair.run(usize::MAX);
    assert!(pair.client.is_authenticated(), "{:?}", pair.server.closed());
}

#[test]
fn a_read_that_found_nothing_does_not_have_the_next_one_copied() {
    let mut pair = Pair::default();
    let bytes = first_words(&mut pair);
    pair.server.handle_bytes(&bytes[..100], pair.now);
    for _ in 0..3 {
        let input = pair.server.take_input(Input::new()).unwrap();
        assert!(input.held() > 0, "what waits for its rest is lent");
        pair.server.handle_input(input, pair.now);
    }
}

/// A server that knows one request about the connection, and a read full of that request.
fn flooded() -> (Pair, Vec<u8>) {
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    server.transport.own.global_requests = vec!["x".to_owned()];
    let mut pair = Pair::new(ClientConfig::new(), server);
    pair.login();
    for _ in 0..1_000 {
        pair.client.out.transport(&Raw(b"\x50\0\0\0\x01x\0"));
    }
    let bytes = pair.client.output().to_vec();
    pair.client.consume_output(bytes.len());
    (pair, bytes)
}

#[test]
fn what_waits_here_is_not_gone_through_again_for_each_event() {
    let (mut pair, bytes) = flooded();
    pair.server.handle_input(Input::from(bytes), pair.now);
    assert!(!pair.server.wants_input());
    let waiting = pair.server.pending.len();
    for _ in 0..31 {
        assert!(pair.server.poll_event().is_some());
        assert_eq!(pair.server.pending.len(), waiting);
        assert!(!pair.server.wants_input());
    }
    pair.server.poll_event();
    assert!(pair.server.pending.len() < waiting);
    let rest = std::iter::from_fn(|| pair.server.poll_event()).count();
    assert_eq!(32 + rest, 1_000);
    assert!(pair.server.wants_input());
}

#[test]
fn the_end_of_the_stream_waits_for_what_came_before() {
    let (mut pair, bytes) = flooded();
    pair.server.handle_input(Input::from(bytes), pair.now);
    pair.server.handle_eof(pair.now);
    assert_eq!(pair.server.closed(), None);
    let mut events = std::iter::from_fn(|| pair.server.poll_event());
    let requests = events
        .by_ref()
        .take_while(|event| matches!(event, ServerEvent::GlobalRequested(_)))
        .count();
    assert_eq!(requests, 1_000);
    assert!(events.next().is_none(), "Disconnected is the last one");
    assert_eq!(
        pair.server.closed(),
        Some(&Error::UnexpectedEof(Stage::Connected))
    );
}

#[test]
fn a_connection_without_room_for_events_has_room_for_one() {
    let mut client = ClientConfig::new();
    client.transport.limits.events = 0;
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    assert!(pair.client.is_authenticated());
}
