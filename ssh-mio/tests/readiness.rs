//! Readiness that is not true, comes late, or ends abruptly.

mod common;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::commands::{Commands, Running};
use common::{Guest, MIB, Work, World, keys, noise, server_config};
use ssh_mio::mio::event::Source;
use ssh_mio::mio::net::{TcpListener, TcpStream};
use ssh_mio::mio::{Events, Interest, Poll, Registry, Token};
use ssh_mio::ssh_proto::config::ClientConfig;
use ssh_mio::ssh_proto::{ClientEvent, ClientRole, Credential, Error, Role, ServerRole};
use ssh_mio::{ClientSession, ReadBuffer, ServerSession, Session, Sessions, Transport, seed};

/// A scenario with every kind of transfer.
fn guest() -> Guest {
    Guest::new(vec![
        Work::new("echo x"),
        Work::new("cat").input(noise(MIB, 1)),
        Work::new("sink").input(noise(MIB, 2)),
        Work::new("source 1000000"),
    ])
}

/// Runs the scenario step by step: first the server's side of a turn, then the client's. Says how many steps it had.
fn steps(world: &mut World, mut before: impl FnMut(&mut World, usize) -> bool) -> usize {
    let start = Instant::now();
    let mut step = 0;
    while before(world, step) && !(world.clients.is_empty() && world.servers.is_empty()) {
        assert!(start.elapsed() < Duration::from_secs(30));
        if step % 2 == 0 {
            world.wait(Duration::from_millis(100));
            world.run_servers();
        } else {
            world.run_clients();
        }
        step += 1;
    }
    step
}

#[test]
fn a_client_that_is_cut_off_at_any_step_leaves_nothing_behind() {
    let mut world = World::new();
    world.connect(guest());
    let all = steps(&mut world, |_, _| true);
    assert!(all > 20, "{all} steps");
    for cut in 0..all {
        let mut world = World::new();
        let token = world.connect(guest());
        steps(&mut world, |world, step| {
            if step == cut {
                world.clients.remove(world.poll.registry(), token);
            }
            step < cut
        });
        // A connection that nobody has accepted yet is accepted and found dead.
        world.wait(Duration::from_millis(1));
        world.until_empty();
    }
}

#[test]
fn a_server_that_is_cut_off_at_any_step_is_noticed_by_the_client() {
    let mut world = World::new();
    world.connect(guest());
    let all = steps(&mut world, |_, _| true);
    for cut in 1..all {
        let mut world = World::new();
        world.connect(guest());
        steps(&mut world, |world, step| {
            if step == cut {
                world.servers.remove(world.poll.registry(), Token(1));
            }
            step < cut
        });
        if world.clients.is_empty() && world.finished.is_empty() {
            continue;
        }
        world.until_empty();
        let guest = &world.finished[0];
        match guest.ended.as_ref().expect("it is told") {
            Error::UnexpectedEof(_) => {}
            Error::LocallyClosed => assert_eq!(guest.done.len(), 4, "it was done before"),
            other => panic!("{other}"),
        }
        // Whatever was told to be complete is complete.
        for work in &guest.done {
            if work.status.is_some() && work.command == "cat" {
                assert!(work.output == work.input);
            }
        }
    }
}

#[test]
fn a_host_that_refuses_the_connection_is_an_error_of_the_stream() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut world = World::new();
    world.connect_to(address, guest());
    world.until_empty();
    let guest = &world.finished[0];
    assert!(matches!(guest.ended, Some(Error::UnexpectedEof(_))));
    assert_eq!(guest.io_error, Some(io::ErrorKind::ConnectionRefused));
}

