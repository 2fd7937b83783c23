//! Whole connections: a client or a server against the input, two against each other with somebody in between.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ssh_proto::config::{Keepalive, TransportConfig};
use ssh_proto::key::{KeyKind, PrivateKey, PublicKey};
use ssh_proto::names::{Algorithm, Cipher, Mac, Preference};
use ssh_proto::{
    AuthMethod, Client, ClientConfig, ClientEvent, Connection, Credential, HostKey, Role, Seed,
    Server, ServerConfig, ServerEvent,
};

use crate::framing::Frame;
use crate::steer::{Acts, Choices, Steered, SteeredClient, SteeredServer};

static USER_KEY: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| key(9));
static HOST_KEY: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| key(7));
/// A file, since nothing makes an RSA key of a seed.
static RSA_KEY: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| {
    let file = include_str!("../../ssh-proto/src/key/fixtures/rsa2048");
    Arc::new(PrivateKey::from_openssh(file, None).expect("a key"))
});
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn key(seed: u8) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[seed; 32]).expect("a key"))
}

/// The key that the user has.
pub fn user_key() -> Arc<PrivateKey> {
    Arc::clone(&USER_KEY)
}

/// Its public half.
pub fn user_public_key() -> PublicKey {
    USER_KEY.public().clone()
}

/// How far a session has come when the input begins to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nothing was said.
    Start,
    /// The client has the first keys.
    Keys,
    /// The user is authenticated.
    In,
}

/// The methods that draw nothing on their own, so that an input always does the same: no ML-KEM.
pub const METHODS: [&str; 4] = [
    "curve25519-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
];

struct Suite {
    cipher: Cipher,
    mac: Mac,
    method: &'static str,
    /// Both sides have RSA keys. The others are Ed25519: no ECDSA, whose nonces are drawn.
    rsa: bool,
}

impl Suite {
    /// The first byte says several things: [`suite_byte`] puts it together.
    fn choose(choices: &mut Choices<'_>) -> Self {
        let byte = usize::from(choices.byte());
        let cipher = Cipher::ALL[byte % Cipher::ALL.len()];
        let rest = byte / Cipher::ALL.len();
        let mac = Mac::ALL[choices.below(Mac::ALL.len())];
        Self {
            cipher,
            mac,
            method: METHODS[rest % METHODS.len()],
            rsa: rest / METHODS.len() % 2 == 1,
        }
    }

    fn user_key(&self) -> Arc<PrivateKey> {
        Arc::clone(if self.rsa { &RSA_KEY } else { &USER_KEY })
    }

    fn host_key(&self) -> Arc<PrivateKey> {
        Arc::clone(if self.rsa { &RSA_KEY } else { &HOST_KEY })
    }

    fn transport(&self, choices: &mut Choices<'_>) -> TransportConfig {
        let mut config = TransportConfig::default();
        config.algorithms.ciphers = Preference::new([self.cipher]).expect("one");
        config.algorithms.macs = Preference::new([self.mac]).expect("one");
        config.algorithms.kex = Preference::parse(self.method).expect("it is known");
        config.own.channel_kinds = vec!["own@example.com".into()];
        config.own.channel_requests = vec!["own@example.com".into()];
        config.own.global_requests = vec!["own@example.com".into()];
        config.hexdump = choices.below(8) == 0;
        if choices.below(4) == 0 {
            config.keepalive = Some(Keepalive {
                interval: Duration::from_secs(10),
                count: 3,
            });
        }
        config
    }
}

/// The byte that chooses these, by their numbers in [`Cipher::ALL`] and [`METHODS`].
pub const fn suite_byte(cipher: u8, method: u8, rsa: bool) -> u8 {
    let rest = method + if rsa { METHODS.len() as u8 } else { 0 };
    cipher + Cipher::ALL.len() as u8 * rest
}

/// The public half of the host key.
pub fn host_public_key(rsa: bool) -> PublicKey {
    if rsa { &RSA_KEY } else { &HOST_KEY }.public().clone()
}

