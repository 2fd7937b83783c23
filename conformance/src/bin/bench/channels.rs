//! `bench channels`: what a message costs when its connection has 10, 100 or 1,000 channels.
//!
//! One connection, both ends in one process on one CPU. As many messages are under way as the fewest channels there are,
//! over all channels in turn: what happens at a time is the same in every row, so that reads and writes carry as many
//! messages each, and only the number of channels differs. The time of the process over the messages is what counts; the
//! channels are opened, and each has carried a message, before.
//!
//! The rows `threads` have no bar: see [`blocking`].

mod blocking;
mod mio;
mod pure;
mod talk;
mod tokio;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use ssh_mio::ssh_proto::config::{HostKey, ServerConfig};
use ssh_mio::ssh_proto::key::{KeyKind, PrivateKey};

use crate::bulk::choose_cpu;
use crate::json::Json;
use crate::process::{Process, pinned};
use crate::report::median;
use blocking::Threads;

/// The most by which the dearest number of channels may exceed the cheapest.
const BAR: f64 = 1.3;
/// Bytes of a message: an event of an application, not a transfer.
const MESSAGE: usize = 256;
/// Messages under way at a time.
const UNDER_WAY: usize = 10;
const COUNTS: [usize; 3] = [UNDER_WAY, 100, 1_000];
/// What is measured, and whether the bar holds for it.
const ADAPTERS: [(&str, bool); 6] = [
    ("core", true),
    ("mio", true),
    ("tokio", true),
    ("blocking", true),
    ("threads", false),
    ("bare threads", false),
];
const PATIENCE: Duration = Duration::from_secs(120);

/// What was asked for.
pub(crate) struct Options {
    messages: usize,
    runs: usize,
    only: String,
    json: Option<PathBuf>,
    cpu: Option<usize>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            messages: 100_000,
            runs: 5,
            only: String::new(),
            json: None,
            cpu: None,
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy().into_owned();
            if !["--messages", "--runs", "--only", "--json", "--cpu"].contains(&name.as_str()) {
                return Err(format!("unknown option {name}; see bench --help"));
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            let text = value.to_string_lossy().into_owned();
            let wrong = |expected: &str| format!("{name} must be {expected}, not `{text}`");
            match name.as_str() {
                "--messages" => {
                    let messages = text.parse().ok();
                    options.messages = messages
                        .filter(|messages| (1_000..=100_000_000).contains(messages))
                        .ok_or_else(|| wrong("a number from 1000 to 100000000"))?;
                }
                "--runs" => {
                    let runs = text.parse().ok().filter(|runs| (1..=1000).contains(runs));
                    options.runs = runs.ok_or_else(|| wrong("a number from 1 to 1000"))?;
                }
                "--only" => options.only = text,
                "--cpu" => {
                    options.cpu = Some(text.parse().map_err(|_| wrong("the number of a CPU"))?);
                }
                _ => options.json = Some(value.into()),
            }
        }
        Ok(options)
    }
}

/// An adapter: nanoseconds per message in each run, by number of channels.
struct Row {
    adapter: &'static str,
    has_bar: bool,
    runs: [Vec<f64>; COUNTS.len()],
}

impl Row {
    fn medians(&self) -> [f64; COUNTS.len()] {
        std::array::from_fn(|index| median(self.runs[index].iter().copied()))
    }

    /// How much dearer the dearest is than the cheapest.
    fn spread(&self) -> f64 {
        let medians = self.medians();
        medians.into_iter().fold(0.0, f64::max) / medians.into_iter().fold(f64::INFINITY, f64::min)
    }
}

