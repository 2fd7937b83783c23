//! How a connection ends, and how a command is refused. Every error says who is at fault.

use std::fmt;
use std::sync::Arc;

use crate::wire::Malformed;

/// Why a connection ended. It is the last event of the connection and stays readable afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol.
    Peer(PeerError),
    /// Both sides keep to the protocol, but have no algorithm in common.
    Incompatible(Arc<Incompatible>),
    /// The peer sent DISCONNECT (RFC 4253 section 11.1).
    Disconnected(Arc<Disconnected>),
    /// The byte stream ended without a DISCONNECT.
    UnexpectedEof(Stage),
    /// A stage took longer than it may.
    TimedOut(Stage),
    /// The caller rejected the peer's host key.
    HostKeyRejected,
    /// The caller could not make the signature of a host key that is kept elsewhere, or made a wrong one.
    SigningFailed,
    /// The caller ended the connection.
    LocallyClosed,
    /// This library is wrong about itself. Please report it.
    Bug(&'static str),
}

/// A stage of a connection: what was going on when time ran out or the stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for the peer's version line (RFC 4253 section 4.2).
    VersionExchange,
    /// A key exchange, the first or a later one (RFC 4253 section 7).
    KeyExchange,
    /// User authentication (RFC 4252).
    Authentication,
    /// A channel that was asked for and not answered (RFC 4254 section 5.1).
    ChannelOpen,
    /// The open connection; keepalives went unanswered.
    Keepalive,
    /// The open connection; nothing was sent or received for longer than the configured idle time.
    Idle,
    /// The open connection.
    Connected,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VersionExchange => "version exchange",
            Self::KeyExchange => "key exchange",
            Self::Authentication => "authentication",
            Self::ChannelOpen => "opening a channel",
            Self::Keepalive => "keepalive",
            Self::Idle => "idle",
            Self::Connected => "open connection",
        })
    }
}

/// What the peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerError {
    /// The version line is not `SSH-2.0-...`, too long, or has bytes that it may not have.
    Version(&'static str),
    /// `packet_length` or `padding_length` is outside its bounds (RFC 4253 section 6).
    PacketLength(u32),
    /// The MAC or the AEAD tag does not match.
    MacIncorrect,
    /// A field of a message cannot be read.
    Malformed {
        /// The message number.
        message: u8,
        /// The field's name in the RFC.
        field: &'static str,
        /// What is wrong with it.
        problem: Malformed,
    },
    /// A message that is not legal at this point.
    UnexpectedMessage {
        /// The message number.
        message: u8,
        /// What the connection was doing.
        stage: Stage,
    },
    /// The key exchange value cannot be used: wrong length, not on the curve, a weak point.
    KeyExchangeValue,
    /// The host key cannot be read or is not of the negotiated algorithm.
    HostKey(&'static str),
    /// The host key's signature over the exchange hash is wrong.
    HostKeySignature,
    /// The host key changed during the connection.
    HostKeyChanged,
    /// A sequence number ran out during the first key exchange.
    SequenceOverflow,
    /// More data came than the window or the maximum packet size allows.
    Window {
        /// Our number of the channel.
        channel: u32,
    },
    /// A window was opened beyond 2^32 - 1 bytes (RFC 4254 section 5.2).
    WindowOverflow {
        /// Our number of the channel.
        channel: u32,
    },
    /// A message for a channel that does not exist.
    UnknownChannel {
        /// The number that the peer named.
        channel: u32,
    },
    /// A message that the channel's state does not allow, such as data after EOF.
    ChannelState {
        /// Our number of the channel.
        channel: u32,
        /// The message number.
        message: u8,
    },
    /// A limit of [`Limits`](crate::limits::Limits) was passed.
    Limit(&'static str),
    /// A service was asked for that there is not (RFC 4253 section 10).
    Service,
    /// Too many failed attempts to authenticate.
    TooManyAuthFailures,
    /// Service or method order of RFC 4252 was broken.
    Authentication(&'static str),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(why) => write!(f, "version line: {why}"),
            Self::PacketLength(len) => write!(f, "bad packet length {len}"),
            Self::MacIncorrect => f.write_str("MAC incorrect"),
            Self::Malformed {
                message,
                field,
                problem,
            } => {
                write!(f, "message {message}: field {field:?} is {problem}")
            }
            Self::UnexpectedMessage { message, stage } => {
                write!(f, "message {message} is not allowed here ({stage})")
            }
            Self::KeyExchangeValue => f.write_str("unusable key exchange value"),
            Self::HostKey(why) => write!(f, "host key: {why}"),
            Self::HostKeySignature => f.write_str("wrong host key signature"),
            Self::HostKeyChanged => f.write_str("host key changed during the connection"),
            Self::SequenceOverflow => f.write_str("too many packets in the first key exchange"),
            Self::Window { channel } => write!(f, "channel {channel}: data beyond the window"),
            Self::WindowOverflow { channel } => {
                write!(f, "channel {channel}: window opened beyond 2^32 - 1 bytes")
            }
            Self::UnknownChannel { channel } => write!(f, "channel {channel} does not exist"),
            Self::ChannelState { channel, message } => {
                write!(
                    f,
                    "channel {channel}: message {message} is not allowed in its state"
                )
            }
            Self::Limit(what) => write!(f, "limit passed: {what}"),
            Self::Service => f.write_str("asked for a service that is not available"),
            Self::TooManyAuthFailures => f.write_str("too many authentication failures"),
            Self::Authentication(why) => write!(f, "authentication: {why}"),
        }
    }
}

/// The two lists that have nothing in common (RFC 4253 section 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatible {
    /// Which list, such as `cipher, client to server`.
    pub what: &'static str,
    /// What this side offered.
    pub local: String,
    /// What the peer offered, cut to a reasonable length.
    pub peer: String,
}

