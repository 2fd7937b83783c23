//! A client on ssh-mio that runs one command: standard input to the channel, the channel to the standard streams. One
//! thread waits for the socket and for standard input at once.
//!
//! It stands for what a program on ssh-mio would do with a pipe: received data is lent by the state machine and written
//! from where it was decrypted; data to be sent is read to where it will be sealed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use mio::unix::pipe;
use mio::{Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::ClientConfig;
use ssh_mio::ssh_proto::key::PrivateKey;
use ssh_mio::ssh_proto::{
    ChannelEvent, ChannelId, ClientEvent, ClientRole, Credential, Draft, OpenChannel, Program,
    Stream, WriteError,
};
use ssh_mio::{ClientSession, Sessions};

const STDIN: Token = Token(0);

/// Runs `command` until its channel is closed. Any host key will do.
pub(crate) fn run(
    address: &str,
    user: &str,
    key: &str,
    cipher: &str,
    command: &str,
) -> io::Result<()> {
    let key = PrivateKey::from_openssh(fs::read(key)?, None).map_err(io::Error::other)?;
    let mut config = ClientConfig::new();
    config.transport.algorithms.ciphers = cipher.parse().map_err(io::Error::other)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(16);
    let mut sessions = Sessions::<ClientRole>::new(Token(1));
    let now = Instant::now();
    let address = address.parse().map_err(io::Error::other)?;
    let mut session = ClientSession::connect(address, Arc::new(config), now)?;
    session
        .connection()
        .authenticate(user, Credential::public_key(key), now)
        .map_err(io::Error::other)?;
    let token = sessions.insert(poll.registry(), session, ())?;
    let mut exec = Exec::new(command)?;
    let interest = Interest::READABLE;
    poll.registry().register(&mut exec.input, STDIN, interest)?;
    while exec.outcome.is_none() {
        match poll.poll(&mut events, sessions.wait_time(Instant::now())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        let now = Instant::now();
        for event in &events {
            if event.token() == STDIN {
                exec.readable = true;
                sessions.wake(token);
            } else {
                sessions.note(event);
            }
        }
        sessions.run(poll.registry(), now, |_, session, ()| {
            if let Err(error) = exec.serve(session, now) {
                exec.outcome = Some(Err(error));
            }
        });
    }
    exec.outcome.unwrap_or(Ok(()))
}

struct Exec<'a> {
    command: &'a str,
    input: pipe::Receiver,
    stdout: File,
    channel: Option<ChannelId>,
    draft: Draft,
    /// The command runs.
    started: bool,
    /// Standard input may have something.
    readable: bool,
    /// It has ended, and the server was told.
    ended: bool,
    outcome: Option<io::Result<()>>,
}

impl<'a> Exec<'a> {
    fn new(command: &'a str) -> io::Result<Self> {
        let input: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        let input = pipe::Receiver::from(input);
        input.set_nonblocking(true)?;
        Ok(Self {
            command,
            input,
            // The standard library's buffer would be one more copy.
            stdout: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            channel: None,
            draft: Draft::new(),
            started: false,
            readable: true,
            ended: false,
            outcome: None,
        })
    }

    fn serve(&mut self, session: &mut ClientSession, now: Instant) -> io::Result<()> {
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
                    self.channel = Some(id);
                    if let Some(mut channel) = ssh.channel(id) {
                        channel
                            .start(Program::Exec(self.command.as_bytes()))
                            .map_err(io::Error::other)?;
                    }
                }
                ClientEvent::Channel(id) => self.serve_channel(session, id)?,
                ClientEvent::AuthenticationRefused { .. } => {
                    return Err(io::Error::other("permission denied"));
                }
                ClientEvent::Disconnected(error) => return Err(io::Error::other(error)),
                _ => {}
            }
        }
        self.feed(session)
    }

    fn serve_channel(&mut self, session: &mut ClientSession, id: ChannelId) -> io::Result<()> {
        let Some(mut channel) = session.channel(id) else {
            return Ok(());
        };
        while let Some(event) = channel.poll_event() {
            match event {
                ChannelEvent::Replied { accepted, .. } => {
                    if !accepted {
                        return Err(io::Error::other("the command was refused"));
                    }
                    self.started = true;
                    channel.lay_out(Stream::DATA, &mut self.draft);
                }
                ChannelEvent::Data(stream) => loop {
                    let chunk = channel.chunk(stream);
                    let len = chunk.len();
                    match stream {
                        _ if len == 0 => break,
                        Stream::DATA => self.stdout.write_all(chunk)?,
                        _ => io::stderr().write_all(chunk)?,
                    }
                    channel.consume(stream, len);
                },
                ChannelEvent::Closed => self.outcome = Some(Ok(())),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends what standard input has.
    fn feed(&mut self, session: &mut ClientSession) -> io::Result<()> {
        let Some(mut channel) = self.channel.and_then(|id| session.channel(id)) else {
            return Ok(());
        };
        while self.started && !self.ended {
            if self.draft.is_empty() {
                if !self.readable {
                    return Ok(());
                }
                match self.input.read_vectored(&mut self.draft.slices()) {
                    Ok(0) => {
                        self.ended = true;
                        channel.eof();
                        return Ok(());
                    }
                    Ok(len) => self.draft.fill(len),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.readable = false;
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            match channel.send(Stream::DATA, &mut self.draft) {
                Ok(_) => {}
                Err(WriteError::Blocked) => return Ok(()),
                Err(WriteError::Closed) => self.ended = true,
            }
        }
        Ok(())
    }
}
