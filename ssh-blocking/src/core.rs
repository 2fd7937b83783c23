//! What stands under the lock: the state machine, and who waits for what.
//!
//! In: the events of `ssh_proto`. Out: threads that are woken, questions for a caller (`inbox`), calls for the
//! connection's own thread (`calls`). Nothing here blocks.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Weak};
use std::time::Instant;

use mio::Waker;
use ssh_proto::adapter::Attempts;
use ssh_proto::{
    ChannelEvent, ChannelId, ChannelRequest, Connection, Draft, Misuse, Received, RequestId,
    RequestToken, Role, Stream, WriteError,
};

use crate::Error;
use crate::ExitStatus;
use crate::driver::{LINGER, Reader, earlier};

/// Calls that wait for the connection's own thread; beyond it nothing is read. A peer cannot make this queue grow.
const MAX_CALLS: usize = 64;

/// Where an event of a role goes.
pub(crate) enum Sorted<E> {
    Channel(ChannelId),
    Reply(RequestId, Option<Vec<u8>>),
    /// For the caller that connects or authenticates.
    Question(E),
    /// For the connection's own thread.
    Call(E),
    /// The answer to a PING.
    Pong,
    Rekeyed,
    Unblocked,
    Over(ssh_proto::Error),
}

/// Sorts an event; the flag says whether the connection's own thread answers questions now.
pub(crate) type Sort<R> = fn(<R as Role>::Event, bool) -> Sorted<<R as Role>::Event>;

/// Something that the connection's own thread has to do.
pub(crate) enum Call<R: Role> {
    Event(R::Event),
    Requested {
        channel: ChannelId,
        request: ChannelRequest,
        token: Option<RequestToken>,
    },
    ChannelClosed(ChannelId),
    /// Every channel that came of this forward has been called for.
    ForwardEnded(RequestId),
}

/// What a thread waits for about a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Data, or EOF.
    Read,
    /// Data of the error stream, or EOF.
    ReadStderr,
    /// Room to write.
    Write,
    /// Open confirmations, replies, the exit status, CLOSE.
    State,
    /// Any of these.
    Any,
}

impl Wish {
    const ALL: [Self; 5] = [
        Self::Read,
        Self::ReadStderr,
        Self::Write,
        Self::State,
        Self::Any,
    ];

    /// To read from that stream.
    pub(crate) fn read(stream: Stream) -> Self {
        if stream == Stream::STDERR {
            Self::ReadStderr
        } else {
            Self::Read
        }
    }
}

/// Where the threads of one channel wait.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    doors: [Condvar; 5],
}

impl Gate {
    pub(crate) const fn door(&self, wish: Wish) -> &Condvar {
        &self.doors[wish as usize]
    }
}

/// What a thread waits for.
#[derive(Clone, Copy)]
pub(crate) enum Interest<'a> {
    /// Anything that happens to the connection.
    Connection,
    /// Room for a request that was blocked.
    Room,
    Channel(ChannelId, &'a Arc<Gate>, Wish),
}

impl Interest<'_> {
    /// Whether it is about something that happens once, unlike data.
    pub(crate) const fn is_single(&self) -> bool {
        matches!(
            self,
            Self::Connection | Self::Room | Self::Channel(_, _, Wish::State | Wish::Any)
        )
    }
}

/// What is known about a channel besides what the state machine knows.
#[derive(Default)]
pub(crate) struct ChannelState {
    gate: Arc<Gate>,
    waiting: [u32; 5],
    pub(crate) opened: Option<Result<Vec<u8>, Error>>,
    pub(crate) exit: Option<ExitStatus>,
    pub(crate) eof: bool,
    pub(crate) closed: bool,
    /// The peer reads no more of our data.
    pub(crate) unread: bool,
    /// Requests whose reply somebody wants.
    pub(crate) replies: BTreeMap<RequestId, Option<bool>>,
    /// Streams whose data was thrown away for want of a reader.
    pub(crate) discarded: [bool; 2],
}

/// How the connection's own thread spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attendant {
    /// At work, or about to look.
    Awake,
    /// Looks again by itself soon.
    Dozing,
    /// Somebody else drives: it must be told when they stop.
    Asleep,
}

