//! `bench connections`: what idle connections cost.
//!
//! Server and client are processes of their own, this program again, each with one thread; or both are russh's, also with
//! one thread each, which have no bar. The client connects 64 at a time, authenticates with a key and opens one channel on
//! each connection; then nothing happens. Memory is what a process has grown by since it was ready for the first
//! connection; CPU is what it used while idle.

mod mio;
mod tokio;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use ssh_mio::ssh_proto::key::{KeyKind, PrivateKey};

use crate::cpu::{self, Group};
use crate::json::Json;
use crate::process::Process;
use crate::russh;

/// The CPU time by which an idle time with the most connections may exceed that with the fewest.
const CPU_BAR: Duration = Duration::from_millis(10);
/// Connections that are being made at once.
const AT_ONCE: usize = 64;
/// Long enough for what a login needed to be given back.
const SETTLE: Duration = Duration::from_secs(3);
/// For making one thousand connections.
const PATIENCE: Duration = Duration::from_secs(30);
/// russh is measured with at most so many.
const MOST_ON_RUSSH: usize = 1_000;

/// Whose ends they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Mio,
    Tokio,
    Russh,
}

impl Who {
    const ALL: [Self; 3] = [Self::Mio, Self::Tokio, Self::Russh];

    const fn name(self) -> &'static str {
        match self {
            Self::Mio => "mio",
            Self::Tokio => "tokio",
            Self::Russh => "russh",
        }
    }

    /// KiB of RSS per connection at the most, at either end.
    const fn bar(self) -> Option<f64> {
        match self {
            Self::Mio => Some(12.0),
            Self::Tokio => Some(20.0),
            Self::Russh => None,
        }
    }
}

/// What was asked for.
pub(crate) struct Options {
    counts: Vec<usize>,
    seconds: u64,
    only: String,
    json: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            counts: vec![1_000, 10_000],
            seconds: 30,
            only: String::new(),
            json: None,
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy().into_owned();
            if !["--counts", "--seconds", "--only", "--json"].contains(&name.as_str()) {
                return Err(format!("unknown option {name}; see bench --help"));
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            let text = value.to_string_lossy().into_owned();
            let wrong = |expected: &str| format!("{name} must be {expected}, not `{text}`");
            match name.as_str() {
                "--counts" => {
                    let counts: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
                    options.counts = counts
                        .ok()
                        .filter(|counts| counts.iter().all(|count| (1..=25_000).contains(count)))
                        .filter(|counts| counts.is_sorted())
                        .ok_or_else(|| wrong("numbers from 1 to 25000, the least first"))?;
                }
                "--seconds" => {
                    let seconds = text
                        .parse()
                        .ok()
                        .filter(|seconds| (1..=3_000).contains(seconds));
                    options.seconds = seconds.ok_or_else(|| wrong("a number from 1 to 3000"))?;
                }
                "--only" => options.only = text,
                _ => options.json = Some(value.into()),
            }
        }
        Ok(options)
    }
}

/// One end in one run.
struct Figures {
    who: Who,
    end: &'static str,
    connections: usize,
    /// KiB per connection.
    memory: f64,
    /// While idle.
    cpu: Duration,
}

