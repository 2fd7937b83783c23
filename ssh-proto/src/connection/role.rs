//! The two roles of a connection.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::SessionInfo;
use crate::auth::client::ClientAuth;
use crate::auth::server::ServerAuth;
use crate::channel::Notice;
use crate::config::{ClientConfig, ServerConfig, TransportConfig};
use crate::connection::cx::Cx;
use crate::connection::event::{ClientEvent, Common, ServerEvent};
use crate::error::Error;
#[cfg(feature = "tracing")]
use crate::log::LogLevel;
use crate::names::SignatureAlgorithm;
use crate::transport::KexHalf;
use crate::transport::client::ClientKex;
use crate::transport::server::ServerKex;

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// The role of a connection, which decides about its events, its configuration and its commands. Sealed: there are
/// [`ClientRole`] and [`ServerRole`].
#[expect(
    private_bounds,
    reason = "sealed; the machines of a role are not part of the interface"
)]
pub trait Role: RoleParts {
    /// What happens on such a connection.
    type Event: fmt::Debug + Send + From<Common> + From<Notice>;
    /// What is decided before it starts.
    type Config: fmt::Debug + Send + Sync;
}

/// The inside of a role.
pub(crate) trait RoleParts: Sized + 'static {
    const SIDE: Side;
    /// The half of the key exchange.
    type Kex: KexHalf<Self> + Send
    where
        Self: Role;
    /// The half of authentication.
    type Auth: AuthMachine<Self> + Send
    where
        Self: Role;

    fn transport(config: &<Self as Role>::Config) -> &TransportConfig
    where
        Self: Role;

    /// The host key algorithms that can be offered.
    fn host_key_algorithms(config: &<Self as Role>::Config) -> Vec<SignatureAlgorithm>
    where
        Self: Role;

    /// Whether the first message of the key exchange goes along with KEXINIT.
    fn guesses(config: &<Self as Role>::Config) -> bool
    where
        Self: Role;

    /// The configuration with another level of its log.
    #[cfg(feature = "tracing")]
    fn with_log(config: &<Self as Role>::Config, log: LogLevel) -> <Self as Role>::Config
    where
        Self: Role;

    /// The configuration as the text of a recording.
    #[cfg(any(test, feature = "replay"))]
    fn write_config(config: &<Self as Role>::Config, text: &mut String)
    where
        Self: Role;
}

/// What the spine asks of the authentication of a role.
pub(crate) trait AuthMachine<R: Role>: fmt::Debug {
    fn new(config: &Arc<R::Config>) -> Self;
    /// The first key exchange is done.
    fn start(&mut self, cx: &mut Cx<'_, R::Event>);
    /// Messages 5, 6 and 50 to 79.
    fn handle(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, R::Event>,
    ) -> Result<(), Error>;
    /// A question to the caller is open, or a refusal waits: no packet is read.
    fn is_held(&self) -> bool;
    /// The next step is the peer's.
    fn is_waiting_for_peer(&self) -> bool;
    fn is_authenticated(&self) -> bool;
    fn user(&self) -> Option<&str>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, cx: &mut Cx<'_, R::Event>) -> Result<(), Error>;
}

/// The client of a connection.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "it has no values")]
pub enum ClientRole {}

/// The server of a connection.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "it has no values")]
pub enum ServerRole {}

impl Role for ClientRole {
    type Event = ClientEvent;
    type Config = ClientConfig;
}

impl RoleParts for ClientRole {
    const SIDE: Side = Side::Client;
    type Kex = ClientKex;
    type Auth = ClientAuth;

    fn transport(config: &ClientConfig) -> &TransportConfig {
        &config.transport
    }

    fn host_key_algorithms(config: &ClientConfig) -> Vec<SignatureAlgorithm> {
        config.transport.algorithms.host_keys.as_slice().to_vec()
    }

    fn guesses(config: &ClientConfig) -> bool {
        config.guess_kex
    }

    #[cfg(feature = "tracing")]
    fn with_log(config: &ClientConfig, log: LogLevel) -> ClientConfig {
        let mut config = config.clone();
        config.transport.log = log;
        config
    }

    #[cfg(any(test, feature = "replay"))]
    fn write_config(config: &ClientConfig, text: &mut String) {
        crate::replay::config::write_client(config, text);
    }
}

impl Role for ServerRole {
    type Event = ServerEvent;
    type Config = ServerConfig;
}

impl RoleParts for ServerRole {
    const SIDE: Side = Side::Server;
    type Kex = ServerKex;
    type Auth = ServerAuth;

    fn transport(config: &ServerConfig) -> &TransportConfig {
        &config.transport
    }

    fn host_key_algorithms(config: &ServerConfig) -> Vec<SignatureAlgorithm> {
        let can_make = |algorithm: &SignatureAlgorithm| {
            config
                .host_keys
                .iter()
                .any(|key| key.public().algorithms().contains(algorithm))
        };
        config
            .transport
            .algorithms
            .host_keys
            .iter()
            .filter(can_make)
            .collect()
    }

    fn guesses(_: &ServerConfig) -> bool {
        false
    }

    #[cfg(feature = "tracing")]
    fn with_log(config: &ServerConfig, log: LogLevel) -> ServerConfig {
        let mut config = config.clone();
        config.transport.log = log;
        config
    }

    #[cfg(any(test, feature = "replay"))]
    fn write_config(config: &ServerConfig, text: &mut String) {
        crate::replay::config::write_server(config, text);
    }
}
