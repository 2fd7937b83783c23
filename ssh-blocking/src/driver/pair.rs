//! A pair of blocking halves: a thread that writes, which is also the attendant, and a thread that reads.

use std::io::{self, Write};
use std::sync::PoisonError;
use std::time::Instant;

use ssh_proto::{Input, Role};

use crate::core::{Attendant, Call};
use crate::transport::{Pair, uninterrupted};

use super::{IDLE, LINGER, Shared};

impl<R: Role> Shared<R> {
    /// The writing thread of a pair.
    pub(super) fn attend_pair(&self, mut pair: Pair, serve: &mut dyn FnMut(&Self, Call<R>)) {
        let mut bytes = Vec::new();
        loop {
            let mut core = self.lock();
            core.attendant = Attendant::Awake;
            self.timers(&mut core);
            if let Some(call) = core.calls.pop_front() {
                drop(core);
                self.room.notify_one();
                self.call(serve, call);
                continue;
            }
            if !core.conn.output().is_empty() {
                core.swap_output(&mut bytes);
                core.dispatch();
                let mute = core.mute;
                drop(core);
                self.room.notify_one();
                if !mute
                    && let Err(error) = pair
                        .writer
                        .write_all(&bytes)
                        .and_then(|()| uninterrupted(|| pair.writer.flush()))
                {
                    self.lock().fall_silent(error);
                }
                bytes.clear();
                continue;
            }
            if core.over.is_some() {
                break;
            }
            core.attendant = Attendant::Dozing;
            let now = Instant::now();
            let timeout = core
                .poll_timeout()
                .map_or(LINGER * 1000, |at| at.saturating_duration_since(now));
            let (core, result) = self
                .attend
                .wait_timeout(core, timeout.min(IDLE))
                .unwrap_or_else(PoisonError::into_inner);
            drop(core);
            if result.timed_out() {
                bytes = Vec::new();
            }
            self.drain_log();
        }
        self.room.notify_one();
        drop(pair.writer);
        if let Some(close) = pair.close {
            close();
        }
    }

    /// The reading thread of a pair.
    pub(crate) fn read_pair(&self, mut reader: Box<dyn io::Read + Send>) {
        let mut spare = Input::new();
        let mut core = self.lock();
        while core.over.is_none() {
            let lent = if core.may_read() {
                core.conn.take_input(std::mem::take(&mut spare))
            } else {
                Err(std::mem::take(&mut spare))
            };
            let mut input = match lent {
                Ok(input) => input,
                Err(back) => {
                    spare = back;
                    core = self.room.wait(core).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            drop(core);
            let room = input.unfilled().len();
            let result = uninterrupted(|| reader.read(input.unfilled()));
            core = self.lock();
            let now = Instant::now();
            let mut ended = false;
            match result {
                Ok(0) => ended = room > 0,
                Ok(len) => input.advance(len),
                Err(error) => {
                    core.io_error.get_or_insert_with(|| error.into());
                    ended = true;
                }
            }
            spare = core.conn.handle_input(input, now).unwrap_or_default();
            core.relieve();
            if ended {
                core.conn.handle_eof(now);
            }
            self.timers(&mut core);
            core.dispatch();
            self.attend.notify_one();
            if ended {
                break;
            }
        }
    }
}