/// A sleeping driver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Polling {
    pub(crate) until: Option<Instant>,
    pub(crate) by_attendant: bool,
}

pub(crate) struct Core<R: Role> {
    pub(crate) conn: Connection<R>,
    sort: Sort<R>,
    /// The connection's own thread answers questions, and wants to know of channels that close.
    pub(crate) attended: bool,
    pub(crate) wants_closes: bool,

    // The read side of a socket: whoever holds it drives.
    pub(crate) reader: Option<Box<Reader>>,
    pub(crate) polling: Option<Polling>,
    pub(crate) attendant: Attendant,
    /// The attendant is to drive at once instead of waiting for a quiet moment.
    pub(crate) urgent: bool,
    /// How often a caller took the read side, and how often one wrote: signs of life for the attendant.
    pub(crate) drives: u64,
    pub(crate) writes: u64,
    /// How many waiting threads were woken so far.
    pub(crate) wakes: u64,

    // The write side.
    pub(crate) writing: bool,
    /// Bytes that the socket would not take, and how many of them it took since.
    pub(crate) unsent: Vec<u8>,
    pub(crate) sent: usize,
    /// The socket would block; the driver goes on when it is writable.
    pub(crate) blocked: bool,
    /// How often the socket was found writable.
    pub(crate) write_edges: u64,
    /// Nothing can be written any more.
    pub(crate) mute: bool,
    /// Until then the peer may still say what it said before it went away.
    give_up: Option<Instant>,
    pub(crate) spare: Vec<u8>,

    // Who waits, and for what.
    pub(crate) followers: usize,
    waiting: u32,
    progress: Arc<Condvar>,
    waiting_for_room: u32,
    request_room: Arc<Condvar>,
    /// One of them waits for answers of the peer.
    at_limit: bool,
    pub(crate) channels: BTreeMap<ChannelId, ChannelState>,
    pub(crate) inbox: VecDeque<R::Event>,
    /// A client's attempts to authenticate.
    pub(crate) attempts: Attempts,
    pub(crate) calls: VecDeque<Call<R>>,
    /// Global requests whose reply somebody waits for.
    pub(crate) replies: BTreeMap<RequestId, Option<Option<Vec<u8>>>>,
    /// PINGs that were sent, and those that were answered.
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    /// Key exchanges after the first.
    pub(crate) rekeys: u64,

    // The end.
    pub(crate) io_error: Option<Error>,
    pub(crate) over: Option<Error>,
    /// Who wants to hear of the end.
    at_end: Vec<Weak<Waker>>,
    /// The connection's own thread has ended.
    pub(crate) finished: bool,
}

impl<R: Role> Core<R> {
    pub(crate) fn new(
        conn: Connection<R>,
        sort: Sort<R>,
        server: bool,
        progress: Arc<Condvar>,
        request_room: Arc<Condvar>,
    ) -> Self {
        Self {
            conn,
            sort,
            attended: server,
            wants_closes: server,
            reader: None,
            polling: None,
            attendant: Attendant::Awake,
            urgent: false,
            drives: 0,
            writes: 0,
            wakes: 0,
            writing: false,
            unsent: Vec::new(),
            sent: 0,
            blocked: false,
            write_edges: 0,
            mute: false,
            give_up: None,
            spare: Vec::new(),
            followers: 0,
            waiting: 0,
            progress,
            waiting_for_room: 0,
            request_room,
            at_limit: false,
            channels: BTreeMap::new(),
            inbox: VecDeque::new(),
            attempts: Attempts::default(),
            calls: VecDeque::new(),
            replies: BTreeMap::new(),
            pings: 0,
            pongs: 0,
            rekeys: 0,
            io_error: None,
            over: None,
            at_end: Vec::new(),
            finished: false,
        }
    }

