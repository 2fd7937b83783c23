//! The facade: the public methods of a connection that both roles have; those of one role are in `client` and `server`. Each
//! only delegates: to the spine, or to the layer it is about.

mod client;
pub(crate) mod cx;
pub(crate) mod event;
mod forward;
mod machines;
#[cfg(any(test, feature = "replay"))]
mod recording;
pub(crate) mod role;
mod server;
mod spine;
#[cfg(test)]
mod tests;
pub(crate) mod timers;

use std::sync::Arc;
use std::time::Instant;

use crate::auth::SessionInfo;
use crate::channel::{
    Answer, Channel, ChannelId, Channels, GlobalRequestToken, OpenChannel, OpenFailureReason,
    OpenRequest, RequestId,
};
use crate::crypto::drbg::{Drbg, Seed};
use crate::error::{DisconnectReason, Error, Misuse};
use crate::kex::Negotiated;
use crate::key::PublicKey;
use crate::limits::{PING_LEN, READ_BEFORE_AUTH};
use crate::log::{Log, LogRecord};
use crate::msg::transport::{Ignore, Ping};
use crate::note::note;
use crate::packet::Input;
use crate::packet::ident::IdentReader;
use crate::packet::output::Output;
use crate::packet::sealer::{Sealer, Traffic};
#[cfg(any(test, feature = "replay"))]
use crate::replay::{Command, Name};
use crate::transport::{Exchange, Step, Transport};

use cx::{Cx, Events};
use event::Common;
use role::{AuthMachine, ClientRole, Role, ServerRole};
use spine::cx;
use timers::{Timers, earliest};

/// A client's connection.
pub type Client = Connection<ClientRole>;
/// A server's connection.
pub type Server = Connection<ServerRole>;

/// A buffer with less room is not worth a read.
const LEAST_READ: usize = 2_048;

/// One SSH connection: bytes and times go in, bytes and events come out.
///
/// It does no I/O and knows no clock. Whoever owns the byte stream calls, in any order:
/// [`take_input`](Self::take_input) and [`handle_input`](Self::handle_input) for what was read,
/// [`output`](Self::output) and [`consume_output`](Self::consume_output) for what is to be written,
/// [`poll_timeout`](Self::poll_timeout) and [`handle_timeout`](Self::handle_timeout) for time,
/// [`poll_event`](Self::poll_event) for what happened. Nothing is lost when one of them comes late, and no call in any
/// state panics: what does not fit is a [`Misuse`] that changes nothing.
#[derive(Debug)]
pub struct Connection<R: Role> {
    config: Arc<R::Config>,
    /// The latest time that is known: answers are not told it.
    now: Instant,
    ident: IdentReader,
    transport: Transport<R>,
    auth: R::Auth,
    channels: Channels,
    out: Output,
    events: Events<R::Event>,
    log: Log,
    /// Bytes that were not processed: an unfinished packet, or what is behind an open question.
    pending: Vec<u8>,
    /// How long the unfinished packet is, as far as is known.
    needed: usize,
    /// How many bytes the last input brought.
    last_read: usize,
    /// `pending` holds more than an unfinished packet.
    stalled: bool,
    /// Counts the states of `pending`: an [`Input`] that begins with a copy of it says of which.
    edition: u32,
    /// The peer will send nothing more.
    eof: bool,
    closed: Option<Error>,
    received_before_auth: Traffic,
    /// PINGs of ours that are not answered.
    pings: usize,
    /// Messages without effect since the last key exchange.
    idle_messages: u64,
    timers: Timers,
    /// A command that was blocked may be tried again, and the caller has not heard of it.
    unblocked: bool,
}

/// What stays the same over a connection's life, as far as it is known.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Session<'a> {
    /// The session identifier: the hash of the first key exchange (RFC 4253 section 7.2).
    pub id: &'a [u8],
    /// Our version line without CR LF.
    pub local_version: &'a str,
    /// The peer's version line without CR LF, as it came.
    pub peer_version: &'a [u8],
    /// The server's host key.
    pub host_key: &'a PublicKey,
    /// The user, once authenticated.
    pub user: Option<&'a str>,
}

impl<R: Role> Connection<R> {
    /// A connection that was just made. Its version line is in [`output`](Self::output) at once.
    ///
    /// `seed` must be 32 bytes from the system's generator, never used before: every secret of the connection comes
    /// from it. The same seed, configuration and inputs at the same times give the same bytes (but for what the
    /// cryptographic library insists on drawing itself: ML-KEM and ECDSA).
    pub fn new(config: Arc<R::Config>, seed: Seed, now: Instant) -> Self {
        #[cfg(any(test, feature = "replay"))]
        if R::transport(&config).record {
            return Self::recorded(config, seed, now);
        }
        Self::with_rng(config, Drbg::new(seed), now)
    }

