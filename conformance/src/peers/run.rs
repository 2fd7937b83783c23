//! Child processes that end in time, and the processes below a process.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How often a child is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(2);

/// How long the pipes may stay open once the child has ended: a grandchild may hold them.
const DRAIN: Duration = Duration::from_secs(5);

/// What a process left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended; killed by signal 9 if `timed_out`.
    pub status: ExitStatus,
    /// All that it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// All that it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// It was killed because its time was up.
    pub timed_out: bool,
    /// From start to end.
    pub elapsed: Duration,
}

impl Finished {
    /// The exit status, or nothing if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it, or nothing if it exited.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Its standard output as text.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error as text.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Itself, if it exited with `code` in time.
    ///
    /// # Panics
    /// Otherwise, with its standard error.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            !self.timed_out && self.code() == Some(code),
            "expected exit status {code}, got {}{} after {:?}\nstdout: {} bytes\nstderr:\n{}",
            self.status,
            if self.timed_out { " (timed out)" } else { "" },
            self.elapsed,
            self.stdout.len(),
            self.stderr_text()
        );
        self
    }
}

/// Runs `command` with `input` on its standard input (then end of file) and gathers both outputs as they come, so that no pipe
/// fills up. When `timeout` is over, the process and its process group are killed.
///
/// # Panics
/// If it cannot be started.
#[must_use]
#[track_caller]
pub fn run_with_timeout(
    command: Command,
    input: impl Into<Vec<u8>>,
    timeout: Duration,
) -> Finished {
    let input = input.into();
    run(command, timeout, move |mut stdin, _| {
        // A child that does not read all of its input is no failure of ours.
        let _ = stdin.write_all(&input);
    })
}

/// The same, where the input answers questions: each answer is a line that is written once its question has appeared on the standard
/// error, behind the question before it. So a program that asks on its standard streams gets one line at a time, as from a person.
#[must_use]
#[track_caller]
pub fn run_with_answers(command: Command, answers: &[(&str, &str)], timeout: Duration) -> Finished {
    let answers: Vec<_> = answers
        .iter()
        .map(|&(question, answer)| (question.to_owned(), format!("{answer}\n")))
        .collect();
    run(command, timeout, move |mut stdin, said| {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        for (question, answer) in answers {
            loop {
                let text = String::from_utf8_lossy(&said()).into_owned();
                if let Some(at) = text.get(seen..).and_then(|new| new.find(&question)) {
                    seen += at + question.len();
                    break;
                }
                if Instant::now() >= deadline {
                    return;
                }
                thread::sleep(POLL);
            }
            if stdin.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Runs it with an input that `write` writes, which can see what was said on the standard error so far.
#[track_caller]
fn run(
    mut command: Command,
    timeout: Duration,
    write: impl FnOnce(ChildStdin, &dyn Fn() -> Vec<u8>) + Send + 'static,
) -> Finished {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = child.stdout.take().map(Gatherer::start);
    let stderr = child.stderr.take().map(Gatherer::start);
    if let Some(stdin) = child.stdin.take() {
        let said = stderr.as_ref().map(|stderr| Arc::clone(&stderr.bytes));
        thread::spawn(move || {
            write(stdin, &|| {
                let bytes = said.as_ref().map(|said| lock(said).clone());
                bytes.unwrap_or_default()
            });
        });
    }

    let (status, timed_out) = match wait(&mut child, start + timeout) {
        Some(status) => (status, false),
        None => {
            signal("KILL", &[-i64::from(child.id())]);
            // The group may be gone already when the child has left it.
            let _ = child.kill();
            let status = child
                .wait()
                .unwrap_or_else(|error| panic!("cannot wait for {command:?}: {error}"));
            (status, true)
        }
    };
    let elapsed = start.elapsed();
    let until = Instant::now() + DRAIN;
    Finished {
        status,
        stdout: stdout
            .map(|gatherer| gatherer.finish(until))
            .unwrap_or_default(),
        stderr: stderr
            .map(|gatherer| gatherer.finish(until))
            .unwrap_or_default(),
        timed_out,
        elapsed,
    }
}

/// The same command in a session of its own: it cannot open the terminal that the tests may run on, and asks on its standard streams.
pub(super) fn without_terminal(command: &Command) -> Command {
    let mut detached = Command::new("setsid");
    detached
        .arg("--wait")
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            detached.env(name, value);
        }
    }
    detached
}

/// A process that is ended with this value.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it, with nothing to read and nobody who reads what it says.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    /// One that runs.
    #[must_use]
    pub const fn of(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for `child` until `deadline`.
pub(super) fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() >= deadline => return None,
            Ok(None) => thread::sleep(POLL),
            Err(error) => panic!("cannot wait for process {}: {error}", child.id()),
        }
    }
}

