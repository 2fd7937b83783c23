//! A trace: the text of a recording, read.
//!
//! In: text. Out: seed, configuration and steps, or the line that is wrong and what is wrong with it. Nothing is larger
//! than the text that it came from.

use std::fmt;
use std::time::Duration;

use crate::secret::Secret;

use super::command::Command;
use super::config::Configuration;
use super::text::{Bytes, Fields, Problem, base64, put, put_base64};

/// How a trace begins.
pub(super) const FIRST_LINES: &str = "\
ssh-proto trace 1
# THIS FILE HOLDS SECRETS. All keys of the session follow from the seed, so who has it reads everything that was sent;
# passwords and answers stand here as they were typed. Of private keys it holds signatures and the public halves.
";
/// The version of the format.
const FIRST_LINE: &str = "ssh-proto trace 1";
/// A draw that could not be made.
pub(super) const FAILED_DRAW: &str = "  !-\n";
/// The last line of a whole recording.
pub(super) const END: &str = "end";
/// The last line of a recording whose text was not taken in time.
pub(super) const STOPPED: &str = "stopped";
/// So many bytes stand in one line of base64.
const LINE_BYTES: usize = 72;

/// What the bytes below a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Its own: from the peer, or from the caller.
    Data,
    /// What the cryptographic library drew.
    Draw,
    /// What the connection had to say.
    Output,
}

impl Mark {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Data => "  < ",
            Self::Draw => "  ! ",
            Self::Output => "  > ",
        }
    }

    /// The prefix of a line that goes on with what the line above began.
    const fn more(self) -> &'static str {
        match self {
            Self::Draw => "  !+ ",
            Self::Data | Self::Output => self.prefix(),
        }
    }
}

/// Writes bytes below a command.
pub(super) fn put_bytes(text: &mut String, mark: Mark, bytes: &[u8]) {
    let mut prefix = mark.prefix();
    let first = bytes.get(..LINE_BYTES.min(bytes.len())).unwrap_or_default();
    for line in std::iter::once(first).chain(bytes.chunks(LINE_BYTES).skip(1)) {
        text.push_str(prefix);
        put_base64(text, line);
        text.push('\n');
        prefix = mark.more();
    }
}

/// A recording of one side of a session.
///
/// **It holds secrets**: the seed, from which all keys of the session follow, and passwords as they were typed. It does
/// not hold private keys: of these it has the signatures that were made and the public halves.
///
/// Its text can be read, cut and changed by hand. The [module](super) shows the format.
#[derive(Clone)]
pub struct Trace {
    seed: Secret,
    pub(super) config: Configuration,
    pub(super) steps: Vec<Step>,
    end: End,
}

/// How a trace ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Stopped,
    /// The rest is missing.
    Cut,
}

/// One step of a trace: a command, and what came of it.
#[derive(Clone)]
pub struct Step {
    line: usize,
    pub(super) command: Command,
    pub(super) data: Vec<u8>,
    pub(super) draws: Vec<Option<Vec<u8>>>,
    pub(super) output: Vec<u8>,
}

impl Step {
    /// Where it stands in the text; the first line is 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The command as the text has it, without the bytes below it. A password is part of it.
    pub fn command(&self) -> String {
        let mut line = String::new();
        self.command.write(&mut line);
        line
    }

    /// The time that the connection was told, since it was made. Not every command tells one.
    pub const fn at(&self) -> Option<Duration> {
        self.command.at()
    }

    /// What the peer sent, or the caller wrote.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes that the connection had to send because of the step.
    pub fn output(&self) -> &[u8] {
        &self.output
    }
}

