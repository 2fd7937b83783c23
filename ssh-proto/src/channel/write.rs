//! Data on its way out: cut by window, packet size and room, and the line of those that wait for room.
//!
//! Each stream of a channel is a writer of its own. Room is announced only to as many writers as it can serve, first come,
//! first served: what is announced is reserved for them. A writer that does not come within [`GRACE`] loses its turn, so
//! that nobody waits for one that has lost interest.
//!
//! A sender that is faster than its peer always finds the window nearly used up. It does not send what little the window
//! still takes, which would be a short packet for each WINDOW_ADJUST: it waits for the next one, though not for longer
//! than [`PATIENCE`], since a peer may insist on seeing its window used up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::connection::timers::earliest;
use crate::error::WriteError;
use crate::limits::PACKET_DATA_LEN;
use crate::packet::Draft;
use crate::steps::count_turn;

use super::state::{Phase, Say, State};
use super::table::{Channels, Io, Shared};
use super::{ChannelId, Stream};

/// How long announced room is kept for a writer while others wait.
const GRACE: Duration = Duration::from_millis(10);
/// How long the remainder of a window is not used.
const PATIENCE: Duration = Duration::from_millis(10);
/// A packet shorter than this is not worth its overhead where more is to be sent and only room is missing.
const RUNT: usize = 1024;

/// Whether somebody wants to write on a stream of a channel.
///
/// ```text
/// Idle ── write: no window, or not open ──► Stalled ── WINDOW_ADJUST, CONFIRMATION ──► Waiting ── room ──► Turn ── write ──► Idle
///   └──── write: no room ───────────────────────────────────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Writer {
    #[default]
    Idle,
    /// The peer has to do something first: its window must take so much at least.
    Stalled { wanted: usize, least: usize },
    /// In line for room, with this number.
    Waiting { wanted: usize, number: u64 },
    /// `Writable` was announced, and so much is reserved.
    Turn { reserved: usize, number: u64 },
}

/// The writers of one channel.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Those of its data and of stderr.
    known: [Writer; 2],
    /// Those of extended data of other types, while they are not idle.
    others: Vec<(Stream, Writer)>,
}

impl Streams {
    fn get(&self, stream: Stream) -> Writer {
        match stream {
            Stream::DATA => self.known[0],
            Stream::STDERR => self.known[1],
            _ => self
                .others
                .iter()
                .find(|(other, _)| *other == stream)
                .map_or(Writer::Idle, |(_, writer)| *writer),
        }
    }

    /// Says what the writer was before.
    fn set(&mut self, stream: Stream, writer: Writer) -> Writer {
        let before = match stream {
            Stream::DATA => &mut self.known[0],
            Stream::STDERR => &mut self.known[1],
            _ => {
                let before = self.get(stream);
                self.others.retain(|(other, _)| *other != stream);
                if writer != Writer::Idle {
                    self.others.push((stream, writer));
                }
                if self.others.is_empty() {
                    self.others = Vec::new();
                }
                return before;
            }
        };
        std::mem::replace(before, writer)
    }

    fn is_idle(&self) -> bool {
        self.known == [Writer::Idle; 2] && self.others.is_empty()
    }

    /// Those that are not idle.
    fn busy(&self) -> Vec<Stream> {
        let known = [Stream::DATA, Stream::STDERR]
            .into_iter()
            .filter(|stream| self.get(*stream) != Writer::Idle);
        known
            .chain(self.others.iter().map(|(stream, _)| *stream))
            .collect()
    }
}

/// The line of blocked writers.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// Who stands there, with a number. Who leaves is not looked for in a line that may be long: an entry whose stream
    /// does not wait with that number counts for nothing.
    line: VecDeque<(ChannelId, Stream, u64)>,
    /// How many entries count.
    waiting: usize,
    /// The number of who joined last. Turns come in the order of the numbers.
    last: u64,
    /// The last number whose turn was announced.
    announced: u64,
    /// What is reserved for turns that lose it at `recheck`, up to number `old_until`; and for those that came since.
    old: usize,
    old_until: u64,
    new: usize,
    /// Turns up to this number were lost.
    lost_until: u64,
    /// When those whose turn it is lose it.
    recheck: Option<Instant>,
    /// Channels that leave the remainder of their window, and when the first of them has done so for long enough.
    patient: Vec<ChannelId>,
    patience: Option<Instant>,
}

