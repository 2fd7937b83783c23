//! Applications that do what a stream of choices says: anything that the public API allows, in any order.

use std::time::{Duration, Instant};

use meter::Cost;
use ssh_proto::key::PublicKey;
use ssh_proto::msg::modes::TerminalModes;
use ssh_proto::{
    Answer, AuthMethod, Channel, ChannelEvent, ChannelId, ClientEvent, ClientRole, Connection,
    Credential, DisconnectReason, Draft, Error, ExitSignal, ForwardAddress, GlobalRequestKind,
    GlobalRequestReceived, Misuse, OpenChannel, OpenFailureReason, OpenRequest, Program,
    PromptRound, PtyRequest, RequestToken, Role, Secret, ServerEvent, ServerRole, Signal, Stream,
    WindowSize, WriteError,
};

use crate::session::{user_key, user_public_key};

/// A stream of choices. When it is used up every choice is 0.
#[derive(Debug, Clone)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// The choices that these bytes are.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Nothing is left to choose.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// A number of any size: small ones and powers of two are the likely ones.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            byte @ 0..=127 => u32::from(byte),
            byte @ 128..=159 => 1_u32 << (byte - 128),
            byte @ 160..=191 => (1_u32 << (byte - 160)).wrapping_sub(1),
            byte @ 192..=254 => u32::from(byte) << 8 | u32::from(self.byte()),
            255 => u32::from_be_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// So many bytes, or what there is.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A piece of at most `max` bytes, its length in front.
    pub fn piece(&mut self, max: u32) -> &'a [u8] {
        let len = self.number().min(max);
        self.bytes(len as usize)
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece(40)).into_owned()
    }
}

/// What an application does, whichever role it plays.
#[derive(Debug)]
pub struct Steered<R: Role> {
    /// The connection.
    pub conn: Connection<R>,
    /// The time that it was told last.
    pub now: Instant,
    channels: Vec<ChannelId>,
    tokens: Vec<(ChannelId, RequestToken)>,
    draft: Draft,
    /// Why it has ended.
    pub ended: Option<Error>,
    /// What it has cost.
    pub cost: Cost,
}

impl<R: Role> Steered<R> {
    /// An application that has done nothing yet.
    pub fn new(conn: Connection<R>, now: Instant) -> Self {
        Self {
            conn,
            now,
            channels: Vec::new(),
            tokens: Vec::new(),
            draft: Draft::new(),
            ended: None,
            cost: Cost::new(),
        }
    }

    /// Bytes of the peer: those that were taken.
    pub fn hear(&mut self, bytes: &[u8]) -> usize {
        let taken = self.cost.hear(&mut self.conn, bytes, self.now);
        assert!(taken <= bytes.len());
        taken
    }

    /// Lets time pass: up to the next timer, or by a power of two of milliseconds.
    pub fn wait(&mut self, choices: &mut Choices<'_>) {
        let step = Duration::from_millis(1 << choices.below(24));
        let next = self.conn.poll_timeout().filter(|_| choices.below(2) == 0);
        self.now = next.map_or(self.now + step, |next| next.max(self.now));
        self.cost.wait(&mut self.conn, self.now);
    }

    /// Has some of the output taken away; gives it.
    pub fn drain(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        if choices.below(4) == 0 {
            let mut output = vec![0xee; choices.below(3)];
            self.cost
                .act(&mut self.conn, |conn| conn.swap_output(&mut output));
            return output;
        }
        let len = (choices.number() as usize).min(self.conn.output().len());
        let output = self.conn.output().get(..len).unwrap_or_default().to_vec();
        self.cost
            .act(&mut self.conn, |conn| conn.consume_output(len));
        output
    }

    /// What holds at all times.
    pub fn check(&mut self) {
        assert!(
            !matches!(self.conn.closed(), Some(Error::Bug(_))),
            "{:?}",
            self.conn.closed()
        );
        assert!(self.conn.output().len() < 1 << 20, "output without a bound");
        while self.conn.poll_log().is_some() {}
        self.channels.retain(|&id| self.conn.channel(id).is_some());
    }

