//! The loop: bytes to packets, packets to layers, and what must follow (rule 1 of the house: one way up, one way down).
//!
//! In: the reader's [`Input`], the time, the end of the stream. Out: the layers' work. This file routes; it knows no
//! protocol beyond the message number.

use std::time::{Duration, Instant};

use zeroize::Zeroize;

use crate::auth::SessionInfo;
use crate::connection::cx::{Cx, Payload};
use crate::connection::event::Common;
use crate::connection::role::{AuthMachine, Role, Side};
use crate::error::{DisconnectReason, Disconnected, Error, PeerError, Stage, printable};
use crate::limits::{Limits, PING_LEN, READ_BEFORE_AUTH};
use crate::log::{LogLayer, LogLevel, LogSubject};
use crate::msg::Message;
use crate::msg::transport::{Debug, Disconnect, Ignore, Ping, Pong, Unimplemented};
use crate::packet::Input;
use crate::packet::ident::Line;
use crate::packet::opener::Opened;
use crate::steps::{count_bytes, count_turn};
use crate::transport::Progress;
use crate::transport::legality::{Reaction, reaction};

use super::Connection;

/// How long memory that nothing needs is kept for the next burst.
const TRIM_AFTER: Duration = Duration::from_secs(1);
/// Less than this is not worth a timer.
const TRIM_ABOVE: usize = 1024;

/// The context of a layer, from the fields that it may touch.
macro_rules! cx {
    ($self:ident) => {
        Cx {
            out: &mut $self.out,
            events: &mut $self.events,
            log: &mut $self.log,
            limits: &R::transport(&$self.config).limits,
            now: $self.now,
        }
    };
}
pub(super) use cx;

/// Appends bytes to those of a packet of `needed` bytes. The memory doubles, but not beyond the packet; behind a whole one
/// it does when more `waits` to come.
fn keep(pending: &mut Vec<u8>, bytes: &[u8], needed: usize, waits: bool) {
    count_bytes(bytes.len());
    let len = pending.len().saturating_add(bytes.len());
    if pending.capacity() < len {
        let doubled = len.saturating_mul(2);
        let room = match needed > len {
            true => needed.min(doubled),
            false if waits && !pending.is_empty() => doubled,
            false => len,
        };
        pending.reserve_exact(room.saturating_sub(pending.len()));
    }
    pending.extend_from_slice(bytes);
}

impl<R: Role> Connection<R> {
    pub(super) fn limits(&self) -> &Limits {
        &R::transport(&self.config).limits
    }

    pub(super) fn clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Our version line and our KEXINIT need not wait for the peer's (RFC 4253 section 7.1: "may be sent
    /// immediately").
    pub(super) fn begin(&mut self) {
        let line = format!("{}\r\n", self.transport.local_version);
        self.out.raw(line.as_bytes());
        let deadlines = R::transport(&self.config).deadlines;
        self.timers.version.start(deadlines.version, self.now);
        if R::SIDE == Side::Server {
            self.timers
                .authentication
                .start(deadlines.authentication, self.now);
        }
        let result = self.transport.start(&self.config, &mut cx!(self));
        self.check(result);
    }

    /// Whether a packet may be looked at now: no question is open, and whatever it leads to has room.
    pub(super) fn is_ready(&self) -> bool {
        self.closed.is_none()
            && !self.transport.is_held()
            && !self.auth.is_held()
            && self.out.has_reply_room()
            && self.events.has_room()
    }

    /// Whether the peer is read: packets may be looked at, and none wait here.
    pub(super) fn is_reading(&self) -> bool {
        self.is_ready() && !self.stalled
    }

    /// `pending` changes: copies of it that are under way are out of date.
    pub(super) const fn renew(&mut self) {
        // 0 is no edition.
        self.edition = match self.edition.checked_add(1) {
            Some(next) => next,
            None => 1,
        };
    }

