//! Many forwards through one connection, in one thread.
//!
//! ```text
//! forward [-i KEY]... [-l USER] [-p PORT] [-o HostKeyFingerprint=SHA256:..]... FORWARD... HOST
//! ```
//!
//! A `FORWARD` is one of these, as often as wanted:
//!
//! ```text
//! -L [BIND:]PORT:HOST:PORT    -L [BIND:]PORT:PATH    -L PATH:HOST:PORT    -L PATH:PATH
//! -R as -L, or [BIND:]PORT alone                     -D [BIND:]PORT
//! ```
//!
//! Each one that is in force is said in a line. The program runs until the connection ends or a forward is refused.

#[path = "common/names.rs"]
mod names;
#[path = "common/specs.rs"]
mod specs;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use lexopt::prelude::*;
use mio::{Events, Poll, Token};
use ssh_mio::ssh_proto::error::DisconnectReason;
use ssh_mio::ssh_proto::key::PrivateKey;
use ssh_mio::ssh_proto::{ClientConfig, ClientEvent, Credential, Secret};
use ssh_mio::{ClientForwards, ClientSession, ForwardEvent, ForwardId, Sessions, mio};

use names::Names;
use specs::{Listen, Spec};

const USAGE: &str = "forward [-i KEY]... [-l USER] [-p PORT] [-o HostKeyFingerprint=SHA256:..]... [-L SPEC]... [-R SPEC]... [-D SPEC]... HOST";
const NAMES: Token = Token(0);
const SESSIONS: Token = Token(1);
const FORWARDS: Token = Token(16);
const FORWARDS_END: Token = Token(1 << 20);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = match Options::from_arguments() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("forward: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forward: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    host: String,
    port: u16,
    user: String,
    keys: Vec<Arc<PrivateKey>>,
    fingerprints: Vec<String>,
    forwards: Vec<Spec>,
}

impl Options {
    fn from_arguments() -> Result<Self, Failure> {
        let mut options = Self {
            host: String::new(),
            port: 22,
            user: String::new(),
            keys: Vec::new(),
            fingerprints: Vec::new(),
            forwards: Vec::new(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('i') => options.keys.push(key(&parser.value()?)?),
                Short('l') => options.user = parser.value()?.string()?,
                Short('p') => options.port = parser.value()?.parse()?,
                Short(kind @ ('L' | 'R' | 'D')) => {
                    let text = parser.value()?.string()?;
                    options.forwards.push(Spec::parse(kind, &text)?);
                }
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
                            let only = "the only option is HostKeyFingerprint=SHA256:..";
                            return Err(format!("-o {option}: {only}").into());
                        }
                    }
                }
                Long("help") => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                Value(host) if options.host.is_empty() => options.host = host.string()?,
                other => return Err(format!("{}\nusage: {USAGE}", other.unexpected()).into()),
            }
        }
        if options.host.is_empty() || options.forwards.is_empty() {
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

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the name has no address"))
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::new(SESSIONS);
    let mut forwards =
        ClientForwards::new(poll.registry(), FORWARDS..FORWARDS_END)?.resolve_names();
    let names = Names::new(poll.registry(), NAMES)?;

    // Before anything moves, looking up a name may wait.
    let address = resolve(&options.host, options.port)
        .map_err(|error| format!("{}: {error}", options.host))?;
    let config = Arc::new(ClientConfig::new());
    let session = ClientSession::connect(address, config, Instant::now())?;
    let token = sessions.insert(poll.registry(), session, ())?;
    let mut guide = Guide::new(options);
    if let Some((session, ())) = sessions.get_mut(token) {
        guide.log_in(session, Instant::now());
    }

    while !sessions.is_empty() {
        let now = Instant::now();
        let waits = [sessions.wait_time(now), forwards.wait_time(now)];
        match poll.poll(&mut events, waits.into_iter().flatten().min()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        let now = Instant::now();
        for event in &events {
            if !forwards.note(event) {
                sessions.note(event);
            }
        }
        names.answer(&mut forwards);
        while let Some(session) = forwards.poll_session(now) {
            sessions.wake(session);
        }
        sessions.run(poll.registry(), now, |token, session, ()| {
            while let Some(event) = forwards.serve(token, session, now) {
                guide.handle(token, session, &mut forwards, event, now);
            }
        });
        while let Some(event) = forwards.poll_event() {
            match event {
                ForwardEvent::Listening(forward) => {
                    guide.say(forward, forwards.port(forward));
                }
                ForwardEvent::Refused(forward) => {
                    let spec = guide.asked.get(&forward).map_or("?", |spec| &spec.text);
                    guide.failure = Some(format!("{spec}: the server does not listen"));
                    sessions.disconnect_all(DisconnectReason::BY_APPLICATION, "", now);
                }
                event => names.ask(event),
            }
        }
    }
    Err(guide
        .failure
        .unwrap_or_else(|| "no connection".into())
        .into())
}

/// Logs in, and sets up what the command line says.
struct Guide<'a> {
    options: &'a Options,
    /// The keys that were tried.
    tried: usize,
    asked: BTreeMap<ForwardId, &'a Spec>,
    failure: Option<String>,
}