/// So many entries that count for nothing are tolerated, or as many as count when that is more.
const LEFT: usize = 16;

impl Writers {
    pub(super) fn trim(&mut self) {
        self.line.shrink_to_fit();
        self.patient.shrink_to_fit();
    }

    #[inline]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.recheck, self.patience)
    }

    /// Somebody joins. Says with which number.
    fn join(&mut self, id: ChannelId, stream: Stream) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.line.push_back((id, stream, self.last));
        self.waiting = self.waiting.saturating_add(1);
        self.last
    }

    /// Somebody leaves. Unless nobody is left, the entry stays.
    fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.line.clear();
        }
    }

    fn is_untidy(&self) -> bool {
        let left = self.line.len().saturating_sub(self.waiting);
        left > self.waiting.max(LEFT)
    }

    const fn reserved(&self) -> usize {
        self.old.saturating_add(self.new)
    }

    fn reserve(&mut self, number: u64, len: usize) {
        self.announced = number;
        self.new = self.new.saturating_add(len);
    }

    /// What is still reserved for a turn: nothing when it was lost.
    const fn held(&self, number: u64, len: usize) -> usize {
        if number > self.lost_until { len } else { 0 }
    }

    /// A turn was taken, or given up.
    fn release(&mut self, number: u64, len: usize) {
        if number > self.old_until {
            self.new = self.new.saturating_sub(len);
        } else if number > self.lost_until {
            self.old = self.old.saturating_sub(len);
        }
    }

    /// The turns that were announced so far are lost at `recheck`.
    fn limit(&mut self, now: Instant) {
        self.old = self.reserved();
        self.new = 0;
        self.old_until = self.announced;
        self.recheck = now.checked_add(GRACE);
    }

    /// They are lost.
    fn expire(&mut self) {
        self.old = 0;
        self.lost_until = self.old_until;
        self.recheck = None;
    }
}