    /// Works through `input` from `at` on as far as it goes. What is left waits in `pending`. Gives the buffer back
    /// unless channel data in it is kept.
    pub(super) fn process(&mut self, mut input: Input, mut at: usize) -> Option<Input> {
        self.renew();
        self.stalled = false;
        while self.closed.is_none() {
            count_turn();
            let rest = input.filled_mut().get_mut(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if !self.is_ready() {
                self.stalled = true;
                break;
            }
            match self.step(rest, at) {
                Ok(0) => break,
                Ok(len) => at = at.saturating_add(len),
                Err(error) => self.fail(error),
            }
        }
        if self.closed.is_none() {
            let rest = input.filled().get(at..).unwrap_or_default();
            keep(&mut self.pending, rest, self.needed, self.stalled);
        } else {
            self.pending = Vec::new();
        }
        // What channels keep of the block stays in it.
        let mut back = self.channels.settle(input)?;
        back.clear();
        Some(back)
    }

    /// Puts what was read behind what waits in `pending`, and works through it where there is something to find in it.
    pub(super) fn gather(&mut self, read: &[u8]) {
        self.renew();
        let known = self.pending.len();
        keep(&mut self.pending, read, self.needed, self.stalled);
        let limits = *self.limits();
        if self.stalled {
            return;
        }
        let more = if self.transport.peer_version.is_empty() {
            self.ident.is_told(&self.pending, known, &limits)
        } else {
            self.pending.len() >= self.needed
        };
        if more {
            self.process_pending();
        }
    }

    fn process_pending(&mut self) {
        let input = Input::of_pieces(std::mem::take(&mut self.pending));
        let spare = self.process(input, 0);
        if self.closed.is_none()
            && self.pending.is_empty()
            && let Some(spare) = spare
        {
            self.pending = spare.into_empty_vec();
        }
    }

    /// Looks at what lies at the start of `rest`, which is at `at` in the block. Says how many bytes it took; 0 when
    /// more are needed.
    fn step(&mut self, rest: &mut [u8], at: usize) -> Result<usize, Error> {
        if self.transport.peer_version.is_empty() {
            return self.version(rest);
        }
        let limits = *self.limits();
        let max = if self.auth.is_authenticated() {
            limits.packet_len
        } else {
            limits.packet_len_before_auth
        };
        match self.transport.opener.open(rest, max)? {
            Opened::NeedMore(len) => {
                self.needed = len;
                Ok(0)
            }
            Opened::Packet { payload, len } => {
                let offset = at.saturating_add(payload.start);
                let payload = rest.get_mut(payload).unwrap_or_default();
                let outcome = self.packet(payload, offset, len);
                // Rule 9 of the house: what may be secret is wiped once it has been handled, well or badly.
                if matches!(payload.first(), Some(5..=79)) {
                    payload.zeroize();
                }
                outcome.map(|()| len)
            }
        }
    }

    fn version(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let limits = *self.limits();
        match self.ident.next(bytes, R::SIDE, &limits)? {
            Line::NeedMore => {
                // What a greeting may have, and what a read may bring beyond that.
                self.needed = limits.bytes_before_version.saturating_add(READ_BEFORE_AUTH);
                Ok(0)
            }
            Line::Greeting { len } => {
                let text = printable(bytes.get(..len).unwrap_or_default(), limits.text_len);
                self.log.add(LogLevel::Info, LogLayer::Transport, || {
                    format!("greeting: {}", text.trim_end())
                });
                Ok(len)
            }
            Line::Version { version, len } => {
                self.transport.peer_version = version.into();
                self.timers.version.stop();
                self.log.add(LogLevel::Info, LogLayer::Transport, || {
                    format!(
                        "peer version {}",
                        printable(version, limits.version_line_len)
                    )
                });
                Ok(len)
            }
        }
    }

    fn packet(&mut self, payload: &[u8], offset: usize, len: usize) -> Result<(), Error> {
        let Some(&number) = payload.first() else {
            return Err(Error::Bug("a payload without a number"));
        };
        self.timers.last_received = self.now;
        self.timers.silent_since = self.now;
        self.timers.unanswered = 0;
        self.out.report(&mut self.log);
        self.log.packet("received", payload);
        let authenticated = self.auth.is_authenticated();
        let phase = self.transport.phase(authenticated);
        self.transport.came(phase);
        if !authenticated {
            self.count_before_auth(len)?;
        }
        match reaction(number, phase, R::SIDE) {
            Reaction::Refuse => Err(self.unexpected(number)),
            Reaction::Handle => self.route(number, payload, offset),
            Reaction::Ignore => self.count_idle_message(),
            Reaction::Skip => {
                self.transport.skip();
                Ok(())
            }
            Reaction::Unimplemented => {
                self.count_idle_message()?;
                self.log.add(LogLevel::Debug, LogLayer::Transport, || {
                    format!("message {number} is not known here")
                });
                // RFC 4253 section 11.4: "MUST be otherwise ignored".
                let sequence_number = self.transport.opener.sequence().wrapping_sub(1);
                self.out.transport(&Unimplemented { sequence_number });
                Ok(())
            }
        }
    }

    fn route(&mut self, number: u8, payload: &[u8], offset: usize) -> Result<(), Error> {
        match number {
            1 => self.disconnected(payload),
            2 => {
                Ignore::decode(payload)?;
                self.count_idle_message()
            }
            3 => {
                Unimplemented::decode(payload)?;
                self.count_idle_message()
            }
            4 => {
                self.count_idle_message()?;
                let message = Debug::decode(payload)?;
                let max = self.limits().text_len;
                self.log.add(LogLevel::Debug, LogLayer::Transport, || {
                    format!("the peer says: {}", printable(message.message, max))
                });
                Ok(())
            }
            5 | 6 | 50..=79 => self.authenticate_with(payload),
            // OpenSSH sends fifty a second while somebody types, so they are not counted as idle. Their answers are
            // replies, which have a bound.
            192 => {
                let ping = Ping::decode(payload)?;
                if ping.data.len() > PING_LEN {
                    return Err(PeerError::Limit("data of PING").into());
                }
                self.out.reply(&Pong { data: ping.data })
            }
            193 => {
                let pong = Pong::decode(payload)?;
                if self.pings == 0 {
                    return self.count_idle_message();
                }
                if pong.data.len() > PING_LEN {
                    return Err(PeerError::Limit("data of PONG").into());
                }
                self.pings = self.pings.saturating_sub(1);
                self.events.push(Common::PongReceived(pong.data.to_vec()));
                Ok(())
            }
            80..=127 => self.channels.handle(
                Payload {
                    bytes: payload,
                    offset,
                },
                &mut cx!(self),
            ),
            _ => self.exchange(payload),
        }
    }

    fn exchange(&mut self, payload: &[u8]) -> Result<(), Error> {
        let progress = self
            .transport
            .handle(payload, &self.config, &mut cx!(self))?;
        if progress != Progress::Nothing {
            // Another one may follow in the same read: its time is its own.
            self.timers.exchanging = false;
            self.idle_messages = 0;
        }
        match progress {
            Progress::Nothing => {}
            Progress::Established => {
                if R::SIDE == Side::Client {
                    let limit = R::transport(&self.config).deadlines.authentication;
                    self.timers.authentication.start(limit, self.now);
                }
                self.auth.start(&mut cx!(self));
            }
            Progress::Rekeyed => self.events.push(Common::Rekeyed),
        }
        Ok(())
    }

    fn authenticate_with(&mut self, payload: &[u8]) -> Result<(), Error> {
        let session = SessionInfo {
            id: self.transport.session_id().unwrap_or_default(),
            peer_algorithms: self.transport.peer_algorithms(),
        };
        self.auth.handle(payload, &session, &mut cx!(self))?;
        self.enter();
        Ok(())
    }

    /// Lets channels in as soon as authentication has succeeded: the next packet may be about one.
    pub(super) fn enter(&mut self) {
        if self.auth.is_authenticated() {
            self.channels.enable();
            self.out.trust();
            self.timers.authentication.stop();
        }
    }

    fn disconnected(&self, payload: &[u8]) -> Result<(), Error> {
        let message = Disconnect::decode(payload)?;
        let description = printable(message.description, self.limits().text_len);
        let reason = DisconnectReason(message.reason_code);
        Err(Error::Disconnected(std::sync::Arc::new(Disconnected {
            reason,
            description,
        })))
    }

    fn unexpected(&self, message: u8) -> Error {
        PeerError::UnexpectedMessage {
            message,
            stage: self.stage(),
        }
        .into()
    }

    /// What is going on, for errors.
    pub(super) fn stage(&self) -> Stage {
        if self.transport.peer_version.is_empty() {
            Stage::VersionExchange
        } else if self.transport.is_exchanging() {
            Stage::KeyExchange
        } else if self.auth.is_authenticated() {
            Stage::Connected
        } else {
            Stage::Authentication
        }
    }

    fn count_before_auth(&mut self, len: usize) -> Result<(), Error> {
        self.received_before_auth.count(len);
        let limits = self.limits();
        if self.received_before_auth.bytes > limits.bytes_before_auth
            || self.received_before_auth.packets > limits.packets_before_auth
        {
            return Err(PeerError::Limit("traffic before authentication").into());
        }
        Ok(())
    }

    /// Messages that lead nowhere: so many between two key exchanges, and one for each KiB of other traffic.
    fn count_idle_message(&mut self) -> Result<(), Error> {
        let traffic = self.transport.opener.traffic();
        self.idle_messages = self.idle_messages.saturating_add(1);
        let allowed = u64::from(self.limits().idle_messages).saturating_add(traffic.bytes / 1024);
        if self.idle_messages > allowed {
            return Err(PeerError::Limit("messages without effect").into());
        }
        Ok(())
    }

    /// Goes on where processing stopped for a reason that may be gone.
    ///
    /// It waits for some room: going through what waits for every event that is taken and every byte that is written
    /// would be work that grows with the square of it.
    pub(super) fn resume(&mut self) {
        while self.stalled
            && self.is_ready()
            && self.events.has_much_room()
            && self.out.has_much_reply_room()
        {
            self.process_pending();
        }
        self.after();
    }

    /// What must follow whatever happened: owed messages, a due key exchange, timers, the end of the stream.
    pub(super) fn after(&mut self) {
        if let Some(error) = self.out.take_fault() {
            self.fail(error);
        }
        if self.closed.is_some() {
            return;
        }
        if self.auth.is_authenticated() {
            self.channels.flush_owed(&mut cx!(self));
            // An exchange in the middle of a login confuses peers; before it the limits on traffic are narrower anyway.
            if self.transport.is_rekey_due(self.out.sealer(), self.now) {
                let result = self.transport.start(&self.config, &mut cx!(self));
                self.check(result);
            }
        }
        self.unblocked |= self.out.take_relief();
        if self.eof && !self.stalled {
            self.fail(Error::UnexpectedEof(self.stage()));
        }
        self.set_timers();
    }

    pub(super) fn check(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.fail(error);
        }
    }

