//! The same server on each adapter: it judges as the row says, greets whoever runs a command, and ends it with status 7.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::{
    ChannelEvent, ChannelRequest, LoginAttempt, Server, ServerEvent, ServerRole, Stream,
};

use super::rows::{GREETING, Row};
use super::{TIME, Whole, sink};

const STATUS: u32 = 7;

/// A server that waits for one connection.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    recording: Whole,
    /// Ends with the server.
    _server: Box<dyn std::any::Any>,
}

impl Running {
    /// Waits for the end of the connection: its recording.
    pub(crate) fn end(self) -> String {
        self.recording.text()
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// What decides about the users of a connection.
struct Judge {
    row: &'static Row,
    key: Option<PublicKey>,
}

impl Judge {
    fn knows(&self, key: &PublicKey) -> bool {
        self.key.as_ref() == Some(key)
    }

    fn judge(&self, attempt: &LoginAttempt) -> ssh_blocking::Verdict {
        self.row.judge(self.key.as_ref(), attempt)
    }
}

mod on_threads {
    use std::io::Write;

    use ssh_blocking::ssh_proto::key::PublicKey;
    use ssh_blocking::ssh_proto::{LoginAttempt, OpenKind, Secret};
    use ssh_blocking::{ExitStatus, Handler, OpenVerdict, Session, Task, Verdict};

    use super::{GREETING, Judge, STATUS};

    impl Handler for Judge {
        fn check_auth_none(&mut self, attempt: &LoginAttempt) -> Verdict {
            self.judge(attempt)
        }
        fn check_auth_password(&mut self, attempt: &LoginAttempt, _: &Secret) -> Verdict {
            self.judge(attempt)
        }
        fn check_password_change(
            &mut self,
            attempt: &LoginAttempt,
            _: &Secret,
            _: &Secret,
        ) -> Verdict {
            self.judge(attempt)
        }
        fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
            self.knows(key)
        }
        fn check_auth_public_key(&mut self, attempt: &LoginAttempt, _: &PublicKey) -> Verdict {
            self.judge(attempt)
        }
        fn check_auth_interactive(&mut self, attempt: &LoginAttempt, _: &str) -> Verdict {
            self.judge(attempt)
        }
        fn check_auth_answers(&mut self, attempt: &LoginAttempt, _: &[Secret]) -> Verdict {
            self.judge(attempt)
        }
        fn check_channel_open(&mut self, _: &OpenKind) -> OpenVerdict {
            OpenVerdict::Accept
        }
        fn check_exec(&mut self, _: &Session, _: &[u8]) -> Option<Task> {
            Some(Box::new(|mut channel| {
                channel.write_all(GREETING.as_bytes()).unwrap();
                ExitStatus::Code(STATUS)
            }))
        }
    }
}

pub(crate) fn blocking(row: &'static Row, key: Option<PublicKey>) -> Running {
    use ssh_blocking::{Server, ServerOptions};
    let (pieces, recording) = sink();
    let options = ServerOptions::new(row.server_config(), move |_| Judge {
        row,
        key: key.clone(),
    })
    .on_recording(move |_| {
        let pieces = pieces.clone();
        move |text: &str| pieces.add(text)
    });
    let handle = Server::new(options).bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    Running {
        address: handle.address(),
        recording,
        _server: Box::new(handle),
    }
}

mod on_tokio {
    use ssh_tokio::ssh_proto::key::PublicKey;
    use ssh_tokio::ssh_proto::{LoginAttempt, OpenKind, Secret};
    use ssh_tokio::{ExitStatus, Handler, OpenVerdict, Session, Task, Verdict};
    use tokio::io::AsyncWriteExt;

    use super::{GREETING, Judge, STATUS};

