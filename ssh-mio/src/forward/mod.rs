//! Forwarding: listeners whose connections go through an SSH connection, on either side of it (RFC 4254 section 7,
//! OpenSSH's PROTOCOL section 2.4).
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | the six kinds of forwards that a client has |
//! | `server` | how a server serves what its policy grants |
//! | `turn` | readiness, deadlines, and who has something to do |
//! | `owner` | what there is of one session |
//! | `link` | one connection: a socket and a channel joined, SOCKS in front of that |
//! | `connect` | connecting to a target without waiting for it |
//! | `slots` | tokens, and what each stands for |
//! | `socket` | sockets and listeners, TCP and Unix |

mod client;
mod connect;
mod link;
mod owner;
mod server;
mod slots;
mod socket;
mod turn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Range;

use mio::{Registry, Token};
use ssh_proto::{ClientRole, Draft, Misuse, Role, ServerRole};

use crate::timers::Timers;

use owner::Owner;
use slots::Slots;

/// The forwards of a thread's client sessions.
pub type ClientForwards = Forwards<ClientRole>;
/// The forwarding of a thread's server sessions.
pub type ServerForwards = Forwards<ServerRole>;

/// How many connections one forward of a client carries at once, and a session of a server; more are dropped.
const MAX_CONNECTIONS: usize = 512;

/// All forwards of a thread: their listeners and sockets, for any number of sessions.
///
/// A loop around [`Sessions`](crate::Sessions) takes four more lines: hand events to [`note`](Self::note), wake the
/// sessions that [`poll_session`](Self::poll_session) names, wait no longer than [`wait_time`](Self::wait_time), and take a
/// session's events from `serve` in place of [`Session::poll_event`](crate::Session::poll_event):
///
/// ```no_run
/// # use std::{sync::Arc, time::Instant};
/// # use mio::{Events, Poll, Token};
/// use ssh_mio::ssh_proto::{ClientConfig, ClientEvent, Credential};
/// use ssh_mio::{ClientForwards, ClientSession, Sessions};
///
/// # fn host_key_is_right(_: &ssh_mio::ssh_proto::HostKeyOffer) -> bool { true }
/// # let config = Arc::new(ClientConfig::new());
/// # let address = ([127, 0, 0, 1], 22).into();
/// # let mut poll = Poll::new()?;
/// # let mut events = Events::with_capacity(256);
/// let mut sessions = Sessions::new(Token(0));
/// let mut forwards = ClientForwards::new(poll.registry(), Token(1 << 20)..Token(1 << 21))?;
///
/// let mut session = ClientSession::connect(address, config, Instant::now())?;
/// session.connection().authenticate("user", Credential::None, Instant::now())?;
/// let token = sessions.insert(poll.registry(), session, ())?;
/// forwards.forward_local(token, ([127, 0, 0, 1], 8080).into(), ("intranet.example", 80))?;
///
/// while !sessions.is_empty() {
///     let now = Instant::now();
///     let wait = [sessions.wait_time(now), forwards.wait_time(now)];
///     poll.poll(&mut events, wait.into_iter().flatten().min())?;
///     let now = Instant::now();
///     for event in &events {
///         if !forwards.note(event) {
///             sessions.note(event);
///         }
///     }
///     while let Some(session) = forwards.poll_session(now) {
///         sessions.wake(session);
///     }
///     sessions.run(poll.registry(), now, |token, session, ()| {
///         while let Some(event) = forwards.serve(token, session, now) {
///             if let ClientEvent::HostKeyOffered(offer) = event {
///                 _ = match host_key_is_right(&offer) {
///                     true => session.connection().accept_host_key(offer),
///                     false => session.connection().reject_host_key(offer),
///                 };
///             }
///         }
///     });
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// On a server the same loop serves what [`allow`](Forwards::allow) grants to a session; without it nothing is forwarded.
///
/// # What is promised
///
/// - **Nothing waits.** Listeners, sockets and connects are non-blocking. Only addresses and `localhost` are connected to,
///   since looking up a name waits: with [`resolve_names`](Self::resolve_names) names are asked of the caller. (The target
///   of a client's own local forward is looked up by the server.)
/// - **Nothing is kept between.** Bytes are read into the packet that they leave in, and written from the block in which
///   they were opened. What one side does not take is not read from the other: it stays within the channel's window and
///   the system's buffers.
/// - **Half-close is passed on** in both directions. A connection ends when both sides have said so, when one side is cut
///   off, or with its forward.
/// - **A connection that cannot be made fails alone.** Its socket is closed, or its channel refused.
/// - **Work is proportional to what happened.** No list of connections or channels is ever gone through.
/// - **Nothing is left behind.** With the session go its listeners and sockets, their tokens, and the files of Unix sockets.
pub struct Forwards<R: Role> {
    registry: Registry,
    slots: Slots,
    /// By session.
    owners: BTreeMap<Token, Owner>,
    /// The sessions that are to be served.
    due: BTreeSet<Token>,
    timers: Timers,
    draft: Draft,
    events: VecDeque<ForwardEvent>,
    resolves: bool,
    /// Keys and serials so far.
    numbers: u64,
    role: PhantomData<R>,
}