/// Sends a signal, named without `SIG`, to the processes `targets`; a negative id is a process group. Ids that are gone are ignored.
///
/// # Panics
/// If there is no shell.
pub fn signal(name: &str, targets: &[i64]) {
    if targets.is_empty() {
        return;
    }
    // The shell's own `kill`: the standard library only knows SIGKILL, and only for direct children. One call for each id, since one
    // that is gone must not save the others.
    Command::new("/bin/sh")
        .args([
            "-c",
            r#"signal=$1; shift; for id; do kill -s "$signal" -- "$id"; done"#,
            "kill",
            name,
        ])
        .args(targets.iter().map(i64::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("cannot run /bin/sh: {error}"));
}

/// The ids of all processes below `pid`, parents before children.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // proc(5): "pid (comm) state ppid ..", and the command's name may hold anything.
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some((id, parent))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        parents.retain(|&(id, its_parent)| {
            let child = its_parent == parent;
            if child {
                found.push(id);
            }
            !child
        });
        next += 1;
    }
    found.remove(0);
    found
}

/// A thread that reads a pipe to its end.
struct Gatherer {
    bytes: Arc<Mutex<Vec<u8>>>,
    done: mpsc::Receiver<()>,
}

impl Gatherer {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (sender, done) = mpsc::channel();
        let shared = Arc::clone(&bytes);
        thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                lock(&shared).extend_from_slice(&chunk[..len]);
            }
            drop(sender);
        });
        Self { bytes, done }
    }

    /// What was read when the pipe ended, or at `until`.
    fn finish(self, until: Instant) -> Vec<u8> {
        // The thread never sends: either its end of the channel is dropped, or time is up.
        let _ = self
            .done
            .recv_timeout(until.saturating_duration_since(Instant::now()));
        std::mem::take(&mut *lock(&self.bytes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn input_and_both_outputs_pass_without_filling_a_pipe() {
        let input = vec![b'x'; 3 << 20];
        let finished = run_with_timeout(
            shell("tee /dev/stderr; exit 7"),
            input.clone(),
            Duration::from_secs(30),
        )
        .expect_code(7);
        assert_eq!(finished.stdout, input);
        assert_eq!(finished.stderr, input);
    }

    #[test]
    fn each_question_gets_its_answer_when_it_is_asked() {
        // `dd` takes what is there at once, so a line that came too early would be lost.
        let ask = "printf 'one? two? ' >&2; a=$(dd bs=99 count=1 2>&-); printf 'two? ' >&2; b=$(dd bs=99 count=1 2>&-); echo $a $b";
        let answers = [("one? ", "1"), ("two? two? ", "2")];
        let finished =
            run_with_answers(shell(ask), &answers, Duration::from_secs(30)).expect_code(0);
        assert_eq!(finished.stdout_text(), "1 2\n");
    }

    #[test]
    fn a_process_and_what_it_started_are_killed_when_time_is_up() {
        let finished = run_with_timeout(
            shell("sleep 60 & echo $!; wait"),
            Vec::new(),
            Duration::from_millis(300),
        );
        assert!(finished.timed_out);
        assert_eq!(finished.signal(), Some(9));
        assert!(finished.elapsed < Duration::from_secs(10));
        let sleeper: u32 = finished.stdout_text().trim().parse().unwrap();
        // An orphan that nobody has reaped yet is dead as well, and a killed process takes a moment to go.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(format!("/proc/{sleeper}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(
                Instant::now() < deadline,
                "process {sleeper} is still there"
            );
            thread::sleep(POLL);
        }
    }

    #[test]
    fn descendants_are_found_below_a_process_only() {
        let mut child = shell("sleep 60 & sleep 60 & wait")
            .process_group(0)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while descendants(child.id()).len() < 2 && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        let below = descendants(child.id());
        assert_eq!(below.len(), 2);
        assert!(descendants(std::process::id()).contains(&child.id()));
        assert!(descendants(below[0]).is_empty());
        signal("KILL", &[-i64::from(child.id())]);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
