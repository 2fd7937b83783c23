//! Forwarding of every kind between this library and OpenSSH, in both roles. What goes through is a few hundred KiB each
//! way; the answer begins only after EOF, so each connection shows that half-close is passed on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::ours::{SshExample, SshdExample, log_in, stream};
use conformance::peers::{KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version, all};
use ssh_blocking::ssh_proto::OpenFailureReason;
use ssh_blocking::ssh_proto::socks::{SocksClient, SocksReply, SocksVersion};
use ssh_blocking::{Client, Error, Forward};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(30);
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A key, and room for sockets.
struct Place {
    key: KeyPair,
    folder: TempDir,
}

impl Place {
    fn new(version: Version) -> Self {
        // A path of a socket must be short.
        let folder = tempfile::Builder::new().prefix("fw").tempdir().unwrap();
        let key = KeyPair::generate(version, KeyKind::Ed25519, &folder.path().join("id"), "");
        Self { key, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sshd(&self, version: Version, config: &[&str]) -> Sshd {
        let options = SshdOptions {
            config: config.iter().map(|&line| line.to_owned()).collect(),
            authorized_keys: vec![self.key.public.clone()],
            ..SshdOptions::default()
        };
        Sshd::start(version, &options)
    }

    fn our_sshd(&self, arguments: &[&str]) -> SshdExample {
        SshdExample::start(&[KeyKind::Ed25519], &[&self.key], arguments)
    }

    /// OpenSSH's client for it, forwarding and nothing else.
    fn client(&self, server: &SshdExample, version: Version, flags: &[&str]) -> Ssh {
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
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.unwrap())
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

fn tcp_target() -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            mirror(stream.unwrap(), |stream| {
                _ = stream.shutdown(Shutdown::Write)
            });
        }
    });
    address
}

fn unix_target(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            mirror(stream.unwrap(), |stream| {
                _ = stream.shutdown(Shutdown::Write)
            });
        }
    });
}

#[track_caller]
fn exchange(mut stream: impl Read + Write, end: impl FnOnce()) {
    let sent = stream_of_bytes();
    stream.write_all(&sent).unwrap();
    end();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
}

fn stream_of_bytes() -> Vec<u8> {
    stream(300_000)
}

#[track_caller]
fn exchange_tcp(stream: &TcpStream) {
    stream.set_read_timeout(Some(TIME)).unwrap();
    exchange(stream, || stream.shutdown(Shutdown::Write).unwrap());
}

#[track_caller]
fn exchange_unix(path: &Path) {
    let stream = wait_for("a socket", || UnixStream::connect(path).ok());
    stream.set_read_timeout(Some(TIME)).unwrap();
    exchange(&stream, || stream.shutdown(Shutdown::Write).unwrap());
}

#[track_caller]
fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
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
#[track_caller]
fn connect(port: u16) -> TcpStream {
    wait_for("listener", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    })
}

#[track_caller]
fn exchange_at(forward: &Forward) {
    exchange_tcp(&connect(forward.port().unwrap()));
}

#[track_caller]
fn wait_until_closed(port: u16) {
    wait_for("end of the listener", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .is_err()
            .then_some(())
    });
}

/// A port that a process started later can listen on: below those that the system gives to connections, so that none
/// of them takes it in between, and never the same one twice.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 16_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

#[track_caller]
fn socks(
    port: u16,
    version: SocksVersion,
    host: &str,
    target: u16,
) -> Result<TcpStream, Option<SocksReply>> {
    let mut stream = connect(port);
    stream.set_read_timeout(Some(TIME)).unwrap();
    let mut socks = SocksClient::new(version, host, target).unwrap();
    stream.write_all(socks.output()).unwrap();
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
#[track_caller]
fn exchange_dynamic(port: u16, target: u16) {
    for version in [SocksVersion::V4, SocksVersion::V5] {
        for host in ["127.0.0.1", "localhost"] {
            exchange_tcp(&socks(port, version, host, target).unwrap());
        }
        assert!(socks(port, version, "127.0.0.1", free_port()).is_err());
    }
}

// Our client, OpenSSH's server.

#[test]
fn our_client_forwards_local_ports_and_sockets() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let client: Client = log_in(&sshd, &place.key, |_| {});
        let target = tcp_target();
        let unix = place.path("target");
        unix_target(&unix);
        exchange_at(&client.forward_local(ANY, target).unwrap());
        exchange_at(&client.forward_local(ANY, unix.as_path()).unwrap());
        let listening = place.path("listening");
        let forward = client.forward_local_path(&listening, target).unwrap();
        exchange_unix(&listening);
        forward.stop();
        assert!(!listening.exists());
        let _forward = client
            .forward_local_path(&listening, unix.as_path())
            .unwrap();
        exchange_unix(&listening);
        let dynamic = client.forward_dynamic(ANY).unwrap();
        exchange_dynamic(dynamic.port().unwrap(), target.port());
        let refused = client.direct_streamlocal(place.path("nobody")).map(drop);
        assert!(matches!(
            refused,
            Err(Error::OpenFailed {
                reason: OpenFailureReason::CONNECT_FAILED,
                ..
            })
        ));
    }
}

