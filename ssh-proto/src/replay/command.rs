//! Everything that can be done to a connection from outside and changes it: one line of a trace each.
//!
//! What is only looked at (output, timeouts, readable bytes) is no command. Nor is the memory that is handed to and fro.

use std::time::{Duration, Instant};

use crate::auth::{Credential, PromptRound};
use crate::channel::{
    ChannelId, ExitSignal, ForwardAddress, PtyRequest, RequestId, Signal, Stream, WindowSize,
};
use crate::config::AuthMethod;
use crate::secret::Secret;

use super::fields::{Name, Opening, Running, Serial, Written};
use super::text::{Bytes, Field, Fields, Problem, Text, put};

/// Where the time of a recording starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start(pub(super) Instant);

impl Start {
    /// A time as the trace has it.
    pub(crate) fn at(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0)
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $word:literal { $($field:ident: $type:ty),* $(,)? },)*) => {
        /// A command.
        #[derive(Debug, Clone)]
        pub(crate) enum Command {
            $($(#[$doc])* $name { $($field: $type),* },)*
        }

        impl Command {
            /// The first word of each.
            #[cfg(test)]
            pub(super) const WORDS: &[&str] = &[$($word),*];

            /// The line of it.
            pub(super) fn write(&self, line: &mut String) {
                match self {
                    $(Self::$name { $($field),* } => {
                        line.push_str($word);
                        $(put(line, $field);)*
                    })*
                }
            }

            pub(super) fn read(line: &str) -> Result<Self, Problem> {
                let mut fields = Fields::new(line);
                let command = match fields.word()? {
                    $($word => Self::$name { $($field: <$type as Field>::read(&mut fields)?),* },)*
                    _ => return Err("not a command"),
                };
                fields.finish()?;
                Ok(command)
            }
        }
    };
}

commands! {
    /// The connection is made.
    New = "new" {},
    /// Bytes of the peer, which belong to the step. `stale`: they came in a buffer that did not begin with what waits.
    Input = "input" { at: Duration, stale: bool },
    Eof = "eof" { at: Duration },
    OutputConsumed = "output-consumed" { len: usize },
    OutputSwapped = "output-swapped" {},
    Timeout = "timeout" { at: Duration },
    /// An event was taken.
    Event = "event" { name: Name },

    Open = "open" { at: Duration, kind: Opening },
    AcceptOpen = "accept-open" { id: ChannelId, data: Bytes },
    RefuseOpen = "refuse-open" { id: ChannelId, reason: u32, description: String },
    GlobalRequest = "global-request" { at: Duration, name: String, data: Bytes, want_reply: bool },
    AnswerGlobal = "answer-global" { serial: u32, wants_port: bool, answer: Option<Bytes> },
    Rekey = "rekey" { at: Duration },
    Ignore = "ignore" { len: usize },
    Ping = "ping" { at: Duration, data: Bytes },
    Disconnect = "disconnect" { at: Duration, reason: u32, text: String },

    AcceptHostKey = "accept-host-key" { serial: Serial },
    RejectHostKey = "reject-host-key" { serial: Serial },
    Authenticate = "authenticate" { at: Duration, user: String, credential: Credential },
    Answer = "answer" { serial: Serial, answers: Vec<Secret> },
    ChangePassword = "change-password" { serial: Serial, old: Secret, new: Secret },
    SupplySignature = "supply-signature" { serial: Serial, signature: Option<Bytes> },
    RequestForward = "request-forward" { at: Duration, address: ForwardAddress },
    CancelForward = "cancel-forward" { at: Duration, forward: RequestId },
    NoMoreSessions = "no-more-sessions" { at: Duration },

    AcceptKey = "accept-key" { serial: Serial },
    RefuseKey = "refuse-key" { serial: Serial },
    Grant = "grant" { serial: Serial },
    Refuse = "refuse" { serial: Serial },
    Partial = "partial" { serial: Serial, methods: Vec<AuthMethod> },
    Prompt = "prompt" { serial: Serial, round: PromptRound },
    RequirePasswordChange = "require-password-change" { serial: Serial, prompt: String },
    Banner = "banner" { text: String },

    ChannelEvent = "channel-event" { id: ChannelId, name: Option<Name> },
    /// Data to send: `total` bytes were offered. Those that were taken belong to the step.
    Write = "write" { id: ChannelId, stream: Stream, total: usize, written: Written },
    /// Data that was read, or dropped.
    Read = "read" { id: ChannelId, stream: Stream, len: usize },
    Discard = "discard" { id: ChannelId, stream: Stream },
    LayOutNow = "lay-out-now" { id: ChannelId, stream: Stream },
    CombineStderr = "combine-stderr" { id: ChannelId },
    Request = "request" { id: ChannelId, name: String, data: Bytes, want_reply: bool },
    Reply = "reply" { id: ChannelId, serial: u32, accept: bool },
    ChannelEof = "channel-eof" { id: ChannelId },
    EndOfWrite = "end-of-write" { id: ChannelId },
    Close = "close" { id: ChannelId },
    Release = "release" { id: ChannelId },
    SetReceiveWindow = "set-receive-window" { id: ChannelId, bytes: u32 },
    Start = "start" { id: ChannelId, program: Running },
    Pty = "pty" { id: ChannelId, pty: PtyRequest },
    Env = "env" { id: ChannelId, name: Text, value: Text },
    Resize = "resize" { id: ChannelId, size: WindowSize },
    Signal = "signal" { id: ChannelId, signal: Signal },
    Break = "break" { id: ChannelId, ms: u32 },
    ExitStatus = "exit-status" { id: ChannelId, status: u32 },
    ExitSignal = "exit-signal" { id: ChannelId, exit: ExitSignal },
}

impl Command {
    /// The time that it was told, since the connection was made.
    pub(super) const fn at(&self) -> Option<Duration> {
        match self {
            Self::Input { at, .. }
            | Self::Eof { at }
            | Self::Timeout { at }
            | Self::Open { at, .. }
            | Self::GlobalRequest { at, .. }
            | Self::Rekey { at }
            | Self::Ping { at, .. }
            | Self::Disconnect { at, .. }
            | Self::Authenticate { at, .. }
            | Self::RequestForward { at, .. }
            | Self::CancelForward { at, .. }
            | Self::NoMoreSessions { at } => Some(*at),
            _ => None,
        }
    }

    /// Whether bytes may belong to the step.
    pub(super) const fn has_data(&self) -> bool {
        matches!(
            self,
            Self::Input { .. }
                | Self::Write {
                    written: Written::Taken,
                    ..
                }
        )
    }
}
