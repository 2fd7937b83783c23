//! Plays a trace: a connection of the same seed and configuration is told the same things at the same times, and says
//! the same bytes, or where it first does not.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::connection::{Client, Server, Session};
use crate::crypto::drbg::{Drbg, Foreign, Seed};
use crate::error::Error;
use crate::kex::Negotiated;
use crate::log::{LogLevel, LogRecord};
use crate::secret::Secret;

use super::command::Command;
use super::config::Configuration;
use super::fields::{Name, Written};
use super::trace::{Step, Trace};

mod roles;

/// Plays a trace step by step.
pub struct Player<'t> {
    steps: std::slice::Iter<'t, Step>,
    side: Side,
    start: Instant,
    /// How many steps were played.
    count: usize,
    /// Bytes of output before the pending ones.
    before: u64,
    /// How much of the pending output was compared.
    known: usize,
    event: Option<String>,
}

/// The connection.
enum Side {
    Client(Client),
    Server(Server),
}

/// The same call on whichever connection it is.
macro_rules! either {
    ($side:expr, $connection:ident => $call:expr) => {
        match $side {
            Side::Client($connection) => $call,
            Side::Server($connection) => $call,
        }
    };
}

impl<'t> Player<'t> {
    /// Gets ready to play: nothing is played yet. Times are counted from `start`, which may be any.
    pub fn new(trace: &'t Trace, start: Instant) -> Self {
        Self::with_log(trace, start, LogLevel::Off, false)
    }

    /// As [`new`](Self::new), and the connection keeps log records for [`poll_log`](Self::poll_log), whatever it kept
    /// when it was recorded: with [`LogLevel::Packet`] every packet, in clear.
    pub fn with_log(trace: &'t Trace, start: Instant, level: LogLevel, hexdump: bool) -> Self {
        let mut config = trace.config.clone();
        let transport = config.transport();
        transport.log = level;
        transport.hexdump = hexdump;
        let mut rng = Drbg::new(Seed::new(trace.seed()));
        *rng.foreign_draws() = Foreign::Played {
            draws: trace.steps.first().map(draws).unwrap_or_default(),
            missed: 0,
        };
        let side = match config {
            Configuration::Client(config) => {
                Side::Client(Client::replayed(Arc::new(config), rng, start))
            }
            Configuration::Server(config) => {
                Side::Server(Server::replayed(Arc::new(config), rng, start))
            }
        };
        Self {
            steps: trace.steps.iter(),
            side,
            start,
            count: 0,
            before: 0,
            known: 0,
            event: None,
        }
    }