/// Runs the benchmark. Says whether all bars were reached.
///
/// # Errors
///
/// A line for the user when it could not be made.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let bench = std::env::current_exe().map_err(|error| error.to_string())?;
    let cpu = choose_cpu(options.cpu)?;
    let mut rows: Vec<Row> = ADAPTERS
        .into_iter()
        .filter(|(adapter, _)| adapter.contains(&options.only))
        .map(|(adapter, has_bar)| Row {
            adapter,
            has_bar,
            runs: Default::default(),
        })
        .collect();
    if rows.is_empty() {
        return Err(format!(
            "--only {}: no adapter has that in its name",
            options.only
        ));
    }
    for _ in 0..options.runs {
        for row in &mut rows {
            for (count, runs) in COUNTS.into_iter().zip(&mut row.runs) {
                let mut command = pinned(cpu, &Command::new(&bench));
                command
                    .arg("__channels")
                    .args([
                        row.adapter,
                        &count.to_string(),
                        &options.messages.to_string(),
                    ])
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
                let mut process = Process::start("channels", command, true)?;
                let used = process.wait_for("used ", PATIENCE)?;
                let used: f64 = used.trim().parse().map_err(|_| format!("`{used}`?"))?;
                runs.push(used / options.messages as f64);
                process.finish(PATIENCE)?;
            }
        }
    }
    println!(
        "CPU nanoseconds for {MESSAGE} bytes and back, both ends, medians of {} runs of {} messages, {UNDER_WAY} under \
         way, everything on CPU {cpu}\n",
        options.runs, options.messages
    );
    println!(
        "{:12} {:>8} {:>8} {:>8}  dearest / cheapest",
        "channels", COUNTS[0], COUNTS[1], COUNTS[2]
    );
    let mut good = true;
    let mut list = Vec::new();
    for row in &rows {
        let passed = !row.has_bar || row.spread() <= BAR;
        good &= passed;
        let [few, some, many] = row.medians();
        println!(
            "{:12} {few:8.0} {some:8.0} {many:8.0}  {:.2}  {}",
            row.adapter,
            row.spread(),
            match (row.has_bar, passed) {
                (false, _) => "",
                (true, true) => "ok",
                (true, false) => "MISSED, at most 1.3",
            },
        );
        let counts = COUNTS.into_iter().zip(&row.runs).map(|(count, runs)| {
            Json::Object(vec![
                ("channels", Json::Number(count as f64)),
                ("ns_per_message", Json::Number(median(runs.iter().copied()))),
                (
                    "runs",
                    Json::List(runs.iter().map(|&ns| Json::Number(ns)).collect()),
                ),
            ])
        });
        list.push(Json::Object(vec![
            ("adapter", Json::text(row.adapter)),
            ("counts", Json::List(counts.collect())),
            ("dearest_over_cheapest", Json::Number(row.spread())),
            (
                "bar",
                Json::Number(if row.has_bar { BAR } else { f64::NAN }),
            ),
            ("passed", Json::Bool(passed)),
        ]));
    }
    if let Some(path) = &options.json {
        let json = Json::Object(vec![
            ("benchmark", Json::text("channels")),
            ("messages", Json::Number(options.messages as f64)),
            ("passed", Json::Bool(good)),
            ("rows", Json::List(list)),
        ]);
        std::fs::write(path, format!("{json}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(good)
}

/// One run, in a process of its own.
pub(crate) fn part(adapter: &str, count: usize, messages: usize) -> io::Result<()> {
    let used = match adapter {
        "core" => pure::run(count, messages),
        "mio" => mio::run(count, messages),
        "tokio" => tokio::run(count, messages),
        "blocking" => blocking::run(count, messages, Threads::Few),
        "threads" => blocking::run(count, messages, Threads::Each),
        _ => blocking::bare_threads(count, messages),
    }?;
    println!("used {}", used.as_nanos());
    Ok(())
}

/// What this process has used so far.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // A process does not use negative time.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

fn key(byte: u8) -> io::Result<Arc<PrivateKey>> {
    let key = PrivateKey::generate(KeyKind::Ed25519, &[byte; 32]);
    key.map(Arc::new).map_err(io::Error::other)
}

fn user_key() -> io::Result<Arc<PrivateKey>> {
    key(1)
}

fn host_key() -> io::Result<Arc<PrivateKey>> {
    key(2)
}

fn server_config() -> io::Result<ServerConfig> {
    Ok(ServerConfig::new(vec![HostKey::Private(host_key()?)]))
}
