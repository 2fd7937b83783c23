//! A server that people can use: any user name, everything runs as whoever started it.
//!
//! ```text
//! sshd --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]...
//!      [--subsystem NAME=COMMAND]... [--bind ADDR] [--max-connections N] [--allow-forwarding] [--gateway-ports]
//! ```

#![cfg(unix)]

#[path = "common/apply_modes.rs"]
mod apply_modes;
#[path = "common/modes.rs"]
mod modes;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use lexopt::prelude::*;
use pty_process::blocking as pty;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitIdOptions};
use rustix::termios::{OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};
use ssh_blocking::ssh_proto::config::{AuthMethod, HostKey, ServerConfig};
use ssh_blocking::ssh_proto::key::{PrivateKey, PublicKey};
use ssh_blocking::ssh_proto::{
    ChannelId, ExitSignal, ForwardAddress, LoginAttempt, OpenKind, PtyRequest, Secret, Signal,
    WindowSize,
};
use ssh_blocking::{
    ExitStatus, ForwardPolicy, Forwarding, Handler, OpenVerdict, Server, ServerChannel,
    ServerConnection, ServerOptions, Session, Task, Verdict,
};

/// The pipes of a command hold so much: fewer switches between it and this process.
const PIPE_LEN: usize = 256 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sshd: {error}");
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
            Long("max-connections") => arguments.max_connections = Some(parser.value()?.parse()?),
            Long("allow-forwarding") => arguments.allow_forwarding = true,
            Long("gateway-ports") => arguments.gateway_ports = true,
            Long("help") => {
                println!(
                    "sshd --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]...\n     \
                     [--subsystem NAME=COMMAND]... [--bind ADDR] [--max-connections N]\n     \
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
        options = options.max_connections(max);
    }
    let bind = arguments.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(bind, port);
    let handle = Server::new(options)
        .bind(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("listening on {}", handle.address());
    io::stdout().flush()?;
    handle.wait();
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
                "sshd: {}:{}: line refused, it has options or is no key that is supported: {error}",
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
    pty: Option<(Arc<pty::Pty>, Option<pty::Pts>)>,
    /// The process group, until its leader was waited for.
    group: Arc<Mutex<Option<Pid>>>,
}

impl Handler for User {
    fn connected(&mut self, connection: &ServerConnection) {
        self.forwarding.connected(connection);
    }

    fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.forwarding.check_forward(address)
    }

    fn forward_granted(&mut self, address: &ForwardAddress) {
        self.forwarding.granted(address);
    }

    fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
        self.forwarding.cancel(address)
    }

    fn check_auth_password(&mut self, attempt: &LoginAttempt, password: &Secret) -> Verdict {
        let mut verdict = Verdict::Refuse;
        for (user, right) in &self.users.passwords {
            if user == attempt.user() && right == password {
                verdict = Verdict::Accept;
            }
        }
        verdict
    }

    fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        self.users.keys.contains(key)
    }

    fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if self.users.keys.contains(key) {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            other => self.forwarding.check_open(other),
        }
    }

    fn check_pty(&mut self, session: &Session, request: &PtyRequest) -> bool {
        let Ok((pty, pts)) = pty::open() else {
            return false;
        };
        let size = WindowSize {
            columns: request.columns,
            rows: request.rows,
            width_px: request.width_px,
            height_px: request.height_px,
        };
        resize(&pty, size);
        if let Ok(mut termios) = tcgetattr(&pty) {
            apply_modes::apply(&request.modes, &mut termios);
            // A mode that the terminal does not have is left out.
            _ = tcsetattr(&pty, OptionalActions::Now, &termios);
        }
        let running = self.running.entry(session.channel).or_default();
        running.pty = Some((Arc::new(pty), Some(pts)));
        true
    }

    fn check_env(&mut self, _: &Session, name: &[u8], _: &[u8]) -> bool {
        name == b"LANG" || name.starts_with(b"LC_")
    }

    fn check_shell(&mut self, session: &Session) -> Option<Task> {
        self.start(session, None)
    }

    fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        self.start(session, Some(OsStr::from_bytes(command)))
    }

    fn check_subsystem(&mut self, session: &Session, name: &str) -> Option<Task> {
        let command = self.users.subsystems.get(name)?.clone();
        self.start(session, Some(&command))
    }

    fn window_change(&mut self, session: &Session, size: WindowSize) {
        if let Some(Running {
            pty: Some((pty, _)),
            ..
        }) = self.running.get(&session.channel)
        {
            resize(pty, size);
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
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(leader) = *group else {
            return;
        };
        let foreground = self
            .pty
            .as_ref()
            .and_then(|(pty, _)| tcgetpgrp(&**pty).ok());
        // Who is gone needs no signal.
        _ = rustix::process::kill_process_group(foreground.unwrap_or(leader), signal);
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
        let group = Arc::clone(&running.group);
        let result = match (&session.pty, &mut running.pty) {
            (Some(request), Some((pty, pts))) => {
                process.env("TERM", &request.term);
                let pty = Arc::clone(pty);
                let pts = pts.take()?;
                on_terminal(process, pty, pts, group)
            }
            _ => on_pipes(process, group),
        };
        match result {
            Ok(task) => Some(task),
            Err(error) => {
                eprintln!("sshd: cannot start {}: {error}", shell.display());
                None
            }
        }
    }
}

