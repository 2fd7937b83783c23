//! A random session: two connections that record, the bytes between them, and two applications that do whatever comes to
//! their minds. Nothing here checks what the library does; it only has to happen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{
    Credential, KeyOffer, LoginAttempt, PasswordChange, PromptRound, Prompts, Proof,
    SignatureRequest,
};
use crate::channel::{
    Answer, ChannelEvent, ChannelId, ExitSignal, ForwardAddress, GlobalRequestToken, OpenChannel,
    OpenFailureReason, OpenRequest, Program, PtyRequest, RequestId, RequestToken, Signal, Stream,
    WindowSize,
};
use crate::config::{AuthMethod, ClientConfig, HostKey, ServerConfig, TransportConfig};
use crate::connection::event::{ClientEvent, HostKeyOffer, ServerEvent};
use crate::connection::role::Role;
use crate::connection::{Client, Connection, Server};
use crate::crypto::drbg::Seed;
use crate::error::DisconnectReason;
use crate::key::{KeyKind, PrivateKey};
use crate::msg::modes::{Mode, TerminalModes};
use crate::names::{Algorithm, Preference};
use crate::packet::{Draft, Input};
use crate::secret::Secret;

/// SplitMix64.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn taken<T>(&mut self, list: &mut Vec<T>) -> Option<T> {
        (!list.is_empty()).then(|| list.swap_remove(self.below(list.len())))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.of(&[0, 1, 10, 900, 5_000, 70_000]);
        let first = self.below(256);
        (first..first + len).map(|i| i as u8).collect()
    }

    fn secret(&mut self) -> Secret {
        self.of(&["", "right", "wrong, \"quoted\"", "zwölf\n"])
            .into()
    }
}

pub(super) fn key(kind: KeyKind) -> PrivateKey {
    PrivateKey::generate(kind, &[7; 32]).unwrap()
}

const KINDS: [KeyKind; 4] = [
    KeyKind::Ed25519,
    KeyKind::EcdsaNistp256,
    KeyKind::EcdsaNistp384,
    KeyKind::EcdsaNistp521,
];

fn one<A: Algorithm>(draw: &mut Draw) -> Preference<A> {
    Preference::new([draw.of(A::ALL)]).unwrap()
}

/// What an application holds and has not used yet.
#[derive(Default)]
struct Hands {
    channels: Vec<ChannelId>,
    tokens: Vec<RequestToken>,
    opens: Vec<OpenRequest>,
    globals: Vec<GlobalRequestToken>,
    signatures: Vec<SignatureRequest>,
    offers: Vec<HostKeyOffer>,
    prompts: Vec<Prompts>,
    changes: Vec<PasswordChange>,
    keys: Vec<KeyOffer>,
    attempts: Vec<LoginAttempt>,
    forwards: Vec<RequestId>,
    draft: Draft,
    /// What left and has not arrived.
    wire: Vec<u8>,
    /// All that left.
    sent: Vec<u8>,
}

pub(super) struct World {
    client: Client,
    server: Server,
    left: Hands,
    right: Hands,
    now: Instant,
    draw: Draw,
}