/// Two sessions by hand, without [`Sessions`].
struct Pair {
    poll: Poll,
    events: Events,
    buffer: ReadBuffer,
    client: ClientSession,
    server: ServerSession,
    commands: Commands,
    running: Running,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = common::client(address, ClientConfig::new(), now);
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream);
        let mut server =
            ServerSession::new(stream, Arc::new(server_config()), seed().unwrap(), now);
        let poll = Poll::new().unwrap();
        for (session, token) in [
            (&mut client as &mut dyn Source, Token(1)),
            (&mut server as &mut dyn Source, Token(2)),
        ] {
            // A session asks for both directions by itself.
            session
                .register(poll.registry(), token, Interest::READABLE)
                .unwrap();
        }
        Self {
            poll,
            events: Events::with_capacity(8),
            buffer: ReadBuffer::new(),
            client,
            server,
            commands: common::commands(),
            running: Running::new(),
        }
    }

    /// One turn. `twisted`: every event goes to both sessions, twice.
    fn turn(&mut self, twisted: bool, mut serve: impl FnMut(&mut ClientSession, Instant)) -> usize {
        let attention = self.client.wants_attention() || self.server.wants_attention();
        let wait = Duration::from_millis(if attention { 0 } else { 50 });
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        let now = Instant::now();
        let mut count = 0;
        for event in &self.events {
            count += 1;
            for _ in 0..if twisted { 2 } else { 1 } {
                if twisted || event.token() == Token(1) {
                    self.client.ready(event, now, &mut self.buffer);
                }
                if twisted || event.token() == Token(2) {
                    self.server.ready(event, now, &mut self.buffer);
                }
            }
        }
        for session in [true, false] {
            if session && self.client.wants_attention() {
                self.client.resume(now, &mut self.buffer);
                count += 1;
            } else if !session && self.server.wants_attention() {
                self.server.resume(now, &mut self.buffer);
                count += 1;
            }
        }
        serve(&mut self.client, now);
        self.client.flush(now, &mut self.buffer);
        common::serve(&mut self.commands, &mut self.server, &mut self.running);
        self.server.flush(now, &mut self.buffer);
        count
    }
}

#[test]
fn spurious_readiness_does_no_harm() {
    let mut pair = Pair::new();
    let mut guest = guest();
    let start = Instant::now();
    while !(pair.client.is_finished() && pair.server.is_finished()) {
        assert!(start.elapsed() < Duration::from_secs(30));
        pair.turn(true, |session, now| guest.serve(session, now));
    }
    assert_eq!(guest.ended, Some(Error::LocallyClosed));
    assert_eq!(guest.done.len(), 4);
    assert!(guest.done.iter().all(|work| work.status == Some(0)));
    let cat = guest
        .done
        .iter()
        .find(|work| work.command == "cat")
        .unwrap();
    assert!(cat.output == cat.input);
}

#[test]
fn an_answer_that_comes_late_needs_no_event() {
    let mut pair = Pair::new();
    let mut offer = None;
    let mut quiet = 0;
    while quiet < 3 {
        let count = pair.turn(false, |session, _| {
            while let Some(event) = session.poll_event() {
                if let ClientEvent::HostKeyOffered(asked) = event {
                    offer = Some(asked);
                }
            }
        });
        quiet = if count == 0 { quiet + 1 } else { 0 };
    }
    // All that the server has to say is in the socket, or in the core behind the question.
    let offer = offer.unwrap();
    assert_eq!(offer.key(), keys().0.public());
    pair.client.connection().accept_host_key(offer).unwrap();
    pair.client.flush(Instant::now(), &mut pair.buffer);
    let mut guest = guest();
    let start = Instant::now();
    while !(pair.client.is_finished() && pair.server.is_finished()) {
        assert!(start.elapsed() < Duration::from_secs(30));
        pair.turn(false, |session, now| guest.serve(session, now));
    }
    assert_eq!(guest.done.len(), 4);
}

/// A stream that gives and takes a few bytes at a time, and interrupts.
#[derive(Debug)]
struct Crumbs {
    stream: TcpStream,
    count: usize,
    /// Writes fail after so many.
    breaks_after: usize,
}

impl Crumbs {
    fn piece(&mut self, len: usize) -> io::Result<usize> {
        self.count += 1;
        if self.count.is_multiple_of(7) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(len.min(1 + self.count * 131 % 1_500))
    }
}

impl Read for Crumbs {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.piece(buf.len())?;
        self.stream.read(&mut buf[..len])
    }
}

