//! A server that people can use, on Tokio: any user name, everything runs as whoever started it.
//!
//! ```text
//! sshd-tokio --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]...
//!            [--subsystem NAME=COMMAND]... [--bind ADDR] [--max-connections N] [--threads N]
//!            [--allow-forwarding] [--gateway-ports]
//! ```
//!
//! There are as many threads as processors, unless `--threads` says otherwise.

#![cfg(unix)]

#[path = "../../ssh-blocking/examples/common/apply_modes.rs"]
mod apply_modes;
#[path = "../../ssh-blocking/examples/common/modes.rs"]
mod modes;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lexopt::prelude::*;
use rustix::process::Pid;
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcgetpgrp, tcsetattr, tcsetwinsize};
use ssh_tokio::ssh_proto::config::{AuthMethod, HostKey, ServerConfig};
use ssh_tokio::ssh_proto::key::{PrivateKey, PublicKey};
use ssh_tokio::ssh_proto::{
    ChannelId, ExitSignal, ForwardAddress, LoginAttempt, OpenKind, PtyRequest, Secret, Signal,
    WindowSize,
};
use ssh_tokio::{
    ExitStatus, ForwardPolicy, Forwarding, Handler, MaxStartups, OpenVerdict, Server,
    ServerChannel, ServerConnection, ServerOptions, Session, Task, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The pipes of a command hold so much: fewer switches between it and this process.
const PIPE_LEN: usize = 256 * 1024;
/// Signals that wait for the task of a process; what comes beyond them is lost.
const SIGNALS_LEN: usize = 16;
/// How long the screen of a program that has ended may be silent until it is complete.
const SILENCE: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sshd-tokio: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

#[derive(Default)]
struct Arguments {
    port: Option<u16>,
    bind: Option<IpAddr>,
    host_keys: Vec<OsString>,
    authorized_keys: Option<OsString>,
    passwords: Vec<(String, Secret)>,
    subsystems: Vec<(String, OsString)>,
    max_connections: Option<usize>,
    threads: Option<usize>,
    allow_forwarding: bool,
    gateway_ports: bool,
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("port") => arguments.port = Some(parser.value()?.parse()?),
            Long("bind") => arguments.bind = Some(parser.value()?.parse()?),
            Long("host-key") => arguments.host_keys.extend(parser.values()?),
            Long("authorized-keys") => arguments.authorized_keys = Some(parser.value()?),
            Long("password") => {
                let value = parser.value()?.string()?;
                let (user, password) = value
                    .split_once(':')
                    .ok_or("--password wants USER:PASSWORD")?;
                arguments.passwords.push((user.into(), password.into()));
            }
            Long("subsystem") => {
                let value = parser.value()?.string()?;
                let (name, command) = value
                    .split_once('=')
                    .ok_or("--subsystem wants NAME=COMMAND")?;
                arguments.subsystems.push((name.into(), command.into()));
            }
            Long("max-connections") => {
                arguments.max_connections = Some(parser.value()?.parse()?);
            }
            Long("threads") => arguments.threads = Some(parser.value()?.parse()?),
            Long("allow-forwarding") => arguments.allow_forwarding = true,
            Long("gateway-ports") => arguments.gateway_ports = true,
            Long("help") => {
                println!(
                    "sshd-tokio --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]...\n     \
                     [--subsystem NAME=COMMAND]... [--bind ADDR] [--max-connections N] [--threads N]\n     \
                     [--allow-forwarding] [--gateway-ports]\n\n\
                     Nothing is forwarded unless --allow-forwarding is given: then users may have this server\n\
                     connect to any host, port and Unix socket that it can reach, and listen on Unix sockets and on\n\
                     ports of its loopback addresses. --gateway-ports lets them listen on all its addresses."
                );
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(arguments)
}

fn run() -> Result<(), Failure> {
    let arguments = arguments()?;
    let mut builder = match arguments.threads {
        Some(1) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if let Some(threads) = arguments.threads.filter(|threads| *threads > 1) {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()?.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> Result<(), Failure> {
    let port = arguments.port.ok_or("--port is missing")?;
    if arguments.host_keys.is_empty() {
        return Err("--host-key is missing".into());
    }
    if arguments.authorized_keys.is_none() && arguments.passwords.is_empty() {
        return Err("--authorized-keys is missing".into());
    }
    let mut host_keys = Vec::new();
    for path in &arguments.host_keys {
        let file = Secret::from(read(path)?);
        let key = PrivateKey::from_openssh(file.expose(), None)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        host_keys.push(HostKey::Private(Arc::new(key)));
    }
    let keys = match &arguments.authorized_keys {
        Some(path) => authorized_keys(path)?,
        None => Vec::new(),
    };
    let mut config = ServerConfig::new(host_keys);
    config.auth_methods = vec![AuthMethod::PublicKey];
    if !arguments.passwords.is_empty() {
        config.auth_methods.push(AuthMethod::Password);
    }
    let users = Arc::new(Users {
        keys,
        passwords: arguments.passwords,
        subsystems: arguments.subsystems.into_iter().collect(),
    });
    let mut policy = ForwardPolicy::new();
    if arguments.allow_forwarding {
        policy = policy
            .connect(|_| true)
            .listen_on_paths(|_| true)
            .listen_on_loopback();
        if arguments.gateway_ports {
            policy = policy.listen_anywhere();
        }
    }
    let mut options = ServerOptions::new(config, move |peer| User {
        users: Arc::clone(&users),
        peer,
        forwarding: Forwarding::new(policy.clone()),
        running: BTreeMap::new(),
    });
    if let Some(max) = arguments.max_connections {
        // Whoever asks for many wants them at once, too.
        let startups = MaxStartups {
            start: max,
            rate: 100,
            full: max,
        };
        options = options.max_connections(max).max_startups(startups);
    }
    let bind = arguments.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(bind, port);
    let handle = Server::new(options)
        .bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("listening on {}", handle.address());
    io::stdout().flush()?;
    handle.wait().await;
    Ok(())
}

fn read(path: &OsStr) -> Result<Vec<u8>, Failure> {
    Ok(fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// The keys of an authorized_keys file. A line with options is refused: they are restrictions, and this server does
/// not enforce any.
fn authorized_keys(path: &OsStr) -> Result<Vec<PublicKey>, Failure> {
    let file = read(path)?;
    let mut keys = Vec::new();
    for (number, line) in String::from_utf8_lossy(&file).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match PublicKey::from_openssh(line) {
            Ok((key, _)) => keys.push(key),
            Err(error) => eprintln!(
                "sshd-tokio: {}:{}: line refused, it has options or is no key that is supported: {error}",
                path.display(),
                number + 1
            ),
        }
    }
    Ok(keys)
}

/// Who may come in, and what is there for them.
struct Users {
    keys: Vec<PublicKey>,
    passwords: Vec<(String, Secret)>,
    subsystems: BTreeMap<String, OsString>,
}

/// One connection.
struct User {
    users: Arc<Users>,
    peer: Option<SocketAddr>,
    forwarding: Forwarding,
    running: BTreeMap<ChannelId, Running>,
}

/// The terminal and the process of a session.
#[derive(Default)]
struct Running {
    /// Until the program takes it.
    pty: Option<(pty_process::Pty, pty_process::Pts)>,
    /// The same terminal, for sizes.
    screen: Option<Arc<OwnedFd>>,
    /// To the task that waits for the process: nobody else can know that the process is still the same.
    signals: Option<mpsc::Sender<rustix::process::Signal>>,
}

impl Handler for User {
    fn connected(&mut self, connection: &ServerConnection) {
        self.forwarding.connected(connection);
    }

    async fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.forwarding.check_forward(address).await
    }

    fn forward_granted(&mut self, address: &ForwardAddress) {
        self.forwarding.granted(address);
    }

    async fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
        self.forwarding.cancel(address).await
    }

    async fn check_auth_password(&mut self, attempt: &LoginAttempt, password: &Secret) -> Verdict {
        let mut verdict = Verdict::Refuse;
        for (user, right) in &self.users.passwords {
            if user == attempt.user() && right == password {
                verdict = Verdict::Accept;
            }
        }
        verdict
    }

    async fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        self.users.keys.contains(key)
    }

    async fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if self.users.keys.contains(key) {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            other => self.forwarding.check_open(other),
        }
    }

    async fn check_pty(&mut self, session: &Session, request: &PtyRequest) -> bool {
        let Ok((pty, pts)) = pty_process::open() else {
            return false;
        };
        let Ok(screen) = pty.as_fd().try_clone_to_owned() else {
            return false;
        };
        let size = WindowSize {
            columns: request.columns,
            rows: request.rows,
            width_px: request.width_px,
            height_px: request.height_px,
        };
        resize(&screen, size);
        if let Ok(mut termios) = tcgetattr(&screen) {
            apply_modes::apply(&request.modes, &mut termios);
            // A mode that the terminal does not have is left out.
            _ = tcsetattr(&screen, OptionalActions::Now, &termios);
        }
        let running = self.running.entry(session.channel).or_default();
        running.pty = Some((pty, pts));
        running.screen = Some(Arc::new(screen));
        true
    }

    async fn check_env(&mut self, _: &Session, name: &[u8], _: &[u8]) -> bool {
        name == b"LANG" || name.starts_with(b"LC_")
    }

    async fn check_shell(&mut self, session: &Session) -> Option<Task> {
        self.start(session, None)
    }

    async fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        self.start(session, Some(OsStr::from_bytes(command)))
    }

    async fn check_subsystem(&mut self, session: &Session, name: &str) -> Option<Task> {
        let command = self.users.subsystems.get(name)?.clone();
        self.start(session, Some(&command))
    }

    fn window_change(&mut self, session: &Session, size: WindowSize) {
        if let Some(running) = self.running.get(&session.channel)
            && let Some(screen) = &running.screen
        {
            resize(screen, size);
        }
    }

    fn signal(&mut self, session: &Session, signal: &Signal) {
        if let (Some(running), Some(signal)) =
            (self.running.get(&session.channel), signal_number(signal))
        {
            running.signal(signal);
        }
    }

    fn closed(&mut self, session: &Session) {
        // As when a terminal hangs up. What ignores it may go on.
        if let Some(running) = self.running.remove(&session.channel) {
            running.signal(rustix::process::Signal::HUP);
        }
    }
}

impl Running {
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(signals) = &self.signals {
            // A process that is gone needs no signal.
            _ = signals.try_send(signal);
        }
    }
}

