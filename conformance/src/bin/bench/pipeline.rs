//! One transfer: the processes of a row, from their start to the moment at which their CPU time is read.
//!
//! ```text
//! upload    source | client ── loopback ── server | sink
//! download  sink or /dev/null | client ── loopback ── server | source
//! ```
//!
//! The floor stands where client and server do: `seal` on the sending side, `open` on the receiving one. Everything runs
//! on one CPU, so that what a process costs does not depend on how its neighbours were scheduled. A 64 KiB pipe joins a
//! program with its command or feeder; `source` and `sink` are never counted.
//!
//! A server of one thread has its commands within: there is no pipe, and its time is read once the client has ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::peers::{KeyKind, KeyPair, Version};

use crate::cpu::{self, Group};
use crate::floor;
use crate::process::{Process, pinned};
use crate::programs::Program;

/// For a server to listen, a client to log in, a program to end.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(20);
/// Slower transfers than this are given up.
const LEAST_BYTES_PER_SECOND: u64 = 4 << 20;

/// Where the data goes, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Download,
    Upload,
}

/// What a client writes downloads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// `/dev/null`: nothing dilutes the cost of the SSH implementation.
    Null,
    /// A pipe to `sink`.
    Pipe,
}

/// What both ends have used at the end of a transfer, since they were started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: Duration,
    pub(crate) server: Duration,
    /// From the start of the client to the arrival of the last byte.
    pub(crate) elapsed: Duration,
    /// The most memory that the client had in RAM at a time, and a process of the server, in KiB; 0 where nobody looked.
    pub(crate) client_peak: u64,
    pub(crate) server_peak: u64,
}

/// What is the same in all transfers.
pub(crate) struct Place {
    /// The CPU that everything runs on, or a list of them as `taskset` takes it.
    pub(crate) cpu: String,
    /// The round trip between client and server, where it is not the loopback's.
    pub(crate) delay: Option<Duration>,
    pub(crate) stdout: Stdout,
    pub(crate) version: Version,
    /// This program.
    bench: PathBuf,
    /// What the clients log in with.
    pub(crate) user_key: KeyPair,
    /// The servers' key. OpenSSH's makes its own.
    pub(crate) host_key: KeyPair,
    pub(crate) authorized_keys: PathBuf,
}

impl Place {
    /// Keys for all transfers, in `folder`.
    ///
    /// # Errors
    ///
    /// A line for the user when they cannot be written.
    pub(crate) fn new(
        cpu: String,
        stdout: Stdout,
        version: Version,
        bench: &Path,
        folder: &Path,
    ) -> Result<Self, String> {
        let key = |name| KeyPair::generate(version, KeyKind::Ed25519, &folder.join(name), "");
        let place = Self {
            cpu,
            delay: None,
            stdout,
            version,
            bench: bench.to_owned(),
            user_key: key("user_key"),
            host_key: key("host_key"),
            authorized_keys: folder.join("authorized_keys"),
        };
        fs::write(
            &place.authorized_keys,
            format!("{}\n", place.user_key.public),
        )
        .map_err(|error| format!("{}: {error}", place.authorized_keys.display()))?;
        Ok(place)
    }

    /// One transfer through SSH.
    ///
    /// # Errors
    ///
    /// A line for the user when it fails or is too slow.
    pub(crate) fn ssh(
        &self,
        client: &Program,
        server: &Program,
        direction: Direction,
        cipher: &str,
        size: u64,
    ) -> Result<Ends, String> {
        let server = self.start_server(server)?;
        let part = match direction {
            Direction::Download => "__source",
            Direction::Upload => "__sink",
        };
        let remote = format!("exec '{}' {part} {size}", self.bench.display());
        // OpenSSH's client needs the files of `_files` as long as it runs.
        let (mut command, _files) = self.client_command(client, &server, cipher, &remote)?;
        command.stderr(Stdio::piped());
        let start = Instant::now();
        // `far` is the end of the pipe to which the client's is joined; dropping `open` ends the session.
        let (mut client, mut far, open);
        match direction {
            Direction::Download => {
                far = (self.stdout == Stdout::Pipe)
                    .then(|| self.start_sink(size))
                    .transpose()?;
                let stdout = far
                    .as_mut()
                    .and_then(Process::take_stdin)
                    .map_or_else(Stdio::null, Stdio::from);
                command.stdin(Stdio::piped()).stdout(stdout);
                client = Process::start("client", command, false)?;
                open = client.take_stdin();
            }
            Direction::Upload => {
                let mut source = self.start_source(size)?;
                let stdin = source.take_stdout().map_or_else(Stdio::null, Stdio::from);
                command.stdin(stdin).stdout(Stdio::null());
                client = Process::start("client", command, false)?;
                open = source.take_stdin();
                far = Some(source);
            }
        }
        let limit = limit(size);
        match (direction, &mut far) {
            (Direction::Download, Some(sink)) => sink.wait_for(floor::MOVED, limit)?,
            (Direction::Download, None) => {
                // The command's word comes by stderr, and may overtake what its stdout still holds.
                let word = client.wait_for(floor::MOVED, limit)?;
                cpu::wait_written(client.id(), size, STEP_LIMIT)?;
                word
            }
            (Direction::Upload, _) => client.wait_for(floor::MOVED, limit)?,
        };
        let elapsed = start.elapsed();
        let groups = [Group::one(client.id()), server.group];
        let times = cpu::at_rest(&groups, STEP_LIMIT)?;
        let [client_peak, server_peak] = [groups[0].peak(), groups[1].peak()];
        drop(open);
        client.finish(STEP_LIMIT)?;
        far.map_or(Ok(()), |far| far.finish(STEP_LIMIT))?;
        Ok(Ends {
            client: times[0],
            server: times[1],
            elapsed,
            client_peak,
            server_peak,
        })
    }

