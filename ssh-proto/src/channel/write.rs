//! Data on its way out: cut by window, packet size and room, and the line of those that wait for room.
//!
//! Room is announced only to as many writers as it can serve, first come, first served: what is announced is reserved
//! for them. A writer that does not come within [`GRACE`] loses its turn, so that nobody waits for one that has lost
//! interest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::WriteError;
use crate::limits::PACKET_DATA_LEN;
use crate::packet::Draft;

use super::state::{Phase, Say, State};
use super::table::{Channels, Io, Shared};
use super::{ChannelId, Stream};

/// How long announced room is kept for a writer while others wait.
const GRACE: Duration = Duration::from_millis(10);
/// A packet shorter than this is not worth its overhead where more is to be sent and only room is missing.
const RUNT: usize = 1024;

/// Whether somebody wants to write on a channel.
///
/// ```text
/// Idle ── write: no window, or not open ──► Stalled ── WINDOW_ADJUST, CONFIRMATION ──► Waiting ── room ──► Turn ── write ──► Idle
///   └──── write: no room ───────────────────────────────────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Idle,
    /// The peer has to do something first.
    Stalled {
        wanted: usize,
    },
    /// In line for room.
    Waiting {
        wanted: usize,
    },
    /// `Writable` was announced, and so much is reserved.
    Turn {
        reserved: usize,
    },
}

/// The line of blocked writers.
#[derive(Debug, Default)]
pub(super) struct Writers {
    line: VecDeque<ChannelId>,
    reserved: usize,
    /// When those whose turn it is lose it.
    pub(super) recheck: Option<Instant>,
}

impl Writers {
    pub(super) fn trim(&mut self) {
        self.line.shrink_to_fit();
    }
}

impl State {
    /// Takes as much of `parts` as may leave now.
    pub(super) fn write(
        &mut self,
        stream: Stream,
        parts: &[&[u8]],
        shared: &mut Shared,
        io: &mut Io<'_>,
    ) -> Result<usize, WriteError> {
        if self.is_closed_to_writing() {
            return Err(WriteError::Closed);
        }
        let total = parts
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if total == 0 {
            return Ok(0);
        }
        self.take_turn(shared);
        let mut taken: usize = 0;
        // Requests that were made before are to arrive before.
        while self.phase == Phase::Open && self.queued.is_empty() {
            let left = total.saturating_sub(taken);
            let len = self.next_len(left, shared.writers.reserved, io);
            if len == 0 {
                break;
            }
            io.out.data(self.peer, stream, parts, taken, len);
            self.send.sent(len);
            taken = taken.saturating_add(len);
        }
        if taken > 0 {
            self.give_up_writing(shared);
            return Ok(taken);
        }
        self.wait_to_write(total, shared);
        Err(WriteError::Blocked)
    }

    /// Sends what is in a draft, or as much of it as may leave now: without a copy when nothing else is on its way out.
    pub(super) fn send(
        &mut self,
        stream: Stream,
        draft: &mut Draft,
        shared: &mut Shared,
        io: &mut Io<'_>,
    ) -> Result<usize, WriteError> {
        let len = draft.len();
        self.take_turn(shared);
        let alone = !self.is_closed_to_writing() && self.is_alone(shared);
        if len > 0 && alone && self.fits(len) && io.out.data_in_place(self.peer, stream, draft) {
            self.send.sent(len);
            draft.lay_out(io.out.layout(), stream, self.send_window());
            return Ok(len);
        }
        let taken = self.write(stream, &draft.parts(), shared, io)?;
        draft.advance(taken);
        if draft.is_empty() {
            draft.lay_out(io.out.layout(), stream, self.send_window());
        }
        Ok(taken)
    }

    /// How much of a draft [`send`](Self::send) takes now, at most what a draft holds. When it is nothing, the channel
    /// waits to write.
    pub(super) fn sendable(
        &mut self,
        shared: &mut Shared,
        io: &Io<'_>,
    ) -> Result<usize, WriteError> {
        if self.is_closed_to_writing() {
            return Err(WriteError::Closed);
        }
        // A turn is kept for the data to come: it is not known yet whether there is any.
        let (own, idle) = match self.writer {
            Writer::Turn { reserved } => (reserved, true),
            Writer::Idle => (0, true),
            Writer::Stalled { .. } | Writer::Waiting { .. } => (0, false),
        };
        let reserved = shared.writers.reserved.saturating_sub(own);
        let open = self.phase == Phase::Open && self.queued.is_empty();
        let alone = open && idle && reserved == 0 && shared.writers.line.is_empty();
        let len = if alone && io.out.takes_draft() {
            let all = self.send_window().min(Draft::CAPACITY);
            if self.fits(all) {
                all
            } else {
                self.send.next_packet()
            }
        } else if open {
            self.next_len(Draft::CAPACITY, reserved, io)
        } else {
            0
        };
        if len > 0 {
            return Ok(len);
        }
        self.take_turn(shared);
        self.wait_to_write(Draft::CAPACITY, shared);
        Err(WriteError::Blocked)
    }

