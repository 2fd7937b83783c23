//! Both ends, for whoever has the state machine in hand.

use std::collections::HashMap;
use std::time::Instant;

use ssh_proto::{
    ChannelEvent, ChannelId, Client, ClientEvent, OpenChannel, OpenKind, Server, ServerEvent,
    Stream, WriteError,
};

use super::{CHANNELS, Deaf, KIND, REKEY_EVERY, bytes, deaf, right, total};

/// Opens that wait for an answer at a time.
const OPENS: usize = 32;

/// What one end knows of a channel.
struct Work {
    index: usize,
    sent: u64,
    received: u64,
    /// A write found no room, and none was announced since.
    blocked: bool,
    deaf: bool,
}

impl Work {
    fn new(index: usize, is_deaf: bool) -> Self {
        Self {
            index,
            sent: 0,
            received: 0,
            blocked: false,
            deaf: is_deaf,
        }
    }
}

/// The client. It opens all channels before it sends: those that are opened while others are through have larger windows.
#[derive(Default)]
pub(super) struct Talker {
    work: HashMap<ChannelId, Work>,
    asked: usize,
    waiting: usize,
    opened: usize,
    /// Channels that are through: those that were never deaf, and the others.
    pub(super) free_done: usize,
    pub(super) deaf_done: usize,
    pub(super) rekeyed: usize,
}

impl Talker {
    pub(super) fn event(&mut self, ssh: &mut Client, event: ClientEvent, now: Instant) {
        match event {
            ClientEvent::HostKeyOffered(offer) => ssh.accept_host_key(offer).unwrap(),
            ClientEvent::Authenticated => self.open(ssh, now),
            ClientEvent::Rekeyed => self.rekeyed += 1,
            ClientEvent::Channel(id) => {
                while let Some(event) = ssh.channel(id).and_then(|mut channel| channel.poll_event())
                {
                    match (&event, self.work.get_mut(&id)) {
                        (ChannelEvent::Opened { .. }, _) => {
                            self.waiting -= 1;
                            self.opened += 1;
                            if self.opened == CHANNELS {
                                self.advance_all(ssh);
                            }
                        }
                        (ChannelEvent::Writable, Some(work)) => work.blocked = false,
                        _ => {}
                    }
                    if event == ChannelEvent::Closed {
                        self.through(ssh, id, now);
                    } else {
                        self.advance(ssh, id);
                    }
                }
                self.open(ssh, now);
            }
            ClientEvent::Disconnected(error) => panic!("{error}"),
            _ => {}
        }
    }

    fn open(&mut self, ssh: &mut Client, now: Instant) {
        while self.asked < CHANNELS && self.waiting < OPENS {
            let data = (self.asked as u32).to_be_bytes();
            let kind = OpenChannel::Custom {
                kind: KIND,
                data: &data,
            };
            let Ok(id) = ssh.open(kind, now) else {
                // There was no room: an answer, or the end of a key exchange, makes some.
                return;
            };
            let is_deaf = deaf(self.asked) == Deaf::Client;
            self.work.insert(id, Work::new(self.asked, is_deaf));
            self.asked += 1;
            self.waiting += 1;
        }
    }

    /// Sends and receives as much as there is.
    fn advance(&mut self, ssh: &mut Client, id: ChannelId) {
        let (Some(work), Some(mut channel)) = (self.work.get_mut(&id), ssh.channel(id)) else {
            return;
        };
        let total = total(work.index);
        while self.opened == CHANNELS && work.sent < total && !work.blocked {
            let len = (total - work.sent).min(16 * 1024);
            match channel.write(Stream::DATA, &bytes(work.index, work.sent, len)) {
                Ok(len) => work.sent += len as u64,
                Err(WriteError::Blocked) => work.blocked = true,
                Err(error) => panic!("{error}"),
            }
            if work.sent == total {
                channel.eof();
            }
        }
        while !work.deaf && !channel.chunk(Stream::DATA).is_empty() {
            let chunk = channel.chunk(Stream::DATA);
            assert!(right(work.index, work.received, chunk), "lost or reordered");
            let len = chunk.len();
            work.received += len as u64;
            channel.consume(Stream::DATA, len);
        }
    }