    /// Takes every event out of the state machine and wakes whom it concerns.
    pub(crate) fn dispatch(&mut self) {
        let mut heard = false;
        while let Some(event) = self.conn.poll_event() {
            heard = true;
            match (self.sort)(event, self.attended) {
                Sorted::Channel(id) => self.channel_events(id),
                Sorted::Reply(request, reply) => {
                    if let Some(wanted) = self.replies.get_mut(&request) {
                        *wanted = Some(reply);
                    }
                }
                Sorted::Question(event) => self.inbox.push_back(event),
                Sorted::Call(event) => self.calls.push_back(Call::Event(event)),
                Sorted::Pong => self.pongs += 1,
                Sorted::Rekeyed => self.rekeys += 1,
                Sorted::Unblocked => self.tell_room(),
                Sorted::Over(error) => self.end(error),
            }
        }
        if heard {
            self.relieve();
        }
        if self.waiting > 0 {
            self.wakes += u64::from(self.waiting);
            self.progress.notify_all();
        }
    }

    /// Whoever has a request that was blocked tries again.
    fn tell_room(&mut self) {
        if self.waiting_for_room > 0 {
            self.wakes += u64::from(self.waiting_for_room);
            self.request_room.notify_all();
        }
    }

    /// Whether a request of ours has to wait: for room in the output, or until the peer has answered earlier ones.
    pub(crate) fn must_wait(&mut self, misuse: Misuse) -> bool {
        let limit = matches!(misuse, Misuse::Limit("pending_opens" | "pending_requests"));
        self.at_limit |= limit;
        limit || misuse == Misuse::Blocked
    }

    /// Takes the output out. That lets the state machine go on with input that it has kept because of it; the caller
    /// dispatches.
    pub(crate) fn swap_output(&mut self, bytes: &mut Vec<u8>) {
        self.conn.swap_output(bytes);
        self.relieve();
    }

    /// The peer was heard, or did not answer in time: no event tells that a request at its limit may be tried again.
    ///
    /// Not to be called for less: who tries again in vain counts as waiting at the limit again, and two of them would
    /// wake each other for ever.
    pub(crate) fn relieve(&mut self) {
        if std::mem::take(&mut self.at_limit) {
            self.tell_room();
        }
    }

    fn end(&mut self, error: ssh_proto::Error) {
        // The socket's own words say more than "the stream ended".
        let io_error = self.io_error.take();
        self.over = Some(match (&error, io_error) {
            (ssh_proto::Error::UnexpectedEof(_), Some(io_error)) => io_error,
            _ => error.into(),
        });
        for state in self.channels.values_mut() {
            self.wakes += state.wake(Wish::Any);
        }
        self.tell_room();
        for waker in std::mem::take(&mut self.at_end) {
            if let Some(waker) = waker.upgrade() {
                // It fails only when the system is out of everything.
                _ = waker.wake();
            }
        }
    }

    /// Wakes a listener when the connection ends, or now if it has.
    pub(crate) fn tell_end(&mut self, waker: &Arc<Waker>) {
        if self.over.is_some() {
            _ = waker.wake();
            return;
        }
        self.at_end.retain(|other| other.strong_count() > 0);
        self.at_end.push(Arc::downgrade(waker));
    }

    /// Nobody wants a channel any more, although there are handles.
    pub(crate) fn abandon(&mut self, id: ChannelId) {
        if let Some(mut channel) = self.conn.channel(id) {
            channel.release();
        }
        if let Some(state) = self.channels.get_mut(&id) {
            state.opened.get_or_insert(Err(Error::ChannelClosed));
            state.closed = true;
            // Also whoever drives and waits for it.
            self.wakes += 1 + state.wake(Wish::Any);
        }
        self.tell_room();
    }

