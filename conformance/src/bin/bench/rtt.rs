//! `bench bulk --rtt`: how fast a lot of data moves over a long path.
//!
//! Between client and server stands a proxy that delays. What limits the rate is how much the receiver lets the sender have
//! under way: its window. So the figures are rates, taken by the wall clock with nothing pinned, and what the window costs:
//! the most memory that a process had in RAM at a time.

use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::bulk::example;
use crate::json::Json;
use crate::pipeline::{Direction, Ends, Place};
use crate::programs::Program;
use crate::report::median;
use crate::russh;

const CIPHER: &str = "aes128-gcm@openssh.com";
const SMALL: u64 = 1024;
/// The round trip for which there are bars, in milliseconds.
const BARRED: u64 = 100;
/// Downloads from OpenSSH's server: so many times the rate of its own client.
const OVER_OPENSSH: f64 = 8.0;
/// Between two ends of ours, in 10^6 bytes per second.
const OWN_ENDS: f64 = 200.0;
/// `Limits::window_budget`, which bounds what an end holds for its peer.
const BUDGET_KIB: f64 = 64.0 * 1024.0;
/// Those whose window stays as it is move less in the same time.
const SHARE: u64 = 8;

/// Who stands at an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    OpenSsh,
    Russh,
    Blocking,
    Tokio,
    Mio,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::OpenSsh => "OpenSSH",
            Self::Russh => "russh",
            Self::Blocking => "blocking",
            Self::Tokio => "tokio",
            Self::Mio => "mio",
        }
    }

    const fn is_ours(self) -> bool {
        matches!(self, Self::Blocking | Self::Tokio | Self::Mio)
    }
}

/// The transfers: client, server, direction.
const TRANSFERS: [(Who, Who, Direction); 11] = [
    (Who::OpenSsh, Who::OpenSsh, Direction::Download),
    (Who::Russh, Who::OpenSsh, Direction::Download),
    (Who::Blocking, Who::OpenSsh, Direction::Download),
    (Who::Tokio, Who::OpenSsh, Direction::Download),
    (Who::Mio, Who::OpenSsh, Direction::Download),
    (Who::Blocking, Who::Blocking, Direction::Download),
    (Who::Blocking, Who::Blocking, Direction::Upload),
    (Who::Tokio, Who::Tokio, Direction::Download),
    (Who::Tokio, Who::Tokio, Direction::Upload),
    (Who::Mio, Who::Mio, Direction::Download),
    (Who::Mio, Who::Mio, Direction::Upload),
];

struct Row {
    rtt: u64,
    client: Who,
    server: Who,
    direction: Direction,
    /// 10^6 bytes per second of each run.
    rates: Vec<f64>,
    /// KiB: the most that an end of ours had in RAM.
    peak: u64,
}

impl Row {
    fn rate(&self) -> f64 {
        median(self.rates.iter().copied())
    }

    fn name(&self) -> String {
        let (client, server) = (self.client.name(), self.server.name());
        match self.direction {
            Direction::Download => format!("{client} <- {server}"),
            Direction::Upload => format!("{client} -> {server}"),
        }
    }

    /// The least rate that is good enough, where there is one.
    fn bar(&self, openssh: f64) -> Option<f64> {
        match (self.client.is_ours(), self.server.is_ours()) {
            _ if self.rtt != BARRED => None,
            (true, true) => Some(OWN_ENDS),
            (true, false) => Some(openssh * OVER_OPENSSH),
            _ => None,
        }
    }
}

