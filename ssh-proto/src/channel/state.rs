//! One channel: where it stands, what it owes the peer, what it has to tell the caller (RFC 4254 section 5).

use std::collections::VecDeque;

use crate::error::{Error, Misuse, PeerError};
use crate::msg::Rest;
use crate::msg::connection as msg;

use super::answers::{Questions, Reply};
use super::kinds::{ChannelEvent, RequestId, WindowSize};
use super::pending::Pending;
use super::recv::Queue;
use super::table::{Io, Shared};
use super::window::{RecvWindow, SendWindow};
use super::write::{Remainder, Streams};
use super::{ChannelId, Notice, Stream};

/// How far a channel is.
///
/// ```text
/// open() ──► Asked ── CONFIRMATION ──► Open ── both CLOSEs ──► Closed ── release ──► gone
///              ├── FAILURE ──► Failed ── OpenFailed was taken ──► gone
///              └── deadline ──► Expired ── CONFIRMATION ──► Open, released: only CLOSE is left to say
///                                 └── FAILURE ──► gone
/// CHANNEL_OPEN ──► Asking ── accept_open ──► Open
///                    └── refuse_open ──► gone
/// ```
///
/// The end of the connection makes it `Closed`, wherever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// We asked for it; the peer has not answered.
    Asked,
    /// The peer asked for it; the caller has not answered.
    Asking,
    Open,
    /// Our deadline has passed; the peer has not answered. The number stays in use until it has.
    Expired,
    Failed,
    Closed,
}

/// Something that is said to the peer once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    No,
    /// It is to be said as soon as the output takes it.
    Owed,
    Sent,
}

/// What runs on a session: RFC 4254 section 6.5, "Only one of these requests can succeed per channel."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    No,
    Asked,
    Yes,
}

/// A request of ours that waits for the open, or for room.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) name: Box<str>,
    pub(super) want_reply: bool,
    pub(super) data: Vec<u8>,
}

/// A request of ours that the peer has not answered.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) request: RequestId,
    pub(super) program: bool,
}

/// One channel.
#[derive(Debug)]
pub(super) struct State {
    pub(super) id: ChannelId,
    /// The peer's number.
    pub(super) peer: u32,
    pub(super) phase: Phase,
    pub(super) session: bool,
    /// The caller is done with it.
    pub(super) released: bool,

    pub(super) local_eof: Say,
    pub(super) local_close: Say,
    pub(super) peer_eof: bool,
    pub(super) peer_close: bool,

    pub(super) send: SendWindow,
    pub(super) writers: Streams,
    pub(super) remainder: Remainder,
    /// It is in the list of those that leave a remainder.
    pub(super) patient: bool,
    pub(super) recv: RecvWindow,
    pub(super) data: Queue,
    pub(super) stderr: Queue,
    /// stderr goes into `data`, in arrival order.
    pub(super) combined: bool,

    /// Requests of ours that wait to be sent.
    pub(super) queued: VecDeque<Queued>,
    /// The last size of the terminal that waits to be sent.
    pub(super) resized: Option<WindowSize>,
    pub(super) awaited: VecDeque<Awaited>,
    pub(super) questions: Questions,
    pub(super) started: Started,
    /// Environment variables that came.
    pub(super) variables: u16,
    pub(super) exit_known: bool,

    pub(super) pending: Pending,
    /// The connection was told that there are events.
    pub(super) listed: bool,
    /// In the list of channels that owe something.
    in_owed: bool,
}

impl State {
    pub(super) fn new(id: ChannelId, phase: Phase, session: bool, window: RecvWindow) -> Self {
        Self {
            id,
            peer: 0,
            phase,
            session,
            released: false,
            local_eof: Say::No,
            local_close: Say::No,
            peer_eof: false,
            peer_close: false,
            send: SendWindow::default(),
            writers: Streams::default(),
            remainder: Remainder::Unwanted,
            patient: false,
            recv: window,
            data: Queue::default(),
            stderr: Queue::default(),
            combined: false,
            queued: VecDeque::new(),
            resized: None,
            awaited: VecDeque::new(),
            questions: Questions::default(),
            started: Started::No,
            variables: 0,
            exit_known: false,
            pending: Pending::default(),
            listed: false,
            in_owed: false,
        }
    }

    // Events.

    /// Tells the connection that there are events, unless it was told.
    pub(super) fn note(&mut self, shared: &mut Shared) {
        if !self.listed && !self.released {
            self.listed = true;
            shared.ready.push_back(Notice::Channel(self.id));
        }
    }

    pub(super) fn push_event(&mut self, event: ChannelEvent, shared: &mut Shared) {
        if !self.released {
            self.pending.push(event);
            self.note(shared);
        }
    }

    pub(super) fn next_event(&mut self) -> Option<ChannelEvent> {
        let event = self.pending.poll();
        if self.pending.is_empty() {
            self.listed = false;
        }
        event
    }

