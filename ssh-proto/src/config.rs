//! What a caller decides before a connection starts.

use std::sync::Arc;
use std::time::Duration;

use crate::key::{PrivateKey, PublicKey};
use crate::limits::{Deadlines, Limits, RekeyLimits};
use crate::log::LogLevel;
use crate::names::{Cipher, Kex, Mac, Preference, SignatureAlgorithm};

/// The algorithms that a side offers, most preferred first. The client's order decides (RFC 4253 section 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Algorithms {
    /// Key exchange methods.
    pub kex: Preference<Kex>,
    /// Signature algorithms of host keys. A server offers those that its keys can make.
    pub host_keys: Preference<SignatureAlgorithm>,
    /// Ciphers, the same for both directions.
    pub ciphers: Preference<Cipher>,
    /// MACs, for ciphers that need one; the same for both directions.
    pub macs: Preference<Mac>,
    /// Signature algorithms of user keys: what a server takes (and says in `server-sig-algs`), and what a client
    /// signs with.
    pub user_keys: Preference<SignatureAlgorithm>,
}

/// Keepalive: a request that every peer answers, sent when nothing came for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// After so much silence of the peer a request is sent: OpenSSH's `ServerAliveInterval`.
    pub interval: Duration,
    /// After so many unanswered ones the peer is taken for dead: OpenSSH's `ServerAliveCountMax`.
    pub count: u32,
}

/// Names that the caller knows how to handle: they come out as events. Whatever is in no list and not known to the
/// library is refused by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Extensions {
    /// Kinds of channels that the peer may ask for.
    pub channel_kinds: Vec<String>,
    /// Requests about a channel.
    pub channel_requests: Vec<String>,
    /// Requests about the connection.
    pub global_requests: Vec<String>,
}

/// What client and server have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportConfig {
    /// The algorithms.
    pub algorithms: Algorithms,
    /// The bounds.
    pub limits: Limits,
    /// The deadline of each stage.
    pub deadlines: Deadlines,
    /// When to start a new key exchange.
    pub rekey: RekeyLimits,
    /// Whether to ask if the peer is still there.
    pub keepalive: Option<Keepalive>,
    /// The software part of the version line, such as `example_1.0`: printable US-ASCII without spaces and minus
    /// signs (RFC 4253 section 4.2). What else is in it is left out.
    pub software: String,
    /// Which log records to keep.
    pub log: LogLevel,
    /// Whether records of packets show their bytes: see [what is in them](crate::log#what-is-in-a-record).
    pub hexdump: bool,
    /// Names of the caller's own.
    pub own: Extensions,
    /// Keep the secret of every key exchange for [`poll_key_log`](crate::Connection::poll_key_log) (feature `keylog`).
    /// **It gives the whole conversation away.**
    #[cfg(any(test, feature = "keylog"))]
    pub key_log: bool,
    /// Record everything that is done to the connection (feature `replay`): see [`replay`](crate::replay).
    /// **The recording holds secrets.**
    #[cfg(any(test, feature = "replay"))]
    pub record: bool,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            algorithms: Algorithms::default(),
            limits: Limits::default(),
            deadlines: Deadlines::default(),
            rekey: RekeyLimits::default(),
            keepalive: None,
            software: concat!("ssh_proto_", env!("CARGO_PKG_VERSION")).to_owned(),
            log: LogLevel::default(),
            hexdump: false,
            own: Extensions::default(),
            #[cfg(any(test, feature = "keylog"))]
            key_log: false,
            #[cfg(any(test, feature = "replay"))]
            record: false,
        }
    }
}

/// The configuration of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClientConfig {
    /// What both roles have in common.
    pub transport: TransportConfig,
    /// Send the first message of the preferred key exchange along with KEXINIT: saves a round trip when the server
    /// prefers the same (RFC 4253 section 7, `first_kex_packet_follows`).
    pub guess_kex: bool,
    /// Ask the caller when a later key exchange shows another host key, instead of ending the connection.
    pub allow_host_key_change: bool,
}

impl ClientConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A host key of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HostKey {
    /// The private key is here.
    Private(Arc<PrivateKey>),
    /// The private key is elsewhere (an agent, a hardware module): the server asks with
    /// [`SignatureNeeded`](crate::ServerEvent::SignatureNeeded).
    External(PublicKey),
}

impl HostKey {
    /// The public half.
    pub fn public(&self) -> &PublicKey {
        match self {
            Self::Private(key) => key.public(),
            Self::External(key) => key,
        }
    }
}

/// A method of authentication by name (RFC 4252).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AuthMethod {
    /// `none` (RFC 4252 section 5.2). It is never listed as a method that can continue.
    None,
    /// `publickey` (RFC 4252 section 7).
    PublicKey,
    /// `password` (RFC 4252 section 8).
    Password,
    /// `keyboard-interactive` (RFC 4256).
    KeyboardInteractive,
}

impl AuthMethod {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::KeyboardInteractive => "keyboard-interactive",
        }
    }

    /// The method of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::None,
            Self::PublicKey,
            Self::Password,
            Self::KeyboardInteractive,
        ]
        .into_iter()
        .find(|method| method.name() == name)
    }
}

/// The configuration of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// What both roles have in common.
    pub transport: TransportConfig,
    /// The host keys: one of each kind that is offered.
    pub host_keys: Vec<HostKey>,
    /// The methods that a user may try.
    pub auth_methods: Vec<AuthMethod>,
    /// How long a refusal waits, so that guessing is slow.
    pub failure_delay: Duration,
    /// Text shown to the user before authentication (RFC 4252 section 5.4).
    pub banner: Option<String>,
}

impl ServerConfig {
    /// The defaults with these host keys: public keys, passwords and keyboard-interactive may be tried.
    pub fn new(host_keys: Vec<HostKey>) -> Self {
        Self {
            transport: TransportConfig::default(),
            host_keys,
            auth_methods: vec![
                AuthMethod::PublicKey,
                AuthMethod::Password,
                AuthMethod::KeyboardInteractive,
            ],
            failure_delay: Duration::from_millis(100),
            banner: None,
        }
    }
}
