//! Both ends on one thread with `ssh-mio`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_mio::mio::net::TcpListener;
use ssh_mio::mio::{Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::{ClientConfig, ServerConfig};
use ssh_mio::ssh_proto::error::DisconnectReason;
use ssh_mio::ssh_proto::key::PublicKey;
use ssh_mio::ssh_proto::{
    ChannelEvent, ChannelId, ChannelRequest, ClientEvent, ClientRole, Credential, Error,
    OpenChannel, OpenFailureReason, OpenKind, Program, Proof, Server, ServerEvent, ServerRole,
    Stream,
};
use ssh_mio::{ClientSession, ServerSession, Sessions, seed};

use super::{ANSWER, AT_ONCE, COMMAND, Login};

const LISTENER: Token = Token(0);

pub(super) fn server(config: ServerConfig, user_key: &PublicKey) -> io::Result<()> {
    let config = Arc::new(config);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::<ServerRole>::new(Token(1));
    println!("listening on {}", listener.local_addr()?);
    loop {
        wait(&mut poll, &mut events, sessions.wait_time(Instant::now()))?;
        let now = Instant::now();
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let session = ServerSession::new(stream, Arc::clone(&config), seed()?, now);
                    sessions.insert(poll.registry(), session, ())?;
                }
            } else {
                sessions.note(event);
            }
        }
        sessions.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                answer(session.connection(), event, user_key);
            }
        });
    }
}

fn answer(ssh: &mut Server, event: ServerEvent, user_key: &PublicKey) {
    let answered = match event {
        ServerEvent::KeyOffered(offer) if offer.key() == user_key => ssh.accept_key(offer),
        ServerEvent::KeyOffered(offer) => ssh.refuse_key(offer),
        ServerEvent::LoginAttempted(attempt) => match attempt.proof() {
            Proof::PublicKey(key) if key == user_key => ssh.grant(attempt),
            _ => ssh.refuse(attempt),
        },
        ServerEvent::OpenRequested(request) => match request.kind() {
            OpenKind::Session => ssh.accept_open(request, b"").map(|_| ()),
            _ => ssh.refuse_open(request, OpenFailureReason::UNKNOWN_CHANNEL_TYPE, ""),
        },
        ServerEvent::Channel(id) => {
            execute(ssh, id);
            Ok(())
        }
        _ => Ok(()),
    };
    if let Err(error) = answered {
        eprintln!("{error}");
    }
}

fn execute(ssh: &mut Server, id: ChannelId) {
    while let Some(mut channel) = ssh.channel(id)
        && let Some(event) = channel.poll_event()
    {
        match event {
            ChannelEvent::Requested { request, token } => {
                let known =
                    matches!(&request, ChannelRequest::Exec(text) if text == COMMAND.as_bytes());
                // What fails here fails because the connection has ended.
                if let Some(token) = token {
                    _ = channel.reply(token, known);
                }
                if known {
                    _ = channel.write(Stream::DATA, ANSWER);
                    _ = channel.send_exit_status(0);
                    channel.eof();
                    channel.close();
                }
            }
            ChannelEvent::Closed => channel.release(),
            _ => {}
        }
    }
}

pub(super) fn client(login: &Login, count: usize) -> io::Result<()> {
    let config = Arc::new(login.config.clone());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::<ClientRole, Progress>::new(Token(0));
    let (mut made, mut done) = (0, 0);
    while done < count {
        let now = Instant::now();
        while made < count && sessions.len() < AT_ONCE {
            made += 1;
            let session = connect(login, &config, now)?;
            sessions.insert(poll.registry(), session, Progress::default())?;
        }
        wait(&mut poll, &mut events, sessions.wait_time(Instant::now()))?;
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        let mut failure = None;
        sessions.run(poll.registry(), now, |_, session, progress| {
            match serve(session, progress, now) {
                Ok(ended) => done += usize::from(ended),
                Err(error) => failure = Some(error),
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
    }
    Ok(())
}

/// How far a connection is.
#[derive(Default)]
struct Progress {
    received: usize,
    said: bool,
}

fn connect(login: &Login, config: &Arc<ClientConfig>, now: Instant) -> io::Result<ClientSession> {
    let mut session = ClientSession::connect(login.address, Arc::clone(config), now)?;
    let credential = Credential::public_key(Arc::clone(&login.key));
    session
        .connection()
        .authenticate(&login.user, credential, now)
        .map_err(io::Error::other)?;
    Ok(session)
}

/// Whether the connection has ended as it should.
fn serve(session: &mut ClientSession, progress: &mut Progress, now: Instant) -> io::Result<bool> {
    while let Some(event) = session.poll_event() {
        let ssh = session.connection();
        match event {
            ClientEvent::HostKeyOffered(offer) => {
                ssh.accept_host_key(offer).map_err(io::Error::other)?;
            }
            ClientEvent::Authenticated => {
                let id = ssh
                    .open(OpenChannel::Session, now)
                    .map_err(io::Error::other)?;
                if let Some(mut channel) = ssh.channel(id) {
                    channel
                        .start(Program::Exec(COMMAND.as_bytes()))
                        .map_err(io::Error::other)?;
                }
            }
            ClientEvent::Channel(id) => {
                let mut closed = false;
                while let Some(mut channel) = ssh.channel(id)
                    && let Some(event) = channel.poll_event()
                {
                    match event {
                        ChannelEvent::Data(stream) => {
                            progress.received += channel.chunk(stream).len();
                            channel.consume(stream, ANSWER.len());
                        }
                        ChannelEvent::Closed => closed = true,
                        _ => {}
                    }
                }
                if closed {
                    if progress.received != ANSWER.len() {
                        return Err(io::Error::other("another answer"));
                    }
                    progress.said = true;
                    ssh.disconnect(DisconnectReason::BY_APPLICATION, "", now);
                }
            }
            ClientEvent::AuthenticationRefused { .. } => {
                return Err(io::Error::other("permission denied"));
            }
            ClientEvent::Disconnected(Error::LocallyClosed) if progress.said => return Ok(true),
            ClientEvent::Disconnected(error) => return Err(io::Error::other(error)),
            _ => {}
        }
    }
    Ok(false)
}

fn wait(poll: &mut Poll, events: &mut Events, longest: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, longest) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}
