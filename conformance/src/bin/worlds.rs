//! `worlds`: runs worlds of consecutive seeds, or one again. See `conformance::world`.
//!
//! ```text
//! conformance/worlds N [--from SEED]
//! conformance/worlds --seed SEED
//! ```

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

const USAGE: &str = "usage: worlds N [--from SEED] | worlds --seed SEED";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let (from, count) = match arguments[..] {
        ["--seed", seed] => (number(seed), Some(1)),
        [count] => (Some(0), number(count)),
        [count, "--from", from] => (number(from), number(count)),
        _ => (None, None),
    };
    let (Some(from), Some(count)) = (from, count) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let (steps, read, channels, ended) = (
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    // A failing world says so itself.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    match conformance::world::run(from + i) {
                        Ok(outcome) => {
                            if count == 1 {
                                println!("{outcome:?}");
                            }
                            steps.fetch_add(outcome.steps, Ordering::Relaxed);
                            read.fetch_add(outcome.read, Ordering::Relaxed);
                            channels.fetch_add(outcome.channels as u64, Ordering::Relaxed);
                            ended.fetch_add(u64::from(outcome.ended.is_some()), Ordering::Relaxed);
                        }
                        Err(text) => {
                            eprintln!("{text}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (steps, read, channels, ended, failed) = (
        steps.into_inner(),
        read.into_inner(),
        channels.into_inner(),
        ended.into_inner(),
        failed.into_inner(),
    );
    println!(
        "{count} worlds, {steps} steps, {channels} channels, {read} bytes read, {ended} connections ended early, {failed} failed"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}