    fn through(&mut self, ssh: &mut Client, id: ChannelId, now: Instant) {
        self.advance(ssh, id);
        let work = self.work.remove(&id).unwrap();
        assert_eq!(work.received, total(work.index), "channel {}", work.index);
        ssh.channel(id).unwrap().release();
        if deaf(work.index) == Deaf::No {
            self.free_done += 1;
            if self.free_done.is_multiple_of(REKEY_EVERY) {
                ssh.rekey(now).unwrap();
            }
        } else {
            self.deaf_done += 1;
        }
    }

    /// Reads everywhere from now on.
    pub(super) fn hear(&mut self, ssh: &mut Client) {
        for work in self.work.values_mut() {
            work.deaf = false;
        }
        self.advance_all(ssh);
    }

    fn advance_all(&mut self, ssh: &mut Client) {
        let ids: Vec<ChannelId> = self.work.keys().copied().collect();
        for id in ids {
            self.advance(ssh, id);
        }
    }

    pub(super) fn is_through(&self) -> bool {
        self.free_done + self.deaf_done == CHANNELS
    }

    pub(super) fn free_are_through(&self) -> bool {
        self.free_done == CHANNELS / 10 * 8
    }
}

/// The server.
#[derive(Default)]
pub(super) struct Echo {
    work: HashMap<ChannelId, Work>,
    done: usize,
}

impl Echo {
    pub(super) fn event(&mut self, ssh: &mut Server, event: ServerEvent, now: Instant) {
        match event {
            ServerEvent::KeyOffered(offer) => ssh.accept_key(offer).unwrap(),
            ServerEvent::LoginAttempted(attempt) => ssh.grant(attempt).unwrap(),
            ServerEvent::OpenRequested(request) => {
                let OpenKind::Custom { data, .. } = request.kind() else {
                    panic!("another kind")
                };
                let index = u32::from_be_bytes(data[..].try_into().unwrap()) as usize;
                let id = ssh.accept_open(request, b"").unwrap();
                let is_deaf = deaf(index) == Deaf::Server;
                self.work.insert(id, Work::new(index, is_deaf));
            }
            ServerEvent::Channel(id) => {
                while let Some(mut channel) = ssh.channel(id)
                    && let Some(event) = channel.poll_event()
                {
                    if event == ChannelEvent::Closed {
                        channel.release();
                        self.work.remove(&id);
                        self.done += 1;
                        // Not at the same times as the client.
                        if self.done % REKEY_EVERY == REKEY_EVERY / 2 {
                            ssh.rekey(now).unwrap();
                        }
                    } else {
                        self.advance(ssh, id);
                    }
                }
            }
            ServerEvent::Disconnected(error) => println!("{error}"),
            _ => {}
        }
    }

    fn advance(&self, ssh: &mut Server, id: ChannelId) {
        let (Some(work), Some(mut channel)) = (self.work.get(&id), ssh.channel(id)) else {
            return;
        };
        if work.deaf {
            return;
        }
        loop {
            let chunk = channel.chunk(Stream::DATA);
            let chunk = chunk[..chunk.len().min(32 * 1024)].to_vec();
            if chunk.is_empty() {
                break;
            }
            match channel.write(Stream::DATA, &chunk) {
                Ok(len) => channel.consume(Stream::DATA, len),
                Err(WriteError::Blocked) => return,
                // It was closed, with everything that was to be sent.
                Err(_) => return,
            }
        }
        if channel.is_eof() {
            channel.eof();
            channel.close();
        }
    }

    /// Reads everywhere from now on.
    pub(super) fn hear(&mut self, ssh: &mut Server) {
        let ids: Vec<ChannelId> = self.work.keys().copied().collect();
        for id in ids {
            if let Some(work) = self.work.get_mut(&id) {
                work.deaf = false;
            }
            self.advance(ssh, id);
        }
    }
}
