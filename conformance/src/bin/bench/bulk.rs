//! `bench bulk`: what moving a lot of data costs, row by row.
//!
//! Each client under test has OpenSSH's server as its peer, each server OpenSSH's client, and so have those that they
//! are compared with: OpenSSH itself and russh. Each round makes all transfers and the floor's in turn, each one first
//! with 1 KiB, whose figures are subtracted.
//!
//! ```text
//! adapter    client                  server                              beside
//! blocking   its `ssh` example       its `sshd` example                  OpenSSH
//! tokio      its `ssh-tokio`         its `sshd-tokio`                    russh
//! mio        this program            its `server`: commands of its own   russh, with the same commands
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Options;
use crate::floor;
use crate::json::Json;
use crate::pipeline::{Direction, Ends, Place, Stdout};
use crate::process::output;
use crate::programs::Program;
use crate::report::{Row, Run, Series, table};
use crate::{rtt, russh};

const CIPHERS: [&str; 3] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];
const SMALL: u64 = 1024;
/// Where the two ends of a transfer are in arrays.
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Makes the benchmark, prints the table, writes the JSON file. Whether all bars were reached.
///
/// # Errors
///
/// A line for the user when the benchmark could not be made.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    if cfg!(debug_assertions) {
        return Err(
            "the floor needs an optimised build: cargo run --release -p conformance --bin bench"
                .into(),
        );
    }
    // What the options get wrong comes out before anything takes time.
    let transfers: Vec<_> = [Direction::Download, Direction::Upload]
        .into_iter()
        .flat_map(|direction| CIPHERS.map(|cipher| (direction, cipher)))
        .filter(|&(direction, cipher)| name(direction, cipher).contains(&options.only))
        .collect();
    if transfers.is_empty() {
        return Err(format!(
            "--only {}: no transfer has that in its name",
            options.only
        ));
    }
    let cpu = choose_cpu(options.cpu)?;
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut json_file = None;
    if let Some(path) = &options.json {
        json_file = Some((
            path,
            File::create(path).map_err(|error| failed(path, error))?,
        ));
    }
    let bench =
        std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;

    // Fetches the peers unless the cache has them.
    output(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("test")).arg("--fetch-only"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let place = |cpu| Place::new(cpu, options.stdout, options.openssh, &bench, folder.path());
    if !options.rtt.is_empty() {
        // Both ends and the proxy work at the same time.
        return rtt::run(options, &bench, &mut place(allowed_cpus()?)?);
    }
    let place = place(cpu.to_string())?;
    let contest = Contest::new(options, &bench)?;
    let mut rows = Vec::new();
    for (direction, cipher) in transfers {
        rows.extend(contest.measure(&place, options, direction, cipher)?);
    }
    rows.sort_by_key(|row: &Row| (row.adapter, !row.name.starts_with("client")));
    let stdout = match options.stdout {
        Stdout::Null => "/dev/null",
        Stdout::Pipe => "a pipe",
    };
    println!(
        "{} bytes a run, medians of {} runs, OpenSSH {}, everything on CPU {}, downloads to {stdout}\n",
        options.size, options.runs, options.openssh, place.cpu
    );
    print!("{}", table(&rows));
    let missed = rows.iter().filter(|row| !row.missed().is_empty()).count();
    println!(
        "\n{} of {} rows reach their bars",
        rows.len() - missed,
        rows.len()
    );
    if let Some((path, mut file)) = json_file {
        let json = Json::Object(vec![
            ("benchmark", Json::text("bulk")),
            ("size", Json::Number(options.size as f64)),
            ("runs", Json::Number(options.runs as f64)),
            ("openssh", Json::text(options.openssh.to_string())),
            ("downloads_to", Json::text(stdout)),
            ("passed", Json::Bool(missed == 0)),
            ("rows", Json::List(rows.iter().map(Row::json).collect())),
        ]);
        writeln!(file, "{json}").map_err(|error| failed(path, error))?;
    }
    Ok(missed == 0)
}

fn name(direction: Direction, cipher: &str) -> String {
    let direction = match direction {
        Direction::Download => "download",
        Direction::Upload => "upload",
    };
    format!("{direction} {cipher}")
}

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Blocking,
    Tokio,
    Mio,
    OpenSsh,
    Russh,
    /// Its server, with the command in the process.
    RusshBuiltIn,
    Floor,
    /// The server's end without a pipe.
    FloorInMemory,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Tokio => "tokio",
            Self::Mio => "mio",
            Self::OpenSsh => "OpenSSH",
            Self::Russh | Self::RusshBuiltIn => "russh",
            Self::Floor | Self::FloorInMemory => "floor",
        }
    }
}

