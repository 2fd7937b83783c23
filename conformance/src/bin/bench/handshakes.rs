//! `bench handshakes`: what a connection costs that runs one command.
//!
//! Connect, exchange keys, log in with an Ed25519 key, have one command answered in the process, close; 32 at a time. The
//! end under test is a process of its own, and the other end is always the same: this program on ssh-mio. Everything runs
//! on one CPU. What counts is how many of these the end under test makes in a second of its own time.
//!
//! OpenSSH starts a process for each: its client here, its server for itself, and a shell for the command. Its figures,
//! with all of that in them, say what is usual.

mod blocking;
mod mio;
mod tokio;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use conformance::peers::{KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version};
use ssh_mio::ssh_proto::config::{ClientConfig, HostKey, ServerConfig};
use ssh_mio::ssh_proto::key::{PrivateKey, PublicKey};

use crate::bulk::choose_cpu;
use crate::cpu::{self, Group};
use crate::floor::LISTENING;
use crate::json::Json;
use crate::process::{Process, output, pinned};
use crate::report::median;
use crate::russh;

/// Connections that are being made at once.
const AT_ONCE: usize = 32;
const COMMAND: &str = "echo hello";
const ANSWER: &[u8] = b"hello\n";
const CIPHER: &str = "aes128-gcm@openssh.com";
const KEX: [(&str, &str); 2] = [
    ("X25519", "curve25519-sha256"),
    ("ML-KEM", "mlkem768x25519-sha256"),
];
/// Ours on Tokio and on mio make so many times as many as russh.
const BAR: f64 = 2.0;
/// Before those that count: what is done once in the life of a process is done by then.
const WARM_UP: usize = 4 * AT_ONCE;
/// OpenSSH makes fewer in the same time.
const SHARE: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// What was asked for.
pub(crate) struct Options {
    count: usize,
    runs: usize,
    only: String,
    json: Option<PathBuf>,
    openssh: Version,
    cpu: Option<usize>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            count: 1_000,
            runs: 5,
            only: String::new(),
            json: None,
            openssh: Version::V9_2,
            cpu: None,
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy().into_owned();
            let known = [
                "--count",
                "--runs",
                "--only",
                "--json",
                "--openssh",
                "--cpu",
            ];
            if !known.contains(&name.as_str()) {
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
                        .filter(|count| (100..=20_000).contains(count))
                        .ok_or_else(|| wrong("a number from 100 to 20000"))?;
                }
                "--runs" => {
                    let runs = text.parse().ok().filter(|runs| (1..=1000).contains(runs));
                    options.runs = runs.ok_or_else(|| wrong("a number from 1 to 1000"))?;
                }
                "--only" => options.only = text,
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

/// Who is at the end under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Mio,
    Tokio,
    Blocking,
    Russh,
    OpenSsh,
}

