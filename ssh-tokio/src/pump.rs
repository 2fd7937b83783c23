//! Moves the bytes of a connection: reads, writes, runs the timers, ends it.
//!
//! In: any stream, polled. Out: bytes for the state machine, which lends the buffers that are read into, and bytes for
//! the stream. The stream is never touched under the lock.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ssh_proto::Role;
use ssh_proto::error::DisconnectReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::Error;
use crate::buffers::{Buffers, SMALL};
use crate::core::{Shared, now};
use crate::observers::Observers;
use crate::waiters::Wish;

/// After so much idle time the buffers are given back.
const IDLE: Duration = Duration::from_secs(1);
/// How long a connection that has ended tries to get its last bytes out, and to let the peer read them.
const LINGER: Duration = Duration::from_secs(2);
/// How many turns in a row before other tasks are let in.
const TURNS: usize = 16;

/// How far the end of the connection is.
///
/// ```text
/// Alive ── over ──► Flushing ── all written ──► Closing ── shut down ──► Draining ── EOF ──► Done
///                      └──────────────── LINGER has passed ────────────────────────────────►
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alive,
    Flushing,
    Closing,
    /// The peer is to read what was sent last: closing a socket that has unread data would reset it.
    Draining,
    Done,
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Nothing,
    Something,
    /// There was something, and there is nothing more now.
    All,
    /// Tasks were woken that had waited for it, and are to run before more is read.
    Awaited,
}

/// What came of one read.
struct Came {
    /// Tasks were woken that had waited for it.
    woken: bool,
    /// It was long, and took all there was.
    drained: bool,
}

pub(crate) struct Pump<T, R: Role> {
    shared: Arc<Shared<R>>,
    io: T,
    buffers: Buffers,
    /// Bytes that are being written, and how many of them are.
    out: Vec<u8>,
    sent: usize,
    unflushed: bool,
    eof: bool,
    /// Nothing can be written any more.
    mute: bool,
    stage: Stage,
    /// When to give up: after the end, or after writing has failed.
    give_up: Option<Instant>,
    last_active: Instant,
    /// The time of this turn.
    now: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    /// The timer has our waker.
    watched: bool,
    observers: Observers,
}

