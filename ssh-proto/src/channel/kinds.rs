//! The vocabulary of channels: what can be opened, asked for, answered, and what happens (RFC 4254).

use std::borrow::Cow;
use std::fmt;

use crate::msg::modes::TerminalModes;

use super::forward::ForwardAddress;
use super::{ChannelId, RequestToken, Stream};

/// A channel to ask for (RFC 4254 sections 6.1 and 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenChannel<'a> {
    /// A session: for a program, a shell or a subsystem. Clients only.
    Session,
    /// A TCP connection that the peer makes for us. Clients only.
    DirectTcpip {
        /// The host to connect to, a name or an address.
        host: &'a str,
        /// The port to connect to.
        port: u16,
        /// Address and port that the connection is made for.
        originator: (&'a str, u16),
    },
    /// A connection to a Unix socket that the peer makes for us. Clients only.
    DirectStreamlocal {
        /// The path of the socket.
        path: &'a [u8],
    },
    /// A connection that came to a port which the client had us listen on. Servers only: a client refuses what it did
    /// not ask for.
    ForwardedTcpip {
        /// The address as in the client's request.
        address: &'a str,
        /// The port that was connected.
        port: u16,
        /// Address and port of whoever connected.
        originator: (&'a str, u16),
    },
    /// A connection that came to a Unix socket which the client had us listen on. Servers only.
    ForwardedStreamlocal {
        /// The path as in the client's request.
        path: &'a [u8],
    },
    /// A kind of the caller's own.
    Custom {
        /// Its name, such as `echo@example.com`: printable US-ASCII.
        kind: &'a str,
        /// The fields that follow in CHANNEL_OPEN.
        data: &'a [u8],
    },
}

/// A channel that the peer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenKind {
    /// A session (RFC 4254 section 6.1).
    Session,
    /// A TCP connection that we are to make (RFC 4254 section 7.2).
    DirectTcpip {
        /// The host to connect to, a name or an address.
        host: String,
        /// The port to connect to.
        port: u16,
        /// The address that the connection is made for, in the peer's words.
        originator_host: String,
        /// The port that the connection is made for, in the peer's words.
        originator_port: u16,
    },
    /// A connection to a Unix socket that we are to make (`direct-streamlocal@openssh.com`).
    DirectStreamlocal {
        /// The path of the socket.
        path: Vec<u8>,
    },
    /// A connection came to a port that this client had the server listen on (RFC 4254 section 7.2). Others are refused
    /// by the library.
    ForwardedTcpip {
        /// The [`request_forward`](crate::Connection::request_forward) that it belongs to.
        forward: RequestId,
        /// The address that was connected, in the server's words.
        address: String,
        /// The port that was connected.
        port: u16,
        /// The address of whoever connected, in the server's words.
        originator_host: String,
        /// The port of whoever connected, in the server's words.
        originator_port: u16,
    },
    /// A connection came to a Unix socket that this client had the server listen on
    /// (`forwarded-streamlocal@openssh.com`).
    ForwardedStreamlocal {
        /// The [`request_forward`](crate::Connection::request_forward) that it belongs to.
        forward: RequestId,
        /// The path of the socket.
        path: Vec<u8>,
    },
    /// A kind that the configuration lists in [`channel_kinds`](crate::config::Extensions::channel_kinds).
    Custom {
        /// Its name.
        kind: String,
        /// The fields that followed, at most [`request_len`](crate::limits::Limits::request_len) bytes.
        data: Vec<u8>,
    },
}

/// The question whether the peer may open a channel. It is answered once, with
/// [`accept_open`](crate::Connection::accept_open) or [`refuse_open`](crate::Connection::refuse_open).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the peer waits for an answer"]
pub struct OpenRequest {
    pub(super) id: ChannelId,
    pub(super) kind: OpenKind,
}

impl OpenRequest {
    /// What answers the question about that channel: all that is looked at when it comes back.
    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn numbered(id: ChannelId) -> Self {
        Self {
            id,
            kind: OpenKind::Session,
        }
    }

    /// What the peer asks for.
    pub const fn kind(&self) -> &OpenKind {
        &self.kind
    }

    /// The id that the channel has once it is accepted.
    pub const fn id(&self) -> ChannelId {
        self.id
    }
}

/// Why a channel was not opened (RFC 4254 section 5.1). Unknown values survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenFailureReason(pub u32);

impl OpenFailureReason {
    /// The peer does not want to.
    pub const ADMINISTRATIVELY_PROHIBITED: Self = Self(1);
    /// The peer could not reach the target.
    pub const CONNECT_FAILED: Self = Self(2);
    /// The peer does not know this kind of channel.
    pub const UNKNOWN_CHANNEL_TYPE: Self = Self(3);
    /// The peer has no room for another channel.
    pub const RESOURCE_SHORTAGE: Self = Self(4);
    /// The peer did not answer within [`channel_open`](crate::limits::Deadlines::channel_open). This library's own
    /// reason, from the range for private use; it is never sent.
    pub const TIMED_OUT: Self = Self(0xfe00_0000);
}

