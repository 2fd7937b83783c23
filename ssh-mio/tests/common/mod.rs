//! Both ends on loopback: the server of the example, and clients that do what a test tells them.
#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../examples/common/commands.rs"]
pub(crate) mod commands;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use commands::{Commands, Running};
use ssh_mio::mio::net::TcpListener;
use ssh_mio::mio::{Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::{ClientConfig, HostKey, ServerConfig};
use ssh_mio::ssh_proto::key::{KeyKind, PrivateKey};
use ssh_mio::ssh_proto::{
    Channel, ChannelEvent, ChannelId, ClientEvent, ClientRole, Credential, DisconnectReason, Error,
    OpenChannel, Program, ServerRole, Stream, WriteError,
};
use ssh_mio::{ClientSession, ServerSession, Sessions, Transport, seed};

pub(crate) const MIB: usize = 1024 * 1024;
pub(crate) const LISTENER: Token = Token(0);
/// The clients' tokens begin here, those of the server's sessions at 1.
pub(crate) const CLIENTS: usize = 1 << 20;

/// The server's host key and the user's key: made once per test process.
pub(crate) fn keys() -> &'static (Arc<PrivateKey>, Arc<PrivateKey>) {
    static KEYS: OnceLock<(Arc<PrivateKey>, Arc<PrivateKey>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let new = |byte| PrivateKey::generate(KeyKind::Ed25519, &[byte; 32]).unwrap();
        (Arc::new(new(1)), Arc::new(new(2)))
    })
}

pub(crate) fn server_config() -> ServerConfig {
    ServerConfig::new(vec![HostKey::Private(Arc::clone(&keys().0))])
}

pub(crate) fn commands() -> Commands {
    Commands::new(
        vec![keys().1.public().clone()],
        vec![("user".into(), "secret".into())],
    )
}

/// What a client does on one channel, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) command: String,
    /// What is to be sent, and how much of it was.
    pub(crate) input: Vec<u8>,
    pub(crate) sent: usize,
    /// EOF follows the input.
    pub(crate) eof: bool,
    /// Nothing is read.
    pub(crate) stalled: bool,
    pub(crate) output: Vec<u8>,
    /// Output is counted and not kept.
    pub(crate) counts: bool,
    pub(crate) received: usize,
    pub(crate) errors: Vec<u8>,
    /// The events in order, without the data.
    pub(crate) log: Vec<String>,
    pub(crate) status: Option<u32>,
    pub(crate) closed: bool,
}

impl Work {
    pub(crate) fn new(command: &str) -> Self {
        Self {
            command: command.into(),
            eof: true,
            ..Self::default()
        }
    }

    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    pub(crate) fn log(&mut self, line: impl Into<String>) {
        let line = line.into();
        if self.log.last() != Some(&line) {
            self.log.push(line);
        }
    }
}

/// A client: its channels, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    pub(crate) wanted: Vec<Work>,
    pub(crate) channels: BTreeMap<ChannelId, Work>,
    pub(crate) done: Vec<Work>,
    pub(crate) authenticated: bool,
    pub(crate) ended: Option<Error>,
    pub(crate) io_error: Option<std::io::ErrorKind>,
    /// Disconnects when all its channels have closed.
    pub(crate) leaves: bool,
    /// What was received in one turn at the most.
    pub(crate) burst: usize,
    pub(crate) turns: usize,
}

impl Guest {
    pub(crate) fn new(wanted: Vec<Work>) -> Self {
        Self {
            wanted,
            leaves: true,
            ..Self::default()
        }
    }

    pub(crate) fn serve<S: Transport>(&mut self, session: &mut ClientSession<S>, now: Instant) {
        let before = self.received();
        self.turns += 1;
        while let Some(event) = session.poll_event() {
            match event {
                ClientEvent::HostKeyOffered(offer) => {
                    assert_eq!(offer.key(), keys().0.public());
                    session.connection().accept_host_key(offer).unwrap();
                }
                ClientEvent::Authenticated => {
                    self.authenticated = true;
                    self.open(session, now);
                }
                ClientEvent::AuthenticationRefused { .. } => panic!("refused"),
                ClientEvent::Channel(id) => {
                    let Some(mut channel) = session.channel(id) else {
                        continue;
                    };
                    let Some(work) = self.channels.get_mut(&id) else {
                        continue;
                    };
                    attend(&mut channel, work);
                    if work.closed {
                        channel.release();
                        self.done.extend(self.channels.remove(&id));
                        self.open(session, now);
                        if self.channels.is_empty() && self.leaves {
                            session.disconnect(DisconnectReason::BY_APPLICATION, "bye", now);
                        }
                    }
                }
                ClientEvent::Disconnected(error) => {
                    assert!(self.ended.is_none(), "told twice");
                    self.ended = Some(error);
                    self.io_error = session.io_error().map(std::io::Error::kind);
                }
                _ => {}
            }
        }
        self.burst = self.burst.max(self.received() - before);
    }

    fn received(&self) -> usize {
        let all = self.channels.values().chain(&self.done);
        all.map(|work| work.received).sum()
    }

    /// Opens what is wanted, a few at a time.
    pub(crate) fn open<S: Transport>(&mut self, session: &mut ClientSession<S>, now: Instant) {
        while self.channels.len() < 32
            && session.closed().is_none()
            && let Some(work) = self.wanted.pop()
        {
            let id = session
                .connection()
                .open(OpenChannel::Session, now)
                .unwrap();
            let mut channel = session.channel(id).unwrap();
            channel
                .start(Program::Exec(work.command.as_bytes()))
                .unwrap();
            self.channels.insert(id, work);
        }
    }
}

