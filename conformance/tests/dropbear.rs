//! Dropbear 2022.83, in both roles.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::ours::{Accounts, OurServer, log_in, read_public_key};
use conformance::peers::{
    Dbclient, Dropbear, DropbearKey, DropbearOptions, KeyKind, KeyPair, Version,
};
use conformance::tcp::{
    ANY, connect, echo_target, ends_at_once, exchange_dynamic, exchange_tcp, free_port,
    mirror_target, socks, wait_until_closed,
};
use ssh_blocking::ssh_proto::OpenFailureReason;
use ssh_blocking::ssh_proto::socks::SocksVersion;
use ssh_blocking::{Client, Error, ForwardPolicy};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(60);

/// What goes through a forwarded connection, each way.
const LEN: usize = 8 << 20;

/// What goes through each one of many.
const LITTLE: usize = 100_000;

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

/// Our client, logged in on a server that was started with these arguments.
fn our_client(arguments: &[&str]) -> (Client, Dropbear) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id");
    let key = KeyPair::generate(Version::V10_0, KeyKind::Ed25519, &path, "");
    let server = Dropbear::start(&DropbearOptions {
        arguments: arguments.iter().map(|&argument| argument.into()).collect(),
        authorized_keys: vec![key.public.clone()],
        ..DropbearOptions::default()
    });
    (log_in(&server, &key, |_| {}), server)
}

/// Our server, and a key that it lets in.
struct Ours {
    server: OurServer,
    key: DropbearKey,
    _folder: TempDir,
}

impl Ours {
    fn start(forwards: ForwardPolicy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = DropbearKey::generate(KeyKind::Ed25519, &folder.path().join("id"));
        let accounts = Accounts {
            keys: vec![read_public_key(&key.public)],
            forwards,
            ..Accounts::default()
        };
        Self {
            server: OurServer::start(accounts, |_| {}),
            key,
            _folder: folder,
        }
    }

    fn forwarding() -> Self {
        Self::start(ForwardPolicy::new().listen_on_loopback().connect(|_| true))
    }

    fn dbclient(&self) -> Dbclient {
        let host_key = self.server.host_key().to_openssh("");
        Dbclient::new(self.server.address(), &host_key).identity(&self.key)
    }

    /// A client that forwards and does nothing else.
    fn forwarder(&self, flags: &[String]) -> Dbclient {
        let client = self.dbclient().flag("-N");
        flags.iter().fold(client, |client, flag| client.flag(flag))
    }
}

// Our client, Dropbear's server.

#[test]
fn our_client_forwards_local_ports() {
    let (client, _server) = our_client(&[]);
    let (mirror, echo) = (mirror_target(), echo_target());
    // All at once, and one after the other: the mirror begins only after EOF.
    for target in [mirror, echo] {
        let forward = client.forward_local(ANY, target).unwrap();
        exchange_tcp(&connect(forward.port().unwrap()), LEN);
    }
    let dynamic = client.forward_dynamic(ANY).unwrap();
    exchange_dynamic(dynamic.port().unwrap(), mirror.port(), LITTLE);
}

#[test]
fn a_target_that_refuses_is_an_error_and_the_client_goes_on() {
    let (client, _server) = our_client(&[]);
    let refused = client.direct_tcpip("127.0.0.1", free_port()).map(drop);
    assert!(
        matches!(
            refused,
            Err(Error::OpenFailed {
                reason: OpenFailureReason::CONNECT_FAILED,
                ..
            })
        ),
        "{refused:?}"
    );
    let forward = client
        .forward_local(ANY, ("127.0.0.1", free_port()))
        .unwrap();
    assert!(ends_at_once(&connect(forward.port().unwrap())));
    assert_eq!(client.exec("echo on").output().unwrap().stdout, b"on\n");
}

