//! Peers that are libraries: a program of ours acts with each, as a client and as a server. One process lasts as long as the tests,
//! and is told what to do over control connections (`peers/control.py` has the form).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use std::{env, fmt};

use super::{KeyPair, ServerPeer, file_in, unpacked};

/// How long a command may take: more than whatever it waits for itself.
const TIME: Duration = Duration::from_secs(90);

/// The process that acts with one of the peers. It ends with this process.
#[derive(Debug)]
pub struct Actor {
    name: &'static str,
    control: SocketAddr,
    log: File,
    // It ends with its standard input, which is in here.
    _process: Child,
}

impl Actor {
    /// Paramiko 5.1.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn paramiko() -> &'static Self {
        static ACTOR: LazyLock<Actor> = LazyLock::new(|| Actor::python("paramiko", "5.1."));
        &ACTOR
    }

    /// asyncssh 2.24.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn asyncssh() -> &'static Self {
        static ACTOR: LazyLock<Actor> = LazyLock::new(|| Actor::python("asyncssh", "2.24."));
        &ACTOR
    }

    /// russh 0.65.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn russh() -> &'static Self {
        static ACTOR: LazyLock<Actor> = LazyLock::new(|| {
            let this = env::current_exe().unwrap_or_default();
            // This program is in TARGET/debug/deps or TARGET/debug.
            let program = this
                .ancestors()
                .map(|folder| folder.join("peers/russh/release/russh-peer"))
                .find(|path| path.is_file())
                .unwrap_or_else(|| {
                    panic!("the program on russh is not built: run `conformance/test`")
                });
            let mut command = Command::new(program);
            command.env_clear().arg("actor");
            Actor::start("russh", "0.65.", command)
        });
        &ACTOR
    }

    /// A script of `peers`.
    fn python(name: &'static str, version: &str) -> Self {
        let root = unpacked("python");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut command = Command::new(file_in(&root, "interpreter"));
        // Nothing of the user's packages, no compiled files beside the scripts.
        command
            .args(["-s", "-B"])
            .arg(scripts.join(name).join("actor.py"))
            .env_clear()
            .env(
                "PYTHONPATH",
                env::join_paths([&root, &scripts])
                    .unwrap_or_else(|error| panic!("a path cannot be listed: {error}")),
            );
        Self::start(name, version, command)
    }

    fn start(name: &'static str, version: &str, mut command: Command) -> Self {
        let log = tempfile::tempfile().unwrap_or_else(|error| panic!("no log file: {error}"));
        let stderr = log
            .try_clone()
            .unwrap_or_else(|error| panic!("no log file: {error}"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr);
        if let Some(path) = env::var_os("PATH") {
            command.env("PATH", path);
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .unwrap_or_else(|error| panic!("cannot read from {name}: {error}"));
        }
        let mut words = line.split_whitespace();
        let (ready, port, said) = (words.next(), words.next(), words.next());
        let port = port.and_then(|port| port.parse().ok());
        let (Some("ready"), Some(port), Some(said)) = (ready, port, said) else {
            panic!("{name} does not start: {}", read(&log));
        };
        assert!(said.starts_with(version), "{name} {said}, not {version}");
        Self {
            name,
            control: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            log,
            _process: child,
        }
    }

    /// A session of its own: one client, or one server. What it has open ends with it.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    #[track_caller]
    pub fn session(&'static self) -> ActorSession {
        let stream = TcpStream::connect(self.control)
            .and_then(|stream| stream.set_read_timeout(Some(TIME)).map(|()| stream))
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.name, read(&self.log)));
        ActorSession {
            peer: self,
            stream: BufReader::new(stream),
        }
    }

    /// A server with these host keys; `fields` are added to what it is told.
    ///
    /// # Panics
    /// If it does not listen.
    #[must_use]
    #[track_caller]
    pub fn serve(&'static self, host_keys: &[&KeyPair], fields: &[(&str, &str)]) -> ActorServer {
        let mut session = self.session();
        let paths: Vec<_> = host_keys
            .iter()
            .map(|key| key.path.display().to_string())
            .collect();
        let paths = paths.join("\n");
        let mut all = vec![("host_keys", paths.as_str())];
        all.extend(fields);
        let port = session.ask("serve", &all).number("port");
        let port = u16::try_from(port).unwrap_or_else(|error| panic!("{port}: {error}"));
        ActorServer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            host_keys: host_keys.iter().map(|key| key.public.clone()).collect(),
            session,
        }
    }
}

fn read(log: &File) -> String {
    let len = log.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    // Not where the process goes on writing, as a `read` would.
    if log.read_exact_at(&mut bytes, 0).is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A control connection.
#[derive(Debug)]
pub struct ActorSession {
    peer: &'static Actor,
    stream: BufReader<TcpStream>,
}

impl ActorSession {
    /// Has a command done, and gives what came of it.
    ///
    /// # Errors
    /// What it says went wrong.
    ///
    /// # Panics
    /// If the process is gone, or takes too long.
    #[track_caller]
    pub fn try_ask(&mut self, command: &str, fields: &[(&str, &str)]) -> Result<Answer, String> {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let mut line = format!("{command}?{}\n", fields.join("&"));
        let done = self
            .stream
            .get_mut()
            .write_all(line.as_bytes())
            .and_then(|()| {
                line.clear();
                self.stream.read_line(&mut line)
            });
        if !line.ends_with('\n') {
            panic!("{} {command}: {done:?}\n{}", self.peer.name, self.log());
        }
        let (word, fields) = line.trim_end().split_once('?').unwrap_or((&line, ""));
        let answer = Answer(
            fields
                .split('&')
                .filter_map(|field| field.split_once('='))
                .map(|(name, value)| (name.to_owned(), decode(value)))
                .collect(),
        );
        if word == "ok" {
            Ok(answer)
        } else {
            Err(answer.text("message").to_owned())
        }
    }

    /// The same, of a command that must succeed.
    ///
    /// # Panics
    /// If it does not; the message has the log.
    #[track_caller]
    pub fn ask(&mut self, command: &str, fields: &[(&str, &str)]) -> Answer {
        self.try_ask(command, fields)
            .unwrap_or_else(|error| panic!("{} {command}: {error}\n{}", self.peer.name, self.log()))
    }

    /// What the process has written to its standard error.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.peer.log)
    }
}

/// What came of a command, by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(BTreeMap<String, String>);

impl Answer {
    /// The value, or nothing if there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        self.get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// The value as a number.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn number(&self, name: &str) -> i64 {
        let text = self.text(name);
        text.parse()
            .unwrap_or_else(|error| panic!("{name} is {text:?}: {error}"))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Undoes what `urllib.parse.urlencode` did.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = after
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A server of one of the peers. Dropping it stops it and its connections.
#[derive(Debug)]
pub struct ActorServer {
    address: SocketAddr,
    host_keys: Vec<String>,
    session: ActorSession,
}

impl ActorServer {
    /// Asks about it, or changes it.
    pub const fn session(&mut self) -> &mut ActorSession {
        &mut self.session
    }
}

impl ServerPeer for ActorServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn host_key_lines(&self) -> Vec<String> {
        self.host_keys.clone()
    }

    fn log(&self) -> String {
        self.session.log()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_again() {
        for text in ["", "a b&c=d%+\n", "grüße", "%zz%4"] {
            assert_eq!(decode(&encode(text)), text);
        }
        assert_eq!(decode("a+b%2Bc%"), "a b+c%");
    }
}