fn new_client(suite: &Suite, choices: &mut Choices<'_>) -> Client {
    let mut config = ClientConfig::new();
    config.transport = suite.transport(choices);
    config.guess_kex = choices.below(8) == 0;
    Client::new(Arc::new(config), Seed::new([1; 32]), *START)
}

fn new_server(suite: &Suite, choices: &mut Choices<'_>) -> Server {
    let mut config = ServerConfig::new(vec![HostKey::Private(suite.host_key())]);
    config.transport = suite.transport(choices);
    config.auth_methods.push(AuthMethod::None);
    if choices.below(8) == 0 {
        config.banner = Some("welcome".into());
    }
    Server::new(Arc::new(config), Seed::new([2; 32]), *START)
}

/// A client and a server that have come so far with each other.
fn at(stage: Stage, choices: &mut Choices<'_>) -> (Client, Server, Frame) {
    let suite = Suite::choose(choices);
    let (mut client, mut server) = (new_client(&suite, choices), new_server(&suite, choices));
    if stage == Stage::Start {
        return (client, server, Frame::PLAIN);
    }
    if stage == Stage::In {
        let credential = Credential::public_key(suite.user_key());
        client
            .authenticate("user", credential, *START)
            .expect("it is idle");
    }
    loop {
        let moved = pass(&mut client, &mut server) + pass(&mut server, &mut client);
        while let Some(event) = client.poll_event() {
            if let ClientEvent::HostKeyOffered(offer) = event {
                client.accept_host_key(offer).expect("an open question");
            }
        }
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::KeyOffered(offer) => {
                    server.accept_key(offer).expect("an open question")
                }
                ServerEvent::LoginAttempted(attempt) => {
                    server.grant(attempt).expect("an open question")
                }
                _ => {}
            }
        }
        if moved == 0 && client.output().is_empty() && server.output().is_empty() {
            break;
        }
    }
    assert!(client.negotiated().is_some() && server.closed().is_none());
    assert_eq!(server.is_authenticated(), stage == Stage::In);
    (client, server, Frame::new(suite.cipher, suite.mac))
}

fn pass<A: Role, B: Role>(from: &mut Connection<A>, to: &mut Connection<B>) -> usize {
    let taken = to.handle_bytes(from.output(), *START);
    from.consume_output(taken);
    taken
}

/// A version line and what comes before it, to a client and to a server.
pub fn ident(data: &[u8]) {
    let mut choices = Choices::new(&[]);
    let suite = Suite::choose(&mut choices);
    let (client, server) = (
        new_client(&suite, &mut choices),
        new_server(&suite, &mut choices),
    );
    listen(Steered::new(client, *START), data);
    listen(Steered::new(server, *START), data);
}

fn listen<R: Role>(mut side: Steered<R>, data: &[u8])
where
    Steered<R>: Acts,
{
    for piece in data.chunks(7) {
        side.hear(piece);
        side.react(&mut Choices::new(&[255; 8]));
        side.check();
    }
    side.conn.handle_eof(side.now);
    side.react(&mut Choices::new(&[255; 8]));
    side.check();
}

/// Bytes of the wire under each class of cipher, after login.
pub fn deframe(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (client, server, _) = at(Stage::In, &mut choices);
    let rest = choices.bytes(usize::MAX);
    listen(Steered::new(server, *START), rest);
    listen(Steered::new(client, *START), rest);
}

/// A client that hears the input, and whose application the input steers.
pub fn client(data: &[u8]) {
    let mut choices = Choices::new(data);
    let stage = stage(&mut choices);
    let (client, _, frame) = at(stage, &mut choices);
    _ = converse(Steered::new(client, *START), frame, &mut choices);
}

/// A server that hears the input, and whose application the input steers.
pub fn server(data: &[u8]) {
    let mut choices = Choices::new(data);
    let stage = stage(&mut choices);
    let (_, server, frame) = at(stage, &mut choices);
    _ = converse(Steered::new(server, *START), frame, &mut choices);
}

