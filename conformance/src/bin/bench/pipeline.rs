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

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cpu::{self, Group};
use crate::floor;
use crate::openssh::OpenSsh;
use crate::process::{Process, pinned};

/// For a server to listen, a client to log in, a program to end.
const STEP_LIMIT: Duration = Duration::from_secs(20);
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

/// An SSH client or server.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    OpenSsh,
    Ours(PathBuf),
}

/// What both ends have used at the end of a transfer, since they were started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: Duration,
    pub(crate) server: Duration,
    /// From the start of the client to the arrival of the last byte.
    pub(crate) elapsed: Duration,
}

/// What is the same in all transfers.
pub(crate) struct Place {
    pub(crate) cpu: usize,
    pub(crate) stdout: Stdout,
    pub(crate) openssh: OpenSsh,
    /// This program.
    pub(crate) bench: PathBuf,
}

/// A server that listens.
struct Listening {
    process: Process,
    family: String,
    port: String,
}

impl Place {
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
        let mut command = self.client_command(client, &server.port, cipher);
        let part = match direction {
            Direction::Download => "__source",
            Direction::Upload => "__sink",
        };
        command
            .arg(format!("exec '{}' {part} {size}", self.bench.display()))
            .stderr(Stdio::piped());
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
        let server_group = Group {
            root: server.process.id(),
            family: Some(server.family),
        };
        let times = cpu::at_rest(&[Group::one(client.id()), server_group], STEP_LIMIT)?;
        drop(open);
        client.finish(STEP_LIMIT)?;
        far.map_or(Ok(()), |far| far.finish(STEP_LIMIT))?;
        Ok(Ends {
            client: times[0],
            server: times[1],
            elapsed,
        })
    }

    /// One transfer through the floor.
    ///
    /// # Errors
    ///
    /// A line for the user when it fails.
    pub(crate) fn floor(
        &self,
        direction: Direction,
        cipher: &str,
        size: u64,
    ) -> Result<Ends, String> {
        let null = direction == Direction::Download && self.stdout == Stdout::Null;
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
        let mut source = self.start_source(size)?;
        let stdin = source.take_stdout().map_or_else(Stdio::null, Stdio::from);
        let mut command = self.part("__seal");
        command
            .arg(cipher)
            .arg(address)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let sender = Process::start("the floor's sender", command, false)?;
        sink.as_mut()
            .unwrap_or(&mut receiver)
            .wait_for(floor::MOVED, limit(size))?;
        let elapsed = start.elapsed();
        let times = cpu::at_rest(
            &[Group::one(sender.id()), Group::one(receiver.id())],
            STEP_LIMIT,
        )?;
        drop(source.take_stdin());
        for process in [Some(source), Some(sender), Some(receiver), sink]
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
        })
    }

    /// One of this program's hidden parts.
    fn part(&self, name: &str) -> Command {
        let mut command = pinned(self.cpu, &self.bench);
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

    fn client_command(&self, program: &Program, port: &str, cipher: &str) -> Command {
        let mut command = match program {
            Program::OpenSsh => self.openssh.client_command(self.cpu),
            Program::Ours(path) => {
                let mut command = pinned(self.cpu, path);
                command.arg("-o").arg(format!(
                    "HostKeyFingerprint={}",
                    self.openssh.host_fingerprint
                ));
                command
            }
        };
        command.arg("-i").arg(self.openssh.file("user_key")).args([
            "-T",
            "-p",
            port,
            "-l",
            &self.openssh.user,
        ]);
        command
            .arg("-o")
            .arg(format!("Ciphers={cipher}"))
            .arg("127.0.0.1");
        command
    }

    /// A fresh server for each transfer: its time then starts from nothing.
    fn start_server(&self, program: &Program) -> Result<Listening, String> {
        let (mut command, word, family) = match program {
            Program::OpenSsh => (
                self.openssh.server_command(self.cpu)?,
                " port ",
                "sshd".to_owned(),
            ),
            Program::Ours(path) => {
                let mut command = pinned(self.cpu, path);
                command
                    .args(["--port", "0", "--host-key"])
                    .arg(self.openssh.file("host_key"));
                command
                    .arg("--authorized-keys")
                    .arg(self.openssh.file("authorized_keys"));
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                (
                    command,
                    "listening on 127.0.0.1:",
                    name.chars().take(15).collect(),
                )
            }
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::start("server", command, true)?;
        let rest = process.wait_for(word, STEP_LIMIT)?;
        let port = rest.trim_end_matches('.').to_owned();
        Ok(Listening {
            process,
            family,
            port,
        })
    }
}

fn limit(size: u64) -> Duration {
    STEP_LIMIT + Duration::from_secs(size / LEAST_BYTES_PER_SECOND)
}