impl fmt::Display for OpenFailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ADMINISTRATIVELY_PROHIBITED => f.write_str("administratively prohibited"),
            Self::CONNECT_FAILED => f.write_str("connect failed"),
            Self::UNKNOWN_CHANNEL_TYPE => f.write_str("unknown channel type"),
            Self::RESOURCE_SHORTAGE => f.write_str("resource shortage"),
            Self::TIMED_OUT => f.write_str("timed out"),
            Self(other) => write!(f, "reason {other}"),
        }
    }
}

/// What a session is to run (RFC 4254 section 6.5): one of these, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 4254 section 6.5 has three")]
pub enum Program<'a> {
    /// The user's shell.
    Shell,
    /// A command, in whatever encoding and quoting the server's shell takes.
    Exec(&'a [u8]),
    /// A subsystem, such as `sftp`.
    Subsystem(&'a str),
}

/// The size of a terminal (RFC 4254 sections 6.2 and 6.7). Zero: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "RFC 4254 section 6.7 has four fields"
)]
pub struct WindowSize {
    /// Width in characters.
    pub columns: u32,
    /// Height in characters.
    pub rows: u32,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
}

/// A pseudo-terminal to ask for, or that was asked for (RFC 4254 section 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "RFC 4254 section 6.2 has these fields"
)]
pub struct PtyRequest {
    /// What the `TERM` variable is to say.
    pub term: String,
    /// Width in characters.
    pub columns: u32,
    /// Height in characters.
    pub rows: u32,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Terminal modes.
    pub modes: TerminalModes,
}

/// The name of a signal without `SIG` (RFC 4254 section 6.10).
///
/// ```
/// use ssh_proto::Signal;
///
/// assert_eq!(Signal::new("TERM"), Some(Signal::TERM));
/// assert_eq!(Signal::new("two words"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signal(Cow<'static, str>);

#[expect(missing_docs, reason = "the names of RFC 4254 section 6.10 say it")]
impl Signal {
    pub const ABRT: Self = Self(Cow::Borrowed("ABRT"));
    pub const ALRM: Self = Self(Cow::Borrowed("ALRM"));
    pub const FPE: Self = Self(Cow::Borrowed("FPE"));
    pub const HUP: Self = Self(Cow::Borrowed("HUP"));
    pub const ILL: Self = Self(Cow::Borrowed("ILL"));
    pub const INT: Self = Self(Cow::Borrowed("INT"));
    pub const KILL: Self = Self(Cow::Borrowed("KILL"));
    pub const PIPE: Self = Self(Cow::Borrowed("PIPE"));
    pub const QUIT: Self = Self(Cow::Borrowed("QUIT"));
    pub const SEGV: Self = Self(Cow::Borrowed("SEGV"));
    pub const TERM: Self = Self(Cow::Borrowed("TERM"));
    pub const USR1: Self = Self(Cow::Borrowed("USR1"));
    pub const USR2: Self = Self(Cow::Borrowed("USR2"));
}

impl Signal {
    /// A signal by name: 1 to 64 characters of printable US-ASCII without spaces. The RFC has thirteen; systems add
    /// others, such as `WINCH@openssh.com`.
    pub fn new(name: &str) -> Option<Self> {
        is_name(name).then(|| Self(Cow::Owned(name.to_owned())))
    }

    /// The name without `SIG`.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 4250 section 4.6.1: "Names are case-sensitive, and MUST NOT be longer than 64 characters", of printable US-ASCII
/// without spaces and commas.
pub(super) fn is_name(name: &str) -> bool {
    matches!(name.len(), 1..=64) && name.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b',')
}