fn stage(choices: &mut Choices<'_>) -> Stage {
    [Stage::Start, Stage::Keys, Stage::In, Stage::In][choices.below(4)]
}

fn converse<R: Role>(
    mut side: Steered<R>,
    mut frame: Frame,
    choices: &mut Choices<'_>,
) -> Steered<R>
where
    Steered<R>: Acts,
{
    let sealed = frame;
    if side.conn.session().is_none() {
        side.hear(b"SSH-2.0-peer\r\n");
    }
    while !choices.is_empty() {
        match choices.below(8) {
            0 => _ = side.hear(choices.piece(40_000)),
            1..=3 => {
                let packet = frame.packet(choices.piece(35_000));
                _ = side.hear(&packet);
            }
            4 => side.react(choices),
            5 => side.act(choices),
            6 => side.wait(choices),
            _ => {
                if choices.below(8) == 0 {
                    frame = if choices.below(2) == 0 {
                        Frame::PLAIN
                    } else {
                        sealed
                    };
                }
                _ = side.drain(choices);
            }
        }
        side.check();
    }
    side.react(choices);
    side.check();
    side
}

/// A client and a server, and somebody in between who drops, adds, changes and holds back bytes.
pub fn mitm(data: &[u8]) {
    let mut choices = Choices::new(data);
    let stage = stage(&mut choices);
    let (client, server, frame) = at(stage, &mut choices);
    _ = between(
        Steered::new(client, *START),
        Steered::new(server, *START),
        frame,
        &mut choices,
    );
}

/// The same before the first keys, where nothing protects the bytes; the client logs in as soon as it can.
pub fn kex(data: &[u8]) {
    _ = log_in(data);
}

fn log_in(data: &[u8]) -> (SteeredClient, SteeredServer) {
    let mut choices = Choices::new(data);
    let (mut client, server, frame) = at(Stage::Start, &mut choices);
    let suite = Suite::choose(&mut Choices::new(data));
    let credential = Credential::public_key(suite.user_key());
    client
        .authenticate("user", credential, *START)
        .expect("it is idle");
    between(
        Steered::new(client, *START),
        Steered::new(server, *START),
        frame,
        &mut choices,
    )
}

fn between(
    mut client: SteeredClient,
    mut server: SteeredServer,
    frame: Frame,
    choices: &mut Choices<'_>,
) -> (SteeredClient, SteeredServer) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while !choices.is_empty() {
        match choices.below(8) {
            0 => client.act(choices),
            1 => server.act(choices),
            2 => client.wait(choices),
            3 => server.wait(choices),
            4 => tamper(&mut up, frame, choices),
            5 => tamper(&mut down, frame, choices),
            _ => {}
        }
        client.react(choices);
        server.react(choices);
        up.extend(client.drain(&mut Choices::new(&[1, 255, 255, 255, 255, 255])));
        down.extend(server.drain(&mut Choices::new(&[1, 255, 255, 255, 255, 255])));
        let len = choices.number() as usize;
        let taken = server.hear(up.get(..len).unwrap_or(&up));
        up.drain(..taken);
        let taken = client.hear(down.get(..len).unwrap_or(&down));
        down.drain(..taken);
        client.check();
        server.check();
        if up.len() + down.len() > 1 << 22 {
            break;
        }
    }
    // Whatever was done to the bytes: both may believe in each other only if they agree.
    if let (Some(ours), Some(theirs)) = (client.conn.session(), server.conn.session())
        && !cfg!(fuzzing)
        && client.conn.is_authenticated()
        && server.conn.is_authenticated()
    {
        assert_eq!(ours.id, theirs.id);
    }
    (client, server)
}

