//! How a remote program ended.

use std::fmt;

use crate::{Channel, ExitSignal, Misuse, ServerRole};

/// How a remote program ended (RFC 4254 section 6.10).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this status.
    Code(u32),
    /// A signal ended it.
    Signal(ExitSignal),
    /// The channel was closed without a word about it.
    Missing,
}

impl ExitStatus {
    /// Whether it exited with status 0.
    pub const fn success(&self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// The status, if it exited.
    pub const fn code(&self) -> Option<u32> {
        match self {
            Self::Code(code) => Some(*code),
            Self::Signal(_) | Self::Missing => None,
        }
    }

    /// Tells the client, once; a second word is not sent.
    ///
    /// # Errors
    ///
    /// Those of [`Channel::send_exit_status`].
    pub fn send(&self, channel: &mut Channel<'_, ServerRole>) -> Result<(), Misuse> {
        match self {
            Self::Code(code) => channel.send_exit_status(*code),
            Self::Signal(signal) => channel.send_exit_signal(signal),
            Self::Missing => Ok(()),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {}", signal.signal),
            Self::Missing => f.write_str("ended without an exit status"),
        }
    }
}

impl From<u32> for ExitStatus {
    fn from(code: u32) -> Self {
        Self::Code(code)
    }
}