/// What a channel does about the remainder of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Remainder {
    /// There is none, or nobody wants to send.
    #[default]
    Unwanted,
    /// It is left until then.
    Left { until: Instant },
    /// The peer took too long: it is used up.
    Used,
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
        self.take_turn(stream, shared);
        let mut taken: usize = 0;
        // Requests that were made before are to arrive before.
        while self.phase == Phase::Open && self.queued.is_empty() {
            let left = total.saturating_sub(taken);
            if self.leaves(self.packet_len(left)) {
                break;
            }
            let len = self.next_len(left, shared.writers.reserved(), io);
            if len == 0 {
                break;
            }
            io.out.data(self.peer, stream, parts, taken, len);
            self.send.sent(len);
            taken = taken.saturating_add(len);
        }
        if taken > 0 {
            self.give_up(stream, shared);
            return Ok(taken);
        }
        self.wait_to_write(stream, total, self.packet_len(total), shared, io.now);
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
        self.take_turn(stream, shared);
        let open =
            self.phase == Phase::Open && self.queued.is_empty() && !self.is_closed_to_writing();
        if open && len > 0 && self.leaves(len) {
            // It would be torn.
            self.wait_to_write(stream, len, len, shared, io.now);
            return Err(WriteError::Blocked);
        }
        let alone = open && self.is_alone(shared);
        if len > 0 && alone && self.fits(len) && io.out.data_in_place(self.peer, stream, draft) {
            self.send.sent(len);
            self.lay_out(stream, draft, io);
            return Ok(len);
        }
        let taken = self.write(stream, &draft.parts(), shared, io)?;
        draft.advance(taken);
        if draft.is_empty() {
            self.lay_out(stream, draft, io);
        }
        Ok(taken)
    }

    /// How much of a draft [`send`](Self::send) takes now, at most what a draft holds. When it is nothing, the channel
    /// waits to write.
    pub(super) fn sendable(
        &mut self,
        stream: Stream,
        shared: &mut Shared,
        io: &Io<'_>,
    ) -> Result<usize, WriteError> {
        if self.is_closed_to_writing() {
            return Err(WriteError::Closed);
        }
        // A turn is kept for the data to come: it is not known yet whether there is any.
        let (own, idle) = match self.writers.get(stream) {
            Writer::Turn { reserved, number } => (shared.writers.held(number, reserved), true),
            Writer::Idle => (0, true),
            Writer::Stalled { .. } | Writer::Waiting { .. } => (0, false),
        };
        let reserved = shared.writers.reserved().saturating_sub(own);
        let open = self.phase == Phase::Open && self.queued.is_empty();
        let alone = open && idle && reserved == 0 && shared.writers.waiting == 0;
        let len = if self.leaves(PACKET_DATA_LEN) {
            0
        } else if alone && io.out.takes_draft() {
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
        self.take_turn(stream, shared);
        let least = self.packet_len(Draft::CAPACITY);
        self.wait_to_write(stream, Draft::CAPACITY, least, shared, io.now);
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
            && self.writers.is_idle()
            && shared.writers.waiting == 0
            && shared.writers.reserved() == 0
    }

    /// Nothing can be written any more.
    const fn is_closed_to_writing(&self) -> bool {
        !matches!(self.local_eof, Say::No)
            || !matches!(self.local_close, Say::No)
            || matches!(self.phase, Phase::Closed | Phase::Failed | Phase::Expired)
    }

    /// Prepares a draft with room for what the window takes, or will take before what is in the draft leaves.
    pub(super) fn lay_out(&self, stream: Stream, draft: &mut Draft, io: &Io<'_>) {
        let window = if self.leaves(Draft::CAPACITY) {
            Draft::CAPACITY
        } else {
            self.send_window()
        };
        draft.lay_out(io.out.layout(), stream, window);
    }

    /// The longest data packet for `len` bytes, whatever the window.
    fn packet_len(&self, len: usize) -> usize {
        let max = usize::try_from(self.send.max_packet()).unwrap_or(usize::MAX);
        len.min(max).min(PACKET_DATA_LEN)
    }

    /// Whether `len` bytes wait for a larger window although a part of them could leave now.
    fn leaves(&self, len: usize) -> bool {
        len >= RUNT && self.remainder != Remainder::Used && self.send.is_remainder(len)
    }

    /// The writer has come: the room that was reserved for it is there to be used.
    fn take_turn(&mut self, stream: Stream, shared: &mut Shared) {
        if matches!(self.writers.get(stream), Writer::Turn { .. }) {
            self.give_up(stream, shared);
        }
    }

    /// How many bytes the peer's window takes now.
    pub(super) fn send_window(&self) -> usize {
        usize::try_from(self.send.window()).unwrap_or(usize::MAX)
    }

    fn wait_to_write(
        &mut self,
        stream: Stream,
        total: usize,
        least: usize,
        shared: &mut Shared,
        now: Instant,
    ) {
        let wanted = total.min(self.send.next_packet()).min(PACKET_DATA_LEN);
        if self.phase != Phase::Open || wanted == 0 || self.leaves(least) {
            self.give_up(stream, shared);
            let wanted = total;
            self.writers.set(stream, Writer::Stalled { wanted, least });
            if self.phase == Phase::Open && self.send.window() > 0 {
                self.be_patient(shared, now);
            }
        } else {
            let number = match self.writers.get(stream) {
                Writer::Waiting { number, .. } => number,
                _ => shared.writers.join(self.id, stream),
            };
            self.writers.set(stream, Writer::Waiting { wanted, number });
        }
    }

    /// Leaves the remainder of the window for a while.
    fn be_patient(&mut self, shared: &mut Shared, now: Instant) {
        if matches!(self.remainder, Remainder::Left { .. }) {
            return;
        }
        let until = now.checked_add(PATIENCE).unwrap_or(now);
        self.remainder = Remainder::Left { until };
        let writers = &mut shared.writers;
        if !self.patient {
            self.patient = true;
            writers.patient.push(self.id);
        }
        writers.patience.get_or_insert(until);
    }

    /// The peer opened the channel or its window: who waited for that waits for room now.
    pub(super) fn unstall(&mut self, shared: &mut Shared, now: Instant) {
        self.remainder = Remainder::Unwanted;
        self.look_again(shared, now);
    }

    fn look_again(&mut self, shared: &mut Shared, now: Instant) {
        if self.writers.is_idle() {
            return;
        }
        for stream in self.writers.busy() {
            if let Writer::Stalled { wanted, least } = self.writers.get(stream) {
                self.wait_to_write(stream, wanted, least, shared, now);
            }
        }
    }

    /// Nobody waits to write to this stream any more.
    fn give_up(&mut self, stream: Stream, shared: &mut Shared) {
        match self.writers.set(stream, Writer::Idle) {
            Writer::Waiting { .. } => shared.writers.leave(),
            Writer::Turn { reserved, number } => shared.writers.release(number, reserved),
            Writer::Idle | Writer::Stalled { .. } => {}
        }
    }

    /// Nobody waits to write here any more.
    pub(super) fn give_up_writing(&mut self, shared: &mut Shared) {
        if self.writers.is_idle() {
            return;
        }
        for stream in self.writers.busy() {
            self.give_up(stream, shared);
        }
    }
}