#[test]
fn our_client_forwards_ports_and_sockets_of_the_server() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let client = log_in(&sshd, &place.key, |_| {});
        let target = tcp_target();
        let unix = place.path("target");
        unix_target(&unix);

        let port = free_port();
        let fixed = client.forward_remote(("localhost", port), target).unwrap();
        assert_eq!(fixed.port(), Some(port));
        exchange_at(&fixed);
        let again = client.forward_remote(("localhost", port), target);
        assert!(matches!(again, Err(Error::Refused(_))));
        fixed.stop();
        wait_until_closed(port);

        for bind in ["localhost", "", "127.0.0.1"] {
            let chosen = client.forward_remote((bind, 0), target).unwrap();
            let port = chosen.port().unwrap();
            assert_ne!(port, 0);
            exchange_at(&chosen);
            chosen.stop();
            wait_until_closed(port);
        }
        exchange_at(
            &client
                .forward_remote(("localhost", 0), unix.as_path())
                .unwrap(),
        );
        let listening = place.path("listening");
        let forward = client.forward_remote_path(&listening, target).unwrap();
        exchange_unix(&listening);
        forward.stop();
        wait_for("end of the listener", || {
            UnixStream::connect(&listening).is_err().then_some(())
        });
        let dynamic = client.forward_remote_dynamic(("localhost", 0)).unwrap();
        exchange_dynamic(dynamic.port().unwrap(), target.port());
    }
}

#[test]
fn what_the_server_forbids_is_an_error_and_the_client_goes_on() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(
            version,
            &["AllowTcpForwarding no", "AllowStreamLocalForwarding no"],
        );
        let client = log_in(&sshd, &place.key, |_| {});
        let target = tcp_target();
        let refused = |result: Result<Forward, Error>| matches!(result, Err(Error::Refused(_)));
        assert!(refused(client.forward_remote(("localhost", 0), target)));
        assert!(refused(
            client.forward_remote_path(place.path("listening"), target)
        ));
        let dynamic = client.forward_dynamic(ANY).unwrap();
        let port = dynamic.port().unwrap();
        assert!(socks(port, SocksVersion::V5, "127.0.0.1", target.port()).is_err());
        client.no_more_sessions().unwrap();
        assert!(client.exec("true").status().is_err());
        assert!(client.is_alive());
    }
}

#[test]
fn our_example_takes_the_flags_of_openssh() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let target = tcp_target();
        let unix = place.path("target");
        unix_target(&unix);
        let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
        let to = format!("127.0.0.1:{}", target.port());
        let listening = place.path("listening");
        let flags = [
            "-N".to_owned(),
            format!("-L{}:{to}", ports[0]),
            format!("-L[127.0.0.1]:{}:{}", ports[1], unix.display()),
            format!("-L{}:{to}", listening.display()),
            format!("-R{}:{to}", ports[2]),
            format!("-Rlocalhost:{}", ports[3]),
            format!("-D127.0.0.1:{}", ports[4]),
        ];
        let ssh = SshExample::for_sshd(&sshd)
            .identity(&place.key)
            .option("ExitOnForwardFailure", "yes");
        let ssh = flags.iter().fold(ssh, |ssh, flag| ssh.flag(flag));
        let running = Running::start(ssh.command(""));
        for port in &ports[..3] {
            exchange_tcp(&connect(*port));
        }
        exchange_unix(&listening);
        for port in &ports[3..] {
            exchange_dynamic(*port, target.port());
        }
        drop(running);
        for port in ports {
            wait_until_closed(port);
        }
    }
}

// OpenSSH's client, our server.