impl Write for Crumbs {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.breaks_after == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.breaks_after -= 1;
        let len = self.piece(buf.len())?;
        self.stream.write(&buf[..len])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Crumbs {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.stream.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.stream.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}

impl Transport for Crumbs {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown_write()
    }
}

fn crumbs<R: Role>(stream: TcpStream, config: Arc<R::Config>) -> Session<R, Crumbs> {
    let stream = Crumbs {
        stream,
        count: 0,
        breaks_after: usize::MAX,
    };
    Session::new(stream, config, seed().unwrap(), Instant::now())
}

#[test]
fn a_stream_of_another_kind_that_gives_and_takes_crumbs() {
    let mut poll = Poll::new().unwrap();
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    poll.registry()
        .register(&mut listener, Token(0), Interest::READABLE)
        .unwrap();
    let mut clients = Sessions::<ClientRole, Guest, Crumbs>::new(Token(1_000));
    let mut servers = Sessions::<ServerRole, Running, Crumbs>::new(Token(1));
    let server_config = Arc::new(server_config());
    for _ in 0..3 {
        let stream = TcpStream::connect(address).unwrap();
        let mut session = crumbs::<ClientRole>(stream, Arc::new(ClientConfig::new()));
        let credential = Credential::public_key(Arc::clone(&keys().1));
        session
            .connection()
            .authenticate("user", credential, Instant::now())
            .unwrap();
        clients.insert(poll.registry(), session, guest()).unwrap();
    }
    let mut commands = common::commands();
    let mut events = Events::with_capacity(8);
    let mut ended = 0;
    let start = Instant::now();
    while !(clients.is_empty() && servers.is_empty() && ended == 3) {
        assert!(start.elapsed() < Duration::from_secs(60));
        let busy = [
            clients.wait_time(Instant::now()),
            servers.wait_time(Instant::now()),
        ];
        let wait = busy.into_iter().flatten().min();
        poll.poll(&mut events, wait).unwrap();
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((stream, _)) = listener.accept() {
                    let session = crumbs::<ServerRole>(stream, Arc::clone(&server_config));
                    servers
                        .insert(poll.registry(), session, Running::new())
                        .unwrap();
                }
            }
            clients.note(event);
            servers.note(event);
        }
        let now = Instant::now();
        servers.run(poll.registry(), now, |_, session, running| {
            common::serve(&mut commands, session, running);
        });
        clients.run(poll.registry(), now, |_, session, guest| {
            let before = guest.ended.is_some();
            guest.serve(session, now);
            if guest.ended.is_some() && !before {
                ended += 1;
                assert_eq!(guest.ended, Some(Error::LocallyClosed));
                assert_eq!(guest.done.len(), 4);
                assert!(guest.done.iter().all(|work| work.status == Some(0)));
            }
        });
    }
}

#[test]
fn a_stream_that_takes_nothing_any_more_ends_the_session_once_all_was_read() {
    let mut poll = Poll::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    // It says something, and then neither says more nor closes.
    peer.write_all(b"a greeting\r\n").unwrap();
    let stream = Crumbs {
        stream,
        count: 0,
        breaks_after: 2,
    };
    let config = Arc::new(ClientConfig::new());
    let now = Instant::now();
    let session = Session::<ClientRole, Crumbs>::new(stream, config, seed().unwrap(), now);
    let mut sessions = Sessions::new(Token(0));
    sessions.insert(poll.registry(), session, ()).unwrap();
    let mut events = Events::with_capacity(8);
    let mut ended = None;
    let start = Instant::now();
    while !sessions.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5));
        let wait = sessions.wait_time(Instant::now());
        poll.poll(&mut events, wait).unwrap();
        for event in &events {
            sessions.note(event);
        }
        sessions.run(poll.registry(), Instant::now(), |_, session, ()| {
            while let Some(event) = session.poll_event() {
                if let ClientEvent::Disconnected(error) = event {
                    ended = Some((error, session.io_error().map(io::Error::kind)));
                }
            }
        });
    }
    let (error, kind) = ended.unwrap();
    assert!(matches!(error, Error::UnexpectedEof(_)));
    assert_eq!(kind, Some(io::ErrorKind::BrokenPipe));
}
