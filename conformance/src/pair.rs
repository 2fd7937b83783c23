//! Two connections joined by a network, with a clock of their own. A scenario steers the client; the server runs an
//! [`App`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_proto::key::{KeyKind, PrivateKey};
use ssh_proto::{
    ChannelEvent, ChannelId, Client, ClientConfig, ClientEvent, Connection, Credential, Error,
    ExitSignal, HostKey, Input, OpenChannel, Program, Role, Seed, Server, ServerConfig, Stream,
    WriteError,
};

use crate::app::App;
use crate::wire::{Direction, Network, loopback};

/// The user key of scenarios.
pub fn user_key() -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[9; 32]).expect("a key"))
}

/// A host key of scenarios.
pub fn host_key(kind: KeyKind) -> HostKey {
    HostKey::Private(Arc::new(
        PrivateKey::generate(kind, &[7; 32]).expect("a key"),
    ))
}

/// A client and a server.
pub struct Pair {
    /// The client.
    pub client: Client,
    /// The server.
    pub server: Server,
    /// What is behind the server.
    pub app: App,
    /// The time, as both are told it.
    pub now: Instant,
    /// What happened to the client, a line for each event that is not of a channel.
    pub log: Vec<String>,
    channels: BTreeMap<ChannelId, Gathered>,
    to_server: Box<dyn Direction>,
    to_client: Box<dyn Direction>,
    /// Buffers of the two readers.
    spare: [Input; 2],
}

/// What the client gathered of a channel.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// The channel was confirmed, with this data.
    pub opened: Option<Vec<u8>>,
    /// The channel was refused.
    pub refused: Option<String>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
    /// Whether requests were granted, in order.
    pub replies: Vec<bool>,
    /// The exit status.
    pub status: Option<u32>,
    /// The exit signal.
    pub signal: Option<ExitSignal>,
    /// EOF came.
    pub eof: bool,
    /// The channel is closed both ways.
    pub closed: bool,
    /// The events that are not data, in order.
    pub order: Vec<&'static str>,
    /// The reader stopped reading.
    pub stalled: bool,
}

impl Pair {
    /// A pair with the given configurations, over a network in memory.
    pub fn new(
        client: impl Into<Arc<ClientConfig>>,
        server: impl Into<Arc<ServerConfig>>,
        network: Network,
    ) -> Self {
        Self::over(client.into(), server.into(), network.pair())
    }

    /// A pair over a real loopback socket.
    pub fn on_loopback(
        client: impl Into<Arc<ClientConfig>>,
        server: impl Into<Arc<ServerConfig>>,
    ) -> Self {
        Self::over(client.into(), server.into(), loopback())
    }

    /// A pair with default configurations.
    pub fn simple(network: Network) -> Self {
        Self::new(
            ClientConfig::new(),
            ServerConfig::new(vec![host_key(KeyKind::Ed25519)]),
            network,
        )
    }

    fn over(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        [to_server, to_client]: [Box<dyn Direction>; 2],
    ) -> Self {
        let now = Instant::now();
        Self {
            client: Client::new(client, Seed::new([1; 32]), now),
            server: Server::new(server, Seed::new([2; 32]), now),
            app: App::default(),
            now,
            log: Vec::new(),
            channels: BTreeMap::new(),
            to_server,
            to_client,
            spare: [Input::new(), Input::new()],
        }
    }

    /// Logs in with the key of [`user_key`].
    pub fn login(&mut self) {
        let credential = Credential::public_key(user_key());
        self.client
            .authenticate("alice", credential, self.now)
            .expect("a first attempt");
        self.until("a login", |pair| pair.client.is_authenticated());
    }

    /// One turn of both applications and of the network. `false`: nothing moved.
    pub fn turn(&mut self) -> bool {
        let mut any = self.client_turn();
        any |= self.app.turn(&mut self.server);
        any |= carry(
            &mut self.client,
            &mut self.server,
            &mut *self.to_server,
            &mut self.spare[0],
            self.now,
        );
        any |= carry(
            &mut self.server,
            &mut self.client,
            &mut *self.to_client,
            &mut self.spare[1],
            self.now,
        );
        any
    }

    /// Turns until `done`, letting time pass when nothing else happens. Panics with the logs when that never comes.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(600);
        while !done(self) {
            if self.turn() {
                continue;
            }
            if self.to_server.may_hold_more() || self.to_client.may_hold_more() {
                std::thread::yield_now();
                continue;
            }
            let Some(next) = self.next_time().filter(|next| *next <= end) else {
                panic!(
                    "{what} never comes: client {:?}, server {:?}",
                    self.log, self.app.log
                );
            };
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
    }

    /// Turns until nothing moves and nothing is under way; time passes only as far as the network needs.
    pub fn settle(&mut self) {
        loop {
            while self.turn() {}
            let arrival = [self.to_server.next_arrival(), self.to_client.next_arrival()]
                .into_iter()
                .flatten()
                .min();
            match arrival {
                Some(at) => self.now = self.now.max(at),
                None if self.to_server.may_hold_more() || self.to_client.may_hold_more() => {
                    std::thread::yield_now()
                }
                None => break,
            }
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            while self.turn() {}
        }
        self.now = end;
        self.client.handle_timeout(end);
        self.server.handle_timeout(end);
    }

