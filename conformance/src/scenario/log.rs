//! What one side saw: one line for the connection and one for each channel, the same from every backend.
//!
//! Data is explained rather than listed: so many bytes of whose pattern, in which order. So it does not matter in what
//! pieces it came. A channel's line has what this side did and how that went, what the peer asked for, what was read, how
//! it ended: each in the order in which it happened, one after the other, since no backend promises more than that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ssh_proto::msg::modes::Mode;
use ssh_proto::{ChannelId, ChannelRequest, Stream};

use super::link::Event;
use super::script::{Exit, Who};

/// What one side saw.
pub struct Log {
    who: Who,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    did: Vec<String>,
    seen: Vec<String>,
    end: Option<String>,
    channels: BTreeMap<String, Part>,
    /// Requests of the peer, by channel: which one of the scenario it is may turn out later.
    requests: BTreeMap<ChannelId, Vec<String>>,
    names: BTreeMap<ChannelId, String>,
}

#[derive(Default)]
struct Part {
    opened: Option<String>,
    did: BTreeMap<usize, Vec<String>>,
    read: BTreeMap<Stream, Vec<u8>>,
    exited: Option<String>,
    eof: bool,
    closed: bool,
}

impl Log {
    /// Nothing yet.
    pub fn new(who: Who) -> Self {
        Self {
            who,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, name: &str, change: impl FnOnce(&mut Part)) {
        change(self.lock().channels.entry(name.to_owned()).or_default());
    }

    /// This side did something with the connection.
    pub fn did(&self, line: impl Into<String>) {
        self.lock().did.push(line.into());
    }

    /// The peer did something with the connection.
    pub fn saw(&self, line: impl Into<String>) {
        self.lock().seen.push(line.into());
    }

    /// The connection has ended.
    pub fn ended(&self, how: &str) {
        self.lock().end = Some(how.to_owned());
    }

    /// How a channel began.
    pub fn opened(&self, name: &str, how: impl Into<String>) {
        self.part(name, |part| part.opened = Some(how.into()));
    }

    /// This side did something on a channel, in one of its lists.
    pub fn did_on(&self, name: &str, track: usize, line: impl Into<String>) {
        self.part(name, |part| {
            part.did.entry(track).or_default().push(line.into());
        });
    }

    /// This side read something.
    pub fn read(&self, name: &str, stream: Stream, bytes: &[u8]) {
        self.part(name, |part| {
            part.read
                .entry(stream)
                .or_default()
                .extend_from_slice(bytes);
        });
    }

    /// Something else happened on a channel.
    pub fn happened(&self, name: &str, event: &Event) {
        self.part(name, |part| match event {
            Event::Exited(exit) => part.exited = Some(describe_exit(exit)),
            Event::Eof => part.eof = true,
            Event::Closed => part.closed = true,
        });
    }

    /// The peer made a request on a channel. Gives the channel's name, if that is known.
    pub fn requested(&self, id: ChannelId, line: String) -> Option<String> {
        let mut inner = self.lock();
        inner.requests.entry(id).or_default().push(line);
        inner.names.get(&id).cloned()
    }

    /// Which channel that is. Gives what the peer has asked for already.
    pub fn name(&self, id: ChannelId, name: &str) -> Vec<String> {
        let mut inner = self.lock();
        inner.names.insert(id, name.to_owned());
        inner.requests.get(&id).cloned().unwrap_or_default()
    }

    /// All of it, a line for the connection and one for each channel.
    pub fn lines(&self) -> Vec<String> {
        let mut inner = self.lock();
        let who = self.who.name();
        for (id, requests) in std::mem::take(&mut inner.requests) {
            let name = inner.names.get(&id).map_or("?", String::as_str).to_owned();
            let did = &mut inner.channels.entry(name).or_default().did;
            did.entry(usize::MAX).or_default().extend(requests);
        }
        let connection = inner.did.iter().chain(&inner.seen).chain(&inner.end);
        let connection: Vec<&str> = connection.map(String::as_str).collect();
        let mut lines = vec![format!("{who}: {}", connection.join("; "))];
        for (name, part) in &inner.channels {
            lines.push(format!("{who} {name}: {}", part.items(name).join("; ")));
        }
        lines
    }
}

impl Part {
    fn items(&self, name: &str) -> Vec<String> {
        let mut items: Vec<String> = self.opened.iter().cloned().collect();
        items.extend(self.did.values().flatten().cloned());
        for (stream, bytes) in &self.read {
            let stream = if *stream == Stream::DATA {
                "data"
            } else {
                "stderr"
            };
            items.push(format!("{stream} {}", explain(name, bytes)));
        }
        items.extend(self.exited.clone());
        items.extend(self.eof.then(|| "eof".to_owned()));
        items.extend(self.closed.then(|| "closed".to_owned()));
        items
    }
}

/// The byte at `position` of what a side writes to a stream of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The pattern of a stream.
    pub fn new(name: &str, who: Who, stream: Stream) -> Self {
        let mut seed = u64::from(stream.0) * 2 + u64::from(who == Who::Server);
        for byte in name.bytes() {
            seed = seed.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
        }
        Self {
            seed: crate::wire::draw(&mut seed),
        }
    }