    // Received data.

    /// The queue that a stream's data goes to; `None` for types of extended data that nobody reads.
    pub(super) const fn queue(&self, stream: Stream) -> Option<&Queue> {
        match stream {
            Stream::DATA => Some(&self.data),
            Stream::STDERR if self.combined => Some(&self.data),
            Stream::STDERR => Some(&self.stderr),
            _ => None,
        }
    }

    const fn queue_mut(&mut self, stream: Stream) -> Option<&mut Queue> {
        match stream {
            Stream::DATA => Some(&mut self.data),
            Stream::STDERR if self.combined => Some(&mut self.data),
            Stream::STDERR => Some(&mut self.stderr),
            _ => None,
        }
    }

    /// `len` bytes came at `start` of the current block. The window was debited.
    pub(super) fn keep(&mut self, stream: Stream, start: u32, len: u32, shared: &mut Shared) {
        if self.released {
            return;
        }
        let slot = self.id.slot;
        let combined = self.combined;
        let Some(queue) = self.queue_mut(stream).filter(|queue| !queue.discards()) else {
            shared.repay(self.recv.consume(len));
            return;
        };
        let was_empty = queue.is_empty();
        if queue.push(&mut shared.blocks, start, len) {
            shared.touched.push(slot);
        }
        if was_empty {
            if stream == Stream::DATA || combined {
                self.pending.data = true;
            } else {
                self.pending.stderr = true;
            }
            self.note(shared);
        }
    }

    /// Runs `take` on a stream's queue and credits the bytes that it says it took.
    pub(super) fn take_data(
        &mut self,
        stream: Stream,
        shared: &mut Shared,
        take: impl FnOnce(&mut Queue, &mut Shared) -> usize,
    ) -> usize {
        let Some(queue) = self.queue_mut(stream) else {
            return 0;
        };
        let len = take(queue, shared);
        shared.repay(self.recv.consume(u32::try_from(len).unwrap_or(u32::MAX)));
        // What was announced and is gone needs no announcement any more.
        self.pending.data &= !self.data.is_empty();
        self.pending.stderr &= !self.stderr.is_empty();
        len
    }

    pub(super) fn combine(&mut self, shared: &mut Shared) {
        if !self.combined {
            self.combined = true;
            let was_empty = self.data.is_empty();
            self.data.append(&mut self.stderr);
            self.pending.stderr = false;
            if was_empty && !self.data.is_empty() {
                self.pending.data = true;
                self.note(shared);
            }
            if self.data.discards() {
                let len = self.data.clear(&mut shared.blocks);
                shared.repay(self.recv.consume(u32::try_from(len).unwrap_or(u32::MAX)));
                self.pending.data = false;
            }
        }
    }

    /// No more data will come, and all that came was read from this stream.
    pub(super) fn is_eof(&self, stream: Stream) -> bool {
        (self.peer_eof || self.peer_close || matches!(self.phase, Phase::Closed | Phase::Failed))
            && self.queue(stream).is_none_or(Queue::is_empty)
    }

    // Messages of the peer.

    /// Whether the peer may send the message now, wherever the channel stands otherwise.
    pub(super) fn admits(&self, message: u8) -> Result<(), Error> {
        // RFC 4254 section 5.3: data may follow neither EOF nor CLOSE; nothing follows CLOSE.
        if self.phase == Phase::Open && !self.peer_close {
            Ok(())
        } else {
            Err(self.fault(message))
        }
    }

    pub(super) fn fault(&self, message: u8) -> Error {
        PeerError::ChannelState {
            channel: self.id.slot,
            message,
        }
        .into()
    }

    pub(super) fn peer_eof(&mut self, shared: &mut Shared) {
        self.peer_eof = true;
        self.pending.eof = !self.released;
        self.note(shared);
    }

    /// RFC 4254 section 5.3: "Upon receiving this message, a party MUST send back an SSH_MSG_CHANNEL_CLOSE unless it
    /// has already sent this message for the channel."
    pub(super) fn peer_close(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        self.peer_close = true;
        self.close(shared, io);
        self.finish(shared, io);
    }

    // What we owe the peer.

    pub(super) fn eof(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        if self.local_eof == Say::No && self.local_close == Say::No {
            self.local_eof = Say::Owed;
            self.give_up_writing(shared);
            self.send_owed(shared, io);
        }
    }

    pub(super) fn close(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        if self.local_close == Say::No {
            self.local_close = Say::Owed;
            self.give_up_writing(shared);
            self.questions.clear();
            if self.peer_close {
                // What the peer does not read any more need not wait for room.
                self.queued.clear();
                self.resized = None;
            }
            self.send_owed(shared, io);
        }
    }

    /// Whether the peer is to hear of consumption at all.
    const fn credits(&self) -> bool {
        matches!(self.local_close, Say::No) && !self.peer_eof && !self.peer_close
    }

