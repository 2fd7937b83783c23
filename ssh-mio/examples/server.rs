//! A server that serves thousands of connections with one thread.
//!
//! ```text
//! server --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]... [--bind ADDR]
//!        [--allow-forwarding] [--gateway-ports]
//! ```
//!
//! Any user name may come in with a key of the file, or with its password. There are four commands: `echo TEXT`, `cat`,
//! `source BYTES` and `sink`. Nothing is forwarded unless `--allow-forwarding` is given: then users may have this server
//! connect to any host, port and Unix socket that it can reach, and listen on Unix sockets and on ports of its loopback
//! addresses. `--gateway-ports` lets them listen on all its addresses.

#[path = "common/commands.rs"]
mod commands;
#[path = "common/descriptors.rs"]
mod descriptors;
#[path = "common/names.rs"]
mod names;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::{AuthMethod, HostKey, ServerConfig};
use ssh_mio::ssh_proto::key::{PrivateKey, PublicKey};
use ssh_mio::ssh_proto::{Secret, ServerEvent, ServerRole};
use ssh_mio::{ForwardPolicy, ServerForwards, ServerSession, Sessions, mio, seed};

use commands::{Commands, Running};
use names::Names;

const USAGE: &str = "server --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]... [--bind ADDR]\n       \
                     [--allow-forwarding] [--gateway-ports]";
const LISTENER: Token = Token(0);
const NAMES: Token = Token(1);
const SESSIONS: Token = Token(2);
/// No process has so many sessions.
const FORWARDS: Token = Token(1 << 28);
const FORWARDS_END: Token = Token(1 << 30);
/// So many connections are accepted between two turns of those that are there.
const ACCEPTS: usize = 64;
/// After a connection could not be accepted, mostly for want of descriptors.
const RETRY: Duration = Duration::from_millis(50);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Arguments {
    port: Option<u16>,
    bind: Option<IpAddr>,
    host_keys: Vec<OsString>,
    authorized_keys: Option<OsString>,
    passwords: Vec<(String, Secret)>,
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
            Long("allow-forwarding") => arguments.allow_forwarding = true,
            Long("gateway-ports") => arguments.gateway_ports = true,
            Long("help") => {
                println!("{USAGE}");
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
    let bind = arguments.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(bind, port);
    let listener = TcpListener::bind(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    descriptors::more();
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    let commands = Commands::new(keys, arguments.passwords);
    serve(listener, config, commands, &policy)
}

/// The loop: everything that happens on all connections.
fn serve(
    mut listener: TcpListener,
    config: ServerConfig,
    mut commands: Commands,
    policy: &ForwardPolicy,
) -> Result<(), Failure> {
    let config = Arc::new(config);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut sessions = Sessions::<ServerRole, Running>::new(SESSIONS);
    let mut forwards =
        ServerForwards::new(poll.registry(), FORWARDS..FORWARDS_END)?.resolve_names();
    let names = Names::new(poll.registry(), NAMES)?;
    // The listener may have connections that were announced before.
    let mut waiting = Waiting::No;
    loop {
        let now = Instant::now();
        let waits = [sessions.wait_time(now), forwards.wait_time(now)];
        let mut wait = waits.into_iter().flatten().min();
        match waiting {
            Waiting::No => {}
            Waiting::Yes => wait = Some(Duration::ZERO),
            Waiting::Later => wait = Some(wait.unwrap_or(RETRY).min(RETRY)),
        }
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        let now = Instant::now();
        for event in &events {
            if event.token() == LISTENER {
                waiting = Waiting::Yes;
            } else if !forwards.note(event) {
                sessions.note(event);
            }
        }
        names.answer(&mut forwards);
        while let Some(session) = forwards.poll_session(now) {
            sessions.wake(session);
        }
        if !matches!(waiting, Waiting::No) {
            waiting = accept(&listener, |stream| {
                let session = ServerSession::new(stream, Arc::clone(&config), seed()?, now);
                sessions
                    .insert(poll.registry(), session, Running::new())
                    .map(|_| ())
            });
        }
        sessions.run(poll.registry(), now, |token, session, running| {
            while let Some(event) = forwards.serve(token, session, now) {
                if matches!(event, ServerEvent::Authenticated { .. }) {
                    forwards.allow(token, policy.clone());
                }
                commands.handle(session, running, event);
            }
        });
        while let Some(event) = forwards.poll_event() {
            names.ask(event);
        }
    }
}

/// Whether the listener has connections that will not be announced again.
enum Waiting {
    No,
    Yes,
    /// Not right now: something is used up.
    Later,
}

fn accept(
    listener: &TcpListener,
    mut insert: impl FnMut(mio::net::TcpStream) -> io::Result<()>,
) -> Waiting {
    for _ in 0..ACCEPTS {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Err(error) = insert(stream) {
                    eprintln!("server: {peer}: {error}");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Waiting::No,
            // It was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                eprintln!("server: cannot accept: {error}");
                return Waiting::Later;
            }
        }
    }
    Waiting::Yes
}

fn read(path: &OsStr) -> Result<Vec<u8>, Failure> {
    Ok(std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?)
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
                "server: {}:{}: line refused, it has options or is no key that is supported: {error}",
                path.display(),
                number + 1
            ),
        }
    }
    Ok(keys)
}
