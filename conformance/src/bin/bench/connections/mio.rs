//! Each end on one thread, with all sessions, on `ssh-mio`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_mio::mio::net::TcpListener;
use ssh_mio::mio::{Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::{ClientConfig, HostKey, ServerConfig};
use ssh_mio::ssh_proto::{
    ChannelEvent, ClientEvent, ClientRole, Credential, OpenChannel, OpenFailureReason, OpenKind,
    Proof, ServerEvent, ServerRole,
};
use ssh_mio::{ClientSession, ServerSession, Sessions, seed};

use super::{AT_ONCE, Keys, end_with_stdin};

const LISTENER: Token = Token(0);

/// The server: authenticates, grants channels, and does nothing.
pub(super) fn server(keys: &Keys) -> io::Result<()> {
    let (user_key, host_key) = (&keys.user, Arc::clone(&keys.host));
    let config = Arc::new(ServerConfig::new(vec![HostKey::Private(host_key)]));
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::<ServerRole>::new(Token(1));
    println!("listening on {}", listener.local_addr()?);
    end_with_stdin();
    loop {
        wait(&mut poll, &mut events, sessions.wait_time(Instant::now()))?;
        let now = Instant::now();
        for event in &events {
            if event.token() == LISTENER {
                // Never more than the client makes at once.
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
                let ssh = session.connection();
                let answered = match event {
                    ServerEvent::KeyOffered(offer) => ssh.accept_key(offer),
                    ServerEvent::LoginAttempted(attempt) => match attempt.proof() {
                        Proof::PublicKey(key) if key == user_key.public() => ssh.grant(attempt),
                        _ => ssh.refuse(attempt),
                    },
                    ServerEvent::OpenRequested(request) => match request.kind() {
                        OpenKind::Session => ssh.accept_open(request, b"").map(|_| ()),
                        _ => ssh.refuse_open(request, OpenFailureReason::UNKNOWN_CHANNEL_TYPE, ""),
                    },
                    ServerEvent::Disconnected(error) => {
                        eprintln!("a connection ended: {error}");
                        Ok(())
                    }
                    _ => Ok(()),
                };
                if let Err(error) = answered {
                    eprintln!("{error}");
                }
            }
        });
    }
}

/// The client: `count` connections with a channel each, which then do nothing.
pub(super) fn client(keys: &Keys, address: SocketAddr, count: usize) -> io::Result<()> {
    let config = Arc::new(ClientConfig::new());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::<ClientRole>::new(Token(0));
    println!("ready");
    io::stdin().read_exact(&mut [0])?;
    end_with_stdin();
    let (mut made, mut open) = (0, 0);
    loop {
        let now = Instant::now();
        while made < count && made - open < AT_ONCE {
            let mut session = ClientSession::connect(address, Arc::clone(&config), now)?;
            let credential = Credential::public_key(Arc::clone(&keys.user));
            session
                .connection()
                .authenticate("user", credential, now)
                .map_err(io::Error::other)?;
            sessions.insert(poll.registry(), session, ())?;
            made += 1;
        }
        wait(&mut poll, &mut events, sessions.wait_time(Instant::now()))?;
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        let before = open;
        let mut failure = None;
        sessions.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                let ssh = session.connection();
                let done = match event {
                    ClientEvent::HostKeyOffered(offer) if offer.key() == keys.host.public() => {
                        ssh.accept_host_key(offer).map_err(io::Error::other)
                    }
                    ClientEvent::Authenticated => ssh
                        .open(OpenChannel::Session, now)
                        .map(|_| ())
                        .map_err(io::Error::other),
                    ClientEvent::Channel(id) => {
                        let event = ssh.channel(id).and_then(|mut channel| channel.poll_event());
                        open += usize::from(matches!(event, Some(ChannelEvent::Opened { .. })));
                        Ok(())
                    }
                    ClientEvent::Disconnected(error) => Err(io::Error::other(error)),
                    _ => Ok(()),
                };
                if let Err(error) = done {
                    failure = Some(error);
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        if open == count && before < count {
            println!("connected");
            io::stdout().flush()?;
        }
    }
}

fn wait(poll: &mut Poll, events: &mut Events, longest: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, longest) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}
