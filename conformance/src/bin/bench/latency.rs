//! `bench latency`: one byte there and back, again and again.
//!
//! Server and client are pinned to the same CPU, so that what is measured is work and not where the scheduler puts it.
//! The clients are this program again: `mio-pings` is a client on ssh-mio, `pipe-pings` drives OpenSSH's client through
//! its standard streams, `tcp-pings` is the floor. Rounds are interleaved, each with connections of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::peers::{KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version};
use ssh_mio::mio::{Events, Poll, Token};
use ssh_mio::ssh_proto::config::ClientConfig;
use ssh_mio::ssh_proto::key::PrivateKey;
use ssh_mio::ssh_proto::{
    ChannelEvent, ClientEvent, ClientRole, Credential, OpenChannel, Program, Stream,
};
use ssh_mio::{ClientSession, Sessions};

use crate::bulk::{choose_cpu, example};
use crate::json::Json;
use crate::process::{Process, output, pinned};

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

/// A row: the medians of its rounds in microseconds.
struct Row {
    name: &'static str,
    rounds: Vec<f64>,
}

impl Row {
    fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

const NAMES: [&str; 5] = [
    "TCP alone",
    "mio client, mio server",
    "OpenSSH client, mio server",
    "mio client, OpenSSH server",
    "OpenSSH client, OpenSSH server",
];

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
    let program = example(&bench, "ssh-mio", "server")?;
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

    let ours = |part: &str| {
        let mut command = pinned(cpu, &Command::new(&bench));
        command.arg(format!("__{part}"));
        command
    };
    let mut tcp = start(ours("tcp-echo"))?;
    let tcp_address = tcp.wait_for("listening on ", PATIENCE)?;
    let mut server = pinned(cpu, &Command::new(program));
    server
        .args(["--port", "0", "--host-key"])
        .arg(&host_key.path);
    server
        .arg("--authorized-keys")
        .arg(user_key.path.with_extension("pub"));
    let mut mio = start(server)?;
    let mio_address: SocketAddr = parse(&mio.wait_for("listening on ", PATIENCE)?)?;
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
    let mut rows: Vec<Row> = NAMES
        .map(|name| Row {
            name,
            rounds: Vec::new(),
        })
        .into();
    for _ in 0..ROUNDS {
        for (index, row) in rows.iter_mut().enumerate() {
            let (address, user) = match index {
                1 | 2 => (mio_address, "user"),
                _ => (sshd.address(), Sshd::USER),
            };
            let mut command;
            let _client;
            match index {
                0 => {
                    command = ours("tcp-pings");
                    command.args([&tcp_address, &count]);
                }
                1 | 3 => {
                    command = ours("mio-pings");
                    command
                        .args([&address.to_string(), user])
                        .arg(&user_key.path)
                        .arg(&count);
                }
                _ => {
                    let client = Ssh::new(options.openssh, address)
                        .user(user)
                        .identity(&user_key);
                    let ssh = client.command("cat");
                    command = ours("pipe-pings");
                    command
                        .arg(&count)
                        .arg(ssh.get_program())
                        .args(ssh.get_args());
                    for (name, value) in ssh.get_envs() {
                        if let Some(value) = value {
                            command.env(name, value);
                        }
                    }
                    _client = client;
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
    let medians: Vec<f64> = rows.iter().map(Row::median).collect();
    let bar = |index| match index {
        1 => Some((medians[0] * FLOOR_FACTOR).min(medians[2])),
        3 => Some(medians[4]),
        _ => None,
    };
    println!(
        "microseconds for one byte and back, medians, OpenSSH {}, everything on CPU {cpu}\n",
        options.openssh
    );
    let mut good = true;
    let mut list = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let bar: Option<f64> = bar(index);
        let passed = bar.is_none_or(|bar| row.median() <= bar);
        good &= passed;
        let verdict = match bar {
            Some(bar) if passed => format!("  ok, at most {bar:.1}"),
            Some(bar) => format!("  MISSED, at most {bar:.1}"),
            None => String::new(),
        };
        println!("{:32} {:6.1}{verdict}", row.name, row.median());
        let rounds = row.rounds.iter().map(|&round| Json::Number(round));
        list.push(Json::Object(vec![
            ("name", Json::text(row.name)),
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
pub(crate) fn tcp_echo() -> io::Result<()> {
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
pub(crate) fn tcp_pings(address: &str, count: &str) -> io::Result<()> {
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
pub(crate) fn pipe_pings(count: &str, program: &str, arguments: &[String]) -> io::Result<()> {
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

/// A client on ssh-mio.
pub(crate) fn mio_pings(address: &str, user: &str, key: &str, count: &str) -> io::Result<()> {
    let key = PrivateKey::from_openssh(fs::read(key)?, None).map_err(io::Error::other)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(16);
    let mut sessions = Sessions::<ClientRole>::new(Token(0));
    let now = Instant::now();
    let address = address.parse().map_err(io::Error::other)?;
    let mut session = ClientSession::connect(address, Arc::new(ClientConfig::new()), now)?;
    session
        .connection()
        .authenticate(user, Credential::public_key(key), now)
        .map_err(io::Error::other)?;
    sessions.insert(poll.registry(), session, ())?;
    let mut pings = Pings::new(count)?;
    let mut result = None;
    while result.is_none() {
        match poll.poll(&mut events, sessions.wait_time(Instant::now())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        sessions.run(poll.registry(), now, |_, session, ()| {
            if let Err(error) = ping(session, &mut pings, &mut result, now) {
                result = Some(Err(error));
            }
        });
    }
    result.unwrap_or(Ok(()))?;
    pings.report();
    Ok(())
}

fn ping(
    session: &mut ClientSession,
    pings: &mut Pings,
    result: &mut Option<io::Result<()>>,
    now: Instant,
) -> io::Result<()> {
    while let Some(event) = session.poll_event() {
        let ssh = session.connection();
        match event {
            ClientEvent::HostKeyOffered(offer) => {
                ssh.accept_host_key(offer).map_err(io::Error::other)?;
            }
            ClientEvent::Authenticated => {
                let id = ssh
                    .open(OpenChannel::Session, now)
                    .map_err(io::Error::other)?;
                if let Some(mut channel) = ssh.channel(id) {
                    channel
                        .start(Program::Exec(b"cat"))
                        .map_err(io::Error::other)?;
                }
            }
            ClientEvent::Channel(id) => {
                let Some(mut channel) = ssh.channel(id) else {
                    continue;
                };
                let mut next = false;
                while let Some(event) = channel.poll_event() {
                    match event {
                        ChannelEvent::Replied { accepted, .. } => next = accepted,
                        ChannelEvent::Data(Stream::DATA) => {
                            let len = channel.readable(Stream::DATA);
                            channel.consume(Stream::DATA, len);
                            next = !pings.receive();
                            if !next {
                                *result = Some(Ok(()));
                            }
                        }
                        _ => {}
                    }
                }
                if next {
                    pings.send();
                    channel
                        .write(Stream::DATA, &[7])
                        .map_err(io::Error::other)?;
                }
            }
            ClientEvent::AuthenticationRefused { .. } => {
                return Err(io::Error::other("permission denied"));
            }
            ClientEvent::Disconnected(error) => return Err(io::Error::other(error)),
            _ => {}
        }
    }
    Ok(())
}
