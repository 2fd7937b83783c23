//! `bench`: our programs beside OpenSSH's and beside the floor, on this machine, in one run.
//!
//! ```text
//! cargo run --release -p conformance --bin bench -- bulk [OPTION]...
//! cargo run --release -p conformance --bin bench -- channels [OPTION]...
//! cargo run --release -p conformance --bin bench -- connections [OPTION]...
//! cargo run --release -p conformance --bin bench -- handshakes [OPTION]...
//! cargo run --release -p conformance --bin bench -- latency [OPTION]...
//! ```

mod bulk;
mod channels;
mod connections;
mod cpu;
mod delay;
mod floor;
mod handshakes;
mod json;
mod latency;
mod mio_exec;
mod pipeline;
mod process;
mod programs;
mod report;
mod rtt;
mod russh;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use conformance::peers::Version;

const USAGE: &str = "\
usage: bench bulk [OPTION]...
       bench channels [OPTION]...
       bench connections [OPTION]...
       bench handshakes [OPTION]...
       bench latency [OPTION]...

bulk   CPU seconds per GiB over exec on loopback, download and upload: our examples on blocking sockets beside OpenSSH, those
       on Tokio and mio beside russh, all beside the floor. Ends with status 1 when a bar is missed, 2 when the benchmark
       could not be made.

  --runs N           interleaved runs of which medians are taken (default 5)
  --size BYTES       bytes per run, at least 67108864 (default 1073741824)
  --json FILE        write all runs, medians and verdicts to FILE
  --openssh VERSION  9.2 (default) or 10.0
  --only TEXT        only the transfers whose name holds TEXT: \"download\", \"upload aes128-gcm@openssh.com\", ..
  --adapter NAME     only the rows of blocking, tokio or mio
  --stdout KIND      what the clients write downloads to: null (default: /dev/null) or pipe (to a process that reads it)
  --cpu N            the CPU on which everything runs (default: the last that this process may use)
  --rtt LIST         instead: rates at these round trips in milliseconds (20,100), through a proxy that delays; OpenSSH's
                     client, russh's and ours with OpenSSH's server, then both ends ours. Bars are at 100 ms.
  --our-ssh PATH     the client under test (default: build the example of ssh-blocking); `openssh`: OpenSSH's stands in
  --our-sshd PATH    the same for the server

channels   CPU of a message there and back on a connection with 10, 100 and 1,000 channels, as many messages under way in all of
       them together, for the state machine alone and for each adapter. Statuses as above.

  --messages N       how many messages a run (default 100000)
  --runs N           interleaved runs of which medians are taken (default 5)
  --only TEXT        only the adapters whose name holds TEXT: core, mio, tokio, blocking, threads
  --json FILE        write all figures and verdicts to FILE
  --cpu N            as for bulk

connections   memory and CPU of idle authenticated connections with one open channel, on one thread at each end, with ssh-mio,
       ssh-tokio and, up to 1000, russh, on loopback, connected at most 64 at a time. Keepalive is off. Statuses as above.

  --counts LIST      how many connections, the least first (default 1000,10000)
  --seconds N        for how long they are idle (default 30)
  --only TEXT        only those whose name holds TEXT: mio, tokio, russh
  --json FILE        write all figures and verdicts to FILE

handshakes   connections that log in with a key and have one command answered, 32 at a time: how many an end makes per second of
       its CPU time, with X25519 and with ML-KEM, beside russh and OpenSSH. Statuses as above.

  --count N          how many a run (default 1000; OpenSSH makes a twentieth)
  --runs N           interleaved runs of which medians are taken (default 5)
  --only TEXT        only the rows whose name holds TEXT: client, \"server X25519\", tokio, ..
  --json FILE        write all figures and verdicts to FILE
  --openssh VERSION  9.2 (default, without ML-KEM) or 10.0
  --cpu N            as for bulk

latency   one byte through `cat` and back, everything on one CPU: medians of TCP alone, of OpenSSH's client and of ours on each
       adapter, with OpenSSH's server and with ours on each adapter. Statuses as above.

  --count N          how many bytes each (default 5000)
  --json FILE        write all figures and verdicts to FILE
  --openssh VERSION  9.2 (default) or 10.0
  --cpu N            as for bulk
";

