//! A server of this library within the test: accounts as the test wants them, commands of `/bin/sh` on pipes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ssh_blocking::ssh_proto::key::{KeyKind, PrivateKey, PublicKey};
use ssh_blocking::ssh_proto::{
    AuthMethod, ChannelId, ExitSignal, ForwardAddress, HostKey, LoginAttempt, OpenKind,
    PromptRound, PtyRequest, Secret, ServerConfig, Signal, WindowSize,
};
use ssh_blocking::{
    ExitStatus, ForwardPolicy, Forwarding, Handler, OpenVerdict, Server, ServerChannel,
    ServerConnection, ServerHandle, ServerOptions, Session, Task, Verdict,
};

use crate::peers::{self, Ssh, Version};

/// Who may log in, and how. Every user name is the same to it.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// Everybody is let in.
    pub open: bool,
    /// Keys that are let in.
    pub keys: Vec<PublicKey>,
    /// The password.
    pub password: Option<String>,
    /// The password that replaces it, which makes it an expired one.
    pub new_password: Option<String>,
    /// Rounds of questions, and the right answers to each.
    pub rounds: Vec<(PromptRound, Vec<String>)>,
    /// The methods that must all be passed, in this order. Empty: any one of them does.
    pub factors: Vec<AuthMethod>,
    /// What may be forwarded. Nothing, unless said otherwise.
    pub forwards: ForwardPolicy,
    /// Sessions may have a terminal: not a real one, but what is asked about it is noted.
    pub terminals: bool,
}

/// What a server's handlers were asked, one line each.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, line: impl Into<String>) {
        lock(&self.0).push(line.into());
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        lock(&self.0).clone()
    }

    /// Waits for a line that contains `text`.
    ///
    /// # Panics
    /// If it takes longer than `timeout`.
    #[track_caller]
    pub fn wait_for(&self, text: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.lines().iter().any(|line| line.contains(text)) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} in {:?}",
                self.lines()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct OurServer {
    handle: ServerHandle,
    host_key: PublicKey,
    seen: Seen,
    connections: Arc<Mutex<Vec<ServerConnection>>>,
}

impl OurServer {
    /// Starts a server with a configuration that `change` has changed.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    #[track_caller]
    pub fn start(accounts: Accounts, change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::start_with(accounts, change, |options| options)
    }

