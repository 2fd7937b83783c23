//! What the commands of a trace are about, as fields of its lines: channels, programs, credentials, prompts.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::auth::{Credential, Prompt, PromptRound};
use crate::channel::{
    ChannelId, ExitSignal, ForwardAddress, OpenChannel, Program, PtyRequest, RequestId, Signal,
    Stream, WindowSize,
};
use crate::config::AuthMethod;
use crate::error::WriteError;
use crate::key::{PrivateKey, PublicKey};
use crate::msg::modes::TerminalModes;
use crate::secret::Secret;

use super::text::{Bytes, Field, Fields, Problem, Text, put, put_word};

/// Number on the wire and generation, the latter in hexadecimal: `0/5f2a9c11`.
impl Field for ChannelId {
    fn write(&self, line: &mut String) {
        _ = write!(line, "{}/{:08x}", self.slot, self.generation);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let problem = "not the id of a channel";
        let (slot, generation) = fields.word()?.split_once('/').ok_or(problem)?;
        if generation.len() != 8 || !generation.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(problem);
        }
        Ok(Self {
            slot: Fields::new(slot).take()?,
            generation: u32::from_str_radix(generation, 16).map_err(|_| problem)?,
        })
    }
}

impl Field for RequestId {
    fn write(&self, line: &mut String) {
        self.0.write(line);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        fields.take().map(Self)
    }
}

impl Field for Stream {
    fn write(&self, line: &mut String) {
        self.0.write(line);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        fields.take().map(Self)
    }
}

/// The name of an event, as the enum has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(super) String);

impl Name {
    /// The variant of an event: what its `Debug` form begins with.
    pub(crate) fn of(event: &impl std::fmt::Debug) -> Self {
        let mut name = format!("{event:?}");
        let end = name.find(|c: char| !c.is_ascii_alphanumeric());
        name.truncate(end.unwrap_or(name.len()));
        Self(name)
    }
}

impl Field for Name {
    fn write(&self, line: &mut String) {
        line.push_str(&self.0);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let name = fields.word()?;
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(name.to_owned()))
        } else {
            Err("not the name of an event")
        }
    }
}

/// The number of a question, which no other has: drawn by the connection, so that it is the same when it is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serial(pub(crate) u64);

impl Field for Serial {
    fn write(&self, line: &mut String) {
        _ = write!(line, "{:x}", self.0);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let problem = "not the number of a question";
        let word = fields.word()?;
        if !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(problem);
        }
        u64::from_str_radix(word, 16).map(Self).map_err(|_| problem)
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The bytes that belong to the step.
    Taken,
    Blocked,
    Closed,
}

impl Written {
    pub(crate) const fn of(result: &Result<usize, WriteError>) -> Self {
        match result {
            Ok(_) => Self::Taken,
            Err(WriteError::Blocked) => Self::Blocked,
            Err(WriteError::Closed) => Self::Closed,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Blocked => "blocked",
            Self::Closed => "closed",
        }
    }
}

impl Field for Written {
    fn write(&self, line: &mut String) {
        line.push_str(self.name());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        match fields.word()? {
            "taken" => Ok(Self::Taken),
            "blocked" => Ok(Self::Blocked),
            "closed" => Ok(Self::Closed),
            _ => Err("not what can become of a write"),
        }
    }
}

/// An [`OpenChannel`] with an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    Session,
    DirectTcpip(String, u16, String, u16),
    DirectStreamlocal(Text),
    ForwardedTcpip(String, u16, String, u16),
    ForwardedStreamlocal(Text),
    Custom(String, Bytes),
}

impl From<OpenChannel<'_>> for Opening {
    fn from(kind: OpenChannel<'_>) -> Self {
        match kind {
            OpenChannel::Session => Self::Session,
            OpenChannel::DirectTcpip {
                host,
                port,
                originator: (from, from_port),
            } => Self::DirectTcpip(host.to_owned(), port, from.to_owned(), from_port),
            OpenChannel::DirectStreamlocal { path } => Self::DirectStreamlocal(path.into()),
            OpenChannel::ForwardedTcpip {
                address,
                port,
                originator: (from, from_port),
            } => Self::ForwardedTcpip(address.to_owned(), port, from.to_owned(), from_port),
            OpenChannel::ForwardedStreamlocal { path } => Self::ForwardedStreamlocal(path.into()),
            OpenChannel::Custom { kind, data } => Self::Custom(kind.to_owned(), data.into()),
        }
    }
}

