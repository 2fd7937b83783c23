//! This library's side of the tests against real peers: its examples as processes, and a client and a server within the test.
//!
//! [`SshdExample`] and [`SshExample`] are the programs `sshd` and `ssh` of `ssh-blocking/examples`, found beside the test program:
//! `cargo test --workspace` builds them. [`OurServer`] runs within the test, with a configuration and accounts of the test's own.
//! [`connect`] and [`log_in`] give clients for other servers.

mod client;
mod process;
mod server;

pub use client::{
    connect, host_key_pins, log_in, options, private_key, public_key, read_public_key,
};
pub use process::{SshExample, SshdExample, example};
pub use server::{Accounts, OurServer, Seen};

/// A stream of `len` bytes that repeats only after a length that no packet, window or block is a multiple of.
#[must_use]
pub fn stream(len: usize) -> Vec<u8> {
    const PERIOD: usize = 1_000_003;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let period: Vec<u8> = (0..PERIOD.min(len))
        .map(|_| {
            // xorshift64: anything without a pattern will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect();
    period.iter().copied().cycle().take(len).collect()
}
