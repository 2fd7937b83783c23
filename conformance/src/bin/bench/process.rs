//! Child processes: pinned to one CPU, watched line by line, ended when dropped.

use std::fmt::{Display, Write as _};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu;

/// Lines of a failed program's output that an error message quotes.
const QUOTED_LINES: usize = 8;

/// `command` on one CPU, or on a list of them, with its arguments and environment; its streams are still to be set up. `taskset` becomes the
/// program, so the child's process id is the program's.
pub(crate) fn pinned(cpu: impl Display, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned
        .arg("-c")
        .arg(cpu.to_string())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => pinned.env(name, value),
            None => pinned.env_remove(name),
        };
    }
    pinned
}

/// A child process whose output is read as lines.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Process {
    /// Starts `command`, whose streams the caller has set up, and watches its stderr if that is piped, and its stdout if
    /// asked to. The command is taken, since it holds ends of pipes that only the child must keep.
    ///
    /// # Errors
    ///
    /// A line for the user when the program cannot be started.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        watch_stdout: bool,
    ) -> Result<Self, String> {
        let mut child = command.spawn().map_err(|error| {
            format!(
                "{name}: cannot start {}: {error}",
                command.get_program().to_string_lossy()
            )
        })?;
        let (sender, lines) = channel();
        if let Some(stderr) = child.stderr.take() {
            watch(stderr, sender.clone());
        }
        if watch_stdout && let Some(stdout) = child.stdout.take() {
            watch(stdout, sender);
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
            said: Vec::new(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for a line that holds `text` and gives what follows it.
    ///
    /// # Errors
    ///
    /// A line for the user, with what the program said, when it ends or `limit` passes before.
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String, String> {
        let deadline = Instant::now() + limit;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    if let Some((_, rest)) = line.split_once(text) {
                        return Ok(rest.to_owned());
                    }
                    self.said.push(line);
                }
                Err(RecvTimeoutError::Timeout) => return Err(self.complain("took too long")),
                Err(RecvTimeoutError::Disconnected) => return Err(self.complain("ended too early")),
            }
        }
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    ///
    /// A line for the user, with what the program said, when it fails or `limit` passes before.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.complain(&failure(status))),
                Err(error) => return Err(self.complain(&error.to_string())),
            }
        }
        Err(self.complain("did not end"))
    }

    /// As [`finish`](Self::finish). Says how much memory the program had in RAM at the most, in KiB.
    ///
    /// # Errors
    ///
    /// As those of [`finish`](Self::finish).
    pub(crate) fn finish_and_tell_peak(self, limit: Duration) -> Result<u64, String> {
        let deadline = Instant::now() + limit;
        let mut last = 0;
        while let Some(peak) = cpu::peak(self.id())
            && Instant::now() < deadline
        {
            last = peak;
            thread::sleep(Duration::from_millis(2));
        }
        self.finish(deadline.saturating_duration_since(Instant::now()))?;
        Ok(last)
    }

    fn complain(&mut self, what: &str) -> String {
        self.said.extend(self.lines.try_iter());
        let mut message = format!("{}: {what}", self.name);
        for line in self.said.iter().rev().take(QUOTED_LINES).rev() {
            let _ = write!(message, "\n    {line}");
        }
        message
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(stream: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if sender.send(line.trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
}

fn failure(status: ExitStatus) -> String {
    status.code().map_or_else(
        || format!("ended by {status}"),
        |code| format!("failed with status {code}"),
    )
}

/// Runs a program to its end and gives its standard output.
///
/// # Errors
///
/// A line for the user when it cannot be started or fails.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{program}: {}: {}",
            failure(output.status),
            said.trim()
        ))
    }
}
