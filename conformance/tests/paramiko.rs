//! Paramiko 5.1, in both roles.

use std::time::Duration;

use conformance::ours::{Accounts, OurServer, connect, public_key, stream};
use conformance::peers::{
    KeyKind, KeyPair, Python, PythonServer, PythonSession, ServerPeer, Sshd, Version,
};
use conformance::tcp::{
    self, ANY, echo_target, ends_at_once, exchange_dynamic, exchange_tcp, free_port, mirror_target,
    wait_until_closed,
};
use ssh_blocking::ssh_proto::OpenFailureReason;
use ssh_blocking::{Client, Error, ForwardPolicy};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(60);

/// What goes through a forwarded connection, each way.
const LEN: usize = 8 << 20;

/// What goes through each one of many.
const LITTLE: usize = 100_000;

fn key(folder: &TempDir, kind: KeyKind) -> KeyPair {
    let path = folder.path().join(kind.name());
    KeyPair::generate(Version::V10_0, kind, &path, "")
}

/// Our client, logged in on a server of Paramiko that lets in everybody.
fn our_client() -> (Client, PythonServer) {
    let folder = tempfile::tempdir().unwrap();
    let server = Python::paramiko().serve(&[&key(&folder, KeyKind::Ed25519)], &[]);
    let client = connect(&server, |_| {});
    let outcome = client.auth_none(Sshd::USER).unwrap();
    assert!(outcome.success(), "{outcome:?}\n{}", server.log());
    (client, server)
}

/// A client of Paramiko, logged in on our server.
fn their_client(forwards: ForwardPolicy) -> (PythonSession, OurServer) {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder, KeyKind::Ed25519);
    let accounts = Accounts {
        keys: vec![public_key(&key)],
        forwards,
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let mut session = Python::paramiko().session();
    let port = server.address().port().to_string();
    let host_key = server.host_key().to_openssh("");
    session.ask("connect", &[("port", &port), ("pinned", host_key.trim())]);
    let path = key.path.display().to_string();
    session.ask("auth_public_key", &[("user", Sshd::USER), ("key", &path)]);
    (session, server)
}

fn forwarding() -> ForwardPolicy {
    ForwardPolicy::new().listen_on_loopback().connect(|_| true)
}

// Our client, Paramiko's server.

#[test]
fn our_client_forwards_local_ports() {
    let (client, _server) = our_client();
    let (mirror, echo) = (mirror_target(), echo_target());
    // All at once, and one after the other: the mirror begins only after EOF.
    for target in [mirror, echo] {
        let forward = client.forward_local(ANY, target).unwrap();
        exchange_tcp(&tcp::connect(forward.port().unwrap()), LEN);
    }
    let dynamic = client.forward_dynamic(ANY).unwrap();
    exchange_dynamic(dynamic.port().unwrap(), mirror.port(), LITTLE);
}

#[test]
fn a_target_that_refuses_is_an_error_and_the_client_goes_on() {
    let (client, _server) = our_client();
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
    assert_eq!(client.exec("echo on").output().unwrap().stdout, b"on\n");
}

#[test]
fn our_client_forwards_ports_of_the_server_until_it_cancels_them() {
    let (client, _server) = our_client();
    let (mirror, echo) = (mirror_target(), echo_target());
    for target in [mirror, echo] {
        let port = free_port();
        let forward = client.forward_remote(("localhost", port), target).unwrap();
        exchange_tcp(&tcp::connect(port), LEN);
        let again = client.forward_remote(("localhost", port), target);
        assert!(matches!(again, Err(Error::Refused(_))));
        forward.stop();
        wait_until_closed(port);
    }
    // The server chooses the port.
    let chosen = client.forward_remote(("", 0), mirror).unwrap();
    let port = chosen.port().unwrap();
    assert_ne!(port, 0);
    exchange_tcp(&tcp::connect(port), LITTLE);
    chosen.stop();
    wait_until_closed(port);
    let nobody = client
        .forward_remote(("localhost", 0), ("127.0.0.1", free_port()))
        .unwrap();
    assert!(ends_at_once(&tcp::connect(nobody.port().unwrap())));
    let dynamic = client.forward_remote_dynamic(("localhost", 0)).unwrap();
    exchange_dynamic(dynamic.port().unwrap(), mirror.port(), LITTLE);
    // One that the server does not have.
    let elsewhere = client.forward_remote(("192.0.2.1", 0), mirror);
    assert!(matches!(elsewhere, Err(Error::Refused(_))));
}

