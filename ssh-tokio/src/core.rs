//! What stands under the lock: the state machine, and who waits for what.
//!
//! In: the events of `ssh_proto`. Out: wakers to be woken once the lock is released, questions for a caller (`inbox`),
//! calls for the connection's own attendant (`calls`). Nothing here waits, and no queue lies between a handle and the
//! driver: a handle acts on the state machine itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ssh_proto::adapter::Attempts;
use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    ChannelEvent, ChannelId, ChannelRequest, Connection, Draft, Misuse, OpenFailureReason,
    OpenRequest, Received, RequestId, RequestToken, Role, Seed, Stream, WriteError,
};

use crate::Error;
use crate::ExitStatus;
use crate::forward::{Offered, Routes};
use crate::table::Table;
use crate::waiters::{Waiters, Wakes, Wish};

/// Calls that wait for the attendant; beyond it nothing is read. A peer cannot make this queue grow.
const MAX_CALLS: usize = 64;

/// The time, as the runtime sees it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn seed() -> std::io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(Seed::new(bytes))
}

/// Where an event of a role goes.
pub(crate) enum Sorted<E> {
    Channel(ChannelId),
    Reply(RequestId, Option<Vec<u8>>),
    /// For the caller that authenticates.
    Question(E),
    /// For the attendant.
    Call(E),
    /// A channel that the server of a client asks for.
    Open(OpenRequest),
    /// The answer to a PING.
    Pong,
    Rekeyed,
    Unblocked,
    Over(ssh_proto::Error),
}

/// Sorts an event.
pub(crate) type Sort<R> = fn(<R as Role>::Event) -> Sorted<<R as Role>::Event>;

/// Something that the attendant has to do.
pub(crate) enum Call<R: Role> {
    Event(R::Event),
    /// On a client: a channel that is none of its forwards'.
    Open(OpenRequest),
    Requested {
        channel: ChannelId,
        request: ChannelRequest,
        token: Option<RequestToken>,
    },
    ChannelClosed(ChannelId),
}

/// What is known about a channel besides what the state machine knows.
#[derive(Default)]
pub(crate) struct ChannelState {
    pub(crate) waiters: Waiters,
    pub(crate) opened: Option<Result<Vec<u8>, Error>>,
    pub(crate) exit: Option<ExitStatus>,
    pub(crate) eof: bool,
    pub(crate) closed: bool,
    /// Requests whose reply somebody wants.
    pub(crate) replies: BTreeMap<RequestId, Option<bool>>,
    /// The peer reads no more of what is written.
    pub(crate) unread: bool,
    /// Streams whose data was thrown away for want of a reader.
    pub(crate) discarded: [bool; 2],
}

/// What the driver and the handles have agreed on.
#[derive(Debug, Default)]
pub(crate) struct Drive {
    pub(crate) waker: Option<Waker>,
    /// The driver looks, or was told to: no need to wake it.
    pub(crate) awake: bool,
    /// The stream takes nothing now: more output is no news.
    pub(crate) blocked: bool,
    /// The driver does not read, because the state machine took no input.
    pub(crate) paused: bool,
    /// The driver wakes by itself then.
    pub(crate) armed: Option<Instant>,
    /// The driver knows that the connection is over.
    pub(crate) ending: bool,
    /// The attendant has started a task.
    pub(crate) started: bool,
    /// There is no driver any more.
    pub(crate) gone: bool,
}

pub(crate) struct Core<R: Role> {
    pub(crate) conn: Connection<R>,
    sort: Sort<R>,
    /// The attendant wants to know of channels that close.
    wants_closes: bool,
    pub(crate) drive: Drive,
    pub(crate) wakes: Wakes,
    pub(crate) waiters: Waiters,
    next_key: u64,
    pub(crate) channels: Table,
    pub(crate) inbox: VecDeque<R::Event>,
    /// A client's attempts to authenticate.
    pub(crate) attempts: Attempts,
    pub(crate) calls: VecDeque<Call<R>>,
    /// The attendant is at a call, and looks for the next one by itself.
    attending: bool,
    /// Global requests whose reply somebody waits for.
    pub(crate) replies: BTreeMap<RequestId, Option<Option<Vec<u8>>>>,
    /// On a client: what the server listens for.
    pub(crate) routes: Routes,
    /// PINGs that were sent, and those that were answered.
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    /// Key exchanges after the first.
    pub(crate) rekeys: u64,
    pub(crate) io_error: Option<Error>,
    pub(crate) over: Option<Error>,
}

