//! What can go wrong in an adapter, in one type. Everything about the protocol is [`crate::Error`]; the rest is sockets,
//! names, deadlines of single calls, and refusals of the peer that leave the connection as it is.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::socks::SocksFailure;
use crate::{Misuse, OpenFailureReason};

use super::HostKeyRefused;

/// Why a call failed. The variants up to [`HostKey`](Self::HostKey) mean that the connection has ended (or never
/// began); the others leave it usable.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The connection has ended, and this is why.
    Connection(crate::Error),
    /// The socket failed, or no connection could be made.
    Io(Arc<io::Error>),
    /// The server's host key was refused by the caller.
    HostKey(Arc<HostKeyRefused>),
    /// The call does not fit the state of the connection or the channel. It changed nothing.
    Misuse(Misuse),
    /// The peer refused to open a channel (RFC 4254 section 5.1).
    OpenFailed {
        /// The reason code.
        reason: OpenFailureReason,
        /// The peer's text, safe to print.
        description: Arc<str>,
    },
    /// The peer refused a request; the text names it, such as `exec`.
    Refused(&'static str),
    /// The deadline of this very call has passed; the text says what it waited for.
    TimedOut(&'static str),
    /// A user who was asked has given up.
    Cancelled,
    /// The channel is closed for writing.
    ChannelClosed,
    /// Output of a command that nobody read in time was thrown away, so that the command could end.
    OutputDiscarded,
}

impl Error {
    /// The kind of I/O error that says the same.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Connection(error) => error.io_kind(),
            Self::Io(error) => error.kind(),
            Self::HostKey(_) | Self::Refused(_) => io::ErrorKind::PermissionDenied,
            Self::Misuse(Misuse::Closed) => io::ErrorKind::NotConnected,
            Self::Misuse(_) => io::ErrorKind::InvalidInput,
            Self::OpenFailed { reason, .. } => match *reason {
                OpenFailureReason::CONNECT_FAILED => io::ErrorKind::ConnectionRefused,
                OpenFailureReason::ADMINISTRATIVELY_PROHIBITED => io::ErrorKind::PermissionDenied,
                OpenFailureReason::UNKNOWN_CHANNEL_TYPE => io::ErrorKind::Unsupported,
                _ => io::ErrorKind::Other,
            },
            Self::TimedOut(_) => io::ErrorKind::TimedOut,
            Self::Cancelled => io::ErrorKind::Interrupted,
            Self::ChannelClosed => io::ErrorKind::BrokenPipe,
            Self::OutputDiscarded => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::HostKey(refused) => refused.fmt(f),
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::OpenFailed {
                reason,
                description,
            } if description.is_empty() => write!(f, "the peer refused the channel: {reason}"),
            Self::OpenFailed {
                reason,
                description,
            } => write!(f, "the peer refused the channel: {description} ({reason})"),
            Self::Refused(what) => write!(f, "the peer refused the request {what:?}"),
            Self::TimedOut(what) => write!(f, "timed out: {what}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::ChannelClosed => f.write_str("the channel is closed"),
            Self::OutputDiscarded => {
                f.write_str("output that nobody read was thrown away so that the command could end")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connection(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Misuse(misuse) => Some(misuse),
            _ => None,
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::Connection(error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

/// Why a target was not connected, in the words of SOCKS.
impl From<&Error> for SocksFailure {
    fn from(error: &Error) -> Self {
        match error {
            Error::OpenFailed { reason, .. } => (*reason).into(),
            _ => Self::GENERAL,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        // An error that came out of this library as an I/O error becomes itself again.
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::Io(Arc::new(error)),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_io() {
        let error = Error::TimedOut("data");
        let io = io::Error::from(error);
        assert_eq!(io.kind(), io::ErrorKind::TimedOut);
        assert!(matches!(Error::from(io), Error::TimedOut("data")));
    }
}
