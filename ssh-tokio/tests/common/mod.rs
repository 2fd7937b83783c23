//! A server for the tests, and clients that trust it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use ssh_tokio::ssh_proto::config::{AuthMethod, HostKey, ServerConfig};
use ssh_tokio::ssh_proto::key::{KeyKind, PrivateKey, PublicKey};
use ssh_tokio::ssh_proto::{
    ChannelId, ExitSignal, LoginAttempt, OpenFailureReason, OpenKind, PromptRound, PtyRequest,
    Secret, Signal, WindowSize,
};
use ssh_tokio::{
    Client, ClientOptions, Error, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server,
    ServerHandle, ServerOptions, Session, Task, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub const MIB: usize = 1024 * 1024;

/// The server's host key and the user's key: made once per test process.
pub fn keys() -> &'static (Arc<PrivateKey>, Arc<PrivateKey>) {
    static KEYS: OnceLock<(Arc<PrivateKey>, Arc<PrivateKey>)> = OnceLock::new();
    KEYS.get_or_init(|| (Arc::new(new_key()), Arc::new(new_key())))
}

pub fn new_key() -> PrivateKey {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).unwrap();
    PrivateKey::generate(KeyKind::Ed25519, &entropy).unwrap()
}

pub fn config() -> ServerConfig {
    let mut config = ServerConfig::new(vec![HostKey::Private(Arc::clone(&keys().0))]);
    config.failure_delay = Duration::from_millis(1);
    let own = &mut config.transport.own;
    own.channel_kinds.push("echo@example.com".into());
    own.channel_requests.push("poke@example.com".into());
    own.global_requests.push("time@example.com".into());
    config
}

/// Fails a test that hangs.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("it hangs")
}

