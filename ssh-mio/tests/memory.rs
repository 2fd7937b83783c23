//! All sessions of a thread share one read buffer.

mod common;

use std::alloc::System;
use std::time::Duration;

use common::{Guest, Work, World, attend, noise};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

// One test in this file: the allocator counts for the whole process.
#[test]
fn sessions_that_have_just_received_hold_no_buffer_each_and_idle_ones_hold_next_to_nothing() {
    const SESSIONS: usize = 200;
    const LEN: usize = 10_000;
    let mut world = World::new();
    let before = live();
    let tokens: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let mut work = Work::new("cat");
            work.eof = false;
            work.counts = true;
            let mut guest = Guest::new(vec![work]);
            guest.leaves = false;
            world.connect(guest)
        })
        .collect();
    world.until("all have a channel", |world| {
        tokens.iter().all(|&token| {
            let mut works = world.guest(token).channels.values();
            works.any(|work| work.log.len() == 2)
        })
    });
    // More than is copied out of a buffer to hand that back at once.
    let input = noise(LEN, 1);
    for &token in &tokens {
        let (session, guest) = world.clients.get_mut(token).unwrap();
        let (&id, work) = guest.channels.iter_mut().next().unwrap();
        work.input.clone_from(&input);
        attend(&mut session.channel(id).unwrap(), work);
    }
    world.until("all is back", |world| {
        tokens.iter().all(|&token| {
            let mut works = world.guest(token).channels.values();
            works.all(|work| work.received == LEN)
        })
    });
    for &token in &tokens {
        for work in world.guest(token).channels.values_mut() {
            work.input = Vec::new();
            work.sent = 0;
        }
    }
    // Both ends are here: an output buffer each is what is left for a second.
    let active = (live() - before) / (2 * SESSIONS) as isize;
    assert!(active < 48 * 1024, "{active} bytes each after a transfer");
    world.later = Duration::from_secs(3);
    for _ in 0..20 {
        world.wait(Duration::from_millis(2));
        world.run_servers();
        world.run_clients();
    }
    world.clients.buffer().trim();
    world.servers.buffer().trim();
    let idle = (live() - before) / (2 * SESSIONS) as isize;
    assert!(idle < 8 * 1024, "{idle} bytes each when idle");
    eprintln!("{active} bytes each after a transfer, {idle} when idle");
}
