//! Random worlds: two applications that write, read, ask, close and change keys whenever they like, and look at events
//! when they like. Nothing is lost, nothing comes twice, and when they have done everything stands still.

use std::collections::VecDeque;

use super::*;
use crate::channel::{
    Answer, ChannelEvent, ChannelId, GlobalRequestToken, OpenChannel, Program, RequestToken, Stream,
};
use crate::connection::Connection;
use crate::connection::role::Role;
use crate::error::{Misuse, WriteError};
use crate::packet::Input;

/// SplitMix64.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

const fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) >> 3) as u8
}

/// A channel as one side sees it.
#[derive(Debug)]
struct Seen {
    id: ChannelId,
    opened: bool,
    written: usize,
    read: usize,
    eof_sent: bool,
    eof: bool,
    closed: bool,
    tokens: Vec<RequestToken>,
    replies: usize,
    asked: usize,
}

impl Seen {
    const fn new(id: ChannelId, opened: bool) -> Self {
        Self {
            id,
            opened,
            written: 0,
            read: 0,
            eof_sent: false,
            eof: false,
            closed: false,
            tokens: Vec::new(),
            replies: 0,
            asked: 0,
        }
    }

    /// What both applications do with a channel.
    fn act<R: Role>(&mut self, side: &mut Connection<R>, draw: &mut Draw) {
        let Some(mut channel) = side.channel(self.id) else {
            return;
        };
        match draw.below(8) {
            0..4 if !self.eof_sent && self.opened => {
                let len = [10, 1_000, 70_000][draw.below(3)];
                let data: Vec<u8> = (self.written..self.written + len).map(byte).collect();
                match channel.write(Stream::DATA, &data) {
                    Ok(len) => self.written += len,
                    Err(WriteError::Blocked) => {}
                    Err(WriteError::Closed) => assert!(self.closed, "closed for writing"),
                }
            }
            4..7 => {
                let mut buf = vec![0; [7, 5_000, 200_000][draw.below(3)]];
                let len = channel.read(Stream::DATA, &mut buf);
                self.check(&buf[..len]);
            }
            _ if !self.tokens.is_empty() => {
                let token = self.tokens.remove(0);
                channel.reply(token, true).unwrap();
            }
            _ => {}
        }
    }

    fn check(&mut self, data: &[u8]) {
        for &got in data {
            assert_eq!(got, byte(self.read), "at {}", self.read);
            self.read += 1;
        }
    }

    fn events<R: Role>(&mut self, side: &mut Connection<R>) {
        let Some(mut channel) = side.channel(self.id) else {
            return;
        };
        while let Some(event) = channel.poll_event() {
            match event {
                ChannelEvent::Opened { .. } => self.opened = true,
                ChannelEvent::Requested { token, .. } => self.tokens.extend(token),
                ChannelEvent::Replied { accepted, .. } => {
                    assert!(accepted);
                    self.replies += 1;
                }
                ChannelEvent::Eof => {
                    assert!(!self.eof);
                    self.eof = true;
                }
                ChannelEvent::Closed => {
                    assert!(!self.closed);
                    self.closed = true;
                }
                _ => {}
            }
        }
    }

    /// Everything that is left to read and to answer.
    fn drain<R: Role>(&mut self, side: &mut Connection<R>) -> bool {
        let (before, tokens) = (self.read, self.tokens.len());
        let Some(mut channel) = side.channel(self.id) else {
            return false;
        };
        let mut buf = vec![0; 50_000];
        loop {
            let len = channel.read(Stream::DATA, &mut buf);
            if len == 0 {
                break;
            }
            for &got in &buf[..len] {
                assert_eq!(got, byte(self.read), "at {}", self.read);
                self.read += 1;
            }
        }
        for token in self.tokens.drain(..) {
            channel.reply(token, true).unwrap();
        }
        before != self.read || tokens > 0
    }
}