/// Polls a future so many times at the most, then drops it.
pub async fn polls<T>(limit: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut done = 0;
    std::future::poll_fn(|cx| {
        if done == limit {
            return Poll::Ready(None);
        }
        done += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The last poll is the last: nobody would wake it again.
            Poll::Pending if done == limit => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Cuts at 0, 1, 2, .. polls, until the scenario gets to its end; sparser as it gets longer.
pub fn next_cut(cut: usize) -> usize {
    cut + 1 + cut / 40
}

/// What the handler saw, for tests to look at.
#[derive(Default)]
pub struct Seen {
    pub log: Mutex<Vec<String>>,
}

impl Seen {
    pub fn add(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    pub fn has(&self, line: &str) -> bool {
        self.log.lock().unwrap().iter().any(|seen| seen == line)
    }

    pub async fn wait_for(&self, line: &str) {
        for _ in 0..500 {
            if self.has(line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{line:?} never came: {:?}", self.log.lock().unwrap());
    }
}

/// The handler of the tests. Programs are words: `echo`, `cat`, `flood`, ..
pub struct TestHandler {
    pub seen: Arc<Seen>,
    sizes: BTreeMap<ChannelId, Arc<Mutex<WindowSize>>>,
    signals: BTreeMap<ChannelId, mpsc::UnboundedSender<Signal>>,
}

impl TestHandler {
    pub fn new(seen: Arc<Seen>) -> Self {
        Self {
            seen,
            sizes: BTreeMap::new(),
            signals: BTreeMap::new(),
        }
    }
}

impl Drop for TestHandler {
    fn drop(&mut self) {
        self.seen.add("handler dropped");
    }
}

fn verdict(fine: bool) -> Verdict {
    if fine {
        Verdict::Accept
    } else {
        Verdict::Refuse
    }
}

impl Handler for TestHandler {
    async fn check_auth_none(&mut self, attempt: &LoginAttempt) -> Verdict {
        verdict(attempt.user() == "anybody")
    }

    async fn check_auth_password(&mut self, attempt: &LoginAttempt, password: &Secret) -> Verdict {
        match attempt.user() {
            "panic" => panic!("the handler panics, as the test wants"),
            "slow" => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                verdict(*password == Secret::from("secret"))
            }
            "expired" => Verdict::PasswordExpired("choose another".into()),
            "factors" if *password == Secret::from("secret") => {
                if attempt.completed().contains(&AuthMethod::PublicKey) {
                    Verdict::Accept
                } else {
                    Verdict::Partial(vec![AuthMethod::PublicKey])
                }
            }
            "user" => verdict(*password == Secret::from("secret")),
            _ => Verdict::Refuse,
        }
    }

    async fn check_password_change(
        &mut self,
        _: &LoginAttempt,
        old: &Secret,
        new: &Secret,
    ) -> Verdict {
        verdict(*old == Secret::from("old") && *new == Secret::from("new"))
    }

    async fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        self.seen.add("key offered");
        key == keys().1.public()
    }

    async fn check_auth_public_key(&mut self, attempt: &LoginAttempt, key: &PublicKey) -> Verdict {
        if key != keys().1.public() {
            return Verdict::Refuse;
        }
        match attempt.user() {
            "factors" if !attempt.completed().contains(&AuthMethod::Password) => {
                Verdict::Partial(vec![AuthMethod::Password])
            }
            _ => Verdict::Accept,
        }
    }

    async fn check_auth_interactive(&mut self, _: &LoginAttempt, _: &str) -> Verdict {
        Verdict::Prompt(
            PromptRound::new("round one", "two questions")
                .with_prompt("Colour: ", true)
                .with_prompt("Code: ", false),
        )
    }

    async fn check_auth_answers(&mut self, _: &LoginAttempt, answers: &[Secret]) -> Verdict {
        match answers {
            [colour, code] if *colour == Secret::from("blue") && *code == Secret::from("42") => {
                Verdict::Prompt(PromptRound::new("round two", "").with_prompt("Sure? ", true))
            }
            [sure] => verdict(*sure == Secret::from("yes")),
            _ => Verdict::Refuse,
        }
    }

    fn authenticated(&mut self, user: &str) {
        self.seen.add(format!("authenticated {user}"));
    }

    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            OpenKind::DirectTcpip { host, port, .. } => {
                let target = (host.clone(), *port);
                OpenVerdict::handle(async move |pending| {
                    match tokio::net::TcpStream::connect((target.0.as_str(), target.1)).await {
                        Err(error) => {
                            pending.refuse(OpenFailureReason::CONNECT_FAILED, &error.to_string());
                        }
                        Ok(mut stream) => {
                            let mut channel = pending.accept().unwrap();
                            // An end that breaks is the test's business.
                            _ = tokio::io::copy_bidirectional(&mut channel, &mut stream).await;
                        }
                    }
                })
            }
            OpenKind::Custom { data, .. } if data == b"slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                self.seen.add("slow open decided");
                OpenVerdict::Accept
            }
            OpenKind::Custom { data, .. } => {
                let data = data.clone();
                OpenVerdict::handle(async move |pending| {
                    let mut reply = b"you said ".to_vec();
                    reply.extend_from_slice(&data);
                    let channel = pending.accept_with(&reply).unwrap();
                    _ = channel.copy_from(&mut channel.clone()).await;
                })
            }
            _ => OpenVerdict::refuse(),
        }
    }

    async fn check_pty(&mut self, session: &Session, pty: &PtyRequest) -> bool {
        let size = WindowSize {
            columns: pty.columns,
            rows: pty.rows,
            width_px: 0,
            height_px: 0,
        };
        self.sizes
            .insert(session.channel, Arc::new(Mutex::new(size)));
        pty.term != "refused"
    }

    async fn check_env(&mut self, _: &Session, name: &[u8], _: &[u8]) -> bool {
        name.starts_with(b"LC_")
    }

    async fn check_shell(&mut self, session: &Session) -> Option<Task> {
        let size = self.sizes.get(&session.channel).cloned();
        Some(Task::new(async move |mut channel| {
            let mut byte = [0];
            while channel.read(&mut byte).await.unwrap_or(0) > 0 {
                match byte {
                    [b's'] => {
                        let now = size.as_ref().map(|size| *size.lock().unwrap());
                        let (columns, rows) = now.map_or((0, 0), |size| (size.columns, size.rows));
                        let line = format!("{columns}x{rows}\n");
                        channel.write_all(line.as_bytes()).await.unwrap();
                    }
                    [b'q'] => return ExitStatus::Code(7),
                    other => channel.write_all(&other).await.unwrap(),
                }
            }
            ExitStatus::Code(0)
        }))
    }

    async fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        let command = String::from_utf8(command.to_vec()).ok()?;
        self.seen.add(format!("exec {command}"));
        let (word, rest) = command.split_once(' ').unwrap_or((&command, ""));
        let rest = rest.to_owned();
        let seen = Arc::clone(&self.seen);
        Some(match word {
            "echo" => Task::new(async move |mut channel| {
                let line = format!("{rest}\n");
                channel.write_all(line.as_bytes()).await.unwrap();
                ExitStatus::Code(0)
            }),
            "cat" => {
                Task::new(
                    async |channel| match channel.copy_from(&mut channel.clone()).await {
                        Ok(_) => ExitStatus::Code(0),
                        Err(_) => ExitStatus::Code(1),
                    },
                )
            }
            "env" => {
                let env = session.env.clone();
                Task::new(async move |mut channel| {
                    for (name, value) in env {
                        let line = [&name[..], b"=", &value[..], b"\n"].concat();
                        channel.write_all(&line).await.unwrap();
                    }
                    ExitStatus::Code(0)
                })
            }
            // So many bytes on both streams, at once.
            "flood" => Task::new(async move |mut channel| {
                let len: usize = rest.parse().unwrap();
                let mut stderr = channel.stderr();
                let (out, err) = (vec![b'o'; len], vec![b'e'; len]);
                let results = tokio::join!(channel.write_all(&out), stderr.write_all(&err));
                if results.0.is_err() || results.1.is_err() {
                    seen.add("flood broke");
                    return ExitStatus::Code(1);
                }
                ExitStatus::Code(3)
            }),
            // Counts, and says so at the end.
            "sink" => Task::new(async move |mut channel| {
                let len = channel.copy_to(&mut tokio::io::sink()).await.unwrap_or(0);
                seen.add(format!("sink got {len}"));
                _ = channel.write_all(format!("{len}\n").as_bytes()).await;
                ExitStatus::Code(0)
            }),
            // For ever, by copying, as far as anybody reads it.
            "pour" => Task::new(async move |channel| {
                let poured = channel.copy_from(&mut tokio::io::repeat(7)).await;
                seen.add(format!("pour ended {}", poured.is_ok()));
                ExitStatus::Code(0)
            }),
            "exit" => Task::new(async move |_| ExitStatus::Code(rest.parse().unwrap())),
            "die" => Task::new(async |_| {
                ExitStatus::Signal(ExitSignal {
                    signal: Signal::SEGV,
                    core_dumped: true,
                    message: "as asked".into(),
                })
            }),
            "silent" => Task::new(async |_| ExitStatus::Missing),
            "panic" => Task::new(async |_| panic!("the program panics, as the test wants")),
            "hang" => Task::new(async move |mut channel| {
                let end = channel.read(&mut [0; 1]).await;
                seen.add(format!("hang ended {}", end.is_ok()));
                ExitStatus::Code(0)
            }),
            "trap" => {
                let (sender, mut receiver) = mpsc::unbounded_channel();
                self.signals.insert(session.channel, sender);
                Task::new(async move |mut channel| {
                    channel.write_all(b"ready").await.unwrap();
                    let signal: Signal = receiver.recv().await.unwrap();
                    let line = format!("got {signal}");
                    channel.write_all(line.as_bytes()).await.unwrap();
                    ExitStatus::Code(0)
                })
            }
            _ => return None,
        })
    }

    fn window_change(&mut self, session: &Session, size: WindowSize) {
        if let Some(known) = self.sizes.get(&session.channel) {
            *known.lock().unwrap() = size;
        }
        self.seen
            .add(format!("size {}x{}", size.columns, size.rows));
    }

    fn signal(&mut self, session: &Session, signal: &Signal) {
        if let Some(sender) = self.signals.get(&session.channel) {
            sender.send(signal.clone()).unwrap();
        }
    }

    async fn check_break(&mut self, _: &Session, ms: u32) -> bool {
        ms == 500
    }

    async fn check_channel_request(&mut self, _: ChannelId, name: &str, data: &[u8]) -> bool {
        name == "poke@example.com" && data == b"gently"
    }

    async fn check_global_request(&mut self, name: &str, data: &[u8]) -> Option<Vec<u8>> {
        (name == "time@example.com" && data == b"now?").then(|| b"noon".to_vec())
    }

    fn closed(&mut self, _: &Session) {
        self.seen.add("closed");
    }
}