/// The signal that ended a program (RFC 4254 section 6.10).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "RFC 4254 section 6.10 has these fields"
)]
pub struct ExitSignal {
    /// The signal.
    pub signal: Signal,
    /// Whether a core was dumped.
    pub core_dumped: bool,
    /// Text about it. What the peer sent is escaped, and cut to [`text_len`](crate::limits::Limits::text_len).
    pub message: String,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Answer<'a> {
    /// Accepted, with the data that the kind of request demands: mostly none.
    Accept(&'a [u8]),
    /// Refused.
    Refuse,
}

/// A request about a channel, from the peer. Those of RFC 4254 come on `session` channels and to servers only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelRequest {
    /// A pseudo-terminal (RFC 4254 section 6.2).
    Pty(PtyRequest),
    /// An environment variable (RFC 4254 section 6.4).
    Env {
        /// Its name.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The user's shell (RFC 4254 section 6.5).
    Shell,
    /// A command (RFC 4254 section 6.5).
    Exec(Vec<u8>),
    /// A subsystem (RFC 4254 section 6.5).
    Subsystem(String),
    /// The terminal has another size (RFC 4254 section 6.7). Only the last of those that were not taken is kept.
    WindowChange(WindowSize),
    /// A signal for the program (RFC 4254 section 6.9).
    Signal(Signal),
    /// A break (RFC 4335).
    Break {
        /// Its length in milliseconds; 0 is the default of whatever sends it on.
        ms: u32,
    },
    /// A request that the configuration lists in
    /// [`channel_requests`](crate::config::Extensions::channel_requests).
    Custom {
        /// Its name.
        name: String,
        /// Its fields, at most [`request_len`](crate::limits::Limits::request_len) bytes.
        data: Vec<u8>,
    },
}

impl ChannelRequest {
    /// Whether it starts a program: one of those is accepted on a channel.
    pub const fn is_program(&self) -> bool {
        matches!(self, Self::Shell | Self::Exec(_) | Self::Subsystem(_))
    }
}

/// What happened on a channel. Taken with [`Channel::poll_event`](crate::Channel::poll_event).
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// The peer opened the channel that was asked for. The first event.
    Opened {
        /// What the confirmation carried beyond its own fields: nothing for the kinds of RFC 4254.
        data: Vec<u8>,
    },
    /// The channel was not opened. The last event; the channel is gone with it.
    OpenFailed {
        /// Why.
        reason: OpenFailureReason,
        /// The peer's text, escaped and cut to [`text_len`](crate::limits::Limits::text_len).
        description: String,
    },
    /// A stream that was empty got data. What comes before it is empty again is not announced.
    Data(Stream),
    /// The peer sends no more data. What is unread stays readable.
    Eof,
    /// The peer reads no more of what this side writes (`eow@openssh.com`, OpenSSH's PROTOCOL section 2.1): it is as well
    /// to stop writing. The channel stays open for the other direction.
    EndOfWrite,
    /// A write that was [`Blocked`](crate::WriteError::Blocked) may go on. Where several streams of the channel wait, it
    /// is for the one that has waited longest; the others keep their places, also when they try.
    Writable,
    /// The peer asks for something.
    Requested {
        /// What it asks for.
        request: ChannelRequest,
        /// For [`Channel::reply`](crate::Channel::reply). `None`: the peer wants no reply.
        token: Option<RequestToken>,
    },
    /// The peer answered a request of ours.
    Replied {
        /// The request.
        request: RequestId,
        /// Whether it was accepted.
        accepted: bool,
    },
    /// The program exited with this status (RFC 4254 section 6.10).
    ExitStatus(u32),
    /// The program was ended by a signal (RFC 4254 section 6.10).
    ExitSignal(ExitSignal),
    /// Both sides have closed, or the connection has ended. The last event. What is unread stays readable until
    /// [`release`](crate::Channel::release).
    Closed,
}

/// A request of this side, on a channel or globally. Never the same twice on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// What a peer asks for about the connection (RFC 4254 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GlobalRequestKind {
    /// The client wants this server to listen (`tcpip-forward`, RFC 4254 section 7.1, and
    /// `streamlocal-forward@openssh.com`). A question that is not answered is not granted; with port 0 the answer is
    /// [`accept_forward`](crate::Connection::accept_forward). Servers only, never more at once than
    /// [`forwards`](crate::limits::Limits::forwards), and always with a token.
    Forward(ForwardAddress),
    /// The client wants this server not to listen there any more. There was such a listener, and the library does not
    /// count it any more: stop it, and accept.
    CancelForward(ForwardAddress),
    /// A name that the configuration lists in [`global_requests`](crate::config::Extensions::global_requests).
    Custom {
        /// Its name.
        name: String,
        /// Its fields, at most [`request_len`](crate::limits::Limits::request_len) bytes.
        data: Vec<u8>,
    },
}

/// A request of the peer about the connection.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GlobalRequestReceived {
    /// What it asks for.
    pub kind: GlobalRequestKind,
    /// For [`answer_global`](crate::Connection::answer_global). `None`: the peer wants no reply.
    pub token: Option<GlobalRequestToken>,
}

impl GlobalRequestToken {
    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn numbered(serial: u32, wants_port: bool) -> Self {
        Self { serial, wants_port }
    }

    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn serial(&self) -> u32 {
        self.serial
    }

    pub(crate) const fn wants_port(&self) -> bool {
        self.wants_port
    }
}

/// The question behind a global request. It is answered once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the peer waits for an answer"]
pub struct GlobalRequestToken {
    pub(super) serial: u32,
    /// The answer must carry the port that was bound.
    pub(super) wants_port: bool,
}
