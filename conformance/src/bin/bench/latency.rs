//! `bench latency`: one byte there and back, again and again.
//!
//! Server and client are pinned to the same CPU, so that what is measured is work and not where the scheduler puts it.
//! Our clients are this program again; OpenSSH's is driven through its standard streams; TCP alone is the floor. Our
//! servers answer `cat` themselves. Rounds are interleaved, each with connections of its own.

mod blocking;
mod mio;
mod tokio;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::peers::{KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version};
use ssh_mio::ssh_proto::config::{HostKey, ServerConfig};
use ssh_mio::ssh_proto::key::{PrivateKey, PublicKey};

use crate::bulk::{choose_cpu, example};
use crate::floor::LISTENING;
use crate::json::Json;
use crate::process::{Process, output, pinned};
use crate::report::median;

/// Rounds, each with its share of the bytes.
const ROUNDS: usize = 5;
/// Bytes before the first that counts.
const WARM_UP: usize = 100;
/// Between two of our own ends: so many times the floor.
const FLOOR_FACTOR: f64 = 16.0 / 6.0;
const PATIENCE: Duration = Duration::from_secs(60);

/// What was asked for.
pub(crate) struct Options {
    count: usize,
    json: Option<PathBuf>,
    openssh: Version,
    cpu: Option<usize>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            count: 5_000,
            json: None,
            openssh: Version::V9_2,
            cpu: None,
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy().into_owned();
            if !["--count", "--json", "--openssh", "--cpu"].contains(&name.as_str()) {
                return Err(format!("unknown option {name}; see bench --help"));
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            let text = value.to_string_lossy().into_owned();
            let wrong = |expected: &str| format!("{name} must be {expected}, not `{text}`");
            match name.as_str() {
                "--count" => {
                    let count = text.parse().ok();
                    options.count = count
                        .filter(|count| (ROUNDS..=10_000_000).contains(count))
                        .ok_or_else(|| wrong("a number from 5 to 10000000"))?;
                }
                "--openssh" => {
                    options.openssh = match text.as_str() {
                        "9.2" => Version::V9_2,
                        "10.0" => Version::V10_0,
                        _ => return Err(wrong("9.2 or 10.0")),
                    };
                }
                "--cpu" => {
                    options.cpu = Some(text.parse().map_err(|_| wrong("the number of a CPU"))?);
                }
                _ => options.json = Some(value.into()),
            }
        }
        Ok(options)
    }
}

/// Whose end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Tcp,
    OpenSsh,
    Mio,
    Tokio,
    Blocking,
}

impl Who {
    /// Adapters of ours.
    const OURS: [Self; 3] = [Self::Mio, Self::Tokio, Self::Blocking];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::OpenSsh => "OpenSSH",
            Self::Mio => "mio",
            Self::Tokio => "tokio",
            Self::Blocking => "blocking",
        }
    }
}

/// A row: the medians of its rounds in microseconds.
struct Row {
    client: Who,
    server: Who,
    rounds: Vec<f64>,
}

impl Row {
    /// Each client of ours with the server of its kind and with OpenSSH's, and OpenSSH's client with the same servers.
    fn all() -> Vec<Self> {
        let mut pairs = vec![(Who::Tcp, Who::Tcp), (Who::OpenSsh, Who::OpenSsh)];
        pairs.extend(Who::OURS.map(|who| (who, Who::OpenSsh)));
        for who in Who::OURS {
            pairs.extend([(Who::OpenSsh, who), (who, who)]);
        }
        let row = |(client, server)| Self {
            client,
            server,
            rounds: Vec::new(),
        };
        pairs.into_iter().map(row).collect()
    }

    fn name(&self) -> String {
        format!(
            "{} client, {} server",
            self.client.name(),
            self.server.name()
        )
    }

    fn median(&self) -> f64 {
        median(self.rounds.iter().copied())
    }
}