    fn channel_events(&mut self, id: ChannelId) {
        let Some(mut channel) = self.conn.channel(id) else {
            return;
        };
        let Some(state) = self.channels.get_mut(&id) else {
            // Nobody holds the channel any more.
            while channel.poll_event().is_some() {}
            return;
        };
        while let Some(event) = channel.poll_event() {
            let wish = match event {
                ChannelEvent::Data(stream) => Wish::read(stream),
                ChannelEvent::Writable => Wish::Write,
                ChannelEvent::EndOfWrite => {
                    state.unread = true;
                    Wish::Write
                }
                ChannelEvent::Eof => {
                    state.eof = true;
                    Wish::Any
                }
                ChannelEvent::Opened { data } => {
                    state.opened = Some(Ok(data));
                    Wish::State
                }
                ChannelEvent::OpenFailed {
                    reason,
                    description,
                } => {
                    state.opened = Some(Err(Error::OpenFailed {
                        reason,
                        description: description.into(),
                    }));
                    state.closed = true;
                    Wish::Any
                }
                ChannelEvent::Replied { request, accepted } => {
                    if let Some(reply) = state.replies.get_mut(&request) {
                        *reply = Some(accepted);
                    }
                    Wish::State
                }
                ChannelEvent::ExitStatus(code) => {
                    state.exit = Some(ExitStatus::Code(code));
                    Wish::State
                }
                ChannelEvent::ExitSignal(signal) => {
                    state.exit = Some(ExitStatus::Signal(signal));
                    Wish::State
                }
                ChannelEvent::Requested { request, token } => {
                    self.calls.push_back(Call::Requested {
                        channel: id,
                        request,
                        token,
                    });
                    continue;
                }
                ChannelEvent::Closed => {
                    // Without the peer's word it is the connection that has ended, which is an error.
                    state.closed = channel.is_closed_by_peer();
                    if self.wants_closes {
                        self.calls.push_back(Call::ChannelClosed(id));
                    }
                    Wish::Any
                }
                _ => continue,
            };
            self.wakes += state.wake(wish);
        }
    }

    /// Whether the peer may be read: not while the connection's own thread is far behind.
    pub(crate) fn may_read(&self) -> bool {
        self.calls.len() < MAX_CALLS
    }