#[test]
fn our_client_forwards_ports_of_the_server() {
    let (client, _server) = our_client(&[]);
    let (mirror, echo) = (mirror_target(), echo_target());
    for target in [mirror, echo] {
        let port = free_port();
        let forward = client.forward_remote(("localhost", port), target).unwrap();
        exchange_tcp(&connect(port), LEN);
        let again = client.forward_remote(("localhost", port), target);
        assert!(matches!(again, Err(Error::Refused(_))));
        // Dropbear 2022.83 refuses to cancel what it listens for, and goes on: the client takes none of it any more.
        forward.stop();
        assert!(ends_at_once(&connect(port)));
    }
    // The server chooses the port.
    let chosen = client.forward_remote(("localhost", 0), mirror).unwrap();
    let port = chosen.port().unwrap();
    assert_ne!(port, 0);
    exchange_tcp(&connect(port), LITTLE);
    let nobody = client
        .forward_remote(("localhost", 0), ("127.0.0.1", free_port()))
        .unwrap();
    assert!(ends_at_once(&connect(nobody.port().unwrap())));
    let dynamic = client.forward_remote_dynamic(("localhost", 0)).unwrap();
    exchange_dynamic(dynamic.port().unwrap(), mirror.port(), LITTLE);
}

#[test]
fn what_dropbear_forbids_is_an_error_and_the_client_goes_on() {
    let (client, _server) = our_client(&["-j", "-k"]);
    let target = mirror_target();
    assert!(matches!(
        client.forward_remote(("localhost", 0), target),
        Err(Error::Refused(_))
    ));
    assert!(matches!(
        client.direct_tcpip("127.0.0.1", target.port()).map(drop),
        Err(Error::OpenFailed { .. })
    ));
    let dynamic = client.forward_dynamic(ANY).unwrap();
    let port = dynamic.port().unwrap();
    assert!(socks(port, SocksVersion::V5, "127.0.0.1", target.port()).is_err());
    assert_eq!(client.exec("echo on").output().unwrap().stdout, b"on\n");
}

// Dropbear's client, our server.

#[test]
fn our_server_connects_and_listens_for_dbclient() {
    let ours = Ours::forwarding();
    let (mirror, echo) = (mirror_target(), echo_target());
    let ports: [u16; 5] = std::array::from_fn(|_| free_port());
    let to = |kind: &str, port: u16, target: u16| format!("-{kind}{port}:127.0.0.1:{target}");
    let client = ours.forwarder(&[
        to("L", ports[0], mirror.port()),
        to("L", ports[1], echo.port()),
        to("R", ports[2], mirror.port()),
        to("R", ports[3], echo.port()),
        to("R", ports[4], free_port()),
    ]);
    let running = Running::start(client.command(""));
    for port in &ports[..4] {
        exchange_tcp(&connect(*port), LEN);
    }
    assert!(ends_at_once(&connect(ports[4])));
    // Whoever goes takes the listeners along.
    drop(running);
    for port in ports {
        wait_until_closed(port);
    }
}

#[test]
fn our_server_connects_the_streams_of_dbclient() {
    let ours = Ours::forwarding();
    let data = conformance::ours::stream(LEN);
    let target = mirror_target().to_string();
    let finished = ours
        .dbclient()
        .flag("-B")
        .flag(&target)
        .run("", &*data, TIME)
        .expect_code(0);
    assert!(finished.stdout == data, "{}", finished.stdout.len());
    let nobody = format!("127.0.0.1:{}", free_port());
    let finished = ours.dbclient().flag("-B").flag(&nobody).run("", "", TIME);
    assert_eq!(finished.stdout_text(), "");
    assert!(!finished.timed_out);
}

#[test]
fn our_server_forwards_nothing_unless_it_is_told_to() {
    let ours = Ours::start(ForwardPolicy::new());
    let target = mirror_target();
    let spec = format!("-R{}:127.0.0.1:{}", free_port(), target.port());
    let finished = ours
        .forwarder(&["-o".into(), "ExitOnForwardFailure=yes".into(), spec])
        .run("", "", TIME)
        .expect_code(1);
    let said = finished.stderr_text();
    assert!(said.contains("Remote TCP forward request failed"), "{said}");
    let local = free_port();
    let client = ours.forwarder(&[format!("-L{local}:127.0.0.1:{}", target.port())]);
    let _running = Running::start(client.command(""));
    assert!(ends_at_once(&connect(local)));
}