#[test]
fn our_server_serves_local_forwards_of_openssh() {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(&["--allow-forwarding"]);
        let target = tcp_target();
        let unix = place.path("target");
        unix_target(&unix);
        let [tcp, to_path, dynamic] = [free_port(), free_port(), free_port()];
        let (first, second) = (place.path("a"), place.path("b"));
        let to = format!("127.0.0.1:{}", target.port());
        let flags = [
            format!("-L{tcp}:{to}"),
            format!("-L{to_path}:{}", unix.display()),
            format!("-L{}:{to}", first.display()),
            format!("-L{}:{}", second.display(), unix.display()),
            format!("-D{dynamic}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let ssh = place.client(&server, version, &flags);
        let _running = Running::start(ssh.command(""));
        for port in [tcp, to_path] {
            exchange_tcp(&connect(port));
        }
        exchange_unix(&first);
        exchange_unix(&second);
        exchange_dynamic(dynamic, target.port());
    }
}

#[test]
fn our_server_listens_for_openssh() {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(&["--allow-forwarding"]);
        let target = tcp_target();
        let unix = place.path("target");
        unix_target(&unix);
        let [tcp, to_path, all, dynamic] = [free_port(), free_port(), free_port(), free_port()];
        let (first, second) = (place.path("a"), place.path("b"));
        let to = format!("127.0.0.1:{}", target.port());
        let flags = [
            format!("-R{tcp}:{to}"),
            format!("-R{to_path}:{}", unix.display()),
            format!("-R*:{all}:{to}"),
            format!("-R{}:{to}", first.display()),
            format!("-R{}:{}", second.display(), unix.display()),
            format!("-R{dynamic}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let ssh = place.client(&server, version, &flags);
        let running = Running::start(ssh.command(""));
        for port in [tcp, to_path, all] {
            exchange_tcp(&connect(port));
        }
        exchange_unix(&first);
        exchange_unix(&second);
        exchange_dynamic(dynamic, target.port());
        // Whoever goes takes the listeners along.
        drop(running);
        for port in [tcp, to_path, all, dynamic] {
            wait_until_closed(port);
        }
        wait_for("end of the sockets", || {
            (!first.exists() && !second.exists()).then_some(())
        });
    }
}

#[test]
fn our_server_tells_the_port_that_it_chose_and_listens_until_it_is_cancelled() {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(&["--allow-forwarding"]);
        let target = tcp_target();
        let to = format!("127.0.0.1:{}", target.port());
        let zero = format!("-R0:{to}");
        let control = place.path("control");
        let control = control.to_str().unwrap();
        let ssh = place
            .client(&server, version, &["-M", "-S", control, &zero])
            .option("LogLevel", "INFO");
        // The first one of an option counts, and this is not it: it is on the command line.
        let mut command = ssh.command("");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let _running = Running(child);
        let port: u16 = BufReader::new(stderr)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.strip_prefix("Allocated port ")?;
                port.split(' ').next()?.parse().ok()
            })
            .expect("no port was allocated");
        exchange_tcp(&connect(port));

        let fixed = free_port();
        let spec = format!("-R{fixed}:{to}");
        let ask = |what: &str, spec: &str| {
            server
                .client(version)
                .flag("-S")
                .flag(control)
                .flag("-O")
                .flag(what)
                .flag(spec)
                .run("", "", TIME)
                .expect_code(0)
        };
        _ = ask("forward", &spec);
        exchange_tcp(&connect(fixed));
        _ = ask("cancel", &spec);
        wait_until_closed(fixed);
        // The other one is still there.
        exchange_tcp(&connect(port));
    }
}

#[test]
fn our_server_forwards_nothing_unless_it_is_told_to() {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(&[]);
        let target = tcp_target();
        let to = format!("127.0.0.1:{}", target.port());
        let spec = format!("-R{}:{to}", free_port());
        let finished = place
            .client(&server, version, &[&spec])
            .run("", "", TIME)
            .expect_code(255);
        assert!(
            finished.stderr_text().contains("forwarding failed"),
            "{}",
            finished.stderr_text()
        );
        let local = free_port();
        let spec = format!("-L{local}:{to}");
        let ssh = place.client(&server, version, &[&spec]);
        let _running = Running::start(ssh.command(""));
        let mut stream = connect(local);
        stream.set_read_timeout(Some(TIME)).unwrap();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
}
