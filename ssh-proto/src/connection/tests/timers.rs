//! Time: deadlines, keepalive, what they count and what they do not.

use super::*;
use crate::config::Keepalive;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A pair whose client has room for one event, and such an event that nobody has taken: the client does not read.
fn deaf(change: impl FnOnce(&mut ClientConfig)) -> Pair {
    let mut client = ClientConfig::new();
    client.transport.limits.events = 1;
    change(&mut client);
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    pair.server.rekey(pair.now).unwrap();
    while pair.carry(usize::MAX) {}
    assert!(!pair.client.wants_input());
    pair
}

#[test]
fn nothing_is_due_on_a_connection_that_has_ended() {
    let mut pair = Pair::default();
    let attempt = pair.attempt(Credential::password("wrong"));
    pair.server.refuse(attempt).unwrap();
    assert!(pair.server.poll_timeout().is_some());
    pair.server.handle_eof(pair.now);
    assert!(pair.server.closed().is_some());
    for _ in 0..2 {
        if let Some(at) = pair.server.poll_timeout() {
            pair.server.handle_timeout(at);
        }
    }
    assert_eq!(pair.server.poll_timeout(), None);
}

#[test]
fn a_peer_that_is_not_read_is_not_dead() {
    let keepalive = Keepalive {
        interval: seconds(10),
        count: 2,
    };
    let mut pair = deaf(|client| client.transport.keepalive = Some(keepalive));
    pair.now += seconds(100);
    pair.client.handle_timeout(pair.now);
    assert_eq!(pair.client.closed(), None);
    pair.events();
    assert!(pair.client.wants_input());
    // Its time starts when it is read again.
    pair.client.handle_timeout(pair.now);
    pair.client.handle_timeout(pair.now + seconds(10));
    pair.client.handle_timeout(pair.now + seconds(20));
    assert_eq!(pair.client.closed(), None);
    pair.run(usize::MAX);
    assert_eq!(pair.client.timers.unanswered, 0);
}

#[test]
fn keepalives_that_were_unanswered_before_a_pause_do_not_count_after_it() {
    let keepalive = Keepalive {
        interval: seconds(10),
        count: 2,
    };
    let mut client = ClientConfig::new();
    client.transport.limits.events = 1;
    client.transport.keepalive = Some(keepalive);
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    for _ in 0..2 {
        pair.now += seconds(10);
        pair.client.handle_timeout(pair.now);
    }
    assert_eq!(pair.client.timers.unanswered, 2);
    pair.client
        .events
        .push(super::super::event::Common::Rekeyed);
    pair.client.handle_timeout(pair.now);
    pair.now += seconds(60);
    pair.client.handle_timeout(pair.now);
    pair.client.poll_event().unwrap();
    pair.client.handle_timeout(pair.now);
    assert_eq!(pair.client.closed(), None);
}

#[test]
fn a_key_exchange_has_all_its_time_when_the_caller_lets_events_wait() {
    let mut pair = deaf(|_| {});
    pair.client.rekey(pair.now).unwrap();
    pair.now += seconds(40);
    pair.client.handle_timeout(pair.now);
    assert_eq!(pair.client.closed(), None);
    pair.run(usize::MAX);
    assert_eq!(pair.client.closed(), None);
    assert_eq!(pair.client_events.last().unwrap(), "Rekeyed");
}

#[test]
fn writing_nothing_does_not_make_a_connection_busy() {
    let mut client = ClientConfig::new();
    client.transport.deadlines.idle = Some(seconds(60));
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    pair.client.handle_timeout(pair.now + seconds(59));
    pair.client.consume_output(0);
    pair.client.swap_output(&mut Vec::new());
    assert_eq!(pair.client.closed(), None);
    pair.client.handle_timeout(pair.now + seconds(60));
    assert_eq!(pair.client.closed(), Some(&Error::TimedOut(Stage::Idle)));
}