    fn channel_event(&mut self, id: ChannelId, choices: &mut Choices<'_>) {
        if !self.channels.contains(&id) {
            self.channels.push(id);
        }
        while let Some(mut channel) = self.conn.channel(id) {
            let Some(event) = channel.poll_event() else {
                break;
            };
            match event {
                ChannelEvent::Requested {
                    token: Some(token), ..
                } => match choices.below(3) {
                    0 => self.tokens.push((id, token)),
                    verdict => _ = channel.reply(token, verdict == 1),
                },
                ChannelEvent::Closed if choices.below(2) == 0 => channel.release(),
                _ => {}
            }
        }
    }

    fn answer_open(&mut self, request: OpenRequest, choices: &mut Choices<'_>) {
        match choices.below(4) {
            0 => {
                let reason = OpenFailureReason(choices.number());
                _ = self.conn.refuse_open(request, reason, &choices.text());
            }
            // The question is dropped: it is never answered.
            1 => {}
            _ => {
                if let Ok(id) = self.conn.accept_open(request, b"") {
                    self.channels.push(id);
                }
            }
        }
    }

    fn answer_global(&mut self, request: GlobalRequestReceived, choices: &mut Choices<'_>) {
        if let Some(token) = request.token {
            let answer = match choices.below(3) {
                0 => Answer::Refuse,
                1 => Answer::Accept(&[]),
                _ => return,
            };
            _ = self.conn.answer_global(token, answer);
        }
    }

    /// Something that both roles can do with a channel.
    fn use_channel(&mut self, choices: &mut Choices<'_>) {
        let Some(&id) = self.channels.get(choices.below(self.channels.len())) else {
            return;
        };
        if let Some(i) = self.tokens.iter().position(|(channel, _)| *channel == id)
            && choices.below(2) == 0
        {
            let (_, token) = self.tokens.swap_remove(i);
            if let Some(mut channel) = self.conn.channel(id) {
                _ = channel.reply(token, choices.below(2) == 0);
            }
            return;
        }
        let Some(mut channel) = self.conn.channel(id) else {
            return;
        };
        let stream = Stream([0, 0, 1, 2][choices.below(4)]);
        match choices.below(12) {
            0 => write(&mut channel, stream, choices.number()),
            1 => {
                let len = channel.read(stream, &mut [0; 1000]);
                assert!(len <= 1000);
            }
            2 => {
                let len = channel.chunk(stream).len();
                channel.consume(stream, len.min(choices.number() as usize));
            }
            3 => channel.eof(),
            4 => channel.close(),
            5 => channel.release(),
            6 => channel.discard(stream),
            7 => {
                if let Some(received) = channel.take(stream) {
                    assert!(received.pieces().all(|piece| !piece.is_empty()));
                    channel.recycle(received);
                }
            }
            8 => channel.set_receive_window(choices.number()),
            9 => {
                _ = channel.request(&choices.text(), choices.piece(100), choices.below(2) == 0);
            }
            10 => {
                channel.lay_out(stream, &mut self.draft);
                let room: usize = self.draft.slices().iter().map(|slice| slice.len()).sum();
                self.draft.fill(room.min(choices.number() as usize));
                _ = channel.send(stream, &mut self.draft);
            }
            _ => channel.combine_stderr(),
        }
    }

    /// Something that both roles can do with the connection.
    fn use_connection(&mut self, choices: &mut Choices<'_>) {
        match choices.below(24) {
            0..=2 => _ = self.conn.rekey(self.now),
            3 => _ = self.conn.ignore(choices.number() as usize),
            4 => _ = self.conn.ping(choices.piece(300), self.now),
            5..=8 => {
                let wants_reply = choices.below(2) == 0;
                _ = self.conn.global_request(
                    &choices.text(),
                    choices.piece(100),
                    wants_reply,
                    self.now,
                );
            }
            9 => {
                let reason = DisconnectReason(choices.number());
                self.conn.disconnect(reason, &choices.text(), self.now);
            }
            10 => self.conn.handle_eof(self.now),
            _ => self.use_channel(choices),
        }
    }

