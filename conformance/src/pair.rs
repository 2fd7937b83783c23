//! Two connections joined by a network in memory, with a clock of their own, for tests that measure the connections
//! themselves. A test steers the client; the server runs an [`App`]. What client and server do with each other is
//! described by [scenarios](crate::scenario).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_proto::key::{KeyKind, PrivateKey};
use ssh_proto::{
    ChannelEvent, ChannelId, Client, ClientConfig, ClientEvent, Connection, Credential, HostKey,
    Input, OpenChannel, Program, Role, Seed, Server, ServerConfig, Stream, WriteError,
};

use crate::app::App;
use crate::wire::{Direction, Network};

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
    /// The time, as both are told it.
    pub now: Instant,
    app: App,
    channels: BTreeMap<ChannelId, Gathered>,
    to_server: Box<dyn Direction>,
    to_client: Box<dyn Direction>,
    /// Buffers of the two readers.
    spare: [Input; 2],
}

/// What the client gathered of a channel.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// The channel was confirmed, and its program was started.
    pub started: bool,
    /// What came.
    pub bytes: Vec<u8>,
    /// The channel is closed both ways.
    pub closed: bool,
}

impl Pair {
    /// A pair with the given configurations.
    pub fn new(
        client: impl Into<Arc<ClientConfig>>,
        server: impl Into<Arc<ServerConfig>>,
        network: Network,
    ) -> Self {
        let now = Instant::now();
        let [to_server, to_client] = network.pair();
        Self {
            client: Client::new(client.into(), Seed::new([1; 32]), now),
            server: Server::new(server.into(), Seed::new([2; 32]), now),
            now,
            app: App::default(),
            channels: BTreeMap::new(),
            to_server,
            to_client,
            spare: [Input::new(), Input::new()],
        }
    }

    /// A pair with default configurations.
    pub fn simple(network: Network) -> Self {
        Self::new(
            ClientConfig::new(),
            ServerConfig::new(vec![host_key(KeyKind::Ed25519)]),
            network,
        )
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
    fn turn(&mut self) -> bool {
        let (client, server) = (&mut self.client, &mut self.server);
        let [to_server, to_client] = &mut self.spare;
        let mut any = gather(client, &mut self.channels);
        any |= self.app.turn(server);
        any |= carry(client, server, &mut *self.to_server, to_server, self.now);
        any |= carry(server, client, &mut *self.to_client, to_client, self.now);
        any
    }

    /// Turns until `done`, letting time pass when nothing else happens.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(600);
        while !done(self) {
            if !self.turn() {
                let next = self.next_time().filter(|next| *next <= end);
                self.pass(next.unwrap_or_else(|| panic!("{what} never comes")));
            }
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while self.turn() {}
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.pass(next);
            while self.turn() {}
        }
        self.pass(end);
    }

    fn pass(&mut self, to: Instant) {
        self.now = self.now.max(to);
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
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

    /// What was gathered of a channel so far.
    pub fn gathered(&self, id: ChannelId) -> &Gathered {
        &self.channels[&id]
    }

    /// Opens a session, starts `command` on it and waits until it runs.
    pub fn exec(&mut self, command: &str) -> ChannelId {
        let id = self.client.open(OpenChannel::Session, self.now);
        let id = id.expect("a channel");
        self.channels.insert(id, Gathered::default());
        let mut channel = self.client.channel(id).expect("the channel");
        channel
            .start(Program::Exec(command.as_bytes()))
            .expect("a request behind the open");
        self.until("the start of a program", |pair| pair.gathered(id).started);
        id
    }

    /// Writes all of `bytes`, turning as long as it takes.
    pub fn write(&mut self, id: ChannelId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut channel = self.client.channel(id).expect("the channel");
            match channel.write(Stream::DATA, bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(WriteError::Closed) => panic!("closed: {:?}", self.client.closed()),
                Err(WriteError::Blocked) => assert!(self.turn(), "a write is blocked for ever"),
            }
        }
    }

    /// Says that nothing more will be written.
    pub fn eof(&mut self, id: ChannelId) {
        self.client.channel(id).expect("the channel").eof();
    }

    /// Turns until the channel is closed, then releases it and gives what was gathered.
    pub fn finish(&mut self, id: ChannelId) -> Gathered {
        self.until("the end of a channel", |pair| pair.gathered(id).closed);
        if let Some(mut channel) = self.client.channel(id) {
            channel.release();
        }
        self.channels.remove(&id).unwrap_or_default()
    }
}

/// What the client does with what happens.
fn gather(client: &mut Client, channels: &mut BTreeMap<ChannelId, Gathered>) -> bool {
    let mut any = false;
    while let Some(event) = client.poll_event() {
        any = true;
        match event {
            ClientEvent::HostKeyOffered(offer) => {
                client.accept_host_key(offer).expect("an open question");
            }
            ClientEvent::Channel(id) => {
                let (Some(gathered), Some(mut channel)) =
                    (channels.get_mut(&id), client.channel(id))
                else {
                    continue;
                };
                while let Some(event) = channel.poll_event() {
                    match event {
                        ChannelEvent::Replied { accepted, .. } => gathered.started = accepted,
                        ChannelEvent::Closed => gathered.closed = true,
                        _ => {}
                    }
                }
            }
            ClientEvent::Disconnected(error) => panic!("disconnected: {error}"),
            _ => {}
        }
    }
    for (id, gathered) in channels {
        let Some(mut channel) = client.channel(*id) else {
            continue;
        };
        while !channel.chunk(Stream::DATA).is_empty() {
            any = true;
            let chunk = channel.chunk(Stream::DATA);
            gathered.bytes.extend_from_slice(chunk);
            let len = chunk.len();
            channel.consume(Stream::DATA, len);
        }
    }
    any
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