    /// Plays the next step and compares. `None` when there is none.
    ///
    /// # Errors
    /// What differs. What follows a difference is of no use: keys and tokens differ from there on.
    pub fn step(&mut self) -> Result<Option<&'t Step>, Divergence> {
        let Some(step) = self.steps.next() else {
            return Ok(None);
        };
        self.count = self.count.saturating_add(1);
        self.event = None;
        if self.count > 1 {
            self.play(step)?;
        }
        let (left, missed) = match either!(&mut self.side, c => c.foreign_draws()) {
            Foreign::Played { draws, missed } => (draws.len(), *missed),
            Foreign::Off | Foreign::Recorded(_) => (0, 0),
        };
        if missed > 0 {
            return Err(self.differs(step, Difference::DrawMissing));
        }
        self.compare(step)?;
        if left > 0 {
            return Err(self.differs(step, Difference::DrawUnused));
        }
        Ok(Some(step))
    }

    fn play(&mut self, step: &'t Step) -> Result<(), Divergence> {
        if let Foreign::Played { draws: left, .. } = either!(&mut self.side, c => c.foreign_draws())
        {
            *left = draws(step);
        }
        let now = match step.at() {
            None => self.start,
            Some(at) => match self.start.checked_add(at) {
                Some(now) => now,
                None => return Err(self.differs(step, Difference::Time)),
            },
        };
        match &step.command {
            Command::New {} => {}
            Command::OutputConsumed { len } => {
                let gone = (*len).min(self.known);
                self.known = self.known.saturating_sub(gone);
                self.before = self.before.saturating_add(to_u64(gone));
                either!(&mut self.side, c => c.consume_output(*len));
            }
            Command::OutputSwapped {} => {
                self.before = self.before.saturating_add(to_u64(self.known));
                self.known = 0;
                either!(&mut self.side, c => c.swap_output(&mut Vec::new()));
            }
            Command::Event { name } => {
                let event = match &mut self.side {
                    Side::Client(client) => described(client.poll_event()),
                    Side::Server(server) => described(server.poll_event()),
                };
                self.event(step, Some(name), event)?;
            }
            Command::ChannelEvent { id, name } => {
                let event = either!(&mut self.side, c => {
                    described(c.channel(*id).and_then(|mut channel| channel.poll_event()))
                });
                self.event(step, name.as_ref(), event)?;
            }
            Command::Write {
                id,
                stream,
                total,
                written,
            } => {
                let mut data = step.data.clone();
                data.resize(
                    data.len().max(super::record::offered(*total, data.len())),
                    0,
                );
                let result = either!(&mut self.side, c => {
                    let Some(mut channel) = c.channel(*id) else {
                        return Err(self.differs(step, Difference::NoChannel));
                    };
                    channel.write(*stream, &data)
                });
                let played = (Written::of(&result).name(), result.unwrap_or_default());
                let recorded = (written.name(), step.data.len());
                if played != recorded {
                    return Err(self.differs(step, Difference::Written { recorded, played }));
                }
            }
            Command::Read { id, stream, len } => {
                let readable = either!(&mut self.side, c => {
                    let Some(mut channel) = c.channel(*id) else {
                        return Err(self.differs(step, Difference::NoChannel));
                    };
                    let readable = channel.readable(*stream);
                    channel.consume(*stream, *len);
                    readable
                });
                if readable < *len {
                    let (recorded, played) = (*len, readable);
                    return Err(self.differs(step, Difference::Read { recorded, played }));
                }
            }
            command => match &mut self.side {
                Side::Client(client) => roles::client(client, command, &step.data, now),
                Side::Server(server) => roles::server(server, command, &step.data, now),
            },
        }
        Ok(())
    }

    /// Holds an event that was taken against the one that the trace has.
    fn event(
        &mut self,
        step: &Step,
        recorded: Option<&Name>,
        played: Option<(Name, String)>,
    ) -> Result<(), Divergence> {
        let (name, text) = match played {
            Some((name, text)) => (Some(name), Some(text)),
            None => (None, None),
        };
        self.event = text;
        if name.as_ref() == recorded {
            return Ok(());
        }
        let recorded = recorded.map(|name| name.0.clone());
        let played = name.map(|name| name.0);
        Err(self.differs(step, Difference::Event { recorded, played }))
    }

    /// Holds the output that is new against the one that the trace has.
    fn compare(&mut self, step: &Step) -> Result<(), Divergence> {
        let pending = either!(&self.side, c => c.output());
        let played = pending.get(self.known..).unwrap_or_default();
        let recorded = step.output.as_slice();
        if played == recorded {
            self.known = pending.len();
            return Ok(());
        }
        let same = played
            .iter()
            .zip(recorded)
            .take_while(|(played, recorded)| played == recorded)
            .count();
        let known = self.known.saturating_add(same);
        let difference = Difference::Output {
            offset: self.before.saturating_add(to_u64(known)),
            step_offset: same,
            recorded: recorded.get(same).copied(),
            played: played.get(same).copied(),
        };
        Err(self.differs(step, difference))
    }

    const fn differs(&self, step: &Step, difference: Difference) -> Divergence {
        Divergence {
            step: self.count,
            line: step.line(),
            difference,
        }
    }

    /// The event that the step took, as text; of a step that takes one.
    pub fn event_text(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// The next log record.
    pub fn poll_log(&mut self) -> Option<LogRecord> {
        either!(&mut self.side, c => c.poll_log())
    }

    /// How many bytes of output there have been.
    pub fn output_len(&self) -> u64 {
        self.before.saturating_add(to_u64(self.known))
    }

    /// The algorithms in force.
    pub const fn negotiated(&self) -> Option<&Negotiated> {
        either!(&self.side, c => c.negotiated())
    }

    /// Session identifier, versions, host key and user.
    pub fn session(&self) -> Option<Session<'_>> {
        either!(&self.side, c => c.session())
    }

    /// Why the connection has ended.
    pub const fn closed(&self) -> Option<&Error> {
        either!(&self.side, c => c.closed())
    }
}

