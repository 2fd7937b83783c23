//! The transport layer above packets: key exchange, first and later, and what belongs to no other layer (RFC 4253).
//!
//! In: messages 1 to 49. Out: ours of the same, new keys for `packet`, and the questions about host keys.

pub(crate) mod client;
mod ext_info;
pub(crate) mod legality;
mod rekey;
pub(crate) mod server;

use std::time::Instant;

use crate::connection::cx::Cx;
use crate::connection::role::{Role, Side};
use crate::crypto::hash::Digest;
use crate::error::{Error, PeerError, Stage};
use crate::kex::exchange::{KeySource, Transcript};
use crate::kex::negotiate::{Negotiated, local_kexinit, negotiate};
use crate::key::PublicKey;
use crate::limits::{EXT_INFOS, Limits};
use crate::log::{LogLayer, LogLevel};
use crate::msg::Message;
use crate::msg::transport::{KexInit, NewKeys};
use crate::names::SignatureAlgorithm;
use crate::packet::opener::Opener;
use crate::packet::sealer::Sealer;

use legality::Phase;
use rekey::Rekey;

/// The transport layer of one connection.
#[derive(Debug)]
pub(crate) struct Transport<R: Role> {
    /// Our version line and the peer's, without CR LF: both go into every exchange hash.
    pub(crate) local_version: Box<str>,
    pub(crate) peer_version: Box<[u8]>,
    pub(crate) opener: Opener,
    kex: KexState<R::Kex>,
    session: Option<SessionState>,
    negotiated: Option<Negotiated>,
    strict: bool,
    /// The next packet of the peer belongs to an exchange that it guessed wrong.
    skip_guess: bool,
    /// The next packet of the peer is the first one behind its first NEWKEYS.
    greeting: bool,
    /// The peer's first NEWKEYS is in.
    established: bool,
    takes_ext_info: bool,
    ext_infos: u8,
    peer_algorithms: Option<Vec<SignatureAlgorithm>>,
    peer_pings: bool,
    rekey: Rekey,
    #[cfg(any(test, feature = "keylog"))]
    pub(crate) key_log: crate::key_log::KeyLog,
}

/// What stays the same over all exchanges.
#[derive(Debug)]
struct SessionState {
    id: Digest,
    host_key: PublicKey,
}

/// Where the key exchange stands.
///
/// ```text
/// Idle ── we start, or the peer's KEXINIT ──► Offered ── the peer's KEXINIT ──► Exchanging
///  ▲                                                                               │ the method is done;
///  └────────────── the peer's NEWKEYS ─────────── Switching ◄── our NEWKEYS ───────┘
/// ```
#[derive(Debug)]
enum KexState<K> {
    Idle,
    /// Our KEXINIT is out, the peer's is not in.
    Offered {
        ours: Vec<u8>,
        guessed: Option<K>,
    },
    /// Both KEXINITs are in.
    Exchanging {
        exchange: Box<Exchange>,
        half: K,
    },
    /// Our NEWKEYS is out; the peer's puts `inbound` in force.
    Switching {
        inbound: Box<Opener>,
    },
    /// A transition was left by an error; the connection ends.
    Broken,
}

/// What is known of an exchange once both KEXINITs are there.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) negotiated: Negotiated,
    client_kexinit: Vec<u8>,
    server_kexinit: Vec<u8>,
    /// The method that our guess used was the right one.
    pub(crate) guess_is_right: bool,
}

/// A finished exchange: its hash and the secret behind the keys.
pub(crate) struct Finished {
    pub(crate) hash: Digest,
    pub(crate) secret: crate::crypto::agree::SharedSecret,
    pub(crate) host_key: PublicKey,
}

/// What a half of an exchange says about a message.
pub(crate) enum Step<K> {
    /// More has to come.
    Continue(K),
    /// The exchange is done: NEWKEYS may follow.
    Done(Box<Finished>),
}

/// What a transport message led to, as far as other layers care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Nothing,
    /// The first exchange is done.
    Established,
    /// A later exchange is done.
    Rekeyed,
}

/// The versions and the session, as the half of an exchange needs them.
pub(crate) struct Known<'a, C> {
    pub(crate) config: &'a C,
    pub(crate) local_version: &'a [u8],
    pub(crate) peer_version: &'a [u8],
    /// The host key of the first exchange.
    pub(crate) host_key: Option<&'a PublicKey>,
}