    fn open(&mut self, kind: OpenChannel<'_>) {
        match self.conn.open(kind, self.now) {
            Ok(id) => self.channels.push(id),
            Err(Misuse::Closed) => assert!(self.conn.closed().is_some()),
            Err(_) => {}
        }
    }
}

fn write<R: Role>(channel: &mut Channel<'_, R>, stream: Stream, len: u32) {
    let data = vec![0x61; len.min(100_000) as usize];
    match channel.write_parts(stream, &[&data, b"tail"]) {
        Ok(taken) => assert!(taken <= data.len() + 4),
        Err(WriteError::Blocked | WriteError::Closed) => {}
    }
}

/// An application that does something, as its role can.
pub trait Acts {
    /// Takes every event, and answers questions.
    fn react(&mut self, choices: &mut Choices<'_>);
    /// Does something unasked.
    fn act(&mut self, choices: &mut Choices<'_>);
}

impl Acts for Steered<ServerRole> {
    fn react(&mut self, choices: &mut Choices<'_>) {
        while let Some(event) = self.conn.poll_event() {
            assert!(self.ended.is_none(), "an event after the last");
            self.cost.event();
            match event {
                ServerEvent::KeyOffered(offer) => match choices.below(4) {
                    0 => _ = self.conn.refuse_key(offer),
                    1 => {}
                    _ => _ = self.conn.accept_key(offer),
                },
                ServerEvent::LoginAttempted(attempt) => {
                    let round = PromptRound::new("n", "i").with_prompt("p", false);
                    _ = match choices.below(8) {
                        0 => self.conn.refuse(attempt),
                        1 => self.conn.partial(attempt, &[AuthMethod::PublicKey]),
                        2 => self.conn.prompt(attempt, &round),
                        3 => self.conn.require_password_change(attempt, "change"),
                        4 => Ok(()),
                        _ => self.conn.grant(attempt),
                    };
                }
                ServerEvent::SignatureNeeded(request) => {
                    _ = self
                        .conn
                        .supply_signature(request, Some(choices.piece(200)));
                }
                ServerEvent::Channel(id) => self.channel_event(id, choices),
                ServerEvent::OpenRequested(request) => self.answer_open(request, choices),
                ServerEvent::GlobalRequested(request) => {
                    if let GlobalRequestReceived {
                        kind: GlobalRequestKind::Forward(_),
                        token: Some(_),
                        ..
                    } = &request
                        && choices.below(2) == 0
                        && let Some(token) = request.token
                    {
                        _ = self.conn.accept_forward(token, 4_000);
                    } else {
                        self.answer_global(request, choices);
                    }
                }
                ServerEvent::Disconnected(error) => self.ended = Some(error),
                _ => {}
            }
        }
    }

    fn act(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            0 => {
                let originator = ("127.0.0.1", 4);
                self.open(OpenChannel::ForwardedTcpip {
                    address: "localhost",
                    port: 80,
                    originator,
                });
            }
            1 => self.open(OpenChannel::ForwardedStreamlocal {
                path: choices.piece(20),
            }),
            2 => _ = self.conn.banner(&choices.text()),
            3 => {
                let Some(&id) = self.channels.get(choices.below(self.channels.len())) else {
                    return;
                };
                let Some(mut channel) = self.conn.channel(id) else {
                    return;
                };
                let exit = ExitSignal {
                    signal: Signal::TERM,
                    core_dumped: false,
                    message: choices.text(),
                };
                _ = match choices.below(3) {
                    0 => channel.send_exit_signal(&exit),
                    1 => channel.send_exit_status(choices.number()),
                    _ => channel.end_of_write(),
                };
            }
            _ => self.use_connection(choices),
        }
    }
}

impl Acts for Steered<ClientRole> {
    fn react(&mut self, choices: &mut Choices<'_>) {
        while let Some(event) = self.conn.poll_event() {
            assert!(self.ended.is_none(), "an event after the last");
            self.cost.event();
            match event {
                ClientEvent::HostKeyOffered(offer) => match choices.below(16) {
                    0 => _ = self.conn.reject_host_key(offer),
                    1 => {}
                    _ => _ = self.conn.accept_host_key(offer),
                },
                ClientEvent::PromptsReceived(prompts) => {
                    let answers = vec![
                        Secret::from("answer");
                        prompts.prompts().len() + choices.below(8) / 7
                    ];
                    _ = self.conn.answer(prompts, &answers);
                }
                ClientEvent::PasswordChangeRequested(request) => {
                    _ = self.conn.change_password(
                        request,
                        Secret::from("old"),
                        Secret::from("new"),
                    );
                }
                ClientEvent::SignatureNeeded(request) => {
                    let signature = choices.piece(200);
                    let signature = (choices.below(4) > 0).then_some(signature);
                    _ = self.conn.supply_signature(request, signature);
                }
                ClientEvent::Channel(id) => self.channel_event(id, choices),
                ClientEvent::OpenRequested(request) => self.answer_open(request, choices),
                ClientEvent::GlobalRequested(request) => self.answer_global(request, choices),
                ClientEvent::Disconnected(error) => self.ended = Some(error),
                _ => {}
            }
        }
    }