impl Opening {
    pub(super) fn lent(&self) -> OpenChannel<'_> {
        match self {
            Self::Session => OpenChannel::Session,
            Self::DirectTcpip(host, port, from, from_port) => OpenChannel::DirectTcpip {
                host,
                port: *port,
                originator: (from, *from_port),
            },
            Self::DirectStreamlocal(path) => OpenChannel::DirectStreamlocal { path: &path.0 },
            Self::ForwardedTcpip(address, port, from, from_port) => OpenChannel::ForwardedTcpip {
                address,
                port: *port,
                originator: (from, *from_port),
            },
            Self::ForwardedStreamlocal(path) => OpenChannel::ForwardedStreamlocal { path: &path.0 },
            Self::Custom(kind, data) => OpenChannel::Custom {
                kind,
                data: &data.0,
            },
        }
    }
}

impl Field for Opening {
    fn write(&self, line: &mut String) {
        match self {
            Self::Session => line.push_str("session"),
            Self::DirectTcpip(host, port, from, from_port)
            | Self::ForwardedTcpip(host, port, from, from_port) => {
                line.push_str(match self {
                    Self::DirectTcpip(..) => "direct-tcpip",
                    _ => "forwarded-tcpip",
                });
                put(line, host);
                put(line, port);
                put(line, from);
                put(line, from_port);
            }
            Self::DirectStreamlocal(path) => {
                line.push_str("direct-streamlocal");
                put(line, path);
            }
            Self::ForwardedStreamlocal(path) => {
                line.push_str("forwarded-streamlocal");
                put(line, path);
            }
            Self::Custom(kind, data) => {
                line.push_str("custom");
                put(line, kind);
                put(line, data);
            }
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(match fields.word()? {
            "session" => Self::Session,
            "direct-tcpip" => Self::DirectTcpip(
                fields.take()?,
                fields.take()?,
                fields.take()?,
                fields.take()?,
            ),
            "forwarded-tcpip" => Self::ForwardedTcpip(
                fields.take()?,
                fields.take()?,
                fields.take()?,
                fields.take()?,
            ),
            "direct-streamlocal" => Self::DirectStreamlocal(fields.take()?),
            "forwarded-streamlocal" => Self::ForwardedStreamlocal(fields.take()?),
            "custom" => Self::Custom(fields.take()?, fields.take()?),
            _ => return Err("not a kind of channel"),
        })
    }
}

impl Field for ForwardAddress {
    fn write(&self, line: &mut String) {
        match self {
            Self::Tcpip { address, port } => {
                line.push_str("tcpip");
                put(line, address);
                put(line, port);
            }
            Self::Streamlocal { path } => {
                line.push_str("streamlocal");
                put(line, &Text(path.clone()));
            }
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        match fields.word()? {
            "tcpip" => Ok(Self::tcpip(fields.take::<String>()?, fields.take()?)),
            "streamlocal" => Ok(Self::streamlocal(fields.take::<Text>()?.0)),
            _ => Err("not an address to listen on"),
        }
    }
}

/// A [`Program`] with an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Running {
    Shell,
    Exec(Text),
    Subsystem(String),
}

impl From<Program<'_>> for Running {
    fn from(program: Program<'_>) -> Self {
        match program {
            Program::Shell => Self::Shell,
            Program::Exec(command) => Self::Exec(command.into()),
            Program::Subsystem(name) => Self::Subsystem(name.to_owned()),
        }
    }
}

impl Running {
    pub(super) fn lent(&self) -> Program<'_> {
        match self {
            Self::Shell => Program::Shell,
            Self::Exec(command) => Program::Exec(&command.0),
            Self::Subsystem(name) => Program::Subsystem(name),
        }
    }
}

