//! Forwarding of every kind between this library and OpenSSH, in both roles. What goes through is a few hundred KiB each
//! way; the answer begins only after EOF, so each connection shows that half-close is passed on.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::ours::{SshExample, SshdExample, log_in};
use conformance::peers::{KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version, all};
use conformance::tcp::{
    ANY, connect, ends_at_once, exchange_dynamic, exchange_tcp, exchange_unix, free_port,
    mirror_target, socks, unix_mirror_target, wait_for, wait_until_closed,
};
use ssh_blocking::ssh_proto::OpenFailureReason;
use ssh_blocking::ssh_proto::socks::SocksVersion;
use ssh_blocking::{Client, Error, Forward};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(30);
/// What goes through each connection, each way.
const LEN: usize = 300_000;

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

#[track_caller]
fn exchange_at(forward: &Forward) {
    exchange_tcp(&connect(forward.port().unwrap()), LEN);
}

// Our client, OpenSSH's server.

#[test]
fn our_client_forwards_local_ports_and_sockets() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let client: Client = log_in(&sshd, &place.key, |_| {});
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
        exchange_at(&client.forward_local(ANY, target).unwrap());
        exchange_at(&client.forward_local(ANY, unix.as_path()).unwrap());
        let listening = place.path("listening");
        let forward = client.forward_local_path(&listening, target).unwrap();
        exchange_unix(&listening, LEN);
        forward.stop();
        assert!(!listening.exists());
        let _forward = client
            .forward_local_path(&listening, unix.as_path())
            .unwrap();
        exchange_unix(&listening, LEN);
        let dynamic = client.forward_dynamic(ANY).unwrap();
        exchange_dynamic(dynamic.port().unwrap(), target.port(), LEN);
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
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);

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
        exchange_unix(&listening, LEN);
        forward.stop();
        wait_for("end of the listener", || {
            UnixStream::connect(&listening).is_err().then_some(())
        });
        let dynamic = client.forward_remote_dynamic(("localhost", 0)).unwrap();
        exchange_dynamic(dynamic.port().unwrap(), target.port(), LEN);
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
        let target = mirror_target();
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
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
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
            exchange_tcp(&connect(*port), LEN);
        }
        exchange_unix(&listening, LEN);
        for port in &ports[3..] {
            exchange_dynamic(*port, target.port(), LEN);
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
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
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
            exchange_tcp(&connect(port), LEN);
        }
        exchange_unix(&first, LEN);
        exchange_unix(&second, LEN);
        exchange_dynamic(dynamic, target.port(), LEN);
    }
}

#[test]
fn our_server_listens_for_openssh() {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(&["--allow-forwarding"]);
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
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
            exchange_tcp(&connect(port), LEN);
        }
        exchange_unix(&first, LEN);
        exchange_unix(&second, LEN);
        exchange_dynamic(dynamic, target.port(), LEN);
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
        let target = mirror_target();
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
        exchange_tcp(&connect(port), LEN);

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
        exchange_tcp(&connect(fixed), LEN);
        _ = ask("cancel", &spec);
        wait_until_closed(fixed);
        // The other one is still there.
        exchange_tcp(&connect(port), LEN);
    }
}

#[test]
fn our_server_forwards_nothing_unless_it_is_told_to() {
    for version in all() {
        let place = Place::new(version);
        let server = place.our_sshd(&[]);
        let target = mirror_target();
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
        assert!(ends_at_once(&connect(local)));
    }
}
