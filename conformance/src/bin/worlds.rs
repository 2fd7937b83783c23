//! `worlds`: runs worlds of consecutive seeds, or one again. See `conformance::world`.
//!
//! ```text
//! conformance/worlds N [--from SEED]
//! conformance/worlds --seed SEED
//! ```
//!
//! The heap that a world is held to is counted for the whole process, so worlds run one after the other, in as many
//! processes as there are processors.

use std::io;
use std::ops::Range;
use std::process::{Child, Command, ExitCode, Stdio};

use conformance::world;

meter::count_heap!();

const USAGE: &str = "usage: worlds N [--from SEED] | worlds --seed SEED";
/// A process that runs worlds `FROM` to `TO` for another one, and says only the sums.
const SHARE: &str = "--share";

/// What came of some worlds: steps, channels, bytes read, connections that ended early, worlds that failed.
type Sums = [u64; 5];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let seeds = match arguments[..] {
        ["--seed", seed] => number(seed).map(|seed| seed..seed.saturating_add(1)),
        [count] => number(count).map(|count| 0..count),
        [count, "--from", from] => number(count)
            .zip(number(from))
            .map(|(count, from)| from..from.saturating_add(count)),
        [SHARE, from, to] => {
            let (Some(from), Some(to)) = (number(from), number(to)) else {
                return ExitCode::from(2);
            };
            println!("{:?}", run(from..to, false));
            return ExitCode::SUCCESS;
        }
        _ => None,
    };
    let Some(seeds) = seeds else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let count = seeds.end - seeds.start;
    let sums = if count == 1 {
        run(seeds, true)
    } else {
        match share(seeds) {
            Ok(sums) => sums,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(1);
            }
        }
    };
    let [steps, channels, read, ended, failed] = sums;
    println!(
        "{count} worlds, {steps} steps, {channels} channels, {read} bytes read, {ended} connections ended early, {failed} failed"
    );
    ExitCode::from(u8::from(failed > 0))
}

/// Runs worlds here.
fn run(seeds: Range<u64>, talkative: bool) -> Sums {
    // A failing world says so itself.
    std::panic::set_hook(Box::new(|_| {}));
    let mut sums = Sums::default();
    // What is made once, and would count as left behind.
    _ = world::run(0);
    for seed in seeds {
        let came = match world::run(seed) {
            Ok(outcome) => {
                if talkative {
                    println!("{outcome:?}");
                }
                let ended = u64::from(outcome.ended.is_some());
                let channels = outcome.channels as u64;
                [outcome.steps, channels, outcome.read, ended, 0]
            }
            Err(text) => {
                eprintln!("{text}");
                [0, 0, 0, 0, 1]
            }
        };
        add(&mut sums, came);
    }
    sums
}

/// Has processes run them.
fn share(seeds: Range<u64>) -> io::Result<Sums> {
    let processes = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let count = seeds.end - seeds.start;
    let bound = |process: u64| seeds.start + count * process / processes;
    let program = std::env::current_exe()?;
    let children: Vec<Child> = (0..processes)
        .map(|process| {
            Command::new(&program)
                .arg(SHARE)
                .args([bound(process), bound(process + 1)].map(|seed| seed.to_string()))
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<io::Result<_>>()?;
    let mut sums = Sums::default();
    for child in children {
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let came: Vec<u64> = text
            .split(|at: char| !at.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let came = Sums::try_from(came)
            .map_err(|_| io::Error::other(format!("a share of the worlds: {}", output.status)))?;
        add(&mut sums, came);
    }
    Ok(sums)
}

fn add(sums: &mut Sums, came: Sums) {
    for (sum, came) in sums.iter_mut().zip(came) {
        *sum += came;
    }
}
