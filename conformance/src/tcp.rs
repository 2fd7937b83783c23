//! Both ends of a forwarded connection, on loopback: targets that send back what they get, and whoever connects to them.
//!
//! These are tools for tests: they panic instead of returning errors.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ssh_blocking::ssh_proto::socks::{SocksClient, SocksReply, SocksVersion};

use crate::ours::stream as stream_of_bytes;

/// How long anything may take that is waited for here.
const TIME: Duration = Duration::from_secs(30);

/// A free port of loopback, to listen on.
pub const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// What is common to the streams of this module.
trait HalfClose {
    /// No more will be sent.
    fn end(&self);
}

impl HalfClose for TcpStream {
    fn end(&self) {
        // It fails when the other side has gone already.
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl HalfClose for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// Sends back what it got, once it has got all of it.
fn mirror<S: HalfClose>(stream: &S)
where
    for<'a> &'a S: Read + Write,
{
    let (mut reader, mut all) = (stream, Vec::new());
    if reader.read_to_end(&mut all).is_ok() {
        // It fails when the other side does not want it.
        let _ = (&*stream).write_all(&all);
        stream.end();
    }
}

/// Sends back what it gets, as it comes.
fn echo(stream: &TcpStream) {
    let (mut reader, mut writer) = (stream, stream);
    if std::io::copy(&mut reader, &mut writer).is_ok() {
        stream.end();
    }
}

fn serve(serve: impl Fn(&TcpStream) + Send + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap_or_else(|error| panic!("cannot listen: {error}"));
    let address = listener
        .local_addr()
        .unwrap_or_else(|error| panic!("no address: {error}"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream));
        }
    });
    address
}

/// A listener whose connections are sent back what came on them, once all of it has come: only after EOF.
#[must_use]
pub fn mirror_target() -> SocketAddr {
    serve(mirror)
}

/// A listener whose connections are sent back what comes on them, as it comes.
#[must_use]
pub fn echo_target() -> SocketAddr {
    serve(echo)
}

/// The same as [`mirror_target`] on the Unix socket `path`.
///
/// # Panics
/// If it cannot listen there.
pub fn unix_mirror_target(path: &Path) {
    let listener = UnixListener::bind(path)
        .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", path.display()));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || mirror(&stream));
        }
    });
}

/// Sends `len` bytes and EOF while it reads to the end, and expects what it sent.
#[track_caller]
fn exchange<S: HalfClose + Sync>(stream: &S, len: usize)
where
    for<'a> &'a S: Read + Write,
{
    let sent = stream_of_bytes(len);
    let mut back = Vec::new();
    let read = thread::scope(|scope| {
        scope.spawn(|| {
            // What is missing shows in what comes back.
            let _ = (&*stream).write_all(&sent);
            stream.end();
        });
        (&*stream).read_to_end(&mut back)
    });
    assert!(
        read.is_ok() && back == sent,
        "{} of {} bytes, {read:?}",
        back.len(),
        sent.len()
    );
}

/// Sends `len` bytes and EOF while it reads to the end, and expects what it sent.
///
/// # Panics
/// If something else comes back, or nothing for too long.
#[track_caller]
pub fn exchange_tcp(stream: &TcpStream, len: usize) {
    set_timeout(stream);
    exchange(stream, len);
}

/// The same on a Unix socket that somebody is about to listen on.
///
/// # Panics
/// If something else comes back, or nothing for too long.
#[track_caller]
pub fn exchange_unix(path: &Path, len: usize) {
    let stream = wait_for("socket", || UnixStream::connect(path).ok());
    stream
        .set_read_timeout(Some(TIME))
        .unwrap_or_else(|error| panic!("no timeout: {error}"));
    exchange(&stream, len);
}

fn set_timeout(stream: &TcpStream) {
    stream
        .set_read_timeout(Some(TIME))
        .unwrap_or_else(|error| panic!("no timeout: {error}"));
}

/// Calls `ready` until it gives something.
///
/// # Panics
/// If that takes too long.
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
    let stream = wait_for("listener", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    set_timeout(&stream);
    stream
}

/// Waits until nobody listens on a port any more.
///
/// # Panics
/// If that takes too long.
#[track_caller]
pub fn wait_until_closed(port: u16) {
    wait_for("end of the listener", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .is_err()
            .then_some(())
    });
}

/// Whether a connection ends without a byte: somebody listens, but what is behind cannot be reached.
#[must_use]
pub fn ends_at_once(stream: &TcpStream) -> bool {
    let mut stream = stream;
    match stream.read(&mut [0]) {
        Ok(len) => len == 0,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
    }
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

/// A connection through the SOCKS server on `port` to `host` and `target`.
///
/// # Errors
/// What the server answered if it refuses; nothing if it went away.
///
/// # Panics
/// If nobody listens there.
#[track_caller]
pub fn socks(
    port: u16,
    version: SocksVersion,
    host: &str,
    target: u16,
) -> Result<TcpStream, Option<SocksReply>> {
    let mut stream = connect(port);
    let mut socks = SocksClient::new(version, host, target)
        .unwrap_or_else(|error| panic!("{host}:{target}: {error}"));
    if stream.write_all(socks.output()).is_err() {
        return Err(None);
    }
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
/// If one of them does not do what it should.
#[track_caller]
pub fn exchange_dynamic(port: u16, target: u16, len: usize) {
    exchange_by_socks(port, target, len);
    for version in [SocksVersion::V4, SocksVersion::V5] {
        assert!(socks(port, version, "127.0.0.1", free_port()).is_err());
    }
}

/// All versions of SOCKS, by name and by address.
///
/// # Panics
/// If one of them does not do what it should.
#[track_caller]
pub fn exchange_by_socks(port: u16, target: u16, len: usize) {
    for version in [SocksVersion::V4, SocksVersion::V5] {
        for host in ["127.0.0.1", "localhost"] {
            let stream = socks(port, version, host, target)
                .unwrap_or_else(|reply| panic!("{version:?} {host}: {reply:?}"));
            exchange_tcp(&stream, len);
        }
    }
}