    /// The same, with options that `more` has added to.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    #[track_caller]
    pub fn start_with(
        accounts: Accounts,
        change: impl FnOnce(&mut ServerConfig),
        more: impl FnOnce(ServerOptions) -> ServerOptions,
    ) -> Self {
        // A test's host key may be known to everybody.
        let key = PrivateKey::generate(KeyKind::Ed25519, &[7; 32])
            .unwrap_or_else(|error| panic!("no key: {error}"));
        let mut config = ServerConfig::new(vec![HostKey::Private(Arc::new(key))]);
        config.failure_delay = Duration::from_millis(1);
        if accounts.open {
            config.auth_methods.push(AuthMethod::None);
        }
        change(&mut config);
        let host_key = config
            .host_keys
            .first()
            .map(|key| key.public().clone())
            .unwrap_or_else(|| panic!("no host key"));
        let connections = Arc::default();
        let kept = Arc::clone(&connections);
        let seen = Seen::default();
        let (accounts, told) = (Arc::new(accounts), seen.clone());
        let options = ServerOptions::new(config, move |_| User {
            accounts: Arc::clone(&accounts),
            seen: told.clone(),
            round: 0,
            processes: BTreeMap::new(),
            connection: None,
            connections: Arc::clone(&kept),
            forwarding: Forwarding::new(accounts.forwards.clone()),
        });
        let handle = Server::new(more(options))
            .bind((std::net::Ipv4Addr::LOCALHOST, 0))
            .unwrap_or_else(|error| panic!("cannot listen: {error}"));
        Self {
            handle,
            host_key,
            seen,
            connections,
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    /// Its host key.
    #[must_use]
    pub const fn host_key(&self) -> &PublicKey {
        &self.host_key
    }

    /// What its handlers were asked.
    #[must_use]
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The connections whose users have logged in, the oldest first; those that have ended as well.
    #[must_use]
    pub fn connections(&self) -> Vec<ServerConnection> {
        lock(&self.connections).clone()
    }

    /// OpenSSH's client for it, which takes its host key only.
    #[must_use]
    pub fn client(&self, version: Version) -> Ssh {
        Ssh::new(version, self.address()).host_key(&self.host_key.to_openssh(""))
    }
}

struct User {
    accounts: Arc<Accounts>,
    seen: Seen,
    /// The round of questions that is answered next.
    round: usize,
    processes: BTreeMap<ChannelId, Arc<Mutex<Option<u32>>>>,
    connection: Option<ServerConnection>,
    connections: Arc<Mutex<Vec<ServerConnection>>>,
    forwarding: Forwarding,
}

impl User {
    /// What a good proof by `method` is worth.
    fn passed(&self, attempt: &LoginAttempt, method: AuthMethod) -> Verdict {
        let factors = &self.accounts.factors;
        if factors.is_empty() {
            return Verdict::Accept;
        }
        let before = attempt.completed();
        let next = factors.iter().find(|factor| !before.contains(factor));
        if next != Some(&method) {
            return Verdict::Refuse;
        }
        match factors
            .iter()
            .find(|&factor| *factor != method && !before.contains(factor))
        {
            Some(&after) => Verdict::Partial(vec![after]),
            None => Verdict::Accept,
        }
    }

    fn ask(&self, attempt: &LoginAttempt) -> Verdict {
        match self.accounts.rounds.get(self.round) {
            Some((round, _)) => Verdict::Prompt(round.clone()),
            None if self.round > 0 => self.passed(attempt, AuthMethod::KeyboardInteractive),
            None => Verdict::Refuse,
        }
    }
}

impl Handler for User {
    fn connected(&mut self, connection: &ServerConnection) {
        self.seen.add("connected");
        self.connection = Some(connection.clone());
        self.forwarding.connected(connection);
    }

    fn check_auth_none(&mut self, attempt: &LoginAttempt) -> Verdict {
        if self.accounts.open {
            self.passed(attempt, AuthMethod::None)
        } else {
            Verdict::Refuse
        }
    }

    fn check_auth_password(&mut self, attempt: &LoginAttempt, password: &Secret) -> Verdict {
        self.seen.add("password");
        match &self.accounts.password {
            Some(right) if *password == Secret::from(right.as_str()) => {
                if self.accounts.new_password.is_some() {
                    Verdict::PasswordExpired("Your password has expired.".into())
                } else {
                    self.passed(attempt, AuthMethod::Password)
                }
            }
            _ => Verdict::Refuse,
        }
    }

    fn check_password_change(
        &mut self,
        attempt: &LoginAttempt,
        old: &Secret,
        new: &Secret,
    ) -> Verdict {
        self.seen.add("password change");
        let is = |secret: &Secret, text: &Option<String>| {
            text.as_ref()
                .is_some_and(|text| *secret == Secret::from(text.as_str()))
        };
        if is(old, &self.accounts.password) && is(new, &self.accounts.new_password) {
            self.passed(attempt, AuthMethod::Password)
        } else {
            Verdict::Refuse
        }
    }

    fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        self.seen.add(format!("offer {}", key.key_type()));
        self.accounts.keys.contains(key)
    }

    fn check_auth_public_key(&mut self, attempt: &LoginAttempt, key: &PublicKey) -> Verdict {
        self.seen.add(format!("proof {}", key.key_type()));
        if self.accounts.keys.contains(key) {
            self.passed(attempt, AuthMethod::PublicKey)
        } else {
            Verdict::Refuse
        }
    }

    fn check_auth_interactive(&mut self, attempt: &LoginAttempt, _: &str) -> Verdict {
        self.round = 0;
        self.ask(attempt)
    }

    fn check_auth_answers(&mut self, attempt: &LoginAttempt, answers: &[Secret]) -> Verdict {
        self.seen.add(format!("{} answers", answers.len()));
        let right = self
            .accounts
            .rounds
            .get(self.round)
            .is_some_and(|(_, right)| {
                right.len() == answers.len()
                    && right
                        .iter()
                        .zip(answers)
                        .all(|(right, answer)| *answer == Secret::from(right.as_str()))
            });
        if !right {
            return Verdict::Refuse;
        }
        self.round += 1;
        self.ask(attempt)
    }

    fn authenticated(&mut self, user: &str) {
        lock(&self.connections).extend(self.connection.take());
        self.seen.add(format!("authenticated {user}"));
    }

    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            other => self.forwarding.check_open(other),
        }
    }

    fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.forwarding.check_forward(address)
    }

    fn forward_granted(&mut self, address: &ForwardAddress) {
        self.seen.add("listening");
        self.forwarding.granted(address);
    }

    fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
        self.seen.add("cancelled");
        self.forwarding.cancel(address)
    }

    fn check_pty(&mut self, _: &Session, pty: &PtyRequest) -> bool {
        self.seen
            .add(format!("terminal {}x{}", pty.columns, pty.rows));
        self.accounts.terminals
    }

    fn check_env(&mut self, _: &Session, name: &[u8], _: &[u8]) -> bool {
        name.starts_with(b"LC_")
    }

    fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        let mut process = Command::new("/bin/sh");
        process
            .arg("-c")
            .arg(std::ffi::OsStr::from_bytes(command))
            .process_group(0);
        for (name, value) in &session.env {
            process.env(
                std::ffi::OsStr::from_bytes(name),
                std::ffi::OsStr::from_bytes(value),
            );
        }
        let id = Arc::default();
        self.processes.insert(session.channel, Arc::clone(&id));
        Some(Box::new(move |channel| run(process, &channel, &id)))
    }

    fn window_change(&mut self, _: &Session, size: WindowSize) {
        self.seen
            .add(format!("resized {}x{}", size.columns, size.rows));
    }

    fn signal(&mut self, session: &Session, signal: &Signal) {
        self.seen.add(format!("signal {signal}"));
        if let Some(process) = self.processes.get(&session.channel)
            && let Some(id) = *lock(process)
        {
            peers::signal(signal.name(), &[-i64::from(id)]);
        }
    }

    fn check_break(&mut self, _: &Session, ms: u32) -> bool {
        self.seen.add(format!("break of {ms} ms"));
        true
    }

    fn closed(&mut self, session: &Session) {
        self.seen.add("closed");
        if let Some(process) = self.processes.remove(&session.channel)
            && let Some(id) = *lock(&process)
        {
            peers::signal("HUP", &[-i64::from(id)]);
        }
    }
}

