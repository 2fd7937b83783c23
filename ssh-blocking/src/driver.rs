//! Who moves the bytes: reads, finishes writes, runs the timers.
//!
//! **A socket** is driven by one thread at a time: the one that holds its [`Reader`]. Each connection has a thread of
//! its own for that, the *attendant*. But a caller that has to wait for something takes the reader and drives until
//! it has got it: then data goes from the socket to the thread that wants it without a context switch. The rules:
//!
//! - Whoever has to wait and finds the reader free, drives. Whoever finds it taken, *follows*: sleeps until woken.
//! - A driver that woke somebody else puts the reader down: the one that was woken got data and will soon wait again.
//! - The attendant never leaves the reader lying for longer than a moment. It waits that moment, since taking it at
//!   once would cost the two context switches that the scheme saves. While a caller drives for long it sleeps.
//! - Callbacks run on the attendant (and on callers inside `connect` and `authenticate`), never under the lock.
//!
//! Callers write directly. The `writing` flag is taken under the lock and held without it; what the socket would not
//! take is left to the driver.
//!
//! **A pair** of blocking halves has a thread that reads and a thread that writes, which is also the attendant.

use std::io::{self, Write};
use std::net::Shutdown;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::{Events, Interest as Readiness, Poll, Token, Waker};
use ssh_proto::error::DisconnectReason;
use ssh_proto::log::LogRecord;
use ssh_proto::{Connection, Input, Role, Seed};

use crate::core::{Attendant, Call, Core, Interest, Polling, Sort};
use crate::error::Error;
use crate::transport::{Kind, Pair, Socket, Transport};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// How long the attendant watches before it takes over, at first; and when callers drove all the while.
const DOZE: Duration = Duration::from_millis(1);
const LONG_DOZE: Duration = Duration::from_millis(8);
/// For how long threads that only write may keep the attendant from reading.
const UNREAD: Duration = Duration::from_millis(50);
/// After so much idle time the buffers are given back.
const IDLE: Duration = Duration::from_secs(1);
/// How long a connection that has ended tries to get its last bytes out, and to let the peer read them.
const LINGER: Duration = Duration::from_secs(2);
/// How many times in a row one thread writes what others left.
const FLUSH_ROUNDS: usize = 8;

pub(crate) type Guard<'a, R> = MutexGuard<'a, Core<R>>;
pub(crate) type LogCallback = Box<dyn FnMut(&LogRecord) + Send>;

/// The read side of a socket.
pub(crate) struct Reader {
    poll: Poll,
    events: Events,
    spare: Input,
    /// The socket was read until it had nothing more.
    drained: bool,
    /// The peer has closed its side: the end of the stream is still to be read.
    closing: bool,
    eof: bool,
}

enum Link {
    Socket { socket: Socket, waker: Waker },
    Pair,
}

/// A connection that threads share.
pub(crate) struct Shared<R: Role> {
    core: Mutex<Core<R>>,
    link: Link,
    /// Where the attendant waits.
    attend: Condvar,
    /// Where a pair's reading thread waits for room.
    room: Condvar,
    /// Where threads wait that are interested in the connection as a whole.
    progress: Arc<Condvar>,
    log: Option<Mutex<LogCallback>>,
}

/// What the attendant's thread needs besides what is shared.
pub(crate) struct Attendance {
    pair: Option<Pair>,
}

pub(crate) fn seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Seed::new(bytes))
}

impl<R: Role> Shared<R> {
    /// Puts a connection on a transport. The caller spawns a thread for [`attend`](Self::attend), and for a pair
    /// another one for [`read_pair`](Self::read_pair).
    pub(crate) fn new(
        conn: Connection<R>,
        transport: Transport,
        sort: Sort<R>,
        server: bool,
        log: Option<LogCallback>,
    ) -> io::Result<(Arc<Self>, Attendance)> {
        let progress = Arc::new(Condvar::new());
        let mut core = Core::new(conn, sort, server, Arc::clone(&progress));
        let (link, pair) = match transport.0 {
            Kind::Pair(pair) => (Link::Pair, Some(pair)),
            Kind::Socket(mut socket) => {
                let poll = Poll::new()?;
                let waker = Waker::new(poll.registry(), WAKER)?;
                let both = Readiness::READABLE | Readiness::WRITABLE;
                poll.registry().register(socket.source(), SOCKET, both)?;
                core.reader = Some(Box::new(Reader {
                    poll,
                    events: Events::with_capacity(4),
                    spare: Input::new(),
                    drained: false,
                    closing: false,
                    eof: false,
                }));
                (Link::Socket { socket, waker }, None)
            }
        };
        let shared = Arc::new(Self {
            core: Mutex::new(core),
            link,
            attend: Condvar::new(),
            room: Condvar::new(),
            progress,
            log: log.map(Mutex::new),
        });
        Ok((shared, Attendance { pair }))
    }