/// The half of the key exchange that a role plays.
pub(crate) trait KexHalf<R: Role>: Sized + std::fmt::Debug {
    /// Sends the first message along with our first KEXINIT, if the configuration wants that.
    fn guess(config: &R::Config, cx: &mut Cx<'_, R::Event>) -> Result<Option<Self>, Error>;
    /// Both KEXINITs are there.
    fn begin(
        guessed: Option<Self>,
        exchange: &Exchange,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<Self, Error>;
    /// A message of the method.
    fn handle(
        self,
        payload: &[u8],
        exchange: &Exchange,
        known: &Known<'_, R::Config>,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<Step<Self>, Error>;
    /// A question to the caller is open.
    fn is_held(&self) -> bool;
}

impl Exchange {
    /// The exchange hash of this exchange.
    pub(crate) fn hash(
        &self,
        side: Side,
        local_version: &[u8],
        peer_version: &[u8],
        host_key: &[u8],
        [client_share, server_share]: [&[u8]; 2],
        secret: &crate::crypto::agree::SharedSecret,
    ) -> Digest {
        let (client_version, server_version) = match side {
            Side::Client => (local_version, peer_version),
            Side::Server => (peer_version, local_version),
        };
        Transcript {
            client_version,
            server_version,
            client_kexinit: &self.client_kexinit,
            server_kexinit: &self.server_kexinit,
            host_key,
            client_share,
            server_share,
        }
        .hash(self.negotiated.kex, secret)
    }
}

impl<R: Role> Transport<R> {
    pub(crate) fn new(config: &R::Config, now: Instant) -> Self {
        let transport = R::transport(config);
        Self {
            local_version: crate::packet::ident::local_version(transport).into(),
            peer_version: Box::default(),
            opener: Opener::plain(),
            kex: KexState::Idle,
            session: None,
            negotiated: None,
            strict: false,
            skip_guess: false,
            greeting: false,
            established: false,
            takes_ext_info: false,
            ext_infos: 0,
            peer_algorithms: None,
            peer_pings: false,
            rekey: Rekey::new(transport.rekey, now),
            #[cfg(any(test, feature = "keylog"))]
            key_log: crate::key_log::KeyLog::new(transport.key_log),
        }
    }

    /// The phase of the legality table.
    pub(crate) const fn phase(&self, authenticated: bool) -> Phase {
        let exchange = match (self.established, self.strict) {
            (false, false) => legality::Exchange::First,
            (false, true) => legality::Exchange::Strict,
            (true, _) => legality::Exchange::Later,
        };
        match self.kex {
            KexState::Exchanging { .. } if self.skip_guess => {
                Phase::Kex(exchange, legality::Step::Guess)
            }
            KexState::Exchanging { .. } => Phase::Kex(exchange, legality::Step::Method),
            KexState::Switching { .. } => Phase::Kex(exchange, legality::Step::NewKeys),
            _ if !self.established => Phase::Begin,
            _ if self.greeting => Phase::Greeting,
            _ if authenticated => Phase::Open,
            _ => Phase::Auth,
        }
    }

    /// A packet came in this phase, whatever it was.
    pub(crate) const fn came(&mut self, phase: Phase) {
        if matches!(phase, Phase::Greeting) {
            self.greeting = false;
        }
    }

    /// A key exchange is under way.
    pub(crate) const fn is_exchanging(&self) -> bool {
        !matches!(self.kex, KexState::Idle)
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(&self.kex, KexState::Exchanging { half, .. } if half.is_held())
    }

    pub(crate) const fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    pub(crate) fn session_id(&self) -> Option<&[u8]> {
        self.session.as_ref().map(|session| &*session.id)
    }

    pub(crate) fn host_key(&self) -> Option<&PublicKey> {
        self.session.as_ref().map(|session| &session.host_key)
    }

    /// Whether the peer has said that it answers PING.
    pub(crate) const fn peer_answers_pings(&self) -> bool {
        self.peer_pings
    }

    pub(crate) fn peer_algorithms(&self) -> Option<&[SignatureAlgorithm]> {
        self.peer_algorithms.as_deref()
    }

    /// When the keys are too old; `None` while they are being changed.
    pub(crate) fn rekey_deadline(&self) -> Option<Instant> {
        if self.established && !self.is_exchanging() {
            self.rekey.deadline()
        } else {
            None
        }
    }

    /// Whether a new exchange is due.
    pub(crate) fn is_rekey_due(&self, sealer: &Sealer, now: Instant) -> bool {
        self.established
            && !self.is_exchanging()
            && self
                .rekey
                .is_due(sealer.traffic(), self.opener.traffic(), now)
    }

    /// Starts an exchange: our KEXINIT. Nothing happens when one is under way.
    pub(crate) fn start(
        &mut self,
        config: &R::Config,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<(), Error> {
        if self.is_exchanging() {
            return Ok(());
        }
        let first = self.session.is_none();
        let guess = first && R::guesses(config);
        let cookie = cx.out.rng().array();
        let ours = local_kexinit(
            R::transport(config),
            &R::host_key_algorithms(config),
            R::SIDE,
            first,
            guess,
            cookie,
        );
        cx.log.add(LogLevel::Debug, LogLayer::Transport, || {
            "KEXINIT sent".to_owned()
        });
        cx.out.encoded(&ours);
        cx.out.shut_gate();
        let guessed = if guess {
            R::Kex::guess(config, cx)?
        } else {
            None
        };
        self.kex = KexState::Offered { ours, guessed };
        Ok(())
    }

    /// Our KEXINIT, while it is the only one.
    #[cfg(test)]
    pub(crate) const fn offered(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.kex {
            KexState::Offered { ours, .. } => Some(ours),
            _ => None,
        }
    }

    /// The peer's wrong guess came.
    pub(crate) const fn skip(&mut self) {
        self.skip_guess = false;
    }

    /// Handles messages 7, 20, 21 and 30 to 49, which the table admitted.
    pub(crate) fn handle(
        &mut self,
        payload: &[u8],
        config: &R::Config,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<Progress, Error> {
        match payload.first() {
            Some(7) => self
                .ext_info(payload, cx.limits)
                .map(|()| Progress::Nothing),
            Some(20) => self
                .kexinit(payload, config, cx)
                .map(|()| Progress::Nothing),
            Some(21) => self.newkeys(payload, cx),
            _ => self.method(payload, config, cx).map(|()| Progress::Nothing),
        }
    }

    fn kexinit(
        &mut self,
        payload: &[u8],
        config: &R::Config,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<(), Error> {
        let first = self.session.is_none();
        let peer = KexInit::decode(payload)?;
        check_lists(&peer, cx.limits.name_list_len)?;
        if matches!(self.kex, KexState::Idle) {
            if !first {
                let (sent, received) = (cx.out.sealer().traffic(), self.opener.traffic());
                self.rekey.peer_starts(sent, received, cx.limits, cx.now)?;
            }
            self.start(config, cx)?;
        }
        let KexState::Offered { ours, guessed } =
            std::mem::replace(&mut self.kex, KexState::Broken)
        else {
            return Err(unexpected(20));
        };
        let local = KexInit::decode(&ours).map_err(|_| Error::Bug("our own KEXINIT"))?;
        let outcome = negotiate(&local, &peer, R::SIDE)?;
        let mut negotiated = outcome.negotiated;
        if first {
            self.strict = negotiated.strict;
            self.takes_ext_info = outcome.peer_takes_ext_info;
            // Strict key exchange: the peer's KEXINIT must have been its very first packet.
            if self.strict && self.opener.sequence() != 1 {
                return Err(unexpected(20));
            }
        }
        negotiated.strict = self.strict;
        // RFC 4253 section 7: a wrong guess "MUST be silently ignored".
        self.skip_guess = peer.first_kex_packet_follows && !outcome.guess_is_right;
        cx.log.add(LogLevel::Info, LogLayer::Transport, || {
            let n = &negotiated;
            format!(
                "negotiated {}, host key {}, {} / {}{}",
                n.kex,
                n.host_key,
                n.client_to_server.cipher,
                n.server_to_client.cipher,
                if n.strict { ", strict" } else { "" }
            )
        });
        let guess_is_right = outcome.guess_is_right;
        let (client_kexinit, server_kexinit) = match R::SIDE {
            Side::Client => (ours, payload.to_vec()),
            Side::Server => (payload.to_vec(), ours),
        };
        let exchange = Box::new(Exchange {
            negotiated,
            client_kexinit,
            server_kexinit,
            guess_is_right,
        });
        let half = R::Kex::begin(guessed, &exchange, cx)?;
        self.kex = KexState::Exchanging { exchange, half };
        Ok(())
    }

    fn method(
        &mut self,
        payload: &[u8],
        config: &R::Config,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<(), Error> {
        let number = payload.first().copied().unwrap_or_default();
        let KexState::Exchanging { exchange, half } =
            std::mem::replace(&mut self.kex, KexState::Broken)
        else {
            return Err(unexpected(number));
        };
        let known = Known {
            config,
            local_version: self.local_version.as_bytes(),
            peer_version: &self.peer_version,
            host_key: self.session.as_ref().map(|session| &session.host_key),
        };
        let step = half.handle(payload, &exchange, &known, cx)?;
        self.advance(exchange, step, config, cx)
    }

    /// Answers the question that the half asked. `None`: there is no such question.
    pub(crate) fn answer(
        &mut self,
        config: &R::Config,
        cx: &mut Cx<'_, R::Event>,
        answer: impl FnOnce(R::Kex, &Exchange, &mut Cx<'_, R::Event>) -> Result<Step<R::Kex>, Error>,
    ) -> Result<(), Error> {
        match std::mem::replace(&mut self.kex, KexState::Broken) {
            KexState::Exchanging { exchange, half } => {
                let step = answer(half, &exchange, cx)?;
                self.advance(exchange, step, config, cx)
            }
            other => {
                self.kex = other;
                Ok(())
            }
        }
    }

    /// The half that asks a question, for its token to be compared.
    pub(crate) const fn half(&self) -> Option<&R::Kex> {
        match &self.kex {
            KexState::Exchanging { half, .. } => Some(half),
            _ => None,
        }
    }

    fn advance(
        &mut self,
        exchange: Box<Exchange>,
        step: Step<R::Kex>,
        config: &R::Config,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<(), Error> {
        match step {
            Step::Continue(half) => self.kex = KexState::Exchanging { exchange, half },
            Step::Done(finished) => self.switch(&exchange, *finished, config, cx)?,
        }
        Ok(())
    }

    /// RFC 4253 section 7.3: our NEWKEYS, under the old keys; everything behind it under the new ones.
    fn switch(
        &mut self,
        exchange: &Exchange,
        finished: Finished,
        config: &R::Config,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<(), Error> {
        let Finished {
            hash,
            secret,
            host_key,
        } = finished;
        #[cfg(any(test, feature = "keylog"))]
        self.key_log.add(&exchange.client_kexinit, &secret);
        let first = self.session.is_none();
        // RFC 4253 section 7.2: the hash of the first exchange "is additionally used as the session identifier".
        let id = self.session.as_ref().map_or(hash, |session| session.id);
        self.session = Some(SessionState { id, host_key });
        self.negotiated = Some(exchange.negotiated);
        let source = KeySource::new(exchange.negotiated.kex, &secret, hash, id);
        let client_to_server = source.client_to_server(&exchange.negotiated);
        let server_to_client = source.server_to_client(&exchange.negotiated);
        let (seal, open) = match R::SIDE {
            Side::Client => (client_to_server, server_to_client),
            Side::Server => (server_to_client, client_to_server),
        };
        cx.out.transport(&NewKeys {});
        let sequence = if self.strict {
            0
        } else {
            cx.out.sealer().sequence()
        };
        cx.out.open_gate(Sealer::new(&seal, sequence)?);
        if first && self.takes_ext_info && R::SIDE == Side::Server {
            // RFC 8308 section 2.4: "As the next packet following the server's first SSH_MSG_NEWKEYS."
            let extensions =
                ext_info::server_ext_info(R::transport(config).algorithms.user_keys.names());
            cx.out.transport(&ext_info::message(&extensions));
        }
        self.kex = KexState::Switching {
            inbound: Box::new(Opener::new(&open)?),
        };
        Ok(())
    }

    fn newkeys(&mut self, payload: &[u8], cx: &mut Cx<'_, R::Event>) -> Result<Progress, Error> {
        NewKeys::decode(payload)?;
        // RFC 4253 section 7.3: "All messages sent after this message MUST use the new keys and algorithms."
        let KexState::Switching { inbound } = std::mem::replace(&mut self.kex, KexState::Broken)
        else {
            return Err(unexpected(21));
        };
        self.opener = inbound.follow(&self.opener, self.strict);
        self.kex = KexState::Idle;
        self.rekey.done(cx.now);
        cx.log.add(LogLevel::Debug, LogLayer::Transport, || {
            "new keys in force".to_owned()
        });
        if std::mem::replace(&mut self.established, true) {
            return Ok(Progress::Rekeyed);
        }
        self.greeting = true;
        Ok(Progress::Established)
    }

    /// RFC 8308 section 2.4.
    fn ext_info(&mut self, payload: &[u8], limits: &Limits) -> Result<(), Error> {
        self.ext_infos = self.ext_infos.saturating_add(1);
        if self.ext_infos > EXT_INFOS {
            return Err(PeerError::UnexpectedMessage {
                message: 7,
                stage: Stage::Authentication,
            }
            .into());
        }
        let extensions = ext_info::read(payload, limits)?;
        self.peer_pings |= extensions.pings;
        if extensions.signature_algorithms.is_some() {
            self.peer_algorithms = extensions.signature_algorithms;
        }
        Ok(())
    }
}

fn check_lists(kexinit: &KexInit<'_>, max: usize) -> Result<(), PeerError> {
    let lists = [
        kexinit.kex_algorithms,
        kexinit.server_host_key_algorithms,
        kexinit.encryption_algorithms_client_to_server,
        kexinit.encryption_algorithms_server_to_client,
        kexinit.mac_algorithms_client_to_server,
        kexinit.mac_algorithms_server_to_client,
        kexinit.compression_algorithms_client_to_server,
        kexinit.compression_algorithms_server_to_client,
        kexinit.languages_client_to_server,
        kexinit.languages_server_to_client,
    ];
    if lists.iter().any(|list| list.as_str().len() > max) {
        return Err(PeerError::Limit("names in KEXINIT"));
    }
    Ok(())
}

fn unexpected(message: u8) -> Error {
    PeerError::UnexpectedMessage {
        message,
        stage: Stage::KeyExchange,
    }
    .into()
}
