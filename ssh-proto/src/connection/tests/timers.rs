//! Time: deadlines, keepalive, what they count and what they do not.

use super::edges::last_reason;
use super::hostile::{Offer, Victim, World};
use super::*;
use crate::config::Keepalive;
use crate::connection::Connection;
use crate::connection::role::Role;

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
    pair.run(usize::MAX);
    pair.assert_ended(
        Side::Server,
        Error::TimedOut(Stage::KeyExchange),
        DisconnectReason::KEY_EXCHANGE_FAILED,
    );
}

/// Both roles with these bytes heard: a nanosecond before the deadline nothing has happened, and then it has ended with
/// this error and says so.
#[track_caller]
fn assert_late(heard: &[u8], after: u64, stage: Stage, told: DisconnectReason) {
    let moment = Duration::from_nanos(1);
    for side in [Side::Client, Side::Server] {
        let mut pair = Pair::default();
        let at = pair.now + seconds(after);
        let outcome = match side {
            Side::Client => late(&mut pair.client, heard, [pair.now, at - moment, at]),
            Side::Server => late(&mut pair.server, heard, [pair.now, at - moment, at]),
        };
        let (early, ended, output) = outcome;
        assert_eq!(early, None, "{side:?}");
        assert_eq!(ended, Some(Error::TimedOut(stage)), "{side:?}");
        assert_eq!(last_reason(&output), told.0, "{side:?}");
    }
}

/// How a connection stands at the second and the third of these times, and what it has said.
fn late<R: Role>(
    connection: &mut Connection<R>,
    heard: &[u8],
    [now, early, at]: [Instant; 3],
) -> (Option<Error>, Option<Error>, Vec<u8>) {
    connection.handle_bytes(heard, now);
    connection.handle_timeout(early);
    let before = connection.closed().cloned();
    connection.handle_timeout(at);
    let ended = connection.closed().cloned();
    (before, ended, connection.output().to_vec())
}

#[test]
fn each_stage_has_its_deadline() {
    let by_application = DisconnectReason::BY_APPLICATION;
    let failed = DisconnectReason::KEY_EXCHANGE_FAILED;
    assert_late(b"", 15, Stage::VersionExchange, by_application);
    assert_late(b"SSH-2.0-x\r\n", 30, Stage::KeyExchange, failed);

    // A server's from the first byte on, a client's from when it may log in.
    for side in [Side::Client, Side::Server] {
        let mut world = World::new(side, Offer::STRICT);
        world.wait(seconds(1));
        world.exchange();
        world.ask_service();
        world.forget();
        let left = if side == Side::Server { 119 } else { 120 };
        world.wait(seconds(left) - Duration::from_nanos(1));
        assert_eq!(world.closed(), None, "{side:?}");
        world.wait(Duration::from_nanos(1));
        let late = Error::TimedOut(Stage::Authentication);
        assert_eq!(world.closed(), Some(late), "{side:?}");
        assert_eq!(world.disconnect_reason(), by_application.0);
        assert_eq!(world.events, ["Disconnected"]);
    }

    // A later exchange that the peer begins and does not end, and one that it does not answer.
    for side in [Side::Client, Side::Server] {
        for ours in [true, false] {
            let mut world = World::open(side, Offer::STRICT);
            match (&mut world.victim, ours) {
                (Victim::Client(client), true) => client.rekey(world.now).unwrap(),
                (Victim::Server(server), true) => server.rekey(world.now).unwrap(),
                (_, false) => world.say_kexinit(false),
            }
            world.wait(seconds(30) - Duration::from_nanos(1));
            assert_eq!(world.closed(), None, "{side:?}");
            world.wait(Duration::from_nanos(1));
            let late = Error::TimedOut(Stage::KeyExchange);
            assert_eq!(world.closed(), Some(late), "{side:?}");
            assert_eq!(world.disconnect_reason(), failed.0);
            assert_eq!(world.events, ["Disconnected"]);
        }
    }

    // A connection that nobody uses.
    for side in [Side::Client, Side::Server] {
        let mut world = World::with(side, Offer::STRICT, |transport| {
            transport.deadlines.idle = Some(seconds(60));
        });
        world.exchange();
        world.ask_service();
        world.log_in();
        world.forget();
        world.wait(seconds(60) - Duration::from_nanos(1));
        assert_eq!(world.closed(), None, "{side:?}");
        world.wait(Duration::from_nanos(1));
        assert_eq!(world.closed(), Some(Error::TimedOut(Stage::Idle)));
        assert_eq!(world.disconnect_reason(), by_application.0);
    }
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
            if said.reason == DisconnectReason::CONNECTION_LOST
    ));
}
