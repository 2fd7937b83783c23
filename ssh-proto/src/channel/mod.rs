//! The connection protocol: channels, requests about them, requests about the connection (RFC 4254).

pub(crate) mod recv;

/// A stream of a channel: its data, or extended data of some type (RFC 4254 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(pub u32);

impl Stream {
    /// `CHANNEL_DATA`: standard input one way, standard output the other.
    pub const DATA: Self = Self(0);
    /// `SSH_EXTENDED_DATA_STDERR`.
    pub const STDERR: Self = Self(1);
}
