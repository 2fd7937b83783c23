//! Both ends of the conversation, for whoever has the core in hand: what they do on each event.

use std::io;
use std::time::{Duration, Instant};

use ssh_mio::ssh_proto::key::PublicKey;
use ssh_mio::ssh_proto::{
    ChannelEvent, ChannelId, Client, ClientEvent, OpenChannel, OpenFailureReason, OpenKind, Proof,
    Server, ServerEvent, Stream,
};

use super::{MESSAGE, UNDER_WAY, host_key, used, user_key};

/// Opens that are waiting for an answer at a time.
const OPENS: usize = 32;

/// The client: opens the channels, then sends messages over them in turn.
pub(super) struct Talker {
    host_key: PublicKey,
    count: usize,
    channels: Vec<ChannelId>,
    opened: usize,
    /// The channel whose turn it is.
    next: usize,
    under_way: usize,
    returned: usize,
    messages: usize,
    began: Duration,
    /// What the messages have cost, once all are back.
    pub(super) cost: Option<Duration>,
}

impl Talker {
    pub(super) fn new(count: usize, messages: usize) -> io::Result<Self> {
        Ok(Self {
            host_key: host_key()?.public().clone(),
            count,
            channels: Vec::new(),
            opened: 0,
            next: 0,
            under_way: 0,
            returned: 0,
            messages,
            began: Duration::ZERO,
            cost: None,
        })
    }

    pub(super) fn event(
        &mut self,
        ssh: &mut Client,
        event: ClientEvent,
        now: Instant,
    ) -> io::Result<()> {
        match event {
            ClientEvent::HostKeyOffered(offer) if *offer.key() == self.host_key => {
                ssh.accept_host_key(offer).map_err(io::Error::other)
            }
            ClientEvent::Authenticated => self.open(ssh, now),
            ClientEvent::Channel(id) => self.channel(ssh, id, now),
            ClientEvent::Disconnected(error) => Err(io::Error::other(error)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, ssh: &mut Client, now: Instant) -> io::Result<()> {
        while self.channels.len() < self.count && self.channels.len() - self.opened < OPENS {
            let id = ssh.open(OpenChannel::Session, now);
            self.channels.push(id.map_err(io::Error::other)?);
        }
        Ok(())
    }

    fn channel(&mut self, ssh: &mut Client, id: ChannelId, now: Instant) -> io::Result<()> {
        let mut buffer = [0; MESSAGE];
        while let Some(mut channel) = ssh.channel(id)
            && let Some(event) = channel.poll_event()
        {
            match event {
                ChannelEvent::Opened { .. } => {
                    self.opened += 1;
                    self.open(ssh, now)?;
                    if self.opened == self.count {
                        self.send(ssh)?;
                    }
                }
                ChannelEvent::Data(Stream::DATA) => {
                    if channel.read(Stream::DATA, &mut buffer) != MESSAGE {
                        return Err(io::Error::other("a message in pieces"));
                    }
                    self.under_way -= 1;
                    self.returned += 1;
                    if self.returned == self.count {
                        self.began = used();
                    } else if self.returned == self.count + self.messages {
                        self.cost = Some(used() - self.began);
                    }
                    self.send(ssh)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, ssh: &mut Client) -> io::Result<()> {
        while self.under_way < UNDER_WAY
            && self.returned + self.under_way < self.count + self.messages
        {
            let channel = ssh.channel(self.channels[self.next]);
            let sent = channel.map(|mut channel| channel.write(Stream::DATA, &[7; MESSAGE]));
            if sent != Some(Ok(MESSAGE)) {
                return Err(io::Error::other("a channel had no room for a message"));
            }
            self.under_way += 1;
            self.next = (self.next + 1) % self.count;
        }
        Ok(())
    }
}

/// The server: what comes goes back.
pub(super) struct Echo {
    user_key: PublicKey,
}

impl Echo {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            user_key: user_key()?.public().clone(),
        })
    }

    pub(super) fn event(&self, ssh: &mut Server, event: ServerEvent) -> io::Result<()> {
        let answered = match event {
            ServerEvent::KeyOffered(offer) => ssh.accept_key(offer),
            ServerEvent::LoginAttempted(attempt) => match attempt.proof() {
                Proof::PublicKey(key) if *key == self.user_key => ssh.grant(attempt),
                _ => ssh.refuse(attempt),
            },
            ServerEvent::OpenRequested(request) => match request.kind() {
                OpenKind::Session => ssh.accept_open(request, b"").map(|_| ()),
                _ => ssh.refuse_open(request, OpenFailureReason::UNKNOWN_CHANNEL_TYPE, ""),
            },
            ServerEvent::Channel(id) => return echo(ssh, id),
            _ => Ok(()),
        };
        answered.map_err(io::Error::other)
    }
}

fn echo(ssh: &mut Server, id: ChannelId) -> io::Result<()> {
    let mut buffer = [0; MESSAGE];
    while let Some(mut channel) = ssh.channel(id)
        && let Some(event) = channel.poll_event()
    {
        if event == ChannelEvent::Data(Stream::DATA) {
            let len = channel.read(Stream::DATA, &mut buffer);
            let sent = channel.write(Stream::DATA, &buffer[..len]);
            if sent != Ok(MESSAGE) {
                return Err(io::Error::other("a channel had no room for an answer"));
            }
        }
    }
    Ok(())
}
