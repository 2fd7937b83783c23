//! Deadlines come from one ordered structure, and work is proportional to what happens.

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use common::{Guest, Work, World, server_config};
use ssh_mio::ssh_proto::config::Keepalive;

const SECOND: Duration = Duration::from_secs(1);

fn accept(world: &mut World, count: usize) -> Vec<TcpStream> {
    let before = world.servers.len();
    let streams = (0..count)
        .map(|_| TcpStream::connect(world.address).unwrap())
        .collect();
    world.until("all are accepted", |world| {
        world.servers.len() == before + count
    });
    streams
}

/// Goes on until nothing is left to do now.
fn settle(world: &mut World) {
    let mut quiet = 0;
    while quiet < 3 {
        let now = world.now();
        let busy = [world.servers.wait_time(now), world.clients.wait_time(now)];
        if busy.contains(&Some(Duration::ZERO)) {
            quiet = 0;
        } else {
            quiet += 1;
        }
        world.wait(Duration::from_millis(2));
        world.run_servers();
        world.run_clients();
    }
}

#[test]
fn silent_peers_are_ended_each_at_its_time() {
    let mut world = World::new();
    let mut first = accept(&mut world, 40);
    world.later = 5 * SECOND;
    let second = accept(&mut world, 40);
    settle(&mut world);
    assert_eq!(world.servers.timers().len(), 80);
    world.later = 14 * SECOND;
    settle(&mut world);
    assert_eq!(world.servers.len(), 80);
    // The version exchange has 15 s. Whoever closes then is gone at once.
    world.later = 16 * SECOND;
    settle(&mut world);
    for stream in &mut first[..20] {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert!(said.starts_with(b"SSH-2.0-"));
        let text = b"timed out: version exchange";
        assert!(
            said.windows(text.len()).any(|window| window == text),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
    let rest = first.split_off(20);
    drop(first);
    world.until("those that closed are gone", |world| {
        world.servers.len() == 60
    });
    // The others have two seconds to close their side.
    world.later = 17 * SECOND;
    settle(&mut world);
    assert_eq!(world.servers.len(), 60);
    world.later = 19 * SECOND;
    settle(&mut world);
    assert_eq!(world.servers.len(), 40);
    world.later = 21 * SECOND;
    settle(&mut world);
    world.later = 24 * SECOND;
    settle(&mut world);
    assert!(world.servers.is_empty() && world.servers.timers().is_empty());
    drop((rest, second));
}

#[test]
fn only_sessions_to_which_something_happens_are_served() {
    let mut world = World::new();
    let mut tokens = Vec::new();
    for _ in 0..100 {
        let mut guest = Guest::new(vec![Work::new("cat")]);
        guest.leaves = false;
        guest.wanted[0].eof = false;
        tokens.push(world.connect(guest));
    }
    world.until("all have a channel", |world| {
        tokens.iter().all(|&token| {
            world
                .guest(token)
                .channels
                .values()
                .any(|work| work.log.len() == 2)
        })
    });
    // Memory that is not needed is given back a second later: after that nothing is due for an hour.
    world.later = 2 * SECOND;
    settle(&mut world);
    let now = world.now();
    for wait in [world.servers.wait_time(now), world.clients.wait_time(now)] {
        assert!(wait.unwrap() > 3_000 * SECOND, "{wait:?}");
    }
    let (_, guest) = world.clients.get_mut(tokens[7]).unwrap();
    let work = guest.channels.values_mut().next().unwrap();
    work.input = b"one byte would do".to_vec();
    let input = work.input.clone();
    let (session, guest) = world.clients.get_mut(tokens[7]).unwrap();
    let (&id, work) = guest.channels.iter_mut().next().unwrap();
    common::attend(&mut session.channel(id).unwrap(), work);
    let (mut servers, mut clients) = (0, 0);
    for _ in 0..10 {
        world.wait(Duration::from_millis(5));
        let now = world.now();
        let commands = &mut world.commands;
        world
            .servers
            .run(world.poll.registry(), now, |_, session, running| {
                servers += 1;
                common::serve(commands, session, running);
            });
        world
            .clients
            .run(world.poll.registry(), now, |token, session, guest| {
                clients += 1;
                assert_eq!(token, tokens[7]);
                guest.serve(session, now);
            });
    }
    assert!(
        world
            .guest(tokens[7])
            .channels
            .values()
            .any(|work| work.output == input)
    );
    assert!(
        servers <= 3 && clients <= 4,
        "{servers} servers and {clients} clients were served"
    );
}

#[test]
fn keepalive_keeps_a_quiet_session_and_ends_a_dead_one() {
    let mut config = server_config();
    config.transport.keepalive = Some(Keepalive {
        interval: 10 * SECOND,
        count: 2,
    });
    let mut world = World::with(config);
    let mut guest = Guest::new(vec![Work::new("cat")]);
    guest.leaves = false;
    guest.wanted[0].eof = false;
    let token = world.connect(guest);
    world.until("it is there", |world| {
        world
            .guest(token)
            .channels
            .values()
            .any(|work| work.log.len() == 2)
    });
    for step in 1..=10 {
        world.later = step * 6 * SECOND;
        settle(&mut world);
    }
    assert_eq!(world.servers.len(), 1, "the client answers");
    // Now it does not look any more.
    for step in 11..=20 {
        world.later = step * 6 * SECOND;
        for _ in 0..3 {
            world.wait(Duration::from_millis(1));
            world.run_servers();
        }
    }
    assert!(world.servers.is_empty());
}
