//! What the tests of forwarding against real peers share: targets, what goes through, ports, and the clients of every adapter.
//!
//! What goes through is a few hundred KiB each way; the answer begins only after EOF, so each connection shows that half-close is
//! passed on. These are tools for tests: they panic instead of returning errors.

mod cases;
mod clients;
mod mio;
mod servers;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ssh_blocking::ssh_proto::socks::{SocksClient, SocksReply, SocksVersion};
use tempfile::TempDir;

use crate::ours::{SshdExample, stream};
use crate::peers::{KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version};

pub use cases::{forbidden, local_forwards, remote_forwards};
pub use clients::{Failure, Forwarded, Forwarder, TokioClient, TokioForward};
pub use mio::{MioClient, MioForward};
pub use servers::{
    serves_local_forwards, serves_nothing_unasked, serves_port_zero_and_cancel,
    serves_remote_forwards,
};

/// How long anything may take.
pub const TIME: Duration = Duration::from_secs(30);
/// A port of ours.
pub const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// How much goes through.
const LEN: usize = 300_000;

/// A key, and room for sockets.
#[derive(Debug)]
pub struct Place {
    key: KeyPair,
    folder: TempDir,
}

impl Place {
    /// A new key in a new folder.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn new(version: Version) -> Self {
        // A path of a socket must be short.
        let folder = tempfile::Builder::new()
            .prefix("fw")
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let key = KeyPair::generate(version, KeyKind::Ed25519, &folder.path().join("id"), "");
        Self { key, folder }
    }

    /// The key that every server of this place lets in.
    #[must_use]
    pub const fn key(&self) -> &KeyPair {
        &self.key
    }

    /// A path for a socket.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// OpenSSH's server, with these lines in its configuration.
    #[must_use]
    #[track_caller]
    pub fn sshd(&self, version: Version, config: &[&str]) -> Sshd {
        let options = SshdOptions {
            config: config.iter().map(|&line| line.to_owned()).collect(),
            authorized_keys: vec![self.key.public.clone()],
            ..SshdOptions::default()
        };
        Sshd::start(version, &options)
    }

    /// The example of that name: `sshd`, `sshd-tokio` or `server`.
    #[must_use]
    #[track_caller]
    pub fn our_sshd(&self, program: &str, arguments: &[&str]) -> SshdExample {
        SshdExample::start_program(program, &[KeyKind::Ed25519], &[&self.key], arguments)
    }

    /// OpenSSH's client for it, forwarding and nothing else.
    #[must_use]
    pub fn client(&self, server: &SshdExample, version: Version, flags: &[&str]) -> Ssh {
        let client = server
            .client(version)
            .identity(&self.key)
            .option("ExitOnForwardFailure", "yes");
        flags
            .iter()
            .fold(client.flag("-N"), |client, flag| client.flag(flag))
    }
}

/// A process that is ended with its value.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a process without input and output.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }
}

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Sends back what it got, once it has got all of it.
fn mirror<S: Send + 'static>(stream: S, end: impl FnOnce(&S) + Send + 'static)
where
    for<'a> &'a S: Read + Write,
{
    thread::spawn(move || {
        let mut all = Vec::new();
        if (&stream).read_to_end(&mut all).is_ok() {
            _ = (&stream).write_all(&all);
            end(&stream);
        }
    });
}

/// Listens on a TCP port; whoever connects gets back what was sent, once it has said EOF.
///
/// # Panics
/// If nothing can be listened on.
#[must_use]
#[track_caller]
pub fn tcp_target() -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap_or_else(|error| panic!("no port: {error}"));
    let address = listener
        .local_addr()
        .unwrap_or_else(|error| panic!("no address: {error}"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            mirror(stream, |stream| _ = stream.shutdown(Shutdown::Write));
        }
    });
    address
}