/// Runs the benchmark. Says whether all bars were reached.
///
/// # Errors
///
/// A line for the user when it could not be made.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let bench = std::env::current_exe().map_err(|error| error.to_string())?;
    let cpu = choose_cpu(options.cpu)?;
    // Fetches the peers unless the cache has them.
    output(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("test")).arg("--fetch-only"))?;
    let mio = example(&bench, "ssh-mio", "server")?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let key = |name| {
        KeyPair::generate(
            options.openssh,
            KeyKind::Ed25519,
            &folder.path().join(name),
            "",
        )
    };
    let (user_key, host_key) = (key("user_key"), key("host_key"));

    let part = |name: &str| {
        let mut command = pinned(cpu, &Command::new(&bench));
        command.arg(format!("__latency-{name}"));
        command
    };
    let mut servers = Vec::new();
    for who in [Who::Tcp].into_iter().chain(Who::OURS) {
        let mut command = match who {
            Who::Tcp => part("tcp-server"),
            Who::Mio => {
                let mut command = pinned(cpu, &Command::new(&mio));
                command.args(["--port", "0", "--host-key"]);
                command.arg(&host_key.path).arg("--authorized-keys");
                command
            }
            _ => {
                let mut command = part("server");
                command.arg(who.name()).arg(&host_key.path);
                command
            }
        };
        if who != Who::Tcp {
            command.arg(user_key.path.with_extension("pub"));
        }
        let mut process = start(command)?;
        let address: SocketAddr = parse(&process.wait_for(LISTENING, PATIENCE)?)?;
        servers.push((who, address, process));
    }
    let sshd = Sshd::start(
        options.openssh,
        &SshdOptions {
            authorized_keys: vec![user_key.public.clone()],
            ..SshdOptions::default()
        },
    );
    let mut pin = Command::new("taskset");
    output(pin.args(["-a", "-p", "-c", &cpu.to_string(), &sshd.pid().to_string()]))?;

    let count = (options.count / ROUNDS).to_string();
    let mut rows = Row::all();
    for _ in 0..ROUNDS {
        for row in &mut rows {
            let ours = servers.iter().find(|(who, ..)| *who == row.server);
            let (address, user) = match ours {
                Some((_, address, _)) => (*address, "user"),
                None => (sshd.address(), Sshd::USER),
            };
            let mut command;
            let _client;
            match row.client {
                Who::Tcp => {
                    command = part("tcp-client");
                    command.args([&address.to_string(), &count]);
                }
                Who::OpenSsh => {
                    let client = Ssh::new(options.openssh, address)
                        .user(user)
                        .identity(&user_key);
                    let ssh = client.command("cat");
                    command = part("process");
                    command.arg(&count).arg(ssh.get_program());
                    command.args(ssh.get_args());
                    for (name, value) in ssh.get_envs() {
                        if let Some(value) = value {
                            command.env(name, value);
                        }
                    }
                    _client = client;
                }
                who => {
                    command = part("client");
                    command.args([who.name(), &address.to_string(), user]);
                    command.arg(&user_key.path).arg(&count);
                }
            }
            let mut process = start(command)?;
            let median = process.wait_for("median ", PATIENCE)?;
            row.rounds.push(parse(&median)?);
            process.finish(PATIENCE)?;
        }
    }
    report(options, cpu, &rows)
}