impl<'a> Guide<'a> {
    const fn new(options: &'a Options) -> Self {
        Self {
            options,
            tried: 0,
            asked: BTreeMap::new(),
            failure: None,
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

    fn end(&mut self, session: &mut ClientSession, why: &str, now: Instant) {
        self.failure.get_or_insert_with(|| why.to_owned());
        session.disconnect(DisconnectReason::BY_APPLICATION, "", now);
    }

    fn handle(
        &mut self,
        token: Token,
        session: &mut ClientSession,
        forwards: &mut ClientForwards,
        event: ClientEvent,
        now: Instant,
    ) {
        match event {
            ClientEvent::HostKeyOffered(offer) => {
                let shown = offer.key().fingerprint_sha256();
                // Either fails only when the connection has ended.
                _ = if self.options.fingerprints.contains(&shown) {
                    session.connection().accept_host_key(offer)
                } else {
                    self.failure = Some(format!(
                        "the host key is not one that is pinned; to trust it: -o HostKeyFingerprint={shown}"
                    ));
                    session.connection().reject_host_key(offer)
                };
            }
            ClientEvent::AuthenticationRefused { .. } => self.log_in(session, now),
            ClientEvent::Authenticated => {
                for spec in &self.options.forwards {
                    if let Err(error) = self.start(token, forwards, spec) {
                        return self.end(session, &format!("{}: {error}", spec.text), now);
                    }
                }
            }
            ClientEvent::Disconnected(error) => {
                let why = session.io_error().map(ToString::to_string);
                self.failure
                    .get_or_insert_with(|| why.unwrap_or_else(|| error.to_string()));
            }
            _ => {}
        }
    }

    fn start(
        &mut self,
        token: Token,
        forwards: &mut ClientForwards,
        spec: &'a Spec,
    ) -> io::Result<()> {
        let forward = match (&spec.listen, &spec.target, spec.remote) {
            (Listen::Tcp(host, port), target, false) => {
                let bind = resolve(host, *port)?;
                match target {
                    Some(target) => forwards.forward_local(token, bind, target.clone())?,
                    None => forwards.forward_dynamic(token, bind)?,
                }
            }
            (Listen::Path(path), Some(target), false) => {
                forwards.forward_local_path(token, path, target.clone())?
            }
            (Listen::Tcp(host, port), Some(target), true) => {
                forwards.forward_remote(token, (host, *port), target.clone())
            }
            (Listen::Tcp(host, port), None, true) => {
                forwards.forward_remote_dynamic(token, (host, *port))
            }
            (Listen::Path(path), Some(target), true) => {
                forwards.forward_remote_path(token, path, target.clone())
            }
            (Listen::Path(_), None, _) => {
                return Err(io::Error::other("SOCKS needs a port"));
            }
        };
        self.asked.insert(forward, spec);
        if !spec.remote {
            self.say(forward, forwards.port(forward));
        }
        Ok(())
    }

    /// It is in force.
    fn say(&self, forward: ForwardId, port: Option<u16>) {
        let Some(spec) = self.asked.get(&forward) else {
            return;
        };
        let mut stdout = io::stdout().lock();
        // Nobody has to read it.
        _ = match port {
            Some(port) => writeln!(stdout, "{}: listening on port {port}", spec.text),
            None => writeln!(stdout, "{}: listening", spec.text),
        };
        _ = stdout.flush();
    }
}