impl Field for Running {
    fn write(&self, line: &mut String) {
        match self {
            Self::Shell => line.push_str("shell"),
            Self::Exec(command) => {
                line.push_str("exec");
                put(line, command);
            }
            Self::Subsystem(name) => {
                line.push_str("subsystem");
                put(line, name);
            }
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(match fields.word()? {
            "shell" => Self::Shell,
            "exec" => Self::Exec(fields.take()?),
            "subsystem" => Self::Subsystem(fields.take()?),
            _ => return Err("not a program"),
        })
    }
}

impl Field for WindowSize {
    fn write(&self, line: &mut String) {
        self.columns.write(line);
        put(line, &self.rows);
        put(line, &self.width_px);
        put(line, &self.height_px);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            columns: fields.take()?,
            rows: fields.take()?,
            width_px: fields.take()?,
            height_px: fields.take()?,
        })
    }
}

impl Field for PtyRequest {
    fn write(&self, line: &mut String) {
        self.term.write(line);
        for number in [self.columns, self.rows, self.width_px, self.height_px] {
            put(line, &number);
        }
        put(line, &Bytes(self.modes.encode()));
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            term: fields.take()?,
            columns: fields.take()?,
            rows: fields.take()?,
            width_px: fields.take()?,
            height_px: fields.take()?,
            modes: TerminalModes::decode(&fields.take::<Bytes>()?.0)
                .map_err(|_| "not terminal modes")?,
        })
    }
}

impl Field for Signal {
    fn write(&self, line: &mut String) {
        line.push_str(self.name());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Self::new(fields.word()?).ok_or("not the name of a signal")
    }
}

impl Field for ExitSignal {
    fn write(&self, line: &mut String) {
        self.signal.write(line);
        put(line, &self.core_dumped);
        put(line, &self.message);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            signal: fields.take()?,
            core_dumped: fields.take()?,
            message: fields.take()?,
        })
    }
}

/// The blob.
impl Field for PublicKey {
    fn write(&self, line: &mut String) {
        Bytes::from(self.blob()).write(line);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Self::from_blob(&fields.take::<Bytes>()?.0).map_err(|_| "not a public key")
    }
}

impl Field for AuthMethod {
    fn write(&self, line: &mut String) {
        line.push_str(self.name());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Self::from_name(fields.word()?).ok_or("not a method of authentication")
    }
}

/// Of a private key the public half alone: its signatures are among the draws.
impl Field for Credential {
    fn write(&self, line: &mut String) {
        match self {
            Self::None => line.push_str("none"),
            Self::Password(password) => {
                line.push_str("password");
                put(line, password);
            }
            Self::PublicKey { key, query } => {
                line.push_str("publickey");
                put_word(line, if *query { "query" } else { "sign" });
                put(line, key.public());
            }
            Self::External { key } => {
                line.push_str("external");
                put(line, key);
            }
            Self::KeyboardInteractive { submethods } => {
                line.push_str("keyboard-interactive");
                put(line, submethods);
            }
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(match fields.word()? {
            "none" => Self::None,
            "password" => Self::Password(fields.take::<Secret>()?),
            "publickey" => {
                let query = match fields.word()? {
                    "query" => true,
                    "sign" => false,
                    _ => return Err("neither query nor sign"),
                };
                let key = Arc::new(PrivateKey::without_secret(fields.take()?));
                Self::PublicKey { key, query }
            }
            "external" => Self::External {
                key: fields.take()?,
            },
            "keyboard-interactive" => Self::KeyboardInteractive {
                submethods: fields.take()?,
            },
            _ => return Err("not a credential"),
        })
    }
}

impl Field for Prompt {
    fn write(&self, line: &mut String) {
        self.text.write(line);
        put(line, &self.echo);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(Self::new(fields.take::<String>()?, fields.take()?))
    }
}

impl Field for PromptRound {
    fn write(&self, line: &mut String) {
        self.name.write(line);
        put(line, &self.instruction);
        put(line, &self.prompts);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let mut round = Self::new(fields.take::<String>()?, fields.take::<String>()?);
        round.prompts = fields.take()?;
        Ok(round)
    }
}
