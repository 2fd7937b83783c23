//! One command on many hosts at once, from one thread.
//!
//! ```text
//! client [-i KEY]... [-l USER] [-p PORT] [-o HostKeyFingerprint=SHA256:..]... HOST[:PORT]... -- COMMAND
//! ```
//!
//! Each line of output is shown with the host that it came from. A host must show one of the pinned host keys. The exit
//! status is 0 when the command exited with 0 on all hosts, else 1; 2 when the command line makes no sense.

#[path = "common/descriptors.rs"]
mod descriptors;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use lexopt::prelude::*;
use mio::{Events, Poll, Token};
use ssh_mio::ssh_proto::error::DisconnectReason;
use ssh_mio::ssh_proto::key::PrivateKey;
use ssh_mio::ssh_proto::{
    ChannelEvent, ChannelId, ClientConfig, ClientEvent, ClientRole, Credential, Error, Misuse,
    OpenChannel, Program, Secret, Stream,
};
use ssh_mio::{ClientSession, Sessions, mio};

const USAGE: &str = "client [-i KEY]... [-l USER] [-p PORT] [-o HostKeyFingerprint=SHA256:..]... HOST[:PORT]... -- COMMAND";
/// A line that is longer is shown in pieces.
const LINE: usize = 64 * 1024;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = match Options::from_arguments() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("client: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("client: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    /// As they were given, for the output.
    hosts: Vec<String>,
    port: u16,
    user: String,
    keys: Vec<Arc<PrivateKey>>,
    fingerprints: Vec<String>,
    command: Vec<u8>,
}

impl Options {
    fn from_arguments() -> Result<Self, Failure> {
        let mut before: Vec<OsString> = std::env::args_os().collect();
        let command = match before.iter().position(|argument| argument == "--") {
            Some(at) => before.split_off(at).split_off(1),
            None => Vec::new(),
        };
        let mut options = Self {
            hosts: Vec::new(),
            port: 22,
            user: String::new(),
            keys: Vec::new(),
            fingerprints: Vec::new(),
            // Joined with spaces, as every SSH client does it.
            command: command.join(OsStr::new(" ")).into_encoded_bytes(),
        };
        let mut parser = lexopt::Parser::from_iter(before);
        while let Some(argument) = parser.next()? {
            match argument {
                Short('i') => options.keys.push(key(&parser.value()?)?),
                Short('l') => options.user = parser.value()?.string()?,
                Short('p') => options.port = parser.value()?.parse()?,
                Short('o') => {
                    let option = parser.value()?.string()?;
                    match option.split_once(['=', ' ']) {
                        Some((name, value))
                            if name.eq_ignore_ascii_case("HostKeyFingerprint")
                                && value.starts_with("SHA256:") =>
                        {
                            options.fingerprints.push(value.to_owned());
                        }
                        _ => {
                            return Err(format!(
                                "-o {option}: the only option is HostKeyFingerprint=SHA256:.."
                            )
                            .into());
                        }
                    }
                }
                Long("help") => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                Value(host) => options.hosts.push(host.string()?),
                other => return Err(format!("{}\nusage: {USAGE}", other.unexpected()).into()),
            }
        }
        if options.hosts.is_empty() || options.command.is_empty() {
            return Err(format!("usage: {USAGE}").into());
        }
        if options.user.is_empty() {
            options.user = std::env::var("USER")
                .or_else(|_| std::env::var("LOGNAME"))
                .map_err(|_| "no user name: give one with -l")?;
        }
        Ok(options)
    }
}

