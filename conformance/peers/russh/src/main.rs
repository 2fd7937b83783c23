//! `russh-peer`: a server, a client and a holder of idle connections on russh, for the benchmarks to run beside ours.
//!
//! ```text
//! russh-peer server --port P --host-key FILE... --authorized-keys FILE [COMMON]...
//! russh-peer client --port P --key FILE [--user USER] [COMMON]... HOST COMMAND
//! russh-peer handshakes --port P --key FILE [--user USER] [COMMON]... HOST COUNT COMMAND
//! russh-peer idle --port P --key FILE [--user USER] [COMMON]... HOST COUNT
//! russh-peer actor                                                         for the tests: does what it is told
//! ```
//!
//! Common: `--runtime current|multi` (Tokio's flavour, default multi), `--cipher NAME`, `--kex NAME`: only that one.
//!
//! It uses russh as its documentation says and in the cheapest way that its public interface has: TCP_NODELAY, data handed over as
//! `Bytes` without a copy, packets taken from the channel one by one. Any host key is trusted: these programs talk to
//! those that the benchmark has started.

mod actor;
mod client;
mod common;
mod handshakes;
mod idle;
mod pump;
mod server;

use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("russh-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    let options = common::Options::parse(arguments)?;
    let runtime = options.runtime()?;
    match command.to_str() {
        Some("server") => runtime.block_on(server::run(options)),
        Some("client") => runtime.block_on(client::run(options)),
        Some("handshakes") => runtime.block_on(handshakes::run(options)),
        Some("idle") => runtime.block_on(idle::run(options)),
        Some("actor") => runtime.block_on(actor::run()),
        _ => Err("which part? server, client, handshakes, idle or actor".into()),
    }
}
