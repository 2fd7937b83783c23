//! What must not stay in memory, and what must not be told.

use super::*;
use crate::packet::Input;

fn holds(memory: &[u8], secret: &[u8]) -> bool {
    memory.windows(secret.len()).any(|window| window == secret)
}

/// What a server makes of one message of a client, and the buffer that it came in.
fn heard(pair: &mut Pair, payload: &[u8]) -> Input {
    pair.client.out.transport(&Raw(payload));
    let bytes = pair.client.output().to_vec();
    pair.client.consume_output(bytes.len());
    pair.server
        .handle_input(Input::from(bytes), pair.now)
        .unwrap()
}

fn listening() -> Pair {
    let mut pair = Pair::default();
    let attempt = pair.attempt(Credential::password("first"));
    pair.server.refuse(attempt).unwrap();
    pair.now += Duration::from_secs(1);
    pair.server.handle_timeout(pair.now);
    pair.carry(usize::MAX);
    pair
}

#[test]
fn a_password_is_wiped_from_the_buffer_that_it_came_in() {
    let request = b"\x32\0\0\0\x01u\0\0\0\x0essh-connection\0\0\0\x08password\0\0\0\0\x06hunter";
    let input = heard(&mut listening(), request);
    assert!(!holds(input.memory(), b"hunter"));
    // A byte more at the end, which is one too many.
    let mut pair = listening();
    let input = heard(&mut pair, &[&request[..], b"!"].concat());
    assert!(pair.server.closed().is_some());
    assert!(!holds(input.memory(), b"hunter"));
}

#[test]
fn a_password_that_waits_for_a_key_exchange_arrives() {
    let mut pair = listening();
    pair.client
        .transport
        .start(
            &pair.client.config,
            &mut super::super::cx::Cx {
                out: &mut pair.client.out,
                events: &mut pair.client.events,
                log: &mut pair.client.log,
                limits: &crate::limits::Limits::default(),
                now: pair.now,
            },
        )
        .unwrap();
    pair.client
        .authenticate("alice", Credential::password("hunter"), pair.now)
        .unwrap();
    while pair.carry(usize::MAX) {}
    let attempt = std::iter::from_fn(|| pair.server.poll_event())
        .find_map(|event| match event {
            ServerEvent::LoginAttempted(attempt) => Some(attempt),
            _ => None,
        })
        .unwrap();
    assert!(matches!(attempt.proof(), Proof::Password(secret) if secret.expose() == b"hunter"));
}

#[test]
fn the_log_shows_packets_both_ways_in_order_and_no_password() {
    let mut client = ClientConfig::new();
    client.transport.log = crate::log::LogLevel::Packet;
    client.transport.hexdump = true;
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    let _attempt = pair.attempt(Credential::password("hunter"));
    let log: Vec<String> = std::iter::from_fn(|| pair.client.poll_log())
        .map(|record| record.text)
        .collect();
    let numbers: Vec<String> = log
        .iter()
        .filter_map(|text| text.split_once(" message "))
        .filter_map(|(way, rest)| Some(format!("{way} {}", rest.split(',').next()?)))
        .collect();
    assert_eq!(
        numbers,
        [
            "sent 20",
            "received 20",
            "sent 30",
            "received 31",
            "sent 21",
            "received 21",
            "sent 5",
            "received 7",
            "received 6",
            "sent 50",
        ]
    );
    assert_eq!(log.last().unwrap(), "sent message 50");
    assert!(!log.concat().contains("hunter") && !log.concat().contains("68 75 6e 74"));
}

#[test]
fn every_key_exchange_has_a_line_in_the_key_log_of_either_side() {
    let mut client = ClientConfig::new();
    client.transport.key_log = true;
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    server.transport.key_log = true;
    let mut pair = Pair::new(client, server);
    let attempt = pair.attempt(Credential::password("hunter"));
    pair.server.grant(attempt).unwrap();
    while pair.carry(usize::MAX) {}
    let lines = |pair: &mut Pair| {
        let of_client: Vec<_> = std::iter::from_fn(|| pair.client.poll_key_log()).collect();
        let of_server: Vec<_> = std::iter::from_fn(|| pair.server.poll_key_log()).collect();
        [of_client, of_server].map(|lines| match &lines[..] {
            [line] => line.expose().to_vec(),
            other => panic!("{other:?}"),
        })
    };
    let [first, same] = lines(&mut pair);
    assert_eq!(first, same);
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    assert_eq!((words[0].len(), words[1]), (32, &b"SHARED_SECRET"[..]));
    pair.server.rekey(pair.now).unwrap();
    while pair.carry(usize::MAX) {}
    let [second, same] = lines(&mut pair);
    assert_eq!(second, same);
    let cookie = |line: &[u8]| line[..32].to_vec();
    assert_ne!(cookie(&first), cookie(&second));
    assert_ne!(first[32..], second[32..]);
}

#[test]
fn no_key_log_is_kept_unless_it_was_asked_for() {
    let mut pair = listening();
    assert!(pair.client.poll_key_log().is_none() && pair.server.poll_key_log().is_none());
}
