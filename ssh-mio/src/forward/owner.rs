//! What there is of one session: its forwards, its channels, and what waits to be said on its connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use mio::Token;
use ssh_proto::{ChannelId, ForwardAddress, ForwardPolicy, ForwardTarget, OpenRequest, RequestId};

/// The forwarding of one session.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// Slots with something to do.
    pub(super) due: Vec<Token>,
    /// They had their turn, and the events that came of it are being taken.
    pub(super) served: bool,
    /// All its slots.
    pub(super) slots: BTreeSet<Token>,
    /// The connections that have a channel.
    pub(super) channels: BTreeMap<ChannelId, Token>,
    /// What is to be asked of the peer, in order. It waits for room, and for authentication.
    pub(super) todo: VecDeque<Todo>,
    /// What connections that are gone have left behind.
    pub(super) orphans: Vec<Orphan>,
    pub(super) forwards: BTreeMap<u64, Forward>,
    /// Requests to the server and the forwards that they are about; `None`: nobody waits for it.
    pub(super) requests: BTreeMap<RequestId, Option<u64>>,
    /// What the client may have forwarded.
    pub(super) policy: ForwardPolicy,
}

impl Owner {
    /// Whether there is something to do that needs no room.
    pub(super) const fn is_due(&self) -> bool {
        !self.due.is_empty() || !self.orphans.is_empty()
    }
}

/// Something to ask of the peer.
#[derive(Debug)]
pub(super) enum Todo {
    /// The channel of a connection.
    Open(Token),
    /// To listen.
    Request(u64),
    /// To listen no more.
    Cancel(RequestId),
}

/// What is to be ended on the connection.
#[derive(Debug)]
pub(super) enum Orphan {
    Channel(ChannelId),
    Request(OpenRequest),
}

/// One forward.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) route: Route,
    /// Its connections.
    pub(super) links: BTreeSet<Token>,
}

impl Forward {
    pub(super) const fn new(route: Route) -> Self {
        Self {
            route,
            links: BTreeSet::new(),
        }
    }
}

/// Who listens, and where to. `target`: `None` asks each connection.
#[derive(Debug)]
pub(super) enum Route {
    /// This client.
    Local {
        listener: Token,
        address: Option<SocketAddr>,
        target: Option<ForwardTarget>,
    },
    /// The server, for this client.
    Remote {
        address: ForwardAddress,
        /// Once it was made.
        request: Option<RequestId>,
        granted: bool,
        target: Option<ForwardTarget>,
    },
    /// This server, for the client. Its connections are in [`Served`](Self::Served).
    Listener {
        listener: Token,
        address: ForwardAddress,
    },
    /// All connections of this server's client.
    Served,
}