impl User {
    /// Starts a command, or the shell. What is returned carries its data.
    fn start(&mut self, session: &Session, command: Option<&OsStr>) -> Option<Task> {
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        let mut process = Command::new(&shell);
        match command {
            Some(command) => _ = process.arg("-c").arg(command),
            None => {
                // The minus sign says that it is a login shell.
                let name = shell
                    .as_bytes()
                    .rsplit(|&b| b == b'/')
                    .next()
                    .unwrap_or(b"sh");
                let mut login = OsString::from("-");
                login.push(OsStr::from_bytes(name));
                process.arg0(login);
            }
        }
        if let Some(home) = std::env::home_dir() {
            process.current_dir(home);
        }
        for (name, value) in &session.env {
            process.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
        if let Some(peer) = self.peer {
            process.env("SSH_CLIENT", format!("{} {} 0", peer.ip(), peer.port()));
        }
        let running = self.running.entry(session.channel).or_default();
        let (sender, signals) = mpsc::channel(SIGNALS_LEN);
        running.signals = Some(sender);
        let result = match (&session.pty, running.pty.take()) {
            (Some(request), Some((pty, pts))) => {
                process.env("TERM", &request.term);
                on_terminal(process, pty, pts, signals, running.screen.clone())
            }
            _ => on_pipes(process, signals),
        };
        match result {
            Ok(task) => Some(task),
            Err(error) => {
                eprintln!("sshd-tokio: cannot start {}: {error}", shell.display());
                None
            }
        }
    }
}

type Signals = mpsc::Receiver<rustix::process::Signal>;

/// A command on three pipes.
fn on_pipes(mut process: Command, signals: Signals) -> io::Result<Task> {
    let (stdin_reader, stdin) = io::pipe()?;
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    for pipe in [stdin_reader.try_clone()?, stdout.try_clone()?] {
        larger(&pipe);
    }
    process
        .process_group(0)
        .stdin(Stdio::from(stdin_reader))
        .stdout(Stdio::from(stdout_writer))
        .stderr(Stdio::from(stderr_writer));
    let child = process.spawn()?;
    // It holds this side's copies of the pipes' other ends.
    drop(process);
    let mut stdin = pipe::Sender::from_owned_fd(stdin.into())?;
    let mut stdout = pipe::Receiver::from_owned_fd(stdout.into())?;
    let mut stderr = pipe::Receiver::from_owned_fd(stderr.into())?;
    Ok(Task::new(async move |channel: ServerChannel| {
        let mut errors = channel.stderr();
        // A task of its own: whatever comes wakes it alone. It ends with this one.
        let mut feed = JoinSet::new();
        let input = channel.clone();
        feed.spawn(async move {
            // The command may end without having read everything.
            _ = input.copy_to(&mut stdin).await;
        });
        // When the channel is gone first, the pipes are closed, and the command gets SIGPIPE if it goes on writing.
        let output = async {
            _ = channel.copy_from(&mut stdout).await;
            drop(stdout);
        };
        let complaints = async {
            _ = errors.copy_from(&mut stderr).await;
            drop(stderr);
        };
        let ((), (), status) = tokio::join!(output, complaints, finish(child, signals, None));
        status
    }))
}

/// More room in a pipe, where the system allows it.
fn larger(pipe: &io::PipeReader) {
    #[cfg(target_os = "linux")]
    {
        _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_LEN);
    }
    #[cfg(not(target_os = "linux"))]
    {
        _ = (pipe, PIPE_LEN);
    }
}