/// A forward of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardId {
    session: Token,
    key: u64,
}

impl ForwardId {
    /// The session that it belongs to.
    pub const fn session(&self) -> Token {
        self.session
    }
}

/// What happened to forwards, of any session.
#[derive(Debug)]
#[non_exhaustive]
pub enum ForwardEvent {
    /// The server listens. [`Forwards::port`] tells where.
    Listening(ForwardId),
    /// The server does not listen: the forward is gone.
    Refused(ForwardId),
    /// A question: the addresses of a host. It is answered with [`Forwards::supply_addresses`]. Only after
    /// [`Forwards::resolve_names`].
    NameAsked(NameQuestion),
}

/// The question for the addresses of a host that is to be connected to.
#[derive(Debug)]
#[must_use = "the connection waits for an answer"]
pub struct NameQuestion {
    session: Token,
    link: Token,
    serial: u64,
    host: String,
    port: u16,
}

impl NameQuestion {
    /// The session whose peer wants to be connected.
    pub const fn session(&self) -> Token {
        self.session
    }

    /// The name, in the peer's words.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, for the addresses of the answer.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl<R: Role> Forwards<R> {
    /// No forwards. They will have these tokens, one for each listener and each connection, and no more of them than
    /// there are tokens: connections beyond that are dropped. The tokens must be nobody else's.
    ///
    /// # Errors
    /// The registry cannot be duplicated: the system is out of descriptors.
    pub fn new(registry: &Registry, tokens: Range<Token>) -> io::Result<Self> {
        Ok(Self {
            registry: registry.try_clone()?,
            slots: Slots::new(&tokens),
            owners: BTreeMap::new(),
            due: BTreeSet::new(),
            timers: Timers::new(),
            draft: Draft::new(),
            events: VecDeque::new(),
            resolves: false,
            numbers: 0,
            role: PhantomData,
        })
    }

    /// From now on, a name that is to be connected to is asked of the caller, with [`ForwardEvent::NameAsked`]. Without
    /// it, names cannot be connected to from here.
    #[must_use]
    pub const fn resolve_names(mut self) -> Self {
        self.resolves = true;
        self
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ForwardEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        event
    }

    /// Answers a question for a name, at any time: `addresses` are tried in this order. None: there is no such host.
    ///
    /// # Errors
    /// [`Misuse::StaleToken`]: the connection is gone, or was given up after 30 seconds.
    pub fn supply_addresses(
        &mut self,
        question: NameQuestion,
        addresses: &[SocketAddr],
    ) -> Result<(), Misuse> {
        let NameQuestion { link, serial, .. } = question;
        let connecting = self
            .slots
            .link(link)
            .and_then(link::Link::connecting_to)
            .filter(|connecting| connecting.is_asked(serial))
            .ok_or(Misuse::StaleToken)?;
        connecting.named(addresses);
        self.wake(link);
        Ok(())
    }

    /// Ends all forwards of a session, for one that is taken away before its end. What is left to say on its connection,
    /// if anything, is not said.
    pub fn remove(&mut self, session: Token) {
        self.due.remove(&session);
        self.timers.remove(session);
        let Some(owner) = self.owners.remove(&session) else {
            return;
        };
        for token in owner.slots {
            self.close(token);
        }
        if self.owners.is_empty() {
            self.draft = Draft::new();
        }
    }

    /// How many tokens are in use: listeners and connections.
    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R: Role> fmt::Debug for Forwards<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwards")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