/// A command on three pipes.
fn on_pipes(mut process: Command, group: Arc<Mutex<Option<Pid>>>) -> io::Result<Task> {
    let (stdin_reader, mut stdin) = io::pipe()?;
    let (mut stdout, stdout_writer) = io::pipe()?;
    let (mut stderr, stderr_writer) = io::pipe()?;
    for pipe in [stdin_reader.try_clone()?, stdout.try_clone()?] {
        larger(&pipe);
    }
    process
        .process_group(0)
        .stdin(Stdio::from(stdin_reader))
        .stdout(Stdio::from(stdout_writer))
        .stderr(Stdio::from(stderr_writer));
    let mut child = process.spawn()?;
    // It holds this side's copies of the pipes' other ends.
    drop(process);
    set(&group, Some(Pid::from_child(&child)));
    Ok(Box::new(move |channel: ServerChannel| {
        let input = channel.clone();
        // The command may end without having read everything: then the thread ends with the channel.
        thread::spawn(move || {
            _ = input.copy_to(&mut stdin);
            drop::<PipeWriter>(stdin);
        });
        let errors = channel.stderr();
        let errors = thread::spawn(move || drain(&mut stderr, |stderr| errors.copy_from(stderr)));
        drain(&mut stdout, |stdout| channel.copy_from(stdout));
        _ = errors.join();
        finish(&mut child, &group)
    }))
}

/// Moves what a pipe gives until its end. When the channel is gone first, the pipe is closed, and the command gets
/// SIGPIPE if it goes on writing.
fn drain(pipe: &mut PipeReader, copy: impl FnOnce(&mut PipeReader) -> io::Result<u64>) {
    _ = copy(pipe);
}

/// More room in a pipe, where the system allows it.
fn larger(pipe: &PipeReader) {
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
    pty: Arc<pty::Pty>,
    pts: pty::Pts,
    group: Arc<Mutex<Option<Pid>>>,
) -> io::Result<Task> {
    let process = pty::Command::from(process);
    let mut child = process.spawn(pts).map_err(io::Error::other)?;
    set(&group, Some(Pid::from_child(&child)));
    let (ended, tell) = io::pipe()?;
    Ok(Box::new(move |channel: ServerChannel| {
        let (input, keyboard) = (channel.clone(), Arc::clone(&pty));
        thread::spawn(move || _ = input.copy_to(&mut &*keyboard));
        let waiter = thread::spawn(move || {
            let status = finish(&mut child, &group);
            drop(tell);
            status
        });
        screen(&pty, &ended, &channel);
        waiter.join().unwrap_or(ExitStatus::Missing)
    }))
}

/// Sends what appears on a terminal, until its program has ended and everything was sent. Others that it left behind
/// may hold the terminal open: they are not waited for.
fn screen(pty: &pty::Pty, ended: &PipeReader, mut channel: &ServerChannel) {
    let mut buf = vec![0; 16 * 1024];
    let mut over = false;
    loop {
        let mut fds = [
            PollFd::new(pty, PollFlags::IN),
            PollFd::new(ended, PollFlags::IN),
        ];
        let now = rustix::event::Timespec::default();
        match rustix::event::poll(&mut fds, over.then_some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        over |= !fds[1].revents().is_empty();
        let ready = fds[0].revents();
        if ready.is_empty() {
            if over {
                return;
            }
            continue;
        }
        // Linux says EIO when nobody has the terminal open any more.
        let mut reader = pty;
        match reader.read(&mut buf) {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                if channel.write_all(&buf[..len]).is_err() {
                    return;
                }
            }
        }
    }
}

/// Waits for a process. Its number is forgotten before another process can get it.
fn finish(child: &mut Child, group: &Mutex<Option<Pid>>) -> ExitStatus {
    let pid = Pid::from_child(child);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) =
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options)
    {}
    set(group, None);
    match child.wait() {
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
    }
}

fn set(group: &Mutex<Option<Pid>>, pid: Option<Pid>) {
    *group.lock().unwrap_or_else(PoisonError::into_inner) = pid;
}

fn resize(pty: &pty::Pty, size: WindowSize) {
    let short = |value| u16::try_from(value).unwrap_or(u16::MAX);
    // It fails only when the terminal is gone.
    _ = pty.resize(pty_process::Size::new_with_pixel(
        short(size.rows),
        short(size.columns),
        short(size.width_px),
        short(size.height_px),
    ));
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
