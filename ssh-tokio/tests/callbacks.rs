//! Callbacks that panic, come to no end, or use the connection that they are called from.

mod common;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::{Seen, TestHandler, TestServer, config, keys, log_in, options, serve, server, soon};
use ssh_tokio::ssh_proto::error::Stage;
use ssh_tokio::ssh_proto::key::PublicKey;
use ssh_tokio::ssh_proto::log::LogLevel;
use ssh_tokio::ssh_proto::{self, ChannelId, ClientConfig, LoginAttempt, OpenKind};
use ssh_tokio::{
    Client, ClientOptions, Error, Handler, HostKeyPolicy, Method, OpenVerdict, Server,
    ServerConnection, ServerOptions, Session, Task, Verdict,
};
use tokio::sync::{Notify, mpsc};

const OWN: &str = "own@example.com";

async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Nobody has tried to log in, and only the bystander is left, whom it does not concern.
async fn only_is_left(server: &TestServer, bystander: &Client) {
    until(|| server.handle.server().connections() == 1).await;
    let mut log = server.seen.log.lock().unwrap().clone();
    log.retain(|line| line.starts_with("key") || line.starts_with("authenticated"));
    assert_eq!(log, ["authenticated user"]);
    let output = soon(bystander.exec("echo x").output()).await;
    assert!(output.unwrap().status.success());
}

#[tokio::test]
async fn a_verdict_on_the_host_key_that_panics_trusts_nobody() {
    let server = TestServer::start().await;
    let bystander = server.client().await;
    let at_once = HostKeyPolicy::Ask(Box::new(|_| panic!("the verdict panics, as wanted")));
    let later = HostKeyPolicy::ask(|_| async {
        tokio::task::yield_now().await;
        // Which it is not.
        "a verdict".parse().unwrap()
    });
    for policy in [at_once, later] {
        let connecting = Client::connect(server.handle.address(), ClientOptions::new(policy));
        let error = soon(connecting).await.unwrap_err();
        assert!(matches!(error, Error::Connection(_)), "{error:?}");
        only_is_left(&server, &bystander).await;
    }
}

/// Notes that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A verdict that never comes.
struct Endless {
    options: ClientOptions,
    asked: Arc<Notify>,
    given_up: Arc<AtomicBool>,
}

fn endless() -> Endless {
    let (asked, given_up) = (Arc::new(Notify::new()), Arc::default());
    let (tell, dropped) = (Arc::clone(&asked), Arc::clone(&given_up));
    let policy = HostKeyPolicy::ask(move |_| {
        tell.notify_one();
        let dropped = Dropped(Arc::clone(&dropped));
        async move {
            std::future::pending::<()>().await;
            drop(dropped);
            true
        }
    });
    Endless {
        options: ClientOptions::new(policy),
        asked,
        given_up,
    }
}

#[tokio::test]
async fn a_verdict_on_the_host_key_that_never_comes_ends_with_the_time_to_connect() {
    let server = TestServer::start().await;
    let bystander = server.client().await;
    let endless = endless();
    let options = endless.options.connect_timeout(Duration::from_millis(100));
    let error = soon(Client::connect(server.handle.address(), options)).await;
    let error = error.map(drop).unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
    assert!(endless.given_up.load(Ordering::Relaxed));
    only_is_left(&server, &bystander).await;
}

#[tokio::test]
async fn a_verdict_on_the_host_key_that_never_comes_ends_with_its_connect() {
    let server = TestServer::start().await;
    let bystander = server.client().await;
    let endless = endless();
    let connecting = tokio::spawn(Client::connect_spawn(
        server.handle.address(),
        endless.options,
    ));
    soon(endless.asked.notified()).await;
    assert!(!endless.given_up.load(Ordering::Relaxed));
    connecting.abort();
    assert!(soon(connecting).await.unwrap_err().is_cancelled());
    assert!(endless.given_up.load(Ordering::Relaxed));
    only_is_left(&server, &bystander).await;
}

#[tokio::test]
async fn while_a_verdict_on_the_host_key_is_open_nothing_goes_on_until_the_server_has_enough() {
    let mut config = config();
    config.transport.deadlines.key_exchange = Some(Duration::from_millis(100));
    let seen = Arc::new(Seen::default());
    let server = server(config, &seen, |options| options);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = serve(&server, far);
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    let policy = HostKeyPolicy::ask(move |_| {
        let gone = Arc::clone(&told);
        async move {
            gone.notified().await;
            true
        }
    });
    // Whoever has connected meanwhile hears of it with the next call.
    let late = tokio::spawn(async {
        let connecting = Client::connect_stream(near, ClientOptions::new(policy));
        let (client, mut driver) = connecting.await?;
        driver.drive(client.auth_password("user", "secret")).await
    });
    let error = soon(serving).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Connection(ssh_proto::Error::TimedOut(Stage::KeyExchange))
        ),
        "{error:?}"
    );
    // The server went first: it is too late for a verdict now.
    gone.notify_one();
    let error = soon(late).await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Connection(_) | Error::Io(_)),
        "{error:?}"
    );
    assert_eq!(*seen.log.lock().unwrap(), ["handler dropped"]);
}