fn transport(config: &mut TransportConfig, draw: &mut Draw) {
    config.record = true;
    if draw.one_in(4) {
        config.rekey.bytes = 20_000;
    }
    if draw.one_in(4) {
        config.limits.window = 100_000;
    }
    if draw.one_in(4) {
        config.keepalive = Some(crate::config::Keepalive {
            interval: Duration::from_secs(5),
            count: 2,
        });
    }
    config.own.global_requests = vec!["ask@example.com".to_owned()];
    config.own.channel_requests = vec!["do@example.com".to_owned()];
    config.own.channel_kinds = vec!["pipe@example.com".to_owned()];
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let mut client = ClientConfig::new();
        transport(&mut client.transport, &mut draw);
        client.guess_kex = draw.one_in(3);
        let kind = draw.of(&KINDS);
        let host_key = if draw.one_in(4) {
            HostKey::External(key(kind).public().clone())
        } else {
            HostKey::Private(Arc::new(key(kind)))
        };
        let mut server = ServerConfig::new(vec![host_key]);
        transport(&mut server.transport, &mut draw);
        server.banner = draw.one_in(3).then(|| "hello\nthere".to_owned());
        if draw.one_in(3) {
            server.auth_methods.push(AuthMethod::None);
        }
        let algorithms = &mut client.transport.algorithms;
        algorithms.kex = one(&mut draw);
        algorithms.ciphers = one(&mut draw);
        algorithms.macs = one(&mut draw);
        let now = super::start();
        let seed = |draw: &mut Draw| Seed::new([draw.below(256) as u8; 32]);
        Self {
            client: Client::new(Arc::new(client), seed(&mut draw), now),
            server: Server::new(Arc::new(server), seed(&mut draw), now),
            left: Hands::default(),
            right: Hands::default(),
            now,
            draw,
        }
    }

    pub(super) fn run(&mut self, steps: usize) {
        let mut greedy = true;
        for _ in 0..steps {
            if self.draw.one_in(200) {
                greedy = !greedy;
            }
            self.step(greedy);
        }
    }

    fn step(&mut self, greedy: bool) {
        let draw = &mut self.draw;
        if draw.one_in(20) {
            let ms = draw.of(&[1, 20, 150, 6_000]);
            self.now += Duration::from_millis(ms);
            self.client.handle_timeout(self.now);
            if draw.one_in(2) {
                self.server.handle_timeout(self.now);
            }
        }
        if draw.one_in(4_000) {
            self.now += Duration::from_secs(3_700);
        }
        let now = self.now;
        push(&mut self.client, &mut self.left, draw);
        pull(&mut self.server, &mut self.left.wire, draw, now);
        push(&mut self.server, &mut self.right, draw);
        pull(&mut self.client, &mut self.right.wire, draw, now);
        if draw.one_in(if greedy { 1 } else { 20 }) {
            while let Some(event) = self.client.poll_event() {
                client_event(event, &mut self.left);
            }
            while let Some(event) = self.server.poll_event() {
                server_event(event, &mut self.right);
            }
            channel_events(&mut self.client, &mut self.left);
            channel_events(&mut self.server, &mut self.right);
        }
        if self.client.is_authenticated() {
            common(&mut self.client, &mut self.left, draw, now);
            common(&mut self.server, &mut self.right, draw, now);
        }
        client_does(&mut self.client, &mut self.left, draw, now);
        server_does(&mut self.server, &mut self.right, draw, now);
        if draw.one_in(8_000) {
            self.client.handle_eof(now);
        }
        if draw.one_in(8_000)
            && let Some(byte) = self.left.wire.last_mut()
        {
            *byte ^= 4;
        }
    }

    /// The recordings, and what each side sent.
    pub(super) fn end(mut self) -> [(String, Vec<u8>); 2] {
        self.left.sent.extend(self.client.output());
        self.right.sent.extend(self.server.output());
        [
            (self.client.finish_recording().unwrap(), self.left.sent),
            (self.server.finish_recording().unwrap(), self.right.sent),
        ]
    }
}

/// Output to the wire.
fn push<R: Role>(side: &mut Connection<R>, hands: &mut Hands, draw: &mut Draw) {
    let before = hands.wire.len();
    if draw.one_in(3) {
        let mut all = Vec::new();
        side.swap_output(&mut all);
        hands.wire.extend(all);
    } else {
        let len = side.output().len().min(draw.of(&[0, 7, 500, 100_000]));
        hands.wire.extend(&side.output()[..len]);
        side.consume_output(len);
    }
    hands.sent.extend(&hands.wire[before..]);
}

