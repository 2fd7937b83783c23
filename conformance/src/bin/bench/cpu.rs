//! CPU time of running processes, from `/proc`.
//!
//! What is wanted is the time of the SSH processes alone. A server's commands are its children, and what the system
//! keeps about a process that has ended (its times in its parent's `cutime`, its `rusage`) no longer tells whose child
//! was what. So nothing is measured after the fact: a transfer ends in a pause in which every process is alive and
//! asleep, the processes are found and told apart by name, and each one's own time is read.
//!
//! A thread's own time is the first field of `/proc/PID/task/TID/schedstat`, in nanoseconds, exact while it sleeps.
//! Threads that have ended are missing there; `utime` and `stime` in `/proc/PID/stat` have them, each cut down to
//! 10 ms. Neither ever says too much, so the larger of the two is taken.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Between two looks at processes that should be asleep.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Looks in a row that must find every process asleep and no time used.
const CALM_LOOKS: u32 = 3;
/// `USER_HZ`: fixed at 100 by the Linux ABI on every architecture that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// The processes whose time is counted together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The process that was started.
    pub(crate) root: u32,
    /// Its descendants count as well when their names start with this. A server's other descendants are its commands.
    pub(crate) family: Option<String>,
}

/// What `/proc/PID/stat` says, as far as it is needed.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: u32,
    /// `utime` and `stime`: not those of children.
    own: Duration,
}

impl Stat {
    fn read(path: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// proc(5): `pid (comm) state ppid ..`; the name may hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (start, rest) = text.rsplit_once(')')?;
        let (_, name) = start.split_once('(')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
        // Fields 3, 4, 14 and 15 of the manual page, counted from 1; the third is the first here.
        Some(Self {
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: ticks(1)?,
            own: TICK * (ticks(11)? + ticks(12)?),
        })
    }
}

/// One look at a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    cpu: Duration,
    asleep: bool,
    processes: usize,
}

impl Group {
    /// Only the process itself.
    pub(crate) fn one(root: u32) -> Self {
        Self { root, family: None }
    }

    fn members(&self) -> Vec<u32> {
        let Some(family) = &self.family else {
            return vec![self.root];
        };
        let mut all = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok());
            if let Some(pid) = pid
                && let Some(stat) = Stat::read(&format!("/proc/{pid}/stat"))
            {
                all.insert(pid, stat);
            }
        }
        let descends = |mut pid: u32| loop {
            if pid == self.root {
                return true;
            }
            // Process ids rise to a maximum and start again, so a parent's may be the larger one; 0 ends every line.
            let Some(stat) = all.get(&pid) else {
                return false;
            };
            pid = stat.parent;
        };
        let counted = |pid: u32, stat: &Stat| {
            pid == self.root || (stat.name.starts_with(family.as_str()) && descends(pid))
        };
        all.iter()
            .filter(|&(&pid, stat)| counted(pid, stat))
            .map(|(&pid, _)| pid)
            .collect()
    }

    /// The most memory that one of its processes had in RAM so far, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        self.members()
            .into_iter()
            .filter_map(peak)
            .max()
            .unwrap_or_default()
    }

    fn look(&self) -> Look {
        let mut look = Look {
            asleep: true,
            ..Look::default()
        };
        for pid in self.members() {
            let mut threads = Duration::ZERO;
            for task in fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let path = task.path();
                threads += schedstat(&path.join("schedstat").to_string_lossy()).unwrap_or_default();
                let stat = Stat::read(&path.join("stat").to_string_lossy());
                look.asleep &= stat.is_none_or(|stat| stat.state != 'R');
            }
            let whole = Stat::read(&format!("/proc/{pid}/stat"))
                .map(|stat| stat.own)
                .unwrap_or_default();
            look.cpu += threads.max(whole);
            look.processes += 1;
        }
        look
    }
}

