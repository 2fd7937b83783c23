mod advisories;
mod bytes;
mod cuts;
mod defaults;
mod edges;
mod flips;
mod floods;
mod hostile;
mod learned;
mod learner;
mod legality;
mod limits;
mod marks;
mod offers;
mod rekey;
mod secrets;
mod sequence;
mod session;
mod shares;
mod soak;
mod strays;
mod terrapin;
mod timers;
mod unblocked;
mod unjudged;
mod windows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{ClientEvent, ServerEvent};
use super::role::Side;
use super::{Client, Server};
use crate::auth::{Credential, LoginAttempt, Proof};
use crate::channel::GlobalRequestToken;
use crate::config::{ClientConfig, HostKey, ServerConfig};
use crate::crypto::drbg::Seed;
use crate::error::{DisconnectReason, Error, PeerError, Stage};
use crate::key::{KeyKind, PrivateKey};
use crate::msg::Message;
use crate::names::{Algorithm, Cipher, Kex, Mac, Preference, SignatureAlgorithm};
use crate::packet::output::Output;
use crate::wire::Writer;

/// Two connections that hand each other their output, and an application of each that agrees to everything.
struct Pair {
    client: Client,
    server: Server,
    now: Instant,
    client_events: Vec<String>,
    server_events: Vec<String>,
    client_sent: Vec<u8>,
    server_sent: Vec<u8>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs a time to start from"
)]
fn start() -> Instant {
    Instant::now()
}

fn host_key(kind: KeyKind) -> HostKey {
    HostKey::Private(Arc::new(PrivateKey::generate(kind, &[7; 32]).unwrap()))
}

const fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

fn user_key() -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[9; 32]).unwrap())
}

impl Pair {
    fn new(client: ClientConfig, server: ServerConfig) -> Self {
        Self::seeded(client, server, 1)
    }

    fn seeded(client: ClientConfig, server: ServerConfig, seed: u8) -> Self {
        let now = start();
        Self {
            client: Client::new(Arc::new(client), Seed::new([seed; 32]), now),
            server: Server::new(Arc::new(server), Seed::new([seed + 100; 32]), now),
            now,
            client_events: Vec::new(),
            server_events: Vec::new(),
            client_sent: Vec::new(),
            server_sent: Vec::new(),
        }
    }

    fn default() -> Self {
        Self::new(
            ClientConfig::new(),
            ServerConfig::new(vec![host_key(KeyKind::Ed25519)]),
        )
    }

    fn login(&mut self) {
        let credential = Credential::public_key(user_key());
        self.client
            .authenticate("alice", credential, self.now)
            .unwrap();
        self.run(usize::MAX);
    }

    /// Moves at most `chunk` bytes at a time until nothing moves any more.
    fn run(&mut self, chunk: usize) {
        loop {
            let moved = self.carry(chunk);
            if !self.events() && !moved {
                break;
            }
        }
    }

    /// Moves at most `chunk` bytes each way.
    fn carry(&mut self, chunk: usize) -> bool {
        let to_server = self.client.output().len().min(chunk);
        let bytes = self.client.output()[..to_server].to_vec();
        let taken = self.server.handle_bytes(&bytes, self.now);
        self.client.consume_output(taken);
        self.client_sent.extend(&bytes[..taken]);
        let to_client = self.server.output().len().min(chunk);
        let bytes = self.server.output()[..to_client].to_vec();
        let taken_back = self.client.handle_bytes(&bytes, self.now);
        self.server.consume_output(taken_back);
        self.server_sent.extend(&bytes[..taken_back]);
        taken > 0 || taken_back > 0
    }

    const fn closed(&self, side: Side) -> Option<&Error> {
        match side {
            Side::Client => self.client.closed(),
            Side::Server => self.server.closed(),
        }
    }

    /// The reason of the DISCONNECT that this side has sent, as the other one heard it.
    fn told(&self, side: Side) -> Option<DisconnectReason> {
        match self.closed(other(side)) {
            Some(Error::Disconnected(said)) => Some(said.reason),
            _ => None,
        }
    }

    /// This side has ended the connection because of this, and has told the other one so.
    #[track_caller]
    fn assert_ended(&self, side: Side, error: impl Into<Error>, told: DisconnectReason) {
        assert_eq!(self.closed(side), Some(&error.into()), "{side:?}");
        assert_eq!(self.told(side), Some(told), "{side:?}");
    }

    /// What this side says, whatever the rules are.
    const fn out(&mut self, side: Side) -> &mut Output {
        match side {
            Side::Client => &mut self.client.out,
            Side::Server => &mut self.server.out,
        }
    }

