//! One connection on a non-blocking stream.
//!
//! In: readiness that mio announces, the time, commands through the core. Out: bytes to the stream, the core's events.
//!
//! mio announces readiness once (it is edge-triggered): whoever stops before the stream has nothing more must go on by
//! themselves. So a session remembers that it stopped early, and says so with
//! [`wants_attention`](Session::wants_attention).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::{Event, Source};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    Channel, ChannelId, ClientConfig, ClientRole, Connection, Error, Role, Seed, ServerRole,
};

use crate::buffer::ReadBuffer;
use crate::transport::Transport;

/// A client's session.
pub type ClientSession<S = TcpStream> = Session<ClientRole, S>;
/// A server's session.
pub type ServerSession<S = TcpStream> = Session<ServerRole, S>;

/// So many bytes are read in one turn at the most, then it is the turn of others.
const TURN: usize = 256 * 1024;
/// How long a session that has ended tries to get its last bytes out, and to let the peer read them.
const LINGER: Duration = Duration::from_secs(2);

/// An SSH connection on a non-blocking stream.
///
/// It is a [`Source`]: register it (it asks for both directions by itself), then for each of its events call
/// [`ready`](Self::ready), take what happened with [`poll_event`](Self::poll_event) until there is nothing more, act on
/// the core with [`connection`](Self::connection) and [`channel`](Self::channel), and finish with
/// [`flush`](Self::flush). When [`wants_attention`](Self::wants_attention) says so after that, do the same again soon
/// with [`resume`](Self::resume) in place of `ready`, without waiting for an event. At [`deadline`](Self::deadline) call
/// [`timeout`](Self::timeout). Nothing here waits, and nothing looks at a clock. [`Sessions`](crate::Sessions) does all
/// of that for many sessions.
///
/// # The end
///
/// When the connection has ended ([`closed`](Self::closed)), the session still writes what is left and half-closes the
/// stream, and waits two seconds at the most for the peer to do the same: closing a socket that has unread data would
/// keep the peer from reading the DISCONNECT. Drop it when [`is_finished`](Self::is_finished); dropping it sooner cuts
/// that short.
#[derive(Debug)]
pub struct Session<R: Role, S: Transport = TcpStream> {
    stream: S,
    connection: Connection<R>,
    /// The next event, taken out of the core to know whether there is one.
    next_event: Option<R::Event>,
    phase: Phase,
    /// The stream may have something, as far as is known.
    readable: bool,
    /// The stream may take something, as far as is known.
    writable: bool,
    /// The peer has closed its side: the end of the stream is still to be read.
    peer_closing: bool,
    /// Something was read or written: the stream is connected.
    started: bool,
    /// The stream has ended, or cannot be read any more.
    eof: bool,
    /// Nothing can be written any more.
    mute: bool,
    io_error: Option<io::Error>,
    #[cfg(feature = "tracing")]
    spans: Option<ssh_proto::adapter::Spans>,
}

/// How far the end has come.
///
/// ```text
/// Open ─ the core has closed → Saying ─ all is written, or nothing can be → Hearing ─ end of the stream → Over
///                                 └──────────────── LINGER has passed ─────────┴────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The last bytes are to be written.
    Saying {
        until: Instant,
    },
    /// Our side of the stream is closed; the peer's is read and dropped.
    Hearing {
        until: Instant,
    },
    Over,
}

/// What a read came to.
enum Read {
    Bytes(usize),
    Nothing,
    Ended,
}

impl ClientSession {
    /// Starts connecting to `address`. Whether that works shows as for any other failure of the stream:
    /// [`closed`](Self::closed) and [`io_error`](Self::io_error).
    ///
    /// # Errors
    /// Those of the system, as far as it knows at once; and those of its generator.
    pub fn connect(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        now: Instant,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        let seed = crate::seed()?;
        Ok(Self::start(stream, Some(address), config, seed, now))
    }
}

impl<R: Role, S: Transport> Session<R, S> {
    /// A session on a stream that was accepted, or that is connecting. `seed` as made by [`seed`](crate::seed()), one
    /// for each session.
    pub fn new(stream: S, config: Arc<R::Config>, seed: Seed, now: Instant) -> Self {
        Self::start(stream, None, config, seed, now)
    }

