//! What a scenario says: plain data, the same for every backend and for both roles.

use std::time::Duration;

use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    ChannelRequest, ClientConfig, ExitSignal, ForwardAddress, OpenFailureReason, PtyRequest,
    ServerConfig, Signal, Stream, WindowSize,
};

/// One side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Who {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl Who {
    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A scenario: what both sides do with the connection, and on each channel.
#[derive(Clone)]
#[non_exhaustive]
pub struct Scenario {
    /// The client's attempts to log in, until one succeeds.
    pub logins: Vec<Login>,
    /// What each side does with the connection, one after the other, once the client is in.
    pub client: Vec<Deed>,
    /// The same of the server.
    pub server: Vec<Deed>,
    /// The channels.
    pub channels: Vec<ChannelScript>,
    /// Changes of the configurations.
    pub configure: fn(&mut ClientConfig, &mut ServerConfig),
    /// It moves so much that a network of single bytes would take too long.
    pub heavy: bool,
}

/// An attempt to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Login {
    /// Without a proof.
    None(&'static str),
    /// With a password.
    Password(&'static str, &'static str),
    /// With a password, and with another one when it has expired.
    Change(&'static str, &'static str, &'static str),
    /// With the key of [`user_key`](crate::pair::user_key).
    Key(&'static str),
    /// The same, with the signature made outside of the library.
    External(&'static str),
    /// With answers, a list for each round.
    Answers(&'static str, &'static [&'static [&'static str]]),
}

/// Something that a side does with the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// Opens the channel of that name, and starts this side's script on it.
    Open(String),
    /// Opens channels all at the same time.
    OpenAtOnce(Vec<String>),
    /// Lets time pass, so that keepalives are sent. It needs a keepalive to pass on a network in memory.
    Rest(Duration),
    /// Waits until a channel is over on this side: closed, or not opened.
    Join(String),
    /// Makes a request about the connection.
    Global {
        /// Its name.
        name: &'static str,
        /// Its fields.
        data: &'static str,
        /// Whether an answer is wanted.
        want_reply: bool,
    },
    /// Has the server listen. Clients only.
    Listen(ForwardAddress),
    /// Has it listen no more; the address is the one that was granted.
    Cancel(ForwardAddress),
    /// Promises to open no more sessions. Clients only.
    NoMoreSessions,
    /// Sends a PING and waits for the answer.
    Ping,
    /// Starts a key exchange.
    Rekey,
    /// Waits until so many key exchanges are done, besides the first.
    AwaitRekeys(u64),
    /// Opens a latch: both sides, all channels and the connection share them.
    Mark(&'static str),
    /// Waits for a latch.
    Await(&'static str),
    /// Ends the connection.
    Disconnect(DisconnectReason, &'static str),
    /// Cuts the wire.
    Cut,
}

/// A channel: who opens it, as what, and what both sides do on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelScript {
    /// Its name in this scenario. It seeds the bytes that are written.
    pub name: String,
    /// Who opens it.
    pub opener: Who,
    /// As what.
    pub kind: Kind,
    /// What the other side says to that.
    pub verdict: Verdict,
    /// What the client does: each list at the same time as the others.
    pub client: Vec<Vec<Act>>,
    /// What the server does. On a session it begins when a program is started.
    pub server: Vec<Vec<Act>>,
}

/// What a channel is opened as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A session with nothing in it: the script asks for what it wants.
    Session,
    /// A session with a program, all asked for at once.
    Program {
        /// The program.
        run: Run,
        /// Its terminal.
        pty: Option<PtyRequest>,
        /// Its environment.
        env: Vec<(&'static str, &'static str)>,
        /// stderr comes within the data.
        combine_stderr: bool,
    },
    /// A TCP connection of the server.
    DirectTcpip(&'static str, u16),
    /// A connection of the server to a Unix socket.
    DirectStreamlocal(&'static str),
    /// A connection that came to a port which the client had the server listen on; the last two are its originator.
    ForwardedTcpip(&'static str, u16, &'static str, u16),
    /// A connection that came to such a Unix socket.
    ForwardedStreamlocal(&'static str),
    /// A kind of the caller's own, with data.
    Custom(&'static str, &'static str),
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 4254 section 6.5 has three")]
pub enum Run {
    /// The user's shell.
    Shell,
    /// A command.
    Exec(String),
    /// A subsystem.
    Subsystem(String),
}

impl Run {
    /// The request for it.
    pub fn request(&self) -> ChannelRequest {
        match self {
            Self::Shell => ChannelRequest::Shell,
            Self::Exec(command) => ChannelRequest::Exec(command.clone().into_bytes()),
            Self::Subsystem(name) => ChannelRequest::Subsystem(name.clone()),
        }
    }

    /// It as the core takes it.
    pub fn program(&self) -> ssh_proto::Program<'_> {
        match self {
            Self::Shell => ssh_proto::Program::Shell,
            Self::Exec(command) => ssh_proto::Program::Exec(command.as_bytes()),
            Self::Subsystem(name) => ssh_proto::Program::Subsystem(name),
        }
    }
}

/// What is said to a channel that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is opened, with data in the confirmation.
    Accept(&'static str),
    /// It is not.
    Refuse(OpenFailureReason, &'static str),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 4254 section 6.10 has two, and silence"
)]
pub enum Exit {
    /// With a status.
    Code(u32),
    /// By a signal.
    Signal(ExitSignal),
    /// Without a word.
    Missing,
}

/// Something that a side does on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// Makes a request, and waits for the answer if one is wanted.
    Ask(ChannelRequest, bool),
    /// Writes so many bytes of this side's pattern.
    Write(Stream, usize),
    /// Writes the pattern until it is told that nobody wants it.
    WriteUntilClosed(Stream),
    /// Reads exactly so many bytes.
    Read(Stream, usize),
    /// Reads until EOF.
    ReadAll(Stream),
    /// Sends back what is read, until EOF.
    Echo,
    /// Has what comes on a stream thrown away.
    Discard(Stream),
    /// Has stderr come within the data.
    CombineStderr,
    /// Says that nothing more will be written.
    Eof,
    /// Says that nothing more will be read (`eow@openssh.com`).
    EndOfWrite,
    /// Closes the channel.
    Close,
    /// Waits until the peer has asked for that, in the words of the log.
    Expect(&'static str),
    /// Says how the program ended, and goes on.
    Exit(Exit),
    /// Ends the script of a program so; EOF and CLOSE follow.
    Return(Exit),
    /// Opens a latch.
    Mark(&'static str),
    /// Waits for a latch.
    Await(&'static str),
}

impl Default for Scenario {
    fn default() -> Self {
        Self::new()
    }
}

impl Scenario {
    /// A client logs in with its key. Nothing else yet.
    pub fn new() -> Self {
        Self {
            logins: vec![Login::Key("alice")],
            client: Vec::new(),
            server: Vec::new(),
            channels: Vec::new(),
            configure: |_, _| {},
            heavy: false,
        }
    }

    /// With one more channel.
    #[must_use]
    pub fn channel(mut self, channel: ChannelScript) -> Self {
        self.channels.push(channel);
        self
    }

    /// What the client does with the connection. Without it, it opens all its channels, waits until they are over, and
    /// disconnects.
    #[must_use]
    pub fn client(mut self, deeds: impl Into<Vec<Deed>>) -> Self {
        self.client = deeds.into();
        self
    }

    /// What the server does with the connection, once the client is in. Without it: nothing.
    #[must_use]
    pub fn server(mut self, deeds: impl Into<Vec<Deed>>) -> Self {
        self.server = deeds.into();
        self
    }

    /// How the client logs in.
    #[must_use]
    pub fn logins(mut self, logins: impl Into<Vec<Login>>) -> Self {
        self.logins = logins.into();
        self
    }

    /// With changed configurations.
    #[must_use]
    pub fn configure(mut self, change: fn(&mut ClientConfig, &mut ServerConfig)) -> Self {
        self.configure = change;
        self
    }

    /// It moves megabytes.
    #[must_use]
    pub const fn heavy(mut self) -> Self {
        self.heavy = true;
        self
    }

    /// What one side does with the connection.
    pub fn deeds(&self, who: Who) -> Vec<Deed> {
        match who {
            Who::Server => self.server.clone(),
            Who::Client if !self.client.is_empty() => self.client.clone(),
            Who::Client => {
                let names = || {
                    let ours = self.channels.iter();
                    ours.filter(|channel| channel.opener == Who::Client)
                        .map(|channel| channel.name.clone())
                };
                let mut deeds: Vec<Deed> = names().map(Deed::Open).collect();
                deeds.extend(names().map(Deed::Join));
                deeds.push(bye());
                deeds
            }
        }
    }

    /// Whether the wire is cut in the end.
    pub fn cuts(&self) -> bool {
        self.client
            .iter()
            .chain(&self.server)
            .any(|deed| *deed == Deed::Cut)
    }

    /// The channel of that name.
    pub fn find(&self, name: &str) -> Option<&ChannelScript> {
        self.channels.iter().find(|channel| channel.name == name)
    }
}

impl ChannelScript {
    /// A channel that the client opens, and the server accepts.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        let opener = match kind {
            Kind::ForwardedTcpip(..) | Kind::ForwardedStreamlocal(_) => Who::Server,
            _ => Who::Client,
        };
        Self {
            name: name.into(),
            opener,
            kind,
            verdict: Verdict::Accept(""),
            client: Vec::new(),
            server: Vec::new(),
        }
    }

    /// The server opens it.
    #[must_use]
    pub const fn by_server(mut self) -> Self {
        self.opener = Who::Server;
        self
    }

    /// Something that the client does, at the same time as what it does already.
    #[must_use]
    pub fn client(mut self, acts: impl Into<Vec<Act>>) -> Self {
        self.client.push(acts.into());
        self
    }

    /// The same of the server.
    #[must_use]
    pub fn server(mut self, acts: impl Into<Vec<Act>>) -> Self {
        self.server.push(acts.into());
        self
    }

    /// The other side accepts it with these words.
    #[must_use]
    pub const fn accepted_with(mut self, data: &'static str) -> Self {
        self.verdict = Verdict::Accept(data);
        self
    }

    /// The other side refuses it.
    #[must_use]
    pub const fn refused(mut self, reason: OpenFailureReason, text: &'static str) -> Self {
        self.verdict = Verdict::Refuse(reason, text);
        self
    }

    /// What a side does.
    pub fn tracks(&self, who: Who) -> &[Vec<Act>] {
        match who {
            Who::Client => &self.client,
            Who::Server => &self.server,
        }
    }

    /// Whether the client starts that program on it.
    pub fn starts(&self, request: &ChannelRequest) -> bool {
        if let Kind::Program { run, .. } = &self.kind {
            return run.request() == *request;
        }
        let acts = self.client.iter().flatten();
        self.kind == Kind::Session
            && acts
                .filter_map(|act| match act {
                    Act::Ask(asked, _) => Some(asked),
                    _ => None,
                })
                .any(|asked| asked.is_program() && asked == request)
    }
}

// Words for scripts.

/// A session with nothing in it.
pub fn session(name: impl Into<String>) -> ChannelScript {
    ChannelScript::new(name, Kind::Session)
}

/// A session with a command, all asked for at once. The command is the channel's name.
pub fn command(name: impl Into<String>) -> ChannelScript {
    let name = name.into();
    let run = Run::Exec(name.clone());
    program(name, run)
}

/// A session with a program, all asked for at once.
pub fn program(name: impl Into<String>, run: Run) -> ChannelScript {
    let kind = Kind::Program {
        run,
        pty: None,
        env: Vec::new(),
        combine_stderr: false,
    };
    ChannelScript::new(name, kind)
}

/// Asks for a command.
pub fn exec(command: &str) -> Act {
    ask(ChannelRequest::Exec(command.into()))
}

/// Makes a request that wants an answer.
pub const fn ask(request: ChannelRequest) -> Act {
    Act::Ask(request, true)
}

/// Makes a request of the caller's own.
pub fn custom(name: &str, data: &str) -> ChannelRequest {
    ChannelRequest::Custom {
        name: name.into(),
        data: data.into(),
    }
}

/// Sets an environment variable.
pub fn env(name: &str, value: &str) -> Act {
    ask(ChannelRequest::Env {
        name: name.into(),
        value: value.into(),
    })
}

/// Sends a signal.
pub const fn signal(signal: Signal) -> Act {
    Act::Ask(ChannelRequest::Signal(signal), false)
}

/// Tells another size of the terminal.
pub const fn resize(columns: u32, rows: u32) -> Act {
    let size = WindowSize {
        columns,
        rows,
        width_px: 0,
        height_px: 0,
    };
    Act::Ask(ChannelRequest::WindowChange(size), false)
}

/// Writes data.
pub const fn write(len: usize) -> Act {
    Act::Write(Stream::DATA, len)
}

/// Writes errors.
pub const fn write_stderr(len: usize) -> Act {
    Act::Write(Stream::STDERR, len)
}

/// Reads so much data.
pub const fn read(len: usize) -> Act {
    Act::Read(Stream::DATA, len)
}

/// Reads data until EOF.
pub const fn read_all() -> Act {
    Act::ReadAll(Stream::DATA)
}

/// Reads errors until EOF.
pub const fn read_stderr() -> Act {
    Act::ReadAll(Stream::STDERR)
}

/// Ends the program with a status.
pub const fn exit(status: u32) -> Act {
    Act::Return(Exit::Code(status))
}

/// Opens a channel.
pub fn open(name: &str) -> Deed {
    Deed::Open(name.to_owned())
}

/// Waits until a channel is over.
pub fn join(name: &str) -> Deed {
    Deed::Join(name.to_owned())
}

/// Ends the connection as usual.
pub const fn bye() -> Deed {
    Deed::Disconnect(DisconnectReason::BY_APPLICATION, "")
}