impl<R: Role> Core<R> {
    /// Takes every event out of the state machine and notes whom it concerns.
    pub(crate) fn dispatch(&mut self) {
        let mut some = false;
        while let Some(event) = self.conn.poll_event() {
            some = true;
            self.note(event);
        }
        if some {
            // Any of them may be the answer that the next request waits for. Without one nobody is woken: two that wait
            // would wake each other for ever.
            self.waiters.wake(Wish::ROOM, &mut self.wakes);
        }
    }

    /// Not within `dispatch`, which mostly finds no event.
    #[inline(never)]
    fn note(&mut self, event: R::Event) {
        match (self.sort)(event) {
            Sorted::Channel(id) => return self.channel_events(id),
            Sorted::Reply(request, reply) => {
                if let Some(wanted) = self.replies.get_mut(&request) {
                    *wanted = Some(reply);
                }
            }
            Sorted::Question(event) => self.inbox.push_back(event),
            Sorted::Call(event) => self.calls.push_back(Call::Event(event)),
            Sorted::Open(request) => self.offer(request),
            Sorted::Pong => self.pongs += 1,
            Sorted::Rekeyed => self.rekeys += 1,
            Sorted::Unblocked => return,
            Sorted::Over(error) => self.end(error),
        }
        self.waiters.wake(Wish::STATE, &mut self.wakes);
    }

    /// At once, under the lock that takes forwards away: what one of them was to have is offered to nobody else.
    fn offer(&mut self, request: OpenRequest) {
        match self.routes.offer(request) {
            Offered::Taken => {}
            Offered::Refused(request) => {
                let reason = OpenFailureReason::ADMINISTRATIVELY_PROHIBITED;
                // It fails only when the connection has ended.
                _ = self.conn.refuse_open(request, reason, "");
            }
            Offered::Unknown(request) => self.calls.push_back(Call::Open(request)),
        }
    }

    fn end(&mut self, error: ssh_proto::Error) {
        // The stream's own words say more than "the stream ended".
        let io_error = self.io_error.take();
        if self.over.is_none() {
            self.over = Some(match (&error, io_error) {
                (ssh_proto::Error::UnexpectedEof(_), Some(io_error)) => io_error,
                (ssh_proto::Error::HostKeyRejected, Some(refused)) => refused,
                _ => error.into(),
            });
        }
        self.wake_all();
    }

    /// Everybody looks again.
    pub(crate) fn wake_all(&mut self) {
        self.waiters.wake(Wish::ANY, &mut self.wakes);
        for state in self.channels.values_mut() {
            state.waiters.wake(Wish::ANY, &mut self.wakes);
        }
    }

    fn channel_events(&mut self, id: ChannelId) {
        let Some(mut channel) = self.conn.channel(id) else {
            return;
        };
        let Some(state) = self.channels.get_mut(id) else {
            // Nobody holds the channel any more.
            while channel.poll_event().is_some() {}
            return;
        };
        while let Some(event) = channel.poll_event() {
            let wish = match event {
                ChannelEvent::Data(Stream::STDERR) => Wish::STDERR,
                ChannelEvent::Data(_) => Wish::READ,
                ChannelEvent::Writable => Wish::WRITE,
                ChannelEvent::EndOfWrite => {
                    state.unread = true;
                    Wish::WRITE
                }
                ChannelEvent::Eof => {
                    state.eof = true;
                    Wish::READ.and(Wish::STDERR).and(Wish::STATE)
                }
                ChannelEvent::Opened { data } => {
                    state.opened = Some(Ok(data));
                    Wish::STATE
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
                    Wish::ANY
                }
                ChannelEvent::Replied { request, accepted } => {
                    if let Some(reply) = state.replies.get_mut(&request) {
                        *reply = Some(accepted);
                    }
                    Wish::STATE
                }
                ChannelEvent::ExitStatus(code) => {
                    state.exit = Some(ExitStatus::Code(code));
                    Wish::STATE
                }
                ChannelEvent::ExitSignal(signal) => {
                    state.exit = Some(ExitStatus::Signal(signal));
                    Wish::STATE
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
                    Wish::ANY
                }
                _ => continue,
            };
            state.waiters.wake(wish, &mut self.wakes);
        }
    }

