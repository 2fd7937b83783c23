//! The recorder of a connection: commands in, text out.
//!
//! It sits at the output, where every command passes. A command is noted before it is carried out (or after, where its
//! result belongs into the line and nothing else happens in between); what it led to is found when the next one comes:
//! the draws that were made, and the output that is new.

use std::fmt;
use std::time::Instant;

use crate::crypto::drbg::{Foreign, Seed};
use crate::limits::PACKET_DATA_LEN;

use super::command::{Command, Start};
use super::text::{Bytes, put};
use super::trace::{END, FAILED_DRAW, FIRST_LINES, Mark, STOPPED, put_bytes};

/// See the [module](self).
pub(crate) struct Recorder {
    start: Start,
    /// What was not taken yet.
    text: String,
    max: usize,
    /// How much of the pending output is in the text.
    known: usize,
    /// It is over: by itself, because nobody took the text, or because it was finished.
    ended: bool,
}

impl Recorder {
    /// A recording that starts now. `max` bytes may wait to be taken.
    pub(crate) fn new(
        seed: &Seed,
        write_config: impl FnOnce(&mut String),
        max: usize,
        now: Instant,
    ) -> Self {
        let mut text = FIRST_LINES.to_owned();
        text.push_str("seed");
        put(&mut text, &Bytes::from(&seed.bytes()[..]));
        text.push('\n');
        write_config(&mut text);
        Command::New {}.write(&mut text);
        text.push('\n');
        Self {
            start: Start(now),
            text,
            max,
            known: 0,
            ended: false,
        }
    }

    /// Notes a command; `data` belongs to it.
    pub(crate) fn note(&mut self, command: impl FnOnce(Start) -> Command, data: &[&[u8]]) {
        if self.ended {
            return;
        }
        command(self.start).write(&mut self.text);
        self.text.push('\n');
        let data = data.concat();
        if !data.is_empty() {
            put_bytes(&mut self.text, Mark::Data, &data);
        }
    }

    /// Notes what came of the last command.
    pub(crate) fn settle(&mut self, pending: &[u8], draws: &mut Foreign) {
        let draws = match draws {
            Foreign::Recorded(draws) => std::mem::take(draws),
            Foreign::Off | Foreign::Played { .. } => Vec::new(),
        };
        let output = pending.get(self.known..).unwrap_or_default();
        self.known = pending.len();
        if self.ended {
            return;
        }
        for draw in draws {
            match draw {
                Some(draw) => put_bytes(&mut self.text, Mark::Draw, draw.expose()),
                None => self.text.push_str(FAILED_DRAW),
            }
        }
        if !output.is_empty() {
            put_bytes(&mut self.text, Mark::Output, output);
        }
        if self.text.len() > self.max {
            self.end(STOPPED);
        }
    }

    /// The first `len` bytes of the pending output are gone.
    pub(crate) const fn consumed(&mut self, len: usize) {
        self.known = self.known.saturating_sub(len);
    }

    /// The text since the last time.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Nothing follows.
    pub(crate) fn finish(&mut self) {
        if !self.ended {
            self.end(END);
        }
    }

    fn end(&mut self, why: &str) {
        self.text.push_str(why);
        self.text.push('\n');
        self.ended = true;
    }
}

/// So much of what was offered to a write decides what becomes of it: what was taken, and one packet more.
pub(crate) fn offered(total: usize, taken: usize) -> usize {
    total.min(taken.saturating_add(PACKET_DATA_LEN))
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder(..)")
    }
}
