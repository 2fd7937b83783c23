//! Prints a recording as a conversation: what the caller did, what went over the wire, in clear, and what happened.
//!
//! ```text
//! cargo run -p conformance --features recordings --bin trace -- [-x] FILE
//! ```
//!
//! The recording is replayed for that, so a difference shows where it is. `-x` adds the bytes of every packet, but for
//! those of key exchange and authentication. What is printed holds no keys and no passwords, but all data.

mod conversation;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use ssh_proto::replay::Trace;

const USAGE: &str = "usage: trace [-x] FILE";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("trace: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (mut file, mut bytes) = (None, false);
    for argument in std::env::args_os().skip(1) {
        if argument == "-x" {
            bytes = true;
        } else if file.replace(argument).is_some() {
            return Err(USAGE.into());
        }
    }
    let file = file.ok_or(USAGE)?;
    let text =
        std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let trace = Trace::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut out = io::stdout().lock();
    conversation::print(&trace, Instant::now(), bytes, &mut out)?;
    out.flush()?;
    Ok(())
}