/// The same on a Unix socket.
///
/// # Panics
/// If it cannot be listened on.
#[track_caller]
pub fn unix_target(path: &Path) {
    let listener = UnixListener::bind(path)
        .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", path.display()));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            mirror(stream, |stream| _ = stream.shutdown(Shutdown::Write));
        }
    });
}

#[track_caller]
fn exchange(mut stream: impl Read + Write, end: impl FnOnce()) {
    let sent = self::stream(LEN);
    let mut back = Vec::new();
    let talk = || {
        stream.write_all(&sent)?;
        end();
        stream.read_to_end(&mut back)
    };
    talk().unwrap_or_else(|error| panic!("the exchange broke: {error}"));
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
}

/// Sends a few hundred KiB, then EOF, and wants them back.
///
/// # Panics
/// If they do not come back.
#[track_caller]
pub fn exchange_tcp(stream: &TcpStream) {
    let limited = stream.set_read_timeout(Some(TIME));
    assert!(limited.is_ok(), "{limited:?}");
    exchange(stream, || _ = stream.shutdown(Shutdown::Write));
}

/// The same through a socket that somebody is about to listen on.
///
/// # Panics
/// If they do not come back.
#[track_caller]
pub fn exchange_unix(path: &Path) {
    let stream = wait_for("a socket", || UnixStream::connect(path).ok());
    let limited = stream.set_read_timeout(Some(TIME));
    assert!(limited.is_ok(), "{limited:?}");
    exchange(&stream, || _ = stream.shutdown(Shutdown::Write));
}

/// Waits until there is something.
///
/// # Panics
/// If it takes longer than [`TIME`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIME;
    loop {
        if let Some(ready) = ready() {
            return ready;
        }
        assert!(Instant::now() < deadline, "no {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A connection to a port that somebody is about to listen on.
///
/// # Panics
/// If nobody does.
#[must_use]
#[track_caller]
pub fn connect(port: u16) -> TcpStream {
    wait_for("listener", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    })
}

/// Waits until nobody listens there.
///
/// # Panics
/// If it takes longer than [`TIME`].
#[track_caller]
pub fn wait_until_closed(port: u16) {
    wait_for("end of the listener", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .is_err()
            .then_some(())
    });
}

/// A port that a process started later can listen on: below those that the system gives to connections, so that none
/// of them takes it in between, and never the same one twice.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 16_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A connection through a SOCKS proxy on this port.
///
/// # Errors
/// What the proxy says, or nothing when it only goes away.
///
/// # Panics
/// If there is no proxy.
#[track_caller]
pub fn socks(
    port: u16,
    version: SocksVersion,
    host: &str,
    target: u16,
) -> Result<TcpStream, Option<SocksReply>> {
    let mut stream = connect(port);
    let mut socks = SocksClient::new(version, host, target)
        .unwrap_or_else(|error| panic!("no question for {host}: {error}"));
    let asked = stream
        .set_read_timeout(Some(TIME))
        .and_then(|()| stream.write_all(socks.output()));
    assert!(asked.is_ok(), "{asked:?}");
    loop {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_err() {
            return Err(None);
        }
        socks.handle_bytes(&byte);
        match socks.poll_event() {
            Some(SocksReply::Connected) => return Ok(stream),
            Some(other) => return Err(Some(other)),
            None => {}
        }
    }
}

/// All versions of SOCKS, by name and by address; and a target that nobody listens on.
///
/// # Panics
/// If one of them does not work, or the last one does.
#[track_caller]
pub fn exchange_dynamic(port: u16, target: u16) {
    for version in [SocksVersion::V4, SocksVersion::V5] {
        for host in ["127.0.0.1", "localhost"] {
            match socks(port, version, host, target) {
                Ok(stream) => exchange_tcp(&stream),
                Err(reply) => panic!("{version:?} to {host}: {reply:?}"),
            }
        }
        assert!(socks(port, version, "127.0.0.1", free_port()).is_err());
    }
}