    /// Writing has failed. What the peer said before can still be read, and ends the connection; or else time does.
    pub(crate) fn fall_silent(&mut self, error: io::Error) {
        self.mute = true;
        self.io_error.get_or_insert_with(|| error.into());
        self.give_up.get_or_insert_with(|| Instant::now() + LINGER);
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.conn.poll_timeout(), self.give_up)
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.give_up.take_if(|at| *at <= now).is_some() {
            self.conn.handle_eof(now);
        }
        self.conn.handle_timeout(now);
    }

    /// Whether nothing is left to be written.
    pub(crate) fn is_drained(&self) -> bool {
        self.mute || (!self.writing && self.unsent.is_empty() && self.conn.output().is_empty())
    }

    /// Why the connection has ended, for a call that needs it alive.
    pub(crate) fn ended(&self) -> Error {
        self.refused(Misuse::NoSuchChannel)
    }

    /// What a command that was refused says. Why the connection has ended says more than that it has.
    pub(crate) fn refused(&self, misuse: Misuse) -> Error {
        self.over.clone().unwrap_or(Error::Misuse(misuse))
    }

    /// Why a channel is not there: it was never opened, or the connection has ended.
    pub(crate) fn gone(&self, id: ChannelId) -> Error {
        match self
            .channels
            .get(&id)
            .and_then(|state| state.opened.as_ref())
        {
            Some(Err(error)) => error.clone(),
            _ => self.ended(),
        }
    }

    pub(crate) fn add_channel(&mut self, id: ChannelId, opened: bool) -> Arc<Gate> {
        let state = ChannelState {
            opened: opened.then(|| Ok(Vec::new())),
            ..ChannelState::default()
        };
        let gate = Arc::clone(&state.gate);
        self.channels.insert(id, state);
        gate
    }

    /// Reads what is there. `None`: nothing yet.
    pub(crate) fn read(
        &mut self,
        id: ChannelId,
        stream: Stream,
        buf: &mut [u8],
    ) -> Option<Result<usize, Error>> {
        let Some(mut channel) = self.conn.channel(id) else {
            return Some(Err(self.ended()));
        };
        let len = channel.read(stream, buf);
        if len > 0 {
            return Some(Ok(len));
        }
        self.end_of(id, stream)
    }

    /// Takes what is there, block by block; `done` goes back first. `None`: nothing yet; `Some(Ok(None))`: EOF.
    pub(crate) fn take(
        &mut self,
        id: ChannelId,
        stream: Stream,
        done: &mut Option<Received>,
    ) -> Option<Result<Option<Received>, Error>> {
        let Some(mut channel) = self.conn.channel(id) else {
            return Some(Err(self.ended()));
        };
        if let Some(done) = done.take() {
            channel.recycle(done);
        }
        match channel.take(stream) {
            Some(taken) => Some(Ok(Some(taken))),
            None => Some(self.end_of(id, stream)?.map(|_| None)),
        }
    }

    /// What a stream without data has to say: EOF, an error, or nothing yet.
    pub(crate) fn end_of(&self, id: ChannelId, stream: Stream) -> Option<Result<usize, Error>> {
        let state = self.channels.get(&id)?;
        let index = usize::from(stream == Stream::STDERR);
        if state.discarded.get(index) == Some(&true) {
            return Some(Err(Error::OutputDiscarded));
        }
        if let Some(Err(error)) = &state.opened {
            return Some(Err(error.clone()));
        }
        if state.eof || state.closed {
            return Some(Ok(0));
        }
        self.over.clone().map(Err)
    }

    /// Writes what there is room for. `None`: no room yet.
    pub(crate) fn write(
        &mut self,
        id: ChannelId,
        stream: Stream,
        bytes: &[u8],
    ) -> Option<Result<usize, Error>> {
        if self.is_unread(id, stream) {
            return Some(Err(Error::ChannelClosed));
        }
        let mut done = 0;
        while done < bytes.len() {
            let Some(mut channel) = self.conn.channel(id) else {
                return Some(Err(self.ended()));
            };
            match channel.write(stream, bytes.get(done..).unwrap_or_default()) {
                Ok(len) => done += len,
                Err(WriteError::Blocked) => break,
                Err(_) if done > 0 => break,
                Err(_) => {
                    let error = self.over.clone().unwrap_or(Error::ChannelClosed);
                    return Some(Err(error));
                }
            }
        }
        (done > 0).then_some(Ok(done))
    }

    /// Sends what there is room for of a draft. `None`: no room yet.
    pub(crate) fn send(
        &mut self,
        id: ChannelId,
        stream: Stream,
        draft: &mut Draft,
    ) -> Option<Result<(), Error>> {
        if self.is_unread(id, stream) {
            return Some(Err(Error::ChannelClosed));
        }
        let Some(mut channel) = self.conn.channel(id) else {
            return Some(Err(self.ended()));
        };
        match channel.send(stream, draft) {
            Ok(_) => Some(Ok(())),
            Err(WriteError::Blocked) => None,
            Err(_) => {
                let error = self.over.clone().unwrap_or(Error::ChannelClosed);
                Some(Err(error))
            }
        }
    }

    /// Whether the peer has said that it reads no more of what is written.
    fn is_unread(&self, id: ChannelId, stream: Stream) -> bool {
        stream == Stream::DATA && self.channels.get(&id).is_some_and(|state| state.unread)
    }

    /// Counts the calling thread among those that wait, or takes it out again.
    pub(crate) fn count(&mut self, interest: Interest<'_>, waits: bool) {
        let waiting = match interest {
            Interest::Connection => &mut self.waiting,
            Interest::Room => &mut self.waiting_for_room,
            Interest::Channel(id, _, wish) => match self.channels.get_mut(&id) {
                Some(state) => &mut state.waiting[wish as usize],
                None => return,
            },
        };
        if waits {
            *waiting += 1;
            self.followers += 1;
        } else {
            *waiting -= 1;
            self.followers -= 1;
        }
    }
}

impl ChannelState {
    /// Wakes whoever waits for `wish` or for anything; says how many threads that were.
    fn wake(&self, wish: Wish) -> u64 {
        let mut woken = 0;
        for each in Wish::ALL {
            let waiting = self.waiting[each as usize];
            if waiting > 0 && (wish == Wish::Any || each == Wish::Any || each == wish) {
                self.gate.door(each).notify_all();
                woken += u64::from(waiting);
            }
        }
        woken
    }
}

#[cfg(test)]
mod tests;
