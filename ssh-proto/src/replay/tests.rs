mod broken;
mod hooks;
mod scripted;
mod sessions;
mod world;

use std::time::Instant;

use super::{Divergence, Trace, play};

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs a time to start from"
)]
fn start() -> Instant {
    Instant::now()
}

/// Reads and plays a recording that must be whole; says how many bytes of output it has.
fn replay(text: &str) -> u64 {
    let trace = Trace::parse(text).unwrap();
    assert!(trace.is_whole());
    assert_eq!(
        trace.to_string(),
        text,
        "what is read is written as it stood"
    );
    played(&trace).unwrap()
}

fn played(trace: &Trace) -> Result<u64, Divergence> {
    play(trace, start())
}
