//! One session does not live at the expense of another.

mod common;

use std::time::Duration;

use common::{Guest, MIB, Work, World, noise};
use ssh_mio::ssh_proto::{ChannelId, Error, Input, OpenChannel, Program, Stream};

/// What one turn reads, and what the read before it may have left.
const SHARE: usize = 256 * 1024 + Input::DEFAULT_CAPACITY;

fn flood(command: &str) -> Guest {
    let mut guest = Guest::new(vec![Work::new(command)]);
    guest.wanted[0].counts = true;
    guest.leaves = false;
    guest
}

#[test]
fn a_flood_of_downloads_starves_nobody_and_has_its_share_only() {
    let mut world = World::new();
    let flooding: Vec<_> = (0..4)
        .map(|_| world.connect(flood("source 100000000000")))
        .collect();
    world.until("the flood is on", |world| {
        flooding.iter().all(|&token| {
            world
                .guest(token)
                .channels
                .values()
                .any(|work| work.received > MIB)
        })
    });
    let before = world.turns;
    for number in 0..20 {
        world.connect(Guest::new(vec![
            Work::new("cat").input(noise(10_000, number)),
        ]));
    }
    world.until("the others are done", |world| world.finished.len() == 20);
    for guest in &world.finished {
        assert!(guest.done[0].output == guest.done[0].input);
    }
    // A login, a channel, data both ways: what it takes in turns does not depend on the flood.
    let turns = world.turns - before;
    assert!(turns < 200, "{turns} turns");
    for token in flooding {
        let guest = world.guest(token);
        assert!(guest.ended.is_none());
        assert!(guest.burst <= SHARE, "{} bytes in one turn", guest.burst);
    }
}

#[test]
fn a_backlog_is_worked_off_in_shares_without_further_events() {
    let mut world = World::new();
    let token = world.connect(flood("source 100000000000"));
    world.until("the flood is on", |world| {
        world
            .guest(token)
            .channels
            .values()
            .any(|work| work.received > 8 * MIB)
    });
    // The server fills the socket while the client looks away.
    for _ in 0..200 {
        world.wait(Duration::from_millis(1));
        world.run_servers();
    }
    let received = |world: &mut World| {
        world
            .guest(token)
            .channels
            .values()
            .map(|work| work.received)
            .sum::<usize>()
    };
    let before = received(&mut world);
    let mut turns = 0;
    world.guest(token).burst = 0;
    // No more events are looked at: what it does, it does by itself.
    while world.clients.wait_time(world.now()) == Some(Duration::ZERO) {
        world.run_clients();
        turns += 1;
        assert!(turns < 10_000, "it does not come to rest");
    }
    let backlog = received(&mut world) - before;
    let burst = world.guest(token).burst;
    assert!(backlog > 2 * SHARE, "the socket held {backlog} bytes only");
    assert!(
        burst <= SHARE && turns > 2,
        "{burst} bytes in one of {turns} turns"
    );
    // And it goes on from there.
    world.until("more comes", |world| {
        received(world) > before + backlog + 8 * MIB
    });
}

#[test]
fn a_flood_of_uploads_starves_nobody() {
    let mut world = World::new();
    let mut guest = flood("sink");
    guest.wanted[0].input = vec![7; 400 * MIB];
    let flooding = world.connect(guest);
    world.until("the flood is on", |world| {
        world
            .guest(flooding)
            .channels
            .values()
            .any(|work| work.sent > MIB)
    });
    let before = world.turns;
    for number in 0..20 {
        world.connect(Guest::new(vec![
            Work::new("cat").input(noise(10_000, number)),
        ]));
    }
    world.until("the others are done", |world| world.finished.len() == 20);
    let turns = world.turns - before;
    assert!(turns < 200, "{turns} turns");
    let flooding = world.guest(flooding);
    assert!(
        flooding
            .channels
            .values()
            .all(|work| work.sent < work.input.len())
    );
}

#[test]
fn stalled_readers_stop_their_own_channel_only() {
    let mut world = World::new();
    let mut wanted: Vec<Work> = (0..3).map(|_| Work::new("source 300000000")).collect();
    for work in &mut wanted {
        work.stalled = true;
    }
    let mut stalled = Guest::new(wanted);
    stalled.leaves = false;
    let token = world.connect(stalled);
    world.until("the channels are open", |world| {
        world.guest(token).channels.len() == 3
    });
    // On other connections, and beside the stalled channels on the same one.
    world.connect(Guest::new(vec![Work::new("cat").input(noise(3 * MIB, 5))]));
    world.until("another connection is done", |world| {
        world.finished.len() == 1
    });
    assert!(world.finished[0].done[0].output == world.finished[0].done[0].input);
    let now = world.now();
    let (session, guest) = world.clients.get_mut(token).unwrap();
    let id: ChannelId = session
        .connection()
        .open(OpenChannel::Session, now)
        .unwrap();
    let mut channel = session.channel(id).unwrap();
    channel.start(Program::Exec(b"cat")).unwrap();
    guest
        .channels
        .insert(id, Work::new("cat").input(noise(3 * MIB, 6)));
    world.until("another channel is done", |world| {
        !world.guest(token).done.is_empty()
    });
    let guest = world.guest(token);
    assert!(guest.done[0].output == guest.done[0].input);
    // What the stalled ones hold is bounded by their windows.
    let ids: Vec<ChannelId> = guest.channels.keys().copied().collect();
    let (session, _) = world.clients.get_mut(token).unwrap();
    for id in ids {
        let channel = session.channel(id).unwrap();
        let held = channel.readable(Stream::DATA);
        assert!(held > 0 && held <= channel.receive_window() as usize);
        assert_eq!(
            channel.receive_credit() as usize,
            channel.receive_window() as usize - held
        );
    }
    world.clients.remove(world.poll.registry(), token);
    world.until("the server notices", |world| world.servers.is_empty());
}

#[test]
fn two_ends_that_both_upload_do_not_wait_for_each_other() {
    // Neither reads before it has written everything: both outputs are full most of the time.
    let mut world = World::new();
    let works = (0..4).map(|number| Work::new("cat").input(noise(8 * MIB, number)));
    world.connect(Guest::new(works.collect()));
    world.until_empty();
    let guest = &world.finished[0];
    assert_eq!(guest.ended, Some(Error::LocallyClosed));
    assert!(guest.done.iter().all(|work| work.output == work.input));
}