/// Runs the benchmark. Says whether all bars were reached.
///
/// # Errors
///
/// A line for the user when it could not be made.
pub(crate) fn run(options: &Options, bench: &Path, place: &mut Place) -> Result<bool, String> {
    let programs = Programs::new(bench)?;
    let mut rows = Vec::new();
    for &rtt in &options.rtt {
        rows.extend(measure(options, place, &programs, rtt)?);
    }
    println!(
        "10^6 bytes per second through a delaying proxy, {CIPHER}, {} bytes a run (an eighth where no end is ours), \
         medians of {} runs, OpenSSH {}\n",
        options.size, options.runs, options.openssh
    );
    println!(
        "{:>6}  {:24} {:>8} {:>10} {:>9}  verdict",
        "rtt ms", "client, server", "MB/s", "/ OpenSSH", "peak MiB"
    );
    let mut good = true;
    let mut list = Vec::new();
    for row in &rows {
        let openssh = rows
            .iter()
            .find(|other| other.rtt == row.rtt && other.client == Who::OpenSsh)
            .map_or(f64::NAN, Row::rate);
        let bar = row.bar(openssh);
        let fast = bar.is_none_or(|bar| row.rate() >= bar);
        let small = row.peak as f64 <= BUDGET_KIB;
        good &= fast && small;
        let verdict = match bar {
            _ if !small => "MISSED, more than 64 MiB".to_owned(),
            Some(bar) if fast => format!("ok, at least {bar:.0}"),
            Some(bar) => format!("MISSED, at least {bar:.0}"),
            None => String::new(),
        };
        let peak = row.peak as f64 / 1024.0;
        println!(
            "{:6}  {:24} {:8.1} {:10.2} {peak:9.1}  {verdict}",
            row.rtt,
            row.name(),
            row.rate(),
            row.rate() / openssh,
        );
        let rates = row.rates.iter().map(|&rate| Json::Number(rate));
        list.push(Json::Object(vec![
            ("rtt_ms", Json::Number(row.rtt as f64)),
            ("name", Json::text(row.name())),
            ("mb_per_second", Json::Number(row.rate())),
            ("runs", Json::List(rates.collect())),
            ("over_openssh", Json::Number(row.rate() / openssh)),
            ("bar", Json::Number(bar.unwrap_or(f64::NAN))),
            ("peak_rss_kib", Json::Number(row.peak as f64)),
            ("peak_rss_bar_kib", Json::Number(BUDGET_KIB)),
            ("passed", Json::Bool(fast && small)),
        ]));
    }
    if let Some(path) = &options.json {
        let json = Json::Object(vec![
            ("benchmark", Json::text("bulk --rtt")),
            ("size", Json::Number(options.size as f64)),
            ("runs", Json::Number(options.runs as f64)),
            ("openssh", Json::text(options.openssh.to_string())),
            ("passed", Json::Bool(good)),
            ("rows", Json::List(list)),
        ]);
        std::fs::write(path, format!("{json}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(good)
}

/// Clients and servers by who they are.
struct Programs {
    blocking: [Program; 2],
    tokio: [Program; 2],
    mio: [Program; 2],
    russh: Program,
}

impl Programs {
    fn new(bench: &Path) -> Result<Self, String> {
        let built = |package, name| {
            example(bench, package, name).map(|path| Program::Example {
                path,
                arguments: &[],
            })
        };
        Ok(Self {
            blocking: [
                built("ssh-blocking", "ssh")?,
                built("ssh-blocking", "sshd")?,
            ],
            tokio: [
                built("ssh-tokio", "ssh-tokio")?,
                built("ssh-tokio", "sshd-tokio")?,
            ],
            mio: [Program::OnMio, built("ssh-mio", "server")?],
            russh: Program::Russh(russh::program(bench)?),
        })
    }

    fn of(&self, who: Who, end: usize) -> &Program {
        match who {
            Who::OpenSsh => &Program::OpenSsh,
            Who::Russh => &self.russh,
            Who::Blocking => &self.blocking[end],
            Who::Tokio => &self.tokio[end],
            Who::Mio => &self.mio[end],
        }
    }
}

fn measure(
    options: &Options,
    place: &mut Place,
    programs: &Programs,
    rtt: u64,
) -> Result<Vec<Row>, String> {
    place.delay = Some(Duration::from_millis(rtt));
    let wanted = |client: &Who| match options.adapter {
        Some(only) => !client.is_ours() || client.name() == only,
        None => true,
    };
    let mut rows: Vec<Row> = TRANSFERS
        .into_iter()
        .filter(|(client, _, _)| wanted(client))
        .map(|(client, server, direction)| Row {
            rtt,
            client,
            server,
            direction,
            rates: Vec::new(),
            peak: 0,
        })
        .filter(|row| row.client == Who::OpenSsh || row.name().contains(&options.only))
        .collect();
    for round in 1..=options.runs {
        for row in &mut rows {
            eprintln!("{rtt} ms, {}: run {round} of {}", row.name(), options.runs);
            let (client, server) = (programs.of(row.client, 0), programs.of(row.server, 1));
            let transfer = |size| match row.server {
                // Its server has commands of its own.
                Who::Mio => place.built_in(client, server, row.direction, CIPHER, size),
                _ => place.ssh(client, server, row.direction, CIPHER, size),
            };
            let size = match row.client.is_ours() {
                true => options.size,
                false => options.size / SHARE,
            };
            let small = transfer(SMALL)?;
            let full = transfer(size)?;
            row.rates.push(rate(&small, &full, size));
            if row.client.is_ours() {
                row.peak = row.peak.max(full.client_peak);
            }
            if row.server.is_ours() {
                row.peak = row.peak.max(full.server_peak);
            }
        }
    }
    Ok(rows)
}

fn rate(small: &Ends, full: &Ends, size: u64) -> f64 {
    let time = full.elapsed.as_secs_f64() - small.elapsed.as_secs_f64();
    (size - SMALL) as f64 / 1e6 / time
}