/// From the wire to the input, in one of the ways that there are.
fn pull<R: Role>(side: &mut Connection<R>, wire: &mut Vec<u8>, draw: &mut Draw, now: Instant) {
    let len = wire.len().min(draw.of(&[0, 3, 300, 40_000, 400_000]));
    let taken = match draw.below(8) {
        0..3 => side.handle_bytes(&wire[..len], now),
        // A buffer that was not taken from the connection.
        3 if side.wants_input() => {
            side.handle_input(Input::from(wire[..len].to_vec()), now);
            len
        }
        _ => match side.take_input(Input::with_capacity(draw.of(&[0, 100, 9_000, 300_000]))) {
            Ok(mut input) => {
                let len = input.extend(&wire[..len]);
                // Another read comes before it.
                if draw.one_in(20) {
                    let taken = side.handle_bytes(&wire[..len / 2], now);
                    input.clear();
                    side.handle_input(input, now);
                    taken
                } else {
                    side.handle_input(input, now);
                    len
                }
            }
            Err(_) => 0,
        },
    };
    wire.drain(..taken);
}

fn client_event(event: ClientEvent, hands: &mut Hands) {
    match event {
        ClientEvent::HostKeyOffered(offer) => hands.offers.push(offer),
        ClientEvent::PromptsReceived(prompts) => hands.prompts.push(prompts),
        ClientEvent::PasswordChangeRequested(change) => hands.changes.push(change),
        ClientEvent::SignatureNeeded(request) => hands.signatures.push(request),
        ClientEvent::OpenRequested(open) => hands.opens.push(open),
        ClientEvent::GlobalRequested(request) => hands.globals.extend(request.token),
        _ => {}
    }
}

fn server_event(event: ServerEvent, hands: &mut Hands) {
    match event {
        ServerEvent::KeyOffered(offer) => hands.keys.push(offer),
        ServerEvent::LoginAttempted(attempt) => hands.attempts.push(attempt),
        ServerEvent::SignatureNeeded(request) => hands.signatures.push(request),
        ServerEvent::OpenRequested(open) => hands.opens.push(open),
        ServerEvent::GlobalRequested(request) => hands.globals.extend(request.token),
        _ => {}
    }
}

fn channel_events<R: Role>(side: &mut Connection<R>, hands: &mut Hands) {
    for &id in &hands.channels {
        let Some(mut channel) = side.channel(id) else {
            continue;
        };
        while let Some(event) = channel.poll_event() {
            if let ChannelEvent::Requested { token, .. } = event {
                hands.tokens.extend(token);
            }
        }
    }
}

fn common<R: Role>(side: &mut Connection<R>, hands: &mut Hands, draw: &mut Draw, now: Instant) {
    match draw.below(40) {
        0 => _ = side.rekey(now),
        1 => _ = side.ignore(draw.below(300)),
        2 => _ = side.ping(b"ping", now),
        3 => _ = side.global_request("ask@example.com", &draw.bytes(), draw.one_in(2), now),
        4..6 => {
            if let Some(token) = draw.taken(&mut hands.globals) {
                let answer = if draw.one_in(2) {
                    Answer::Accept(b"\0\0\x1f\x90")
                } else {
                    Answer::Refuse
                };
                _ = side.answer_global(token, answer);
            }
        }
        6..10 => {
            if let Some(open) = draw.taken(&mut hands.opens) {
                if draw.one_in(4) {
                    let reason = OpenFailureReason::CONNECT_FAILED;
                    _ = side.refuse_open(open, reason, "no \"way\"");
                } else {
                    hands.channels.extend(side.accept_open(open, b"").ok());
                }
            }
        }
        10 => {
            let kind = OpenChannel::Custom {
                kind: "pipe@example.com",
                data: b"\0",
            };
            hands.channels.extend(side.open(kind, now).ok());
        }
        11 if draw.one_in(200) => {
            side.disconnect(DisconnectReason::BY_APPLICATION, "enough", now);
        }
        _ => channel(side, hands, draw),
    }
}

