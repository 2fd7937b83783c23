//! The backend `ssh-mio`: one session, and the core that it lends.

use std::net::TcpStream;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use ssh_mio::mio::{self, Events, Interest, Poll, Token};
use ssh_mio::{ReadBuffer, Session, seed};
use ssh_proto::{ClientConfig, ClientRole, Connection, Role, ServerConfig, ServerRole};

use super::hub::{Core, Hub, HubRole};
use super::side::Side;

const SESSION: Token = Token(0);
const BELL: Token = Token(1);

/// Plays the client's side.
pub(super) fn client(side: Arc<Side>, stream: TcpStream, config: ClientConfig) {
    run::<ClientRole>(side, stream, Arc::new(config));
}

/// Plays the server's side.
pub(super) fn server(side: Arc<Side>, stream: TcpStream, config: ServerConfig) {
    run::<ServerRole>(side, stream, Arc::new(config));
}

/// Gets the loop out of waiting for events.
struct Bell(mio::Waker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.wake().expect("a waker that works");
    }
}

impl<R: Role> Core<R> for Session<R> {
    fn poll_event(&mut self) -> Option<R::Event> {
        Self::poll_event(self)
    }

    fn connection(&mut self) -> &mut Connection<R> {
        Self::connection(self)
    }
}

fn run<R: HubRole>(side: Arc<Side>, stream: TcpStream, config: Arc<R::Config>) {
    stream.set_nonblocking(true).expect("non-blocking");
    let stream = mio::net::TcpStream::from_std(stream);
    let mut session = Session::<R>::new(stream, config, seed().expect("a seed"), Instant::now());
    let mut poll = Poll::new().expect("a poll");
    let registry = poll.registry();
    let bell = mio::Waker::new(registry, BELL).expect("a waker");
    registry
        .register(&mut session, SESSION, Interest::READABLE)
        .expect("a registration");
    let mut hub = Hub::new(side, Waker::from(Arc::new(Bell(bell))));
    let mut events = Events::with_capacity(8);
    let mut buffer = ReadBuffer::new();
    loop {
        let now = Instant::now();
        hub.turn(&mut session, now);
        session.flush(now, &mut buffer);
        if hub.is_done() && session.is_finished() {
            return;
        }
        let deadline = session.deadline();
        let wait = if session.wants_attention() {
            Some(std::time::Duration::ZERO)
        } else {
            deadline.map(|at| at.saturating_duration_since(now))
        };
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            polled => polled.expect("events"),
        }
        let now = Instant::now();
        session.timeout(now);
        for event in events.iter().filter(|event| event.token() == SESSION) {
            session.note(event);
        }
        session.resume(now, &mut buffer);
    }
}