    /// Whether the peer may be read: not while the attendant is far behind.
    pub(crate) fn may_read(&self) -> bool {
        self.calls.len() < MAX_CALLS
    }

    /// Whether the driver has something to do that it does not know of, but for what is due at a time.
    pub(crate) fn has_news(&self) -> bool {
        let drive = &self.drive;
        (!drive.blocked && !self.conn.output().is_empty())
            || (drive.paused && self.may_read() && self.conn.wants_input())
            || (!self.attending && !self.calls.is_empty())
            || (self.over.is_some() && !drive.ending)
    }

    /// Whether something is due before the driver wakes by itself.
    fn is_due_earlier(&self) -> bool {
        self.conn
            .poll_timeout()
            .is_some_and(|at| self.drive.armed.is_none_or(|armed| at < armed))
    }

    fn call_driver(&mut self) {
        if !self.drive.awake && !self.drive.gone && (self.has_news() || self.is_due_earlier()) {
            self.drive.awake = true;
            if let Some(waker) = self.drive.waker.clone() {
                self.wakes.add(waker);
            }
        }
    }

    /// Why the connection has ended, for a call that needs it alive.
    pub(crate) fn ended(&self) -> Error {
        self.over
            .clone()
            .unwrap_or(Error::Misuse(Misuse::NoSuchChannel))
    }

    /// Why a channel is not there: it was never opened, or the connection has ended.
    pub(crate) fn gone(&self, id: ChannelId) -> Error {
        match self
            .channels
            .get(id)
            .and_then(|state| state.opened.as_ref())
        {
            Some(Err(error)) => error.clone(),
            _ => self.ended(),
        }
    }

    pub(crate) fn add_channel(&mut self, id: ChannelId, opened: bool) {
        let state = ChannelState {
            opened: opened.then(|| Ok(Vec::new())),
            ..ChannelState::default()
        };
        self.channels.insert(id, state);
    }

    /// Forgets a channel that nobody holds any more.
    pub(crate) fn release(&mut self, id: ChannelId) {
        if let Some(mut channel) = self.conn.channel(id) {
            channel.release();
        }
        if let Some(mut state) = self.channels.remove(id) {
            state.waiters.wake(Wish::ANY, &mut self.wakes);
        }
        if self.wants_closes && !self.drive.gone {
            self.calls.push_back(Call::ChannelClosed(id));
        }
    }