/// Runs a command on the streams of a channel. `running` has its id for as long as it can be signalled.
fn run(mut process: Command, channel: &ServerChannel, running: &Mutex<Option<u32>>) -> ExitStatus {
    let spawned = process
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("cannot run /bin/sh: {error}"));
    *lock(running) = Some(child.id());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = channel.clone();
    // The command may end without having read everything: then the thread ends with the channel.
    thread::spawn(move || stdin.map(|mut stdin| input.copy_to(&mut stdin)));
    let errors = channel.stderr();
    let errors = thread::spawn(move || stderr.map(|mut stderr| errors.copy_from(&mut stderr)));
    // These fail when the client has closed the channel: then the command is told so by its pipes.
    let _ = stdout.map(|mut stdout| channel.copy_from(&mut stdout));
    let _ = errors.join();
    let status = child
        .wait()
        .unwrap_or_else(|error| panic!("cannot wait for a command: {error}"));
    *lock(running) = None;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code.cast_unsigned()),
        (None, Some(15)) => ended_by(Signal::TERM),
        (None, Some(9)) => ended_by(Signal::KILL),
        (None, _) => ExitStatus::Missing,
    }
}

const fn ended_by(signal: Signal) -> ExitStatus {
    ExitStatus::Signal(ExitSignal {
        signal,
        core_dumped: false,
        message: String::new(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