    fn rekey(&mut self, side: Side) {
        match side {
            Side::Client => self.client.rekey(self.now).unwrap(),
            Side::Server => self.server.rekey(self.now).unwrap(),
        }
        self.run(usize::MAX);
    }

    /// The first attempt to log in, which the server has not answered.
    fn attempt(&mut self, credential: Credential) -> LoginAttempt {
        self.client
            .authenticate("alice", credential, self.now)
            .unwrap();
        loop {
            self.carry(usize::MAX);
            if let Some(ClientEvent::HostKeyOffered(offer)) = self.client.poll_event() {
                self.client.accept_host_key(offer).unwrap();
            }
            if let Some(ServerEvent::LoginAttempted(attempt)) = self.server.poll_event() {
                return attempt;
            }
        }
    }

    fn events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.client.poll_event() {
            any = true;
            let text = format!("{event:?}");
            self.client_events
                .push(text.split(['(', ' ']).next().unwrap().to_owned());
            if let ClientEvent::HostKeyOffered(offer) = event {
                self.client.accept_host_key(offer).unwrap();
            }
        }
        while let Some(event) = self.server.poll_event() {
            any = true;
            let text = format!("{event:?}");
            self.server_events
                .push(text.split(['(', ' ']).next().unwrap().to_owned());
            if let ServerEvent::LoginAttempted(attempt) = event {
                assert!(matches!(attempt.proof(), Proof::PublicKey(_)));
                self.server.grant(attempt).unwrap();
            }
        }
        any
    }
}

/// A pair whose server has been asked `count` things about the connection and has not answered.
fn asked(count: usize, seed: u8) -> (Pair, Vec<GlobalRequestToken>) {
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    server.transport.own.global_requests = vec!["x".to_owned()];
    let mut pair = Pair::seeded(ClientConfig::new(), server, seed);
    pair.login();
    for _ in 0..count {
        pair.client
            .global_request("x", b"", true, pair.now)
            .unwrap();
    }
    while pair.carry(usize::MAX) {}
    let tokens = std::iter::from_fn(|| pair.server.poll_event())
        .filter_map(|event| match event {
            ServerEvent::GlobalRequested(request) => request.token,
            _ => None,
        })
        .collect();
    (pair, tokens)
}

/// Any payload: what a peer of another kind, or a hostile one, may say.
struct Raw<'a>(&'a [u8]);

impl<'a> Message<'a> for Raw<'a> {
    const NUMBER: u8 = 0;

    fn decode(payload: &'a [u8]) -> Result<Self, PeerError> {
        Ok(Self(payload))
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.0);
    }
}

#[test]
fn a_user_logs_in() {
    let mut pair = Pair::default();
    pair.login();
    assert_eq!(pair.client_events, ["HostKeyOffered", "Authenticated"]);
    assert_eq!(pair.server_events, ["LoginAttempted", "Authenticated"]);
    let session = pair.client.session().unwrap();
    assert_eq!(session.user, Some("alice"));
    assert_eq!(session.id, pair.server.session().unwrap().id);
    assert!(pair.client.negotiated().unwrap().strict);
}

#[test]
fn every_combination_of_algorithms_connects() {
    let keys = [
        (KeyKind::Ed25519, SignatureAlgorithm::Ed25519),
        (KeyKind::EcdsaNistp256, SignatureAlgorithm::EcdsaNistp256),
        (KeyKind::EcdsaNistp384, SignatureAlgorithm::EcdsaNistp384),
        (KeyKind::EcdsaNistp521, SignatureAlgorithm::EcdsaNistp521),
    ];
    let mut runs: Vec<(Kex, Cipher, Mac, usize)> = Vec::new();
    for &kex in Kex::ALL {
        runs.push((kex, Cipher::Aes128Gcm, Mac::HmacSha256, 0));
    }
    for &cipher in Cipher::ALL {
        for &mac in Mac::ALL {
            runs.push((Kex::Curve25519Sha256, cipher, mac, 0));
        }
    }
    for key in 0..keys.len() {
        runs.push((
            Kex::Curve25519Sha256,
            Cipher::Aes256Gcm,
            Mac::HmacSha256,
            key,
        ));
    }
    for (kex, cipher, mac, key) in runs {
        let (kind, algorithm) = keys[key];
        let mut client = ClientConfig::new();
        client.transport.algorithms.kex = Preference::new([kex]).unwrap();
        client.transport.algorithms.ciphers = Preference::new([cipher]).unwrap();
        client.transport.algorithms.macs = Preference::new([mac]).unwrap();
        let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(kind)]));
        pair.login();
        let negotiated = pair.server.negotiated().unwrap();
        assert_eq!((negotiated.kex, negotiated.host_key), (kex, algorithm));
        assert_eq!(negotiated.client_to_server.cipher, cipher);
        assert!(
            pair.client.is_authenticated(),
            "{kex} {cipher} {mac} {:?}",
            pair.client.closed()
        );
        pair.client.rekey(pair.now).unwrap();
        pair.run(usize::MAX);
        assert_eq!(pair.client_events.last().unwrap(), "Rekeyed");
    }
}