    /// Hands out what is there. `None`: nothing yet, and the caller is woken when that changes.
    pub(crate) fn poll_read(
        &mut self,
        id: ChannelId,
        stream: Stream,
        buf: &mut tokio::io::ReadBuf<'_>,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        let Some(mut channel) = self.conn.channel(id) else {
            return Poll::Ready(Err(self.ended()));
        };
        let mut len = 0;
        while buf.remaining() > 0 {
            let chunk = channel.chunk(stream);
            let Some(piece) = chunk
                .get(..chunk.len().min(buf.remaining()))
                .filter(|piece| !piece.is_empty())
            else {
                break;
            };
            buf.put_slice(piece);
            len = piece.len();
            channel.consume(stream, len);
        }
        if len > 0 || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_end(id, stream, waker)
    }

    /// Takes a block of what is there; `done` goes back first. `None` is EOF. Pending: nothing yet, and the caller is
    /// woken when that changes.
    pub(crate) fn poll_take(
        &mut self,
        id: ChannelId,
        stream: Stream,
        done: &mut Option<Received>,
        waker: &Waker,
    ) -> Poll<Result<Option<Received>, Error>> {
        let Some(mut channel) = self.conn.channel(id) else {
            return Poll::Ready(Err(self.ended()));
        };
        if let Some(done) = done.take() {
            channel.recycle(done);
        }
        match channel.take(stream) {
            Some(taken) => Poll::Ready(Ok(Some(taken))),
            None => self.poll_end(id, stream, waker).map_ok(|()| None),
        }
    }

    /// The end of a stream without data, or the wait for more.
    fn poll_end(
        &mut self,
        id: ChannelId,
        stream: Stream,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        if let Some(end) = self.end_of(id, stream) {
            return Poll::Ready(end);
        }
        let wish = if stream == Stream::STDERR {
            Wish::STDERR
        } else {
            Wish::READ
        };
        self.register(id, wish, waker);
        Poll::Pending
    }

    /// What a stream without data has to say: EOF, an error, or nothing yet.
    pub(crate) fn end_of(&self, id: ChannelId, stream: Stream) -> Option<Result<(), Error>> {
        let Some(state) = self.channels.get(id) else {
            return Some(Err(self.ended()));
        };
        let index = usize::from(stream == Stream::STDERR);
        if state.discarded.get(index) == Some(&true) {
            return Some(Err(Error::OutputDiscarded));
        }
        if let Some(Err(error)) = &state.opened {
            return Some(Err(error.clone()));
        }
        if state.eof || state.closed {
            return Some(Ok(()));
        }
        self.over.clone().map(Err)
    }

    /// Writes what there is room for. Pending: nothing was taken, and the caller is woken when there may be room.
    pub(crate) fn poll_write(
        &mut self,
        id: ChannelId,
        stream: Stream,
        parts: &[&[u8]],
        waker: &Waker,
    ) -> Poll<Result<usize, Error>> {
        if self.is_unread(id, stream) {
            return Poll::Ready(Err(Error::ChannelClosed));
        }
        let Some(mut channel) = self.conn.channel(id) else {
            return Poll::Ready(Err(self.ended()));
        };
        let written = channel.write_parts(stream, parts);
        self.poll_written(id, written, waker)
    }

    /// Sends what there is room for of a draft. Pending as for [`poll_write`](Self::poll_write).
    pub(crate) fn poll_send(
        &mut self,
        id: ChannelId,
        stream: Stream,
        draft: &mut Draft,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        if self.is_unread(id, stream) {
            return Poll::Ready(Err(Error::ChannelClosed));
        }
        let Some(mut channel) = self.conn.channel(id) else {
            return Poll::Ready(Err(self.ended()));
        };
        let sent = channel.send(stream, draft);
        self.poll_written(id, sent, waker).map_ok(|_| ())
    }

    /// Whether the peer has said that it reads no more of what is written.
    fn is_unread(&self, id: ChannelId, stream: Stream) -> bool {
        stream == Stream::DATA && self.channels.get(id).is_some_and(|state| state.unread)
    }

    fn poll_written(
        &mut self,
        id: ChannelId,
        written: Result<usize, WriteError>,
        waker: &Waker,
    ) -> Poll<Result<usize, Error>> {
        match written {
            Ok(len) => Poll::Ready(Ok(len)),
            Err(WriteError::Blocked) => {
                self.register(id, Wish::WRITE, waker);
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(self.over.clone().unwrap_or(Error::ChannelClosed))),
        }
    }

    fn register(&mut self, id: ChannelId, wish: Wish, waker: &Waker) {
        if let Some(state) = self.channels.get_mut(id) {
            state.waiters.register(wish, waker, &mut self.wakes);
        }
    }

    fn waiters(&mut self, interest: Interest) -> Option<(&mut Waiters, Wish)> {
        match interest {
            Interest::Connection(wish) => Some((&mut self.waiters, wish)),
            Interest::Channel(id, wish) => self
                .channels
                .get_mut(id)
                .map(|state| (&mut state.waiters, wish)),
        }
    }
}

/// Whether a request of ours has to wait: for room in the output, or until the peer has answered earlier ones.
pub(crate) fn must_wait(misuse: Misuse) -> bool {
    matches!(
        misuse,
        Misuse::Blocked | Misuse::Limit("pending_opens" | "pending_requests")
    )
}

/// What a future waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interest {
    Connection(Wish),
    Channel(ChannelId, Wish),
}

/// A connection that handles and its driver share.
pub(crate) struct Shared<R: Role> {
    core: Mutex<Core<R>>,
}

impl<R: Role> Shared<R> {
    pub(crate) fn new(conn: Connection<R>, sort: Sort<R>, wants_closes: bool) -> Self {
        Self {
            core: Mutex::new(Core {
                conn,
                sort,
                wants_closes,
                drive: Drive::default(),
                wakes: Wakes::default(),
                waiters: Waiters::default(),
                next_key: 0,
                channels: Table::default(),
                inbox: VecDeque::new(),
                attempts: Attempts::default(),
                calls: VecDeque::new(),
                attending: false,
                replies: BTreeMap::new(),
                routes: Routes::default(),
                pings: 0,
                pongs: 0,
                rekeys: 0,
                io_error: None,
                over: None,
            }),
        }
    }

