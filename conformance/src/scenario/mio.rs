//! The backend `ssh-mio`: one session, and the core that it lends.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use ssh_mio::mio::{self, Events, Interest, Poll, Token};
use ssh_mio::{ReadBuffer, Session, Transport, seed};
use ssh_proto::{ClientConfig, ClientRole, Connection, Role, ServerConfig, ServerRole};

use super::disturbed::{Disturbed, Line};
use super::hub::{Core, Hub, HubRole};
use super::side::Side;

const SESSION: Token = Token(0);
const BELL: Token = Token(1);

/// Plays the client's side.
pub(super) fn client(side: Arc<Side>, line: Line, config: ClientConfig) {
    run::<ClientRole>(side, line, Arc::new(config));
}

/// Plays the server's side.
pub(super) fn server(side: Arc<Side>, line: Line, config: ServerConfig) {
    run::<ServerRole>(side, line, Arc::new(config));
}

/// Gets the loop out of waiting for events.
struct Bell(mio::Waker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.wake().expect("a waker that works");
    }
}

impl<R: Role, S: Transport> Core<R> for Session<R, S> {
    fn poll_event(&mut self) -> Option<R::Event> {
        Self::poll_event(self)
    }

    fn connection(&mut self) -> &mut Connection<R> {
        Self::connection(self)
    }
}

fn run<R: HubRole>(side: Arc<Side>, line: Line, config: Arc<R::Config>) {
    line.stream.set_nonblocking(true).expect("non-blocking");
    let stream = mio::net::TcpStream::from_std(line.stream);
    match line.disturbance {
        None => run_on::<R, _>(side, stream, &AtomicBool::new(false), config),
        Some(disturbance) => {
            let stream = Disturbed::new(stream, disturbance);
            let ready = stream.readiness();
            run_on::<R, _>(side, stream, &ready, config);
        }
    }
}

/// `ready`: the stream was not ready and is again.
fn run_on<R: HubRole, S: Transport>(
    side: Arc<Side>,
    stream: S,
    ready: &AtomicBool,
    config: Arc<R::Config>,
) {
    let mut session = Session::<R, S>::new(stream, config, seed().expect("a seed"), Instant::now());
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
        if ready.swap(false, Ordering::Relaxed) {
            // What is ready already is announced anew.
            poll.registry()
                .reregister(&mut session, SESSION, Interest::READABLE)
                .expect("a registration");
        }
        let deadline = session.deadline();
        let wait = if session.wants_attention() {
            Some(Duration::ZERO)
        } else {
            deadline.map(|at| at.saturating_duration_since(now))
        };
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
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