fn report(options: &Options, cpu: usize, rows: &[Row]) -> Result<bool, String> {
    let median_of = |client, server| {
        let row = rows
            .iter()
            .find(|row| (row.client, row.server) == (client, server));
        row.map_or(f64::NAN, Row::median)
    };
    let floor = median_of(Who::Tcp, Who::Tcp) * FLOOR_FACTOR;
    let bar = |row: &Row| {
        let theirs = median_of(Who::OpenSsh, row.server);
        match (row.client, row.server) {
            (Who::Tcp | Who::OpenSsh, _) => None,
            (_, Who::OpenSsh) => Some(theirs),
            _ => Some(theirs.min(floor)),
        }
    };
    println!(
        "microseconds for one byte and back, medians, OpenSSH {}, everything on CPU {cpu}\n",
        options.openssh
    );
    let mut good = true;
    let mut list = Vec::new();
    for row in rows {
        let bar = bar(row);
        let passed = bar.is_none_or(|bar| row.median() <= bar);
        good &= passed;
        let verdict = match bar {
            Some(bar) if passed => format!("  ok, at most {bar:.1}"),
            Some(bar) => format!("  MISSED, at most {bar:.1}"),
            None => String::new(),
        };
        println!("{:32} {:6.1}{verdict}", row.name(), row.median());
        let rounds = row.rounds.iter().map(|&round| Json::Number(round));
        list.push(Json::Object(vec![
            ("name", Json::text(row.name())),
            ("median_us", Json::Number(row.median())),
            ("rounds_us", Json::List(rounds.collect())),
            ("bar_us", Json::Number(bar.unwrap_or(f64::NAN))),
            ("passed", Json::Bool(passed)),
        ]));
    }
    if let Some(path) = &options.json {
        let json = Json::Object(vec![
            ("benchmark", Json::text("latency")),
            ("count", Json::Number(options.count as f64)),
            ("passed", Json::Bool(good)),
            ("rows", Json::List(list)),
        ]);
        fs::write(path, format!("{json}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(good)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("`{text}` was not expected"))
}

fn start(mut command: Command) -> Result<Process, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Process::start("latency", command, true)
}

/// Times of round trips.
struct Pings {
    count: usize,
    times: Vec<Duration>,
    sent: Instant,
}

impl Pings {
    fn new(count: &str) -> io::Result<Self> {
        let count: usize = count.parse().map_err(io::Error::other)?;
        Ok(Self {
            count: count + WARM_UP,
            times: Vec::with_capacity(count + WARM_UP),
            sent: Instant::now(),
        })
    }

    fn send(&mut self) {
        self.sent = Instant::now();
    }

    /// It is back. Says whether that was the last.
    fn receive(&mut self) -> bool {
        self.times.push(self.sent.elapsed());
        self.times.len() == self.count
    }

    fn report(mut self) {
        let times = &mut self.times[WARM_UP..];
        times.sort();
        println!("median {}", times[times.len() / 2].as_secs_f64() * 1e6);
    }
}

/// The floor's server.
pub(crate) fn tcp_server() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        echo(stream)?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut byte = [0; 1];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// The floor's client.
pub(crate) fn tcp_client(address: &str, count: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let writer = stream.try_clone()?;
    exchange(writer, &mut stream, count)
}

fn exchange(mut to: impl Write, mut from: impl Read, count: &str) -> io::Result<()> {
    let mut pings = Pings::new(count)?;
    let mut byte = [7; 1];
    loop {
        pings.send();
        to.write_all(&byte)?;
        from.read_exact(&mut byte)?;
        if pings.receive() {
            pings.report();
            return Ok(());
        }
    }
}

/// Drives a client through its standard streams.
pub(crate) fn process(count: &str, program: &str, arguments: &[String]) -> io::Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("no standard streams"));
    };
    exchange(to, from, count)?;
    child.wait().map(|_| ())
}

/// How a client logs in.
struct Login {
    address: SocketAddr,
    user: String,
    key: Arc<PrivateKey>,
}

/// A client of ours.
pub(crate) fn client(who: &str, [address, user, key, count]: [&str; 4]) -> io::Result<()> {
    let key = PrivateKey::from_openssh(fs::read(key)?, None).map_err(io::Error::other)?;
    let login = Login {
        address: address.parse().map_err(io::Error::other)?,
        user: user.to_owned(),
        key: Arc::new(key),
    };
    let pings = Pings::new(count)?;
    match who {
        "mio" => mio::client(login, pings),
        "tokio" => tokio::client(login, pings),
        _ => blocking::client(login, pings),
    }
}

/// A server of ours with `cat` in the process, until it is ended.
pub(crate) fn server(who: &str, host_key: &str, user_key: &str) -> io::Result<()> {
    let host_key = PrivateKey::from_openssh(fs::read(host_key)?, None).map_err(io::Error::other)?;
    let config = ServerConfig::new(vec![HostKey::Private(Arc::new(host_key))]);
    let user_key = fs::read_to_string(user_key)?;
    let (user_key, _) = PublicKey::from_openssh(user_key.trim()).map_err(io::Error::other)?;
    match who {
        "tokio" => tokio::server(config, user_key),
        _ => blocking::server(config, user_key),
    }
}
