//! A socket: who holds its [`Reader`] reads, finishes writes and runs the timers; the attendant sees to it that somebody
//! does.

use std::io;
use std::net::Shutdown;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use mio::{Events, Interest as Readiness, Poll, Token, Waker};
use ssh_proto::{Input, Role};

use crate::core::{Attendant, Call, Polling};
use crate::transport::Socket;

use super::{DOZE, Guard, IDLE, LINGER, Link, Shared, earlier};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);
/// For how long threads that only write may keep the attendant from reading.
const UNREAD: Duration = Duration::from_millis(10);
/// How long the attendant watches beside callers that are busy, and how often they do something then.
const LONG_DOZE: Duration = Duration::from_millis(4);
const BUSY: u64 = 8;
/// How many times in a row one thread writes what others left.
const FLUSH_ROUNDS: usize = 8;

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

impl Reader {
    /// Watches a socket from now on. The waker wakes whoever sleeps in [`turn`](Shared::turn).
    pub(super) fn new(socket: &mut Socket) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let both = Readiness::READABLE | Readiness::WRITABLE;
        poll.registry().register(socket.source(), SOCKET, both)?;
        let reader = Self {
            poll,
            events: Events::with_capacity(4),
            spare: Input::new(),
            drained: false,
            closing: false,
            eof: false,
        };
        Ok((reader, waker))
    }
}

impl<R: Role> Shared<R> {
    /// Writes output until it is gone, the socket would block, or another thread is at it. Says whether anything was
    /// written, since that makes room.
    pub(super) fn flush<'a>(&'a self, mut core: Guard<'a, R>) -> (Guard<'a, R>, bool) {
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
                core.swap_output(&mut bytes);
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
                Err(error) => core.fall_silent(error),
            }
            core.dispatch();
        }
        (core, progress)
    }

    /// One turn of the driver: reads once if there may be something, sleeps otherwise; then processes. The lock is not
    /// released after threads were woken, so that the reader can be put down before they look for it; what is to be
    /// written is left to the caller.
    pub(super) fn turn<'a>(
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
            core.relieve();
            if ended {
                reader.eof = true;
                core.conn.handle_eof(now);
            }
        } else {
            let until = earlier(until, core.poll_timeout());
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
        if !core.calls.is_empty() {
            self.rouse(&core);
        }
        core
    }

    pub(super) fn attend_socket(&self, serve: &mut dyn FnMut(&Self, Call<R>)) {
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
            // The lock was released meanwhile: a caller that drives may have found more, and nobody calls who is awake.
            if !core.calls.is_empty() {
                continue;
            }
            let signs = (core.drives, core.writes);
            let busy = signs.0.wrapping_sub(seen.0) >= BUSY;
            let quiet = signs.0 == seen.0
                && (signs.1.wrapping_sub(seen.1) < BUSY
                    || core.followers > 0
                    || last_read.elapsed() >= UNREAD);
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
                doze = if busy { LONG_DOZE.min(doze * 2) } else { DOZE };
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
            if !core.calls.is_empty()
                || core.over.is_some()
                || core.wakes != wakes
                || core.writes.wrapping_sub(writes) >= BUSY
            {
                return core;
            }
            let mut progress = true;
            while progress {
                (core, progress) = self.flush(core);
            }
            if self.is_observed() {
                drop(core);
                self.drain_log();
                core = self.lock();
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
}