/// The peer's DISCONNECT (RFC 4253 section 11.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// The reason code.
    pub reason: DisconnectReason,
    /// The peer's text with control characters escaped, cut to
    /// [`Limits::text_len`](crate::limits::Limits::text_len).
    pub description: String,
}

/// A reason code of DISCONNECT (RFC 4250 section 4.2.2). Unknown values survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DisconnectReason(pub u32);

#[expect(missing_docs, reason = "the names of RFC 4250 section 4.2.2 say it")]
impl DisconnectReason {
    pub const HOST_NOT_ALLOWED_TO_CONNECT: Self = Self(1);
    pub const PROTOCOL_ERROR: Self = Self(2);
    pub const KEY_EXCHANGE_FAILED: Self = Self(3);
    pub const MAC_ERROR: Self = Self(5);
    pub const COMPRESSION_ERROR: Self = Self(6);
    pub const SERVICE_NOT_AVAILABLE: Self = Self(7);
    pub const PROTOCOL_VERSION_NOT_SUPPORTED: Self = Self(8);
    pub const HOST_KEY_NOT_VERIFIABLE: Self = Self(9);
    pub const CONNECTION_LOST: Self = Self(10);
    pub const BY_APPLICATION: Self = Self(11);
    pub const TOO_MANY_CONNECTIONS: Self = Self(12);
    pub const AUTH_CANCELLED_BY_USER: Self = Self(13);
    pub const NO_MORE_AUTH_METHODS_AVAILABLE: Self = Self(14);
    pub const ILLEGAL_USER_NAME: Self = Self(15);
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::HOST_NOT_ALLOWED_TO_CONNECT => "host not allowed to connect",
            Self::PROTOCOL_ERROR => "protocol error",
            Self::KEY_EXCHANGE_FAILED => "key exchange failed",
            Self::MAC_ERROR => "MAC error",
            Self::COMPRESSION_ERROR => "compression error",
            Self::SERVICE_NOT_AVAILABLE => "service not available",
            Self::PROTOCOL_VERSION_NOT_SUPPORTED => "protocol version not supported",
            Self::HOST_KEY_NOT_VERIFIABLE => "host key not verifiable",
            Self::CONNECTION_LOST => "connection lost",
            Self::BY_APPLICATION => "by application",
            Self::TOO_MANY_CONNECTIONS => "too many connections",
            Self::AUTH_CANCELLED_BY_USER => "authentication cancelled by user",
            Self::NO_MORE_AUTH_METHODS_AVAILABLE => "no more authentication methods available",
            Self::ILLEGAL_USER_NAME => "illegal user name",
            Self(code) => return write!(f, "reason {code}"),
        };
        f.write_str(name)
    }
}

