//! Log records: what a caller prints under `-v`. Old ones give way.
//!
//! # What is in a record
//!
//! Never a password, an answer to a prompt, a new password, or any part of a key, whatever the level. In detail:
//!
//! | level | what |
//! |---|---|
//! | [`Error`](LogLevel::Error) | why the connection ended, with the words of the peer's DISCONNECT |
//! | [`Info`](LogLevel::Info) | versions and greetings, algorithms, the host key's fingerprint, user names, methods of authentication and how they went |
//! | [`Debug`](LogLevel::Debug) | kinds and numbers of channels, names of requests, the words of the peer's DEBUG |
//! | [`Packet`](LogLevel::Packet) | number and length of every message; of those of authentication (50 to 79) the number alone, since the length tells how long a password is |
//!
//! With [`hexdump`](crate::config::TransportConfig::hexdump) the records of packets have the bytes of the message as well,
//! in clear, both directions: all messages but 5 to 79, which are those of services, extensions, key exchange and
//! authentication. **Data of channels is among them**, and so is whatever your users send through a channel: what they type
//! at a remote prompt (a password for `sudo`, say), files, commands, environment variables.

use std::collections::VecDeque;
use std::fmt;

use crate::limits::LOG_TEXT_LEN;

/// How much a record matters. A connection keeps those up to the level of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum LogLevel {
    /// Nothing at all.
    Off,
    /// Why a connection ended.
    #[default]
    Error,
    /// Milestones: versions, algorithms, authentication.
    Info,
    /// Each step of the protocol that is not data.
    Debug,
    /// Every packet: direction, number, length; with `hexdump` also its bytes.
    Packet,
}

/// The layer that a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LogLayer {
    /// Packets and key exchange (RFC 4253).
    Transport,
    /// User authentication (RFC 4252).
    Authentication,
    /// Channels and requests (RFC 4254).
    Connection,
}

impl fmt::Display for LogLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transport => "transport",
            Self::Authentication => "auth",
            Self::Connection => "connection",
        })
    }
}

/// What a record is about, for those who group records. Text of the peer in it is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogSubject {
    /// The connection as a whole.
    Connection,
    /// The connection, which is this user's from here on.
    LoggedIn(String),
    /// A channel that begins: somebody asked for it.
    ChannelOpened {
        /// Our number of it, which later channels use again.
        number: u32,
        /// Its kind, such as `session`.
        kind: String,
    },
    /// The channel of that number.
    Channel(u32),
    /// The channel of that number, for the last time.
    ChannelClosed(u32),
    /// The connection, which has ended.
    Ended,
}

/// One record. Text of the peer in it is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// How much it matters.
    pub level: LogLevel,
    /// Where it comes from.
    pub layer: LogLayer,
    /// What it is about.
    pub subject: LogSubject,
    /// What happened.
    pub text: String,
}

impl fmt::Display for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.layer, self.text)
    }
}

/// A ring of records, bounded in their number and in their text.
#[derive(Debug)]
pub(crate) struct Log {
    records: VecDeque<LogRecord>,
    /// All their text, in bytes.
    text_len: usize,
    level: LogLevel,
    hexdump: bool,
    max: usize,
}

impl Log {
    pub(crate) const fn new(level: LogLevel, hexdump: bool, max: usize) -> Self {
        Self {
            records: VecDeque::new(),
            text_len: 0,
            level,
            hexdump,
            max,
        }
    }

    /// Adds a record when its level is wanted; only then is the text made.
    pub(crate) fn add(&mut self, level: LogLevel, layer: LogLayer, text: impl FnOnce() -> String) {
        self.add_about(level, layer, || (LogSubject::Connection, text()));
    }

    /// The same, for a record that is about something else than the connection.
    pub(crate) fn add_about(
        &mut self,
        level: LogLevel,
        layer: LogLayer,
        about: impl FnOnce() -> (LogSubject, String),
    ) {
        if level > self.level || self.max == 0 {
            return;
        }
        let (subject, text) = about();
        self.text_len = self.text_len.saturating_add(text.len());
        // The newest is kept, however long it is.
        while self.records.len() >= self.max || self.text_len > LOG_TEXT_LEN {
            let Some(oldest) = self.records.pop_front() else {
                break;
            };
            self.text_len = self.text_len.saturating_sub(oldest.text.len());
        }
        self.records.push_back(LogRecord {
            level,
            layer,
            subject,
            text,
        });
    }

