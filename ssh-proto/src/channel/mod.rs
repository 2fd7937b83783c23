//! The connection protocol: channels, requests about them, requests about the connection (RFC 4254).
//!
//! In: messages 80 to 100, and commands. Out: messages of the same numbers, [`Notice`]s, and the events of each channel,
//! which are state of the channel until they are taken. Data of a channel is lent from the reader's blocks.
//!
//! | file | what it holds |
//! |---|---|
//! | `table`, `slots` | all channels of a connection, their ids, the lists of those that have something to do |
//! | `state`, `pending` | one channel: opening, half-closing, what it owes the peer; what it has to tell the caller |
//! | `incoming` | messages of the peer, by number |
//! | `open`, `opening` | opening channels, both ways; the peer's time to answer |
//! | `request`, `answers` | requests about a channel; replies in order |
//! | `global` | requests about the connection, keepalive |
//! | `forward` | listeners at the server, and the channels that come of them |
//! | `write` | data on its way out, and who may write next |
//! | `recv`, `window` | data that came in; the arithmetic of windows |
//! | `handle` | what a caller can do with a channel |

mod answers;
mod forward;
mod global;
mod handle;
mod incoming;
mod kinds;
mod open;
mod opening;
mod pending;
pub(crate) mod recv;
mod request;
mod slots;
mod state;
mod table;
mod window;
mod write;

pub use forward::ForwardAddress;
pub use handle::Channel;
pub use kinds::{
    Answer, ChannelEvent, ChannelRequest, ExitSignal, GlobalRequestKind, GlobalRequestReceived,
    GlobalRequestToken, OpenChannel, OpenFailureReason, OpenKind, OpenRequest, Program, PtyRequest,
    RequestId, Signal, WindowSize,
};
pub(crate) use table::Channels;

/// A stream of a channel: its data, or extended data of some type (RFC 4254 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(pub u32);

impl Stream {
    /// `CHANNEL_DATA`: standard input one way, standard output the other.
    pub const DATA: Self = Self(0);
    /// `SSH_EXTENDED_DATA_STDERR`.
    pub const STDERR: Self = Self(1);
}

/// A channel of one connection. It is never valid again after the channel is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// The number on the wire, which later channels use again.
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ChannelId {
    /// A place for the channel in a table of the caller's own: the number by which the peer addresses it (RFC 4254 section
    /// 5), so a small one. No two channels have the same at a time; a later channel may have it again.
    ///
    /// ```
    /// # use ssh_proto::ChannelId;
    /// /// What is known about a channel, if it is about this one and not about an earlier one of its number.
    /// fn look_up<T>(table: &[(ChannelId, T)], id: ChannelId) -> Option<&T> {
    ///     let (known, state) = table.get(id.index())?;
    ///     (*known == id).then_some(state)
    /// }
    /// ```
    pub fn index(self) -> usize {
        usize::try_from(self.slot).unwrap_or(usize::MAX)
    }
}

/// The question behind a request of the peer on a channel. It is answered once, with
/// [`Channel::reply`]; when the channel is closed it is withdrawn.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the peer waits for an answer"]
pub struct RequestToken {
    channel: ChannelId,
    serial: u32,
}

#[cfg(any(test, feature = "replay"))]
impl RequestToken {
    pub(crate) const fn numbered(channel: ChannelId, serial: u32) -> Self {
        Self { channel, serial }
    }
}

/// What the channels tell the connection's caller.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A channel has events. Once until they were all taken.
    Channel(ChannelId),
    OpenRequested(OpenRequest),
    GlobalRequested(GlobalRequestReceived),
    GlobalReplied {
        request: RequestId,
        /// `None`: refused.
        reply: Option<Vec<u8>>,
    },
}

#[cfg(test)]
mod tests;