    impl Handler for Judge {
        async fn check_auth_none(&mut self, attempt: &LoginAttempt) -> Verdict {
            self.judge(attempt)
        }
        async fn check_auth_password(&mut self, attempt: &LoginAttempt, _: &Secret) -> Verdict {
            self.judge(attempt)
        }
        async fn check_password_change(
            &mut self,
            attempt: &LoginAttempt,
            _: &Secret,
            _: &Secret,
        ) -> Verdict {
            self.judge(attempt)
        }
        async fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
            self.knows(key)
        }
        async fn check_auth_public_key(
            &mut self,
            attempt: &LoginAttempt,
            _: &PublicKey,
        ) -> Verdict {
            self.judge(attempt)
        }
        async fn check_auth_interactive(&mut self, attempt: &LoginAttempt, _: &str) -> Verdict {
            self.judge(attempt)
        }
        async fn check_auth_answers(&mut self, attempt: &LoginAttempt, _: &[Secret]) -> Verdict {
            self.judge(attempt)
        }
        async fn check_channel_open(&mut self, _: &OpenKind) -> OpenVerdict {
            OpenVerdict::Accept
        }
        async fn check_exec(&mut self, _: &Session, _: &[u8]) -> Option<Task> {
            Some(Task::new(async |mut channel| {
                channel.write_all(GREETING.as_bytes()).await.unwrap();
                ExitStatus::Code(STATUS)
            }))
        }
    }
}

pub(crate) fn tokio(row: &'static Row, key: Option<PublicKey>) -> Running {
    use ssh_tokio::{Server, ServerOptions};
    let (pieces, recording) = sink();
    let options = ServerOptions::new(row.server_config(), move |_| Judge {
        row,
        key: key.clone(),
    })
    .on_recording(move |_| {
        let pieces = pieces.clone();
        move |text: &str| pieces.add(text)
    });
    let runtime = runtime();
    let handle = runtime
        .block_on(Server::new(options).bind((Ipv4Addr::LOCALHOST, 0)))
        .unwrap();
    Running {
        address: handle.address(),
        recording,
        _server: Box::new((handle, runtime)),
    }
}

pub(crate) fn mio(row: &'static Row, key: Option<PublicKey>) -> Running {
    use ssh_mio::mio::net::TcpStream;
    use ssh_mio::mio::{Events, Poll, Token};
    use ssh_mio::{ReadBuffer, ServerSession, Sessions, seed};

    let (pieces, recording) = sink();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let judge = Judge { row, key };
    // It serves one connection, which the test makes in any case, and ends with it.
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut config = row.server_config();
        config.transport.record = true;
        let deadline = Instant::now() + TIME;
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let mut sessions = Sessions::<ServerRole>::new(Token(0));
        let session = ServerSession::new(
            TcpStream::from_std(stream),
            Arc::new(config),
            seed().unwrap(),
            Instant::now(),
        );
        sessions.insert(poll.registry(), session, ()).unwrap();
        while !sessions.is_empty() && Instant::now() < deadline {
            let wait = sessions.wait_time(Instant::now());
            poll.poll(&mut events, Some(wait.map_or(TIME, |wait| wait.min(TIME))))
                .unwrap();
            let now = Instant::now();
            for event in &events {
                sessions.note(event);
            }
            sessions.run(poll.registry(), now, |_, session, ()| {
                let mut over = false;
                while let Some(event) = session.poll_event() {
                    over |= matches!(event, ServerEvent::Disconnected(_));
                    serve(session.connection(), &judge, event);
                }
                session.flush(now, &mut ReadBuffer::new());
                let connection = session.connection();
                let piece = if over {
                    connection.finish_recording()
                } else {
                    connection.take_recording()
                };
                pieces.add(&piece.unwrap_or_default());
            });
        }
    });
    Running {
        address,
        recording,
        _server: Box::new(thread),
    }
}

fn serve(server: &mut Server, judge: &Judge, event: ServerEvent) {
    match event {
        ServerEvent::KeyOffered(offer) => {
            if judge.knows(offer.key()) {
                server.accept_key(offer).unwrap();
            } else {
                server.refuse_key(offer).unwrap();
            }
        }
        ServerEvent::LoginAttempted(attempt) => {
            judge.judge(&attempt).give(server, attempt).unwrap();
        }
        ServerEvent::OpenRequested(open) => _ = server.accept_open(open, b"").unwrap(),
        ServerEvent::Channel(id) => {
            let mut channel = server.channel(id).unwrap();
            while let Some(event) = channel.poll_event() {
                let ChannelEvent::Requested {
                    request,
                    token: Some(token),
                } = event
                else {
                    continue;
                };
                let runs = matches!(request, ChannelRequest::Exec(_));
                channel.reply(token, runs).unwrap();
                if runs {
                    channel.write(Stream::DATA, GREETING.as_bytes()).unwrap();
                    channel.send_exit_status(STATUS).unwrap();
                    channel.close();
                }
            }
        }
        _ => {}
    }
}
