//! A thousand channels on one connection, each carrying data both ways: some have a reader that stops, both sides start key
//! exchanges, and the others do not wait. On the state machine alone, and over a loopback socket with each adapter.
//!
//! Each channel sends a stream of its own, which the server sends back. Two in ten are *deaf*: one end of them, the client or
//! the server, reads nothing until all others are through.

mod blocking;
mod mio;
mod pure;
mod talk;
mod tokio;

use std::alloc::System;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use conformance::app::pattern;
use conformance::pair::host_key;
use ssh_proto::config::{ClientConfig, ServerConfig};
use ssh_proto::key::KeyKind;
use ssh_proto::limits::Limits;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHANNELS: usize = 1_000;
/// The kind of the channels; the data of the open is the channel's index.
const KIND: &str = "work@example.com";
/// Bytes of a channel that is not deaf: more than the window of most.
const BYTES: u64 = 80 * 1024;
/// Both sides start a key exchange when so many channels are through since the last.
const REKEY_EVERY: usize = 150;

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deaf {
    No,
    Client,
    Server,
}

fn deaf(index: usize) -> Deaf {
    match index % 10 {
        3 => Deaf::Client,
        7 => Deaf::Server,
        _ => Deaf::No,
    }
}

/// How many bytes a channel sends: those of a deaf one are more than the windows of both ends, which are larger for the
/// first channels.
fn total(index: usize) -> u64 {
    match deaf(index) {
        Deaf::No => BYTES,
        Deaf::Client | Deaf::Server => BYTES + ((5 << 20) >> (index / 8).min(7)),
    }
}

/// The byte at `position` of the stream of a channel.
fn byte(index: usize, position: u64) -> u8 {
    pattern(position + index as u64 * 7_919)
}

fn bytes(index: usize, position: u64, len: u64) -> Vec<u8> {
    (position..position + len)
        .map(|at| byte(index, at))
        .collect()
}

/// Whether these are the bytes at that position.
fn right(index: usize, position: u64, bytes: &[u8]) -> bool {
    (position..)
        .zip(bytes)
        .all(|(at, &found)| found == byte(index, at))
}

fn client_config() -> ClientConfig {
    ClientConfig::new()
}

fn server_config() -> ServerConfig {
    let mut config = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    config.transport.own.channel_kinds.push(KIND.to_owned());
    config
}

/// Tests of this file run one after the other: they count the memory of the process.
struct Alone {
    _guard: MutexGuard<'static, ()>,
    before: isize,
}

impl Alone {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        Self {
            _guard: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            before: in_use(),
        }
    }

    /// Looks at how much is in use. Both ends together stay within what one of them may have.
    fn check(&self, peak: &mut isize) {
        *peak = (*peak).max(in_use() - self.before);
        let budget = Limits::default().window_budget as isize;
        assert!(*peak < budget, "{peak} bytes in use");
    }
}

fn in_use() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Looks at the memory while others work.
fn watching<T>(alone: &Alone, work: impl FnOnce() -> T) -> T {
    let (over, peak) = (AtomicBool::new(false), AtomicIsize::new(0));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(in_use() - alone.before, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        result
    });
    let mut peak = peak.into_inner();
    println!("{peak} bytes in use at the most");
    alone.check(&mut peak);
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
