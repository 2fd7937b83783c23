//! Callbacks that panic, come to no end, or use the connection that they are called from.

mod common;
#[path = "common/open.rs"]
mod open;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use common::{TestHandler, TestServer, config, keys, options};
use ssh_blocking::ssh_proto::config::ClientConfig;
use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::log::LogLevel;
use ssh_blocking::ssh_proto::{self, ChannelId, LoginAttempt, OpenKind};
use ssh_blocking::{
    Client, ClientOptions, Error, Handler, HostKeyPolicy, Method, OpenVerdict, Server,
    ServerConnection, ServerHandle, ServerOptions, Session, Task, Verdict,
};

const OWN: &str = "own@example.com";

/// What must return does, and the test fails if it hangs.
fn returns<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(run()));
    receiver
        .recv_timeout(Duration::from_secs(60))
        .expect("it hangs, or has panicked")
}

/// The same for what panics.
fn panics<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) {
    let panicked = returns(move || catch_unwind(AssertUnwindSafe(run)).is_err());
    assert!(panicked, "nobody has heard of the panic");
}

#[track_caller]
fn wait_for(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Nobody has tried to log in, and only the bystander is left, whom it does not concern.
fn only_is_left(server: &TestServer, bystander: &Client) {
    wait_for(|| server.handle.server().connections() == 1);
    let log = server.seen.log.lock().unwrap().clone();
    assert_eq!(log, ["authenticated user"]);
    assert!(bystander.exec("echo x").output().unwrap().status.success());
}

#[test]
fn a_verdict_on_the_host_key_that_panics_trusts_nobody() {
    let server = TestServer::start();
    let bystander = server.client();
    let address = server.handle.address();
    panics(move || {
        let policy = HostKeyPolicy::ask(|_| panic!("the verdict panics, as the test wants"));
        Client::connect(address, ClientOptions::new(policy)).map(drop)
    });
    only_is_left(&server, &bystander);
}

/// Says that a host key will do, once `when` says that it is time.
fn late(mut when: impl FnMut() -> bool + Send + 'static) -> ClientOptions {
    ClientOptions::new(HostKeyPolicy::ask(move |key| {
        wait_for(&mut when);
        key == keys().0.public()
    }))
}

#[test]
fn while_a_verdict_on_the_host_key_is_open_nothing_goes_on_until_the_server_has_enough() {
    let mut config = config();
    config.transport.deadlines.key_exchange = Some(Duration::from_millis(200));
    let server = TestServer::start_with(config, |options| options);
    let bystander = server.client();
    let counted = server.handle.server().clone();
    let options = late(move || counted.connections() == 1);
    let address = server.handle.address();
    // Whoever has connected meanwhile hears of it with the next call.
    let late = move || Client::connect(address, options)?.auth_password("user", "secret");
    let error = returns(late).unwrap_err();
    assert!(matches!(error, Error::Connection(_)), "{error:?}");
    only_is_left(&server, &bystander);
}

#[test]
fn a_verdict_on_the_host_key_that_comes_too_late_is_none() {
    let server = TestServer::start();
    let bystander = server.client();
    let timeout = Duration::from_millis(100);
    let begin = Instant::now();
    let options = late(move || begin.elapsed() > timeout).connect_timeout(timeout);
    let address = server.handle.address();
    let error = returns(move || Client::connect(address, options).map(drop)).unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
    only_is_left(&server, &bystander);
}

/// Both ends. The client knows things of the caller's own.
struct Both {
    client: Client,
    server: ServerConnection,
    handle: ServerHandle,
}

/// `change` says what the client does when it is asked.
fn both(change: impl FnOnce(ClientOptions) -> ClientOptions) -> Both {
    let (server, connections) = open::server();
    let handle = server.bind("127.0.0.1:0").unwrap();
    let mut config = ClientConfig::new();
    let own = &mut config.transport.own;
    own.channel_kinds.push(OWN.into());
    own.channel_requests.push(OWN.into());
    own.global_requests.push(OWN.into());
    config.transport.log = LogLevel::Packet;
    let options = change(options().config(config));
    let client = Client::connect(handle.address(), options).unwrap();
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    Both {
        client,
        server: connections.recv().unwrap(),
        handle,
    }
}

#[test]
fn a_clients_answer_that_panics_ends_its_connection_only() {
    let bystander = both(|options| options);
    for asks in ["open", "channel request", "global request"] {
        let kept = Mutex::new(Vec::new());
        let both = both(|options| {
            options
                .on_channel_open(move |pending| {
                    assert_ne!(asks, "open", "the callback panics, as the test wants");
                    kept.lock().unwrap().push(pending.accept().unwrap());
                })
                .check_channel_request(|_, _, _| panic!("the callback panics, as the test wants"))
                .check_global_request(|_, _| panic!("the callback panics, as the test wants"))
        });
        let server = both.server.clone();
        let asked = returns(move || match asks {
            "open" => server.open_custom(OWN, b"").map(drop),
            "global request" => server.global_request(OWN, b"", true).map(drop),
            _ => {
                let (channel, _) = server.open_custom(OWN, b"").unwrap();
                channel.request(OWN, b"", true)
            }
        });
        assert!(asked.is_err());
        let client = both.client.clone();
        returns(move || client.wait_closed());
        assert!(both.client.ping(b"").is_err());
        wait_for(|| both.handle.server().connections() == 0);
    }
    bystander.client.ping(b"").unwrap();
}

/// An attempt to log in whose callback panics costs the attempt, and nothing that comes of it is taken for what comes of the
/// next one.
fn an_attempt_panics(options: ClientOptions, attempt: fn(&Client)) {
    let mut config = config();
    config.banner = Some("welcome, or not".into());
    let server = TestServer::start_with(config, |options| options);
    let client = Client::connect(server.handle.address(), options).unwrap();
    let again = client.clone();
    panics(move || attempt(&client));
    let outcome = returns(move || again.auth_password("user", "secret"));
    assert!(outcome.unwrap().success());
}

#[test]
fn a_banner_that_panics_costs_its_attempt_and_the_panic_is_the_callers() {
    let options = options().on_banner(|_| panic!("the banner panics, as the test wants"));
    an_attempt_panics(options, |client| {
        _ = client.auth_password("user", "wrong");
    });
}

#[test]
fn a_signer_that_panics_costs_its_attempt_and_the_panic_is_the_callers() {
    an_attempt_panics(options(), |client| {
        let key = keys().1.public().clone();
        _ = client.auth_external("user", key, |_| {
            panic!("the signer panics, as the test wants")
        });
    });
}

#[test]
fn an_answerer_that_panics_costs_its_attempt_and_the_panic_is_the_callers() {
    an_attempt_panics(options(), |client| {
        _ = client.auth_keyboard_interactive("user", |_| {
            panic!("the answerer panics, as the test wants")
        });
    });
}

/// Calls everything on a client that need not wait for the server.
fn use_client(client: &OnceLock<Client>, calls: &AtomicUsize) {
    // It is called while the client is still connecting, too.
    if let Some(client) = client.get()
        && client.is_alive()
    {
        assert!(client.negotiated().is_some() && client.session().is_some());
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            // The end may come in between.
            _ = client.rekey();
        }
        _ = client.rekeys();
        _ = client.closed();
    }
}

