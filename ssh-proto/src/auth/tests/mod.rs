//! Client against server through real packets in clear, and each of them against made-up messages.

mod client;
mod limits;
mod methods;
mod random;
mod server;

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::client::ClientAuth;
use super::event::{ClientAuthEvent, ServerAuthEvent};
use super::server::ServerAuth;
use super::{Credential, KeyOffer, LoginAttempt, SessionInfo};
use crate::config::{AuthMethod, ClientConfig, ServerConfig};
use crate::connection::cx::{Cx, Events};
use crate::crypto::drbg::{Drbg, Seed};
use crate::error::{Error, Misuse};
use crate::key::{KeyKind, PrivateKey};
use crate::limits::Limits;
use crate::log::{Log, LogLevel};
use crate::msg::auth::UserauthRequest;
use crate::msg::{Message, Rest};
use crate::names::SignatureAlgorithm;
use crate::packet::output::Output;
use crate::packet::sealer::Sealer;
use crate::wire::{Reader, Writer};

const SESSION_ID: &[u8] = b"the first exchange hash of this session";

static RSA: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| {
    let file = include_bytes!("../../key/fixtures/rsa2048");
    Arc::new(PrivateKey::from_openssh(file, None).unwrap())
});

#[expect(clippy::disallowed_methods, reason = "some instant is needed")]
fn now() -> Instant {
    Instant::now()
}

fn ed25519(number: u8) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[number; 32]).unwrap())
}

fn p256() -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyKind::EcdsaNistp256, &[7; 32]).unwrap())
}

/// All ways out of a machine.
struct Ways<E> {
    out: Output,
    events: Events<E>,
    log: Log,
    limits: Limits,
    now: Instant,
}

impl<E> Ways<E> {
    fn new(seed: u8, limits: Limits, now: Instant) -> Self {
        let rng = Drbg::new(Seed::new([seed; 32]));
        Self {
            out: Output::new(rng, Sealer::plain(), 1 << 20),
            events: Events::new(64),
            log: Log::new(LogLevel::Packet, true, 64),
            limits,
            now,
        }
    }

    fn cx(&mut self) -> Cx<'_, E> {
        Cx {
            out: &mut self.out,
            events: &mut self.events,
            log: &mut self.log,
            limits: &self.limits,
            now: self.now,
        }
    }

    /// The payloads that were sent since the last look.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        let mut reader = Reader::new(self.out.pending());
        while let Ok(packet) = reader.string() {
            let padding = usize::from(packet[0]);
            payloads.push(packet[1..packet.len() - padding].to_vec());
        }
        let len = self.out.pending().len();
        self.out.consume(len);
        payloads
    }
}

struct ClientEnd {
    auth: ClientAuth,
    ways: Ways<ClientAuthEvent>,
    /// The server's `server-sig-algs`.
    algorithms: Option<Vec<SignatureAlgorithm>>,
}

impl ClientEnd {
    fn new(config: ClientConfig) -> Self {
        let limits = config.transport.limits;
        Self {
            auth: ClientAuth::new(&Arc::new(config)),
            ways: Ways::new(1, limits, now()),
            algorithms: None,
        }
    }

    /// One that the server has accepted for the service.
    fn ready() -> Self {
        Self::accepted(ClientConfig::new())
    }

    fn accepted(config: ClientConfig) -> Self {
        let mut client = Self::new(config);
        client.auth.start(&mut client.ways.cx());
        client.ways.sent();
        client.handle(b"\x06\0\0\0\x0cssh-userauth").unwrap();
        client
    }

    fn handle(&mut self, payload: &[u8]) -> Result<(), Error> {
        let session = SessionInfo {
            id: SESSION_ID,
            peer_algorithms: self.algorithms.as_deref(),
        };
        self.auth.handle(payload, &session, &mut self.ways.cx())
    }

    fn authenticate(&mut self, user: &str, credential: Credential) -> Result<(), Misuse> {
        let session = SessionInfo {
            id: SESSION_ID,
            peer_algorithms: self.algorithms.as_deref(),
        };
        self.auth
            .authenticate(user, credential, Some(&session), &mut self.ways.cx())
    }

    fn event(&mut self) -> Option<ClientAuthEvent> {
        self.ways.events.poll()
    }

    /// The outcome of an attempt: what can continue, and whether it was a partial success.
    #[track_caller]
    fn refused(&mut self) -> (String, bool) {
        match self.event() {
            Some(ClientAuthEvent::AuthenticationRefused {
                methods,
                partial_success,
            }) => (methods.join(","), partial_success),
            other => panic!("refusal expected: {other:?}"),
        }
    }
}

struct ServerEnd {
    auth: ServerAuth,
    ways: Ways<ServerAuthEvent>,
}

impl ServerEnd {
    fn new(config: ServerConfig) -> Self {
        let limits = config.transport.limits;
        Self {
            auth: ServerAuth::new(&Arc::new(config)),
            ways: Ways::new(2, limits, now()),
        }
    }

    /// One that was asked for the service.
    fn listening(config: ServerConfig) -> Self {
        let mut server = Self::new(config);
        server.auth.start();
        server.handle(b"\x05\0\0\0\x0cssh-userauth").unwrap();
        assert_eq!(server.ways.sent(), [b"\x06\0\0\0\x0cssh-userauth"]);
        server
    }

    fn handle(&mut self, payload: &[u8]) -> Result<(), Error> {
        let session = SessionInfo {
            id: SESSION_ID,
            peer_algorithms: None,
        };
        self.auth.handle(payload, &session, &mut self.ways.cx())
    }