    fn owes(&self) -> bool {
        self.phase == Phase::Open
            && (!self.queued.is_empty()
                || self.resized.is_some()
                || self.local_eof == Say::Owed
                || self.local_close == Say::Owed
                || (self.credits() && self.recv.is_due()))
    }

    /// Sends what is owed if the output takes it, and joins the list of those that owe otherwise.
    pub(super) fn send_owed(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        if !self.owes() {
            return;
        }
        if io.out.is_open() {
            self.say(shared, io);
        }
        if self.owes() && !self.in_owed {
            self.in_owed = true;
            shared.owed.push_back(self.id);
        }
    }

    /// It was taken off the list of those that owe.
    pub(super) const fn left_owed(&mut self) {
        self.in_owed = false;
    }

    fn say(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        let recipient_channel = self.peer;
        if self.credits() && self.recv.is_due() {
            shared.grow(self.id, &mut self.recv, io);
        }
        if self.credits() && self.recv.credit_due() {
            io.out.must(&msg::ChannelWindowAdjust {
                recipient_channel,
                bytes_to_add: self.recv.grant(io.now),
            });
        }
        while let Some(request) = self.queued.front() {
            // The caller was not refused, and need not hear of room.
            if !io.out.has_request_room() {
                return;
            }
            _ = send_request(
                io,
                recipient_channel,
                &request.name,
                request.want_reply,
                &request.data,
            );
            self.queued.pop_front();
            if self.queued.is_empty() {
                self.queued = VecDeque::new();
            }
        }
        if let Some(size) = self.resized.take() {
            io.out.must(&msg::ChannelRequest {
                recipient_channel,
                request_type: "window-change",
                want_reply: false,
                data: Rest(&super::request::window_change(size)),
            });
        }
        if self.local_eof == Say::Owed {
            self.local_eof = Say::Sent;
            io.out.must(&msg::ChannelEof { recipient_channel });
        }
        if self.local_close == Say::Owed {
            self.local_close = Say::Sent;
            io.out.must(&msg::ChannelClose { recipient_channel });
            io.note_of(self.id, || "closed by this side".to_owned());
            self.finish(shared, io);
        }
    }

    /// Replies whose turn has come.
    pub(super) fn send_replies(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        let recipient_channel = self.peer;
        let mut sent = Ok(());
        while let Some(reply) = self.questions.poll() {
            let this = match reply {
                Reply::Accepted(_) => io.out.reply(&msg::ChannelSuccess { recipient_channel }),
                Reply::Refused => io.out.reply(&msg::ChannelFailure { recipient_channel }),
            };
            sent = sent.and(this);
        }
        sent
    }

    /// Both CLOSEs are through.
    fn finish(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        let ended = matches!(self.phase, Phase::Closed | Phase::Failed);
        if !ended && self.peer_close && self.local_close == Say::Sent {
            io.note_last_of(self.id, || "closed".to_owned());
            self.end(shared);
        }
    }

    /// Nothing can be sent or received any more.
    pub(super) fn end(&mut self, shared: &mut Shared) {
        if matches!(self.phase, Phase::Closed | Phase::Failed) {
            return;
        }
        self.phase = Phase::Closed;
        self.give_up_writing(shared);
        self.questions.clear();
        self.queued = VecDeque::new();
        self.awaited = VecDeque::new();
        self.resized = None;
        self.pending.closed = !self.released;
        self.note(shared);
    }

    /// The caller is done: unread data is dropped, uncredited, and no event is kept.
    pub(super) fn release(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        self.released = true;
        self.pending = Pending::default();
        self.data.clear(&mut shared.blocks);
        self.stderr.clear(&mut shared.blocks);
        self.data.trim();
        self.stderr.trim();
        if self.phase == Phase::Asked {
            self.queued = VecDeque::new();
            self.resized = None;
        }
        self.close(shared, io);
    }

    /// Whether nothing refers to the channel any more, here or at the peer.
    pub(super) const fn is_gone(&self) -> bool {
        self.released && matches!(self.phase, Phase::Closed | Phase::Failed)
    }
}

/// Sends a request about a channel now, or says why not.
pub(super) fn send_request(
    io: &mut Io<'_>,
    recipient_channel: u32,
    request_type: &str,
    want_reply: bool,
    data: &[u8],
) -> Result<(), Misuse> {
    io.out.request(&msg::ChannelRequest {
        recipient_channel,
        request_type,
        want_reply,
        data: Rest(data),
    })
}

#[cfg(test)]
impl State {
    /// Elements that its lists have memory for.
    pub(super) fn footprint(&self) -> usize {
        self.pending.footprint()
            + self.queued.capacity()
            + self.awaited.capacity()
            + self.data.footprint()
            + self.stderr.footprint()
    }
}
