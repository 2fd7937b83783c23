//! A client on `ssh-mio`.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use ssh_mio::mio::{Events, Poll, Token};
use ssh_mio::ssh_proto::config::ClientConfig;
use ssh_mio::ssh_proto::{
    ChannelEvent, ClientEvent, ClientRole, Credential, OpenChannel, Program, Stream,
};
use ssh_mio::{ClientSession, Sessions};

use super::{Login, Pings};

pub(super) fn client(login: Login, mut pings: Pings) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(16);
    let mut sessions = Sessions::<ClientRole>::new(Token(0));
    let now = Instant::now();
    let mut session = ClientSession::connect(login.address, Arc::new(ClientConfig::new()), now)?;
    session
        .connection()
        .authenticate(&login.user, Credential::public_key(login.key), now)
        .map_err(io::Error::other)?;
    sessions.insert(poll.registry(), session, ())?;
    let mut result = None;
    while result.is_none() {
        match poll.poll(&mut events, sessions.wait_time(Instant::now())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        sessions.run(poll.registry(), now, |_, session, ()| {
            if let Err(error) = ping(session, &mut pings, &mut result, now) {
                result = Some(Err(error));
            }
        });
    }
    result.unwrap_or(Ok(()))?;
    pings.report();
    Ok(())
}

fn ping(
    session: &mut ClientSession,
    pings: &mut Pings,
    result: &mut Option<io::Result<()>>,
    now: Instant,
) -> io::Result<()> {
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
                        .start(Program::Exec(b"cat"))
                        .map_err(io::Error::other)?;
                }
            }
            ClientEvent::Channel(id) => {
                let Some(mut channel) = ssh.channel(id) else {
                    continue;
                };
                let mut next = false;
                while let Some(event) = channel.poll_event() {
                    match event {
                        ChannelEvent::Replied { accepted, .. } => next = accepted,
                        ChannelEvent::Data(Stream::DATA) => {
                            let len = channel.readable(Stream::DATA);
                            channel.consume(Stream::DATA, len);
                            next = !pings.receive();
                            if !next {
                                *result = Some(Ok(()));
                            }
                        }
                        _ => {}
                    }
                }
                if next {
                    pings.send();
                    channel
                        .write(Stream::DATA, &[7])
                        .map_err(io::Error::other)?;
                }
            }
            ClientEvent::AuthenticationRefused { .. } => {
                return Err(io::Error::other("permission denied"));
            }
            ClientEvent::Disconnected(error) => return Err(io::Error::other(error)),
            _ => {}
        }
    }
    Ok(())
}