pub struct TestServer {
    pub handle: ServerHandle,
    pub seen: Arc<Seen>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(config(), |options| options).await
    }

    pub async fn start_with(
        config: ServerConfig,
        change: impl FnOnce(ServerOptions) -> ServerOptions,
    ) -> Self {
        let seen = Arc::new(Seen::default());
        let handle = server(config, &seen, change)
            .bind("127.0.0.1:0")
            .await
            .unwrap();
        Self { handle, seen }
    }

    /// Connected, not authenticated.
    pub async fn connect(&self) -> Client {
        soon(Client::connect_spawn(self.handle.address(), options()))
            .await
            .unwrap()
    }

    /// Connected and authenticated.
    pub async fn client(&self) -> Client {
        let client = self.connect().await;
        log_in(&client).await;
        client
    }
}

pub async fn log_in(client: &Client) {
    let key = Arc::clone(&keys().1);
    let outcome = soon(client.auth_public_key("user", key)).await.unwrap();
    assert!(outcome.success());
}

/// Both ends of a connection over a pipe in memory, authenticated, each with its task.
pub struct Pair {
    pub client: Client,
    pub server: Server,
    pub seen: Arc<Seen>,
    pub driver: JoinHandle<Result<(), Error>>,
    pub serving: JoinHandle<Result<(), Error>>,
}