impl Channels {
    /// Announces `Writable` to those first in line, as far as there is room for them.
    pub(super) fn serve_writers(&mut self, io: &Io<'_>) {
        let Self { slots, shared } = self;
        if shared.writers.waiting == 0 {
            shared.writers.recheck = None;
            return;
        }
        let wanted = |state: &State, stream, number| match state.writers.get(stream) {
            Writer::Waiting {
                wanted,
                number: own,
            } if own == number => Some(wanted),
            _ => None,
        };
        if shared.writers.is_untidy() {
            let line = &mut shared.writers.line;
            line.retain(|&(id, stream, number)| {
                count_turn();
                slots
                    .get(id)
                    .is_some_and(|state| wanted(state, stream, number).is_some())
            });
        }
        let all = io.out.data_room();
        while let Some(&(id, stream, number)) = shared.writers.line.front() {
            count_turn();
            let room = all.saturating_sub(shared.writers.reserved());
            let waiting = slots
                .get_mut(id)
                .and_then(|state| Some((wanted(state, stream, number)?, state)));
            let Some((wanted, state)) = waiting else {
                shared.writers.line.pop_front();
                continue;
            };
            if room == 0 || room < wanted.min(RUNT) {
                break;
            }
            shared.writers.line.pop_front();
            shared.writers.leave();
            let reserved = wanted.min(room);
            shared.writers.reserve(number, reserved);
            state.writers.set(stream, Writer::Turn { reserved, number });
            state.pending.writable = true;
            state.note(shared);
        }
        // Without room, its return is what calls the next one. With room that is reserved, time may have to: time that
        // runs, whatever else happens on the connection meanwhile.
        if shared.writers.waiting == 0 || shared.writers.reserved() == 0 {
            shared.writers.recheck = None;
        } else if shared.writers.recheck.is_none() {
            shared.writers.limit(io.now);
        }
    }

    /// Those who have left the remainder of their window for long enough use it up.
    pub(super) fn lose_patience(&mut self, io: &Io<'_>) {
        let Self { slots, shared } = self;
        if shared.writers.patience.is_none_or(|at| at > io.now) {
            return;
        }
        let mut next: Option<Instant> = None;
        let mut patient = std::mem::take(&mut shared.writers.patient);
        patient.retain(|id| {
            let Some(state) = slots.get_mut(*id) else {
                return false;
            };
            state.patient = match state.remainder {
                Remainder::Left { until } if until > io.now => {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    true
                }
                Remainder::Left { .. } => {
                    state.remainder = Remainder::Used;
                    state.look_again(shared, io.now);
                    false
                }
                Remainder::Unwanted | Remainder::Used => false,
            };
            state.patient
        });
        shared.writers.patient = patient;
        shared.writers.patience = next;
        self.serve_writers(io);
    }

    /// Those whose turn it was and who did not come have lost it.
    pub(super) fn expire_turns(&mut self, io: &Io<'_>) {
        if self
            .shared
            .writers
            .recheck
            .is_some_and(|recheck| recheck <= io.now)
        {
            self.shared.writers.expire();
            self.serve_writers(io);
        }
    }
}

#[cfg(test)]
impl Writers {
    pub(super) fn footprint(&self) -> usize {
        self.line.capacity() + self.patient.capacity()
    }
}