struct World {
    pair: Pair,
    draw: Draw,
    clients: Vec<Seen>,
    servers: Vec<Seen>,
    globals: VecDeque<GlobalRequestToken>,
    asked: u8,
    answered: u8,
    replied: u8,
    rekeyed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let mut client = ClientConfig::new();
        let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
        client.transport.algorithms.kex = Preference::new([Kex::Curve25519Sha256]).unwrap();
        server.transport.own.global_requests = vec!["x".to_owned()];
        client.transport.limits.events = 1 + draw.below(5);
        server.transport.limits.events = 1 + draw.below(5);
        for transport in [&mut client.transport, &mut server.transport] {
            transport.limits.cheap_rekeys = u32::MAX;
            transport.rekey.bytes = 20_000 + draw.below(1_000_000) as u64;
            transport.limits.window = 100_000 + draw.below(200_000) as u32;
        }
        let mut pair = Pair::new(client, server);
        pair.login();
        Self {
            pair,
            draw,
            clients: Vec::new(),
            servers: Vec::new(),
            globals: VecDeque::new(),
            asked: 0,
            answered: 0,
            replied: 0,
            rekeyed: 0,
        }
    }

    fn step(&mut self) {
        let now = self.pair.now;
        match self.draw.below(20) {
            0..5 => {
                let max = [1, 50, 3_000, 100_000][self.draw.below(4)];
                carry(
                    &mut self.pair.client,
                    &mut self.pair.server,
                    max,
                    now,
                    &mut self.draw,
                );
            }
            5..10 => {
                let max = [1, 50, 3_000, 100_000][self.draw.below(4)];
                carry(
                    &mut self.pair.server,
                    &mut self.pair.client,
                    max,
                    now,
                    &mut self.draw,
                );
            }
            10 => _ = self.client_event(),
            11 => _ = self.server_event(),
            12..14 if !self.clients.is_empty() => {
                let at = self.draw.below(self.clients.len());
                self.clients[at].act(&mut self.pair.client, &mut self.draw);
            }
            14..16 if !self.servers.is_empty() => {
                let at = self.draw.below(self.servers.len());
                self.servers[at].act(&mut self.pair.server, &mut self.draw);
            }
            16 if self.draw.one_in(5) => self.pair.client.rekey(now).unwrap(),
            17 if self.draw.one_in(5) => self.pair.server.rekey(now).unwrap(),
            18 if self.clients.len() < 4 => {
                match self.pair.client.open(OpenChannel::Session, now) {
                    Ok(id) => {
                        let mut seen = Seen::new(id, false);
                        let mut channel = self.pair.client.channel(id).unwrap();
                        channel.start(Program::Shell).unwrap();
                        seen.asked = 1;
                        self.clients.push(seen);
                    }
                    Err(misuse) => assert_eq!(misuse, Misuse::Blocked),
                }
            }
            19 if self.asked < 200 => {
                match self
                    .pair
                    .client
                    .global_request("x", &[self.asked], true, now)
                {
                    Ok(_) => self.asked += 1,
                    Err(Misuse::Blocked | Misuse::Limit(_)) => {}
                    Err(misuse) => panic!("{misuse}"),
                }
            }
            _ => {
                self.pair.now += Duration::from_millis(1);
                self.pair.client.handle_timeout(self.pair.now);
                self.pair.server.handle_timeout(self.pair.now);
                self.answer();
            }
        }
        assert_eq!(self.pair.client.closed(), None);
        assert_eq!(self.pair.server.closed(), None);
    }

    fn answer(&mut self) -> bool {
        let Some(token) = self.globals.pop_front() else {
            return false;
        };
        let answer = [self.answered];
        self.pair
            .server
            .answer_global(token, Answer::Accept(&answer))
            .unwrap();
        self.answered += 1;
        true
    }

    fn client_event(&mut self) -> bool {
        let Some(event) = self.pair.client.poll_event() else {
            return false;
        };
        match event {
            ClientEvent::Channel(id) => {
                for seen in self.clients.iter_mut().filter(|seen| seen.id == id) {
                    seen.events(&mut self.pair.client);
                }
            }
            ClientEvent::GlobalReplied { reply, .. } => {
                // More than may be asked at once is refused.
                if let Some(reply) = reply {
                    assert_eq!(reply, [self.replied]);
                    self.replied += 1;
                } else {
                    self.asked -= 1;
                }
            }
            ClientEvent::Rekeyed => self.rekeyed += 1,
            other => panic!("{other:?}"),
        }
        true
    }

    fn server_event(&mut self) -> bool {
        let Some(event) = self.pair.server.poll_event() else {
            return false;
        };
        match event {
            ServerEvent::Channel(id) => {
                for seen in self.servers.iter_mut().filter(|seen| seen.id == id) {
                    seen.events(&mut self.pair.server);
                }
            }
            ServerEvent::OpenRequested(request) => {
                let id = self.pair.server.accept_open(request, b"").unwrap();
                self.servers.push(Seen::new(id, true));
            }
            ServerEvent::GlobalRequested(request) => self.globals.extend(request.token),
            ServerEvent::Rekeyed => {}
            other => panic!("{other:?}"),
        }
        true
    }

    /// Until nothing happens any more.
    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..100_000 {
            let mut any = self.pair.carry(usize::MAX);
            while self.client_event() || self.server_event() || self.answer() {
                any = true;
            }
            for seen in &mut self.clients {
                any |= seen.drain(&mut self.pair.client);
            }
            for seen in &mut self.servers {
                any |= seen.drain(&mut self.pair.server);
            }
            assert_eq!(self.pair.client.closed(), None);
            assert_eq!(self.pair.server.closed(), None);
            idle = if any { 0 } else { idle + 1 };
            if idle > 3 {
                return;
            }
            self.pair.now += Duration::from_millis(10);
            self.pair.client.handle_timeout(self.pair.now);
            self.pair.server.handle_timeout(self.pair.now);
        }
        panic!("it never ends");
    }

    fn verdict(&self) {
        assert!(!self.pair.client.transport.is_exchanging());
        assert!(!self.pair.server.transport.is_exchanging());
        assert_eq!((self.asked, self.replied), (self.answered, self.answered));
        assert_eq!(self.clients.len(), self.servers.len());
        // The server sees them in the order in which they were opened.
        for (client, server) in self.clients.iter().zip(&self.servers) {
            assert_eq!(client.written, server.read);
            assert_eq!(server.written, client.read);
            assert_eq!(client.asked, client.replies);
        }
    }

    /// Both sides say that they have done, in some order, and close.
    fn close(&mut self) {
        for at in 0..self.clients.len() {
            let rekeys = self.draw.below(4);
            if rekeys & 1 != 0 {
                self.pair.client.rekey(self.pair.now).unwrap();
            }
            if rekeys & 2 != 0 {
                self.pair.server.rekey(self.pair.now).unwrap();
            }
            let id = self.clients[at].id;
            let mut channel = self.pair.client.channel(id).unwrap();
            channel.eof();
            if self.draw.one_in(2) {
                channel.close();
            }
            let id = self.servers[at].id;
            self.pair.server.channel(id).unwrap().close();
        }
        self.settle();
        for (client, server) in self.clients.iter().zip(&self.servers) {
            assert!(client.closed && server.closed && server.eof);
        }
    }
}

/// Moves up to `max` bytes, as a reader that sometimes finds nothing and drops its buffer.
fn carry<A: Role, B: Role>(
    from: &mut Connection<A>,
    to: &mut Connection<B>,
    max: usize,
    now: Instant,
    draw: &mut Draw,
) {
    let Ok(mut input) = to.take_input(Input::with_capacity(draw.below(5_000))) else {
        assert!(!to.wants_input());
        return;
    };
    if draw.one_in(4) {
        return;
    }
    let len = from.output().len().min(max);
    let len = input.extend(&from.output()[..len]);
    from.consume_output(len);
    to.handle_input(input, now);
}

#[test]
fn random_worlds_come_to_rest_with_everything_delivered() {
    let mut rekeyed = 0;
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..1_500 {
            world.step();
        }
        world.settle();
        world.verdict();
        world.close();
        rekeyed += world.rekeyed;
    }
    assert!(rekeyed > 300, "{rekeyed}");
}