    fn act(&mut self, choices: &mut Choices<'_>) {
        match choices.below(12) {
            0 => {
                let public: PublicKey = user_public_key();
                let credential = match choices.below(5) {
                    0 => Credential::None,
                    1 => Credential::password("secret"),
                    2 => Credential::public_key(user_key()),
                    3 => Credential::external(public),
                    _ => Credential::keyboard_interactive(),
                };
                _ = self
                    .conn
                    .authenticate(&choices.text(), credential, self.now);
            }
            1 | 2 => self.open(OpenChannel::Session),
            3 => self.open(OpenChannel::DirectTcpip {
                host: &choices.text(),
                port: 80,
                originator: ("127.0.0.1", 4),
            }),
            4 => {
                let address = ForwardAddress::tcpip(choices.text(), 0);
                _ = self.conn.request_forward(address, self.now);
            }
            5 => _ = self.conn.no_more_sessions(self.now),
            6 | 7 => {
                let Some(&id) = self.channels.get(choices.below(self.channels.len())) else {
                    return;
                };
                let Some(mut channel) = self.conn.channel(id) else {
                    return;
                };
                let size = WindowSize {
                    columns: 80,
                    rows: choices.number(),
                    width_px: 0,
                    height_px: 0,
                };
                match choices.below(8) {
                    0 => _ = channel.start(Program::Shell),
                    1 => _ = channel.start(Program::Exec(choices.piece(50))),
                    2 => _ = channel.start(Program::Subsystem(&choices.text())),
                    3 => _ = channel.env(choices.piece(20), choices.piece(20)),
                    4 => _ = channel.resize(size),
                    5 => _ = channel.signal(&Signal::INT),
                    6 => _ = channel.send_break(choices.number()),
                    _ => {
                        let pty = PtyRequest {
                            term: choices.text(),
                            columns: 80,
                            rows: 24,
                            width_px: 0,
                            height_px: 0,
                            modes: TerminalModes::default(),
                        };
                        _ = channel.pty(&pty);
                    }
                }
            }
            _ => self.use_connection(choices),
        }
    }
}

/// A client that does what it is told.
pub type SteeredClient = Steered<ClientRole>;
/// A server that does what it is told.
pub type SteeredServer = Steered<ServerRole>;
