//! `bench bulk`: what moving a lot of data costs, row by row.
//!
//! Three transfers make the rows of one direction and cipher: our client with OpenSSH's server, OpenSSH's client with our
//! server, OpenSSH with itself. The third is what both of ours are compared with, since each of ours has the same peer in
//! it. The floor's transfer has a sending and a receiving side, so it serves both rows as well. Each round makes all four
//! in turn, each one first with 1 KiB, whose figures are subtracted.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Options;
use crate::json::Json;
use crate::pipeline::{Direction, Ends, Place, Program, Stdout};
use crate::process::output;
use crate::report::{Row, Run, Series, table};

const CIPHERS: [&str; 3] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];
const SMALL: u64 = 1024;

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
    let bench =
        std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let client = ours(options.our_ssh.as_deref(), &bench, "ssh")?;
    let server = ours(options.our_sshd.as_deref(), &bench, "sshd")?;
    // Fetches the peers unless the cache has them.
    output(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("test")).arg("--fetch-only"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let cpu = choose_cpu(options.cpu)?;
    let place = Place::new(cpu, options.stdout, options.openssh, &bench, folder.path())?;
    let mut rows = Vec::new();
    for direction in [Direction::Download, Direction::Upload] {
        for cipher in CIPHERS {
            if name(direction, cipher).contains(&options.only) {
                rows.extend(measure(
                    &place,
                    options,
                    [&client, &server],
                    direction,
                    cipher,
                )?);
            }
        }
    }
    if rows.is_empty() {
        return Err(format!(
            "--only {}: no transfer has that in its name",
            options.only
        ));
    }
    rows.sort_by_key(|row: &Row| !row.name.starts_with("client"));
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
    if let Some(path) = &options.json {
        let json = Json::Object(vec![
            ("benchmark", Json::text("bulk")),
            ("size", Json::Number(options.size as f64)),
            ("runs", Json::Number(options.runs as f64)),
            ("openssh", Json::text(options.openssh.to_string())),
            ("downloads_to", Json::text(stdout)),
            ("passed", Json::Bool(missed == 0)),
            ("rows", Json::List(rows.iter().map(Row::json).collect())),
        ]);
        fs::write(path, format!("{json}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
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

/// The two rows of one direction and cipher.
fn measure(
    place: &Place,
    options: &Options,
    [client, server]: [&Program; 2],
    direction: Direction,
    cipher: &'static str,
) -> Result<[Row; 2], String> {
    let (client_row, server_row) = match direction {
        Direction::Download => ("client download", "server sends"),
        Direction::Upload => ("client upload", "server receives"),
    };
    let row = |name| Row {
        name,
        cipher,
        near_floor: cipher.starts_with("aes"),
        ours: Series::default(),
        theirs: Series::default(),
        floor: Series::default(),
    };
    let mut rows = [row(client_row), row(server_row)];
    let theirs = &Program::OpenSsh;
    for round in 1..=options.runs {
        eprintln!(
            "{}: run {round} of {}",
            name(direction, cipher),
            options.runs
        );
        let [at_client, at_server] = &mut rows;
        let both = |transfer: &dyn Fn(u64) -> Result<Ends, String>| -> Result<[Run; 2], String> {
            let small = transfer(SMALL)?;
            Ok(runs(small, transfer(options.size)?, options.size))
        };
        let ours = both(&|size| place.ssh(client, theirs, direction, cipher, size))?;
        at_client.ours.0.push(ours[0]);
        let ours = both(&|size| place.ssh(theirs, server, direction, cipher, size))?;
        at_server.ours.0.push(ours[1]);
        let openssh = both(&|size| place.ssh(theirs, theirs, direction, cipher, size))?;
        at_client.theirs.0.push(openssh[0]);
        at_server.theirs.0.push(openssh[1]);
        let floor = both(&|size| place.floor(direction, cipher, size))?;
        at_client.floor.0.push(floor[0]);
        at_server.floor.0.push(floor[1]);
    }
    Ok(rows)
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
fn ours(given: Option<&OsStr>, bench: &Path, example: &str) -> Result<Program, String> {
    match given {
        Some(text) if text == "openssh" => Ok(Program::OpenSsh),
        Some(path) => {
            let path =
                fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Program::Ours(path))
        }
        None => {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.args([
                "build",
                "--release",
                "--quiet",
                "-p",
                "ssh-blocking",
                "--examples",
            ]);
            output(build.current_dir(env!("CARGO_MANIFEST_DIR")))?;
            // This program is TARGET/release/bench.
            let release = bench.parent().unwrap_or(bench);
            let path = release.join("examples").join(example);
            if path.is_file() {
                Ok(Program::Ours(path))
            } else {
                Err(format!("{} was not built", path.display()))
            }
        }
    }
}

/// The CPU that was asked for, or the last one that this process may use.
fn choose_cpu(asked: Option<usize>) -> Result<usize, String> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status: {error}"))?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default()
        .trim();
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