#[test]
fn any_chunking_gives_the_same_events_and_the_same_output() {
    let config = || {
        let mut client = ClientConfig::new();
        // The exchange whose draws all come from the seed.
        client.transport.algorithms.kex = Preference::new([Kex::Curve25519Sha256]).unwrap();
        (client, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]))
    };
    let run = |chunk| {
        let (client, server) = config();
        let mut pair = Pair::new(client, server);
        pair.client
            .authenticate("alice", Credential::public_key(user_key()), pair.now)
            .unwrap();
        pair.run(chunk);
        (
            pair.client_events,
            pair.server_events,
            pair.client_sent,
            pair.server_sent,
        )
    };
    let whole = run(usize::MAX);
    assert_eq!(whole.0.last().unwrap(), "Authenticated");
    for chunk in [1, 2, 3, 7, 16, 100] {
        assert!(run(chunk) == whole, "chunks of {chunk}");
    }
}

#[test]
fn both_sides_may_start_a_key_exchange_at_once() {
    let mut pair = Pair::default();
    pair.login();
    let id = pair.client.session().unwrap().id.to_vec();
    for _ in 0..5 {
        pair.client.rekey(pair.now).unwrap();
        pair.server.rekey(pair.now).unwrap();
        pair.run(13);
    }
    assert_eq!(
        pair.client_events
            .iter()
            .filter(|event| *event == "Rekeyed")
            .count(),
        5
    );
    assert_eq!(pair.client.session().unwrap().id, id);
    assert_eq!(pair.server.session().unwrap().id, id);
}

#[test]
fn a_right_guess_saves_a_message_and_a_wrong_one_is_passed_over() {
    for (server_kex, server_first) in [
        ("+curve25519-sha256", true),
        ("ecdh-sha2-nistp256,mlkem768x25519-sha256", false),
    ] {
        let mut client = ClientConfig::new();
        client.guess_kex = true;
        let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
        server.transport.algorithms.kex = Preference::parse(server_kex).unwrap();
        if server_first {
            client.transport.algorithms.host_keys = Preference::parse("ssh-ed25519").unwrap();
        }
        let mut pair = Pair::new(client, server);
        pair.login();
        assert!(
            pair.client.is_authenticated(),
            "{server_kex}: {:?}",
            pair.server.closed()
        );
    }
}

#[test]
fn a_flipped_bit_after_newkeys_ends_the_connection() {
    let mut pair = Pair::default();
    pair.login();
    pair.client.ignore(100).unwrap();
    let mut bytes = pair.client.output().to_vec();
    bytes[20] ^= 1;
    pair.server.handle_bytes(&bytes, pair.now);
    assert_eq!(
        pair.server.closed(),
        Some(&Error::Peer(PeerError::MacIncorrect))
    );
}

#[test]
fn a_rejected_host_key_ends_the_connection() {
    let mut pair = Pair::default();
    let now = pair.now;
    for _ in 0..8 {
        let bytes = pair.client.output().to_vec();
        let len = pair.server.handle_bytes(&bytes, now);
        pair.client.consume_output(len);
        let bytes = pair.server.output().to_vec();
        let len = pair.client.handle_bytes(&bytes, now);
        pair.server.consume_output(len);
        if let Some(ClientEvent::HostKeyOffered(offer)) = pair.client.poll_event() {
            assert!(!pair.client.wants_input());
            pair.client.reject_host_key(offer).unwrap();
        }
    }
    assert_eq!(pair.client.closed(), Some(&Error::HostKeyRejected));
    pair.events();
    assert_eq!(pair.server_events, ["Disconnected"]);
}

#[test]
fn the_end_of_the_stream_is_told_with_the_stage() {
    let mut pair = Pair::default();
    pair.client.handle_eof(pair.now);
    assert_eq!(
        pair.client.closed(),
        Some(&Error::UnexpectedEof(Stage::VersionExchange))
    );
    let mut pair = Pair::default();
    pair.login();
    pair.client.handle_eof(pair.now);
    assert_eq!(
        pair.client.closed(),
        Some(&Error::UnexpectedEof(Stage::Connected))
    );
}