impl fmt::Debug for Player<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Player")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

fn draws(step: &Step) -> VecDeque<Option<Secret>> {
    let secret = |draw: &Vec<u8>| Secret::from(draw.as_slice());
    let draws = step.draws.iter();
    draws.map(|draw| draw.as_ref().map(secret)).collect()
}

fn described<E: fmt::Debug>(event: Option<E>) -> Option<(Name, String)> {
    event.map(|event| (Name::of(&event), format!("{event:?}")))
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Plays a whole trace; says how many bytes of output were the same.
///
/// # Errors
/// The first difference.
pub fn play(trace: &Trace, start: Instant) -> Result<u64, Divergence> {
    let mut player = Player::new(trace, start);
    while player.step()?.is_some() {}
    Ok(player.output_len())
}

/// Where a replay does something else than the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Divergence {
    /// Which step; the first, which makes the connection, is 1.
    pub step: usize,
    /// The line of the step in the text of the trace.
    pub line: usize,
    /// What differs.
    pub difference: Difference,
}

/// What differs between a replay and the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The output.
    Output {
        /// Where, in all that the connection has sent.
        offset: u64,
        /// Where, in what the step gave.
        step_offset: usize,
        /// The byte that was recorded; `None` where the recording has no more.
        recorded: Option<u8>,
        /// The byte of the replay; `None` where the replay has no more.
        played: Option<u8>,
    },
    /// The event that was taken.
    Event {
        /// The one that was recorded, if there was any.
        recorded: Option<String>,
        /// The one of the replay, if there was any.
        played: Option<String>,
    },
    /// What became of a write: taken, blocked or closed, and how many bytes.
    Written {
        /// What was recorded.
        recorded: (&'static str, usize),
        /// What the replay did.
        played: (&'static str, usize),
    },
    /// How many bytes there were to read.
    Read {
        /// As many as were read.
        recorded: usize,
        /// As many as there are.
        played: usize,
    },
    /// There is no such channel.
    NoChannel,
    /// The cryptographic library would draw, and the recording does not say what it drew.
    DrawMissing,
    /// The recording has a draw that was not made.
    DrawUnused,
    /// The time of the step cannot be told to the connection: it is out of the range of clocks.
    Time,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} (line {}): ", self.step, self.line)?;
        match &self.difference {
            Difference::Output {
                offset,
                step_offset,
                recorded,
                played,
            } => {
                let byte = |byte: &Option<u8>| match byte {
                    Some(byte) => format!("byte {byte:#04x}"),
                    None => "nothing".to_owned(),
                };
                write!(
                    f,
                    "output differs at offset {offset} ({step_offset} of the step): recorded {}, played {}",
                    byte(recorded),
                    byte(played)
                )
            }
            Difference::Event { recorded, played } => {
                let name =
                    |event: &Option<String>| event.clone().unwrap_or_else(|| "none".to_owned());
                write!(
                    f,
                    "recorded event {}, played {}",
                    name(recorded),
                    name(played)
                )
            }
            Difference::Written { recorded, played } => write!(
                f,
                "a write was {} ({} bytes), and now is {} ({})",
                recorded.0, recorded.1, played.0, played.1
            ),
            Difference::Read { recorded, played } => {
                write!(f, "{recorded} bytes were read where there are {played}")
            }
            Difference::NoChannel => f.write_str("there is no such channel"),
            Difference::DrawMissing => f.write_str("a draw that was not recorded"),
            Difference::DrawUnused => f.write_str("a recorded draw that is not made"),
            Difference::Time => f.write_str("a time that no clock has"),
        }
    }
}

impl std::error::Error for Divergence {}
