//! However the network cuts the bytes up and however the output is drained, the same happens: the same events, the same
//! bytes on every stream, and the same bytes on the wire.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use conformance::app::pattern_bytes;
use conformance::pair::{host_key, user_key};
use proptest::prelude::*;
use ssh_proto::key::KeyKind;
use ssh_proto::names::{Kex, Preference};
use ssh_proto::*;

/// What the client of a session saw and said. The server's part is done by the same code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Story {
    /// Every event that is no edge: `Data` and `Writable` depend on what was found empty or full when.
    events: Vec<String>,
    received: Vec<u8>,
    sent: Vec<u8>,
}

struct Cuts<'a> {
    sizes: &'a [usize],
    next: usize,
}

impl Cuts<'_> {
    fn next(&mut self) -> usize {
        self.next += 1;
        self.sizes[self.next % self.sizes.len()]
    }
}

struct Ends {
    client: Client,
    server: Server,
    now: Instant,
    stories: [Story; 2],
    client_channel: Option<ChannelId>,
    server_channel: Option<ChannelId>,
    written: [usize; 2],
}

const DATA_LEN: usize = 200_000;
static DATA: LazyLock<Vec<u8>> = LazyLock::new(|| pattern_bytes(DATA_LEN));

impl Ends {
    fn new(ciphers: &str) -> Self {
        let mut client = ClientConfig::new();
        client.transport.algorithms.ciphers = Preference::parse(ciphers).expect("ciphers");
        // The exchange whose draws all come from the seed.
        client.transport.algorithms.kex = Preference::new([Kex::Curve25519Sha256]).expect("a list");
        let server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
        let now = Instant::now();
        let mut client = Client::new(Arc::new(client), Seed::new([1; 32]), now);
        client
            .authenticate("alice", Credential::public_key(user_key()), now)
            .expect("an attempt");
        Self {
            client,
            server: Server::new(Arc::new(server), Seed::new([2; 32]), now),
            now,
            stories: Default::default(),
            client_channel: None,
            server_channel: None,
            written: [0; 2],
        }
    }

    /// Runs a session: a login, a channel, bytes both ways with EOF and a status, and a close.
    fn run(mut self, sizes: &[usize]) -> [Story; 2] {
        let mut cuts = Cuts { sizes, next: 0 };
        let mut idle = 0;
        while idle < 3 {
            let mut any = self.client_turn() | self.server_turn();
            let len = self.client.output().len().min(cuts.next());
            let bytes = self.client.output()[..len].to_vec();
            let taken = self.server.handle_bytes(&bytes, self.now);
            self.stories[0].sent.extend(&bytes[..taken]);
            self.client.consume_output(taken);
            any |= taken > 0;
            let len = self.server.output().len().min(cuts.next());
            let bytes = self.server.output()[..len].to_vec();
            let taken = self.client.handle_bytes(&bytes, self.now);
            self.stories[1].sent.extend(&bytes[..taken]);
            self.server.consume_output(taken);
            any |= taken > 0;
            idle = if any { 0 } else { idle + 1 };
        }
        self.stories
    }

    fn client_turn(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.client.poll_event() {
            any = true;
            match event {
                ClientEvent::HostKeyOffered(offer) => {
                    self.client.accept_host_key(offer).expect("a question")
                }
                ClientEvent::Authenticated => {
                    let id = self
                        .client
                        .open(OpenChannel::Session, self.now)
                        .expect("a channel");
                    let mut channel = self.client.channel(id).expect("the channel");
                    channel.env(b"LANG", b"C").expect("a request");
                    channel.start(Program::Exec(b"x")).expect("a request");
                    self.client_channel = Some(id);
                    self.stories[0].events.push("authenticated".to_owned());
                }
                ClientEvent::Channel(id) => {
                    let mut channel = self.client.channel(id).expect("the channel");
                    note(
                        std::iter::from_fn(|| channel.poll_event()),
                        &mut self.stories[0],
                    );
                }
                other => self.stories[0].events.push(format!("{other:?}")),
            }
        }
        let Some(id) = self.client_channel else {
            return any;
        };
        let opened = self.stories[0]
            .events
            .iter()
            .any(|event| event.starts_with("Opened"));
        if let Some(mut channel) = self.client.channel(id).filter(|_| opened) {
            any |= pump(&mut channel, &mut self.stories[0], &mut self.written[0]);
        }
        any
    }

