//! `bench connections`: what idle connections cost.
//!
//! Server and client are processes of their own, this program again. Each has one thread with all sessions. The client
//! connects 64 at a time, authenticates with a key and opens one channel on each connection; then nothing happens.
//! Memory is what a process has grown by since it was ready for the first connection; CPU is what it used while idle.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use ssh_mio::mio::net::TcpListener;
use ssh_mio::mio::{Events, Interest, Poll, Token};
use ssh_mio::ssh_proto::config::{ClientConfig, HostKey, ServerConfig};
use ssh_mio::ssh_proto::key::{KeyKind, PrivateKey};
use ssh_mio::ssh_proto::{
    ChannelEvent, ClientEvent, ClientRole, Credential, OpenChannel, OpenFailureReason, OpenKind,
    Proof, ServerEvent, ServerRole,
};
use ssh_mio::{ClientSession, ServerSession, Sessions, seed};

use crate::cpu::{self, Group};
use crate::json::Json;
use crate::process::Process;

/// RSS per connection at the most, at either end.
const MEMORY_BAR: f64 = 12.0;
/// The CPU time by which an idle time with the most connections may exceed that with the fewest.
const CPU_BAR: Duration = Duration::from_millis(10);
/// Connections that are being made at once.
const AT_ONCE: usize = 64;
/// Long enough for what a login needed to be given back.
const SETTLE: Duration = Duration::from_secs(3);
/// For making one thousand connections.
const PATIENCE: Duration = Duration::from_secs(30);

const LISTENER: Token = Token(0);

/// What was asked for.
pub(crate) struct Options {
    counts: Vec<usize>,
    seconds: u64,
    json: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            counts: vec![1_000, 10_000],
            seconds: 30,
            json: None,
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy().into_owned();
            if !["--counts", "--seconds", "--json"].contains(&name.as_str()) {
                return Err(format!("unknown option {name}; see bench --help"));
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            let text = value.to_string_lossy().into_owned();
            let wrong = |expected: &str| format!("{name} must be {expected}, not `{text}`");
            match name.as_str() {
                "--counts" => {
                    let counts: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
                    options.counts = counts
                        .ok()
                        .filter(|counts| counts.iter().all(|count| (1..=25_000).contains(count)))
                        .filter(|counts| counts.is_sorted())
                        .ok_or_else(|| wrong("numbers from 1 to 25000, the least first"))?;
                }
                "--seconds" => {
                    let seconds = text
                        .parse()
                        .ok()
                        .filter(|seconds| (1..=3_000).contains(seconds));
                    options.seconds = seconds.ok_or_else(|| wrong("a number from 1 to 3000"))?;
                }
                _ => options.json = Some(value.into()),
            }
        }
        Ok(options)
    }
}

/// One end in one run.
struct Figures {
    end: &'static str,
    connections: usize,
    /// KiB per connection.
    memory: f64,
    /// While idle.
    cpu: Duration,
}

/// Runs the benchmark. Says whether all bars were reached.
///
/// # Errors
///
/// A line for the user when it could not be made.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let mut all: Vec<Figures> = Vec::new();
    for &count in &options.counts {
        all.extend(measure(count, Duration::from_secs(options.seconds))?);
    }
    println!(
        "end         connections   KiB each    CPU ms in {} s idle",
        options.seconds
    );
    let mut good = true;
    let mut rows = Vec::new();
    for figures in &all {
        let first = all.iter().find(|other| other.end == figures.end);
        let allowed = first.map_or(Duration::MAX, |first| first.cpu + CPU_BAR);
        let passed = figures.memory <= MEMORY_BAR && figures.cpu <= allowed;
        good &= passed;
        println!(
            "mio {:6}  {:11}   {:8.2}    {:8.2}   {}",
            figures.end,
            figures.connections,
            figures.memory,
            figures.cpu.as_secs_f64() * 1e3,
            if passed { "ok" } else { "MISSED" },
        );
        rows.push(Json::Object(vec![
            ("adapter", Json::text("mio")),
            ("end", Json::text(figures.end)),
            ("connections", Json::Number(figures.connections as f64)),
            ("kib_per_connection", Json::Number(figures.memory)),
            ("kib_bar", Json::Number(MEMORY_BAR)),
            ("idle_cpu_ms", Json::Number(figures.cpu.as_secs_f64() * 1e3)),
            ("idle_cpu_ms_bar", Json::Number(allowed.as_secs_f64() * 1e3)),
            ("passed", Json::Bool(passed)),
        ]));
    }
    if let Some(path) = &options.json {
        let json = Json::Object(vec![
            ("benchmark", Json::text("connections")),
            ("idle_seconds", Json::Number(options.seconds as f64)),
            ("rows", Json::List(rows)),
        ]);
        std::fs::write(path, format!("{json}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(good)
}

fn measure(count: usize, idle: Duration) -> Result<[Figures; 2], String> {
    let patience = PATIENCE * u32::try_from(count / 1_000 + 1).unwrap_or(u32::MAX);
    let mut server = start("mio-server", &[])?;
    let address = server.wait_for("listening on ", PATIENCE)?;
    let mut client = start("mio-client", &[&address, &count.to_string()])?;
    client.wait_for("ready", PATIENCE)?;
    let ends = [server.id(), client.id()];
    let before = memory(ends)?;
    // A line is the sign to begin.
    let mut begin = client.take_stdin().ok_or("no standard input")?;
    begin
        .write_all(b"\n")
        .map_err(|error| format!("mio-client: {error}"))?;
    client.wait_for("connected", patience)?;
    std::thread::sleep(SETTLE);
    let groups = ends.map(Group::one);
    let start = cpu::at_rest(&groups, PATIENCE)?;
    let after = memory(ends)?;
    std::thread::sleep(idle);
    let end = cpu::at_rest(&groups, PATIENCE)?;
    let figures = |index: usize, end_name| Figures {
        end: end_name,
        connections: count,
        memory: (after[index] - before[index]) / count as f64,
        cpu: end[index].saturating_sub(start[index]),
    };
    let result = [figures(0, "server"), figures(1, "client")];
    drop(begin);
    client.finish(PATIENCE)?;
    drop(server.take_stdin());
    server.finish(PATIENCE)?;
    Ok(result)
}

fn start(part: &str, arguments: &[&str]) -> Result<Process, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .arg(format!("__{part}"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Process::start(part, command, true)
}

/// The resident memory of both processes, in KiB.
fn memory(processes: [u32; 2]) -> Result<[f64; 2], String> {
    let mut result = [0.0; 2];
    for (process, result) in processes.iter().zip(&mut result) {
        let path = format!("/proc/{process}/status");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        *result = text
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse()
                    .ok()
            })
            .ok_or_else(|| format!("{path} has no VmRSS"))?;
    }
    Ok(result)
}

/// The user's key and the host key: the same for both processes.
fn keys() -> io::Result<[Arc<PrivateKey>; 2]> {
    let key = |byte| PrivateKey::generate(KeyKind::Ed25519, &[byte; 32]).map(Arc::new);
    Ok([
        key(1).map_err(io::Error::other)?,
        key(2).map_err(io::Error::other)?,
    ])
}

fn more_descriptors(count: usize) -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = count as u64 + 64;
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        let text = format!("{wanted} descriptors are needed, see `ulimit -Hn`");
        return Err(io::Error::other(text));
    }
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Ends the process when its standard input ends.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        while matches!(io::stdin().read(&mut sink), Ok(len) if len > 0) {}
        std::process::exit(0);
    });
}