#[test]
fn a_clients_callbacks_may_use_the_connection_that_they_are_called_from() {
    let client = Arc::new(OnceLock::new());
    let calls: [Arc<AtomicUsize>; 4] = Default::default();
    let user = |number: usize| {
        let (client, calls) = (Arc::clone(&client), Arc::clone(&calls[number]));
        move || use_client(&client, &calls)
    };
    let (open, channel, global, log) = (user(0), user(1), user(2), user(3));
    let kept = Mutex::new(Vec::new());
    let both = both(|options| {
        options
            .on_channel_open(move |pending| {
                open();
                kept.lock().unwrap().push(pending.accept().unwrap());
            })
            .check_channel_request(move |_, _, _| {
                channel();
                true
            })
            .check_global_request(move |_, _| {
                global();
                Some(b"fine".to_vec())
            })
            .on_log(move |_| log())
    });
    client.set(both.client.clone()).unwrap();
    returns(move || {
        let (channel, _) = both.server.open_custom(OWN, b"").unwrap();
        channel.request(OWN, b"", true).unwrap();
        assert_eq!(both.server.global_request(OWN, b"", true).unwrap(), b"fine");
        both.client.ping(b"").unwrap();
        // The callbacks hold handles.
        both.client.disconnect();
        both.client.wait_closed();
    });
    let called = calls.map(|calls| calls.load(Ordering::Relaxed) > 0);
    assert_eq!(called, [true; 4]);
}

