//! `bench bulk`: what moving a lot of data costs, row by row.
//!
//! Three transfers make the rows of one direction and cipher: our client with OpenSSH's server, OpenSSH's client with our
//! server, OpenSSH with itself. The third is what both of ours are compared with, since each of ours has the same peer in
//! it. Each round makes all of them and the floor's transfers in turn, each one first with 1 KiB, whose figures are
//! subtracted.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Options;
use crate::floor;
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
    let client = ours(options.our_ssh.as_deref(), &bench, "ssh")?;
    let server = ours(options.our_sshd.as_deref(), &bench, "sshd")?;

    // Fetches the peers unless the cache has them.
    output(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("test")).arg("--fetch-only"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let place = Place::new(cpu, options.stdout, options.openssh, &bench, folder.path())?;
    let mut rows = Vec::new();
    for (direction, cipher) in transfers {
        rows.extend(measure(
            &place,
            options,
            [&client, &server],
            direction,
            cipher,
        )?);
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
    let (sender, receiver) = match direction {
        Direction::Download => (SERVER, CLIENT),
        Direction::Upload => (CLIENT, SERVER),
    };
    let theirs = &Program::OpenSsh;
    let both = |transfer: &dyn Fn(u64) -> Result<Ends, String>| -> Result<[Run; 2], String> {
        let small = transfer(SMALL)?;
        Ok(runs(small, transfer(options.size)?, options.size))
    };
    let ssh = |client, server| both(&|size| place.ssh(client, server, direction, cipher, size));
    let floor = |batch| both(&|size| place.floor(direction, cipher, size, batch));
    for round in 1..=options.runs {
        eprintln!(
            "{}: run {round} of {}",
            name(direction, cipher),
            options.runs
        );
        rows[CLIENT].ours.0.push(ssh(client, theirs)?[CLIENT]);
        rows[SERVER].ours.0.push(ssh(theirs, server)?[SERVER]);
        let openssh = ssh(theirs, theirs)?;
        rows[CLIENT].theirs.0.push(openssh[CLIENT]);
        rows[SERVER].theirs.0.push(openssh[SERVER]);
        // How data arrives is not the receiver's choice: OpenSSH writes one packet at a time, so the floor of a receiver
        // is measured behind a sender that does the same. A sender writes as it likes.
        rows[sender].floor.0.push(floor(floor::BATCH)?[sender]);
        rows[receiver].floor.0.push(floor(1)?[receiver]);
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
fn ours(given: Option<&OsStr>, bench: &Path, example_name: &str) -> Result<Program, String> {
    match given {
        Some(text) if text == "openssh" => Ok(Program::OpenSsh),
        Some(path) => {
            let path =
                fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Program::Ours(path))
        }
        None => example(bench, "ssh-blocking", example_name).map(Program::Ours),
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

/// The CPU that was asked for, or the last one that this process may use.
pub(crate) fn choose_cpu(asked: Option<usize>) -> Result<usize, String> {
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