#[test]
fn each_of_two_exchanges_in_a_row_has_its_own_time() {
    let mut pair = Pair::default();
    pair.login();
    pair.client.rekey(pair.now).unwrap();
    while pair.client.transport.is_exchanging() {
        pair.carry(usize::MAX);
    }
    assert!(pair.server.transport.is_exchanging());
    pair.now += seconds(29);
    // NEWKEYS ends the one and KEXINIT begins the next, in one read.
    pair.client.rekey(pair.now).unwrap();
    let bytes = pair.client.output().to_vec();
    pair.server.handle_bytes(&bytes, pair.now);
    assert!(pair.server.transport.is_exchanging());
    pair.now += seconds(29);
    pair.server.handle_timeout(pair.now);
    assert_eq!(pair.server.closed(), None);
    pair.server.handle_timeout(pair.now + seconds(1));
    assert_eq!(
        pair.server.closed(),
        Some(&Error::TimedOut(Stage::KeyExchange))
    );
}

#[test]
fn each_stage_has_its_deadline() {
    let mut pair = Pair::default();
    pair.client.handle_timeout(pair.now + seconds(14));
    assert_eq!(pair.client.closed(), None);
    let at = pair.client.poll_timeout().unwrap();
    pair.client.handle_timeout(at);
    assert_eq!(
        pair.client.closed(),
        Some(&Error::TimedOut(Stage::VersionExchange))
    );

    let mut pair = Pair::default();
    pair.client.handle_bytes(b"SSH-2.0-x\r\n", pair.now);
    pair.client.handle_timeout(pair.now + seconds(30));
    assert_eq!(
        pair.client.closed(),
        Some(&Error::TimedOut(Stage::KeyExchange))
    );

    let mut pair = Pair::default();
    pair.run(usize::MAX);
    assert_eq!(pair.server_events, Vec::<String>::new());
    pair.server.handle_timeout(pair.now + seconds(119));
    assert_eq!(pair.server.closed(), None);
    pair.server.handle_timeout(pair.now + seconds(120));
    assert_eq!(
        pair.server.closed(),
        Some(&Error::TimedOut(Stage::Authentication))
    );
}

#[test]
fn keys_that_are_too_old_are_changed_on_an_idle_connection() {
    let mut pair = Pair::default();
    pair.login();
    pair.now += seconds(3_600);
    pair.server.handle_timeout(pair.now);
    pair.run(usize::MAX);
    assert_eq!(pair.server_events.last().unwrap(), "Rekeyed");
}

#[test]
fn a_peer_that_answers_nothing_is_found_dead() {
    let mut client = ClientConfig::new();
    client.transport.keepalive = Some(Keepalive {
        interval: seconds(10),
        count: 3,
    });
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    for _ in 0..4 {
        assert_eq!(pair.client.closed(), None);
        let at = pair.client.poll_timeout().unwrap();
        pair.client.handle_timeout(at);
    }
    while pair.client.closed().is_none() {
        let at = pair.client.poll_timeout().unwrap();
        assert!(at < pair.now + seconds(41));
        pair.client.handle_timeout(at);
    }
    assert_eq!(
        pair.client.closed(),
        Some(&Error::TimedOut(Stage::Keepalive))
    );
}

#[test]
fn a_peer_that_answers_nothing_is_dead_to_the_nanosecond() {
    let mut client = ClientConfig::new();
    client.transport.keepalive = Some(Keepalive {
        interval: seconds(10),
        count: 3,
    });
    let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    let start = pair.now;
    let moment = Duration::from_nanos(1);
    for (asked, after) in [(1, 10), (2, 20), (3, 30)] {
        let at = start + seconds(after);
        pair.client.handle_timeout(at - moment);
        assert_eq!(pair.client.timers.unanswered, asked - 1);
        assert_eq!(pair.client.poll_timeout(), Some(at));
        pair.client.handle_timeout(at);
        assert_eq!(pair.client.timers.unanswered, asked);
    }
    let dead = start + seconds(40);
    pair.client.handle_timeout(dead - moment);
    assert_eq!(pair.client.closed(), None);
    assert_eq!(pair.client.poll_timeout(), Some(dead));
    pair.client.handle_timeout(dead);
    assert_eq!(
        pair.client.closed(),
        Some(&Error::TimedOut(Stage::Keepalive))
    );
    // Should it hear anything yet, it is told why.
    let bytes = pair.client.output().to_vec();
    pair.server.handle_bytes(&bytes, pair.now);
    assert!(matches!(
        pair.server.closed(),
        Some(Error::Disconnected(said))
            if said.reason == crate::error::DisconnectReason::CONNECTION_LOST
    ));
}