/// Runs the benchmark. Says whether all bars were reached.
///
/// # Errors
///
/// A line for the user when it could not be made.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let place = Place::new(options)?;
    let mut all: Vec<Figures> = Vec::new();
    for who in Who::ALL {
        if !who.name().contains(&options.only) {
            continue;
        }
        for &count in &options.counts {
            if who != Who::Russh || count <= MOST_ON_RUSSH {
                all.extend(place.measure(who, count)?);
            }
        }
    }
    println!(
        "end              connections   KiB each    CPU ms in {} s idle",
        options.seconds
    );
    let mut good = true;
    let mut rows = Vec::new();
    for figures in &all {
        let same = |other: &&Figures| (other.who, other.end) == (figures.who, figures.end);
        let first = all.iter().find(same);
        let allowed = first.map_or(Duration::MAX, |first| first.cpu + CPU_BAR);
        let bar = figures.who.bar();
        let passed = bar.is_none_or(|bar| figures.memory <= bar && figures.cpu <= allowed);
        good &= passed;
        println!(
            "{:5} {:10} {:11}   {:8.2}    {:8.2}   {}",
            figures.who.name(),
            figures.end,
            figures.connections,
            figures.memory,
            figures.cpu.as_secs_f64() * 1e3,
            match (bar, passed) {
                (None, _) => String::new(),
                (Some(_), true) => "ok".into(),
                (Some(bar), false) => format!(
                    "MISSED, at most {bar} KiB and {:.2} ms",
                    allowed.as_secs_f64() * 1e3
                ),
            },
        );
        rows.push(Json::Object(vec![
            ("adapter", Json::text(figures.who.name())),
            ("end", Json::text(figures.end)),
            ("connections", Json::Number(figures.connections as f64)),
            ("kib_per_connection", Json::Number(figures.memory)),
            ("kib_bar", Json::Number(bar.unwrap_or(f64::NAN))),
            ("idle_cpu_ms", Json::Number(figures.cpu.as_secs_f64() * 1e3)),
            ("idle_cpu_ms_bar", Json::Number(allowed.as_secs_f64() * 1e3)),
            ("passed", Json::Bool(passed)),
        ]));
    }
    if let Some(path) = &options.json {
        let json = Json::Object(vec![
            ("benchmark", Json::text("connections")),
            ("idle_seconds", Json::Number(options.seconds as f64)),
            ("rows", Json::List(rows)),
        ]);
        fs::write(path, format!("{json}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(good)
}

/// What is the same in all runs.
struct Place {
    idle: Duration,
    bench: PathBuf,
    russh: PathBuf,
    /// With the keys as files.
    folder: tempfile::TempDir,
}

impl Place {
    fn new(options: &Options) -> Result<Self, String> {
        let bench = std::env::current_exe().map_err(|error| error.to_string())?;
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let written = Keys::new().and_then(|keys| keys.write(folder.path()));
        written.map_err(|error| format!("keys: {error}"))?;
        Ok(Self {
            idle: Duration::from_secs(options.seconds),
            russh: russh::program(&bench)?,
            bench,
            folder,
        })
    }

    fn server(&self, who: Who) -> Command {
        let file = |name| self.folder.path().join(name);
        if who == Who::Russh {
            let mut command = Command::new(&self.russh);
            command.args(["server", "--runtime", "current", "--port", "0"]);
            command.arg("--host-key").arg(file("host_key"));
            command.arg("--authorized-keys").arg(file("user_key.pub"));
            return command;
        }
        let mut command = Command::new(&self.bench);
        command.args(["__connections-server", who.name()]);
        command
    }

    fn client(&self, who: Who, address: &str, count: usize) -> Command {
        let count = count.to_string();
        if who == Who::Russh {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            let mut command = Command::new(&self.russh);
            command.args(["idle", "--runtime", "current", "--port", port]);
            command
                .arg("--key")
                .arg(self.folder.path().join("user_key"));
            command.args([host, &count]);
            return command;
        }
        let mut command = Command::new(&self.bench);
        command.args(["__connections-client", who.name(), address, &count]);
        command
    }

    fn measure(&self, who: Who, count: usize) -> Result<[Figures; 2], String> {
        let patience = PATIENCE * u32::try_from(count / 1_000 + 1).unwrap_or(u32::MAX);
        let mut server = start("the server", self.server(who))?;
        let address = server.wait_for("listening on ", PATIENCE)?;
        let mut client = start("the client", self.client(who, address.trim(), count))?;
        client.wait_for("ready", PATIENCE)?;
        let ends = [server.id(), client.id()];
        let before = memory(ends)?;
        // A line is the sign to begin.
        let mut begin = client.take_stdin().ok_or("no standard input")?;
        begin
            .write_all(b"\n")
            .map_err(|error| format!("the client: {error}"))?;
        client.wait_for("connected", patience)?;
        std::thread::sleep(SETTLE);
        let groups = ends.map(Group::one);
        let start = cpu::at_rest(&groups, PATIENCE)?;
        let after = memory(ends)?;
        std::thread::sleep(self.idle);
        let end = cpu::at_rest(&groups, PATIENCE)?;
        let figures = |index: usize, end_name| Figures {
            who,
            end: end_name,
            connections: count,
            memory: (after[index] - before[index]) / count as f64,
            cpu: end[index].saturating_sub(start[index]),
        };
        let result = [figures(0, "server"), figures(1, "client")];
        drop(begin);
        client.finish(PATIENCE)?;
        Ok(result)
    }
}

fn start(name: &str, mut command: Command) -> Result<Process, String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Process::start(name, command, true)
}

/// The resident memory of both processes, in KiB.
fn memory(processes: [u32; 2]) -> Result<[f64; 2], String> {
    let mut result = [0.0; 2];
    for (process, result) in processes.iter().zip(&mut result) {
        let path = format!("/proc/{process}/status");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        *result = text
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse()
                    .ok()
            })
            .ok_or_else(|| format!("{path} has no VmRSS"))?;
    }
    Ok(result)
}

/// The same for all processes.
struct Keys {
    user: Arc<PrivateKey>,
    host: Arc<PrivateKey>,
}

impl Keys {
    fn new() -> io::Result<Self> {
        let key = |byte| {
            let key = PrivateKey::generate(KeyKind::Ed25519, &[byte; 32]);
            key.map(Arc::new).map_err(io::Error::other)
        };
        Ok(Self {
            user: key(1)?,
            host: key(2)?,
        })
    }

    /// Writes them as OpenSSH's files.
    fn write(&self, folder: &Path) -> io::Result<()> {
        for (key, name) in [(&self.user, "user_key"), (&self.host, "host_key")] {
            let path = folder.join(name);
            let secret = key.to_openssh(None, 0).map_err(io::Error::other)?;
            fs::write(&path, secret.expose())?;
            fs::write(
                path.with_extension("pub"),
                format!("{}\n", key.public().to_openssh("")),
            )?;
        }
        Ok(())
    }
}

fn more_descriptors(count: usize) -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = count as u64 + 64;
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        let text = format!("{wanted} descriptors are needed, see `ulimit -Hn`");
        return Err(io::Error::other(text));
    }
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Ends the process when its standard input ends.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        while matches!(io::stdin().read(&mut sink), Ok(len) if len > 0) {}
        std::process::exit(0);
    });
}

/// A server of ours, until its standard input ends.
pub(crate) fn server(who: &str) -> io::Result<()> {
    more_descriptors(0)?;
    let keys = Keys::new()?;
    match who {
        "mio" => mio::server(&keys),
        _ => tokio::server(&keys),
    }
}

/// A client of ours, until its standard input ends.
pub(crate) fn client(who: &str, address: &str, count: &str) -> io::Result<()> {
    let count = count.parse().map_err(io::Error::other)?;
    more_descriptors(count)?;
    let address = address.parse().map_err(io::Error::other)?;
    let keys = Keys::new()?;
    match who {
        "mio" => mio::client(&keys, address, count),
        _ => tokio::client(&keys, address, count),
    }
}