#[test]
fn a_banner_may_use_the_connection_that_it_came_on() {
    let mut config = config();
    config.banner = Some("welcome".into());
    let server = TestServer::start_with(config, |options| options);
    let client = Arc::new(OnceLock::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let (used, counted) = (Arc::clone(&client), Arc::clone(&calls));
    let options = options().on_banner(move |_| {
        let client: &Client = used.get().unwrap();
        assert!(client.is_alive() && client.negotiated().is_some());
        assert!(client.session().is_some());
        client.rekey().unwrap();
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let connected = Client::connect(server.handle.address(), options).unwrap();
    client.set(connected.clone()).unwrap();
    returns(move || {
        let outcome = connected.auth_password("user", "secret").unwrap();
        assert!(outcome.success());
        connected.disconnect();
    });
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// A handler that uses its connection in whatever it is asked.
struct Inside {
    inner: TestHandler,
    connection: Option<ServerConnection>,
    calls: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Inside {
    /// Calls everything on the connection that need not wait for the client.
    fn within(&self, callback: &'static str) -> &ServerConnection {
        let connection = self.connection.as_ref().unwrap();
        assert!(connection.is_alive() && connection.closed().is_none());
        assert!(connection.peer_address().is_some());
        assert_eq!(connection.negotiated().is_some(), callback != "connected");
        _ = connection.rekeys();
        // Before there were keys it is refused.
        _ = connection.rekey();
        self.calls.lock().unwrap().insert(callback);
        connection
    }
}

impl Handler for Inside {
    fn connected(&mut self, connection: &ServerConnection) {
        self.connection = Some(connection.clone());
        self.within("connected");
    }

    fn check_key_offer(&mut self, user: &str, key: &PublicKey) -> bool {
        self.within("key offer");
        self.inner.check_key_offer(user, key)
    }

    fn check_auth_public_key(&mut self, attempt: &LoginAttempt, key: &PublicKey) -> Verdict {
        self.within("public key");
        self.inner.check_auth_public_key(attempt, key)
    }

    fn authenticated(&mut self, _: &str) {
        self.within("authenticated");
    }

    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        self.within("open");
        self.inner.check_channel_open(kind)
    }

    fn check_env(&mut self, _: &Session, _: &[u8], _: &[u8]) -> bool {
        self.within("env");
        true
    }

    fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        self.within("exec");
        self.inner.check_exec(session, command)
    }

    fn check_channel_request(&mut self, _: ChannelId, _: &str, _: &[u8]) -> bool {
        self.within("channel request");
        true
    }

    fn check_global_request(&mut self, _: &str, _: &[u8]) -> Option<Vec<u8>> {
        self.within("global request").disconnect("as asked");
        None
    }

    fn closed(&mut self, _: &Session) {
        self.within("closed");
    }
}

#[test]
fn a_handler_may_use_the_connection_that_it_is_called_from() {
    let calls: Arc<Mutex<BTreeSet<_>>> = Arc::default();
    let noted = Arc::clone(&calls);
    let options = ServerOptions::new(config(), move |_| Inside {
        inner: TestHandler::new(Arc::default()),
        connection: None,
        calls: Arc::clone(&noted),
    });
    let handle = Server::new(options).bind("127.0.0.1:0").unwrap();
    let client = Client::connect(handle.address(), common::options()).unwrap();
    let error = returns(move || {
        let key = Method::PublicKey(Arc::clone(&keys().1));
        let outcome = client.authenticate("user", &mut [key]).unwrap();
        assert!(outcome.success());
        let output = client.exec("echo x").env("LC_ALL", "C").output().unwrap();
        assert_eq!(output.stdout, b"x\n");
        let (channel, _) = client.open_custom("echo@example.com", b"x").unwrap();
        channel.request("poke@example.com", b"", true).unwrap();
        client
            .global_request("time@example.com", b"", true)
            .unwrap_err()
    });
    let Error::Connection(ssh_proto::Error::Disconnected(said)) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(said.description, "as asked");
    wait_for(|| handle.server().connections() == 0);
    let calls = calls.lock().unwrap().iter().copied().collect::<Vec<_>>();
    assert_eq!(
        calls,
        [
            "authenticated",
            "channel request",
            "closed",
            "connected",
            "env",
            "exec",
            "global request",
            "key offer",
            "open",
            "public key"
        ]
    );
}