    #[cfg_attr(
        not(feature = "tracing"),
        expect(unused_variables, reason = "for the log")
    )]
    fn start(
        mut stream: S,
        peer: Option<SocketAddr>,
        config: Arc<R::Config>,
        seed: Seed,
        now: Instant,
    ) -> Self {
        stream.set_up();
        #[cfg(feature = "tracing")]
        let (config, spans) = ssh_proto::adapter::Spans::begin::<R>(config, || {
            peer.or_else(|| stream.peer_address())
        });
        Self {
            stream,
            connection: Connection::new(config, seed, now),
            next_event: None,
            phase: Phase::Open,
            readable: false,
            writable: false,
            peer_closing: false,
            started: false,
            eof: false,
            mute: false,
            io_error: None,
            #[cfg(feature = "tracing")]
            spans,
        }
    }

    // Readiness.

    /// Does what an event of this session's makes possible: reads, up to a bound that is fair to others, and processes
    /// what was read; writes what waits. Events that are not true, or come twice, do no harm.
    ///
    /// What was read may lead to events of the session. Then nothing of what it led to is written yet, so that it goes
    /// along with what you have to say: call [`flush`](Self::flush) when you are done.
    pub fn ready(&mut self, event: &Event, now: Instant, buffer: &mut ReadBuffer) {
        self.note(event);
        self.resume(now, buffer);
    }

    /// Remembers an event; [`resume`](Self::resume) does what it makes possible.
    pub fn note(&mut self, event: &Event) {
        let failed = event.is_error();
        self.readable |= event.is_readable() || event.is_read_closed() || failed;
        self.writable |= event.is_writable() || event.is_write_closed() || failed;
        self.peer_closing |= event.is_read_closed() || failed;
    }

    /// Goes on where the session stopped, without an event.
    pub fn resume(&mut self, now: Instant, buffer: &mut ReadBuffer) {
        self.reclaim(buffer);
        // Room first: while there is too little, nothing is read.
        self.write();
        self.read(now, buffer);
        self.rest(now);
    }

    /// Writes what commands have made, and takes back the buffer if you have consumed what was in it. Call it when you
    /// are done with a session for now.
    pub fn flush(&mut self, now: Instant, buffer: &mut ReadBuffer) {
        self.reclaim(buffer);
        self.write();
        self.rest(now);
    }

    /// There is something to do now that no event will announce: the session stopped early to be fair, or because
    /// something had to be done first that is done by now; or there are events to take. Ask after
    /// [`flush`](Self::flush).
    pub fn wants_attention(&self) -> bool {
        self.next_event.is_some()
            || self.writable && !self.mute && !self.connection.output().is_empty()
            || self.readable && self.may_read()
    }

    // Time.

    /// When to call [`timeout`](Self::timeout). It changes with every other call.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open => self.connection.poll_timeout(),
            Phase::Saying { until } | Phase::Hearing { until } => Some(until),
            Phase::Over => None,
        }
    }

    /// Does what is due. Calling it early or late is harmless. Events may follow.
    pub fn timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.phase {
            Phase::Open => self.connection.handle_timeout(now),
            Phase::Saying { .. } | Phase::Hearing { .. } => self.phase = Phase::Over,
            Phase::Over => {}
        }
        self.rest(now);
    }

    // What happened, and what to do.

    /// The next event. After `Disconnected` there is none.
    pub fn poll_event(&mut self) -> Option<R::Event> {
        self.next_event
            .take()
            .or_else(|| self.connection.poll_event())
    }

    /// The state machine: for commands and questions. Leave its input, output and timers to the session.
    pub const fn connection(&mut self) -> &mut Connection<R> {
        &mut self.connection
    }

    /// A channel, for as long as it exists.
    pub fn channel(&mut self, id: ChannelId) -> Option<Channel<'_, R>> {
        self.connection.channel(id)
    }

    /// Ends the connection, in any state; [`flush`](Self::flush) tells the peer. The session lives on until
    /// [`is_finished`](Self::is_finished).
    pub fn disconnect(&mut self, reason: DisconnectReason, text: &str, now: Instant) {
        self.connection.disconnect(reason, text, now);
    }

    /// Why the connection has ended; `None` while it has not.
    pub const fn closed(&self) -> Option<&Error> {
        self.connection.closed()
    }

    /// What went wrong with the stream, if that is why the connection has ended. The connection itself then says that
    /// the stream ended unexpectedly.
    pub const fn io_error(&self) -> Option<&io::Error> {
        self.io_error.as_ref()
    }

    /// Whether the session may be dropped: the connection has ended, and what was left was said. Events may still be
    /// taken.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Writes the lines of the key log that wait, if the configuration
    /// [keeps one](ssh_proto::TransportConfig::key_log): with them Wireshark opens a recording of the bytes on the wire.
    /// **Whoever has them reads everything**, passwords included. Call it when you are done with a session for now.
    ///
    /// # Errors
    /// Those of the writer. The line is lost then.
    #[cfg(feature = "keylog")]
    pub fn write_key_log(&mut self, writer: &mut impl io::Write) -> io::Result<()> {
        while let Some(line) = self.connection.poll_key_log() {
            writer.write_all(line.expose())?;
            writer.flush()?;
        }
        Ok(())
    }

    /// The stream.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    // Inside.

    fn may_read(&self) -> bool {
        let open = match self.phase {
            Phase::Open => self.connection.wants_input(),
            Phase::Saying { .. } | Phase::Hearing { .. } => true,
            Phase::Over => false,
        };
        open && !self.eof
    }

    fn reclaim(&mut self, buffer: &mut ReadBuffer) {
        while buffer.is_away()
            && let Some(input) = self.connection.reclaim_input()
        {
            buffer.put(input);
        }
    }

    fn read(&mut self, now: Instant, buffer: &mut ReadBuffer) {
        let mut budget = TURN;
        while self.readable && budget > 0 && self.may_read() {
            let mut input = buffer.take();
            if self.phase != Phase::Open {
                if let Read::Bytes(len) = self.read_some(input.unfilled()) {
                    budget = budget.saturating_sub(len);
                }
                buffer.put(input);
                continue;
            }
            let mut input = match self.connection.take_input(input) {
                Ok(input) => input,
                Err(spare) => return buffer.put(spare),
            };
            if let Read::Bytes(len) = self.read_some(input.unfilled()) {
                input.advance(len);
                budget = budget.saturating_sub(len);
            }
            match self.connection.handle_input(input, now) {
                Some(back) => buffer.put(back),
                // Let the caller consume it: then the next read goes into the same memory.
                None => budget = 0,
            }
            if self.eof {
                self.connection.handle_eof(now);
            }
        }
    }

    /// One read, and what it says about the stream.
    fn read_some(&mut self, room: &mut [u8]) -> Read {
        match self.stream.read(room) {
            Ok(0) => {
                self.eof = true;
                Read::Ended
            }
            Ok(len) => {
                self.started = true;
                // A short read has emptied the stream, unless it ended at the end of the stream.
                self.readable =
                    !S::SHORT_READ_IS_LAST || len == room.len() || self.peer_closing || self.mute;
                Read::Bytes(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Read::Nothing,
            Err(error) if self.is_pending(&error) => {
                self.readable = false;
                // Who cannot write and has read everything has nothing to wait for.
                self.eof = self.mute;
                Read::Nothing
            }
            Err(error) => {
                self.io_error.get_or_insert(error);
                self.eof = true;
                Read::Ended
            }
        }
    }

    /// The stream has nothing, or takes nothing, for now.
    fn is_pending(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::WouldBlock
            || error.kind() == io::ErrorKind::NotConnected && !self.started
    }

    fn write(&mut self) {
        while self.writable && !self.mute && !self.connection.output().is_empty() {
            match self.stream.write(self.connection.output()) {
                Ok(0) => self.fall_silent(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.started = true;
                    self.connection.consume_output(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.is_pending(&error) => self.writable = false,
                Err(error) => self.fall_silent(error),
            }
        }
        while self.mute && !self.connection.output().is_empty() {
            let len = self.connection.output().len();
            self.connection.consume_output(len);
        }
    }

    /// Nothing can be written any more. What the peer said before it went away can still be read, and ends the
    /// connection.
    fn fall_silent(&mut self, error: io::Error) {
        self.io_error.get_or_insert(error);
        self.mute = true;
        self.readable = true;
    }

    /// What ends every turn: the next event is known, and when there is none, nothing waits that could be written.
    fn rest(&mut self, now: Instant) {
        if self.next_event.is_none() {
            self.next_event = self.connection.poll_event();
        }
        if self.next_event.is_none() && !self.connection.output().is_empty() {
            self.write();
            self.next_event = self.connection.poll_event();
        }
        if self.phase == Phase::Open && self.connection.closed().is_some() {
            let until = now.checked_add(LINGER).unwrap_or(now);
            self.phase = Phase::Saying { until };
            self.write();
        }
        if let Phase::Saying { until } = self.phase
            && self.connection.output().is_empty()
        {
            // The stream may be gone already, which is as good.
            _ = self.stream.shutdown_write();
            self.phase = Phase::Hearing { until };
        }
        if matches!(self.phase, Phase::Hearing { .. }) && self.eof {
            self.phase = Phase::Over;
        }
        #[cfg(feature = "tracing")]
        if let Some(spans) = &mut self.spans {
            while let Some(record) = self.connection.poll_log() {
                spans.tell(&record);
            }
        }
    }
}

impl<R: Role, S: Transport> Source for Session<R, S> {
    /// Registers the stream for both directions, whatever `interests` says: a session needs both.
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        let both = interests | Interest::READABLE | Interest::WRITABLE;
        self.stream.register(registry, token, both)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        let both = interests | Interest::READABLE | Interest::WRITABLE;
        self.stream.reregister(registry, token, both)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}
