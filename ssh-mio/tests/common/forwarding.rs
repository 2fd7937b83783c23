//! Clients and servers that forward, in one thread; applications and targets around them, in threads of their own.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ssh_mio::mio::event::Event;
use ssh_mio::mio::{self, Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::{ClientConfig, ServerConfig};
use ssh_mio::ssh_proto::socks::{SocksClient, SocksReply, SocksVersion};
use ssh_mio::ssh_proto::{
    Answer, ClientEvent, ClientRole, OpenFailureReason, Proof, ServerEvent, ServerRole,
};
use ssh_mio::{
    ClientForwards, ForwardEvent, ForwardId, ForwardPolicy, ServerForwards, ServerSession,
    Sessions, seed,
};

use crate::common::{CLIENTS, LISTENER, client, keys, server_config};

pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const FORWARDS: usize = 1 << 21;
const SERVER_FORWARDS: usize = 1 << 22;
/// What a test waits for comes sooner, or it fails.
const LONG: Duration = Duration::from_secs(60);

/// Everything that a policy can grant.
pub(crate) fn generous() -> ForwardPolicy {
    ForwardPolicy::new()
        .connect(|_| true)
        .listen_on_paths(|_| true)
        .listen_on_loopback()
}

/// Both ends in one thread.
pub(crate) struct Lab {
    pub(crate) poll: Poll,
    events: Events,
    listener: mio::net::TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) policy: ForwardPolicy,
    pub(crate) servers: Sessions<ServerRole, ()>,
    pub(crate) clients: Sessions<ClientRole, ()>,
    pub(crate) there: ServerForwards,
    pub(crate) here: ClientForwards,
    /// What the clients' forwards have told.
    pub(crate) told: Vec<ForwardEvent>,
    pub(crate) server_told: Vec<ForwardEvent>,
    /// Events of the clients that are not about forwarding.
    pub(crate) other: Vec<ClientEvent>,
    /// Every event is noted again in all later turns.
    pub(crate) haunted: bool,
    ghosts: Vec<Event>,
}

impl Lab {
    pub(crate) fn new(policy: ForwardPolicy) -> Self {
        Self::with(policy, server_config(), 1 << 20)
    }

    pub(crate) fn with(policy: ForwardPolicy, config: ServerConfig, tokens: usize) -> Self {
        let poll = Poll::new().unwrap();
        let mut listener = mio::net::TcpListener::bind(ANY).unwrap();
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .unwrap();
        let forwards = Token(FORWARDS)..Token(FORWARDS + tokens);
        let server_forwards = Token(SERVER_FORWARDS)..Token(SERVER_FORWARDS + tokens);
        Self {
            address: listener.local_addr().unwrap(),
            listener,
            events: Events::with_capacity(64),
            config: Arc::new(config),
            policy,
            servers: Sessions::new(Token(1)),
            clients: Sessions::new(Token(CLIENTS)),
            there: ServerForwards::new(poll.registry(), server_forwards).unwrap(),
            here: ClientForwards::new(poll.registry(), forwards).unwrap(),
            poll,
            told: Vec::new(),
            server_told: Vec::new(),
            other: Vec::new(),
            haunted: false,
            ghosts: Vec::new(),
        }
    }

    /// A client that logs in, sooner or later.
    pub(crate) fn client(&mut self) -> Token {
        let session = client(self.address, ClientConfig::new(), Instant::now());
        self.clients
            .insert(self.poll.registry(), session, ())
            .unwrap()
    }

