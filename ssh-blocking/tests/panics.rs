//! Observers that panic: each ends its own connection, wherever it was called, and nobody waits for ever.

mod common;
#[path = "common/open.rs"]
mod open;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{TestServer, config, keys, options};
use ssh_blocking::ssh_proto::config::ClientConfig;
use ssh_blocking::ssh_proto::log::{LogLevel, LogRecord};
use ssh_blocking::{Client, ClientOptions, ServerConnection, Transport};

/// Panics in each call, once it is armed: on the connection's own thread, or on the caller's.
#[derive(Default)]
struct Bomb {
    armed: AtomicBool,
    on_caller: bool,
    calls: AtomicUsize,
}

impl Bomb {
    fn new(on_caller: bool) -> Arc<Self> {
        Arc::new(Self {
            on_caller,
            ..Self::default()
        })
    }

    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn touch(&self) {
        let thread = std::thread::current();
        let own = thread.name().is_some_and(|name| name.starts_with("ssh "));
        if self.armed.load(Ordering::SeqCst) && own != self.on_caller {
            self.calls.fetch_add(1, Ordering::SeqCst);
            panic!("the observer panics, as the test wants");
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Every packet is logged, and the log panics.
fn mined(bomb: &Arc<Bomb>) -> ClientOptions {
    let mut config = ClientConfig::new();
    config.transport.log = LogLevel::Packet;
    let bomb = Arc::clone(bomb);
    options()
        .config(config)
        .on_log(move |_: &LogRecord| bomb.touch())
}

fn authenticate(client: &Client) {
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
}

/// What must return does, and the test fails if it hangs.
fn returns<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(run()));
    receiver
        .recv_timeout(Duration::from_secs(60))
        .expect("it hangs, or has panicked")
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request comes that nobody waits for, so that the connection's own thread logs it; then everything fails.
fn ends_by_its_own_thread(client: &Client, server: &ServerConnection, bomb: &Bomb) {
    authenticate(client);
    assert!(client.is_alive());
    bomb.arm();
    server
        .global_request("any@example.com", b"", false)
        .unwrap();
    wait_for("the observer panics", || bomb.calls() > 0);
    let (waiting, late) = (client.clone(), client.clone());
    returns(move || waiting.wait_closed());
    assert!(returns(move || late.open_session()).is_err());
    assert_eq!(bomb.calls(), 1);
}

#[test]
fn a_log_that_panics_on_the_connections_own_thread_ends_the_connection() {
    let (server, connections) = open::server();
    let handle = server.bind("127.0.0.1:0").unwrap();
    let bomb = Bomb::new(false);
    let client = Client::connect(handle.address(), mined(&bomb)).unwrap();
    ends_by_its_own_thread(&client, &connections.recv().unwrap(), &bomb);
}

#[test]
fn a_log_that_panics_over_a_pair_of_halves_ends_the_connection() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (server, connections) = open::server();
    let thread = std::thread::spawn(move || server.serve_stream(theirs, None));
    let bomb = Bomb::new(false);
    let (reader, closing) = (ours.try_clone().unwrap(), ours.try_clone().unwrap());
    let pair = Transport::pair(reader, ours)
        .on_close(move || _ = closing.shutdown(std::net::Shutdown::Both));
    let client = Client::connect_stream(pair, mined(&bomb)).unwrap();
    ends_by_its_own_thread(&client, &connections.recv().unwrap(), &bomb);
    returns(move || thread.join().unwrap().unwrap());
}

#[test]
fn a_log_that_panics_on_a_callers_thread_is_an_error_for_the_caller() {
    let server = TestServer::start();
    let bomb = Bomb::new(true);
    let client = Client::connect(server.handle.address(), mined(&bomb)).unwrap();
    authenticate(&client);
    bomb.arm();
    // The panic comes in the first call of this thread that has something to log, and does not come out of it.
    let calling = client.clone();
    returns(move || {
        while calling.is_alive() {
            _ = calling.ping(b"?");
        }
    });
    drop(client);
    assert_eq!(bomb.calls(), 1);
}

#[test]
fn a_log_that_panics_at_a_server_costs_one_client_and_leaves_no_trace() {
    let bomb = Bomb::new(false);
    let log = Arc::clone(&bomb);
    let mut config = config();
    config.transport.log = LogLevel::Packet;
    let server = TestServer::start_with(config, |options| options.on_log(move |_, _| log.touch()));
    let client = server.client();
    bomb.arm();
    // Answered without the handler, so that the log is all that is called.
    let late = client.clone();
    let reply = returns(move || late.global_request("any@example.com", b"", true));
    assert!(reply.is_err());
    returns(move || client.wait_closed());
    wait_for("the connection goes", || {
        server.handle.server().connections() == 0
    });
    assert_eq!(bomb.calls(), 1);
    bomb.armed.store(false, Ordering::SeqCst);
    let other = server.client();
    assert!(other.exec("echo still here").output().is_ok());
    drop(other);
    wait_for("the other connection goes", || {
        server.handle.server().connections() == 0
    });
    // Nothing is left in the list of those that are disconnected.
    assert_eq!(server.handle.stop(Duration::from_secs(60)), 0);
}

#[cfg(feature = "keylog")]
#[test]
fn a_key_log_that_panics_fails_the_connection() {
    struct Broken(Arc<Bomb>);

    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            self.0.calls.fetch_add(1, Ordering::SeqCst);
            panic!("the writer panics, as the test wants");
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let server = TestServer::start();
    let address = server.handle.address();
    let bomb = Bomb::new(false);
    let writer = Broken(Arc::clone(&bomb));
    let connected = returns(move || Client::connect(address, options().key_log(writer)));
    if let Ok(client) = connected {
        returns(move || client.wait_closed());
    }
    assert_eq!(bomb.calls(), 1);
    assert!(server.client().is_alive());
}

#[cfg(feature = "replay")]
#[test]
fn a_recording_that_panics_ends_the_connection() {
    let (server, connections) = open::server();
    let handle = server.bind("127.0.0.1:0").unwrap();
    let bomb = Bomb::new(false);
    let recording = Arc::clone(&bomb);
    let options = options().on_recording(move |_| recording.touch());
    let client = Client::connect(handle.address(), options).unwrap();
    ends_by_its_own_thread(&client, &connections.recv().unwrap(), &bomb);
}