/// A command on a terminal of its own.
fn on_terminal(
    process: Command,
    pty: pty_process::Pty,
    pts: pty_process::Pts,
    signals: Signals,
    screen: Option<Arc<OwnedFd>>,
) -> io::Result<Task> {
    let process = pty_process::Command::from(process);
    let child = process.spawn(pts).map_err(io::Error::other)?;
    Ok(Task::new(async move |mut channel: ServerChannel| {
        let (mut output, mut keyboard) = pty.into_split();
        let input = channel.clone();
        let feed = async {
            _ = input.copy_to(&mut keyboard).await;
            std::future::pending::<()>().await;
        };
        let show = async {
            let mut ended = std::pin::pin!(finish(child, signals, screen));
            let mut status = None;
            let mut buf = vec![0; 16 * 1024];
            // Until its program has ended and everything was sent. Others that it left behind may hold the terminal
            // open: they are not waited for.
            loop {
                let read = async {
                    match &status {
                        None => output.read(&mut buf).await.ok(),
                        Some(_) => tokio::time::timeout(SILENCE, output.read(&mut buf))
                            .await
                            .ok()
                            .and_then(Result::ok),
                    }
                };
                let len = tokio::select! {
                    biased;
                    read = read => read.unwrap_or(0),
                    end = &mut ended, if status.is_none() => {
                        status = Some(end);
                        continue;
                    }
                };
                // Linux says EIO when nobody has the terminal open any more.
                let Some(bytes) = buf.get(..len).filter(|bytes| !bytes.is_empty()) else {
                    break;
                };
                if channel.write_all(bytes).await.is_err() {
                    break;
                }
            }
            match status {
                Some(status) => status,
                None => ended.await,
            }
        };
        tokio::select! {
            status = show => status,
            () = feed => ExitStatus::Missing,
        }
    }))
}