fn channel<R: Role>(side: &mut Connection<R>, hands: &mut Hands, draw: &mut Draw) {
    if hands.channels.is_empty() {
        return;
    }
    let id = draw.of(&hands.channels);
    let Some(mut channel) = side.channel(id) else {
        return;
    };
    let stream = draw.of(&[Stream::DATA, Stream::DATA, Stream::STDERR]);
    match draw.below(24) {
        0..4 => _ = channel.write(stream, &draw.bytes()),
        4 => _ = channel.write_parts(stream, &[&draw.bytes(), b"", &draw.bytes()]),
        5..8 => {
            if hands.draft.is_empty() {
                channel.lay_out(stream, &mut hands.draft);
                let room: usize = hands.draft.slices().iter().map(|slice| slice.len()).sum();
                hands.draft.fill(draw.below(room + 1));
            }
            _ = channel.send(stream, &mut hands.draft);
        }
        8..10 => channel.consume(stream, draw.below(100_000)),
        10..12 => _ = channel.read(stream, &mut vec![0; draw.below(100_000)]),
        12..14 => {
            if let Some(received) = channel.take(stream) {
                channel.recycle(received);
            }
        }
        14 => {
            if let Some(token) = draw.taken(&mut hands.tokens) {
                _ = channel.reply(token, draw.one_in(2));
            }
        }
        15 => _ = channel.request("do@example.com", b"it", draw.one_in(2)),
        16 if draw.one_in(4) => channel.eof(),
        17 if draw.one_in(4) => channel.close(),
        18 if draw.one_in(4) => channel.release(),
        19 if draw.one_in(4) => channel.discard(stream),
        20 if draw.one_in(4) => channel.combine_stderr(),
        21 => channel.set_receive_window(draw.of(&[0, 70_000, 3_000_000])),
        22 => _ = channel.end_of_write(),
        23 => _ = channel.lay_out_now(stream, &mut Draft::new()),
        _ => {}
    }
}

fn client_does(client: &mut Client, hands: &mut Hands, draw: &mut Draw, now: Instant) {
    match draw.below(12) {
        0..3 => {
            if let Some(offer) = draw.taken(&mut hands.offers) {
                if draw.one_in(50) {
                    _ = client.reject_host_key(offer);
                } else {
                    _ = client.accept_host_key(offer);
                }
            }
        }
        3 if !client.is_authenticated() => {
            let credential = match draw.below(6) {
                0 => Credential::None,
                1 => Credential::password(draw.secret()),
                2 => Credential::external(key(draw.of(&KINDS)).public().clone()),
                3 => Credential::keyboard_interactive(),
                4 => Credential::PublicKey {
                    key: Arc::new(key(draw.of(&KINDS))),
                    query: true,
                },
                _ => Credential::public_key(key(draw.of(&KINDS))),
            };
            _ = client.authenticate(draw.of(&["alice", "bob \\"]), credential, now);
        }
        4 => {
            if let Some(prompts) = draw.taken(&mut hands.prompts) {
                let answers = vec![draw.secret(); prompts.prompts().len()];
                _ = client.answer(prompts, &answers);
            }
            if let Some(change) = draw.taken(&mut hands.changes) {
                _ = client.change_password(change, draw.secret(), draw.secret());
            }
            if let Some(request) = draw.taken(&mut hands.signatures) {
                let signature = signed(&request, draw);
                _ = client.supply_signature(request, signature.as_deref());
            }
        }
        5 if client.is_authenticated() => match draw.below(8) {
            0 => {
                let address = match draw.below(3) {
                    0 => ForwardAddress::streamlocal(*b"/tmp/\xffs"),
                    1 => ForwardAddress::tcpip("localhost", 0),
                    _ => ForwardAddress::tcpip("", 8_080),
                };
                hands
                    .forwards
                    .extend(client.request_forward(address, now).ok());
            }
            1 => {
                if let Some(forward) = draw.taken(&mut hands.forwards) {
                    _ = client.cancel_forward(forward, now);
                }
            }
            2 if draw.one_in(100) => _ = client.no_more_sessions(now),
            3 => {
                let kind = OpenChannel::DirectTcpip {
                    host: "host.example",
                    port: 80,
                    originator: ("::1", 4_000),
                };
                hands.channels.extend(client.open(kind, now).ok());
            }
            4 => {
                let kind = OpenChannel::DirectStreamlocal { path: b"/run/\0s" };
                hands.channels.extend(client.open(kind, now).ok());
            }
            _ => hands
                .channels
                .extend(client.open(OpenChannel::Session, now).ok()),
        },
        6..9 if !hands.channels.is_empty() => {
            let id = draw.of(&hands.channels);
            let Some(mut channel) = client.channel(id) else {
                return;
            };
            match draw.below(8) {
                0 => _ = channel.start(Program::Exec(b"do it \xff")),
                1 => _ = channel.start(Program::Shell),
                2 => _ = channel.start(Program::Subsystem("sftp")),
                3 => {
                    let mut modes = TerminalModes::new();
                    modes.push(Mode::ECHO, 1);
                    let pty = PtyRequest {
                        term: "xterm".to_owned(),
                        columns: 80,
                        modes,
                        ..PtyRequest::default()
                    };
                    _ = channel.pty(&pty);
                }
                4 => _ = channel.env(b"LANG", b"C"),
                5 => {
                    let size = WindowSize {
                        rows: 40,
                        ..WindowSize::default()
                    };
                    _ = channel.resize(size);
                }
                6 => _ = channel.signal(&Signal::TERM),
                _ => _ = channel.send_break(500),
            }
        }
        _ => {}
    }
}

