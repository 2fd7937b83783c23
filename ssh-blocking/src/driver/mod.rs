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

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::Waker;
use ssh_proto::error::DisconnectReason;
use ssh_proto::log::LogRecord;
use ssh_proto::{Connection, Misuse, Role, Seed};

use crate::Error;
use crate::core::{Attendant, Call, Core, Interest, Sort};
use crate::transport::{Kind, Pair, Socket, Transport};

#[cfg(feature = "keylog")]
mod key_log;
mod pair;
#[cfg(feature = "replay")]
mod recording;
mod socket;

#[cfg(feature = "keylog")]
pub(crate) use key_log::KeyLogWriter;
pub(crate) use socket::Reader;

/// How long the attendant watches before it takes over, at first.
const DOZE: Duration = Duration::from_millis(1);
/// After so much idle time the buffers are given back.
const IDLE: Duration = Duration::from_secs(1);
/// How long a connection that has ended tries to get its last bytes out, and to let the peer read them; and how long one that
/// can no longer write waits for what ends it.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

pub(crate) type Guard<'a, R> = MutexGuard<'a, Core<R>>;
pub(crate) type LogCallback = Box<dyn FnMut(&LogRecord) + Send>;
#[cfg(feature = "replay")]
pub(crate) type RecordingCallback = Box<dyn FnMut(&str) + Send>;

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
    /// Where threads wait whose requests were blocked.
    request_room: Arc<Condvar>,
    log: Option<Mutex<Option<LogCallback>>>,
    #[cfg(feature = "replay")]
    recording: std::sync::OnceLock<Mutex<Option<RecordingCallback>>>,
    #[cfg(feature = "keylog")]
    key_log: std::sync::OnceLock<Mutex<Option<KeyLogWriter>>>,
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
        let request_room = Arc::new(Condvar::new());
        let mut core = Core::new(
            conn,
            sort,
            server,
            Arc::clone(&progress),
            Arc::clone(&request_room),
        );
        let (link, pair) = match transport.0 {
            Kind::Pair(pair) => (Link::Pair, Some(pair)),
            Kind::Socket(mut socket) => {
                let (reader, waker) = Reader::new(&mut socket)?;
                core.reader = Some(Box::new(reader));
                (Link::Socket { socket, waker }, None)
            }
        };
        let shared = Arc::new(Self {
            core: Mutex::new(core),
            link,
            attend: Condvar::new(),
            room: Condvar::new(),
            progress,
            request_room,
            log: log.map(|log| Mutex::new(Some(log))),
            #[cfg(feature = "replay")]
            recording: std::sync::OnceLock::new(),
            #[cfg(feature = "keylog")]
            key_log: std::sync::OnceLock::new(),
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

    /// The same for a command. After the end of the connection it fails with why that ended.
    pub(crate) fn command<T>(
        &self,
        command: impl FnOnce(&mut Core<R>) -> Result<T, Misuse>,
    ) -> Result<T, Error> {
        self.act(|core| command(core).map_err(|misuse| core.refused(misuse)))
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
        let mut passing = false;
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
            if lease.is_none() && !passing {
                lease = core.reader.take();
                core.drives += u64::from(lease.is_some());
            }
            passing = false;
            // From `ready` up to here the lock was not released, so no news can be missed by sleeping now.
            let Some(reader) = &mut lease else {
                core = self.follow(core, interest, deadline);
                continue;
            };
            let wakes = core.wakes;
            core = self.turn(core, reader, deadline, false);
            if core.wakes != wakes
                && let Some(reader) = lease.take()
            {
                // Others were woken: whoever of them waits again drives.
                self.put_down(&mut core, reader);
                passing = true;
            }
        };
        if let Some(reader) = lease {
            self.put_down(&mut core, reader);
        }
        if core.followers > 0 && interest.is_single() && core.reader.is_some() {
            // Who waited for an answer does not come back as soon as who waits for data; others still wait.
            core.urgent = true;
            self.attend.notify_one();
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
            (core, _) = self.flush(core);
        }
        core
    }

    /// Has the attendant drive at once: the caller got what it wanted and will not come back soon.
    pub(crate) fn hand_over(&self) {
        let mut core = self.lock();
        if core.reader.is_some() {
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
            Interest::Room => &*self.request_room,
            Interest::Channel(_, gate, wish) => gate.door(*wish),
        };
        let mut until = deadline;
        if matches!(self.link, Link::Pair) {
            // The writing thread may be stuck in a write: then the timers are ours.
            until = earlier(until, core.poll_timeout());
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
            && let Some(timeout) = core.poll_timeout()
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

    /// Runs the timers that are due.
    fn timers(&self, core: &mut Core<R>) {
        if let Some(timeout) = core.poll_timeout() {
            let now = Instant::now();
            if timeout <= now {
                core.handle_timeout(now);
                core.relieve();
                core.dispatch();
            }
        }
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
        self.request_room.notify_all();
        drop(core);
        self.drain_log();
        #[cfg(feature = "replay")]
        self.end_recording();
    }

    /// Calls back. A panic ends this connection and no other.
    fn call(&self, serve: &mut dyn FnMut(&Self, Call<R>), call: Call<R>) {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| serve(self, call)));
        if result.is_err() {
            self.panicked();
        }
    }

    /// What was called back has panicked.
    fn panicked(&self) {
        self.disconnect(DisconnectReason::BY_APPLICATION, "internal error");
    }

    /// Hands the log to its callback. Whoever finds it busy leaves its records to the thread that is at it.
    fn drain_log(&self) {
        #[cfg(feature = "replay")]
        self.drain_recording();
        #[cfg(feature = "keylog")]
        self.drain_key_log();
        let Some(Ok(mut log)) = self.log.as_ref().map(Mutex::try_lock) else {
            return;
        };
        while log.is_some() {
            let Some(record) = self.lock().conn.poll_log() else {
                return;
            };
            if !tell(&mut log, |callback| callback(&record)) {
                drop(log);
                self.panicked();
                return;
            }
        }
    }

    /// Whether [`drain_log`](Self::drain_log) has anybody to tell.
    fn is_observed(&self) -> bool {
        #[cfg(feature = "replay")]
        if self.recording.get().is_some() {
            return true;
        }
        #[cfg(feature = "keylog")]
        if self.key_log.get().is_some() {
            return true;
        }
        self.log.is_some()
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

/// Calls an observer, if it is still there, and says whether it returned. One that panicked is never called again: it
/// would panic once more when the end is logged, maybe on a thread that unwinds already.
fn tell<T>(observer: &mut Option<T>, call: impl FnOnce(&mut T)) -> bool {
    let Some(present) = observer else {
        return true;
    };
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| call(present)));
    if result.is_err() {
        *observer = None;
    }
    result.is_ok()
}

pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