/// A server that lets everybody in and hands out its connections; the client knows things of the caller's own.
async fn both(
    change: impl FnOnce(ClientOptions) -> ClientOptions,
) -> (Client, ServerConnection, Server) {
    struct Open {
        inner: TestHandler,
        connections: mpsc::UnboundedSender<ServerConnection>,
    }

    impl Handler for Open {
        fn connected(&mut self, connection: &ServerConnection) {
            self.connections.send(connection.clone()).unwrap();
        }
        async fn check_key_offer(&mut self, user: &str, key: &PublicKey) -> bool {
            self.inner.check_key_offer(user, key).await
        }
        async fn check_auth_public_key(&mut self, at: &LoginAttempt, key: &PublicKey) -> Verdict {
            self.inner.check_auth_public_key(at, key).await
        }
    }

    let (sender, mut connections) = mpsc::unbounded_channel();
    let server = Server::new(ServerOptions::new(config(), move |_| Open {
        inner: TestHandler::new(Arc::default()),
        connections: sender.clone(),
    }));
    let mut config = ClientConfig::new();
    let own = &mut config.transport.own;
    own.channel_kinds.push(OWN.into());
    own.channel_requests.push(OWN.into());
    own.global_requests.push(OWN.into());
    config.transport.log = LogLevel::Packet;
    let (near, far) = tokio::io::duplex(64 * 1024);
    drop(serve(&server, far));
    let connecting = Client::connect_stream(near, change(options().config(config)));
    let (client, driver) = soon(connecting).await.unwrap();
    drop(driver.spawn());
    log_in(&client).await;
    (client, soon(connections.recv()).await.unwrap(), server)
}

#[tokio::test]
async fn a_clients_answer_that_panics_ends_its_connection_only() {
    let (bystander, _, _) = both(|options| options).await;
    for asks in ["open", "channel request", "global request"] {
        let kept = Mutex::new(Vec::new());
        let (client, theirs, server) = both(|options| {
            options
                .on_channel_open(move |pending| {
                    assert_ne!(asks, "open", "the callback panics, as the test wants");
                    kept.lock().unwrap().push(pending.accept().unwrap());
                })
                .check_channel_request(|_, _, _| panic!("the callback panics, as the test wants"))
                .check_global_request(|_, _| panic!("the callback panics, as the test wants"))
        })
        .await;
        let asked = match asks {
            "open" => soon(theirs.open_custom(OWN, b"")).await.map(drop),
            "global request" => soon(theirs.global_request(OWN, b"", true)).await.map(drop),
            _ => {
                let (channel, _) = soon(theirs.open_custom(OWN, b"")).await.unwrap();
                soon(channel.request(OWN, b"", true)).await
            }
        };
        assert!(asked.is_err());
        until(|| !client.is_alive()).await;
        assert!(soon(client.ping(b"")).await.is_err());
        until(|| server.connections() == 0).await;
    }
    soon(bystander.ping(b"")).await.unwrap();
}

/// An attempt to log in whose callback panics costs the attempt, and nothing that comes of it is taken for what comes of the
/// next one.
async fn an_attempt_panics(options: ClientOptions, attempt: impl AsyncFnOnce(&Client)) {
    let mut config = config();
    config.banner = Some("welcome, or not".into());
    let server = TestServer::start_with(config, |options| options).await;
    let connecting = Client::connect_spawn(server.handle.address(), options);
    let client = soon(connecting).await.unwrap();
    let mut attempting = Box::pin(attempt(&client));
    let panicked = soon(std::future::poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| attempting.as_mut().poll(cx));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll.map(|()| false),
            Err(_) => std::task::Poll::Ready(true),
        }
    }))
    .await;
    assert!(panicked, "nobody has heard of the panic");
    drop(attempting);
    let outcome = soon(client.auth_password("user", "secret")).await;
    assert!(outcome.unwrap().success());
}

#[tokio::test]
async fn a_banner_that_panics_costs_its_attempt_and_the_panic_is_the_callers() {
    let options = options().on_banner(|_| panic!("the banner panics, as the test wants"));
    an_attempt_panics(options, async |client| {
        _ = client.auth_password("user", "wrong").await;
    })
    .await;
}

#[tokio::test]
async fn a_signer_that_panics_costs_its_attempt_and_the_panic_is_the_callers() {
    an_attempt_panics(options(), async |client| {
        let key = keys().1.public().clone();
        let sign = |_: &_| -> std::future::Ready<Option<Vec<u8>>> {
            panic!("the signer panics, as the test wants")
        };
        _ = client.auth_external("user", key, sign).await;
    })
    .await;
}

#[tokio::test]
async fn an_answerer_that_panics_costs_its_attempt_and_the_panic_is_the_callers() {
    an_attempt_panics(options(), async |client| {
        let answer = |_: &_| -> std::future::Ready<Option<Vec<ssh_proto::Secret>>> {
            panic!("the answerer panics, as the test wants")
        };
        _ = client.auth_keyboard_interactive("user", answer).await;
    })
    .await;
}

/// Calls everything on a client that need not be waited for.
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
        _ = client.events();
    }
}