pub async fn pair() -> Pair {
    pair_with(config(), 64 * 1024).await
}

pub async fn pair_with(config: ServerConfig, pipe: usize) -> Pair {
    let seen = Arc::new(Seen::default());
    let server = server(config, &seen, |options| options);
    let (near, far) = tokio::io::duplex(pipe);
    let serving = serve(&server, far);
    let (client, driver) = soon(Client::connect_stream(near, options())).await.unwrap();
    let driver = driver.spawn();
    log_in(&client).await;
    Pair {
        client,
        server,
        seen,
        driver,
        serving,
    }
}

pub fn serve(server: &Server, stream: DuplexStream) -> JoinHandle<Result<(), Error>> {
    let server = server.clone();
    tokio::spawn(async move { server.serve_stream(stream, None).await })
}

pub fn server(
    config: ServerConfig,
    seen: &Arc<Seen>,
    change: impl FnOnce(ServerOptions) -> ServerOptions,
) -> Server {
    let seen = Arc::clone(seen);
    let options = ServerOptions::new(config, move |_| TestHandler::new(Arc::clone(&seen)))
        .subsystem("reverse", |_| {
            Some(Task::new(async |mut channel| {
                let mut all = Vec::new();
                channel.read_to_end(&mut all).await.unwrap();
                all.reverse();
                channel.write_all(&all).await.unwrap();
                ExitStatus::Code(0)
            }))
        });
    Server::new(change(options))
}

pub fn options() -> ClientOptions {
    ClientOptions::new(HostKeyPolicy::key(keys().0.public().clone()))
}
