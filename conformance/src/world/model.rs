//! The channels of a world as byte queues: what was written, and so what may be read.

use std::collections::BTreeMap;
use std::fmt;

use crate::wire::draw;

/// A side of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Client,
    Server,
}

impl Who {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Which channel: who opened it, and the number that the opener gave it.
pub(super) type Key = (Who, u32);

/// All channels that were ever asked for.
#[derive(Debug, Default)]
pub(super) struct Model {
    channels: BTreeMap<Key, Chan>,
    /// The server has let the user in.
    granted: bool,
}

#[derive(Debug, Default, Clone)]
struct Chan {
    /// A session: a command that leaves a status.
    session: bool,
    opened: bool,
    /// By writer, then stream.
    flows: [[Flow; 2]; 2],
    said: [Said; 2],
    /// How the command ended, as the server said and as the client heard.
    exit: Option<u32>,
    heard_exit: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Flow {
    written: u64,
    read: u64,
}

/// What one side has done to a channel.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    eof: bool,
    close: bool,
    /// It was told of the other side's EOF.
    heard_eof: bool,
    /// It closed or let go before it had read all.
    gave_up: bool,
}

/// The byte at a position of a stream.
fn byte((opener, number): Key, writer: Who, stream: usize, position: u64) -> u8 {
    let tag = u64::from(number) << 8 | (opener as u64) << 2 | (writer as u64) << 1 | stream as u64;
    // One draw for each eight bytes.
    let mut state = tag << 40 ^ position >> 3;
    draw(&mut state).to_le_bytes()[(position & 7) as usize]
}

impl Model {
    pub(super) fn granted(&mut self) {
        self.granted = true;
    }

    /// A side believes that the user is in.
    pub(super) fn authenticated(&self, who: Who) {
        assert!(
            self.granted,
            "{who:?} has let a user in whom nobody granted it"
        );
    }

    pub(super) fn asked_for(&mut self, key: Key, session: bool) {
        let channel = Chan {
            session,
            ..Chan::default()
        };
        let before = self.channels.insert(key, channel);
        assert!(before.is_none(), "{key:?} twice");
    }

    pub(super) fn opened(&mut self, key: Key) {
        let channel = self.channel(key);
        assert!(!channel.opened, "{key:?} opened twice");
        channel.opened = true;
    }

    fn channel(&mut self, key: Key) -> &mut Chan {
        self.channels
            .get_mut(&key)
            .unwrap_or_else(|| panic!("{key:?} was never asked for"))
    }

    /// What `writer` would write next.
    pub(super) fn next_bytes(
        &mut self,
        key: Key,
        writer: Who,
        stream: usize,
        len: usize,
    ) -> Vec<u8> {
        let from = self.channel(key).flows[writer as usize][stream].written;
        (from..from + len as u64)
            .map(|position| byte(key, writer, stream, position))
            .collect()
    }

    pub(super) fn wrote(&mut self, key: Key, writer: Who, stream: usize, len: usize) {
        let said = self.channel(key).said[writer as usize];
        assert!(
            len == 0 || !(said.eof || said.close),
            "{key:?}: {writer:?} wrote after EOF"
        );
        self.channel(key).flows[writer as usize][stream].written += len as u64;
    }

    /// `reader` has read these bytes.
    pub(super) fn read_by(&mut self, key: Key, reader: Who, stream: usize, bytes: &[u8]) {
        let writer = reader.other();
        let flow = &mut self.channel(key).flows[writer as usize][stream];
        let from = flow.read;
        flow.read += bytes.len() as u64;
        assert!(
            flow.read <= flow.written,
            "{key:?}: {reader:?} reads more of stream {stream} than was written"
        );
        for (position, got) in (from..).zip(bytes) {
            assert_eq!(
                *got,
                byte(key, writer, stream, position),
                "{key:?}: {reader:?}, stream {stream}, byte {position}"
            );
        }
    }

    pub(super) fn said_eof(&mut self, key: Key, who: Who) {
        self.channel(key).said[who as usize].eof = true;
    }