/// Takes all events of a server's session.
pub(crate) fn serve<S: Transport>(
    commands: &mut Commands,
    session: &mut ServerSession<S>,
    running: &mut Running,
) {
    while let Some(event) = session.poll_event() {
        commands.handle(session, running, event);
    }
}

/// Everything that can be done on a channel now.
pub(crate) fn attend(channel: &mut Channel<'_, ClientRole>, work: &mut Work) {
    while let Some(event) = channel.poll_event() {
        match event {
            ChannelEvent::Opened { .. } => work.log("opened"),
            ChannelEvent::Replied { accepted, .. } => work.log(format!("accepted {accepted}")),
            ChannelEvent::Data(_) => work.log("data"),
            ChannelEvent::Eof => work.log("eof"),
            ChannelEvent::ExitStatus(status) => {
                work.log(format!("status {status}"));
                work.status = Some(status);
            }
            ChannelEvent::Closed => {
                work.log("closed");
                work.closed = true;
            }
            ChannelEvent::OpenFailed { description, .. } => panic!("not opened: {description}"),
            _ => {}
        }
    }
    if !work.stalled {
        for stream in [Stream::DATA, Stream::STDERR] {
            while !channel.chunk(stream).is_empty() {
                let chunk = channel.chunk(stream);
                let len = chunk.len();
                work.received += len;
                if stream == Stream::STDERR {
                    work.errors.extend_from_slice(chunk);
                } else if !work.counts {
                    work.output.extend_from_slice(chunk);
                }
                channel.consume(stream, len);
            }
        }
    }
    while work.sent < work.input.len() {
        match channel.write(Stream::DATA, &work.input[work.sent..]) {
            Ok(len) => work.sent += len,
            Err(WriteError::Blocked) => return,
            Err(WriteError::Closed) => break,
        }
    }
    if work.eof {
        channel.eof();
    }
}

/// Both ends in one thread.
pub(crate) struct World {
    pub(crate) poll: Poll,
    pub(crate) events: Events,
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) commands: Commands,
    pub(crate) servers: Sessions<ServerRole, Running>,
    pub(crate) clients: Sessions<ClientRole, Guest>,
    pub(crate) finished: Vec<Guest>,
    /// What is added to the clock.
    pub(crate) later: Duration,
    pub(crate) turns: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(server_config())
    }

    pub(crate) fn with(config: ServerConfig) -> Self {
        let poll = Poll::new().unwrap();
        let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            poll,
            events: Events::with_capacity(64),
            listener,
            config: Arc::new(config),
            commands: commands(),
            servers: Sessions::new(Token(1)),
            clients: Sessions::new(Token(CLIENTS)),
            finished: Vec::new(),
            later: Duration::ZERO,
            turns: 0,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::now() + self.later
    }

    pub(crate) fn connect(&mut self, guest: Guest) -> Token {
        let address = self.address;
        self.connect_to(address, guest)
    }

    pub(crate) fn connect_to(&mut self, address: SocketAddr, guest: Guest) -> Token {
        let now = self.now();
        let session = client(address, ClientConfig::new(), now);
        self.clients
            .insert(self.poll.registry(), session, guest)
            .unwrap()
    }

    /// Waits, accepts and takes note of what happened.
    pub(crate) fn wait(&mut self, longest: Duration) {
        let now = self.now();
        let wait = [self.servers.wait_time(now), self.clients.wait_time(now)]
            .into_iter()
            .flatten()
            .fold(longest, Duration::min);
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        let now = self.now();
        for event in &self.events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = self.listener.accept() {
                    let session =
                        ServerSession::new(stream, Arc::clone(&self.config), seed().unwrap(), now);
                    self.servers
                        .insert(self.poll.registry(), session, Running::new())
                        .unwrap();
                }
            } else {
                self.servers.note(event);
                self.clients.note(event);
            }
        }
    }

    pub(crate) fn run_servers(&mut self) {
        let now = self.now();
        let commands = &mut self.commands;
        self.servers
            .run(self.poll.registry(), now, |_, session, running| {
                serve(commands, session, running);
            });
    }

    pub(crate) fn run_clients(&mut self) {
        let now = self.now();
        let finished = &mut self.finished;
        self.clients
            .run(self.poll.registry(), now, |_, session, guest| {
                guest.serve(session, now);
                if guest.ended.is_some() {
                    finished.push(std::mem::take(guest));
                }
            });
    }

    pub(crate) fn turn(&mut self) {
        self.turns += 1;
        self.wait(Duration::from_millis(100));
        self.run_servers();
        self.run_clients();
    }

    /// Goes on until `done`.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{what}: not after a minute; {} clients, {} servers, {} finished",
                self.clients.len(),
                self.servers.len(),
                self.finished.len()
            );
            self.turn();
        }
    }

    /// Goes on until nobody is left, on either side.
    pub(crate) fn until_empty(&mut self) {
        self.until("everybody leaves", |world| {
            world.clients.is_empty() && world.servers.is_empty()
        });
        assert!(self.clients.timers().is_empty() && self.servers.timers().is_empty());
    }

    /// Looks at a client.
    pub(crate) fn guest(&mut self, token: Token) -> &mut Guest {
        self.clients.get_mut(token).unwrap().1
    }
}

pub(crate) fn client(address: SocketAddr, config: ClientConfig, now: Instant) -> ClientSession {
    let mut session = ClientSession::connect(address, Arc::new(config), now).unwrap();
    let credential = Credential::public_key(Arc::clone(&keys().1));
    session
        .connection()
        .authenticate("user", credential, now)
        .unwrap();
    session
}

/// Bytes that do not repeat soon.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}