    fn with_rng(config: Arc<R::Config>, rng: Drbg, now: Instant) -> Self {
        let transport = R::transport(&config);
        let limits = transport.limits;
        let mut connection = Self {
            now,
            ident: IdentReader::default(),
            transport: Transport::new(&*config, now),
            auth: R::Auth::new(&config),
            channels: Channels::new(R::SIDE, &transport.own, transport.deadlines.channel_open),
            out: Output::new(rng, Sealer::plain(), limits.deferred_len),
            events: Events::new(limits.events),
            log: Log::new(transport.log, transport.hexdump, limits.log_records),
            pending: Vec::new(),
            needed: 0,
            last_read: 0,
            stalled: false,
            edition: 1,
            eof: false,
            closed: None,
            received_before_auth: Traffic::default(),
            pings: 0,
            idle_messages: 0,
            timers: Timers::new(now),
            unblocked: false,
            config,
        };
        if let Some(log) = connection.log.for_packets() {
            connection.out.record(log);
        }
        let serial = u32::from_be_bytes(connection.out.rng().array());
        connection.channels.number_from(serial);
        connection.begin();
        connection.after();
        connection
    }

    // Bytes in.

    /// Whether the connection takes bytes now. While it does not, leave them in the socket.
    pub fn wants_input(&self) -> bool {
        self.is_reading() && !self.eof
    }

    /// A buffer to read into: `spare` if it is large enough, or one of the connection's own. It may hold a copy of the
    /// start of a packet already: read into [`Input::unfilled`], then give it to [`handle_input`](Self::handle_input).
    /// A buffer that is not given back, or cleared, costs nothing but what was read into it.
    ///
    /// `Err` gives `spare` back: the connection takes no bytes now, because a question is open, or because too much
    /// output or too many events wait. It does again after an answer, [`consume_output`](Self::consume_output),
    /// [`poll_event`](Self::poll_event) or [`handle_timeout`](Self::handle_timeout), as
    /// [`wants_input`](Self::wants_input) tells.
    pub fn take_input(&mut self, spare: Input) -> Result<Input, Input> {
        if !self.wants_input() {
            return Err(spare);
        }
        let held = self.pending.len();
        // A packet that comes in small pieces is gathered here. Each piece would have it copied once more otherwise,
        // and it would need a second buffer of its size.
        if self.last_read.saturating_mul(4) < held {
            let mut input = self.block(spare, LEAST_READ);
            input.clear();
            self.confine(&mut input);
            return Ok(input);
        }
        // Room for the packet that has begun, but never more than twice what has come of it.
        let least = self
            .needed
            .min(held.saturating_mul(2))
            .max(held.saturating_add(LEAST_READ));
        let mut input = self.block(spare, least);
        input.lend(&self.pending, self.edition);
        self.confine(&mut input);
        Ok(input)
    }

    /// `spare`, or a block of at least so many bytes.
    fn block(&mut self, spare: Input, least: usize) -> Input {
        if spare.capacity() >= least {
            return spare;
        }
        match self.channels.spare() {
            Some(block) if block.capacity() >= least => block,
            _ => Input::with_capacity(self.block_len().max(least)),
        }
    }

    fn confine(&self, input: &mut Input) {
        if !self.auth.is_authenticated() {
            input.confine(READ_BEFORE_AUTH);
        }
    }

    fn block_len(&self) -> usize {
        if self.auth.is_authenticated() {
            Input::DEFAULT_CAPACITY
        } else {
            READ_BEFORE_AUTH
        }
    }

    /// Processes what was read into `input`, in place. `Some` gives the buffer back, empty; `None` means that channel
    /// data in it is kept until it is consumed.
    pub fn handle_input(&mut self, input: Input, now: Instant) -> Option<Input> {
        note!(
            self.out,
            |start| Command::Input {
                at: start.at(now),
                stale: input.edition() != self.edition,
            },
            &[input.filled().get(input.held()..).unwrap_or_default()]
        );
        self.clock(now);
        // A read that found nothing says nothing about how the peer's bytes come.
        match input.filled().len().saturating_sub(input.held()) {
            0 => {}
            read => self.last_read = read,
        }
        let back = if self.closed.is_some() {
            let mut input = input;
            input.clear();
            Some(input)
        } else if input.edition() == self.edition {
            self.pending.clear();
            self.process(input, 0)
        } else if self.pending.is_empty() {
            let held = input.held();
            self.process(input, held)
        } else {
            // The buffer has no copy of what waits here, because that comes in small pieces; or it is not the one that we
            // lent last. What was read into it goes behind what waits.
            self.gather(input.filled().get(input.held()..).unwrap_or_default());
            let mut input = input;
            input.clear();
            Some(input)
        };
        self.resume();
        back
    }