fn tamper(bytes: &mut Vec<u8>, frame: Frame, choices: &mut Choices<'_>) {
    let at = (choices.number() as usize).min(bytes.len());
    let end = at
        .saturating_add(choices.number() as usize)
        .min(bytes.len());
    match choices.below(4) {
        0 => _ = bytes.drain(at..end),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= choices.byte();
            }
        }
        2 => {
            let again = bytes[at..end].to_vec();
            _ = bytes.splice(at..at, again);
        }
        _ => {
            let packet = frame.packet(choices.piece(500));
            _ = bytes.splice(at..at, packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use ssh_proto::Negotiated;

    use super::*;

    /// Each is negotiated, and the user is let in with such a key; an input that says nothing of it has the first.
    #[test]
    fn an_input_chooses_the_method_and_the_keys() {
        for (number, method) in (0..).zip(METHODS) {
            for rsa in [false, true] {
                let byte = suite_byte(2, number, rsa);
                let (client, server, _) = at(Stage::In, &mut Choices::new(&[byte]));
                let negotiated = client.negotiated().expect("keys");
                assert_eq!(negotiated.kex.name(), method);
                assert_eq!(negotiated.client_to_server.cipher, Cipher::ALL[2]);
                let session = client.session().expect("a session");
                assert_eq!(session.host_key, &host_public_key(rsa));
                assert!(server.is_authenticated());
            }
        }
        assert_eq!(suite_byte(5, 0, false), 5);
    }

    fn of_the_corpus(target: &str, method: &str, kind: &str) -> Vec<u8> {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        std::fs::read(corpus.join(format!("{target}/seed-{method}{kind}"))).expect("a seed")
    }

    /// An input that ends early reaches nothing of what its method has of its own.
    #[test]
    fn the_key_exchanges_of_the_corpus_come_to_their_end() {
        for (method, kind) in METHODS.into_iter().flat_map(|m| [(m, ""), (m, "-rsa")]) {
            let is = |negotiated: Option<&Negotiated>| {
                negotiated.is_some_and(|negotiated| negotiated.kex.name() == method)
            };
            let data = of_the_corpus("server", method, kind);
            let mut choices = Choices::new(&data);
            assert_eq!(stage(&mut choices), Stage::Start);
            let (_, server, frame) = at(Stage::Start, &mut choices);
            let server = converse(Steered::new(server, *START), frame, &mut choices);
            assert!(
                is(server.conn.negotiated()),
                "{method}{kind}: {:?}",
                server.ended
            );

            // What the server signed is right where everything is.
            let data = of_the_corpus("client", method, kind);
            let mut choices = Choices::new(&data);
            assert_eq!(stage(&mut choices), Stage::Start);
            let (client, _, frame) = at(Stage::Start, &mut choices);
            let client = converse(Steered::new(client, *START), frame, &mut choices);
            let ended = client.ended;
            assert_eq!(
                is(client.conn.negotiated()),
                cfg!(fuzzing),
                "{method}{kind}: {ended:?}"
            );

            let (client, server) = log_in(&of_the_corpus("kex", method, kind));
            assert!(is(client.conn.negotiated()) && is(server.conn.negotiated()));
            assert!(client.conn.is_authenticated() && server.conn.is_authenticated());
        }
    }

    /// What the packets of [`Frame`] are to a server with real keys, and with none.
    #[test]
    fn packets_of_every_suite_are_heard_where_ciphers_change_nothing() {
        for cipher in 0..Cipher::ALL.len() {
            for mac in 0..Mac::ALL.len() {
                let suite = [cipher as u8, mac as u8, 1, 1, 1, 1, 1, 1];
                let (_, mut server, frame) = at(Stage::In, &mut Choices::new(&suite));
                for len in 0..40 {
                    // IGNORE (RFC 4253 section 11.2).
                    let mut ignore = vec![2, 0, 0, 0, len];
                    ignore.resize(5 + usize::from(len), 0x61);
                    server.handle_bytes(&frame.packet(&ignore), *START);
                }
                let name = Cipher::ALL[cipher].name();
                assert_eq!(
                    server.closed().is_none(),
                    cfg!(fuzzing),
                    "{name}: {:?}",
                    server.closed()
                );
            }
        }
    }
}