    /// Whether packets are recorded.
    pub(crate) fn has_packets(&self) -> bool {
        self.level >= LogLevel::Packet
    }

    /// A log of its own for packets only, of the same kind; nothing when packets are not recorded.
    pub(crate) fn for_packets(&self) -> Option<Self> {
        self.has_packets()
            .then(|| Self::new(self.level, self.hexdump, self.max))
    }

    /// Takes over the records of another log.
    pub(crate) fn adopt(&mut self, other: &mut Self) {
        while let Some(record) = other.poll() {
            self.add_about(record.level, record.layer, || (record.subject, record.text));
        }
    }

    /// Records a packet. Bytes of authentication and key exchange may be secret and are left out; and how long a message
    /// of authentication is says how long the password in it is.
    pub(crate) fn packet(&mut self, direction: &str, payload: &[u8]) {
        let number = payload.first().copied().unwrap_or_default();
        let hexdump = self.hexdump && !matches!(number, 5..=79);
        self.add(LogLevel::Packet, LogLayer::Transport, || {
            let mut text = format!("{direction} message {number}");
            if !matches!(number, 50..=79) {
                text.push_str(&format!(", {} bytes", payload.len()));
            }
            if hexdump {
                dump(&mut text, payload);
            }
            text
        });
    }

    pub(crate) fn poll(&mut self) -> Option<LogRecord> {
        let record = self.records.pop_front()?;
        self.text_len = self.text_len.saturating_sub(record.text.len());
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
        Some(record)
    }
}

/// Sixteen bytes a line, in hex and as text.
fn dump(text: &mut String, bytes: &[u8]) {
    for (line, chunk) in bytes.chunks(16).enumerate() {
        text.push_str(&format!("\n{:04x} ", line.saturating_mul(16)));
        for byte in chunk {
            text.push_str(&format!(" {byte:02x}"));
        }
        text.extend(std::iter::repeat_n(
            ' ',
            16_usize.saturating_sub(chunk.len()).saturating_mul(3),
        ));
        text.push_str("  ");
        text.extend(chunk.iter().map(|&byte| match byte {
            0x20..=0x7e => char::from(byte),
            _ => '.',
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_gives_way() {
        let mut log = Log::new(LogLevel::Debug, false, 2);
        for i in 0..3 {
            log.add(LogLevel::Debug, LogLayer::Transport, || i.to_string());
        }
        log.add(LogLevel::Packet, LogLayer::Transport, || {
            unreachable!("not wanted")
        });
        assert_eq!(log.poll().unwrap().text, "1");
        assert_eq!(log.poll().unwrap().text, "2");
        assert_eq!(log.poll(), None);
    }

    #[test]
    fn old_text_gives_way_and_the_newest_record_never() {
        let text = |len| move || "x".repeat(len);
        let mut log = Log::new(LogLevel::Debug, false, 1_000);
        for len in [10, LOG_TEXT_LEN - 20, 10] {
            log.add(LogLevel::Debug, LogLayer::Transport, text(len));
        }
        assert_eq!(log.records.len(), 3, "all of it may wait");
        log.add(LogLevel::Debug, LogLayer::Transport, text(1));
        assert_eq!(log.records.len(), 3);
        log.add(LogLevel::Debug, LogLayer::Transport, text(LOG_TEXT_LEN + 1));
        assert_eq!(log.poll().unwrap().text.len(), LOG_TEXT_LEN + 1);
        assert_eq!((log.poll(), log.text_len), (None, 0));
    }

    #[test]
    fn a_hexdump_shows_data_but_never_a_password() {
        let mut log = Log::new(LogLevel::Packet, true, 8);
        log.packet("received", b"\x5e\0\0\0\0hello");
        log.packet("sent", b"\x32secret");
        assert!(log.poll().unwrap().text.contains("hello"));
        assert!(!log.poll().unwrap().text.contains("secret"));
    }
}