    /// The byte at a position.
    pub const fn at(self, position: u64) -> u8 {
        (position
            .wrapping_add(self.seed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 56) as u8
    }

    /// The bytes from a position on.
    pub fn bytes(self, from: u64, len: usize) -> Vec<u8> {
        (from..from + len as u64)
            .map(|position| self.at(position))
            .collect()
    }
}

/// Says of what the bytes consist: pieces of the patterns of this channel, each from where its last piece ended.
fn explain(name: &str, bytes: &[u8]) -> String {
    /// So many bytes are no coincidence.
    const SURE: usize = 16;
    let sources = [Who::Client, Who::Server]
        .into_iter()
        .flat_map(|who| [Stream::DATA, Stream::STDERR].map(|stream| (who, stream)));
    let mut sources: Vec<_> = sources
        .map(|(who, stream)| (who, stream, Pattern::new(name, who, stream), 0_u64))
        .collect();
    let mut text = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let matching = |pattern: Pattern, from: u64| {
            let same = rest
                .iter()
                .zip(from..)
                .take_while(|(byte, at)| **byte == pattern.at(*at));
            same.count()
        };
        let found = sources
            .iter_mut()
            .map(|source| (matching(source.2, source.3), source))
            .find(|(len, _)| *len >= SURE.min(rest.len()));
        let plus = if text.is_empty() { "" } else { " + " };
        let Some((len, (who, stream, _, position))) = found else {
            _ = write!(text, "{plus}{} strange bytes", rest.len());
            return text;
        };
        let errors = if *stream == Stream::STDERR {
            " errors"
        } else {
            ""
        };
        _ = write!(text, "{plus}{len} of {}'s{errors}", who.name());
        *position += len as u64;
        at += len;
    }
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}

/// A request in the words of the log.
pub fn describe(request: &ChannelRequest) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match request {
        ChannelRequest::Pty(pty) => {
            let mut words = format!(
                "pty-req {} {}x{} {}x{}",
                pty.term, pty.columns, pty.rows, pty.width_px, pty.height_px
            );
            for (Mode(mode), argument) in pty.modes.iter() {
                _ = write!(words, " {mode}={argument}");
            }
            words
        }
        ChannelRequest::Env { name, value } => format!("env {}={}", text(name), text(value)),
        ChannelRequest::Shell => "shell".to_owned(),
        ChannelRequest::Exec(command) => format!("exec {}", text(command)),
        ChannelRequest::Subsystem(name) => format!("subsystem {name}"),
        ChannelRequest::WindowChange(size) => {
            format!("window-change {}x{}", size.columns, size.rows)
        }
        ChannelRequest::Signal(signal) => format!("signal {signal}"),
        ChannelRequest::Break { ms } => format!("break {ms}"),
        ChannelRequest::Custom { name, data } => format!("{name} {:?}", text(data)),
        other => format!("{other:?}"),
    }
}

fn describe_exit(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal(signal) => {
            let core = if signal.core_dumped {
                ", core dumped"
            } else {
                ""
            };
            format!("killed by {} {:?}{core}", signal.signal, signal.message)
        }
        Exit::Missing => "ended without a word".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_explained_by_whose_it_is_and_in_which_order() {
        let out = Pattern::new("a", Who::Server, Stream::DATA);
        let err = Pattern::new("a", Who::Server, Stream::STDERR);
        let bytes = [out.bytes(0, 100), err.bytes(0, 50), out.bytes(100, 7)].concat();
        assert_eq!(
            explain("a", &bytes),
            "100 of server's + 50 of server's errors + 7 of server's"
        );
        assert_eq!(explain("a", b""), "none");
    }

    #[test]
    fn a_byte_that_is_lost_doubled_or_changed_shows() {
        let bytes = Pattern::new("a", Who::Client, Stream::DATA).bytes(0, 1_000);
        let whole = explain("a", &bytes);
        assert_eq!(whole, "1000 of client's");
        for position in [0, 500, 999] {
            let mut lost = bytes.clone();
            lost.remove(position);
            let mut doubled = bytes.clone();
            doubled.insert(position, bytes[position]);
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            for other in [lost, doubled, changed] {
                assert_ne!(explain("a", &other), whole, "{position}");
            }
        }
        assert_ne!(explain("b", &bytes), whole);
    }
}