fn key(path: &OsStr) -> Result<Arc<PrivateKey>, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = Secret::from(std::fs::read(path).map_err(|error| named(&error))?);
    let key = PrivateKey::from_openssh(file.expose(), None).map_err(|error| named(&error))?;
    Ok(Arc::new(key))
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT` or a bare IPv6 address. Looking a name up is the one thing here that waits.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let colons = host.bytes().filter(|&b| b == b':').count();
    let mut addresses = if colons == 1 || host.starts_with('[') && host.contains("]:") {
        host.to_socket_addrs()?
    } else {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        (name, port).to_socket_addrs()?
    };
    addresses
        .next()
        .ok_or_else(|| io::Error::other("the name has no address"))
}

fn run(options: &Options) -> Result<bool, Failure> {
    descriptors::more();
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::<ClientRole, Job<'_>>::new(Token(0));
    let config = Arc::new(ClientConfig::new());
    let mut failed = 0_usize;
    for host in &options.hosts {
        let now = Instant::now();
        let session = resolve(host, options.port)
            .and_then(|address| ClientSession::connect(address, Arc::clone(&config), now));
        match session {
            Ok(mut session) => {
                let mut job = Job::new(host, options);
                job.log_in(&mut session, now);
                sessions.insert(poll.registry(), session, job)?;
            }
            Err(error) => {
                eprintln!("{host}: {error}");
                failed += 1;
            }
        }
    }
    let mut succeeded = 0_usize;
    while !sessions.is_empty() {
        // A host that does not answer must not wait for longer than its deadline, which is the session's own.
        let wait = sessions.wait_time(Instant::now());
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        let mut broken = None;
        sessions.run(poll.registry(), now, |_, session, job| {
            if let Err(error) = job.serve(session, now) {
                broken = Some(error);
            }
            match job.outcome.take() {
                Some(true) => succeeded += 1,
                Some(false) => failed += 1,
                None => {}
            }
        });
        if let Some(error) = broken {
            // Nobody reads our output any more.
            sessions.disconnect_all(DisconnectReason::BY_APPLICATION, "", now);
            sessions.run(poll.registry(), now, |_, _, _| {});
            return Err(error.into());
        }
    }
    Ok(failed == 0 && succeeded == options.hosts.len())
}

/// The command on one host.
struct Job<'a> {
    host: &'a str,
    options: &'a Options,
    /// The keys that were tried.
    tried: usize,
    status: Option<Result<(), String>>,
    lines: [Vec<u8>; 2],
    /// Told once.
    outcome: Option<bool>,
    over: bool,
}

impl<'a> Job<'a> {
    const fn new(host: &'a str, options: &'a Options) -> Self {
        Self {
            host,
            options,
            tried: 0,
            status: None,
            lines: [Vec::new(), Vec::new()],
            outcome: None,
            over: false,
        }
    }

    /// Tries the next key; without any, what needs none.
    fn log_in(&mut self, session: &mut ClientSession, now: Instant) {
        let credential = match self.options.keys.get(self.tried) {
            Some(key) => Credential::PublicKey {
                key: Arc::clone(key),
                query: true,
            },
            None if self.tried == 0 => Credential::None,
            None => return self.end(session, "Permission denied (publickey).", now),
        };
        self.tried += 1;
        let user = &self.options.user;
        if let Err(error) = session.connection().authenticate(user, credential, now) {
            self.end(session, &error.to_string(), now);
        }
    }

    /// Gives up, or is done: then there is a status already.
    fn end(&mut self, session: &mut ClientSession, why: &str, now: Instant) {
        self.status.get_or_insert_with(|| Err(why.to_owned()));
        session.disconnect(DisconnectReason::BY_APPLICATION, "", now);
    }

    /// Takes all events. Fails when the output cannot be written.
    fn serve(&mut self, session: &mut ClientSession, now: Instant) -> io::Result<()> {
        while let Some(event) = session.poll_event() {
            match event {
                ClientEvent::HostKeyOffered(offer) => {
                    let shown = offer.key().fingerprint_sha256();
                    if self.options.fingerprints.contains(&shown) {
                        _ = session.connection().accept_host_key(offer);
                    } else {
                        let why = format!(
                            "the host key is not one that is pinned; to trust it: -o HostKeyFingerprint={shown}"
                        );
                        self.status = Some(Err(why));
                        _ = session.connection().reject_host_key(offer);
                    }
                }
                ClientEvent::Banner(text) => {
                    for line in text.lines() {
                        eprintln!("{}: {line}", self.host);
                    }
                }
                ClientEvent::AuthenticationRefused { .. } => self.log_in(session, now),
                ClientEvent::Authenticated => {
                    if let Err(error) = start(session, &self.options.command, now) {
                        self.end(session, &error.to_string(), now);
                    }
                }
                ClientEvent::Channel(id) => self.serve_channel(session, id, now)?,
                ClientEvent::Disconnected(error) => self.ended(session, &error)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn serve_channel(
        &mut self,
        session: &mut ClientSession,
        id: ChannelId,
        now: Instant,
    ) -> io::Result<()> {
        let Some(mut channel) = session.channel(id) else {
            return Ok(());
        };
        while let Some(event) = channel.poll_event() {
            match event {
                ChannelEvent::Data(stream) => loop {
                    let chunk = channel.chunk(stream);
                    if chunk.is_empty() {
                        break;
                    }
                    let len = chunk.len();
                    self.show(stream, chunk)?;
                    channel.consume(stream, len);
                },
                ChannelEvent::ExitStatus(0) => self.status = Some(Ok(())),
                ChannelEvent::ExitStatus(code) => {
                    self.status = Some(Err(format!("exit status {code}")));
                }
                ChannelEvent::ExitSignal(exit) => {
                    self.status = Some(Err(format!("ended by signal {}", exit.signal)));
                }
                ChannelEvent::Replied {
                    accepted: false, ..
                } => {
                    self.status = Some(Err("the command was refused".into()));
                    channel.close();
                }
                ChannelEvent::OpenFailed {
                    reason,
                    description,
                } => {
                    let why = format!("no session: {description} ({reason})");
                    self.end(session, &why, now);
                    break;
                }
                ChannelEvent::Closed => {
                    self.end(session, "the command ended without an exit status", now);
                    break;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows what is complete of the output, line by line, with the host in front.
    fn show(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        let is_error = stream == Stream::STDERR;
        let line = &mut self.lines[usize::from(is_error)];
        let mut text = Vec::new();
        for piece in data.split_inclusive(|&b| b == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || line.len() >= LINE {
                text.extend_from_slice(self.host.as_bytes());
                text.extend_from_slice(b": ");
                text.append(line);
                if !piece.ends_with(b"\n") {
                    text.push(b'\n');
                }
            }
        }
        if is_error {
            io::stderr().write_all(&text)
        } else {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&text)?;
            stdout.flush()
        }
    }

    fn ended(&mut self, session: &ClientSession, error: &Error) -> io::Result<()> {
        for stream in [Stream::DATA, Stream::STDERR] {
            if !self.lines[usize::from(stream == Stream::STDERR)].is_empty() {
                self.show(stream, b"\n")?;
            }
        }
        if !std::mem::replace(&mut self.over, true) {
            let status = self.status.take().unwrap_or_else(|| {
                Err(match session.io_error() {
                    Some(cause) => cause.to_string(),
                    None => error.to_string(),
                })
            });
            if let Err(why) = &status {
                eprintln!("{}: {why}", self.host);
            }
            self.outcome = Some(status.is_ok());
        }
        Ok(())
    }
}

fn start(session: &mut ClientSession, command: &[u8], now: Instant) -> Result<(), Misuse> {
    let id = session.connection().open(OpenChannel::Session, now)?;
    let mut channel = session.channel(id).ok_or(Misuse::NoSuchChannel)?;
    channel.start(Program::Exec(command))?;
    channel.eof();
    Ok(())
}
