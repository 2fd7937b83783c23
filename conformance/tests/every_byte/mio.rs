//! Both sides in one event loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_mio::mio::net::UnixStream;
use ssh_mio::mio::{Events, Poll, Token};
use ssh_mio::{ClientSession, ServerSession, Sessions, seed};
use ssh_proto::adapter::Error;
use ssh_proto::{
    ChannelEvent, ChannelId, ClientEvent, ClientRole, Credential, DisconnectReason, OpenChannel,
    Program, Role, ServerEvent, ServerRole, Stream,
};

use crate::line::{Cut, Line};
use crate::side::{
    CONNECTED, ENDED, LET_IN, PROVEN, STARTED, Session, Side, WORDS, Who, client_config, keys,
    server_config,
};

/// A side in the loop.
struct Guest {
    side: Side,
    channel: Option<ChannelId>,
    said: Vec<u8>,
    end: Option<Result<(), Error>>,
}

impl Guest {
    fn new(side: &Side) -> Self {
        Self {
            side: side.clone(),
            channel: None,
            said: Vec::new(),
            end: None,
        }
    }

    /// Notes a step, once.
    fn did(&self, step: &'static str) -> bool {
        let new = !self.side.names().contains(&step);
        if new {
            self.side.did(step);
        }
        new
    }

    /// Takes what the peer has said; the next word, when it is whole.
    fn hear(&mut self, chunk: &[u8]) -> Option<&'static str> {
        self.said.extend_from_slice(chunk);
        let all = WORDS.concat();
        assert!(all.as_bytes().starts_with(&self.said));
        let word = WORDS[(self.said.len() / 3).checked_sub(1)?];
        self.did(word).then_some(word)
    }
}

/// Over a pair of sockets.
pub(crate) fn play(cut: Option<(Who, Cut)>) -> Session {
    let (client, server) = (Side::default(), Side::default());
    let (near, far) = UnixStream::pair().unwrap();
    let line = |stream, who, side: &Side| {
        let cut = cut.filter(|cut| cut.0 == who).map(|cut| cut.1);
        Line::new(stream, cut, side.heard.clone())
    };
    let now = Instant::now();
    let mut visitor = ClientSession::new(
        line(near, Who::Client, &client),
        Arc::new(client_config()),
        seed().unwrap(),
        now,
    );
    let credential = Credential::public_key(Arc::clone(&keys().1));
    visitor
        .connection()
        .authenticate("user", credential, now)
        .unwrap();
    let host = ServerSession::new(
        line(far, Who::Server, &server),
        Arc::new(server_config()),
        seed().unwrap(),
        now,
    );
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut clients = Sessions::<ClientRole, _, _>::new(Token(0));
    let mut servers = Sessions::<ServerRole, _, _>::new(Token(1));
    clients
        .insert(poll.registry(), visitor, Guest::new(&client))
        .unwrap();
    servers
        .insert(poll.registry(), host, Guest::new(&server))
        .unwrap();
    let (mut client_end, mut server_end) = (None, None);
    let start = now;
    while !(clients.is_empty() && servers.is_empty()) {
        assert!(start.elapsed() < Duration::from_secs(30), "it hangs");
        let now = Instant::now();
        let wait = [clients.wait_time(now), servers.wait_time(now)];
        poll.poll(&mut events, wait.into_iter().flatten().min())
            .unwrap();
        for event in &events {
            clients.note(event);
            servers.note(event);
        }
        let now = Instant::now();
        clients.run(poll.registry(), now, |_, session, guest| {
            visit(session, guest, now);
            client_end = client_end.take().or_else(|| guest.end.take());
        });
        servers.run(poll.registry(), now, |_, session, guest| {
            serve(session, guest);
            server_end = server_end.take().or_else(|| guest.end.take());
        });
    }
    Session {
        client,
        server,
        client_end: client_end.unwrap(),
        server_end: server_end.unwrap(),
    }
}