impl Error {
    /// The reason that DISCONNECT carries when this side ends the connection because of the error;
    /// `None` when the peer is gone and nobody is left to tell.
    pub const fn disconnect_reason(&self) -> Option<DisconnectReason> {
        Some(match self {
            Self::Peer(peer) => match peer {
                PeerError::Version(_) => DisconnectReason::PROTOCOL_VERSION_NOT_SUPPORTED,
                PeerError::MacIncorrect => DisconnectReason::MAC_ERROR,
                PeerError::KeyExchangeValue
                | PeerError::HostKey(_)
                | PeerError::HostKeySignature
                | PeerError::SequenceOverflow => DisconnectReason::KEY_EXCHANGE_FAILED,
                PeerError::HostKeyChanged => DisconnectReason::HOST_KEY_NOT_VERIFIABLE,
                PeerError::Service => DisconnectReason::SERVICE_NOT_AVAILABLE,
                PeerError::TooManyAuthFailures => DisconnectReason::NO_MORE_AUTH_METHODS_AVAILABLE,
                _ => DisconnectReason::PROTOCOL_ERROR,
            },
            Self::Incompatible(_) => DisconnectReason::KEY_EXCHANGE_FAILED,
            Self::Disconnected(_) | Self::UnexpectedEof(_) => return None,
            Self::TimedOut(Stage::KeyExchange) => DisconnectReason::KEY_EXCHANGE_FAILED,
            Self::TimedOut(Stage::Keepalive) => DisconnectReason::CONNECTION_LOST,
            Self::TimedOut(_) | Self::LocallyClosed | Self::Bug(_) => {
                DisconnectReason::BY_APPLICATION
            }
            Self::HostKeyRejected => DisconnectReason::HOST_KEY_NOT_VERIFIABLE,
            Self::SigningFailed => DisconnectReason::KEY_EXCHANGE_FAILED,
        })
    }