    /// Ends the connection because of `error`: the peer is told, every channel ends, and it is the last event.
    pub(super) fn fail(&mut self, error: Error) {
        let text = match &error {
            Error::Bug(_) => "internal error".to_owned(),
            // It is the peer who reads it: it did wrong, not its peer.
            Error::Peer(error) => error.to_string(),
            other => other.to_string(),
        };
        self.end(error.disconnect_reason(), &text, error);
    }

    pub(super) fn end(&mut self, reason: Option<DisconnectReason>, text: &str, error: Error) {
        if self.closed.is_some() {
            return;
        }
        if let Some(reason) = reason {
            let description: String = text.chars().filter(|c| !c.is_control()).take(256).collect();
            self.out.transport(&Disconnect {
                reason_code: reason.0,
                description: description.as_bytes(),
                language_tag: b"",
            });
        }
        self.out.report(&mut self.log);
        self.out.end();
        self.log
            .add_about(LogLevel::Error, LogLayer::Transport, || {
                (LogSubject::Ended, error.to_string())
            });
        self.channels.end(&mut cx!(self));
        self.pending = Vec::new();
        self.stalled = false;
        self.timers.stop();
        self.unblocked = false;
        self.events.push(Common::Disconnected(error.clone()));
        self.closed = Some(error);
    }

