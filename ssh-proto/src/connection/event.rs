//! What happens on a connection, for each role.

use crate::auth::event::{ClientAuthEvent, ServerAuthEvent};
use crate::auth::{KeyOffer, LoginAttempt, PasswordChange, Prompts, SignatureRequest};
use crate::channel::{ChannelId, GlobalRequestReceived, Notice, OpenRequest, RequestId};
use crate::error::Error;
use crate::key::PublicKey;

/// The server's host key, proven to be its own and not yet trusted: a question, answered once with
/// [`accept_host_key`](crate::Connection::accept_host_key) or
/// [`reject_host_key`](crate::Connection::reject_host_key). Packets of the server wait meanwhile.
#[derive(Debug)]
#[must_use = "the connection waits for the verdict"]
pub struct HostKeyOffer {
    serial: u64,
    key: PublicKey,
}

impl HostKeyOffer {
    pub(crate) const fn new(serial: u64, key: PublicKey) -> Self {
        Self { serial, key }
    }

    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// The key. Its signature over the exchange has been verified: what remains is whether it is the right server's.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// What happened on a client's connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A question: is this the right server?
    HostKeyOffered(HostKeyOffer),
    /// Text of the server for the user, safe to print (RFC 4252 section 5.4).
    Banner(String),
    /// The attempt failed, or (`partial_success`) was good and must be followed by another (RFC 4252 section 5.1).
    AuthenticationRefused {
        /// The methods that can continue.
        methods: Vec<String>,
        /// The attempt itself was good.
        partial_success: bool,
    },
    /// A question: the answers to these prompts (RFC 4256).
    PromptsReceived(Prompts),
    /// A question: a new password (RFC 4252 section 8).
    PasswordChangeRequested(PasswordChange),
    /// A question: a signature of a key that is not here.
    SignatureNeeded(SignatureRequest),
    /// The user is authenticated: channels may be opened.
    Authenticated,
    /// Something happened on this channel: see its own events. Listed once until they are taken.
    Channel(ChannelId),
    /// A question: the server asks for a channel that came of a
    /// [`request_forward`](crate::Connection::request_forward), or of a kind that the configuration names.
    OpenRequested(OpenRequest),
    /// A question: the server asks for something that the configuration names.
    GlobalRequested(GlobalRequestReceived),
    /// The answer to a [`global_request`](crate::Connection::global_request).
    GlobalReplied {
        /// Which request.
        request: RequestId,
        /// The data of the reply; `None` when it was refused.
        reply: Option<Vec<u8>>,
    },
    /// The answer to a [`ping`](crate::Connection::ping): its bytes.
    PongReceived(Vec<u8>),
    /// New keys are in force.
    Rekeyed,
    /// A command that was [`Blocked`](crate::Misuse::Blocked), on the connection or on a channel, may be tried again.
    Unblocked,
    /// The connection has ended. Always the last event, and never lost.
    Disconnected(Error),
}

/// What happened on a server's connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A question: a signature of a host key that is not here.
    SignatureNeeded(SignatureRequest),
    /// A question: would this key do? It proves nothing, and nothing can be granted on it.
    KeyOffered(KeyOffer),
    /// A question: may this user in, on this proof?
    LoginAttempted(LoginAttempt),
    /// A user is authenticated.
    Authenticated {
        /// Who, as the client named them.
        user: String,
    },
    /// Something happened on this channel: see its own events. Listed once until they are taken.
    Channel(ChannelId),
    /// A question: the client asks for a channel.
    OpenRequested(OpenRequest),
    /// A question: the client asks this server to listen for it, or for something that the configuration names.
    GlobalRequested(GlobalRequestReceived),
    /// The answer to a [`global_request`](crate::Connection::global_request).
    GlobalReplied {
        /// Which request.
        request: RequestId,
        /// The data of the reply; `None` when it was refused.
        reply: Option<Vec<u8>>,
    },
    /// The answer to a [`ping`](crate::Connection::ping): its bytes.
    PongReceived(Vec<u8>),
    /// New keys are in force.
    Rekeyed,
    /// A command that was [`Blocked`](crate::Misuse::Blocked), on the connection or on a channel, may be tried again.
    Unblocked,
    /// The connection has ended. Always the last event, and never lost.
    Disconnected(Error),
}

/// What happens in both roles.
#[derive(Debug)]
pub(crate) enum Common {
    PongReceived(Vec<u8>),
    Rekeyed,
    Unblocked,
    Disconnected(Error),
}

macro_rules! from_common {
    ($event:ident) => {
        impl From<Common> for $event {
            fn from(common: Common) -> Self {
                match common {
                    Common::PongReceived(data) => Self::PongReceived(data),
                    Common::Rekeyed => Self::Rekeyed,
                    Common::Unblocked => Self::Unblocked,
                    Common::Disconnected(error) => Self::Disconnected(error),
                }
            }
        }

        impl From<Notice> for $event {
            fn from(notice: Notice) -> Self {
                match notice {
                    Notice::Channel(id) => Self::Channel(id),
                    Notice::OpenRequested(request) => Self::OpenRequested(request),
                    Notice::GlobalRequested(request) => Self::GlobalRequested(request),
                    Notice::GlobalReplied { request, reply } => {
                        Self::GlobalReplied { request, reply }
                    }
                }
            }
        }
    };
}
from_common!(ClientEvent);
from_common!(ServerEvent);

impl From<ClientAuthEvent> for ClientEvent {
    fn from(event: ClientAuthEvent) -> Self {
        match event {
            ClientAuthEvent::Banner(text) => Self::Banner(text),
            ClientAuthEvent::AuthenticationRefused {
                methods,
                partial_success,
            } => Self::AuthenticationRefused {
                methods,
                partial_success,
            },
            ClientAuthEvent::PromptsReceived(prompts) => Self::PromptsReceived(prompts),
            ClientAuthEvent::PasswordChangeRequested(change) => {
                Self::PasswordChangeRequested(change)
            }
            ClientAuthEvent::SignatureNeeded(request) => Self::SignatureNeeded(request),
            ClientAuthEvent::Authenticated => Self::Authenticated,
        }
    }
}

impl From<ServerAuthEvent> for ServerEvent {
    fn from(event: ServerAuthEvent) -> Self {
        match event {
            ServerAuthEvent::KeyOffered(offer) => Self::KeyOffered(offer),
            ServerAuthEvent::LoginAttempted(attempt) => Self::LoginAttempted(attempt),
            ServerAuthEvent::Authenticated { user } => Self::Authenticated { user },
        }
    }
}