    /// The lock. A thread that panicked under it has found a bug of `ssh_proto`: the connection is over then.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core<R>> {
        self.core.lock().unwrap_or_else(|poisoned| {
            self.core.clear_poison();
            let mut core = poisoned.into_inner();
            core.over
                .get_or_insert_with(|| ssh_proto::Error::Bug("a panic under the lock").into());
            core.wake_all();
            core
        })
    }

    /// Does something at once, and has the driver send what came of it.
    pub(crate) fn act<T>(&self, act: impl FnOnce(&mut Core<R>) -> T) -> T {
        self.act_and_tell(act).0
    }

    /// The same; besides, it says whether anybody was woken.
    pub(crate) fn act_and_tell<T>(&self, act: impl FnOnce(&mut Core<R>) -> T) -> (T, bool) {
        let mut core = self.lock();
        let result = act(&mut core);
        core.dispatch();
        core.call_driver();
        if core.wakes.is_done() {
            return (result, false);
        }
        let wakes = std::mem::take(&mut core.wakes);
        drop(core);
        let woken = !wakes.is_empty();
        wakes.wake();
        (result, woken)
    }

    /// Waits until `ready` has something; it may act on the core, and is asked again after whatever may have changed
    /// its mind. Fails when the connection ends before that. Dropping the future takes it off the list of those that
    /// wait.
    pub(crate) async fn wait<T>(
        &self,
        interest: Interest,
        mut ready: impl FnMut(&mut Core<R>) -> Option<T>,
    ) -> Result<T, Error> {
        let mut waiting = self.waiting(interest);
        std::future::poll_fn(|cx| waiting.poll(cx, &mut ready)).await
    }

    /// The same for a `poll_` method, again and again.
    pub(crate) const fn waiting(&self, interest: Interest) -> Waiting<'_, R> {
        Waiting {
            shared: self,
            interest,
            key: 0,
        }
    }

    /// Waits until the connection has ended.
    pub(crate) async fn over(&self) {
        // What it says is why.
        _ = self
            .wait(Interest::Connection(Wish::STATE), |_| None::<()>)
            .await;
    }

    /// The next call for the attendant, once it is there; `None` when the connection has ended. No waker is registered:
    /// the driver polls the attendant whenever there may be a call, or room for what `tidy` left undone.
    pub(crate) async fn next_call(&self, tidy: fn(&mut Core<R>)) -> Option<Call<R>> {
        std::future::poll_fn(|_| {
            self.act(|core| {
                tidy(core);
                let call = core.calls.pop_front();
                core.attending = call.is_some();
                match call {
                    None if core.over.is_none() => Poll::Pending,
                    call => Poll::Ready(call),
                }
            })
        })
        .await
    }

    /// Starts the end: a DISCONNECT is sent, and everything that waits is told.
    pub(crate) fn disconnect(&self, reason: DisconnectReason, text: &str) {
        self.act(|core| core.conn.disconnect(reason, text, now()));
    }
}

/// A future that waits. Its place in the list is given up with it.
pub(crate) struct Waiting<'a, R: Role> {
    shared: &'a Shared<R>,
    interest: Interest,
    key: u64,
}

impl<R: Role> Waiting<'_, R> {
    pub(crate) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        ready: &mut impl FnMut(&mut Core<R>) -> Option<T>,
    ) -> Poll<Result<T, Error>> {
        let (shared, interest) = (self.shared, self.interest);
        shared.act(|core| {
            if let Some(result) = ready(core) {
                return Poll::Ready(Ok(result));
            }
            // What this very call did may have made something happen.
            core.dispatch();
            if let Some(result) = ready(core) {
                return Poll::Ready(Ok(result));
            }
            if let Some(error) = &core.over {
                return Poll::Ready(Err(error.clone()));
            }
            if self.key == 0 {
                core.next_key += 1;
                self.key = core.next_key;
            }
            let key = self.key;
            let mut wakes = std::mem::take(&mut core.wakes);
            let known = core.waiters(interest).map(|(waiters, wish)| {
                waiters.insert(key, wish, cx.waker(), &mut wakes);
            });
            core.wakes = wakes;
            match known {
                Some(()) => Poll::Pending,
                None => Poll::Ready(Err(core.ended())),
            }
        })
    }
}

impl<R: Role> Drop for Waiting<'_, R> {
    fn drop(&mut self) {
        if self.key != 0 {
            let mut core = self.shared.lock();
            let waker = core
                .waiters(self.interest)
                .and_then(|(waiters, _)| waiters.remove(self.key));
            drop(core);
            drop(waker);
        }
    }
}
