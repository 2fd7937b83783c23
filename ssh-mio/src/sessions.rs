//! All sessions of a thread: who is to be served next, and who has a deadline.
//!
//! In: mio's events, the time. Out: calls of one function for each session to which something happened. A turn costs
//! what happened in it, whatever the number of sessions.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use ssh_proto::Role;
use ssh_proto::error::DisconnectReason;

use crate::buffer::ReadBuffer;
use crate::session::Session;
use crate::timers::Timers;
use crate::transport::Transport;

/// The sessions of a thread, each with a state `T` of yours. They share one read buffer and one structure of deadlines.
///
/// A loop around it, complete, is in the [crate's documentation](crate): wait for events no longer than
/// [`wait_time`](Self::wait_time), hand those of sessions to [`note`](Self::note), then call [`run`](Self::run).
#[derive(Debug)]
pub struct Sessions<R: Role, T = (), S: Transport = TcpStream> {
    /// By token, from `first` on. A session is large: the table holds it by reference.
    slots: Vec<Option<Box<Slot<R, T, S>>>>,
    free: Vec<usize>,
    first: usize,
    len: usize,
    /// Who is to be served in the next turn, each once; during a turn, those that are still to come, too.
    due: VecDeque<Token>,
    timers: Timers,
    buffer: ReadBuffer,
}

#[derive(Debug)]
struct Slot<R: Role, T, S: Transport> {
    session: Session<R, S>,
    state: T,
    /// It is in `due`.
    due: bool,
}

impl<R: Role, T, S: Transport> Sessions<R, T, S> {
    /// No sessions. They will have the tokens from `first` on: those below it are for listeners, wakers and the like.
    pub fn new(first: Token) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            first: first.0,
            len: 0,
            due: VecDeque::new(),
            timers: Timers::new(),
            buffer: ReadBuffer::new(),
        }
    }

    /// Adds a session and registers it. Its token is used again only after it was removed.
    ///
    /// # Errors
    /// Those of registering; the session is dropped then.
    pub fn insert(
        &mut self,
        registry: &Registry,
        mut session: Session<R, S>,
        state: T,
    ) -> io::Result<Token> {
        let index = self.free.last().copied().unwrap_or(self.slots.len());
        let token = Token(self.first + index);
        registry.register(&mut session, token, Interest::READABLE | Interest::WRITABLE)?;
        self.timers.set(token, session.deadline());
        let slot = Some(Box::new(Slot {
            session,
            state,
            due: false,
        }));
        if index == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.free.pop();
            self.slots[index] = slot;
        }
        self.len += 1;
        Ok(token)
    }

    /// Takes a session out, whatever its state, and deregisters it.
    pub fn remove(&mut self, registry: &Registry, token: Token) -> Option<(Session<R, S>, T)> {
        let index = self.index(token)?;
        let mut slot = self.slots[index].take()?;
        self.free.push(index);
        self.len -= 1;
        self.timers.remove(token);
        // Closing the stream does the same.
        _ = registry.deregister(&mut slot.session);
        Some((slot.session, slot.state))
    }

    /// A session and its state, for commands between the turns. It is served in the next turn, which sends what came
    /// of them.
    pub fn get_mut(&mut self, token: Token) -> Option<(&mut Session<R, S>, &mut T)> {
        self.wake(token);
        let index = self.index(token)?;
        let slot = self.slots[index].as_deref_mut()?;
        Some((&mut slot.session, &mut slot.state))
    }

    /// Makes sure that a session is served in the next turn. One that is gone is passed over.
    pub fn wake(&mut self, token: Token) {
        if let Some(index) = self.index(token)
            && let Some(slot) = self.slots[index].as_deref_mut()
            && !mem::replace(&mut slot.due, true)
        {
            self.due.push_back(token);
        }
    }

    /// Takes note of an event. What it makes possible is done in the next [`run`](Self::run). An event of a token that
    /// is none of these sessions' is passed over.
    pub fn note(&mut self, event: &Event) {
        if let Some(index) = self.index(event.token())
            && let Some(slot) = self.slots[index].as_deref_mut()
        {
            slot.session.note(event);
            self.wake(event.token());
        }
    }

    /// How long to wait for events at the most: not at all when there is something to do, else until the next deadline.
    /// `None`: there is none.
    pub fn wait_time(&self, now: Instant) -> Option<Duration> {
        if !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        Some(self.timers.next()?.saturating_duration_since(now))
    }

    /// One turn: every session to which something happened reads, is given to `serve` once, and writes. `serve` should
    /// take all events and need not flush. Sessions that stopped early to be fair go on in the next turn; those that
    /// have ended are removed once they have said their last.
    ///
    /// # Panics
    /// When `serve` does. The session that it was called for is ended and removed, its peer is told as far as the stream
    /// takes it at once, and the panic goes on to the caller. The others are served in the next turn.
    pub fn run(
        &mut self,
        registry: &Registry,
        now: Instant,
        mut serve: impl FnMut(Token, &mut Session<R, S>, &mut T),
    ) {
        while let Some(token) = self.timers.expire(now) {
            if let Some(index) = self.index(token)
                && let Some(slot) = self.slots[index].as_deref_mut()
            {
                slot.session.timeout(now);
                self.wake(token);
            }
        }
        for _ in 0..self.due.len() {
            let Some(token) = self.due.pop_front() else {
                return;
            };
            let Some(index) = self.index(token) else {
                continue;
            };
            let Some(slot) = self.slots[index].as_deref_mut() else {
                continue;
            };
            slot.due = false;
            slot.session.resume(now, &mut self.buffer);
            let served = panic::catch_unwind(AssertUnwindSafe(|| {
                serve(token, &mut slot.session, &mut slot.state);
            }));
            if served.is_err() {
                let reason = DisconnectReason::BY_APPLICATION;
                slot.session.disconnect(reason, "internal error", now);
            }
            slot.session.flush(now, &mut self.buffer);
            if let Err(panicked) = served {
                self.remove(registry, token);
                panic::resume_unwind(panicked);
            }
            let attention = slot.session.wants_attention();
            if slot.session.is_finished() && !attention {
                self.remove(registry, token);
                continue;
            }
            self.timers.set(token, slot.session.deadline());
            if attention {
                self.wake(token);
            }
        }
    }

    /// Ends all connections, for a server that is to stop: go on with [`run`](Self::run) until there are no sessions.
    pub fn disconnect_all(&mut self, reason: DisconnectReason, text: &str, now: Instant) {
        for index in 0..self.slots.len() {
            let token = Token(self.first + index);
            if let Some((session, _)) = self.get_mut(token) {
                session.disconnect(reason, text, now);
            }
        }
    }

    /// How many sessions there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The deadlines.
    pub const fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The read buffer: to give its memory back while nothing happens.
    pub const fn buffer(&mut self) -> &mut ReadBuffer {
        &mut self.buffer
    }

    fn index(&self, token: Token) -> Option<usize> {
        token
            .0
            .checked_sub(self.first)
            .filter(|index| *index < self.slots.len())
    }
}