    /// The kind of I/O error that says the same, for adapters that speak `std::io`.
    pub const fn io_kind(&self) -> std::io::ErrorKind {
        use std::io::ErrorKind;
        match self {
            Self::Peer(_) => ErrorKind::InvalidData,
            Self::Incompatible(_) => ErrorKind::Unsupported,
            Self::Disconnected(_) => ErrorKind::ConnectionReset,
            Self::UnexpectedEof(_) => ErrorKind::UnexpectedEof,
            Self::TimedOut(_) => ErrorKind::TimedOut,
            Self::HostKeyRejected => ErrorKind::PermissionDenied,
            Self::LocallyClosed => ErrorKind::NotConnected,
            Self::SigningFailed | Self::Bug(_) => ErrorKind::Other,
        }
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => write!(f, "protocol error by the peer: {error}"),
            Self::Incompatible(lists) => write!(
                f,
                "no common {}: this side has {}; the peer has {}",
                lists.what, lists.local, lists.peer
            ),
            Self::Disconnected(said) if said.description.is_empty() => {
                write!(f, "disconnected by the peer: {}", said.reason)
            }
            Self::Disconnected(said) => {
                write!(
                    f,
                    "disconnected by the peer: {} ({})",
                    said.description, said.reason
                )
            }
            Self::UnexpectedEof(stage) => {
                write!(
                    f,
                    "connection closed by the peer without a DISCONNECT ({stage})"
                )
            }
            Self::TimedOut(stage) => write!(f, "timed out: {stage}"),
            Self::HostKeyRejected => f.write_str("the peer's host key was rejected"),
            Self::SigningFailed => f.write_str("the host key signature could not be made"),
            Self::LocallyClosed => f.write_str("connection closed by this side"),
            Self::Bug(what) => write!(f, "bug in ssh-proto: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// A command that does not fit: it changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// The connection has ended; [`closed`](crate::Connection::closed) says why.
    Closed,
    /// Authentication has not succeeded yet.
    NotAuthenticated,
    /// Authentication has succeeded already.
    AlreadyAuthenticated,
    /// The token belongs to a question that is no longer open, or to another connection.
    StaleToken,
    /// The channel does not exist (any more), or is not open.
    NoSuchChannel,
    /// The channel cannot do this in its state, such as a second program on one channel.
    ChannelState(&'static str),
    /// A limit of [`Limits`](crate::limits::Limits) stands against it.
    Limit(&'static str),
    /// Too much output is waiting, or too much of our own behind a key exchange. When there is room again,
    /// [`Unblocked`](crate::ClientEvent::Unblocked) says so, once for all commands that were refused.
    Blocked,
    /// It belongs to a later stage of the connection: a banner, before the client has asked to authenticate.
    TooEarly,
    /// An argument cannot be sent, such as an empty user name or a name with a comma.
    Argument(&'static str),
    /// An attempt to authenticate is still unanswered.
    AttemptPending,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
            Self::NotAuthenticated => f.write_str("not authenticated yet"),
            Self::AlreadyAuthenticated => f.write_str("already authenticated"),
            Self::StaleToken => f.write_str("the question was answered or withdrawn before"),
            Self::NoSuchChannel => f.write_str("no such channel"),
            Self::ChannelState(why) => write!(f, "not possible on this channel: {why}"),
            Self::Limit(what) => write!(f, "limit reached: {what}"),
            Self::Blocked => f.write_str("blocked: too much output is waiting"),
            Self::TooEarly => f.write_str("too early"),
            Self::Argument(why) => write!(f, "unusable argument: {why}"),
            Self::AttemptPending => f.write_str("an authentication attempt is still pending"),
        }
    }
}

impl std::error::Error for Misuse {}

/// Why [`Channel::write`](crate::Channel::write) took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "callers match on it; there is no third case"
)]
pub enum WriteError {
    /// No window, no room or a key exchange under way: `Writable` follows.
    Blocked,
    /// EOF or CLOSE was sent, the channel was closed, or the connection has ended.
    Closed,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked: the peer's window or the output is full",
            Self::Closed => "closed for writing",
        })
    }
}

impl std::error::Error for WriteError {}