    /// Processes a copy of `bytes`; says how many were taken. Fewer than all of them, or none, means that the
    /// connection takes no bytes now. For tests, replay and callers that do not care about a copy.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) -> usize {
        let mut taken = 0_usize;
        let mut spare = Input::new();
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.take_input(spare) {
                Ok(mut input) => {
                    taken = taken.saturating_add(input.extend(rest));
                    spare = self.handle_input(input, now).unwrap_or_default();
                }
                Err(_) => break,
            }
        }
        taken
    }

    /// A buffer whose channel data was consumed since [`handle_input`](Self::handle_input) kept it. The connection
    /// would offer it for its own next read; a thread that reads for many connections takes it back instead, and needs
    /// one buffer for all.
    pub fn reclaim_input(&mut self) -> Option<Input> {
        self.channels.spare()
    }

    /// The peer will send nothing more. What came before is still processed.
    pub fn handle_eof(&mut self, now: Instant) {
        note!(self.out, |start| Command::Eof { at: start.at(now) });
        self.clock(now);
        self.eof = true;
        self.resume();
    }

    // Bytes out.

    /// The bytes to write now.
    pub fn output(&self) -> &[u8] {
        self.out.pending()
    }

    /// The first `len` bytes of [`output`](Self::output) were written.
    pub fn consume_output(&mut self, len: usize) {
        note!(self.out, |_| Command::OutputConsumed { len });
        if len > 0 {
            self.out.consume(len);
            self.timers.last_sent = self.now;
        }
        self.resume();
    }

    /// Takes all of [`output`](Self::output) out into `spare`, whose memory is used for what follows: for callers that
    /// write without holding a lock. What was in `spare` is lost.
    pub fn swap_output(&mut self, spare: &mut Vec<u8>) {
        note!(self.out, |_| Command::OutputSwapped {});
        self.out.swap(spare);
        if !spare.is_empty() {
            self.timers.last_sent = self.now;
        }
        self.resume();
    }

    // Time.

    /// When to call [`handle_timeout`](Self::handle_timeout). It changes with every other call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return self.timers.trim;
        }
        [
            self.timers.version.poll(self.now),
            self.timers.key_exchange.poll(self.now),
            self.timers.authentication.poll(self.now),
            self.timers.trim,
            self.auth.poll_timeout(),
            self.channels.poll_timeout(self.now),
            self.idle_deadline(),
            self.keepalive_deadline(),
            self.transport
                .rekey_deadline()
                .filter(|_| self.auth.is_authenticated()),
        ]
        .into_iter()
        .fold(None, earliest)
    }

    /// Does what is due. Calling it early or late is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        note!(self.out, |start| Command::Timeout { at: start.at(now) });
        self.clock(now);
        if self.closed.is_some() {
            self.timers.trim = None;
            self.out.trim();
            return;
        }
        self.expire();
        self.resume();
    }

    // What happened.

    /// The next event. After `Disconnected` there is none.
    #[inline]
    pub fn poll_event(&mut self) -> Option<R::Event> {
        // Callers ask after whatever they did, and mostly there is none.
        if self.events.is_empty() && !self.channels.has_news() && !self.unblocked {
            return None;
        }
        self.next_event()
    }

    fn next_event(&mut self) -> Option<R::Event> {
        if self.closed.is_none() {
            self.channels.announce(&mut self.events);
        }
        let event = self.events.poll();
        let made_room = event.is_some();
        let event =
            event.or_else(|| std::mem::take(&mut self.unblocked).then(|| Common::Unblocked.into()));
        #[cfg(any(test, feature = "replay"))]
        if let Some(event) = &event {
            note!(self.out, |_| Command::Event {
                name: Name::of(event)
            });
        }
        if (self.stalled || self.timers.deaf) && made_room {
            self.resume();
        }
        event
    }

    /// The next log record.
    pub fn poll_log(&mut self) -> Option<LogRecord> {
        self.out.report(&mut self.log);
        self.log.poll()
    }

    /// The next line of the key log: one for each key exchange, if the configuration
    /// [asks for them](crate::config::TransportConfig::key_log). Take them when anything was done to the connection:
    /// after sixteen that nobody took the oldest goes. Whoever has [them](crate::KeyLogLine) reads everything.
    ///
    /// Wireshark's preference for the file is `ssh.keylog_file`. How much it opens depends on what its version knows. 4.4
    /// opens sessions with `curve25519-sha256` and AES-GCM up to the second key exchange; it knows nothing of strict key
    /// exchange, so with other ciphers it begins with the fourth packet each way, and it has no `mlkem768x25519-sha256` or
    /// `ecdh-sha2-nistp*`. 4.0 and older want another kind of line. A session that is to be looked at is best
    /// [configured](crate::TransportConfig::algorithms) accordingly.
    #[cfg(any(test, feature = "keylog"))]
    pub fn poll_key_log(&mut self) -> Option<crate::KeyLogLine> {
        self.transport.key_log.poll()
    }

    /// Why the connection has ended; `None` while it has not. Output may still wait to be written.
    pub const fn closed(&self) -> Option<&Error> {
        self.closed.as_ref()
    }

    /// The algorithms in force, once the first key exchange is done.
    pub const fn negotiated(&self) -> Option<&Negotiated> {
        self.transport.negotiated()
    }

    /// Session identifier, versions, host key and user, once the first key exchange is done.
    pub fn session(&self) -> Option<Session<'_>> {
        Some(Session {
            id: self.transport.session_id()?,
            local_version: &self.transport.local_version,
            peer_version: &self.transport.peer_version,
            host_key: self.transport.host_key()?,
            user: self.auth.user(),
        })
    }

    /// Whether authentication has succeeded.
    pub fn is_authenticated(&self) -> bool {
        self.auth.is_authenticated()
    }

    // Commands of both roles.

    /// A channel, for as long as it exists: until it was closed by both sides and released.
    pub fn channel(&mut self, id: ChannelId) -> Option<Channel<'_, R>> {
        let limits = &R::transport(&self.config).limits;
        self.channels
            .channel(id, &mut self.out, &mut self.log, limits, self.now)
            .map(Channel::new)
    }

    /// Asks the peer for a channel. Whether it is granted is an event of the channel; data may be written and requests
    /// made once it is.
    pub fn open(&mut self, kind: OpenChannel<'_>, now: Instant) -> Result<ChannelId, Misuse> {
        note!(self.out, |start| Command::Open {
            at: start.at(now),
            kind: kind.into()
        });
        self.clock(now);
        self.require_open()?;
        let id = self.channels.open(kind, &mut cx!(self));
        self.after();
        id
    }

    /// Grants a channel that the peer asked for. `data` goes into the confirmation; for the standard kinds it is empty.
    ///
    /// # Errors
    /// [`Misuse::Limit`]: the data is longer than [`request_len`](crate::limits::Limits::request_len); the peer is
    /// refused the channel. The question is answered either way.
    pub fn accept_open(&mut self, request: OpenRequest, data: &[u8]) -> Result<ChannelId, Misuse> {
        note!(self.out, |_| Command::AcceptOpen {
            id: request.id(),
            data: data.into()
        });
        self.require_open()?;
        let id = self.channels.accept_open(&request, data, &mut cx!(self));
        self.after();
        id
    }

    /// Refuses a channel that the peer asked for.
    pub fn refuse_open(
        &mut self,
        request: OpenRequest,
        reason: OpenFailureReason,
        description: &str,
    ) -> Result<(), Misuse> {
        note!(self.out, |_| Command::RefuseOpen {
            id: request.id(),
            reason: reason.0,
            description: description.to_owned()
        });
        self.require_open()?;
        let result = self
            .channels
            .refuse_open(&request, reason, description, &mut cx!(self));
        self.after();
        result
    }

    /// Makes a request about the connection (RFC 4254 section 4). With `want_reply` the answer is an event.
    pub fn global_request(
        &mut self,
        name: &str,
        data: &[u8],
        want_reply: bool,
        now: Instant,
    ) -> Result<RequestId, Misuse> {
        note!(self.out, |start| Command::GlobalRequest {
            at: start.at(now),
            name: name.to_owned(),
            data: data.into(),
            want_reply
        });
        self.clock(now);
        self.require_open()?;
        let id = self
            .channels
            .global_request(name, data, want_reply, &mut cx!(self));
        self.after();
        id
    }

    /// Answers a request of the peer about the connection.
    ///
    /// # Errors
    /// [`Misuse::Limit`]: the data of the answer is longer than [`request_len`](crate::limits::Limits::request_len).
    /// [`Misuse::Argument`]: the client wants to know which port was bound, and the data does not tell. In both cases the
    /// request is refused; it is answered either way.
    pub fn answer_global(
        &mut self,
        token: GlobalRequestToken,
        answer: Answer<'_>,
    ) -> Result<(), Misuse> {
        note!(self.out, |_| Command::AnswerGlobal {
            serial: token.serial(),
            wants_port: token.wants_port(),
            answer: match answer {
                Answer::Accept(data) => Some(data.into()),
                Answer::Refuse => None,
            }
        });
        self.require_open()?;
        let result = self.channels.answer_global(&token, answer, &mut cx!(self));
        self.after();
        result
    }

    /// Starts a key exchange now. Nothing happens when one is under way.
    pub fn rekey(&mut self, now: Instant) -> Result<(), Misuse> {
        note!(self.out, |start| Command::Rekey { at: start.at(now) });
        self.clock(now);
        self.require_open()?;
        let result = self.transport.start(&self.config, &mut cx!(self));
        self.check(result);
        self.after();
        Ok(())
    }

    /// Sends an IGNORE message with `len` random bytes (RFC 4253 section 11.2), at most 32 KiB.
    pub fn ignore(&mut self, len: usize) -> Result<(), Misuse> {
        note!(self.out, |_| Command::Ignore { len });
        self.require_open()?;
        let mut data = vec![0; len.min(32 * 1024)];
        self.out.rng().fill(&mut data);
        self.out.request(&Ignore { data: &data })?;
        self.after();
        Ok(())
    }

    /// Sends a PING with at most 256 bytes (`ping@openssh.com`); the event is `PongReceived`, with the same bytes.
    ///
    /// # Errors
    /// [`Misuse::Argument`]: it is too long, or the peer did not say that it answers (OpenSSH's server does, its client
    /// does not). [`Misuse::Limit`]: [`pending_requests`](crate::limits::Limits::pending_requests) are unanswered.
    pub fn ping(&mut self, data: &[u8], now: Instant) -> Result<(), Misuse> {
        note!(self.out, |start| Command::Ping {
            at: start.at(now),
            data: data.into()
        });
        self.clock(now);
        self.require_open()?;
        if data.len() > PING_LEN {
            return Err(Misuse::Argument("data of PING"));
        }
        if !self.transport.peer_answers_pings() {
            return Err(Misuse::Argument("the peer does not answer PING"));
        }
        if self.pings >= R::transport(&self.config).limits.pending_requests {
            return Err(Misuse::Limit("pending_requests"));
        }
        self.out.request(&Ping { data })?;
        self.pings = self.pings.saturating_add(1);
        self.after();
        Ok(())
    }

    /// Ends the connection, in any state. The peer is told `reason` and `text`; the event is
    /// [`Error::LocallyClosed`]. Write what [`output`](Self::output) still has, then close the stream.
    pub fn disconnect(&mut self, reason: DisconnectReason, text: &str, now: Instant) {
        note!(self.out, |start| Command::Disconnect {
            at: start.at(now),
            reason: reason.0,
            text: text.to_owned()
        });
        self.clock(now);
        self.end(Some(reason), text, Error::LocallyClosed);
    }

    fn require_open(&self) -> Result<(), Misuse> {
        match self.closed {
            Some(_) => Err(Misuse::Closed),
            None if !self.auth.is_authenticated() => Err(Misuse::NotAuthenticated),
            None => Ok(()),
        }
    }

    /// Runs an answer to the half of the key exchange, then whatever waited for it.
    fn answer_exchange(
        &mut self,
        answer: impl FnOnce(R::Kex, &Exchange, &mut Cx<'_, R::Event>) -> Result<Step<R::Kex>, Error>,
    ) {
        let result = self.transport.answer(&self.config, &mut cx!(self), answer);
        self.check(result);
        self.resume();
    }

    /// Runs an answer to the authentication layer, then whatever waited for it.
    fn with_auth<T>(
        &mut self,
        command: impl FnOnce(
            &mut R::Auth,
            Option<&SessionInfo<'_>>,
            &mut Cx<'_, R::Event>,
        ) -> Result<T, Misuse>,
    ) -> Result<T, Misuse> {
        if self.closed.is_some() {
            return Err(Misuse::Closed);
        }
        let peer_algorithms = self.transport.peer_algorithms();
        let session = self.transport.session_id().map(|id| SessionInfo {
            id,
            peer_algorithms,
        });
        let result = command(&mut self.auth, session.as_ref(), &mut cx!(self));
        self.enter();
        self.resume();
        result
    }
}