    /// Waits for events, not for long, and takes note of them.
    pub(crate) fn wait(&mut self) {
        let now = Instant::now();
        let wait = [
            self.servers.wait_time(now),
            self.clients.wait_time(now),
            self.there.wait_time(now),
            self.here.wait_time(now),
        ];
        let longest = Duration::from_millis(10);
        let wait = wait.into_iter().flatten().fold(longest, Duration::min);
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        let now = Instant::now();
        if self.haunted {
            self.ghosts.extend(self.events.iter().cloned());
            for event in &self.ghosts {
                _ = self.here.note(event) || self.there.note(event);
            }
        }
        for event in &self.events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = self.listener.accept() {
                    let config = Arc::clone(&self.config);
                    let session = ServerSession::new(stream, config, seed().unwrap(), now);
                    self.servers
                        .insert(self.poll.registry(), session, ())
                        .unwrap();
                }
            } else if !(self.here.note(event) || self.there.note(event)) {
                self.servers.note(event);
                self.clients.note(event);
            }
        }
        while let Some(session) = self.here.poll_session(now) {
            self.clients.wake(session);
        }
        while let Some(session) = self.there.poll_session(now) {
            self.servers.wake(session);
        }
    }

    pub(crate) fn run_clients(&mut self) {
        let now = Instant::now();
        let (forwards, other) = (&mut self.here, &mut self.other);
        self.clients
            .run(self.poll.registry(), now, |token, session, ()| {
                while let Some(event) = forwards.serve(token, session, now) {
                    match event {
                        ClientEvent::HostKeyOffered(offer) => {
                            session.connection().accept_host_key(offer).unwrap();
                        }
                        other_event => other.push(other_event),
                    }
                }
            });
        self.told
            .extend(std::iter::from_fn(|| self.here.poll_event()));
    }

    pub(crate) fn run_servers(&mut self) {
        let now = Instant::now();
        let (forwards, policy) = (&mut self.there, &self.policy);
        self.servers
            .run(self.poll.registry(), now, |token, session, ()| {
                while let Some(event) = forwards.serve(token, session, now) {
                    let ssh = session.connection();
                    match event {
                        ServerEvent::LoginAttempted(attempt) => {
                            assert!(matches!(attempt.proof(), Proof::PublicKey(key) if key == keys().1.public()));
                            ssh.grant(attempt).unwrap();
                        }
                        ServerEvent::Authenticated { .. } => forwards.allow(token, policy.clone()),
                        ServerEvent::OpenRequested(request) => {
                            let reason = OpenFailureReason::UNKNOWN_CHANNEL_TYPE;
                            ssh.refuse_open(request, reason, "not here").unwrap();
                        }
                        ServerEvent::GlobalRequested(request) => {
                            if let Some(token) = request.token {
                                ssh.answer_global(token, Answer::Refuse).unwrap();
                            }
                        }
                        _ => {}
                    }
                }
            });
        self.server_told
            .extend(std::iter::from_fn(|| self.there.poll_event()));
    }

    pub(crate) fn turn(&mut self) {
        self.wait();
        self.run_servers();
        self.run_clients();
    }

    /// Goes on until `done`.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(
                start.elapsed() < LONG,
                "{what}: not after a minute; {} and {} tokens, {:?}",
                self.here.len(),
                self.there.len(),
                self.told
            );
            self.turn();
        }
    }

    /// Goes on until an application has finished.
    #[track_caller]
    pub(crate) fn serve<T: Send + 'static>(
        &mut self,
        application: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let thread = thread::spawn(application);
        self.until("the application", |_| thread.is_finished());
        thread.join().unwrap()
    }

    #[track_caller]
    pub(crate) fn serve_all<T: Send + 'static>(&mut self, threads: Vec<JoinHandle<T>>) -> Vec<T> {
        self.until("the applications", |_| {
            threads.iter().all(JoinHandle::is_finished)
        });
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    }

    /// Goes on until the server listens; says on which port.
    #[track_caller]
    pub(crate) fn listening(&mut self, forward: ForwardId) -> Option<u16> {
        self.until("the server listens", |lab| {
            let told = lab.told.iter();
            let mut refused =
                told.filter(|e| matches!(e, ForwardEvent::Refused(id) if *id == forward));
            assert!(refused.next().is_none(), "it was refused");
            let mut told = lab.told.iter();
            told.any(|e| matches!(e, ForwardEvent::Listening(id) if *id == forward))
        });
        self.here.port(forward)
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, forward: ForwardId) {
        self.until("it is refused", |lab| {
            let mut told = lab.told.iter();
            told.any(|e| matches!(e, ForwardEvent::Refused(id) if *id == forward))
        });
    }

    /// Goes on until only so many tokens are in use, here and there.
    #[track_caller]
    pub(crate) fn settle(&mut self, here: usize, there: usize) {
        self.until("everything is given back", |lab| {
            (lab.here.len(), lab.there.len()) == (here, there)
        });
    }
}

/// Sends back in reverse what it gets, after it has got all of it: only half-close makes that end.
pub(crate) fn mirror<S: Send + 'static>(stream: S, shutdown: impl FnOnce(&S) + Send + 'static)
where
    for<'a> &'a S: Read + Write,
{
    thread::spawn(move || {
        let mut all = Vec::new();
        if (&stream).read_to_end(&mut all).is_ok() {
            all.reverse();
            _ = (&stream).write_all(&all);
            shutdown(&stream);
        }
    });
}

pub(crate) fn tcp_target() -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    mirrors(listener);
    address
}

pub(crate) fn mirrors(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            mirror(stream.unwrap(), |stream| {
                _ = stream.shutdown(Shutdown::Write)
            });
        }
    });
}

pub(crate) fn path(name: &str) -> PathBuf {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).unwrap();
    let name = format!("ssh-{name}-{:016x}", u64::from_ne_bytes(unique));
    std::env::temp_dir().join(name)
}

/// A Unix socket with mirrors behind it, whose file goes with it.
pub(crate) struct UnixTarget(pub(crate) PathBuf);

impl UnixTarget {
    pub(crate) fn new() -> Self {
        let path = path("target");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                mirror(stream.unwrap(), |stream| {
                    _ = stream.shutdown(Shutdown::Write)
                });
            }
        });
        Self(path)
    }
}

impl Drop for UnixTarget {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// Sends some bytes, then EOF, and wants them back in reverse.
pub(crate) fn exchange(mut stream: impl Read + Write, len: usize, end: impl FnOnce()) {
    let sent: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    stream.write_all(&sent).unwrap();
    end();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    back.reverse();
    assert!(
        back == sent,
        "{} of {} bytes came back",
        back.len(),
        sent.len()
    );
}

pub(crate) fn exchange_tcp(stream: &TcpStream) {
    exchange(stream, 3_000_000, || {
        stream.shutdown(Shutdown::Write).unwrap();
    });
}

pub(crate) fn exchange_unix(path: &Path) {
    let stream = UnixStream::connect(path).unwrap();
    exchange(&stream, 3_000_000, || {
        stream.shutdown(Shutdown::Write).unwrap();
    });
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Whether the connection ends without a byte.
pub(crate) fn is_cut(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(LONG)).unwrap();
    match (&mut &*stream).read(&mut [0]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

pub(crate) fn socks(
    port: u16,
    version: SocksVersion,
    host: &str,
    target: u16,
) -> Result<TcpStream, SocksReply> {
    let mut stream = connect(port);
    let mut socks = SocksClient::new(version, host, target).unwrap();
    stream.write_all(socks.output()).unwrap();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        socks.handle_bytes(&byte);
        match socks.poll_event() {
            Some(SocksReply::Connected) => return Ok(stream),
            Some(other) => return Err(other),
            None => {}
        }
    }
}
