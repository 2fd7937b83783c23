//! All channels of a connection: a slab of slots, and lists of the channels that have something to do, so that no work is
//! ever proportional to how many channels there are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::Extensions;
use crate::connection::cx::{Cx, Events, Payload};
use crate::connection::role::Side;
use crate::connection::timers::earliest;
use crate::error::{Error, Misuse, PeerError};
use crate::limits::Limits;
use crate::log::{Log, LogLayer, LogLevel, LogSubject};
use crate::packet::Input;
use crate::packet::output::Output;
use crate::steps::count_turn;

use super::global::Globals;
use super::handle::Handle;
use super::opening::Opening;
use super::recv::Blocks;
use super::slots::Slots;
use super::state::{Phase, State};
use super::window::{REVIEW, RecvWindow, first_window, sample, sure_window};
use super::write::Writers;
use super::{ChannelId, Notice};

/// Whether there may be channels.
///
/// ```text
/// Locked ── enable ──► Enabled ── end ──► Ended
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Authentication has not succeeded.
    Locked,
    Enabled,
    Ended,
}

/// What a message or a command is handed: the ways out, the limits, the time.
#[derive(Debug)]
pub(super) struct Io<'a> {
    pub(super) out: &'a mut Output,
    pub(super) log: &'a mut Log,
    pub(super) limits: &'a Limits,
    pub(super) now: Instant,
}

impl<'a> Io<'a> {
    pub(super) fn of<E>(cx: &'a mut Cx<'_, E>) -> Self {
        Self {
            out: cx.out,
            log: cx.log,
            limits: cx.limits,
            now: cx.now,
        }
    }
}

impl Io<'_> {
    /// A step of the protocol that is not data.
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        self.log.add(LogLevel::Debug, LogLayer::Connection, text);
    }

    /// A step of a channel that is not data.
    pub(super) fn note_about(&mut self, about: impl FnOnce() -> (LogSubject, String)) {
        self.log
            .add_about(LogLevel::Debug, LogLayer::Connection, about);
    }

    /// A step of a channel that is not data.
    pub(super) fn note_of(&mut self, id: ChannelId, what: impl FnOnce() -> String) {
        self.note_about(|| {
            let text = format!("channel {}: {}", id.slot, what());
            (LogSubject::Channel(id.slot), text)
        });
    }

    /// The last step of a channel.
    pub(super) fn note_last_of(&mut self, id: ChannelId, what: impl FnOnce() -> String) {
        self.note_about(|| {
            let text = format!("channel {}: {}", id.slot, what());
            (LogSubject::ChannelClosed(id.slot), text)
        });
    }
}

/// All channels, and the requests about the connection.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(super) slots: Slots,
    pub(super) shared: Shared,
}

/// What the channels have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) side: Side,
    pub(super) life: Life,
    pub(super) own: Extensions,
    pub(super) blocks: Blocks,
    /// Channels with ranges in the block that is being processed, some of them twice.
    pub(super) touched: Vec<u32>,
    /// What waits to be told to the connection's caller.
    pub(super) ready: VecDeque<Notice>,
    /// Channels that owe the peer something which the output did not take.
    pub(super) owed: VecDeque<ChannelId>,
    pub(super) writers: Writers,
    pub(super) opening: Opening,
    /// Opens of the peer that the caller has not answered.
    pub(super) open_questions: usize,
    pub(super) globals: Globals,
    /// The client has said, or has heard of this side, that it opens no more sessions.
    pub(super) no_more_sessions: bool,
    pub(super) next_request: u64,
    pub(super) next_serial: u32,
    /// What all receive windows cost, and how many they are.
    charged: u64,
    windows: usize,
    /// Channels whose receive windows have grown, and when they are looked at next.
    grown: Vec<ChannelId>,
    review: Option<Instant>,
    /// The shortest round trip seen: credit until its first use, an open until its answer.
    pub(super) rtt: Option<Duration>,
    /// The last open of ours, and when it was sent.
    open_sent: Option<(Instant, ChannelId)>,
    strays: u32,
    /// A limit that was passed during a command: the next message reports it.
    pub(super) fault: Option<Error>,
}