    fn set_timers(&mut self) {
        let now = self.now;
        let deadlines = R::transport(&self.config).deadlines;
        let exchanging = self.transport.is_exchanging() && !self.transport.peer_version.is_empty();
        if exchanging && !self.timers.exchanging {
            self.timers.key_exchange.start(deadlines.key_exchange, now);
        } else if !exchanging {
            self.timers.key_exchange.stop();
        }
        self.timers.exchanging = exchanging;
        // The peer's time does not run while the caller is asked, or lets events wait so that nothing is read.
        let heeded = self.events.has_room();
        let heard = heeded && !self.transport.is_held();
        self.timers.key_exchange.run(heard, now);
        self.channels.run_deadlines(heard, now);
        if R::SIDE == Side::Client {
            self.timers
                .authentication
                .run(heeded && self.auth.is_waiting_for_peer(), now);
        }
        let deaf = !self.is_reading();
        if std::mem::replace(&mut self.timers.deaf, deaf) && !deaf {
            // Answers may have waited unread: the peer's silence starts anew.
            self.timers.silent_since = now;
            self.timers.unanswered = 0;
        }
        let idle = self
            .out
            .idle_memory()
            .saturating_add(self.channels.idle_memory())
            .saturating_add(self.pending.capacity().saturating_sub(self.pending.len()));
        if idle > TRIM_ABOVE {
            if self.timers.trim.is_none() {
                self.timers.trim = now.checked_add(TRIM_AFTER);
            }
        } else {
            self.timers.trim = None;
        }
    }

