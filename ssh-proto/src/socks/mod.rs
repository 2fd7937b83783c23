//! SOCKS 4, 4a and 5 as machines over any byte stream: what dynamic forwarding speaks (RFC 1928; the SOCKS 4 and 4a
//! memoranda of Lee and Leech).
//!
//! In: bytes of the other side, and a verdict. Out: bytes for it, and an event. Only CONNECT, and no authentication: a
//! listener for dynamic forwarding is protected by where it listens.
//!
//! [`SocksProxy`] is the side that is asked, [`SocksClient`] the side that asks. Neither takes a byte beyond its own
//! messages: what follows belongs to the connection that was asked for.

mod client;
mod proxy;

use std::fmt;
use std::io;

use crate::channel::OpenFailureReason;

pub use client::{SocksClient, SocksReply};
pub use proxy::{SocksEvent, SocksProxy};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SocksVersion {
    /// SOCKS 4, and 4a where the host is a name.
    V4,
    /// SOCKS 5 (RFC 1928).
    V5,
}

/// Why a connection was not made: the REP field of RFC 1928 section 6. SOCKS 4 knows one failure, which is
/// [`GENERAL`](Self::GENERAL). Unknown values survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocksFailure(pub u8);

impl SocksFailure {
    /// General SOCKS server failure.
    pub const GENERAL: Self = Self(1);
    /// Connection not allowed by ruleset.
    pub const NOT_ALLOWED: Self = Self(2);
    /// Network unreachable.
    pub const NETWORK_UNREACHABLE: Self = Self(3);
    /// Host unreachable.
    pub const HOST_UNREACHABLE: Self = Self(4);
    /// Connection refused.
    pub const CONNECTION_REFUSED: Self = Self(5);
    /// Command not supported.
    pub const COMMAND_NOT_SUPPORTED: Self = Self(7);
    /// Address type not supported.
    pub const ADDRESS_NOT_SUPPORTED: Self = Self(8);
}

/// Why a channel was not opened, in the words of SOCKS.
impl From<OpenFailureReason> for SocksFailure {
    fn from(reason: OpenFailureReason) -> Self {
        match reason {
            OpenFailureReason::ADMINISTRATIVELY_PROHIBITED => Self::NOT_ALLOWED,
            OpenFailureReason::CONNECT_FAILED => Self::HOST_UNREACHABLE,
            _ => Self::GENERAL,
        }
    }
}

/// Why a connection was not made, in the words of SOCKS.
impl From<io::ErrorKind> for SocksFailure {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::ConnectionRefused => Self::CONNECTION_REFUSED,
            io::ErrorKind::NetworkUnreachable => Self::NETWORK_UNREACHABLE,
            io::ErrorKind::PermissionDenied => Self::NOT_ALLOWED,
            _ => Self::HOST_UNREACHABLE,
        }
    }
}

impl fmt::Display for SocksFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::GENERAL => "general failure",
            Self::NOT_ALLOWED => "not allowed",
            Self::NETWORK_UNREACHABLE => "network unreachable",
            Self::HOST_UNREACHABLE => "host unreachable",
            Self::CONNECTION_REFUSED => "connection refused",
            Self::COMMAND_NOT_SUPPORTED => "command not supported",
            Self::ADDRESS_NOT_SUPPORTED => "address type not supported",
            Self(other) => return write!(f, "failure {other}"),
        })
    }
}

/// What the other side did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocksError {
    /// The first byte is no version that is known: this is no SOCKS.
    Version(u8),
    /// It wants to authenticate, or demands it.
    Method,
    /// A command other than CONNECT.
    Command(u8),
    /// An address type other than IPv4, IPv6 and name.
    AddressType(u8),
    /// A name or user that is empty where it must not be, too long, or no text.
    Name,
    /// A reply with other bytes than the protocol has.
    Reply,
}

impl fmt::Display for SocksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "no SOCKS version: {version}"),
            Self::Method => f.write_str("authentication is not supported"),
            Self::Command(command) => write!(f, "command {command} is not supported"),
            Self::AddressType(kind) => write!(f, "address type {kind} is not supported"),
            Self::Name => f.write_str("unusable name"),
            Self::Reply => f.write_str("malformed reply"),
        }
    }
}

impl std::error::Error for SocksError {}

/// A host name as it may go on: printable US-ASCII, because that is what resolvers and addresses are made of.
fn host_name(bytes: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(bytes).ok()?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())).then_some(name)
}

#[cfg(test)]
mod tests;