    /// The lock. A thread that panicked under it has found a bug of `ssh_proto`: the connection is over then.
    pub(crate) fn lock(&self) -> Guard<'_, R> {
        self.core.lock().unwrap_or_else(|poisoned| {
            self.core.clear_poison();
            let mut core = poisoned.into_inner();
            core.over
                .get_or_insert_with(|| ssh_proto::Error::Bug("a panic under the lock").into());
            core.mute = true;
            self.attend.notify_one();
            core
        })
    }

    /// Does something at once, and sends what came of it.
    pub(crate) fn act<T>(&self, act: impl FnOnce(&mut Core<R>) -> T) -> T {
        let mut core = self.lock();
        let result = act(&mut core);
        self.finish(core);
        result
    }

    /// Waits until `ready` has something; it may act on the core, and is asked again after whatever may have changed
    /// its mind. Fails when the connection ends before that, or the deadline passes; `what` says what was waited for.
    pub(crate) fn wait<T>(
        &self,
        interest: Interest<'_>,
        deadline: Option<Instant>,
        what: &'static str,
        ready: impl FnMut(&mut Core<R>) -> Option<T>,
    ) -> Result<T, Error> {
        let (core, result) = self.wait_locked(interest, deadline, what, ready);
        self.finish(core);
        result
    }

    /// [`wait`](Self::wait) for what writes: also waits until the socket has taken it.
    pub(crate) fn wait_and_settle<T>(
        &self,
        interest: Interest<'_>,
        deadline: Option<Instant>,
        what: &'static str,
        ready: impl FnMut(&mut Core<R>) -> Option<T>,
    ) -> Result<T, Error> {
        let (core, result) = self.wait_locked(interest, deadline, what, ready);
        let core = self.settle(core, deadline);
        self.finish(core);
        result
    }

    fn wait_locked<T>(
        &self,
        interest: Interest<'_>,
        deadline: Option<Instant>,
        what: &'static str,
        mut ready: impl FnMut(&mut Core<R>) -> Option<T>,
    ) -> (Guard<'_, R>, Result<T, Error>) {
        let mut core = self.lock();
        let mut lease: Option<Box<Reader>> = None;
        let result = loop {
            if let Some(result) = ready(&mut core) {
                break Ok(result);
            }
            if let Some(error) = &core.over {
                break Err(error.clone());
            }
            let progress;
            (core, progress) = self.flush(core);
            if progress {
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break Err(Error::TimedOut(what));
            }
            if lease.is_none() {
                lease = core.reader.take();
                core.drives += u64::from(lease.is_some());
            }
            let Some(mut reader) = lease.take() else {
                core = self.follow(core, interest, deadline);
                continue;
            };
            let wakes = core.wakes;
            core = self.turn(core, &mut reader, deadline, false);
            if core.wakes == wakes || core.over.is_some() {
                lease = Some(reader);
                continue;
            }
            let result = ready(&mut core);
            self.put_down(&mut core, reader);
            if let Some(result) = result {
                break Ok(result);
            }
            core = self.follow(core, interest, deadline);
        };
        if let Some(reader) = lease {
            self.put_down(&mut core, reader);
        }
        (core, result)
    }

    /// Waits until the socket has taken what was written, driving if nobody else does: who writes much is slowed down to
    /// the speed of the socket, and needs no help from the attendant.
    fn settle<'a>(&'a self, core: Guard<'a, R>, deadline: Option<Instant>) -> Guard<'a, R> {
        let (mut core, _) = self.flush(core);
        while core.blocked && core.over.is_none() {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            let Some(mut reader) = core.reader.take() else {
                break;
            };
            core.drives += 1;
            core = self.turn(core, &mut reader, deadline, false);
            self.put_down(&mut core, reader);
        }
        core
    }

    /// Has the attendant drive at once where others wait: the caller got what it wanted and will not come back soon.
    pub(crate) fn hand_over(&self) {
        let mut core = self.lock();
        if core.followers > 0 && core.reader.is_some() {
            core.urgent = true;
            self.attend.notify_one();
        }
    }

    fn put_down(&self, core: &mut Core<R>, reader: Box<Reader>) {
        core.reader = Some(reader);
        if core.attendant == Attendant::Asleep {
            self.attend.notify_one();
        }
    }

    /// Sleeps until somebody who drives says that it may be worth looking again.
    fn follow<'a>(
        &'a self,
        mut core: Guard<'a, R>,
        interest: Interest<'_>,
        deadline: Option<Instant>,
    ) -> Guard<'a, R> {
        let door = match &interest {
            Interest::Connection => &*self.progress,
            Interest::Channel(_, gate, wish) => gate.door(*wish),
        };
        let mut until = deadline;
        if matches!(self.link, Link::Pair) {
            // The writing thread may be stuck in a write: then the timers are ours.
            until = earlier(until, core.conn.poll_timeout());
        }
        core.count(interest, true);
        core = match until {
            None => door.wait(core).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let timeout = until.saturating_duration_since(Instant::now());
                door.wait_timeout(core, timeout)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        core.count(interest, false);
        if matches!(self.link, Link::Pair) {
            self.timers(&mut core);
        }
        core
    }

    /// Sends what a caller's action left behind, and makes sure that somebody takes care of the rest.
    pub(crate) fn finish<'a>(&'a self, core: Guard<'a, R>) {
        let (mut core, _) = self.flush(core);
        core.dispatch();
        if core.reader.is_some() && !core.is_drained() && !core.writing {
            core.urgent = true;
            self.attend.notify_one();
        } else if core.over.is_some() {
            self.attend.notify_one();
            self.wake_driver();
        } else if !core.calls.is_empty() {
            self.rouse(&core);
        } else if core.polling.is_some() && !core.is_drained() && !core.writing && !core.blocked {
            // More than one thread should write on behalf of others.
            self.wake_driver();
        }
        if let Some(polling) = core.polling
            && let Some(timeout) = core.conn.poll_timeout()
            && polling.until.is_none_or(|until| timeout < until)
        {
            self.wake_driver();
        }
        drop(core);
        self.drain_log();
    }

    /// Makes the attendant look.
    fn rouse(&self, core: &Core<R>) {
        match core.attendant {
            Attendant::Dozing | Attendant::Asleep => self.attend.notify_one(),
            Attendant::Awake => {
                if core.polling.is_some_and(|polling| polling.by_attendant) {
                    self.wake_driver();
                }
            }
        }
    }

    pub(crate) fn wake_driver(&self) {
        if let Link::Socket { waker, .. } = &self.link {
            // It fails only when the system is out of everything; the driver then wakes with its timeout.
            _ = waker.wake();
        }
    }

    /// Writes output until it is gone, the socket would block, or another thread is at it. Says whether anything was
    /// written, since that makes room.
    fn flush<'a>(&'a self, mut core: Guard<'a, R>) -> (Guard<'a, R>, bool) {
        let socket = match &self.link {
            Link::Socket { socket, .. } => socket,
            Link::Pair => {
                if !core.conn.output().is_empty() && core.attendant != Attendant::Awake {
                    self.attend.notify_one();
                }
                return (core, false);
            }
        };
        let mut progress = false;
        for _ in 0..FLUSH_ROUNDS {
            if core.writing || core.blocked {
                break;
            }
            let (mut bytes, mut sent) = if core.unsent.is_empty() {
                if core.conn.output().is_empty() {
                    break;
                }
                let mut bytes = std::mem::take(&mut core.spare);
                core.conn.swap_output(&mut bytes);
                (bytes, 0)
            } else {
                (std::mem::take(&mut core.unsent), core.sent)
            };
            if core.mute {
                bytes.clear();
                sent = 0;
            }
            core.writing = true;
            let edges = core.write_edges;
            drop(core);
            let mut result = Ok(());
            while sent < bytes.len() && result.is_ok() {
                match socket.write(&bytes[sent..]) {
                    Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                    Ok(len) => sent += len,
                    Err(error) => result = Err(error),
                }
            }
            core = self.lock();
            core.writing = false;
            progress = true;
            match result {
                Ok(()) => {
                    core.spare = bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    core.unsent = bytes;
                    core.sent = sent;
                    // If the socket became writable in between, the driver has been told already and will not be
                    // told again.
                    core.blocked = edges == core.write_edges;
                }
                Err(error) => {
                    // What the peer said before it went away can still be read, and ends the connection.
                    core.mute = true;
                    core.io_error.get_or_insert_with(|| error.into());
                }
            }
            core.dispatch();
        }
        (core, progress)
    }

    /// Runs the timers that are due.
    fn timers(&self, core: &mut Core<R>) {
        if let Some(timeout) = core.conn.poll_timeout() {
            let now = Instant::now();
            if timeout <= now {
                core.conn.handle_timeout(now);
                core.dispatch();
            }
        }
    }

    /// One turn of the driver: reads once if there may be something, sleeps otherwise; then processes and writes.
    fn turn<'a>(
        &'a self,
        mut core: Guard<'a, R>,
        reader: &mut Reader,
        until: Option<Instant>,
        by_attendant: bool,
    ) -> Guard<'a, R> {
        let Link::Socket { socket, .. } = &self.link else {
            return core;
        };
        let mut input = None;
        if !reader.drained && !reader.eof && core.may_read() {
            match core.conn.take_input(std::mem::take(&mut reader.spare)) {
                Ok(lent) => input = Some(lent),
                Err(spare) => reader.spare = spare,
            }
        }
        if let Some(mut input) = input {
            drop(core);
            let room = input.unfilled().len();
            let result = socket.read(input.unfilled());
            core = self.lock();
            let now = Instant::now();
            let mut ended = false;
            match result {
                Ok(0) => ended = room > 0,
                Ok(len) => {
                    input.advance(len);
                    // A short read has emptied the socket, unless it ended at the end of the stream.
                    reader.drained = cfg!(unix) && len < room && !reader.closing;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => reader.drained = true,
                Err(error) => {
                    core.io_error = Some(error.into());
                    ended = true;
                }
            }
            reader.spare = core.conn.handle_input(input, now).unwrap_or_default();
            if ended {
                reader.eof = true;
                core.conn.handle_eof(now);
            }
        } else {
            let until = earlier(until, core.conn.poll_timeout());
            core.polling = Some(Polling {
                until,
                by_attendant,
            });
            drop(core);
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            let polled = reader.poll.poll(&mut reader.events, timeout);
            core = self.lock();
            core.polling = None;
            if let Err(error) = polled
                && error.kind() != io::ErrorKind::Interrupted
            {
                core.io_error.get_or_insert_with(|| error.into());
                reader.eof = true;
                core.conn.handle_eof(Instant::now());
            }
            for event in reader.events.iter().filter(|event| event.token() == SOCKET) {
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    reader.drained = false;
                }
                reader.closing |= event.is_read_closed() || event.is_error();
                if event.is_writable() || event.is_write_closed() || event.is_error() {
                    core.write_edges = core.write_edges.wrapping_add(1);
                    core.blocked = false;
                }
            }
        }
        self.timers(&mut core);
        core.dispatch();
        let (core, _) = self.flush(core);
        if !core.calls.is_empty() {
            self.rouse(&core);
        }
        core
    }

    /// The work of the connection's own thread, until the connection has ended. Calls are handed to `serve`, outside
    /// the lock.
    pub(crate) fn attend(&self, attendance: Attendance, serve: &mut dyn FnMut(&Self, Call<R>)) {
        match attendance.pair {
            None => self.attend_socket(serve),
            Some(pair) => self.attend_pair(pair, serve),
        }
        let mut core = self.lock();
        core.over
            .get_or_insert_with(|| ssh_proto::Error::LocallyClosed.into());
        core.finished = true;
        self.progress.notify_all();
        drop(core);
        self.drain_log();
    }

    /// Calls back. A panic ends this connection and no other.
    fn call(&self, serve: &mut dyn FnMut(&Self, Call<R>), call: Call<R>) {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| serve(self, call)));
        if result.is_err() {
            self.disconnect(DisconnectReason::BY_APPLICATION, "internal error");
        }
    }

    fn attend_socket(&self, serve: &mut dyn FnMut(&Self, Call<R>)) {
        let mut seen = (0, 0);
        let mut last_read = Instant::now();
        let mut linger = None;
        let mut doze = DOZE;
        loop {
            let mut core = self.lock();
            core.attendant = Attendant::Awake;
            self.timers(&mut core);
            if let Some(call) = core.calls.pop_front() {
                drop(core);
                self.call(serve, call);
                continue;
            }
            if core.over.is_some() {
                let deadline = *linger.get_or_insert_with(|| Instant::now() + LINGER);
                if core.is_drained() || Instant::now() >= deadline {
                    break;
                }
            }
            (core, _) = self.flush(core);
            let signs = (core.drives, core.writes);
            let quiet = signs.0 == seen.0
                && (signs.1 == seen.1 || core.followers > 0 || last_read.elapsed() >= UNREAD);
            seen = signs;
            if (quiet || core.urgent || core.over.is_some())
                && let Some(mut reader) = core.reader.take()
            {
                core.urgent = false;
                core = self.drive(core, &mut reader, linger);
                last_read = Instant::now();
                core.reader = Some(reader);
                seen = (core.drives, core.writes);
                if core.over.is_some() || !core.calls.is_empty() {
                    continue;
                }
            }
            let timeout = if core.reader.is_none() && quiet {
                core.attendant = Attendant::Asleep;
                LINGER * 1000
            } else {
                core.attendant = Attendant::Dozing;
                doze = if quiet { DOZE } else { LONG_DOZE.min(doze * 2) };
                doze
            };
            drop(
                self.attend
                    .wait_timeout(core, timeout)
                    .unwrap_or_else(PoisonError::into_inner),
            );
            self.drain_log();
        }
        self.hang_up();
    }

    /// The attendant drives until there is a call, or until callers show that they are awake.
    fn drive<'a>(
        &'a self,
        mut core: Guard<'a, R>,
        reader: &mut Reader,
        linger: Option<Instant>,
    ) -> Guard<'a, R> {
        let writes = core.writes;
        let wakes = core.wakes;
        let mut idle = Some(IDLE);
        loop {
            let begin = Instant::now();
            let until = earlier(idle.map(|idle| begin + idle), linger);
            core = self.turn(core, reader, until, true);
            let mut progress = true;
            while progress {
                (core, progress) = self.flush(core);
            }
            if self.log.is_some() {
                drop(core);
                self.drain_log();
                core = self.lock();
            }
            if !core.calls.is_empty()
                || core.over.is_some()
                || core.wakes != wakes
                || core.writes != writes
            {
                return core;
            }
            if idle.is_some_and(|idle| begin.elapsed() >= idle) {
                // Nothing happened for a while: an idle connection holds no buffers.
                idle = None;
                reader.spare = Input::new();
                core.spare = Vec::new();
            } else if idle.is_none() && !reader.drained {
                idle = Some(IDLE);
            }
        }
    }

    /// Ends the socket such that the peer gets to read what was sent last: closing a socket that has unread data
    /// would reset it.
    fn hang_up(&self) {
        let Link::Socket { socket, .. } = &self.link else {
            return;
        };
        socket.shutdown(Shutdown::Write);
        let deadline = Instant::now() + LINGER;
        let mut core = self.lock();
        // A caller that drives is on its way out.
        core.attendant = Attendant::Asleep;
        while core.reader.is_none() && Instant::now() < deadline {
            core = self
                .attend
                .wait_timeout(core, DOZE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let reader = core.reader.take();
        drop(core);
        let Some(mut reader) = reader else {
            socket.shutdown(Shutdown::Both);
            return;
        };
        let mut sink = [0; 4096];
        while !reader.eof {
            match socket.read(&mut sink) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || reader.poll.poll(&mut reader.events, Some(left)).is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        socket.shutdown(Shutdown::Both);
    }

    /// The writing thread of a pair.
    fn attend_pair(&self, mut pair: Pair, serve: &mut dyn FnMut(&Self, Call<R>)) {
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
                core.conn.swap_output(&mut bytes);
                core.dispatch();
                let mute = core.mute;
                drop(core);
                self.room.notify_one();
                if !mute
                    && let Err(error) = pair
                        .writer
                        .write_all(&bytes)
                        .and_then(|()| pair.writer.flush())
                {
                    let mut core = self.lock();
                    core.mute = true;
                    core.io_error.get_or_insert_with(|| error.into());
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
                .conn
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
            let result = loop {
                match reader.read(input.unfilled()) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
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

    /// Hands the log to its callback. Whoever finds it busy leaves its records to the thread that is at it.
    fn drain_log(&self) {
        let Some(log) = &self.log else {
            return;
        };
        let Ok(mut callback) = log.try_lock() else {
            return;
        };
        loop {
            let Some(record) = self.lock().conn.poll_log() else {
                return;
            };
            callback(&record);
        }
    }

    /// Starts the end: a DISCONNECT is sent, and everything that waits is told.
    pub(crate) fn disconnect(&self, reason: DisconnectReason, text: &str) {
        let mut core = self.lock();
        core.conn.disconnect(reason, text, Instant::now());
        core.dispatch();
        self.finish(core);
    }

    /// Waits until everything was written, or nothing can be written any more.
    pub(crate) fn wait_drained(&self, deadline: Option<Instant>) {
        let mut core = self.lock();
        while !core.is_drained() && !core.finished {
            let left = deadline.map_or(DOZE, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            // Nobody tells of output that has left, so this looks again and again; it is no place to hurry.
            core = self
                .progress
                .wait_timeout(core, left.min(DOZE))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Attendance {
    /// The reading half of a pair, for a thread of its own.
    pub(crate) fn take_reader(&mut self) -> Option<Box<dyn io::Read + Send>> {
        self.pair
            .as_mut()
            .map(|pair| std::mem::replace(&mut pair.reader, Box::new(io::empty())))
    }
}

pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