#[test]
fn our_client_runs_commands() {
    let (client, _server) = our_client();
    let data = stream(1 << 20);
    let output = client
        .exec("cat; echo said >&2; exit 7")
        .input(&*data)
        .timeout(TIME)
        .output()
        .unwrap();
    assert!(output.stdout == data, "{}", output.stdout.len());
    assert_eq!(output.stderr, b"said\n");
    assert_eq!(output.status.code(), Some(7));
}

// Paramiko's client, our server.

#[test]
fn our_server_connects_for_paramiko() {
    let (mut paramiko, _server) = their_client(forwarding());
    for target in [mirror_target(), echo_target()] {
        let (port, size) = (target.port().to_string(), LEN.to_string());
        let answer = paramiko.ask("direct", &[("port", &port), ("size", &size)]);
        assert_eq!(answer.text("len"), size);
        assert_eq!(answer.text("sent"), answer.text("received"));
    }
    let nobody = free_port().to_string();
    let answer = paramiko.ask("direct", &[("port", &nobody), ("size", "1")]);
    let reason = OpenFailureReason::CONNECT_FAILED;
    assert_eq!(answer.number("refused"), i64::from(reason.0));
    assert_eq!(
        paramiko
            .ask("exec", &[("command", "echo on")])
            .text("stdout"),
        "on\n"
    );
}

#[test]
fn our_server_listens_for_paramiko_until_it_is_cancelled() {
    let (mut paramiko, server) = their_client(forwarding());
    let (mirror, echo) = (mirror_target(), echo_target());
    let mut listen = |port: u16, target: u16| {
        let (port, target) = (port.to_string(), target.to_string());
        let fields = [("address", ""), ("port", &*port), ("target", &*target)];
        u16::try_from(paramiko.ask("listen", &fields).number("port")).unwrap()
    };
    let fixed = free_port();
    assert_eq!(listen(fixed, mirror.port()), fixed);
    exchange_tcp(&tcp::connect(fixed), LEN);
    let chosen = listen(0, echo.port());
    assert_ne!(chosen, 0);
    exchange_tcp(&tcp::connect(chosen), LEN);
    let port = fixed.to_string();
    paramiko.ask("cancel", &[("address", ""), ("port", &port)]);
    wait_until_closed(fixed);
    assert!(server.seen().lines().contains(&"cancelled".to_owned()));
    // The other one is still there until the client goes, although Paramiko, which has one handler for all, takes no more from it.
    assert!(ends_at_once(&tcp::connect(chosen)));
    drop(paramiko);
    wait_until_closed(chosen);
}

#[test]
fn our_server_forwards_nothing_unless_it_is_told_to() {
    let (mut paramiko, _server) = their_client(ForwardPolicy::new());
    let target = mirror_target().port().to_string();
    let answer = paramiko.ask("direct", &[("port", &target), ("size", "1")]);
    let reason = OpenFailureReason::ADMINISTRATIVELY_PROHIBITED;
    assert_eq!(answer.number("refused"), i64::from(reason.0));
    let fields = [("address", ""), ("port", "0"), ("target", &*target)];
    let refused = paramiko.try_ask("listen", &fields).unwrap_err();
    assert!(refused.contains("denied"), "{refused}");
    assert_eq!(
        paramiko
            .ask("exec", &[("command", "echo on")])
            .text("stdout"),
        "on\n"
    );
}