/// Somebody who makes transfers.
struct Entry {
    who: Who,
    client: Option<Program>,
    server: Option<Program>,
    /// The server runs its commands itself.
    built_in: bool,
}

/// Figures of a round after the other.
type Figures = BTreeMap<(Who, usize), Series>;

/// All who take part.
struct Contest {
    entries: Vec<Entry>,
}

impl Contest {
    fn new(options: &Options, bench: &Path) -> Result<Self, String> {
        let entry = |who, client, server, built_in| Entry {
            who,
            client,
            server,
            built_in,
        };
        let built = |package, name, arguments| {
            example(bench, package, name).map(|path| Some(Program::Example { path, arguments }))
        };
        let wanted = |adapter| options.adapter.is_none_or(|only| only == adapter);
        let mut entries = Vec::new();
        if wanted("blocking") {
            let client = ours(options.our_ssh.as_deref(), bench, "ssh")?;
            let server = ours(options.our_sshd.as_deref(), bench, "sshd")?;
            entries.push(entry(Who::Blocking, Some(client), Some(server), false));
            let openssh = || Some(Program::OpenSsh);
            entries.push(entry(Who::OpenSsh, openssh(), openssh(), false));
        }
        let russh = if wanted("tokio") || wanted("mio") {
            Some(Program::Russh(russh::program(bench)?))
        } else {
            None
        };
        if wanted("tokio") {
            let client = built("ssh-tokio", "ssh-tokio", &[])?;
            let server = built("ssh-tokio", "sshd-tokio", &["--threads", "1"])?;
            entries.push(entry(Who::Tokio, client, server, false));
        }
        if wanted("mio") {
            let server = built("ssh-mio", "server", &[])?;
            entries.push(entry(Who::Mio, Some(Program::OnMio), None, false));
            entries.push(entry(Who::Mio, None, server, true));
            entries.push(entry(Who::RusshBuiltIn, None, russh.clone(), true));
        }
        if let Some(program) = russh {
            let server = wanted("tokio").then(|| program.clone());
            entries.push(entry(Who::Russh, Some(program), server, false));
        }
        Ok(Self { entries })
    }

    /// The rows of one direction and cipher.
    fn measure(
        &self,
        place: &Place,
        options: &Options,
        direction: Direction,
        cipher: &'static str,
    ) -> Result<Vec<Row>, String> {
        let both = |transfer: &dyn Fn(u64) -> Result<Ends, String>| -> Result<[Run; 2], String> {
            let small = transfer(SMALL)?;
            Ok(runs(small, transfer(options.size)?, options.size))
        };
        let ssh = |client, server| both(&|size| place.ssh(client, server, direction, cipher, size));
        let floor =
            |batch, in_memory| both(&|size| place.floor(direction, cipher, size, batch, in_memory));
        let (sender, receiver) = match direction {
            Direction::Download => (SERVER, CLIENT),
            Direction::Upload => (CLIENT, SERVER),
        };
        let mut figures = Figures::new();
        for round in 1..=options.runs {
            eprintln!(
                "{}: run {round} of {}",
                name(direction, cipher),
                options.runs
            );
            let mut add = |who, end: usize, runs: [Run; 2]| {
                figures.entry((who, end)).or_default().0.push(runs[end]);
            };
            for entry in &self.entries {
                let theirs = &Program::OpenSsh;
                match (&entry.client, &entry.server) {
                    (Some(Program::OpenSsh), Some(Program::OpenSsh)) => {
                        let runs = ssh(theirs, theirs)?;
                        add(entry.who, CLIENT, runs);
                        add(entry.who, SERVER, runs);
                    }
                    (client, server) => {
                        if let Some(client) = client {
                            add(entry.who, CLIENT, ssh(client, theirs)?);
                        }
                        if let Some(server) = server {
                            let runs = if entry.built_in {
                                both(&|size| {
                                    place.built_in(theirs, server, direction, cipher, size)
                                })?
                            } else {
                                ssh(theirs, server)?
                            };
                            add(entry.who, SERVER, runs);
                        }
                    }
                }
            }
            // How data arrives is not the receiver's choice: OpenSSH writes one packet at a time, so the floor of a
            // receiver is measured behind a sender that does the same. A sender writes as it likes.
            add(Who::Floor, sender, floor(floor::BATCH, false)?);
            add(Who::Floor, receiver, floor(1, false)?);
            if self.entries.iter().any(|entry| entry.built_in) {
                let batch = if sender == SERVER { floor::BATCH } else { 1 };
                add(Who::FloorInMemory, SERVER, floor(batch, true)?);
            }
        }
        let rows = self
            .entries
            .iter()
            .flat_map(|entry| rows(entry, direction, cipher, &figures));
        Ok(rows.collect())
    }
}