/// Text of the peer made safe for a terminal: control characters are escaped, and what is beyond
/// `max` bytes is cut off. It is the result that has no more: an escape is longer than what it stands for.
pub(crate) fn printable(bytes: &[u8], max: usize) -> String {
    let mut text = String::new();
    let bytes = bytes.get(..max).unwrap_or(bytes);
    for chunk in bytes.utf8_chunks() {
        let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for c in chunk.valid().chars().chain(broken) {
            let before = text.len();
            match c {
                '\n' | '\t' => text.push(c),
                '\r' => {}
                c if c.is_control() => text.extend(c.escape_default()),
                // Bidirectional controls reorder what a reader sees.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    text.extend(c.escape_default())
                }
                c => text.push(c),
            }
            if text.len() > max {
                text.truncate(before);
                text.shrink_to_fit();
                return text;
            }
        }
    }
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small() {
        assert!(size_of::<Error>() <= 32, "{}", size_of::<Error>());
        assert!(size_of::<Misuse>() <= 24);
    }

    #[test]
    fn each_error_is_told_to_the_peer_with_its_reason_or_there_is_nobody_to_tell() {
        let incompatible = Incompatible {
            what: "cipher",
            local: String::new(),
            peer: String::new(),
        };
        let disconnected = Disconnected {
            reason: DisconnectReason::PROTOCOL_ERROR,
            description: String::new(),
        };
        let malformed = PeerError::Malformed {
            message: 31,
            field: "Q_S",
            problem: Malformed::Truncated,
        };
        let unexpected = PeerError::UnexpectedMessage {
            message: 7,
            stage: Stage::Connected,
        };
        let state = PeerError::ChannelState {
            channel: 0,
            message: 94,
        };
        // The codes of RFC 4250 section 4.2.2.
        let peer = [
            (PeerError::Version(""), 8),
            (PeerError::PacketLength(0), 2),
            (PeerError::MacIncorrect, 5),
            (malformed, 2),
            (unexpected, 2),
            (PeerError::KeyExchangeValue, 3),
            (PeerError::HostKey(""), 3),
            (PeerError::HostKeySignature, 3),
            (PeerError::HostKeyChanged, 9),
            (PeerError::SequenceOverflow, 3),
            (PeerError::Window { channel: 0 }, 2),
            (PeerError::WindowOverflow { channel: 0 }, 2),
            (PeerError::UnknownChannel { channel: 0 }, 2),
            (state, 2),
            (PeerError::Limit(""), 2),
            (PeerError::Service, 7),
            (PeerError::TooManyAuthFailures, 14),
            (PeerError::Authentication(""), 2),
        ];
        let peer = peer.map(|(error, code)| (Error::Peer(error), Some(code)));
        let others = [
            (Error::Incompatible(Arc::new(incompatible)), Some(3)),
            (Error::Disconnected(Arc::new(disconnected)), None),
            (Error::UnexpectedEof(Stage::Connected), None),
            (Error::UnexpectedEof(Stage::KeyExchange), None),
            (Error::TimedOut(Stage::VersionExchange), Some(11)),
            (Error::TimedOut(Stage::KeyExchange), Some(3)),
            (Error::TimedOut(Stage::Authentication), Some(11)),
            (Error::TimedOut(Stage::ChannelOpen), Some(11)),
            (Error::TimedOut(Stage::Keepalive), Some(10)),
            (Error::TimedOut(Stage::Idle), Some(11)),
            (Error::TimedOut(Stage::Connected), Some(11)),
            (Error::HostKeyRejected, Some(9)),
            (Error::SigningFailed, Some(3)),
            (Error::LocallyClosed, Some(11)),
            (Error::Bug(""), Some(11)),
        ];
        for (error, code) in peer.into_iter().chain(others) {
            let reason = error.disconnect_reason();
            assert_eq!(reason.map(|reason| reason.0), code, "{error:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_named_with_its_message_and_field() {
        for (problem, text) in [
            (Malformed::Truncated, "truncated"),
            (Malformed::Trailing, "followed by bytes that do not belong"),
            (Malformed::TooLong, "too long"),
            (Malformed::Negative, "a negative number"),
            (
                Malformed::Encoding,
                "not in the required character encoding",
            ),
            (Malformed::Value, "of an impossible value"),
        ] {
            let error = PeerError::Malformed {
                message: 31,
                field: "Q_S",
                problem,
            };
            let named = format!("message 31: field \"Q_S\" is {text}");
            assert_eq!(error.to_string(), named);
        }
    }

    #[test]
    fn text_of_the_peer_cannot_steer_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\r\n\x07", 64), "a\\u{1b}[2Jb\n\\u{7}");
        assert_eq!(printable("x\u{202e}y".as_bytes(), 64), "x\\u{202e}y");
        assert_eq!(printable(b"abc", 2), "ab");
        assert_eq!(printable(b"a\xff\xfeb", 64), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn text_of_the_peer_is_cut_as_it_is_printed() {
        assert_eq!(printable(&[1; 100], 12), "\\u{1}\\u{1}");
        assert_eq!(printable(&[0xff; 100], 10).len(), 9);
        assert_eq!(
            printable("\u{e4}\u{e4}".as_bytes(), 3),
            "\u{e4}\u{fffd}".get(..2).unwrap()
        );
    }
}