#[tokio::test]
async fn a_clients_callbacks_may_use_the_connection_that_they_are_called_from() {
    let client = Arc::new(OnceLock::new());
    let calls: [Arc<AtomicUsize>; 4] = Default::default();
    let user = |number: usize| {
        let (client, calls) = (Arc::clone(&client), Arc::clone(&calls[number]));
        move || use_client(&client, &calls)
    };
    let (open, channel, global, log) = (user(0), user(1), user(2), user(3));
    let kept = Mutex::new(Vec::new());
    let (ours, theirs, server) = both(|options| {
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
    })
    .await;
    client.set(ours.clone()).unwrap();
    soon(async {
        let (channel, _) = theirs.open_custom(OWN, b"").await.unwrap();
        channel.request(OWN, b"", true).await.unwrap();
        let reply = theirs.global_request(OWN, b"", true).await;
        assert_eq!(reply.unwrap(), b"fine");
        ours.ping(b"").await.unwrap();
    })
    .await;
    // The callbacks hold handles.
    ours.disconnect();
    until(|| server.connections() == 0).await;
    let called = calls.map(|calls| calls.load(Ordering::Relaxed) > 0);
    assert_eq!(called, [true; 4]);
}

#[tokio::test]
async fn a_banner_may_use_the_connection_that_it_came_on() {
    let mut config = config();
    config.banner = Some("welcome".into());
    let server = TestServer::start_with(config, |options| options).await;
    let client = Arc::new(OnceLock::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let (used, counted) = (Arc::clone(&client), Arc::clone(&calls));
    let options = options().on_banner(move |_| use_client(&used, &counted));
    let connecting = Client::connect_spawn(server.handle.address(), options);
    let connected = soon(connecting).await.unwrap();
    client.set(connected.clone()).unwrap();
    let outcome = soon(connected.auth_password("user", "secret")).await;
    assert!(outcome.unwrap().success());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    connected.disconnect();
}

/// A handler that uses its connection in whatever it is asked.
struct Inside {
    inner: TestHandler,
    connection: Option<ServerConnection>,
    calls: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Inside {
    /// Calls everything on the connection that need not be waited for.
    fn within(&self, callback: &'static str) -> &ServerConnection {
        let connection = self.connection.as_ref().unwrap();
        assert!(connection.is_alive() && connection.closed().is_none());
        assert!(connection.peer_address().is_some());
        assert_eq!(connection.negotiated().is_some(), callback != "connected");
        _ = connection.rekeys();
        _ = connection.events();
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
    async fn check_key_offer(&mut self, user: &str, key: &PublicKey) -> bool {
        self.within("key offer");
        self.inner.check_key_offer(user, key).await
    }
    async fn check_auth_public_key(&mut self, attempt: &LoginAttempt, key: &PublicKey) -> Verdict {
        self.within("public key");
        self.inner.check_auth_public_key(attempt, key).await
    }
    fn authenticated(&mut self, _: &str) {
        self.within("authenticated");
    }
    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        self.within("open");
        self.inner.check_channel_open(kind).await
    }
    async fn check_env(&mut self, _: &Session, _: &[u8], _: &[u8]) -> bool {
        self.within("env");
        true
    }
    async fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        self.within("exec");
        self.inner.check_exec(session, command).await
    }
    async fn check_channel_request(&mut self, _: ChannelId, _: &str, _: &[u8]) -> bool {
        // What waits for the client may be waited for here.
        let asked = self.within("channel request");
        asked.global_request(OWN, b"", true).await.is_err()
    }
    async fn check_global_request(&mut self, _: &str, _: &[u8]) -> Option<Vec<u8>> {
        self.within("global request").disconnect("as asked");
        None
    }
    fn closed(&mut self, _: &Session) {
        self.within("closed");
    }
}

#[tokio::test]
async fn a_handler_may_use_the_connection_that_it_is_called_from() {
    let calls: Arc<Mutex<BTreeSet<_>>> = Arc::default();
    let noted = Arc::clone(&calls);
    let options = ServerOptions::new(config(), move |_| Inside {
        inner: TestHandler::new(Arc::default()),
        connection: None,
        calls: Arc::clone(&noted),
    });
    let handle = Server::new(options).bind("127.0.0.1:0").await.unwrap();
    let connecting = Client::connect_spawn(handle.address(), common::options());
    let client = soon(connecting).await.unwrap();
    let error = soon(async {
        let key = Method::PublicKey(Arc::clone(&keys().1));
        let outcome = client.authenticate("user", &mut [key]).await.unwrap();
        assert!(outcome.success());
        let output = client.exec("echo x").env("LC_ALL", "C").output().await;
        assert_eq!(output.unwrap().stdout, b"x\n");
        let (channel, _) = client.open_custom("echo@example.com", b"x").await.unwrap();
        channel
            .request("poke@example.com", b"", true)
            .await
            .unwrap();
        let asked = client.global_request("time@example.com", b"", true).await;
        asked.unwrap_err()
    })
    .await;
    let Error::Connection(ssh_proto::Error::Disconnected(said)) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(said.description, "as asked");
    until(|| handle.server().connections() == 0).await;
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
