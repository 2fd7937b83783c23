//! A server of four commands: `echo TEXT`, `cat`, `source BYTES`, `sink`. They run in the thread that serves all
//! connections, so each does what it can at once and goes on when its channel says so.

use std::collections::BTreeMap;

use ssh_mio::ssh_proto::key::PublicKey;
use ssh_mio::ssh_proto::limits::PACKET_DATA_LEN;
use ssh_mio::ssh_proto::{
    Answer, Channel, ChannelEvent, ChannelId, ChannelRequest, LoginAttempt, OpenFailureReason,
    OpenKind, Proof, Secret, ServerEvent, ServerRole, Stream, WriteError,
};
use ssh_mio::{ServerSession, Transport};

/// What one segment of a loopback socket takes.
const TWO_PACKETS: usize = 2 * PACKET_DATA_LEN;
/// What `source` sends.
static ZEROS: [u8; TWO_PACKETS] = [0; TWO_PACKETS];

/// Who may come in, and scratch memory for all sessions.
pub(crate) struct Commands {
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) passwords: Vec<(String, Secret)>,
    scratch: Vec<u8>,
}

/// The running commands of one session.
pub(crate) type Running = BTreeMap<ChannelId, Command>;

/// What runs on a channel.
#[derive(Debug)]
pub(crate) enum Command {
    /// Sends back what comes.
    Cat,
    /// Sends so many zeros.
    Source(u64),
    /// Reads and drops what comes.
    Sink,
    /// Says something, then exits.
    Say {
        stream: Stream,
        text: Vec<u8>,
        said: usize,
        status: u32,
    },
}

impl Commands {
    pub(crate) fn new(keys: Vec<PublicKey>, passwords: Vec<(String, Secret)>) -> Self {
        Self {
            keys,
            passwords,
            scratch: vec![0; TWO_PACKETS],
        }
    }

    /// Acts on an event of a session.
    pub(crate) fn handle<S: Transport>(
        &mut self,
        session: &mut ServerSession<S>,
        running: &mut Running,
        event: ServerEvent,
    ) {
        let ssh = session.connection();
        // An answer to a question that is no longer open is a `Misuse` that changes nothing.
        _ = match event {
            ServerEvent::KeyOffered(offer) if self.keys.contains(offer.key()) => {
                ssh.accept_key(offer)
            }
            ServerEvent::KeyOffered(offer) => ssh.refuse_key(offer),
            ServerEvent::LoginAttempted(attempt) if self.admits(&attempt) => ssh.grant(attempt),
            ServerEvent::LoginAttempted(attempt) => ssh.refuse(attempt),
            ServerEvent::OpenRequested(request) => match request.kind() {
                OpenKind::Session => ssh.accept_open(request, b"").map(|_| ()),
                _ => ssh.refuse_open(
                    request,
                    OpenFailureReason::ADMINISTRATIVELY_PROHIBITED,
                    "sessions only",
                ),
            },
            ServerEvent::GlobalRequested(request) => match request.token {
                Some(token) => ssh.answer_global(token, Answer::Refuse),
                None => Ok(()),
            },
            ServerEvent::Channel(id) => {
                if let Some(mut channel) = session.channel(id) {
                    self.serve_channel(&mut channel, running);
                }
                Ok(())
            }
            ServerEvent::Disconnected(_) => {
                running.clear();
                Ok(())
            }
            _ => Ok(()),
        };
    }

    fn admits(&self, attempt: &LoginAttempt) -> bool {
        match attempt.proof() {
            Proof::PublicKey(key) => self.keys.contains(key),
            // All are compared, so that the time does not tell which one was close.
            Proof::Password(password) => self
                .passwords
                .iter()
                .fold(false, |admitted, (user, right)| {
                    admitted | (right == password && user == attempt.user())
                }),
            _ => false,
        }
    }

