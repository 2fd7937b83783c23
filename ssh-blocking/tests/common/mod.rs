//! A server for the tests, and clients that trust it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ssh_blocking::ssh_proto::config::{AuthMethod, HostKey, ServerConfig};
use ssh_blocking::ssh_proto::key::{KeyKind, PrivateKey, PublicKey};
use ssh_blocking::ssh_proto::{
    ChannelId, ExitSignal, LoginAttempt, OpenFailureReason, OpenKind, PromptRound, PtyRequest,
    Secret, Signal, WindowSize,
};
use ssh_blocking::{
    Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server, ServerHandle,
    ServerOptions, Session, Task, Verdict,
};

pub(crate) const MIB: usize = 1024 * 1024;

/// The server's host key and the user's key: made once per test process.
pub(crate) fn keys() -> &'static (Arc<PrivateKey>, Arc<PrivateKey>) {
    static KEYS: OnceLock<(Arc<PrivateKey>, Arc<PrivateKey>)> = OnceLock::new();
    KEYS.get_or_init(|| (Arc::new(new_key()), Arc::new(new_key())))
}

pub(crate) fn new_key() -> PrivateKey {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).unwrap();
    PrivateKey::generate(KeyKind::Ed25519, &entropy).unwrap()
}

pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig::new(vec![HostKey::Private(Arc::clone(&keys().0))]);
    config.failure_delay = Duration::from_millis(1);
    config
        .transport
        .own
        .channel_kinds
        .push("echo@example.com".into());
    config
        .transport
        .own
        .channel_requests
        .push("poke@example.com".into());
    config
        .transport
        .own
        .global_requests
        .push("time@example.com".into());
    config
}

/// What the handler saw, for tests to look at.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) log: Mutex<Vec<String>>,
}

impl Seen {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.log.lock().unwrap().iter().any(|seen| seen == line)
    }

    pub(crate) fn wait_for(&self, line: &str) {
        for _ in 0..500 {
            if self.has(line) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{line:?} never came: {:?}", self.log.lock().unwrap());
    }
}

/// The handler of the tests. Programs are words: `echo`, `cat`, `flood`, ..
pub(crate) struct TestHandler {
    pub(crate) seen: Arc<Seen>,
    sizes: BTreeMap<ChannelId, Arc<Mutex<WindowSize>>>,
    signals: BTreeMap<ChannelId, std::sync::mpsc::Sender<Signal>>,
}