impl Trace {
    /// Reads the text of a recording.
    ///
    /// # Errors
    /// The first line that cannot be read. A text that just ends is no error, since recordings are written as the
    /// session goes on: [`is_whole`](Self::is_whole) tells.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut lines = text
            .lines()
            .zip(1_usize..)
            .filter(|(line, _)| !line.starts_with('#') && !line.is_empty());
        let mut last = 0;
        let mut head = |wanted: &str| {
            let (line, at) = lines.next().ok_or(TraceError {
                line: 0,
                problem: "it ends before the first step",
            })?;
            last = at;
            let rest = line.strip_prefix(wanted);
            rest.map(|rest| (rest, at)).ok_or(TraceError {
                line: at,
                problem: "not how a trace begins",
            })
        };
        let fault = |line: usize| move |problem: Problem| TraceError { line, problem };
        let (rest, at) = head(FIRST_LINE)?;
        Fields::new(rest).finish().map_err(fault(at))?;
        let (rest, at) = head("seed")?;
        let seed = read_seed(rest).map_err(fault(at))?;
        let (rest, at) = head("role ")?;
        let config = Configuration::of_role(rest.trim_end()).map_err(fault(at))?;
        let mut trace = Self {
            seed,
            config,
            steps: Vec::new(),
            end: End::Cut,
        };
        for (line, at) in lines {
            last = at;
            trace.read(line, at).map_err(fault(at))?;
        }
        if trace.steps.is_empty() {
            return Err(fault(last)("it ends before the first step"));
        }
        Ok(trace)
    }

    fn read(&mut self, line: &str, at: usize) -> Result<(), Problem> {
        if self.end != End::Cut {
            return Err("behind the end");
        }
        if let Some(bytes) = line.strip_prefix("  ") {
            let step = self.steps.last_mut().ok_or("bytes of no command")?;
            return step.read(bytes);
        }
        match line {
            _ if self.steps.is_empty() && line != "new" => return self.config.read(line),
            "new" if !self.steps.is_empty() => return Err("a second connection"),
            END => self.end = End::Whole,
            STOPPED => self.end = End::Stopped,
            _ => self.steps.push(Step {
                line: at,
                command: Command::read(line)?,
                data: Vec::new(),
                draws: Vec::new(),
                output: Vec::new(),
            }),
        }
        Ok(())
    }

    /// Whether the recording went on to the end of the connection.
    pub fn is_whole(&self) -> bool {
        self.end == End::Whole
    }

    /// Whether it is a client's; otherwise it is a server's.
    pub const fn is_client(&self) -> bool {
        matches!(self.config, Configuration::Client(_))
    }

    /// The steps. The first makes the connection.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What the peer sent in a step, or the caller wrote, to be changed: what would the connection do with something
    /// else? The output that was recorded stays what it was. `None`: there is no such step, or it has no data.
    pub fn data_mut(&mut self, step: usize) -> Option<&mut Vec<u8>> {
        let step = self.steps.get_mut(step)?;
        step.command.has_data().then_some(&mut step.data)
    }

    pub(super) fn seed(&self) -> [u8; 32] {
        self.seed.expose().try_into().unwrap_or_default()
    }
}

fn read_seed(rest: &str) -> Result<Secret, Problem> {
    let mut fields = Fields::new(rest);
    let Bytes(seed) = fields.take()?;
    fields.finish()?;
    if seed.len() == 32 {
        Ok(Secret::new(seed))
    } else {
        Err("a seed has 32 bytes")
    }
}

impl Step {
    /// Reads a line of bytes below the command.
    fn read(&mut self, line: &str) -> Result<(), Problem> {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let bytes = || base64(rest.trim_end());
        match mark {
            "<" if self.command.has_data() => self.data.extend(bytes()?),
            "<" => return Err("the command has no data"),
            ">" => self.output.extend(bytes()?),
            "!" => self.draws.push(Some(bytes()?)),
            "!+" => match self.draws.last_mut() {
                Some(Some(draw)) => draw.extend(bytes()?),
                _ => return Err("the end of no draw"),
            },
            "!-" if rest.is_empty() => self.draws.push(None),
            _ => return Err("not a mark of bytes"),
        }
        Ok(())
    }
}

/// The text of the recording.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = FIRST_LINES.to_owned();
        text.push_str("seed");
        put(&mut text, &Bytes::from(self.seed.expose()));
        text.push('\n');
        self.config.write(&mut text);
        for step in &self.steps {
            step.command.write(&mut text);
            text.push('\n');
            if !step.data.is_empty() {
                put_bytes(&mut text, Mark::Data, &step.data);
            }
            for draw in &step.draws {
                match draw {
                    Some(draw) => put_bytes(&mut text, Mark::Draw, draw),
                    None => text.push_str(FAILED_DRAW),
                }
            }
            if !step.output.is_empty() {
                put_bytes(&mut text, Mark::Output, &step.output);
            }
            f.write_str(&text)?;
            text.clear();
        }
        match self.end {
            End::Whole => writeln!(f, "{END}"),
            End::Stopped => writeln!(f, "{STOPPED}"),
            End::Cut => Ok(()),
        }
    }
}

/// Nothing of what is in it.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("is_client", &self.is_client())
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}

/// Where it stands, and nothing of what is in it.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// A text that is no trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceError {
    line: usize,
    problem: Problem,
}

impl TraceError {
    /// The line that is wrong; the first is 1. 0 when the text is empty.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// What is wrong with it.
    pub const fn problem(&self) -> &'static str {
        self.problem
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the trace: {}", self.line, self.problem)
    }
}

impl std::error::Error for TraceError {}