/// The rows of one entry, if it is ours.
fn rows(entry: &Entry, direction: Direction, cipher: &'static str, figures: &Figures) -> Vec<Row> {
    let rival = match (entry.who, entry.built_in) {
        (Who::Blocking, _) => Who::OpenSsh,
        (Who::Tokio | Who::Mio, false) => Who::Russh,
        (Who::Tokio | Who::Mio, true) => Who::RusshBuiltIn,
        _ => return Vec::new(),
    };
    let floor = if entry.built_in {
        Who::FloorInMemory
    } else {
        Who::Floor
    };
    let names = match direction {
        Direction::Download => ["client download", "server sends"],
        Direction::Upload => ["client upload", "server receives"],
    };
    let series = |who, end| figures.get(&(who, end)).cloned().unwrap_or_default();
    let row = |end: usize| Row {
        name: names[end],
        adapter: entry.who.name(),
        cipher,
        rival: rival.name(),
        near_floor: cipher.starts_with("aes"),
        ours: series(entry.who, end),
        theirs: series(rival, end),
        floor: series(floor, end),
    };
    let client = entry.client.as_ref().map(|_| row(CLIENT));
    let server = entry.server.as_ref().map(|_| row(SERVER));
    client.into_iter().chain(server).collect()
}

/// What a transfer says about its client and its server.
fn runs(small: Ends, full: Ends, size: u64) -> [Run; 2] {
    let bytes = (size - SMALL) as f64;
    let rate = bytes / 1e6 / (full.elapsed.as_secs_f64() - small.elapsed.as_secs_f64());
    let times = [(full.client, small.client), (full.server, small.server)];
    times.map(|(full, small)| {
        let (full, small) = (full.as_secs_f64(), small.as_secs_f64());
        Run {
            full,
            small,
            per_gib: (full - small) / bytes * f64::from(1 << 30),
            rate,
        }
    })
}

/// The program under test: what the option names, or the example, built now.
fn ours(given: Option<&OsStr>, bench: &Path, example_name: &str) -> Result<Program, String> {
    let program = |path| Program::Example {
        path,
        arguments: &[],
    };
    match given {
        Some(text) if text == "openssh" => Ok(Program::OpenSsh),
        Some(path) => {
            let path =
                fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(program(path))
        }
        None => example(bench, "ssh-blocking", example_name).map(program),
    }
}

/// Builds the examples of a package and says where one is.
///
/// # Errors
///
/// A line for the user when that fails.
pub(crate) fn example(bench: &Path, package: &str, name: &str) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "-p", package, "--examples"]);
    output(build.current_dir(env!("CARGO_MANIFEST_DIR")))?;
    // This program is TARGET/release/bench.
    let release = bench.parent().unwrap_or(bench);
    let path = release.join("examples").join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} was not built", path.display()))
    }
}

/// The CPUs that this process may use, as the kernel lists them.
fn allowed_cpus() -> Result<String, String> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status: {error}"))?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(list.unwrap_or_default().trim().to_owned())
}

/// The CPU that was asked for, or the last one that this process may use.
pub(crate) fn choose_cpu(asked: Option<usize>) -> Result<usize, String> {
    let list = allowed_cpus()?;
    let mut allowed = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            allowed.extend(first..=last);
        }
    }
    match asked {
        Some(cpu) if !allowed.contains(&cpu) => {
            Err(format!("--cpu {cpu}: this process may use {list}"))
        }
        Some(cpu) => Ok(cpu),
        None => allowed
            .last()
            .copied()
            .ok_or_else(|| "no CPU to pin to".into()),
    }
}