/// What the processes have used that a process started, or that those started, and that have ended.
///
/// # Errors
///
/// A line for the user when the process has ended.
pub(crate) fn of_children(pid: u32) -> Result<Duration, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(|error| format!("/proc/{pid}/stat: {error}"))?;
    let fields = text.rsplit_once(')').map(|(_, rest)| rest);
    let ticks: Option<Vec<u32>> = fields.map(|rest| {
        let fields = rest.split_ascii_whitespace();
        // Fields 16 and 17 of the manual page, counted from 1; the third is the first here.
        fields
            .skip(13)
            .take(2)
            .filter_map(|field| field.parse().ok())
            .collect()
    });
    match ticks.as_deref() {
        Some([user, system]) => Ok(TICK * (user + system)),
        _ => Err(format!("/proc/{pid}/stat says nothing of children")),
    }
}

/// How much memory a process had in RAM at the most so far, in KiB. `None` when it has ended.
pub(crate) fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn schedstat(path: &str) -> Option<Duration> {
    let text = fs::read_to_string(path).ok()?;
    text.split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// Waits until all groups are asleep, then says how much time each has used since it was started.
///
/// # Errors
///
/// A line for the user when they do not come to rest before `limit`, or when a process has ended.
pub(crate) fn at_rest(groups: &[Group], limit: Duration) -> Result<Vec<Duration>, String> {
    let deadline = Instant::now() + limit;
    let mut last = Vec::new();
    let mut calm = 0;
    loop {
        let looks: Vec<Look> = groups.iter().map(Group::look).collect();
        calm = if looks == last && looks.iter().all(|look| look.asleep) {
            calm + 1
        } else {
            0
        };
        if calm == CALM_LOOKS {
            if looks.iter().any(|look| look.cpu.is_zero()) {
                return Err("a process under test ended before it could be measured".into());
            }
            return Ok(looks.into_iter().map(|look| look.cpu).collect());
        }
        if Instant::now() > deadline {
            return Err("the processes under test did not come to rest after the transfer".into());
        }
        last = looks;
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until a process has written `size` bytes to files, pipes and sockets together, by its own count.
///
/// # Errors
///
/// A line for the user when that does not happen before `limit`.
pub(crate) fn wait_written(pid: u32, size: u64, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let text = fs::read_to_string(format!("/proc/{pid}/io"))
            .map_err(|error| format!("/proc/{pid}/io: {error}"))?;
        let written = text
            .lines()
            .find_map(|line| line.strip_prefix("wchar: ")?.parse::<u64>().ok());
        let written =
            written.ok_or_else(|| format!("/proc/{pid}/io does not count what was written"))?;
        if written >= size {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the client wrote {written} bytes of {size}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat =
            Stat::parse("7 (a) R (b) S 3 7 7 0 -1 4194304 1 2 3 4 150 50 9000 9000 20 0 1 0 100")
                .unwrap();
        let expected = Stat {
            name: "a) R (b".into(),
            state: 'S',
            parent: 3,
            own: Duration::from_secs(2),
        };
        assert_eq!(stat, expected);
    }

    /// A bash that burns time itself and in two children: another bash, which counts, and an sh, which does not. It also
    /// waits for an sh that has ended, whose time is then in its `cutime`.
    #[test]
    fn children_count_by_name_and_each_with_its_own_time_only() {
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let script = format!(
            "exec 3<&0; ({burn}; echo; read -r end <&3) & sh -c '{burn}; echo; read -r end <&3' & \
             sh -c '{burn}'; {burn}; echo; read -r end <&3"
        );
        let mut shell = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(shell.stdout.take().unwrap()).lines();
        assert_eq!(said.take(3).filter(Result::is_ok).count(), 3);
        let family = Some("bash".into());
        let groups = [
            Group::one(shell.id()),
            Group {
                root: shell.id(),
                family,
            },
        ];
        let times = at_rest(&groups, Duration::from_secs(20)).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let ratio = times[1].as_secs_f64() / times[0].as_secs_f64();
        assert!(
            times[0] > Duration::from_millis(50) && (1.5..2.5).contains(&ratio),
            "{times:?}"
        );
    }

    #[test]
    fn a_process_that_has_ended_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(at_rest(&[Group::one(child.id())], Duration::from_secs(5)).is_err());
    }
}
