//! Later key exchanges, at every inconvenient time.

use super::*;
use crate::channel::Answer;

#[test]
fn long_answers_during_a_key_exchange_are_not_the_peers_fault() {
    let (mut pair, tokens) = asked(4, 1);
    assert_eq!(tokens.len(), 4);
    pair.server.rekey(pair.now).unwrap();
    for token in tokens {
        let answer = vec![7; 30_000];
        pair.server
            .answer_global(token, Answer::Accept(&answer))
            .unwrap();
    }
    let mut replies = 0;
    loop {
        let moved = pair.carry(usize::MAX);
        while let Some(event) = pair.client.poll_event() {
            replies += usize::from(matches!(
                event,
                ClientEvent::GlobalReplied { reply: Some(reply), .. } if reply.len() == 30_000
            ));
        }
        if !moved {
            break;
        }
    }
    // What is at fault is told with the next message of the peer.
    pair.client
        .global_request("y", b"", true, pair.now)
        .unwrap();
    while pair.carry(usize::MAX) {}
    assert_eq!(pair.server.closed(), None);
    assert_eq!(replies, 4);
}

#[test]
fn a_peer_that_answers_no_kexinit_and_asks_on_is_at_fault() {
    let (mut pair, _) = asked(0, 1);
    pair.server.rekey(pair.now).unwrap();
    for _ in 0..20_000 {
        pair.client.out.transport(&Raw(b"\xc0\0\0\0\x05PING!"));
    }
    let bytes = pair.client.output().to_vec();
    pair.server.handle_bytes(&bytes, pair.now);
    assert!(matches!(
        pair.server.closed(),
        Some(Error::Peer(PeerError::Limit(_)))
    ));
}

#[test]
fn a_peer_that_reads_much_may_change_keys_often() {
    let mut pair = Pair::default();
    pair.login();
    for _ in 0..100 {
        // What the client sends between two exchanges of the server is what makes the server start the next one.
        pair.client.ignore(32 * 1024).unwrap();
        pair.server.rekey(pair.now).unwrap();
        pair.run(usize::MAX);
        assert_eq!(pair.client.closed(), None);
    }
}

#[test]
fn messages_without_effect_are_counted_anew_with_new_keys() {
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    server.transport.limits.idle_messages = 100;
    let mut pair = Pair::new(ClientConfig::new(), server);
    pair.login();
    for _ in 0..4 {
        for _ in 0..60 {
            pair.client.out.transport(&Raw(b"\x02\0\0\0\0"));
        }
        pair.run(usize::MAX);
        assert_eq!(pair.server.closed(), None);
        pair.client.rekey(pair.now).unwrap();
        pair.run(usize::MAX);
        // More packets of another kind than there were before the exchange.
        for _ in 0..80 {
            pair.client.out.transport(&Raw(b"\x50\0\0\0\x01y\0"));
        }
        pair.run(usize::MAX);
    }
    assert_eq!(pair.server.closed(), None);
}

#[test]
fn limits_of_zero_do_not_make_key_exchanges_without_end() {
    let mut client = ClientConfig::new();
    client.transport.rekey.bytes = 0;
    client.transport.rekey.packets = 0;
    client.transport.rekey.time = Some(Duration::ZERO);
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    assert_eq!(pair.client.closed(), None);
    assert!(
        pair.client_events
            .iter()
            .filter(|event| *event == "Rekeyed")
            .count()
            <= 1
    );
}