/// The server: authenticates, grants channels, and does nothing.
pub(crate) fn server() -> io::Result<()> {
    more_descriptors(0)?;
    let [user_key, host_key] = keys()?;
    let config = Arc::new(ServerConfig::new(vec![HostKey::Private(host_key)]));
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::<ServerRole>::new(Token(1));
    println!("listening on {}", listener.local_addr()?);
    end_with_stdin();
    loop {
        wait(&mut poll, &mut events, sessions.wait_time(Instant::now()))?;
        let now = Instant::now();
        for event in &events {
            if event.token() == LISTENER {
                // Never more than the client makes at once.
                while let Ok((stream, _)) = listener.accept() {
                    let session = ServerSession::new(stream, Arc::clone(&config), seed()?, now);
                    sessions.insert(poll.registry(), session, ())?;
                }
            } else {
                sessions.note(event);
            }
        }
        sessions.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                let ssh = session.connection();
                let answered = match event {
                    ServerEvent::KeyOffered(offer) => ssh.accept_key(offer),
                    ServerEvent::LoginAttempted(attempt) => match attempt.proof() {
                        Proof::PublicKey(key) if key == user_key.public() => ssh.grant(attempt),
                        _ => ssh.refuse(attempt),
                    },
                    ServerEvent::OpenRequested(request) => match request.kind() {
                        OpenKind::Session => ssh.accept_open(request, b"").map(|_| ()),
                        _ => ssh.refuse_open(request, OpenFailureReason::UNKNOWN_CHANNEL_TYPE, ""),
                    },
                    ServerEvent::Disconnected(error) => {
                        eprintln!("a connection ended: {error}");
                        Ok(())
                    }
                    _ => Ok(()),
                };
                if let Err(error) = answered {
                    eprintln!("{error}");
                }
            }
        });
    }
}

/// The client: `count` connections with a channel each, which then do nothing.
pub(crate) fn client(address: &str, count: usize) -> io::Result<()> {
    more_descriptors(count)?;
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let [user_key, host_key] = keys()?;
    let config = Arc::new(ClientConfig::new());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut sessions = Sessions::<ClientRole>::new(Token(0));
    println!("ready");
    io::stdin().read_exact(&mut [0])?;
    end_with_stdin();
    let (mut made, mut open) = (0, 0);
    loop {
        let now = Instant::now();
        while made < count && made - open < AT_ONCE {
            let mut session = ClientSession::connect(address, Arc::clone(&config), now)?;
            let credential = Credential::public_key(Arc::clone(&user_key));
            session
                .connection()
                .authenticate("user", credential, now)
                .map_err(io::Error::other)?;
            sessions.insert(poll.registry(), session, ())?;
            made += 1;
        }
        wait(&mut poll, &mut events, sessions.wait_time(Instant::now()))?;
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        let before = open;
        let mut failure = None;
        sessions.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                let ssh = session.connection();
                let done = match event {
                    ClientEvent::HostKeyOffered(offer) if offer.key() == host_key.public() => {
                        ssh.accept_host_key(offer).map_err(io::Error::other)
                    }
                    ClientEvent::Authenticated => ssh
                        .open(OpenChannel::Session, now)
                        .map(|_| ())
                        .map_err(io::Error::other),
                    ClientEvent::Channel(id) => {
                        let event = ssh.channel(id).and_then(|mut channel| channel.poll_event());
                        open += usize::from(matches!(event, Some(ChannelEvent::Opened { .. })));
                        Ok(())
                    }
                    ClientEvent::Disconnected(error) => Err(io::Error::other(error)),
                    _ => Ok(()),
                };
                if let Err(error) = done {
                    failure = Some(error);
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        if open == count && before < count {
            println!("connected");
            io::stdout().flush()?;
        }
    }
}

fn wait(poll: &mut Poll, events: &mut Events, longest: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, longest) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}