impl Shared {
    /// What is left of the budget of receive windows, but for what channels that may still come are sure of.
    pub(super) fn budget(&self, limits: &Limits) -> u64 {
        let to_come = limits.channels.saturating_sub(self.windows);
        let to_come = u64::try_from(to_come).unwrap_or(u64::MAX);
        u64::from(limits.window_budget)
            .saturating_sub(self.charged)
            .saturating_sub(to_come.saturating_mul(sure_window(limits).into()))
    }

    /// The receive window of a channel that begins.
    pub(super) fn first_window(&self, limits: &Limits) -> RecvWindow {
        RecvWindow::new(first_window(self.budget(limits), limits))
    }

    /// The peer is told of a window.
    pub(super) fn add_window(&mut self, window: &RecvWindow) {
        self.windows = self.windows.saturating_add(1);
        self.charge(window);
    }

    /// The channel of a window is gone.
    fn drop_window(&mut self, window: &RecvWindow) {
        if !window.is_none() {
            self.windows = self.windows.saturating_sub(1);
            self.refund(window.charge());
        }
    }

    fn charge(&mut self, window: &RecvWindow) {
        self.charged = self.charged.saturating_add(window.charge());
    }

    fn refund(&mut self, charge: u64) {
        self.charged = self.charged.saturating_sub(charge);
    }

    /// Doubles a receive window that limits its sender, within the budget.
    pub(super) fn grow(&mut self, id: ChannelId, window: &mut RecvWindow, io: &Io<'_>) {
        if window.limits_sender(io.now, self.rtt) {
            let left = self.budget(io.limits).saturating_add(window.debt().into());
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let target = window.target().saturating_add(window.target().min(left));
            self.resize(window, |window| {
                window.grow(target.min(io.limits.window));
            });
            if window.begin_review() {
                self.grown.push(id);
                self.review = self.review.or_else(|| io.now.checked_add(REVIEW));
            }
        }
    }

    /// Consumption paid what was owed to the budget.
    pub(super) fn repay(&mut self, paid: u32) {
        self.refund(paid.into());
    }

    pub(super) fn resize(&mut self, window: &mut RecvWindow, resize: impl FnOnce(&mut RecvWindow)) {
        self.refund(window.charge());
        resize(window);
        self.charge(window);
    }

    pub(super) const fn probe_open(&mut self, now: Instant, id: ChannelId) {
        self.open_sent = Some((now, id));
    }

    pub(super) fn open_answered(&mut self, now: Instant, id: ChannelId) {
        if let Some((at, sent)) = self.open_sent
            && sent == id
        {
            sample(&mut self.rtt, now.saturating_duration_since(at));
            self.open_sent = None;
        }
    }

    /// Something that means nothing, but that correct peers may send now and then.
    pub(super) fn stray(&mut self, limits: &Limits) -> Result<(), Error> {
        self.strays = self.strays.saturating_add(1);
        if self.strays > limits.stray_messages {
            return Err(PeerError::Limit("messages that nobody asked for").into());
        }
        Ok(())
    }

    pub(super) fn serial(&mut self) -> u32 {
        self.next_serial = self.next_serial.wrapping_add(1);
        self.next_serial
    }

    /// Whether commands make sense.
    pub(super) const fn usable(&self) -> Result<(), Misuse> {
        match self.life {
            Life::Locked => Err(Misuse::NotAuthenticated),
            Life::Enabled => Ok(()),
            Life::Ended => Err(Misuse::Closed),
        }
    }
}

impl Channels {
    pub(crate) fn new(side: Side, own: &Extensions, open_deadline: Option<Duration>) -> Self {
        Self {
            slots: Slots::default(),
            shared: Shared {
                side,
                life: Life::Locked,
                own: own.clone(),
                blocks: Blocks::default(),
                touched: Vec::new(),
                ready: VecDeque::new(),
                owed: VecDeque::new(),
                writers: Writers::default(),
                opening: Opening::new(open_deadline),
                open_questions: 0,
                globals: Globals::default(),
                no_more_sessions: false,
                next_request: 0,
                next_serial: 0,
                charged: 0,
                windows: 0,
                grown: Vec::new(),
                review: None,
                rtt: None,
                open_sent: None,
                strays: 0,
                fault: None,
            },
        }
    }