    fn next_time(&self) -> Option<Instant> {
        [
            self.to_server.next_arrival(),
            self.to_client.next_arrival(),
            self.client.poll_timeout(),
            self.server.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn client_turn(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.client.poll_event() {
            any = true;
            match event {
                ClientEvent::HostKeyOffered(offer) => {
                    self.log
                        .push(format!("host key {}", offer.key().fingerprint_sha256()));
                    self.client
                        .accept_host_key(offer)
                        .expect("an open question");
                }
                ClientEvent::Channel(id) => self.channel_events(id),
                ClientEvent::GlobalReplied { reply, .. } => {
                    self.log.push(format!("global reply {reply:?}"))
                }
                ClientEvent::Disconnected(error) => self.log.push(format!("disconnected: {error}")),
                other => self.log.push(format!("{other:?}")),
            }
        }
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in ids {
            any |= self.read(id);
        }
        any
    }

    fn channel_events(&mut self, id: ChannelId) {
        let gathered = self.channels.entry(id).or_default();
        let Some(mut channel) = self.client.channel(id) else {
            return;
        };
        while let Some(event) = channel.poll_event() {
            let name = match event {
                ChannelEvent::Opened { data } => {
                    gathered.opened = Some(data);
                    "opened"
                }
                ChannelEvent::OpenFailed {
                    reason,
                    description,
                } => {
                    gathered.refused = Some(format!("{}: {description}", reason.0));
                    "refused"
                }
                ChannelEvent::Eof => {
                    gathered.eof = true;
                    "eof"
                }
                ChannelEvent::Replied { accepted, .. } => {
                    gathered.replies.push(accepted);
                    "replied"
                }
                ChannelEvent::ExitStatus(status) => {
                    gathered.status = Some(status);
                    "status"
                }
                ChannelEvent::ExitSignal(signal) => {
                    gathered.signal = Some(signal);
                    "signal"
                }
                ChannelEvent::Closed => {
                    gathered.closed = true;
                    "closed"
                }
                _ => continue,
            };
            gathered.order.push(name);
        }
    }

    fn read(&mut self, id: ChannelId) -> bool {
        let (Some(gathered), Some(mut channel)) =
            (self.channels.get_mut(&id), self.client.channel(id))
        else {
            return false;
        };
        let mut any = false;
        if gathered.stalled {
            return false;
        }
        for (stream, bytes) in [
            (Stream::DATA, &mut gathered.out),
            (Stream::STDERR, &mut gathered.err),
        ] {
            loop {
                let chunk = channel.chunk(stream);
                if chunk.is_empty() {
                    break;
                }
                any = true;
                bytes.extend_from_slice(chunk);
                let len = chunk.len();
                channel.consume(stream, len);
            }
        }
        any
    }

    /// What was gathered of a channel so far.
    pub fn gathered(&self, id: ChannelId) -> &Gathered {
        &self.channels[&id]
    }

    /// Stops or resumes reading a channel.
    pub fn stall(&mut self, id: ChannelId, stalled: bool) {
        self.channels.entry(id).or_default().stalled = stalled;
    }

    /// Opens a channel without waiting for it.
    pub fn open(&mut self, kind: OpenChannel<'_>) -> ChannelId {
        let id = self.client.open(kind, self.now).expect("a channel");
        self.channels.insert(id, Gathered::default());
        id
    }

    /// Opens a session and starts `command`, without waiting for either.
    pub fn exec(&mut self, command: &str) -> ChannelId {
        let id = self.open(OpenChannel::Session);
        let mut channel = self.client.channel(id).expect("the channel");
        channel
            .start(Program::Exec(command.as_bytes()))
            .expect("a request behind the open");
        id
    }

    /// Writes all of `bytes`, turning as long as it takes.
    pub fn write(&mut self, id: ChannelId, bytes: &[u8]) {
        let mut written = 0;
        let mut idle = 0;
        while written < bytes.len() {
            match self
                .client
                .channel(id)
                .expect("the channel")
                .write(Stream::DATA, &bytes[written..])
            {
                Ok(len) => written += len,
                Err(WriteError::Closed) => {
                    panic!("closed after {written} bytes: {:?}", self.client.closed())
                }
                Err(WriteError::Blocked) => {
                    if self.turn() {
                        idle = 0;
                    } else {
                        idle += 1;
                        assert!(idle < 1_000_000, "a write is blocked for ever");
                        if let Some(next) =
                            self.next_time().filter(|_| !self.to_server.may_hold_more())
                        {
                            self.now = self.now.max(next);
                            self.client.handle_timeout(self.now);
                            self.server.handle_timeout(self.now);
                        }
                    }
                }
            }
        }
    }

    /// Says that nothing more will be written.
    pub fn eof(&mut self, id: ChannelId) {
        self.client.channel(id).expect("the channel").eof();
    }

    /// Turns until the channel is closed, then releases it and gives what was gathered.
    pub fn finish(&mut self, id: ChannelId) -> Gathered {
        self.until("the end of a channel", |pair| {
            pair.channels[&id].closed || pair.channels[&id].refused.is_some()
        });
        self.read(id);
        if let Some(mut channel) = self.client.channel(id) {
            channel.release();
        }
        self.channels.remove(&id).unwrap_or_default()
    }

    /// Why the client's connection ended.
    pub fn client_error(&self) -> Option<&Error> {
        self.client.closed()
    }
}

/// Moves output of one connection to the other, as its reader and writer would.
pub(crate) fn carry<A: Role, B: Role>(
    from: &mut Connection<A>,
    to: &mut Connection<B>,
    wire: &mut dyn Direction,
    spare: &mut Input,
    now: Instant,
) -> bool {
    let sent = wire.send(from.output(), now);
    if sent > 0 {
        from.consume_output(sent);
    }
    let mut received = 0;
    match to.take_input(std::mem::take(spare)) {
        Ok(mut input) => {
            received = wire.receive(input.unfilled(), now);
            input.advance(received);
            *spare = to.handle_input(input, now).unwrap_or_default();
        }
        Err(kept) => *spare = kept,
    }
    sent > 0 || received > 0
}
