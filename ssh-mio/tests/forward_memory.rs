//! Forwards cost no memory of their own: not when one side does not read, and not when nothing moves.
#![cfg(unix)]

mod common;
#[path = "common/forwarding.rs"]
mod forwarding;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use common::server_config;
use forwarding::{Lab, generous, path};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: isize = 1024;
/// Windows do not grow beyond this.
const WINDOW: u32 = 256 * 1024;

fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Turns until nothing moves any more, with applications that write what is taken and do not read.
fn flood(lab: &mut Lab, streams: &mut [UnixStream]) -> usize {
    let chunk = [7; 64 * 1024];
    let (mut sent, mut quiet) = (0, 0);
    while quiet < 10 {
        let mut moved = 0;
        for stream in &mut *streams {
            while let Ok(len) = stream.write(&chunk) {
                moved += len;
            }
        }
        let start = Instant::now();
        lab.turn();
        let waited = start.elapsed() >= Duration::from_millis(9);
        quiet = if moved == 0 && waited { quiet + 1 } else { 0 };
        sent += moved;
    }
    sent
}

// One test in this file: the allocator counts for the whole process.
#[test]
fn a_stalled_reader_costs_its_window_and_idle_connections_next_to_nothing() {
    const LINKS: usize = 100;
    let mut config = server_config();
    config.transport.limits.window = WINDOW;
    let mut lab = Lab::with(generous(), config, 1_000);
    let client = lab.client();
    // Unix sockets: what they hold does not depend on the memory that the machine has for TCP.
    let (listening, target_path) = (path("listening"), path("target"));
    let target = UnixListener::bind(&target_path).unwrap();
    lab.here
        .forward_local_path(client, &listening, target_path.clone())
        .unwrap();
    let connect = || UnixStream::connect(&listening).unwrap();
    let mut one = vec![connect()];
    lab.settle(2, 1);
    let before = live();
    let mut streams: Vec<_> = (1..LINKS).map(|_| connect()).collect();
    streams.append(&mut one);
    lab.settle(1 + LINKS, LINKS);
    let ends: Vec<_> = (0..LINKS).map(|_| target.accept().unwrap().0).collect();
    for _ in 0..20 {
        lab.turn();
    }
    let idle = (live() - before) / LINKS as isize;
    // Both ends of a connection, each with a channel and a socket.
    assert!(idle < 6 * KIB, "{idle} bytes each when idle");

    // Everybody writes, nobody reads.
    for stream in streams.iter().chain(&ends) {
        stream.set_nonblocking(true).unwrap();
    }
    let sent = flood(&mut lab, &mut streams);
    assert!(sent > LINKS * 500_000, "{sent} bytes fill nothing");
    let stalled = (live() - before) / LINKS as isize;
    // What the server has not handed on is in its blocks: the window, and what a block has beyond it.
    let most = (WINDOW + WINDOW / 2) as isize;
    assert!(stalled < most, "{stalled} bytes each when stalled");

    // They read after all.
    let mut received = 0;
    let mut buf = vec![0; 64 * 1024];
    let mut ends = ends;
    lab.until("all is read", |_| {
        for end in &mut ends {
            while let Ok(len) = end.read(&mut buf) {
                received += len;
            }
        }
        received == sent
    });
    for stream in &streams {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    drop(ends);
    drop(streams);
    lab.settle(1, 0);
    // Sessions give spare memory back when they have been quiet for a moment.
    lab.clients.buffer().trim();
    lab.servers.buffer().trim();
    lab.until("memory is given back", |_| live() - before < 64 * KIB);
    let left = live() - before;
    std::fs::remove_file(target_path).unwrap();
    eprintln!("{idle} bytes each when idle, {stalled} when stalled, {left} left in the end");
}