/// Waits for a process, and passes signals on to it meanwhile. It is reaped here and nowhere else, so its number belongs
/// to no other process before that.
async fn finish(
    mut child: Child,
    mut signals: Signals,
    screen: Option<Arc<OwnedFd>>,
) -> ExitStatus {
    loop {
        let leader = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let ended = tokio::select! {
            ended = child.wait() => ended,
            Some(signal) = signals.recv() => {
                let foreground = screen.as_ref().and_then(|screen| tcgetpgrp(&**screen).ok());
                if let Some(group) = foreground.or(leader) {
                    _ = rustix::process::kill_process_group(group, signal);
                }
                continue;
            }
        };
        return match ended {
            Err(_) => ExitStatus::Missing,
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => ExitStatus::Code(code.cast_unsigned()),
                (None, Some(number)) => ExitStatus::Signal(ExitSignal {
                    signal: signal_name(number),
                    core_dumped: status.core_dumped(),
                    message: String::new(),
                }),
                (None, None) => ExitStatus::Missing,
            },
        };
    }
}

fn resize(screen: &OwnedFd, size: WindowSize) {
    let short = |value| u16::try_from(value).unwrap_or(u16::MAX);
    let size = Winsize {
        ws_row: short(size.rows),
        ws_col: short(size.columns),
        ws_xpixel: short(size.width_px),
        ws_ypixel: short(size.height_px),
    };
    // It fails only when the terminal is gone.
    _ = tcsetwinsize(screen, size);
}

/// The signals that RFC 4254 section 6.10 names.
const SIGNALS: &[(Signal, rustix::process::Signal)] = &[
    (Signal::ABRT, rustix::process::Signal::ABORT),
    (Signal::ALRM, rustix::process::Signal::ALARM),
    (Signal::FPE, rustix::process::Signal::FPE),
    (Signal::HUP, rustix::process::Signal::HUP),
    (Signal::ILL, rustix::process::Signal::ILL),
    (Signal::INT, rustix::process::Signal::INT),
    (Signal::KILL, rustix::process::Signal::KILL),
    (Signal::PIPE, rustix::process::Signal::PIPE),
    (Signal::QUIT, rustix::process::Signal::QUIT),
    (Signal::SEGV, rustix::process::Signal::SEGV),
    (Signal::TERM, rustix::process::Signal::TERM),
    (Signal::USR1, rustix::process::Signal::USR1),
    (Signal::USR2, rustix::process::Signal::USR2),
];

fn signal_number(signal: &Signal) -> Option<rustix::process::Signal> {
    SIGNALS
        .iter()
        .find(|(name, _)| name == signal)
        .map(|&(_, number)| number)
}

fn signal_name(number: i32) -> Signal {
    SIGNALS
        .iter()
        .find(|(_, known)| known.as_raw() == number)
        .map(|(name, _)| name.clone())
        // RFC 4254 section 6.10: "Additional signal names MAY be sent in the format "sig-name@xyz""
        .or_else(|| Signal::new(&format!("{number}@example.com")))
        .unwrap_or(Signal::KILL)
}
