//! Client and server over loopback sockets, in one thread and in two.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Guest, MIB, Work, World, noise};
use ssh_mio::ssh_proto::{ClientEvent, DisconnectReason, Error};

#[test]
fn a_command_runs_and_tells_its_status() {
    let mut world = World::new();
    world.connect(Guest::new(vec![Work::new("echo hello, world")]));
    world.until_empty();
    let guest = &world.finished[0];
    assert_eq!(guest.ended, Some(Error::LocallyClosed));
    let work = &guest.done[0];
    assert_eq!(work.output, b"hello, world\n");
    assert_eq!(work.log[..2], ["opened", "accepted true"]);
    assert_eq!(work.status, Some(0));
    assert_eq!(work.log.last().unwrap(), "closed");
}

#[test]
fn stderr_and_a_bad_status_come_through() {
    let mut world = World::new();
    world.connect(Guest::new(vec![Work::new("rm -rf /")]));
    world.until_empty();
    let work = &world.finished[0].done[0];
    assert_eq!(work.status, Some(127));
    assert!(work.output.is_empty());
    assert!(work.errors.starts_with(b"there is: echo"));
}

#[test]
fn what_follows_half_close_still_arrives() {
    // `cat` gets EOF long before it has sent everything back.
    let input = noise(5 * MIB, 1);
    let mut world = World::new();
    world.connect(Guest::new(vec![Work::new("cat").input(input.clone())]));
    world.until_empty();
    let work = &world.finished[0].done[0];
    assert!(work.output == input, "{} bytes", work.output.len());
    assert_eq!(work.status, Some(0));
}

#[test]
fn the_peer_reads_why_the_connection_was_ended() {
    let mut world = World::new();
    let mut guest = Guest::new(vec![Work::new("source 100000000")]);
    guest.leaves = false;
    guest.wanted[0].counts = true;
    let token = world.connect(guest);
    world.until("data comes", |world| {
        world
            .guest(token)
            .channels
            .values()
            .any(|work| work.received > MIB)
    });
    let now = world.now();
    // In the middle of a transfer, with data of the client's on the way as well.
    world
        .servers
        .disconnect_all(DisconnectReason::TOO_MANY_CONNECTIONS, "go away", now);
    world.until_empty();
    let Some(Error::Disconnected(said)) = &world.finished[0].ended else {
        panic!("{:?}", world.finished[0].ended);
    };
    assert_eq!(said.reason, DisconnectReason::TOO_MANY_CONNECTIONS);
    assert_eq!(said.description, "go away");
}

#[test]
fn five_hundred_sessions_with_many_channels() {
    const SESSIONS: usize = 500;
    let mut world = World::new();
    for number in 0..SESSIONS {
        let works = (0..8).map(|channel| match channel % 4 {
            0 => Work::new(&format!("echo {number} {channel}")),
            1 => Work::new("cat").input(noise(3_000, (number * 8 + channel) as u64)),
            2 => Work::new("sink").input(noise(10_000, 3)),
            _ => Work::new("source 20000"),
        });
        world.connect(Guest::new(works.collect()));
        if number % 64 == 63 {
            world.turn();
        }
    }
    world.until_empty();
    assert_eq!(world.finished.len(), SESSIONS);
    for guest in &world.finished {
        assert_eq!(guest.ended, Some(Error::LocallyClosed));
        assert_eq!(guest.done.len(), 8);
        for work in &guest.done {
            assert_eq!(work.status, Some(0), "{work:?}");
            match work.command.split(' ').next() {
                Some("cat") => assert!(work.output == work.input),
                Some("source") => assert!(work.output == vec![0; 20_000]),
                Some("sink") => assert!(work.output.is_empty() && work.sent == 10_000),
                _ => assert_eq!(
                    format!("echo {}", String::from_utf8_lossy(&work.output)),
                    format!("{}\n", work.command)
                ),
            }
        }
    }
}

#[test]
fn many_channels_of_one_session_all_get_their_share() {
    let mut world = World::new();
    let works =
        (0..300).map(|number| Work::new("cat").input(noise(20_000 + number, number as u64)));
    world.connect(Guest::new(works.collect()));
    world.until_empty();
    let guest = &world.finished[0];
    assert_eq!(guest.done.len(), 300);
    assert!(guest.done.iter().all(|work| work.output == work.input));
}

#[test]
fn client_and_server_in_two_threads() {
    let mut server = World::new();
    let address = server.address;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) || !server.servers.is_empty() {
                server.wait(Duration::from_millis(20));
                server.run_servers();
            }
        });
        let mut clients = World::new();
        for number in 0..20 {
            let work = Work::new("cat").input(noise(2 * MIB, number));
            clients.connect_to(address, Guest::new(vec![work, Work::new("echo x")]));
        }
        clients.until("all are done", |world| world.clients.is_empty());
        for guest in &clients.finished {
            assert_eq!(guest.ended, Some(Error::LocallyClosed));
            assert_eq!(guest.done.len(), 2);
            assert!(
                guest
                    .done
                    .iter()
                    .filter(|work| work.command == "cat")
                    .all(|work| work.output == work.input)
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_request_to_listen_is_refused_and_not_left_unanswered() {
    let mut world = World::new();
    let mut guest = Guest::new(Vec::new());
    guest.leaves = false;
    let token = world.connect(guest);
    world.until("it is in", |world| world.guest(token).authenticated);
    let now = world.now();
    let (session, _) = world.clients.get_mut(token).unwrap();
    let request = session
        .connection()
        .global_request("tcpip-forward", b"\0\0\0\x09localhost\0\0\0\0", true, now)
        .unwrap();
    let mut answer = None;
    let start = std::time::Instant::now();
    while answer.is_none() {
        assert!(start.elapsed() < Duration::from_secs(10));
        world.wait(Duration::from_millis(100));
        world.run_servers();
        let now = world.now();
        world
            .clients
            .run(world.poll.registry(), now, |_, session, _| {
                while let Some(event) = session.poll_event() {
                    if let ClientEvent::GlobalReplied { request: of, reply } = event {
                        assert_eq!(of, request);
                        answer = Some(reply);
                    }
                }
            });
    }
    assert_eq!(answer, Some(None));
}
