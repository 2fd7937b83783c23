//! The server's side of a [`Pair`](crate::pair::Pair): it lets everybody with a key in, and has a few programs that move
//! bytes.

use std::collections::BTreeMap;

use ssh_proto::{ChannelEvent, ChannelId, ChannelRequest, Server, ServerEvent, Stream, WriteError};

/// The byte at `position` of every stream that a program makes.
pub fn pattern(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// `len` bytes of the pattern from its start.
pub fn pattern_bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(pattern).collect()
}

/// What is behind the server.
#[derive(Debug, Default)]
pub struct App {
    programs: BTreeMap<ChannelId, Program>,
}

#[derive(Debug)]
enum Program {
    /// Sends so many bytes, of which some are sent, then ends.
    Source { total: u64, sent: u64 },
    /// Reads to the end.
    Sink,
    /// Reads nothing.
    Hold,
    /// Is done.
    Ended,
}

impl App {
    /// Handles what happened; says whether anything did.
    pub fn turn(&mut self, server: &mut Server) -> bool {
        let mut any = false;
        while let Some(event) = server.poll_event() {
            any = true;
            match event {
                ServerEvent::KeyOffered(offer) => {
                    server.accept_key(offer).expect("an open question");
                }
                ServerEvent::LoginAttempted(attempt) => {
                    server.grant(attempt).expect("an open question");
                }
                ServerEvent::OpenRequested(request) => {
                    server.accept_open(request, b"").expect("an open question");
                }
                ServerEvent::Channel(id) => self.channel(server, id),
                ServerEvent::Authenticated { .. } | ServerEvent::Rekeyed => {}
                other => panic!("nobody expects {other:?}"),
            }
        }
        for (id, program) in &mut self.programs {
            any |= program.advance(server, *id);
        }
        any
    }

    fn channel(&mut self, server: &mut Server, id: ChannelId) {
        while let Some(mut channel) = server.channel(id) {
            let Some(event) = channel.poll_event() else {
                break;
            };
            match event {
                ChannelEvent::Requested {
                    request: ChannelRequest::Exec(command),
                    token,
                } => {
                    self.programs.insert(id, Program::parse(&command));
                    let token = token.expect("a reply is wanted");
                    channel.reply(token, true).expect("an open question");
                }
                ChannelEvent::Closed => {
                    self.programs.remove(&id);
                    channel.release();
                }
                ChannelEvent::Data(_) | ChannelEvent::Writable | ChannelEvent::Eof => {}
                other => panic!("nobody expects {other:?}"),
            }
        }
    }
}

impl Program {
    fn parse(command: &[u8]) -> Self {
        let command = std::str::from_utf8(command).expect("a command in words");
        match command.split_once(' ') {
            Some(("source", total)) => Self::Source {
                total: total.parse().expect("a length"),
                sent: 0,
            },
            None if command == "sink" => Self::Sink,
            None if command == "hold" => Self::Hold,
            _ => panic!("no such program: {command}"),
        }
    }

    fn advance(&mut self, server: &mut Server, id: ChannelId) -> bool {
        let Some(mut channel) = server.channel(id) else {
            return false;
        };
        let mut any = false;
        let done = match self {
            Self::Source { total, sent } => {
                while sent < total {
                    let len = (*total - *sent).min(50_000);
                    let bytes: Vec<u8> = (*sent..*sent + len).map(pattern).collect();
                    match channel.write(Stream::DATA, &bytes) {
                        Ok(len) => *sent += len as u64,
                        Err(WriteError::Blocked) => break,
                        Err(error) => panic!("nobody wants the source: {error}"),
                    }
                    any = true;
                }
                sent == total
            }
            Self::Sink => {
                let len = channel.chunk(Stream::DATA).len();
                channel.consume(Stream::DATA, len);
                any = len > 0;
                channel.is_eof()
            }
            Self::Hold | Self::Ended => false,
        };
        if done {
            channel.send_exit_status(0).expect("an open channel");
            channel.close();
            *self = Self::Ended;
        }
        any || done
    }
}
