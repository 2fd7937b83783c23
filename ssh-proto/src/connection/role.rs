//! The two roles of a connection.

use std::fmt;

use crate::config::{ClientConfig, ServerConfig, TransportConfig};
use crate::connection::event::{ClientEvent, ServerEvent};

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// The role of a connection, which decides about its events, its configuration and its commands. Sealed: there are
/// [`ClientRole`] and [`ServerRole`].
#[expect(private_bounds, reason = "sealed; the machines of a role are not part of the interface")]
pub trait Role: RoleParts {
    /// What happens on such a connection.
    type Event: fmt::Debug + Send;
    /// What is decided before it starts.
    type Config: fmt::Debug + Send + Sync;
}

/// The inside of a role.
pub(crate) trait RoleParts: Sized + 'static {
    const SIDE: Side;
    fn transport(config: &<Self as Role>::Config) -> &TransportConfig
    where
        Self: Role;
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
    fn transport(config: &ClientConfig) -> &TransportConfig {
        &config.transport
    }
}

impl Role for ServerRole {
    type Event = ServerEvent;
    type Config = ServerConfig;
}

impl RoleParts for ServerRole {
    const SIDE: Side = Side::Server;
    fn transport(config: &ServerConfig) -> &TransportConfig {
        &config.transport
    }
}