    /// Lets time pass until nothing waits.
    fn wait(&mut self) -> Result<(), Error> {
        while let Some(due) = self.auth.poll_timeout() {
            self.ways.now = self.ways.now.max(due);
            self.auth.handle_timeout(&mut self.ways.cx())?;
        }
        Ok(())
    }

    #[track_caller]
    fn attempt(&mut self) -> LoginAttempt {
        match self.ways.events.poll() {
            Some(ServerAuthEvent::LoginAttempted(attempt)) => attempt,
            other => panic!("attempt expected: {other:?}"),
        }
    }

    #[track_caller]
    fn offer(&mut self) -> KeyOffer {
        match self.ways.events.poll() {
            Some(ServerAuthEvent::KeyOffered(offer)) => offer,
            other => panic!("offer expected: {other:?}"),
        }
    }

    fn grant(&mut self, attempt: LoginAttempt) -> Result<(), Misuse> {
        self.auth.grant(attempt, &mut self.ways.cx())
    }

    fn refuse(&mut self, attempt: LoginAttempt) -> Result<(), Misuse> {
        self.auth.refuse(attempt, &mut self.ways.cx())
    }

    fn partial(&mut self, attempt: LoginAttempt, next: &[AuthMethod]) -> Result<(), Misuse> {
        self.auth.partial(attempt, next, &mut self.ways.cx())
    }
}

/// A client joined to a server.
struct Pair {
    client: ClientEnd,
    server: ServerEnd,
    to_client: VecDeque<Vec<u8>>,
    to_server: VecDeque<Vec<u8>>,
    /// Numbers of all messages so far: those of the client as they are, those of the server negated.
    trace: Vec<i32>,
}

impl Pair {
    fn new(config: ServerConfig) -> Self {
        let mut pair = Self {
            client: ClientEnd::new(ClientConfig::new()),
            server: ServerEnd::new(config),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            trace: Vec::new(),
        };
        pair.server.auth.start();
        pair.client.auth.start(&mut pair.client.ways.cx());
        pair.run();
        pair.trace.clear();
        pair
    }

    /// Carries packets to and fro until both are silent; time passes where a refusal waits.
    #[track_caller]
    fn run(&mut self) {
        loop {
            for payload in self.client.ways.sent() {
                self.trace.push(i32::from(payload[0]));
                self.to_server.push_back(payload);
            }
            for payload in self.server.ways.sent() {
                self.trace.push(-i32::from(payload[0]));
                self.to_client.push_back(payload);
            }
            self.server.wait().unwrap();
            if !self.server.auth.is_held()
                && let Some(payload) = self.to_server.pop_front()
            {
                self.server.handle(&payload).unwrap();
            } else if !self.client.auth.is_held()
                && let Some(payload) = self.to_client.pop_front()
            {
                self.client.handle(&payload).unwrap();
            } else if self.server.ways.out.pending().is_empty() {
                return;
            }
        }
    }

    #[track_caller]
    fn authenticate(&mut self, user: &str, credential: Credential) {
        self.client.authenticate(user, credential).unwrap();
        self.run();
    }

    #[track_caller]
    fn grant(&mut self, attempt: LoginAttempt) {
        let user = attempt.user().to_owned();
        self.server.grant(attempt).unwrap();
        self.run();
        assert!(
            matches!(self.client.event(), Some(ClientAuthEvent::Authenticated)),
            "the client knows"
        );
        match self.server.ways.events.poll() {
            Some(ServerAuthEvent::Authenticated { user: granted }) => assert_eq!(granted, user),
            other => panic!("{other:?}"),
        }
        assert!(self.client.auth.is_authenticated() && self.server.auth.is_authenticated());
        assert_eq!(self.client.auth.user(), Some(user.as_str()));
        assert_eq!(self.server.auth.user(), Some(user.as_str()));
    }
}

fn server_config() -> ServerConfig {
    ServerConfig {
        failure_delay: Duration::ZERO,
        ..ServerConfig::new(Vec::new())
    }
}

fn request(user: &str, service: &str, method: &str, fields: &[u8]) -> Vec<u8> {
    UserauthRequest {
        user_name: user,
        service_name: service,
        method_name: method,
        method_fields: Rest(fields),
    }
    .to_payload()
}

fn password_request(user: &str, password: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    Writer::new(&mut fields)
        .boolean(false)
        .string(password.as_bytes());
    request(user, "ssh-connection", "password", &fields)
}

/// A publickey request, made by hand: the algorithm of the request and the one that is signed with may differ.
fn key_request(
    user: &str,
    key: &PrivateKey,
    named: SignatureAlgorithm,
    signed: Option<SignatureAlgorithm>,
) -> Vec<u8> {
    let blob = key.public().blob();
    let mut fields = Vec::new();
    Writer::new(&mut fields)
        .boolean(signed.is_some())
        .string(named.name().as_bytes())
        .string(blob);
    let Some(signed) = signed else {
        return request(user, "ssh-connection", "publickey", &fields);
    };
    let mut data = Vec::new();
    Writer::new(&mut data).string(SESSION_ID).bytes(&request(
        user,
        "ssh-connection",
        "publickey",
        &fields,
    ));
    let signature = key.sign(signed, &data).unwrap();
    Writer::new(&mut fields).string(&signature);
    request(user, "ssh-connection", "publickey", &fields)
}

fn interactive_request(user: &str) -> Vec<u8> {
    request(
        user,
        "ssh-connection",
        "keyboard-interactive",
        b"\0\0\0\0\0\0\0\0",
    )
}

fn failure(methods: &str, partial: bool) -> Vec<u8> {
    let mut payload = vec![51];
    Writer::new(&mut payload)
        .string(methods.as_bytes())
        .boolean(partial);
    payload
}