/// What `bulk` was asked to do.
struct Options {
    runs: usize,
    size: u64,
    json: Option<PathBuf>,
    openssh: Version,
    only: String,
    adapter: Option<&'static str>,
    stdout: pipeline::Stdout,
    cpu: Option<usize>,
    /// Milliseconds.
    rtt: Vec<u64>,
    our_ssh: Option<OsString>,
    our_sshd: Option<OsString>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            runs: 5,
            size: 1 << 30,
            json: None,
            openssh: Version::V9_2,
            only: String::new(),
            adapter: None,
            stdout: pipeline::Stdout::Null,
            cpu: None,
            rtt: Vec::new(),
            our_ssh: None,
            our_sshd: None,
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy().into_owned();
            let known = [
                "--runs",
                "--size",
                "--json",
                "--openssh",
                "--only",
                "--adapter",
                "--stdout",
                "--cpu",
                "--rtt",
                "--our-ssh",
                "--our-sshd",
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
                "--runs" => {
                    let runs = text.parse().ok().filter(|runs| (1..=1000).contains(runs));
                    options.runs = runs.ok_or_else(|| wrong("a number from 1 to 1000"))?;
                }
                "--size" => {
                    let size = text
                        .parse()
                        .ok()
                        .filter(|size| (1 << 26..=1 << 40).contains(size));
                    options.size = size
                        .ok_or_else(|| wrong("a number of bytes from 67108864 to 1099511627776"))?;
                }
                "--json" => options.json = Some(value.into()),
                "--openssh" => {
                    options.openssh = match text.as_str() {
                        "9.2" => Version::V9_2,
                        "10.0" => Version::V10_0,
                        _ => return Err(wrong("9.2 or 10.0")),
                    };
                }
                "--only" => options.only = text,
                "--adapter" => {
                    let names = ["blocking", "tokio", "mio"];
                    let name = names.into_iter().find(|name| *name == text);
                    options.adapter = Some(name.ok_or_else(|| wrong("blocking, tokio or mio"))?);
                }
                "--stdout" => {
                    options.stdout = match text.as_str() {
                        "null" => pipeline::Stdout::Null,
                        "pipe" => pipeline::Stdout::Pipe,
                        _ => return Err(wrong("null or pipe")),
                    };
                }
                "--cpu" => {
                    options.cpu = Some(text.parse().map_err(|_| wrong("the number of a CPU"))?)
                }
                "--rtt" => {
                    let list: Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
                    options.rtt = list
                        .ok()
                        .filter(|list| list.iter().all(|rtt| (1..=1_000).contains(rtt)))
                        .ok_or_else(|| wrong("numbers from 1 to 1000"))?;
                }
                "--our-ssh" => options.our_ssh = Some(value),
                _ => options.our_sshd = Some(value),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments
        .next()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if let Some(part) = command.strip_prefix("__") {
        let arguments: Vec<String> = arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        return match pipeline_part(part, &arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{part}: {error}")),
        };
    }
    match command.as_str() {
        "bulk" => match Options::parse(arguments).and_then(|options| bulk::run(&options)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(message) => fail(&message),
        },
        "channels" => {
            match channels::Options::parse(arguments).and_then(|options| channels::run(&options)) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(message) => fail(&message),
            }
        }
        "connections" => {
            match connections::Options::parse(arguments)
                .and_then(|options| connections::run(&options))
            {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(message) => fail(&message),
            }
        }
        "handshakes" => {
            match handshakes::Options::parse(arguments)
                .and_then(|options| handshakes::run(&options))
            {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(message) => fail(&message),
            }
        }
        "latency" => {
            match latency::Options::parse(arguments).and_then(|options| latency::run(&options)) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(message) => fail(&message),
            }
        }
        "--help" | "-h" | "help" => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        "" => fail("which benchmark? see bench --help"),
        unknown => fail(&format!("unknown benchmark {unknown}; see bench --help")),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("bench: {message}");
    ExitCode::from(2)
}

/// The hidden subcommands: this program is also every process of the pipelines that is not under test, and the floor.
fn pipeline_part(part: &str, arguments: &[String]) -> io::Result<()> {
    let size = |text: &str| text.parse::<u64>().map_err(io::Error::other);
    match (part, arguments) {
        ("source", [bytes]) => floor::source(size(bytes)?),
        ("sink", [bytes]) => floor::sink(size(bytes)?),
        ("seal", [cipher, address, batch]) => floor::seal(
            cipher,
            address,
            batch.parse().map_err(io::Error::other)?,
            None,
        ),
        ("seal", [cipher, address, batch, bytes]) => {
            let batch = batch.parse().map_err(io::Error::other)?;
            floor::seal(cipher, address, batch, Some(size(bytes)?))
        }
        ("mio-exec", [address, user, key, cipher, command]) => {
            mio_exec::run(address, user, key, cipher, command)
        }
        ("delay", [target, round_trip]) => {
            delay::run(target, Duration::from_millis(size(round_trip)?))
        }
        ("open", [cipher, bytes]) => floor::open(cipher, size(bytes)?),
        ("channels", [adapter, count, messages]) => {
            let number = |text: &String| text.parse().map_err(io::Error::other);
            channels::part(adapter, number(count)?, number(messages)?)
        }
        ("handshakes-server", [who, host_key, user_key]) => {
            handshakes::server(who, host_key, user_key)
        }
        ("handshakes-client", [who, address, user, key, kex, count]) => {
            handshakes::client(who, [address, user, key, kex, count])
        }
        ("handshakes-processes", [_, count, program, arguments @ ..]) => {
            handshakes::processes(count, program, arguments)
        }
        ("latency-tcp-server", []) => latency::tcp_server(),
        ("latency-tcp-client", [address, count]) => latency::tcp_client(address, count),
        ("latency-process", [count, program, arguments @ ..]) => {
            latency::process(count, program, arguments)
        }
        ("latency-server", [who, host_key, user_key]) => latency::server(who, host_key, user_key),
        ("latency-client", [who, address, user, key, count]) => {
            latency::client(who, [address, user, key, count])
        }
        ("connections-server", [who]) => connections::server(who),
        ("connections-client", [who, address, count]) => connections::client(who, address, count),
        _ => Err(io::Error::other("for bench's own use")),
    }
}