    /// `who` closes, or lets go.
    pub(super) fn said_close(&mut self, key: Key, who: Who) {
        let channel = self.channel(key);
        let flows = channel.flows[who.other() as usize];
        let other = channel.said[who.other() as usize];
        let finished = other.eof || other.close;
        let waits = who == Who::Client && channel.session && !channel.heard_exit;
        let said = &mut channel.said[who as usize];
        said.gave_up |= !finished || waits || flows.iter().any(|flow| flow.read < flow.written);
        said.close = true;
    }

    /// `who` is told that the other side writes no more.
    pub(super) fn heard_eof(&mut self, key: Key, who: Who) {
        let channel = self.channel(key);
        assert!(
            channel.said[who.other() as usize].eof,
            "{key:?}: {who:?} hears an EOF that nobody said"
        );
        let said = &mut channel.said[who as usize];
        assert!(!said.heard_eof, "{key:?}: {who:?} hears EOF twice");
        said.heard_eof = true;
    }

    /// `who` is told that the channel is closed, on a connection that lives.
    pub(super) fn heard_close(&mut self, key: Key, who: Who) {
        let [client, server] = self.channel(key).said;
        assert!(
            client.close && server.close,
            "{key:?}: {who:?} hears that it is closed: {client:?}, {server:?}"
        );
    }

    /// The server says how the command ended.
    pub(super) fn said_exit(&mut self, key: Key, status: u32) {
        let channel = self.channel(key);
        assert!(channel.session && channel.exit.is_none(), "{key:?}");
        channel.exit = Some(status);
    }

    pub(super) fn heard_exit(&mut self, key: Key, status: u32) {
        let channel = self.channel(key);
        assert_eq!(channel.exit, Some(status), "{key:?}: another status");
        assert!(!channel.heard_exit, "{key:?}: the status twice");
        channel.heard_exit = true;
    }

    /// How much of a channel `who` has not read, or will never read.
    pub(super) fn unread_by(&self, key: Key, who: Who) -> u64 {
        self.channels[&key].flows[who.other() as usize]
            .iter()
            .map(|flow| flow.written - flow.read)
            .sum()
    }

    /// Whether `who` has read all that the other side wrote.
    pub(super) fn all_read(&self, key: Key, who: Who) -> bool {
        self.unread_by(key, who) == 0
    }

    /// At the end: what was written and not given up was read, and every EOF that could be heard was.
    pub(super) fn all_has_arrived(&self) {
        for (key, channel) in &self.channels {
            for reader in [Who::Client, Who::Server] {
                let (said, other) = (
                    channel.said[reader as usize],
                    channel.said[reader.other() as usize],
                );
                if said.gave_up || !channel.opened {
                    continue;
                }
                for (stream, flow) in channel.flows[reader.other() as usize].iter().enumerate() {
                    assert_eq!(
                        flow.read, flow.written,
                        "{key:?}: not all of stream {stream} came to {reader:?}\n{self}"
                    );
                }
                assert!(
                    reader == Who::Server || channel.exit.is_none() || channel.heard_exit,
                    "{key:?}: the status never came\n{self}"
                );
                assert!(
                    !other.eof || said.heard_eof || said.close,
                    "{key:?}: EOF never came to {reader:?}\n{self}"
                );
            }
        }
    }

    pub(super) fn read(&self) -> u64 {
        self.channels
            .values()
            .flat_map(|channel| channel.flows.iter().flatten())
            .map(|flow| flow.read)
            .sum()
    }

    /// Bytes that were written and not read.
    pub(super) fn unread(&self) -> u64 {
        self.channels
            .values()
            .flat_map(|channel| channel.flows.iter().flatten())
            .map(|flow| flow.written - flow.read)
            .sum()
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
            .values()
            .filter(|channel| channel.opened)
            .count()
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, channel) in &self.channels {
            writeln!(f, "{key:?}: {channel:?}")?;
        }
        Ok(())
    }
}