    fn serve_channel(&mut self, channel: &mut Channel<'_, ServerRole>, running: &mut Running) {
        let id = channel.id();
        while let Some(event) = channel.poll_event() {
            match event {
                ChannelEvent::Requested { request, token } => {
                    let command = match &request {
                        ChannelRequest::Exec(line) if !running.contains_key(&id) => {
                            Some(parse(line))
                        }
                        _ => None,
                    };
                    if let Some(token) = token {
                        _ = channel.reply(token, command.is_some());
                    }
                    if let Some(command) = command {
                        if !matches!(command, Command::Cat | Command::Sink) {
                            channel.discard(Stream::DATA);
                        }
                        running.insert(id, command);
                        self.step(channel, running);
                    }
                }
                ChannelEvent::Data(_) | ChannelEvent::Writable | ChannelEvent::Eof => {
                    self.step(channel, running);
                }
                ChannelEvent::Closed => {
                    running.remove(&id);
                    return channel.release();
                }
                _ => {}
            }
        }
    }

    /// Does what can be done at once. When a command is done, its channel is closed.
    fn step(&mut self, channel: &mut Channel<'_, ServerRole>, running: &mut Running) {
        let id = channel.id();
        let Some(command) = running.get_mut(&id) else {
            return;
        };
        let status = match command {
            Command::Cat => self.cat(channel),
            Command::Source(left) => Self::source(channel, left),
            Command::Sink => {
                channel.consume(Stream::DATA, usize::MAX);
                channel.is_stream_eof(Stream::DATA).then_some(0)
            }
            Command::Say {
                stream,
                text,
                said,
                status,
            } => {
                while let Some(rest) = text.get(*said..).filter(|rest| !rest.is_empty()) {
                    match channel.write(*stream, rest) {
                        Ok(len) => *said += len,
                        Err(WriteError::Blocked) => return,
                        Err(WriteError::Closed) => break,
                    }
                }
                Some(*status)
            }
        };
        if let Some(status) = status {
            // Where the client has closed the channel, nobody wants to know.
            _ = channel.send_exit_status(status);
            channel.close();
            running.remove(&id);
        }
    }

    fn cat(&mut self, channel: &mut Channel<'_, ServerRole>) -> Option<u32> {
        loop {
            let chunk = channel.chunk(Stream::DATA);
            let len = chunk.len().min(self.scratch.len());
            if len == 0 {
                return channel.is_stream_eof(Stream::DATA).then_some(0);
            }
            self.scratch[..len].copy_from_slice(&chunk[..len]);
            match channel.write(Stream::DATA, &self.scratch[..len]) {
                Ok(written) => channel.consume(Stream::DATA, written),
                Err(WriteError::Blocked) => return None,
                Err(WriteError::Closed) => return Some(1),
            }
        }
    }

    fn source(channel: &mut Channel<'_, ServerRole>, left: &mut u64) -> Option<u32> {
        while *left > 0 {
            let len = usize::try_from(*left)
                .unwrap_or(usize::MAX)
                .min(ZEROS.len());
            match channel.write(Stream::DATA, &ZEROS[..len]) {
                Ok(written) => *left = left.saturating_sub(written as u64),
                Err(WriteError::Blocked) => return None,
                Err(WriteError::Closed) => return Some(1),
            }
        }
        Some(0)
    }
}

fn parse(line: &[u8]) -> Command {
    let text = String::from_utf8_lossy(line);
    let (name, rest) = text
        .trim()
        .split_once(' ')
        .unwrap_or_else(|| (text.trim(), ""));
    let say = |stream, text: String, status| Command::Say {
        stream,
        text: text.into_bytes(),
        said: 0,
        status,
    };
    match (name, rest.trim()) {
        ("echo", words) => say(Stream::DATA, format!("{words}\n"), 0),
        ("cat", "") => Command::Cat,
        ("sink", "") => Command::Sink,
        ("source", bytes) => match bytes.parse() {
            Ok(bytes) => Command::Source(bytes),
            Err(_) => say(Stream::STDERR, "source wants a number of bytes\n".into(), 2),
        },
        _ => say(
            Stream::STDERR,
            "there is: echo TEXT, cat, source BYTES, sink\n".into(),
            127,
        ),
    }
}