    /// One transfer whose command runs within the server, whose time alone is told.
    ///
    /// # Errors
    ///
    /// A line for the user when it fails or is too slow.
    pub(crate) fn built_in(
        &self,
        client: &Program,
        server: &Program,
        direction: Direction,
        cipher: &str,
        size: u64,
    ) -> Result<Ends, String> {
        let server = self.start_server(server)?;
        let remote = match direction {
            Direction::Download => format!("source {size}"),
            Direction::Upload => "sink".to_owned(),
        };
        let (mut command, _files) = self.client_command(client, &server, cipher, &remote)?;
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Instant::now();
        let source = match direction {
            Direction::Download => {
                command.stdin(Stdio::piped());
                None
            }
            Direction::Upload => {
                let mut source = self.start_source(size)?;
                let stdin = source.take_stdout().map_or_else(Stdio::null, Stdio::from);
                command.stdin(stdin);
                Some(source)
            }
        };
        let mut client = Process::start("client", command, false)?;
        drop(client.take_stdin());
        if let Some(mut source) = source {
            source.wait_for(floor::MOVED, limit(size))?;
            // The end of its output is what the command waits for.
            drop(source.take_stdin());
            source.finish(STEP_LIMIT)?;
        }
        let client_peak = client.finish_and_tell_peak(limit(size))?;
        let elapsed = start.elapsed();
        let server_peak = server.group.peak();
        let times = cpu::at_rest(&[server.group], STEP_LIMIT)?;
        Ok(Ends {
            client: Duration::ZERO,
            server: times[0],
            elapsed,
            client_peak,
            server_peak,
        })
    }

    /// One transfer through the floor, with so many packets per write. With `in_memory` the server's end has no pipe:
    /// it makes the data, or drops it.
    ///
    /// # Errors
    ///
    /// A line for the user when it fails.
    pub(crate) fn floor(
        &self,
        direction: Direction,
        cipher: &str,
        size: u64,
        batch: usize,
        in_memory: bool,
    ) -> Result<Ends, String> {
        let null = match direction {
            Direction::Download => self.stdout == Stdout::Null,
            Direction::Upload => in_memory,
        };
        let mut sink = (!null).then(|| self.start_sink(size)).transpose()?;
        let stdout = sink
            .as_mut()
            .and_then(Process::take_stdin)
            .map_or_else(Stdio::null, Stdio::from);
        let mut command = self.part("__open");
        command
            .arg(cipher)
            .arg(size.to_string())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped());
        let mut receiver = Process::start("the floor's receiver", command, false)?;
        let address = receiver.wait_for(floor::LISTENING, STEP_LIMIT)?;

        let start = Instant::now();
        let mut command = self.part("__seal");
        command
            .args([cipher, &address, &batch.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut source = None;
        if in_memory && direction == Direction::Download {
            command.arg(size.to_string()).stdin(Stdio::piped());
        } else {
            let feeder = source.insert(self.start_source(size)?);
            command.stdin(feeder.take_stdout().map_or_else(Stdio::null, Stdio::from));
        }
        let mut sender = Process::start("the floor's sender", command, false)?;
        sink.as_mut()
            .unwrap_or(&mut receiver)
            .wait_for(floor::MOVED, limit(size))?;
        let elapsed = start.elapsed();
        let times = cpu::at_rest(
            &[Group::one(sender.id()), Group::one(receiver.id())],
            STEP_LIMIT,
        )?;
        for process in [source.as_mut(), Some(&mut sender)].into_iter().flatten() {
            drop(process.take_stdin());
        }
        for process in [source, Some(sender), Some(receiver), sink]
            .into_iter()
            .flatten()
        {
            process.finish(STEP_LIMIT)?;
        }
        let (client, server) = match direction {
            Direction::Download => (times[1], times[0]),
            Direction::Upload => (times[0], times[1]),
        };
        Ok(Ends {
            client,
            server,
            elapsed,
            client_peak: 0,
            server_peak: 0,
        })
    }

    /// One of this program's hidden parts.
    pub(crate) fn part(&self, name: &str) -> Command {
        let mut command = pinned(&self.cpu, &Command::new(&self.bench));
        command.arg(name);
        command
    }

    fn start_source(&self, size: u64) -> Result<Process, String> {
        let mut command = self.part("__source");
        command
            .arg(size.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::start("source", command, false)
    }

    fn start_sink(&self, size: u64) -> Result<Process, String> {
        let mut command = self.part("__sink");
        command
            .arg(size.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Process::start("sink", command, false)
    }
}

fn limit(size: u64) -> Duration {
    STEP_LIMIT + Duration::from_secs(size / LEAST_BYTES_PER_SECOND)
}