impl Who {
    const ALL: [Self; 5] = [
        Self::Mio,
        Self::Tokio,
        Self::Blocking,
        Self::Russh,
        Self::OpenSsh,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Mio => "mio",
            Self::Tokio => "tokio",
            Self::Blocking => "blocking",
            Self::Russh => "russh",
            Self::OpenSsh => "OpenSSH",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

struct Row {
    who: Who,
    end: End,
    kex: (&'static str, &'static str),
    /// Microseconds of CPU time for one, in each run.
    costs: Vec<f64>,
}

impl Row {
    fn cost(&self) -> f64 {
        median(self.costs.iter().copied())
    }

    fn name(&self) -> String {
        format!("{} {} {}", self.end.name(), self.kex.0, self.who.name())
    }
}

/// Runs the benchmark. Says whether all bars were reached.
///
/// # Errors
///
/// A line for the user when it could not be made.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let bench = std::env::current_exe().map_err(|error| error.to_string())?;
    // Fetches the peers unless the cache has them.
    output(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("test")).arg("--fetch-only"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let place = Place::new(options, &bench, folder.path())?;
    let mut rows: Vec<Row> = [End::Client, End::Server]
        .into_iter()
        .flat_map(|end| KEX.map(|kex| (end, kex)))
        .flat_map(|(end, kex)| Who::ALL.map(|who| (who, end, kex)))
        .map(|(who, end, kex)| Row {
            who,
            end,
            kex,
            costs: Vec::new(),
        })
        .filter(|row| row.name().contains(&options.only))
        // OpenSSH 9.2 has no ML-KEM.
        .filter(|row| {
            let old = options.openssh == Version::V9_2 && row.kex == KEX[1];
            row.who != Who::OpenSsh || !old
        })
        .collect();
    if rows.is_empty() {
        return Err(format!(
            "--only {}: no row has that in its name",
            options.only
        ));
    }
    for round in 1..=options.runs {
        eprintln!("run {round} of {}", options.runs);
        for row in &mut rows {
            let count = match row.who {
                Who::OpenSsh => options.count / SHARE,
                _ => options.count,
            };
            let used = place.measure(row.who, row.end, row.kex.1, count)?;
            row.costs.push(used.as_secs_f64() * 1e6 / count as f64);
        }
    }
    report(options, place.cpu, &rows)
}

fn report(options: &Options, cpu: usize, rows: &[Row]) -> Result<bool, String> {
    println!(
        "connections with one command, {AT_ONCE} at a time, medians of {} runs of {}, OpenSSH {}, everything on CPU {cpu}\n",
        options.runs, options.count, options.openssh
    );
    println!(
        "{:24} {:>10} {:>12} {:>8}  verdict",
        "end under test", "CPU us each", "per CPU s", "/ russh"
    );
    let mut good = true;
    let mut list = Vec::new();
    for row in rows {
        let russh = rows
            .iter()
            .find(|other| other.who == Who::Russh && (other.end, other.kex) == (row.end, row.kex))
            .map_or(f64::NAN, Row::cost);
        let ratio = russh / row.cost();
        let has_bar = matches!(row.who, Who::Mio | Who::Tokio);
        let passed = !has_bar || ratio >= BAR;
        good &= passed;
        println!(
            "{:24} {:11.1} {:12.0} {ratio:8.2}  {}",
            row.name(),
            row.cost(),
            1e6 / row.cost(),
            match (has_bar, passed) {
                (false, _) => "",
                (true, true) => "ok",
                (true, false) => "MISSED, at least 2",
            },
        );
        let costs = row.costs.iter().map(|&cost| Json::Number(cost));
        list.push(Json::Object(vec![
            ("who", Json::text(row.who.name())),
            ("end", Json::text(row.end.name())),
            ("kex", Json::text(row.kex.1)),
            ("cpu_us_each", Json::Number(row.cost())),
            ("runs", Json::List(costs.collect())),
            ("per_cpu_second", Json::Number(1e6 / row.cost())),
            ("over_russh", Json::Number(ratio)),
            ("bar", Json::Number(if has_bar { BAR } else { f64::NAN })),
            ("passed", Json::Bool(passed)),
        ]));
    }
    if let Some(path) = &options.json {
        let json = Json::Object(vec![
            ("benchmark", Json::text("handshakes")),
            ("count", Json::Number(options.count as f64)),
            ("openssh", Json::text(options.openssh.to_string())),
            ("passed", Json::Bool(good)),
            ("rows", Json::List(list)),
        ]);
        fs::write(path, format!("{json}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(good)
}

/// What is the same in all rows.
struct Place {
    cpu: usize,
    version: Version,
    bench: PathBuf,
    russh: PathBuf,
    user_key: KeyPair,
    host_key: KeyPair,
}

/// A server that listens; dropping it ends it.
struct Listening {
    address: SocketAddr,
    user: &'static str,
    group: Group,
    host_key: KeyPair,
    _owner: Owner,
}

enum Owner {
    OpenSsh(#[expect(dead_code, reason = "held for its drop")] Box<Sshd>),
    Other(#[expect(dead_code, reason = "held for its drop")] Process),
}

impl Place {
    fn new(options: &Options, bench: &Path, folder: &Path) -> Result<Self, String> {
        let key =
            |name| KeyPair::generate(options.openssh, KeyKind::Ed25519, &folder.join(name), "");
        Ok(Self {
            cpu: choose_cpu(options.cpu)?,
            version: options.openssh,
            bench: bench.to_owned(),
            russh: russh::program(bench)?,
            user_key: key("user_key"),
            host_key: key("host_key"),
        })
    }

    /// What the end under test uses for `count` connections.
    fn measure(&self, who: Who, end: End, kex: &str, count: usize) -> Result<Duration, String> {
        let (server, client) = match end {
            End::Client => (Who::Mio, who),
            End::Server => (who, Who::Mio),
        };
        let server = self.start_server(server)?;
        let mut client = self.start_client(client, &server, kex, count)?;
        client.wait_for("ready", PATIENCE)?;
        let group = match end {
            End::Client => Group::one(client.id()),
            End::Server => server.group,
        };
        let used = |group: &Group| -> Result<Duration, String> {
            let own = cpu::at_rest(std::slice::from_ref(group), PATIENCE)?[0];
            // OpenSSH's processes have ended.
            Ok(match who {
                Who::OpenSsh => own + cpu::of_children(group.root)?,
                _ => own,
            })
        };
        let before = used(&group)?;
        // A line is the sign to begin.
        let mut begin = client.take_stdin().ok_or("no standard input")?;
        let begun = begin.write_all(b"\n");
        begun.map_err(|error| format!("the client: {error}"))?;
        client.wait_for("done", PATIENCE)?;
        let after = used(&group)?;
        drop(begin);
        client.finish(PATIENCE)?;
        Ok(after.saturating_sub(before))
    }

    fn part(&self, name: &str, who: Who) -> Command {
        let mut command = pinned(self.cpu, &Command::new(&self.bench));
        command.args([name, who.name()]);
        command
    }

    fn start_server(&self, who: Who) -> Result<Listening, String> {
        let authorized = self.user_key.path.with_extension("pub");
        let mut command = match who {
            Who::OpenSsh => return self.start_sshd(),
            Who::Russh => {
                let mut command = pinned(self.cpu, &Command::new(&self.russh));
                command.args(["server", "--runtime", "current", "--port", "0"]);
                command.arg("--host-key").arg(&self.host_key.path);
                command.arg("--authorized-keys").arg(authorized);
                command
            }
            _ => {
                let mut command = self.part("__handshakes-server", who);
                command.arg(&self.host_key.path).arg(authorized);
                command
            }
        };
        let mut process = start(&mut command)?;
        let address = process.wait_for(LISTENING, PATIENCE)?;
        let address = address.trim().parse();
        Ok(Listening {
            address: address.map_err(|_| "a server listens nowhere".to_owned())?,
            user: "user",
            group: Group::one(process.id()),
            host_key: self.host_key.clone(),
            _owner: Owner::Other(process),
        })
    }

    fn start_sshd(&self) -> Result<Listening, String> {
        let sshd = Sshd::start(
            self.version,
            &SshdOptions {
                authorized_keys: vec![self.user_key.public.clone()],
                config: vec!["MaxStartups 1000".into()],
                ..SshdOptions::default()
            },
        );
        let mut pin = Command::new("taskset");
        let (cpu, pid) = (self.cpu.to_string(), sshd.pid().to_string());
        output(pin.args(["-a", "-p", "-c", &cpu, &pid]))?;
        Ok(Listening {
            address: sshd.address(),
            user: Sshd::USER,
            group: Group::one(sshd.pid()),
            host_key: sshd.host_keys()[0].clone(),
            _owner: Owner::OpenSsh(Box::new(sshd)),
        })
    }

    fn start_client(
        &self,
        who: Who,
        server: &Listening,
        kex: &str,
        count: usize,
    ) -> Result<Process, String> {
        let key = &self.user_key.path;
        let count = count.to_string();
        let mut command = match who {
            Who::Russh => {
                let mut command = pinned(self.cpu, &Command::new(&self.russh));
                command.args(["handshakes", "--runtime", "current", "--kex", kex]);
                command.args(["--port", &server.address.port().to_string(), "--key"]);
                command.arg(key).args(["--user", server.user]);
                command.args(["--cipher", CIPHER, "127.0.0.1", &count, COMMAND]);
                command
            }
            Who::OpenSsh => {
                let ssh = Ssh::new(self.version, server.address)
                    .user(server.user)
                    .host_key(&server.host_key.public)
                    .identity(&self.user_key)
                    .option("KexAlgorithms", kex)
                    .option("Ciphers", CIPHER);
                let one = ssh.command(COMMAND);
                let mut command = self.part("__handshakes-processes", who);
                command.arg(count).arg(one.get_program());
                command.args(one.get_args());
                for (name, value) in one.get_envs() {
                    if let Some(value) = value {
                        command.env(name, value);
                    }
                }
                // Its files are needed as long as it runs.
                let process = start(&mut command);
                std::mem::forget(ssh);
                return process;
            }
            _ => {
                let mut command = self.part("__handshakes-client", who);
                command.args([&server.address.to_string(), server.user]);
                command.arg(key).args([kex, &count]);
                command
            }
        };
        start(&mut command)
    }
}

fn start(command: &mut Command) -> Result<Process, String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let command = std::mem::replace(command, Command::new(""));
    Process::start("handshakes", command, true)
}

/// How a client logs in.
struct Login {
    address: SocketAddr,
    user: String,
    key: Arc<PrivateKey>,
    config: ClientConfig,
}

/// A client of ours: warms up, waits for a line, makes the connections, waits for the end of its input.
pub(crate) fn client(who: &str, [address, user, key, kex, count]: [&str; 5]) -> io::Result<()> {
    let mut config = ClientConfig::new();
    let algorithms = &mut config.transport.algorithms;
    algorithms.kex = kex.parse().map_err(io::Error::other)?;
    algorithms.ciphers = CIPHER.parse().map_err(io::Error::other)?;
    let key = PrivateKey::from_openssh(fs::read(key)?, None).map_err(io::Error::other)?;
    let login = Arc::new(Login {
        address: address.parse().map_err(io::Error::other)?,
        user: user.to_owned(),
        key: Arc::new(key),
        config,
    });
    let count = count.parse().map_err(io::Error::other)?;
    let work = |count| match who {
        "mio" => mio::client(&login, count),
        "tokio" => tokio::client(&login, count),
        _ => blocking::client(&login, count),
    };
    work(WARM_UP)?;
    on_sign(|| work(count))
}

/// OpenSSH's client, again and again.
pub(crate) fn processes(count: &str, program: &str, arguments: &[String]) -> io::Result<()> {
    let count: usize = count.parse().map_err(io::Error::other)?;
    on_sign(|| {
        let mut running: Vec<Child> = Vec::new();
        for index in 0..count {
            if index >= AT_ONCE {
                finish(running.remove(0))?;
            }
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            running.push(command.stdout(Stdio::piped()).spawn()?);
        }
        running.into_iter().try_for_each(finish)
    })
}

fn finish(child: Child) -> io::Result<()> {
    let output = child.wait_with_output()?;
    if output.status.success() && output.stdout == ANSWER {
        Ok(())
    } else {
        Err(io::Error::other("another answer"))
    }
}

fn on_sign(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    println!("ready");
    io::stdin().read_exact(&mut [0])?;
    work()?;
    println!("done");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// A server of ours, until the process is ended.
pub(crate) fn server(who: &str, host_key: &str, user_key: &str) -> io::Result<()> {
    let host_key = PrivateKey::from_openssh(fs::read(host_key)?, None).map_err(io::Error::other)?;
    let config = ServerConfig::new(vec![HostKey::Private(Arc::new(host_key))]);
    let user_key = fs::read_to_string(user_key)?;
    let (user_key, _) = PublicKey::from_openssh(user_key.trim()).map_err(io::Error::other)?;
    match who {
        "mio" => mio::server(config, &user_key),
        "tokio" => tokio::server(config, user_key),
        _ => blocking::server(config, user_key),
    }
}

/// How many of `count` are the share of one of those that work at once.
fn share(count: usize, index: usize) -> usize {
    count / AT_ONCE + usize::from(index < count % AT_ONCE)
}