    fn server_turn(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.server.poll_event() {
            any = true;
            match event {
                ServerEvent::LoginAttempted(attempt) => {
                    self.server.grant(attempt).expect("a question")
                }
                ServerEvent::OpenRequested(open) => {
                    self.server.accept_open(open, b"").expect("a question");
                }
                ServerEvent::Channel(id) => {
                    let mut channel = self.server.channel(id).expect("the channel");
                    let mut events = Vec::new();
                    while let Some(event) = channel.poll_event() {
                        if let ChannelEvent::Requested { request, token } = event {
                            self.stories[1].events.push(format!("{request:?}"));
                            if let Some(token) = token {
                                channel.reply(token, true).expect("a question");
                            }
                            // Data follows the reply to this, however the requests came.
                            if matches!(request, ChannelRequest::Exec(_)) {
                                self.server_channel = Some(id);
                            }
                        } else {
                            events.push(event);
                        }
                    }
                    note(events.into_iter(), &mut self.stories[1]);
                }
                other => self.stories[1].events.push(format!("{other:?}")),
            }
        }
        let Some(id) = self.server_channel else {
            return any;
        };
        if let Some(mut channel) = self.server.channel(id) {
            any |= pump(&mut channel, &mut self.stories[1], &mut self.written[1]);
            if self.written[1] == DATA_LEN + 1 && channel.is_eof() {
                channel.send_exit_status(3).expect("an open channel");
                channel.close();
                self.written[1] += 1;
            }
        }
        any
    }
}

fn note(events: impl Iterator<Item = ChannelEvent>, story: &mut Story) {
    for event in
        events.filter(|event| !matches!(event, ChannelEvent::Data(_) | ChannelEvent::Writable))
    {
        story.events.push(format!("{event:?}"));
    }
}

/// Writes each packet's worth when everything before it has left, so that what is written does not depend on when;
/// reads all there is.
fn pump<R: Role>(channel: &mut Channel<'_, R>, story: &mut Story, written: &mut usize) -> bool {
    let mut any = false;
    while *written < DATA_LEN {
        let end = (*written + 1_000).min(DATA_LEN);
        match channel.write(Stream::DATA, &DATA[*written..end]) {
            Ok(len) => {
                assert_eq!(len, end - *written, "a thousand bytes always fit");
                *written = end;
            }
            Err(_) => break,
        }
        any = true;
    }
    if *written == DATA_LEN {
        channel.eof();
        *written += 1;
        any = true;
    }
    while !channel.chunk(Stream::DATA).is_empty() {
        let chunk = channel.chunk(Stream::DATA);
        story.received.extend_from_slice(chunk);
        let len = chunk.len();
        channel.consume(Stream::DATA, len);
        any = true;
    }
    any
}

fn story(ciphers: &str, sizes: &[usize]) -> [Story; 2] {
    Ends::new(ciphers).run(sizes)
}

/// What must be the same whatever the cuts: everything. Commands are tied to events, and what is transferred stays
/// below the first window, so no credit is given at a time of the reader's choosing.
fn check(whole: &[Story; 2], cut: &[Story; 2]) {
    for (whole, cut) in whole.iter().zip(cut) {
        // `Eof` is told once the data before it was read, the other events when they come: between those two the order
        // is the reader's.
        let split = |story: &Story| {
            let (eof, others): (Vec<_>, Vec<_>) = story
                .events
                .iter()
                .cloned()
                .partition(|event| event == "Eof");
            assert_eq!(eof.len(), 1);
            assert!(story.events.last().is_none_or(|last| last == "Closed"));
            others
        };
        assert_eq!(split(whole), split(cut));
        assert!(whole.received == cut.received && whole.received == *DATA);
        let same = whole
            .sent
            .iter()
            .zip(&cut.sent)
            .take_while(|(a, b)| a == b)
            .count();
        assert_eq!(
            (same, whole.sent.len()),
            (cut.sent.len(), cut.sent.len()),
            "the output differs"
        );
    }
}

const CIPHERS: [&str; 4] = [
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
];

#[test]
fn single_bytes_make_no_difference() {
    for ciphers in CIPHERS {
        check(&story(ciphers, &[usize::MAX]), &story(ciphers, &[1]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cuts_of_input_or_output_make_a_difference(
        sizes in prop::collection::vec(prop_oneof![1..20_usize, 1..40_000_usize, Just(usize::MAX)], 1..30),
        which in 0..CIPHERS.len(),
    ) {
        check(&story(CIPHERS[which], &[usize::MAX]), &story(CIPHERS[which], &sizes));
    }
}
