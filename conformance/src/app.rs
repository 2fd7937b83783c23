//! A small application behind a server: programs that a scenario can start by name.

use std::collections::BTreeMap;

use ssh_proto::{
    Answer, ChannelEvent, ChannelId, ChannelRequest, ExitSignal, GlobalRequestKind, LoginAttempt,
    OpenFailureReason, OpenKind, Proof, Server, ServerEvent, Signal, Stream, WriteError,
};

/// The byte at `position` of every stream that a program makes.
pub fn pattern(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// `len` bytes of the pattern from its start.
pub fn pattern_bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(pattern).collect()
}

/// What the server's side does, and what it saw.
#[derive(Default)]
pub struct App {
    programs: BTreeMap<ChannelId, Program>,
    /// One line for each event that is not data.
    pub log: Vec<String>,
    /// What the server makes of attempts to log in.
    pub judge: Option<Judge>,
}

/// Decides about an attempt to log in.
pub type Judge = Box<dyn FnMut(&mut Server, LoginAttempt)>;

#[derive(Debug)]
enum Program {
    /// Sends back what comes, and EOF for EOF.
    Cat,
    /// Sends so many bytes on each of the streams, then ends.
    Source {
        streams: Vec<(Stream, u64, u64)>,
        status: u32,
    },
    /// Reads to the end, then says how much it was and whether it was the pattern.
    Count { read: u64, right: bool },
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
            self.event(server, event);
        }
        let ids: Vec<ChannelId> = self.programs.keys().copied().collect();
        for id in ids {
            any |= self.advance(server, id);
        }
        any
    }

    fn event(&mut self, server: &mut Server, event: ServerEvent) {
        match event {
            ServerEvent::KeyOffered(offer) => {
                self.log.push(format!("key offered by {}", offer.user()));
                server.accept_key(offer).expect("an open question");
            }
            ServerEvent::LoginAttempted(attempt) => match &mut self.judge {
                Some(judge) => judge(server, attempt),
                None if matches!(attempt.proof(), Proof::PublicKey(_) | Proof::None) => {
                    server.grant(attempt).expect("an open question");
                }
                None => server.refuse(attempt).expect("an open question"),
            },
            ServerEvent::OpenRequested(request) => match request.kind() {
                OpenKind::Session => {
                    server.accept_open(request, b"").expect("an open question");
                }
                OpenKind::DirectTcpip { host, port, .. } => {
                    self.log.push(format!("direct-tcpip {host}:{port}"));
                    let id = server.accept_open(request, b"").expect("an open question");
                    self.programs.insert(id, Program::Cat);
                }
                OpenKind::Custom { kind, data } if kind == "own@example.com" => {
                    let answer = [b"you said ", data.as_slice()].concat();
                    let id = server
                        .accept_open(request, &answer)
                        .expect("an open question");
                    self.programs.insert(id, Program::Cat);
                }
                _ => {
                    let reason = OpenFailureReason::ADMINISTRATIVELY_PROHIBITED;
                    server
                        .refuse_open(request, reason, "not here")
                        .expect("an open question");
                }
            },
            ServerEvent::GlobalRequested(request) => {
                let answer = match &request.kind {
                    GlobalRequestKind::Custom { name, data } => {
                        self.log.push(format!("global {name}"));
                        Answer::Accept(data)
                    }
                    other => {
                        self.log.push(format!("global {other:?}"));
                        Answer::Refuse
                    }
                };
                if let Some(token) = request.token {
                    server
                        .answer_global(token, answer)
                        .expect("an open question");
                }
            }
            ServerEvent::Channel(id) => self.channel(server, id),
            ServerEvent::Authenticated { user } => self.log.push(format!("authenticated {user}")),
            ServerEvent::Rekeyed => {}
            ServerEvent::Disconnected(error) => self.log.push(format!("disconnected: {error}")),
            other => self.log.push(format!("{other:?}")),
        }
    }

    fn channel(&mut self, server: &mut Server, id: ChannelId) {
        while let Some(mut channel) = server.channel(id) {
            let Some(event) = channel.poll_event() else {
                break;
            };
            match event {
                ChannelEvent::Requested { request, token } => {
                    let accept = self.request(id, &request);
                    if let Some(token) = token {
                        channel.reply(token, accept).expect("an open question");
                    }
                }
                ChannelEvent::Closed => {
                    self.programs.remove(&id);
                    self.log.push("closed".to_owned());
                    channel.release();
                }
                ChannelEvent::Data(_) | ChannelEvent::Writable => {}
                other => self.log.push(format!("{other:?}")),
            }
        }
    }

    fn request(&mut self, id: ChannelId, request: &ChannelRequest) -> bool {
        let program = match request {
            ChannelRequest::Exec(command) => String::from_utf8_lossy(command).into_owned(),
            ChannelRequest::Subsystem(name) if name == "echo" => "cat".to_owned(),
            ChannelRequest::Shell => "cat".to_owned(),
            ChannelRequest::Subsystem(_) => return false,
            other => {
                self.log.push(format!("{other:?}"));
                return true;
            }
        };
        let mut words = program.split(' ');
        let name = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        let number = |i: usize| numbers.get(i).copied().unwrap_or(0);
        let program = match name {
            "cat" => Program::Cat,
            "count" => Program::Count {
                read: 0,
                right: true,
            },
            "hold" => Program::Hold,
            "source" => Program::Source {
                streams: vec![(Stream::DATA, number(0), 0)],
                status: 0,
            },
            "both" => Program::Source {
                streams: vec![(Stream::DATA, number(0), 0), (Stream::STDERR, number(0), 0)],
                status: 0,
            },
            "exit" => Program::Source {
                streams: vec![],
                status: number(0) as u32,
            },
            "killed" => {
                self.programs.insert(
                    id,
                    Program::Source {
                        streams: vec![],
                        status: u32::MAX,
                    },
                );
                return true;
            }
            _ => return false,
        };
        self.programs.insert(id, program);
        true
    }

    fn advance(&mut self, server: &mut Server, id: ChannelId) -> bool {
        let Some(program) = self.programs.get_mut(&id) else {
            return false;
        };
        let Some(mut channel) = server.channel(id) else {
            return false;
        };
        let mut any = false;
        match program {
            Program::Cat => loop {
                let chunk = channel.chunk(Stream::DATA).to_vec();
                if chunk.is_empty() {
                    if channel.is_eof() {
                        channel.eof();
                        _ = channel.send_exit_status(0);
                        channel.close();
                        *program = Program::Ended;
                        any = true;
                    }
                    break;
                }
                match channel.write(Stream::DATA, &chunk) {
                    Ok(len) => channel.consume(Stream::DATA, len),
                    Err(WriteError::Blocked) => break,
                    Err(WriteError::Closed) => channel.consume(Stream::DATA, chunk.len()),
                }
                any = true;
            },
            Program::Source { streams, status } => {
                for (stream, total, sent) in streams.iter_mut() {
                    while sent < total {
                        let len = (*total - *sent).min(50_000);
                        let bytes: Vec<u8> = (*sent..*sent + len).map(pattern).collect();
                        match channel.write(*stream, &bytes) {
                            Ok(len) => *sent += len as u64,
                            Err(_) => break,
                        }
                        any = true;
                    }
                }
                if streams.iter().all(|(_, total, sent)| sent == total) {
                    if *status == u32::MAX {
                        let signal = ExitSignal {
                            signal: Signal::TERM,
                            core_dumped: false,
                            message: "so be it".into(),
                        };
                        _ = channel.send_exit_signal(&signal);
                    } else {
                        _ = channel.send_exit_status(*status);
                    }
                    channel.eof();
                    channel.close();
                    *program = Program::Ended;
                    any = true;
                }
            }
            Program::Count { read, right } => {
                let chunk = channel.chunk(Stream::DATA);
                for (i, byte) in chunk.iter().enumerate() {
                    *right &= *byte == pattern(*read + i as u64);
                }
                let len = chunk.len();
                *read += len as u64;
                channel.consume(Stream::DATA, len);
                any = len > 0;
                if channel.is_eof() {
                    let text = format!("{read} {right}");
                    if channel.write(Stream::DATA, text.as_bytes()).is_ok() {
                        _ = channel.send_exit_status(0);
                        channel.close();
                        *program = Program::Ended;
                        any = true;
                    }
                }
            }
            Program::Hold | Program::Ended => {}
        }
        any
    }
}