impl<T, R> Pump<T, R>
where
    T: AsyncRead + AsyncWrite + Unpin,
    R: Role,
{
    pub(crate) fn new(shared: Arc<Shared<R>>, io: T, observers: Observers) -> Self {
        let at = now();
        Self {
            shared,
            io,
            buffers: Buffers::new(),
            out: Vec::new(),
            sent: 0,
            unflushed: false,
            eof: false,
            mute: false,
            stage: Stage::Alive,
            give_up: None,
            last_active: at,
            now: at,
            sleep: None,
            armed: None,
            watched: false,
            observers,
        }
    }

    /// Works until there is nothing to do now. `attend` is polled whenever something may have happened. Ready when the
    /// connection has ended and the stream with it.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut attend: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        self.wake_up(cx);
        for turn in 1..=TURNS {
            self.now = now();
            self.prepare();
            self.write(cx);
            let read = self.read(cx);
            let attended = attend(cx).is_ready();
            let (started, over) = {
                let mut core = self.shared.lock();
                (std::mem::take(&mut core.drive.started), core.over.is_some())
            };
            // Who was waited for is let run, while what was read is still in the processor's caches. What a new task writes
            // first leaves together with the reply to who asked for it.
            let leaves = read == Read::Awaited || started || turn == TURNS;
            let rests = matches!(read, Read::Nothing | Read::All);
            // While something is read, another turn follows: the timers are looked at once. Who rests does so by itself.
            if leaves {
                self.timers(cx);
            }
            self.observers.tell(&self.shared);
            if self.end(cx, attended, over).is_ready() {
                return Poll::Ready(());
            }
            if leaves {
                break;
            }
            if rests && self.rest(cx) {
                return Poll::Pending;
            }
        }
        self.buffers.share();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wake_up(&mut self, cx: &Context<'_>) {
        let mut core = self.shared.lock();
        core.drive.awake = true;
        let known = core.drive.waker.as_ref();
        if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.watched = false;
            let old = core.drive.waker.replace(cx.waker().clone());
            drop(core);
            drop(old);
        }
    }

    /// Before the driver sleeps: whether there is really nothing to do. From here on whoever makes work wakes it.
    fn rest(&mut self, cx: &mut Context<'_>) -> bool {
        for look in 0..2 {
            let mut core = self.shared.lock();
            core.drive.blocked = self.sent < self.out.len();
            core.drive.paused = self.buffers.is_paused() && self.stage == Stage::Alive;
            core.drive.ending = self.stage != Stage::Alive;
            core.drive.armed = self.armed;
            if self.is_timed(core.conn.poll_timeout()) && !core.has_news() {
                core.drive.awake = false;
                return true;
            }
            drop(core);
            if look == 0 && self.timers(cx) {
                break;
            }
        }
        false
    }

    /// What a turn needs of the state machine, under one lock: its output, which makes room there, and a buffer to read
    /// into. Says whether there was output.
    fn prepare(&mut self) -> bool {
        let writes = self.sent == self.out.len();
        let reads = !self.eof && self.stage == Stage::Alive;
        if !writes && !reads {
            return false;
        }
        let some = self.shared.act(|core| {
            let some = writes && !core.conn.output().is_empty();
            if some {
                // It is not cleared: its length says how much of it need not be zeroed again.
                core.conn.swap_output(&mut self.out);
                if self.mute {
                    self.out.clear();
                }
                self.sent = 0;
                // Input that had no room for its replies was looked at now: some of it may have been answers.
                core.waiters.wake(Wish::ROOM, &mut core.wakes);
                core.dispatch();
            }
            if reads {
                self.buffers.borrow(core);
            }
            some
        });
        if some {
            self.last_active = self.now;
        }
        some
    }

    /// Writes what was taken, as far as the stream takes it.
    fn write(&mut self, cx: &mut Context<'_>) {
        while self.sent < self.out.len() {
            let rest = self.out.get(self.sent..).unwrap_or_default();
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.write_failed(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => {
                    self.sent += len;
                    self.unflushed = true;
                    self.last_active = self.now;
                }
                Poll::Ready(Err(error)) => self.write_failed(error),
            }
        }
        if self.unflushed && self.sent == self.out.len() {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.write_failed(error),
            }
        }
    }

    fn write_failed(&mut self, error: io::Error) {
        // What the peer said before it went away can still be read, and ends the connection.
        self.mute = true;
        self.unflushed = false;
        self.out = Vec::new();
        self.sent = 0;
        self.give_up.get_or_insert_with(|| now() + LINGER);
        self.shared
            .act(|core| _ = core.io_error.get_or_insert_with(|| error.into()));
    }

    /// Reads once. After a long read that took all there was, nothing is left to read before others run: that is found
    /// out at once, and the driver need not come back for it.
    fn read(&mut self, cx: &mut Context<'_>) -> Read {
        let Some(mut came) = self.read_once(cx, false) else {
            return Read::Nothing;
        };
        if came.drained {
            match self.read_once(cx, true) {
                None => return Read::All,
                Some(more) => came.woken |= more.woken,
            }
        }
        if came.woken {
            Read::Awaited
        } else {
            Read::Something
        }
    }

    /// With `more`, the last read was a long one, and the next one may be as well.
    fn read_once(&mut self, cx: &mut Context<'_>, more: bool) -> Option<Came> {
        let mut input = self.buffers.take()?;
        let room = input.unfilled().len();
        let mut buf = ReadBuf::new(input.unfilled());
        let result = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let len = buf.filled().len();
        let mut failed = None;
        match result {
            Poll::Pending => {
                self.buffers.unread(input, more);
                return None;
            }
            Poll::Ready(Ok(())) => {
                input.advance(len);
                self.eof = len == 0 && room > 0;
            }
            Poll::Ready(Err(error)) => {
                self.eof = true;
                failed = Some(error);
            }
        }
        self.last_active = self.now;
        let (at, eof) = (self.now, self.eof);
        let drained = len < room && len > SMALL;
        let (authenticated, woken) = self.shared.act_and_tell(|core| {
            if let Some(error) = failed {
                core.io_error.get_or_insert_with(|| error.into());
            }
            self.buffers.give_back(core.conn.handle_input(input, at));
            if eof {
                core.conn.handle_eof(at);
            }
            core.waiters.wake(Wish::ROOM, &mut core.wakes);
            if drained {
                // For the next read.
                core.dispatch();
                self.buffers.borrow(core);
            }
            core.conn.is_authenticated()
        });
        if len == room && authenticated {
            self.buffers.enlarge();
        }
        Some(Came { woken, drained })
    }

    /// Does what is due and arms the one timer. Says whether something was due.
    fn timers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut due = false;
        loop {
            let at = self.now;
            if self.stage == Stage::Alive && self.give_up.is_some_and(|limit| limit <= at) {
                // Writing has failed, and the peer says nothing that would end the connection.
                self.give_up = None;
                self.eof = true;
                self.buffers.drop_lent();
                self.shared.act(|core| core.conn.handle_eof(at));
                due = true;
            }
            if self.holds_buffers() && at >= self.last_active + IDLE {
                self.release_buffers(at);
            }
            let timeout = self.shared.lock().conn.poll_timeout();
            if timeout.is_some_and(|timeout| timeout <= at) {
                self.shared.act(|core| {
                    core.conn.handle_timeout(at);
                    core.waiters.wake(Wish::ROOM, &mut core.wakes);
                });
                due = true;
                continue;
            }
            let Some(next) = self.next_time(timeout) else {
                self.sleep = None;
                self.armed = None;
                return due;
            };
            // A timer that fires too early costs less than moving it each time.
            if self.armed.is_none_or(|armed| next < armed || armed <= at) {
                let instant = next.into();
                match &mut self.sleep {
                    Some(sleep) => sleep.as_mut().reset(instant),
                    None => self.sleep = Some(Box::pin(tokio::time::sleep_until(instant))),
                }
                self.armed = Some(next);
                self.watched = false;
            }
            let Some(sleep) = &mut self.sleep else {
                return due;
            };
            if self.watched && !sleep.is_elapsed() {
                return due;
            }
            self.watched = sleep.as_mut().poll(cx).is_pending();
            if self.watched {
                return due;
            }
            self.armed = None;
            self.now = now();
        }
    }

    /// When something is due next, of the state machine's or of ours.
    fn next_time(&self, timeout: Option<Instant>) -> Option<Instant> {
        let idle = self.holds_buffers().then(|| self.last_active + IDLE);
        let give_up = self.give_up.filter(|limit| *limit > self.now);
        [timeout, idle, give_up].into_iter().flatten().min()
    }

    /// Whether nothing is due, and the timer will wake the driver for what is next. Mostly it is set already.
    fn is_timed(&self, timeout: Option<Instant>) -> bool {
        match (self.next_time(timeout), self.armed) {
            (Some(next), Some(armed)) => self.watched && self.now < armed && armed <= next,
            (next, _) => next.is_none(),
        }
    }

    fn holds_buffers(&self) -> bool {
        self.stage == Stage::Alive
            && (self.buffers.hold_memory()
                || (self.out.capacity() > 0 && self.sent == self.out.len()))
    }

    /// An idle connection holds no buffers. The stream has our waker: it was read until it had nothing.
    fn release_buffers(&mut self, at: Instant) {
        if let Some(input) = self.buffers.release() {
            self.shared.act(|core| {
                // What it holds of an unfinished packet stays.
                drop(core.conn.handle_input(input, at));
            });
        }
        if self.sent == self.out.len() {
            self.out = Vec::new();
            self.sent = 0;
        }
    }

    /// The end, step by step.
    fn end(&mut self, cx: &mut Context<'_>, attended: bool, over: bool) -> Poll<()> {
        if self.stage == Stage::Alive {
            if !over {
                return Poll::Pending;
            }
            self.stage = Stage::Flushing;
            self.give_up = Some(self.now + LINGER);
            self.buffers.drop_lent();
            self.buffers.share();
            // A peer that is gone reads nothing more.
            self.mute |= self.eof;
            // The timer is set for the new deadline.
            self.timers(cx);
        }
        if self.give_up.is_some_and(|limit| limit <= self.now) {
            self.stage = Stage::Done;
            return Poll::Ready(());
        }
        loop {
            self.stage = match self.stage {
                Stage::Alive => return Poll::Pending,
                Stage::Flushing => {
                    self.write(cx);
                    while self.sent == self.out.len() && self.prepare() {
                        self.write(cx);
                    }
                    if self.sent < self.out.len() || self.unflushed {
                        return Poll::Pending;
                    }
                    Stage::Closing
                }
                Stage::Closing => {
                    // It fails when the stream is gone already.
                    _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                    Stage::Draining
                }
                Stage::Draining => {
                    let mut sink = [0; 1024];
                    for _ in 0..TURNS {
                        if self.eof {
                            break;
                        }
                        let mut buf = ReadBuf::new(&mut sink);
                        match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                            Ok(()) if !buf.filled().is_empty() => {}
                            _ => self.eof = true,
                        }
                    }
                    if !self.eof {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Stage::Done
                }
                Stage::Done if attended => return Poll::Ready(()),
                Stage::Done => return Poll::Pending,
            };
        }
    }
}

impl<T, R: Role> Drop for Pump<T, R> {
    fn drop(&mut self) {
        let waker = self.shared.act(|core| {
            if core.over.is_none() {
                let text = "the driver was dropped";
                core.over = Some(io::Error::new(io::ErrorKind::ConnectionAborted, text).into());
                core.conn
                    .disconnect(DisconnectReason::BY_APPLICATION, "", now());
                core.dispatch();
                core.wake_all();
            }
            core.drive.gone = true;
            core.inbox.clear();
            core.calls.clear();
            core.drive.waker.take()
        });
        drop(waker);
        self.observers.finish(&self.shared);
    }
}

/// How a connection ended, for whoever drove it.
pub(crate) fn verdict<R: Role>(shared: &Shared<R>) -> Result<(), Error> {
    let over = shared.lock().over.clone();
    match over {
        None | Some(Error::Connection(ssh_proto::Error::LocallyClosed)) => Ok(()),
        Some(Error::Connection(ssh_proto::Error::Disconnected(said)))
            if said.reason == DisconnectReason::BY_APPLICATION =>
        {
            Ok(())
        }
        Some(error) => Err(error),
    }
}