fn server_does(server: &mut Server, hands: &mut Hands, draw: &mut Draw, now: Instant) {
    if let Some(offer) = draw.taken(&mut hands.keys) {
        if draw.one_in(4) {
            _ = server.refuse_key(offer);
        } else {
            _ = server.accept_key(offer);
        }
    }
    if let Some(request) = draw.taken(&mut hands.signatures) {
        let signature = signed(&request, draw);
        _ = server.supply_signature(request, signature.as_deref());
    }
    if let Some(attempt) = draw.taken(&mut hands.attempts) {
        if matches!(attempt.proof(), Proof::KeyboardInteractive { .. }) || draw.one_in(6) {
            let round = PromptRound::new("name", "do \"it\"")
                .with_prompt("Password: ", false)
                .with_prompt("Number?", true);
            _ = server.prompt(attempt, &round);
            return;
        }
        _ = match draw.below(8) {
            0 => server.refuse(attempt),
            1 => server.partial(attempt, &[AuthMethod::Password, AuthMethod::PublicKey]),
            2 => server.require_password_change(attempt, "too old"),
            _ => server.grant(attempt),
        };
    }
    if draw.one_in(50) {
        _ = server.banner("soon");
    }
    if !server.is_authenticated() {
        return;
    }
    match draw.below(20) {
        0 => {
            let kind = OpenChannel::ForwardedTcpip {
                address: "localhost",
                port: 8_080,
                originator: ("127.0.0.1", 5),
            };
            hands.channels.extend(server.open(kind, now).ok());
        }
        1 => {
            let kind = OpenChannel::ForwardedStreamlocal {
                path: b"/tmp/\xffs",
            };
            hands.channels.extend(server.open(kind, now).ok());
        }
        2..4 if !hands.channels.is_empty() => {
            let id = draw.of(&hands.channels);
            let Some(mut channel) = server.channel(id) else {
                return;
            };
            if draw.one_in(2) {
                _ = channel.send_exit_status(3);
            } else {
                _ = channel.send_exit_signal(&ExitSignal {
                    signal: Signal::KILL,
                    core_dumped: true,
                    message: "it was \u{2620}".to_owned(),
                });
            }
        }
        4 => {
            if let Some(token) = draw.taken(&mut hands.globals) {
                _ = server.accept_forward(token, 8_080);
            }
        }
        _ => {}
    }
}

/// The signature that is asked for, by whichever key it is; or none, or a wrong one.
fn signed(request: &SignatureRequest, draw: &mut Draw) -> Option<Vec<u8>> {
    if draw.one_in(20) {
        return None;
    }
    let key = KINDS
        .into_iter()
        .map(key)
        .find(|key| key.public() == request.key())?;
    let data = if draw.one_in(20) { b"" } else { request.data() };
    key.sign(request.algorithm(), data).ok()
}
