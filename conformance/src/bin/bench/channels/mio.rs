//! Both ends on one thread with `ssh-mio`, over a loopback socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_mio::mio::net::TcpListener;
use ssh_mio::mio::{Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::ClientConfig;
use ssh_mio::ssh_proto::{ClientRole, Credential, ServerRole};
use ssh_mio::{ClientSession, ServerSession, Sessions, seed};

use super::talk::{Echo, Talker};
use super::{server_config, user_key};

const LISTENER: Token = Token(0);
const SERVER: Token = Token(1);
const CLIENT: Token = Token(2);

pub(super) fn run(count: usize, messages: usize) -> io::Result<Duration> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(16);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let config = Arc::new(server_config()?);
    let mut servers = Sessions::<ServerRole>::new(SERVER);
    let mut clients = Sessions::<ClientRole>::new(CLIENT);

    let now = Instant::now();
    let address = listener.local_addr()?;
    let mut session = ClientSession::connect(address, Arc::new(ClientConfig::new()), now)?;
    session
        .connection()
        .authenticate("user", Credential::public_key(user_key()?), now)
        .map_err(io::Error::other)?;
    clients.insert(poll.registry(), session, ())?;

    let mut talker = Talker::new(count, messages)?;
    let echo = Echo::new()?;
    let mut failure = None;
    loop {
        let now = Instant::now();
        let longest = [servers.wait_time(now), clients.wait_time(now)];
        let longest = longest.into_iter().flatten().min();
        match poll.poll(&mut events, longest) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        let now = Instant::now();
        for event in &events {
            match event.token() {
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        let session = ServerSession::new(stream, Arc::clone(&config), seed()?, now);
                        servers.insert(poll.registry(), session, ())?;
                    }
                }
                SERVER => servers.note(event),
                _ => clients.note(event),
            }
        }
        servers.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                if let Err(error) = echo.event(session.connection(), event) {
                    failure = Some(error);
                }
            }
        });
        clients.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                if let Err(error) = talker.event(session.connection(), event, now) {
                    failure = Some(error);
                }
            }
        });
        match (failure.take(), talker.cost) {
            (Some(error), _) => return Err(error),
            (None, Some(cost)) => return Ok(cost),
            (None, None) => {}
        }
    }
}
