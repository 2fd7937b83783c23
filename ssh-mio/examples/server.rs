//! A server that serves thousands of connections with one thread.
//!
//! ```text
//! server --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]... [--bind ADDR]
//! ```
//!
//! Any user name may come in with a key of the file, or with its password. There are four commands: `echo TEXT`, `cat`,
//! `source BYTES` and `sink`.

#[path = "common/commands.rs"]
mod commands;
#[path = "common/descriptors.rs"]
mod descriptors;

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
use ssh_mio::ssh_proto::{Secret, ServerRole};
use ssh_mio::{ServerSession, Sessions, mio, seed};

use commands::{Commands, Running};

const USAGE: &str = "server --port P --host-key FILE... --authorized-keys FILE [--password USER:PASS]... [--bind ADDR]";
const LISTENER: Token = Token(0);
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
    let bind = arguments.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(bind, port);
    let listener = TcpListener::bind(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    descriptors::more();
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    serve(listener, config, Commands::new(keys, arguments.passwords))
}

/// The loop: everything that happens on all connections.
fn serve(
    mut listener: TcpListener,
    config: ServerConfig,
    mut commands: Commands,
) -> Result<(), Failure> {
    let config = Arc::new(config);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut sessions = Sessions::<ServerRole, Running>::new(Token(1));
    // The listener may have connections that were announced before.
    let mut waiting = Waiting::No;
    loop {
        let mut wait = sessions.wait_time(Instant::now());
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
            } else {
                sessions.note(event);
            }
        }
        if !matches!(waiting, Waiting::No) {
            waiting = accept(&listener, |stream| {
                let session = ServerSession::new(stream, Arc::clone(&config), seed()?, now);
                sessions
                    .insert(poll.registry(), session, Running::new())
                    .map(|_| ())
            });
        }
        sessions.run(poll.registry(), now, |_, session, running| {
            commands.serve(session, running);
        });
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