/// How a session has ended, in the words of the other adapters.
fn ended<R: Role>(
    session: &ssh_mio::Session<R, Line<UnixStream>>,
    error: ssh_proto::Error,
) -> Result<(), Error> {
    use ssh_proto::Error as Core;
    match (error, session.io_error()) {
        (Core::UnexpectedEof(_), Some(error)) => {
            Err(Error::from(std::io::Error::from(error.kind())))
        }
        (Core::LocallyClosed | Core::Disconnected(_), _) => Ok(()),
        (error, _) => Err(error.into()),
    }
}

/// The client's side.
fn visit(session: &mut ClientSession<Line<UnixStream>>, guest: &mut Guest, now: Instant) {
    while let Some(event) = session.poll_event() {
        match event {
            ClientEvent::HostKeyOffered(offer) => {
                session.connection().accept_host_key(offer).unwrap();
            }
            ClientEvent::Authenticated => {
                guest.did(CONNECTED);
                guest.did(LET_IN);
                let id = session.connection().open(OpenChannel::Session, now);
                // The end may be there already.
                let Ok(id) = id else { continue };
                let mut channel = session.channel(id).unwrap();
                channel.start(Program::Exec(b"echo")).unwrap();
                guest.channel = Some(id);
            }
            ClientEvent::Channel(id) => {
                assert_eq!(guest.channel, Some(id));
                let Some(mut channel) = session.channel(id) else {
                    continue;
                };
                while let Some(event) = channel.poll_event() {
                    match event {
                        ChannelEvent::Replied { accepted, .. } => {
                            assert!(accepted);
                            guest.did(STARTED);
                            _ = channel.write(Stream::DATA, WORDS[0].as_bytes());
                        }
                        ChannelEvent::Data(stream) => {
                            let chunk = channel.chunk(stream).to_vec();
                            channel.consume(stream, chunk.len());
                            match guest.hear(&chunk) {
                                Some(word) if word == WORDS[0] => {
                                    _ = channel.write(stream, WORDS[1].as_bytes());
                                }
                                Some(_) => channel.eof(),
                                None => {}
                            }
                        }
                        ChannelEvent::Closed if channel.is_closed_by_peer() => {
                            guest.did(ENDED);
                        }
                        _ => {}
                    }
                }
                if guest.side.names().contains(&ENDED) {
                    session.disconnect(DisconnectReason::BY_APPLICATION, "", now);
                }
            }
            ClientEvent::Disconnected(error) => guest.end = Some(ended(session, error)),
            _ => {}
        }
    }
    if session.connection().negotiated().is_some() {
        guest.did(CONNECTED);
    }
}

/// The server's side.
fn serve(session: &mut ServerSession<Line<UnixStream>>, guest: &mut Guest) {
    while let Some(event) = session.poll_event() {
        match event {
            ServerEvent::KeyOffered(offer) => {
                _ = session.connection().accept_key(offer);
            }
            ServerEvent::LoginAttempted(attempt) => {
                guest.did(PROVEN);
                _ = session.connection().grant(attempt);
            }
            ServerEvent::Authenticated { .. } => _ = guest.did(LET_IN),
            ServerEvent::OpenRequested(request) => {
                _ = session.connection().accept_open(request, b"");
            }
            ServerEvent::Channel(id) => {
                let Some(mut channel) = session.channel(id) else {
                    continue;
                };
                while let Some(event) = channel.poll_event() {
                    match event {
                        ChannelEvent::Requested { token, .. } => {
                            guest.did(STARTED);
                            _ = channel.reply(token.unwrap(), true);
                        }
                        ChannelEvent::Data(stream) => {
                            let chunk = channel.chunk(stream).to_vec();
                            channel.consume(stream, chunk.len());
                            if let Some(word) = guest.hear(&chunk) {
                                _ = channel.write(stream, word.as_bytes());
                            }
                        }
                        ChannelEvent::Eof => {
                            guest.did(ENDED);
                            _ = channel.send_exit_status(0);
                            channel.close();
                        }
                        _ => {}
                    }
                }
            }
            ServerEvent::Disconnected(error) => {
                let end = ended(session, error);
                guest.side.program_ended(end.clone());
                guest.end = Some(end);
            }
            _ => {}
        }
    }
}