    /// How much of `left` bytes the next packet takes. 0: it is not worth one, or there is no room.
    fn next_len(&self, left: usize, reserved: usize, io: &Io<'_>) -> usize {
        let wanted = left.min(self.send.next_packet()).min(PACKET_DATA_LEN);
        let len = wanted.min(io.out.data_room().saturating_sub(reserved));
        if len < wanted.min(RUNT) { 0 } else { len }
    }

    /// Whether a draft with so much data is full packets as the peer takes them.
    fn fits(&self, len: usize) -> bool {
        len <= self.send_window() && len.min(PACKET_DATA_LEN) <= self.send.next_packet()
    }

    /// Nobody else waits for room, and nothing of this channel's is to leave before.
    fn is_alone(&self, shared: &Shared) -> bool {
        self.phase == Phase::Open
            && self.queued.is_empty()
            && matches!(self.writer, Writer::Idle)
            && shared.writers.line.is_empty()
            && shared.writers.reserved == 0
    }

    /// Nothing can be written any more.
    const fn is_closed_to_writing(&self) -> bool {
        !matches!(self.local_eof, Say::No)
            || !matches!(self.local_close, Say::No)
            || matches!(self.phase, Phase::Closed | Phase::Failed | Phase::Expired)
    }

    /// The writer has come: the room that was reserved for it is there to be used.
    fn take_turn(&mut self, shared: &mut Shared) {
        if let Writer::Turn { reserved } = self.writer {
            self.writer = Writer::Idle;
            shared.writers.reserved = shared.writers.reserved.saturating_sub(reserved);
        }
    }

    /// How many bytes the peer's window takes now.
    pub(super) fn send_window(&self) -> usize {
        usize::try_from(self.send.window()).unwrap_or(usize::MAX)
    }

    fn wait_to_write(&mut self, total: usize, shared: &mut Shared) {
        let wanted = total.min(self.send.next_packet()).min(PACKET_DATA_LEN);
        if self.phase != Phase::Open || wanted == 0 {
            self.give_up_writing(shared);
            self.writer = Writer::Stalled { wanted: total };
        } else {
            if !matches!(self.writer, Writer::Waiting { .. }) {
                shared.writers.line.push_back(self.id);
            }
            self.writer = Writer::Waiting { wanted };
        }
    }

    /// The peer opened the channel or its window: who waited for that waits for room now.
    pub(super) fn unstall(&mut self, shared: &mut Shared) {
        if let Writer::Stalled { wanted } = self.writer {
            self.wait_to_write(wanted, shared);
        }
    }

    /// Nobody waits to write here any more.
    pub(super) fn give_up_writing(&mut self, shared: &mut Shared) {
        match std::mem::replace(&mut self.writer, Writer::Idle) {
            Writer::Waiting { .. } => {
                let id = self.id;
                shared.writers.line.retain(|other| *other != id);
            }
            Writer::Turn { reserved } => {
                shared.writers.reserved = shared.writers.reserved.saturating_sub(reserved);
            }
            Writer::Idle | Writer::Stalled { .. } => {}
        }
    }
}

impl Channels {
    /// Announces `Writable` to those first in line, as far as there is room for them.
    pub(super) fn serve_writers(&mut self, io: &Io<'_>) {
        let Self { slots, shared } = self;
        if shared.writers.line.is_empty() {
            shared.writers.recheck = None;
            return;
        }
        let all = io.out.data_room();
        while let Some(&id) = shared.writers.line.front() {
            let room = all.saturating_sub(shared.writers.reserved);
            let waiting = slots.get_mut(id).and_then(|state| match state.writer {
                Writer::Waiting { wanted } => Some((state, wanted)),
                _ => None,
            });
            let Some((state, wanted)) = waiting else {
                shared.writers.line.pop_front();
                continue;
            };
            if room == 0 || room < wanted.min(RUNT) {
                break;
            }
            shared.writers.line.pop_front();
            let reserved = wanted.min(room);
            shared.writers.reserved = shared.writers.reserved.saturating_add(reserved);
            state.writer = Writer::Turn { reserved };
            state.pending.writable = true;
            state.note(shared);
        }
        // Without room, its return is what calls the next one. With room that is reserved, time may have to.
        shared.writers.recheck = if shared.writers.line.is_empty() || all == 0 {
            None
        } else {
            io.now.checked_add(GRACE)
        };
    }

    /// Those whose turn it was and who did not come have lost it.
    pub(super) fn expire_turns(&mut self, io: &Io<'_>) {
        if self
            .shared
            .writers
            .recheck
            .is_some_and(|recheck| recheck <= io.now)
        {
            self.shared.writers.reserved = 0;
            self.serve_writers(io);
        }
    }
}

#[cfg(test)]
impl Writers {
    pub(super) fn footprint(&self) -> usize {
        self.line.capacity()
    }
}
