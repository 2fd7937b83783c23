//! Callers' code that panics, or comes to no verdict.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{CLIENTS, Guest, Work, World, server_config};
use ssh_mio::mio::Token;
use ssh_mio::ssh_proto::error::Stage;
use ssh_mio::ssh_proto::{ClientEvent, Error, ServerEvent};

const SECOND: Duration = Duration::from_secs(1);

/// Goes on until nothing is left to do now; what the servers are told.
fn settle(
    world: &mut World,
    mut client: impl FnMut(ClientEvent),
    mut server: impl FnMut(ServerEvent),
) {
    let mut quiet = 0;
    while quiet < 3 {
        let now = world.now();
        let busy = [world.servers.wait_time(now), world.clients.wait_time(now)];
        let idle = !busy.into_iter().flatten().any(|wait| wait.is_zero());
        world.wait(Duration::from_millis(5));
        quiet = if idle && world.events.is_empty() {
            quiet + 1
        } else {
            0
        };
        let now = world.now();
        world
            .clients
            .run(world.poll.registry(), now, |_, session, _| {
                while let Some(event) = session.poll_event() {
                    client(event);
                }
            });
        world
            .servers
            .run(world.poll.registry(), now, |_, session, _| {
                while let Some(event) = session.poll_event() {
                    server(event);
                }
            });
    }
}

/// The offer is kept without an answer, or thrown away: nothing goes on until the server has enough.
fn nobody_judges(keeps: bool) {
    let mut world = World::with({
        let mut config = server_config();
        config.transport.deadlines.key_exchange = Some(30 * SECOND);
        config
    });
    world.connect(Guest::new(vec![Work::new("echo x")]));
    let (mut offers, mut events) = (Vec::new(), Vec::new());
    let mut offered = 0;
    settle(
        &mut world,
        |event| match event {
            ClientEvent::HostKeyOffered(offer) => {
                offered += 1;
                offers.extend(keeps.then_some(offer));
            }
            other => panic!("{other:?}"),
        },
        |event| events.push(event),
    );
    assert_eq!(offered, 1);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!((world.clients.len(), world.servers.len()), (1, 1));
    // The client's own time does not run while the question is open; the server's does.
    world.later += 31 * SECOND;
    settle(
        &mut world,
        |event| panic!("{event:?}"),
        |event| events.push(event),
    );
    assert!(
        matches!(
            events[..],
            [ServerEvent::Disconnected(Error::TimedOut(
                Stage::KeyExchange
            ))]
        ),
        "{events:?}"
    );
    if let Some(offer) = offers.pop() {
        // The server has gone first.
        let (session, _) = world.clients.get_mut(Token(CLIENTS)).unwrap();
        session.connection().accept_host_key(offer).unwrap();
        let mut ended = None;
        settle(
            &mut world,
            |event| match event {
                ClientEvent::Disconnected(error) => ended = Some(error),
                other => panic!("{other:?}"),
            },
            |event| panic!("{event:?}"),
        );
        assert!(matches!(ended, Some(Error::Disconnected(_))), "{ended:?}");
        world.later += 3 * SECOND;
        settle(&mut world, |event| panic!("{event:?}"), |_| {});
        assert!(world.clients.is_empty());
    }
}

#[test]
fn a_host_key_that_is_never_judged_lets_nothing_go_on_until_the_server_has_enough() {
    nobody_judges(true);
    nobody_judges(false);
}

#[test]
fn a_panic_ends_its_session_only() {
    let mut world = World::new();
    let mut tokens = Vec::new();
    for _ in 0..5 {
        let mut guest = Guest::new(vec![Work::new("cat").input(b"x".to_vec())]);
        guest.leaves = false;
        tokens.push(world.connect(guest));
    }
    world.until("all are in", |world| {
        let done = |token: &_| world.clients.get_mut(*token).unwrap().1.done.len() == 1;
        tokens.iter().all(done)
    });
    // All are to be served in one turn, and the second one panics.
    for token in &tokens {
        world.clients.wake(*token);
    }
    let now = world.now();
    let mut served = Vec::new();
    let turn = catch_unwind(AssertUnwindSafe(|| {
        world
            .clients
            .run(world.poll.registry(), now, |token, _, _| {
                served.push(token);
                assert_ne!(token, tokens[1], "the caller panics, as the test wants");
            });
    }));
    assert!(turn.is_err(), "nobody has heard of the panic");
    assert_eq!(served, tokens[..2]);
    assert!(world.clients.get_mut(tokens[1]).is_none());
    // The others come in the next turn, without an event.
    assert_eq!(world.clients.wait_time(now), Some(Duration::ZERO));
    let mut served = Vec::new();
    world
        .clients
        .run(world.poll.registry(), now, |token, _, _| served.push(token));
    assert_eq!(served, tokens[2..]);
    // The server of the one that is gone was told.
    world.until("one server leaves", |world| world.servers.len() == 4);
    for token in [tokens[0], tokens[2], tokens[3], tokens[4]] {
        let guest = world.guest(token);
        guest.wanted.push(Work::new("echo still here"));
        guest.leaves = true;
    }
    let now = world.now();
    for token in tokens.iter().copied() {
        if let Some((session, guest)) = world.clients.get_mut(token) {
            guest.open(session, now);
        }
    }
    world.until_empty();
    assert_eq!(world.finished.len(), 4);
    for guest in &world.finished {
        assert_eq!(guest.done.last().unwrap().output, b"still here\n");
    }
}