    /// Everything that is due at `self.now`.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        if self.timers.trim.is_some_and(|at| at <= now) {
            self.trim();
        }
        for (passed, stage) in [
            (self.timers.version.has_passed(now), Stage::VersionExchange),
            (self.timers.key_exchange.has_passed(now), Stage::KeyExchange),
            (
                self.timers.authentication.has_passed(now),
                Stage::Authentication,
            ),
        ] {
            if passed {
                return self.fail(Error::TimedOut(stage));
            }
        }
        let result = self.auth.handle_timeout(&mut cx!(self));
        self.check(result);
        self.channels.handle_timeout(&mut cx!(self));
        if self.idle_deadline().is_some_and(|at| at <= now) {
            return self.fail(Error::TimedOut(Stage::Idle));
        }
        if self.keepalive_deadline().is_some_and(|at| at <= now) {
            self.keepalive();
        }
    }

    /// RFC 4254 section 4 makes every peer answer a global request, if only with a refusal.
    fn keepalive(&mut self) {
        let Some(keepalive) = R::transport(&self.config).keepalive else {
            return;
        };
        if self.timers.unanswered >= keepalive.count.max(1) {
            return self.fail(Error::TimedOut(Stage::Keepalive));
        }
        self.timers.unanswered = self.timers.unanswered.saturating_add(1);
        self.timers.silent_since = self.now;
        // When it cannot be sent, for lack of room or in a key exchange, its time still runs: so the peer is stuck.
        _ = self.channels.send_keepalive(&mut cx!(self));
    }

    pub(super) fn keepalive_deadline(&self) -> Option<Instant> {
        let keepalive = R::transport(&self.config).keepalive?;
        // While we do not read, silence says nothing about the peer.
        if !self.auth.is_authenticated() || !self.is_reading() {
            return None;
        }
        self.timers.silent_since.checked_add(keepalive.interval)
    }

    pub(super) fn idle_deadline(&self) -> Option<Instant> {
        let limit = R::transport(&self.config).deadlines.idle?;
        if !self.auth.is_authenticated() || self.closed.is_some() {
            return None;
        }
        self.timers
            .last_received
            .max(self.timers.last_sent)
            .checked_add(limit)
    }

    fn trim(&mut self) {
        self.timers.trim = None;
        self.out.trim();
        self.channels.trim();
        self.pending.shrink_to_fit();
    }
}
