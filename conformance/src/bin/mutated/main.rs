//! Plays recordings in which a byte of the peer's is changed: cut off there, a bit flipped, lost, or twice.
//!
//! ```text
//! conformance/mutated N          so many mutants, evenly over all offsets and kinds
//! conformance/mutated MUTANT     one again
//! ```
//!
//! No panic, no bug, bounded memory, bounded work, nothing left behind. As the heap is counted for the whole process, each
//! core has a process of its own.

mod mutants;

use std::process::{Command, ExitCode, Stdio};

use mutants::Recordings;

meter::count_heap!();

const USAGE: &str = "usage: mutated N | mutated RECORDING:OFFSET:KIND";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match arguments[..] {
        [count, "--shard", shard, of] => match (number(count), number(shard), number(of)) {
            (Some(count), Some(shard), Some(of)) if of > 0 => run(count, shard, of),
            _ => usage(),
        },
        [count] => match number(count) {
            Some(count) => spread(count),
            None => again(count),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn again(name: &str) -> ExitCode {
    let recordings = Recordings::read();
    let Some(mutant) = recordings.find(name) else {
        return usage();
    };
    // The first play makes what is made once.
    _ = recordings.play(&mutant);
    match recordings.play(&mutant) {
        Ok(_) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// One process for each core.
fn spread(count: u64) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let program = std::env::current_exe().expect("this program");
    let shards: Vec<_> = (0..cores)
        .map(|shard| {
            Command::new(&program)
                .args([&count.to_string(), "--shard", &shard.to_string()])
                .arg(cores.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process")
        })
        .collect();
    let (mut failed, mut totals) = (false, [0; 3]);
    for shard in shards {
        let output = shard.wait_with_output().expect("its output");
        failed |= !output.status.success();
        let text = String::from_utf8_lossy(&output.stdout);
        for (total, number) in totals.iter_mut().zip(text.split_whitespace()) {
            *total += number.parse::<u64>().unwrap_or_default();
        }
    }
    let [played, ended, wrong] = totals;
    println!("{played} mutants, {ended} ended the connection, {wrong} failed");
    if failed || wrong > 0 || played < count {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn run(count: u64, shard: u64, of: u64) -> ExitCode {
    // A failing mutant says so itself.
    std::panic::set_hook(Box::new(|_| {}));
    let recordings = Recordings::read();
    let all = recordings.count();
    let (mut played, mut ended, mut wrong) = (0_u64, 0_u64, 0_u64);
    for i in (shard..count).step_by(of as usize) {
        let number = (u128::from(i) * u128::from(all) / u128::from(count)) as u64;
        let Some(mutant) = recordings.mutant(number) else {
            break;
        };
        if played == 0 {
            _ = recordings.play(&mutant);
        }
        played += 1;
        match recordings.play(&mutant) {
            Ok(over) => ended += u64::from(over),
            Err(text) => {
                eprintln!("{text}");
                wrong += 1;
                if wrong > 20 {
                    break;
                }
            }
        }
    }
    println!("{played} {ended} {wrong}");
    ExitCode::SUCCESS
}