    /// Tokens and channels are numbered from here on: drawn, so that those of another connection do not fit.
    pub(crate) const fn number_from(&mut self, serial: u32) {
        self.shared.next_serial = serial;
        self.slots.number_from(serial);
    }

    /// Authentication has succeeded: before that every command is [`Misuse::NotAuthenticated`].
    pub(crate) fn enable(&mut self) {
        if self.shared.life == Life::Locked {
            self.shared.life = Life::Enabled;
        }
    }

    /// A message of the peer, 80 to 100.
    pub(crate) fn handle<E: From<Notice>>(
        &mut self,
        payload: Payload<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let outcome = self.receive(payload, &mut Io::of(cx));
        self.announce(cx.events);
        outcome
    }

    /// A channel's handle. `now` is when the connection was last told the time.
    pub(crate) fn channel<'a>(
        &'a mut self,
        id: ChannelId,
        out: &'a mut Output,
        log: &'a mut Log,
        limits: &'a Limits,
        now: Instant,
    ) -> Option<Handle<'a>> {
        let io = Io {
            out,
            log,
            limits,
            now,
        };
        // What the caller was not asked to open yet, and what it has released, is no channel of its own.
        self.slots
            .get(id)
            .filter(|state| !state.released && state.phase != Phase::Asking)?;
        Some(Handle::new(self, io, id))
    }

    /// A key exchange has ended, or there is room in the output: sends what channels owe, then lets as many blocked
    /// writers go on as the room can serve.
    pub(crate) fn flush_owed<E: From<Notice>>(&mut self, cx: &mut Cx<'_, E>) {
        let mut io = Io::of(cx);
        for _ in 0..self.shared.owed.len() {
            count_turn();
            if !io.out.is_open() {
                break;
            }
            let Some(id) = self.shared.owed.pop_front() else {
                break;
            };
            // One that is gone by now owes nothing.
            if let Some(state) = self.slots.get_mut(id) {
                state.left_owed();
                state.send_owed(&mut self.shared, &mut io);
                self.reap(id);
            }
        }
        self.serve_writers(&io);
        self.announce(cx.events);
    }

    /// The connection is over: every channel is closed, unread data stays readable, nothing can be opened.
    pub(crate) fn end<E: From<Notice>>(&mut self, cx: &mut Cx<'_, E>) {
        self.shared.life = Life::Ended;
        self.shared.owed = VecDeque::new();
        self.shared.opening.clear();
        self.shared.writers = Writers::default();
        self.shared.globals = Globals::default();
        self.shared.open_questions = 0;
        self.shared.grown = Vec::new();
        self.shared.review = None;
        for id in self.slots.ids() {
            count_turn();
            let Some(state) = self.slots.get_mut(id) else {
                continue;
            };
            state.left_owed();
            if matches!(state.phase, Phase::Asking | Phase::Expired) {
                state.released = true;
            }
            state.end(&mut self.shared);
            self.reap(id);
        }
        self.announce(cx.events);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    #[inline]
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let open = self.shared.opening.poll(now);
        [open, self.shared.writers.poll_timeout(), self.shared.review]
            .into_iter()
            .fold(None, earliest)
    }

    /// Stops the time that the peer has for its answers, or lets it go on.
    pub(crate) fn run_deadlines(&mut self, on: bool, now: Instant) {
        self.shared.opening.run(on, now);
    }

    pub(crate) fn handle_timeout<E: From<Notice>>(&mut self, cx: &mut Cx<'_, E>) {
        let mut io = Io::of(cx);
        self.expire_opens(&mut io);
        self.lose_patience(&io);
        self.expire_turns(&io);
        self.review_windows(io.now);
        self.announce(cx.events);
    }

    /// Receive windows that have grown and are not used any more shrink.
    fn review_windows(&mut self, now: Instant) {
        let Self { slots, shared } = self;
        if shared.review.is_none_or(|review| review > now) {
            return;
        }
        shared.grown = std::mem::take(&mut shared.grown)
            .into_iter()
            .filter(|id| {
                let mut again = false;
                if let Some(state) = slots.get_mut(*id) {
                    shared.resize(&mut state.recv, |window| again = window.review());
                }
                again
            })
            .collect();
        shared.review = if shared.grown.is_empty() {
            None
        } else {
            now.checked_add(REVIEW)
        };
    }

    /// Whether something waits to be told.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        !self.shared.ready.is_empty()
    }

    /// Passes on what waits to be told. Commands on a channel can leave something here.
    pub(crate) fn announce<E: From<Notice>>(&mut self, events: &mut Events<E>) {
        while let Some(notice) = self.shared.ready.pop_front() {
            count_turn();
            events.push(notice);
        }
    }

    /// The spine is done with a block. `None`: ranges of it are kept. It must be called before the caller can reach a
    /// channel: data in a block that is still being processed cannot be lent.
    pub(crate) fn settle(&mut self, input: Input) -> Option<Input> {
        let Self { slots, shared } = self;
        let touched = &mut shared.touched;
        let input = shared.blocks.settle(input, |blocks, block| {
            for slot in touched.iter() {
                count_turn();
                if let Some(state) = slots.at(*slot) {
                    state.data.unblock(blocks, block);
                    state.stderr.unblock(blocks, block);
                }
            }
        });
        shared.touched.clear();
        if shared.blocks.is_wasteful() {
            self.compact();
        }
        input
    }

    fn compact(&mut self) {
        for state in self.slots.iter_mut() {
            count_turn();
            state.data.compact(&mut self.shared.blocks);
            state.stderr.compact(&mut self.shared.blocks);
        }
    }

    /// A free block for the next read.
    pub(crate) fn spare(&mut self) -> Option<Input> {
        self.shared.blocks.spare()
    }

    /// Frees what an idle connection need not hold: spare blocks, the dead part of kept ones, room in queues.
    pub(crate) fn trim(&mut self) {
        let Self { slots, shared } = self;
        if shared.blocks.is_stirred() {
            for state in slots.iter_mut() {
                count_turn();
                state.data.compact(&mut shared.blocks);
                state.stderr.compact(&mut shared.blocks);
                state.data.trim();
                state.stderr.trim();
            }
        }
        shared.blocks.trim();
        shared.touched = Vec::new();
        shared.ready.shrink_to_fit();
        shared.owed.shrink_to_fit();
        shared.opening.trim();
        shared.writers.trim();
    }

    /// About how much memory [`trim`](Self::trim) would give back.
    pub(crate) fn idle_memory(&self) -> usize {
        self.shared.blocks.idle_memory()
    }

    /// Frees a channel that nothing refers to any more.
    pub(super) fn reap(&mut self, id: ChannelId) {
        if self.slots.get(id).is_some_and(State::is_gone) {
            self.free(id);
        }
    }

    pub(super) fn free(&mut self, id: ChannelId) {
        let Some(mut state) = self.slots.remove(id) else {
            return;
        };
        let shared = &mut self.shared;
        state.give_up_writing(shared);
        state.data.clear(&mut shared.blocks);
        state.stderr.clear(&mut shared.blocks);
        shared.drop_window(&state.recv);
    }

    /// The state of a channel, and what it shares with the others.
    pub(super) fn split(&mut self, id: ChannelId) -> Option<(&mut State, &mut Shared)> {
        let state = self.slots.get_mut(id)?;
        Some((state, &mut self.shared))
    }

    /// The channel of a number that the peer named.
    pub(super) fn named(&mut self, channel: u32) -> Result<(&mut State, &mut Shared), Error> {
        match self.slots.at(channel) {
            // The peer was not told the number of a channel that it asked for and that is not accepted.
            Some(state) if state.phase != Phase::Asking => Ok((state, &mut self.shared)),
            _ => Err(PeerError::UnknownChannel { channel }.into()),
        }
    }
}

#[cfg(test)]
impl Channels {
    /// Elements that all lists have memory for.
    pub(super) fn footprint(&self) -> usize {
        let shared = &self.shared;
        self.slots.footprint()
            + shared.ready.capacity()
            + shared.owed.capacity()
            + shared.opening.footprint()
            + shared.touched.capacity()
            + shared.writers.footprint()
            + shared.grown.capacity()
            + self.slots.iter().map(State::footprint).sum::<usize>()
    }
}