impl TestHandler {
    pub(crate) fn new(seen: Arc<Seen>) -> Self {
        Self {
            seen,
            sizes: BTreeMap::new(),
            signals: BTreeMap::new(),
        }
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
    fn check_auth_none(&mut self, attempt: &LoginAttempt) -> Verdict {
        verdict(attempt.user() == "anybody")
    }

    fn check_auth_password(&mut self, attempt: &LoginAttempt, password: &Secret) -> Verdict {
        match attempt.user() {
            "panic" => panic!("the handler panics, as the test wants"),
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

    fn check_password_change(&mut self, _: &LoginAttempt, old: &Secret, new: &Secret) -> Verdict {
        verdict(*old == Secret::from("old") && *new == Secret::from("new"))
    }

    fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        self.seen.add("key offered");
        key == keys().1.public()
    }

    fn check_auth_public_key(&mut self, attempt: &LoginAttempt, key: &PublicKey) -> Verdict {
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

    fn check_auth_interactive(&mut self, _: &LoginAttempt, _: &str) -> Verdict {
        Verdict::Prompt(
            PromptRound::new("round one", "two questions")
                .with_prompt("Colour: ", true)
                .with_prompt("Code: ", false),
        )
    }

    fn check_auth_answers(&mut self, _: &LoginAttempt, answers: &[Secret]) -> Verdict {
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

    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            OpenKind::DirectTcpip { host, port, .. } => {
                let target = (host.clone(), *port);
                OpenVerdict::handle(move |pending| {
                    match std::net::TcpStream::connect((target.0.as_str(), target.1)) {
                        Err(error) => {
                            pending.refuse(OpenFailureReason::CONNECT_FAILED, &error.to_string());
                        }
                        Ok(stream) => {
                            let channel = pending.accept().unwrap();
                            let (reader, up) = (stream.try_clone().unwrap(), channel.clone());
                            let thread = std::thread::spawn(move || {
                                up.copy_from(&mut &reader).unwrap();
                                up.shutdown_write().unwrap();
                            });
                            channel.copy_to(&mut &stream).unwrap();
                            stream.shutdown(std::net::Shutdown::Write).unwrap();
                            thread.join().unwrap();
                        }
                    }
                })
            }
            OpenKind::Custom { data, .. } => {
                let data = data.clone();
                OpenVerdict::handle(move |pending| {
                    let mut reply = b"you said ".to_vec();
                    reply.extend_from_slice(&data);
                    let mut channel = pending.accept_with(&reply).unwrap();
                    std::io::copy(&mut channel.clone(), &mut channel).unwrap();
                })
            }
            _ => OpenVerdict::refuse(),
        }
    }

    fn check_pty(&mut self, session: &Session, pty: &PtyRequest) -> bool {
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

    fn check_env(&mut self, _: &Session, name: &[u8], _: &[u8]) -> bool {
        name.starts_with(b"LC_")
    }

    fn check_shell(&mut self, session: &Session) -> Option<Task> {
        let size = self.sizes.get(&session.channel).cloned();
        Some(Box::new(move |mut channel| {
            let mut byte = [0];
            while channel.read(&mut byte).unwrap_or(0) > 0 {
                match byte {
                    [b's'] => {
                        let now = size.as_ref().map(|size| *size.lock().unwrap());
                        let (columns, rows) = now.map_or((0, 0), |size| (size.columns, size.rows));
                        writeln!(channel, "{columns}x{rows}").unwrap();
                    }
                    [b'q'] => return ExitStatus::Code(7),
                    other => channel.write_all(&other).unwrap(),
                }
            }
            ExitStatus::Code(0)
        }))
    }

    fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        let command = String::from_utf8(command.to_vec()).ok()?;
        self.seen.add(format!("exec {command}"));
        let (word, rest) = command.split_once(' ').unwrap_or((&command, ""));
        let rest = rest.to_owned();
        let seen = Arc::clone(&self.seen);
        Some(match word {
            "echo" => Box::new(move |mut channel| {
                writeln!(channel, "{rest}").unwrap();
                ExitStatus::Code(0)
            }),
            "cat" => Box::new(|mut channel| {
                std::io::copy(&mut channel.clone(), &mut channel).unwrap();
                ExitStatus::Code(0)
            }),
            "env" => {
                let env = session.env.clone();
                Box::new(move |mut channel| {
                    for (name, value) in env {
                        let (name, value) = (
                            String::from_utf8(name).unwrap(),
                            String::from_utf8(value).unwrap(),
                        );
                        writeln!(channel, "{name}={value}").unwrap();
                    }
                    ExitStatus::Code(0)
                })
            }
            // So many bytes on both streams, alternating.
            "flood" => Box::new(move |mut channel| {
                let len: usize = rest.parse().unwrap();
                let mut stderr = channel.stderr();
                let (out, err) = (vec![b'o'; 32 * 1024], vec![b'e'; 32 * 1024]);
                for _ in 0..len / out.len() {
                    if channel.write_all(&out).is_err() || stderr.write_all(&err).is_err() {
                        seen.add("flood broke");
                        return ExitStatus::Code(1);
                    }
                }
                ExitStatus::Code(3)
            }),
            "sink" => Box::new(|channel| {
                let len = channel.copy_to(&mut std::io::sink()).unwrap();
                let mut channel = channel;
                writeln!(channel, "{len}").unwrap();
                ExitStatus::Code(0)
            }),
            // For ever, by copying, as far as anybody reads it.
            "pour" => Box::new(move |channel| {
                let poured = channel.copy_from(&mut std::io::repeat(7));
                seen.add(format!("pour ended {}", poured.is_ok()));
                ExitStatus::Code(0)
            }),
            "exit" => Box::new(move |_| ExitStatus::Code(rest.parse().unwrap())),
            "die" => Box::new(|_| {
                ExitStatus::Signal(ExitSignal {
                    signal: Signal::SEGV,
                    core_dumped: true,
                    message: "as asked".into(),
                })
            }),
            "silent" => Box::new(|_| ExitStatus::Missing),
            "panic" => Box::new(|_| panic!("the program panics, as the test wants")),
            "hang" => Box::new(move |mut channel| {
                let end = channel.read(&mut [0; 1]);
                seen.add(format!("hang ended {}", end.is_ok()));
                ExitStatus::Code(0)
            }),
            "trap" => {
                let (sender, receiver) = std::sync::mpsc::channel();
                self.signals.insert(session.channel, sender);
                Box::new(move |mut channel| {
                    write!(channel, "ready").unwrap();
                    let signal: Signal = receiver.recv().unwrap();
                    write!(channel, "got {signal}").unwrap();
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

    fn check_break(&mut self, _: &Session, ms: u32) -> bool {
        ms == 500
    }

    fn check_channel_request(&mut self, _: ChannelId, name: &str, data: &[u8]) -> bool {
        name == "poke@example.com" && data == b"gently"
    }

    fn check_global_request(&mut self, name: &str, data: &[u8]) -> Option<Vec<u8>> {
        (name == "time@example.com" && data == b"now?").then(|| b"noon".to_vec())
    }

    fn closed(&mut self, _: &Session) {
        self.seen.add("closed");
    }
}

pub(crate) struct TestServer {
    pub(crate) handle: ServerHandle,
    pub(crate) seen: Arc<Seen>,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::start_with(config(), |options| options)
    }

    pub(crate) fn start_with(
        config: ServerConfig,
        change: impl FnOnce(ServerOptions) -> ServerOptions,
    ) -> Self {
        let seen = Arc::new(Seen::default());
        let handle = server(config, &seen, change).bind("127.0.0.1:0").unwrap();
        Self { handle, seen }
    }

    /// Connected, not authenticated.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.handle.address(), options()).unwrap()
    }

    /// Connected and authenticated.
    pub(crate) fn client(&self) -> Client {
        let client = self.connect();
        let key = Arc::clone(&keys().1);
        assert!(client.auth_public_key("user", key).unwrap().success());
        client
    }
}

pub(crate) fn server(
    config: ServerConfig,
    seen: &Arc<Seen>,
    change: impl FnOnce(ServerOptions) -> ServerOptions,
) -> Server {
    let seen = Arc::clone(seen);
    let options = ServerOptions::new(config, move |_| TestHandler::new(Arc::clone(&seen)))
        .subsystem("reverse", |_| {
            Some(Box::new(|mut channel| {
                let mut all = Vec::new();
                channel.read_to_end(&mut all).unwrap();
                all.reverse();
                channel.write_all(&all).unwrap();
                ExitStatus::Code(0)
            }))
        });
    Server::new(change(options))
}

pub(crate) fn options() -> ClientOptions {
    ClientOptions::new(HostKeyPolicy::key(keys().0.public().clone()))
}

pub(crate) fn pty(columns: u32, rows: u32) -> PtyRequest {
    PtyRequest {
        term: "xterm".into(),
        columns,
        rows,
        ..PtyRequest::default()
    }
}
