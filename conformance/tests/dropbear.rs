//! Dropbear 2022.83, in both roles.

use std::time::Duration;

use conformance::commands::{Killed, our_client_runs_commands};
use conformance::forwards::{self, Cancel, LEN, a_target_that_refuses_is_an_error};
use conformance::logins::{assert_in, assert_refused, rounds};
use conformance::ours::{
    Accounts, OurServer, connect as connect_client, log_in, private_key, read_public_key, stream,
};
use conformance::peers::{
    Dbclient, Dropbear, DropbearKey, DropbearOptions, Finished, KeyKind, KeyPair, Running,
    ServerPeer, Version,
};
use conformance::suites::{
    self, HostKeys, Missing, Offer, Suite, client_with_our_server, our_client_with_server, suites,
};
use conformance::tcp::{
    ANY, connect, echo_target, ends_at_once, exchange_tcp, free_port, mirror_target, socks,
    wait_until_closed,
};
use ssh_blocking::ssh_proto::AuthMethod;
use ssh_blocking::ssh_proto::names::Preference;
use ssh_blocking::ssh_proto::socks::SocksVersion;
use ssh_blocking::{Client, Error, ForwardPolicy};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(60);

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

// Forwarding: our client, Dropbear's server.

#[test]
fn our_client_forwards_local_ports() {
    let (client, _server) = our_client(&[]);
    forwards::our_client_forwards_local_ports(&client);
}

#[test]
fn a_target_that_refuses_is_an_error_and_the_client_goes_on() {
    let (client, _server) = our_client(&[]);
    a_target_that_refuses_is_an_error(&client);
    assert_in(&client);
}

#[test]
fn our_client_forwards_ports_of_the_server() {
    let (client, _server) = our_client(&[]);
    // What Dropbear 2022.83 listens for it does not cancel.
    forwards::our_client_forwards_ports_of_the_server(&client, Cancel::Refuses);
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
    assert_in(&client);
}

// Forwarding: Dropbear's client, our server.

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
    let data = stream(LEN);
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

// Algorithms.

/// What Dropbear does not have. Its server has the host keys that it is given; it has no `rsa-sha2-512`.
const MISSING: Missing<'_> = Missing {
    kex: &["mlkem768x25519-sha256"],
    host_keys: &["rsa-sha2-512"],
    ciphers: &[
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes192-ctr",
    ],
    macs: &[
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-512",
    ],
};

fn server(keys: &[&KeyPair], arguments: &[&str]) -> Dropbear {
    server_with(&[KeyKind::Ed25519], keys, arguments)
}

fn server_with(host_keys: &[KeyKind], keys: &[&KeyPair], arguments: &[&str]) -> Dropbear {
    Dropbear::start(&DropbearOptions {
        arguments: arguments.iter().map(|&argument| argument.into()).collect(),
        host_keys: host_keys.to_vec(),
        authorized_keys: keys.iter().map(|key| key.public.clone()).collect(),
    })
}

#[test]
fn our_client_agrees_with_dropbear_on_everything_that_both_have() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate(
        Version::V10_0,
        KeyKind::Ed25519,
        &folder.path().join("id"),
        "",
    );
    // It takes four host keys at most.
    let ([first @ .., last], mut offer) = (KeyKind::all(), Offer::default());
    let servers = [&first[..], &[last]].map(|kinds| {
        let server = server_with(kinds, &[&key], &[]);
        let of_this = Offer::of_server(server.address());
        offer.host_keys.extend(of_this.host_keys.iter().cloned());
        offer = Offer {
            host_keys: offer.host_keys.clone(),
            ..of_this
        };
        server
    });
    let suites = suites(&offer, MISSING);
    for server in &servers {
        let has = |suite: &Suite| {
            server
                .host_key_lines()
                .iter()
                .any(|line| line.starts_with(suite.host_key.key_type()))
        };
        let suites: Vec<_> = suites.iter().copied().filter(has).collect();
        our_client_with_server(
            server,
            &suites,
            |client| {
                let outcome = client.auth_public_key(Dropbear::USER, private_key(&key));
                assert!(outcome.unwrap().success());
            },
            |_, _| {},
        );
    }
}

#[test]
fn dbclient_agrees_with_our_server_on_everything_that_both_have() {
    let accounts = Accounts {
        open: true,
        ..Accounts::default()
    };
    let host_key = |server: &OurServer| server.host_key().to_openssh("");
    let offer = Offer::of_client(|address| {
        let any = OurServer::start(accounts.clone(), |_| {});
        _ = Dbclient::new(address, &host_key(&any)).run("true", "", TIME);
    });
    let data = stream(suites::LEN);
    let keys = HostKeys::generate();
    client_with_our_server(
        &accounts,
        &keys,
        &suites(&offer, MISSING),
        |suite, server| {
            let finished = Dbclient::new(server.address(), &host_key(server))
                .run("cat", &*data, TIME)
                .expect_code(0);
            assert!(finished.stdout == data, "{suite:?}");
        },
    );
}

// Commands.

#[test]
fn our_client_runs_commands_on_dropbear() {
    let (client, _server) = our_client(&[]);
    our_client_runs_commands(&client, Killed::Told);
}

#[test]
fn dbclient_runs_commands_on_our_server() {
    let ours = Ours::start(ForwardPolicy::new());
    let data = stream(1 << 20);
    let finished = ours
        .dbclient()
        .run("cat; echo said >&2; exit 7", &*data, TIME)
        .expect_code(7);
    assert!(finished.stdout == data, "{}", finished.stdout.len());
    assert_eq!(finished.stderr_text(), "said\n");
    for code in [0, 1, 127, 255] {
        let command = format!("exit {code}");
        _ = ours.dbclient().run(&command, "", TIME).expect_code(code);
    }
    let finished = ours.dbclient().run("wc -c", &*data, TIME).expect_code(0);
    assert_eq!(finished.stdout_text(), format!("{}\n", data.len()));
    // It passes over an exit-signal.
    _ = ours
        .dbclient()
        .run("kill -TERM $$", "", TIME)
        .expect_code(0);
}

// Authentication.

#[test]
fn every_kind_of_key_logs_our_client_in() {
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyKind::all()
        .map(|kind| KeyPair::generate(Version::V10_0, kind, &folder.path().join(kind.name()), ""));
    let [right @ .., wrong] = &keys.each_ref();
    let server = server(right, &[]);
    let client = connect_client(&server, |_| {});
    let refused = client.auth_public_key(Dropbear::USER, private_key(wrong));
    assert_refused(refused.unwrap(), &["publickey", "password"], false);
    drop(client);
    drop(server);
    let server = self::server(&keys.each_ref(), &[]);
    for key in &keys {
        // Of RSA's two it has one, and says so in `server-sig-algs`.
        assert_in(&log_in(&server, key, |_| {}));
    }
    let client = connect_client(&server, |config| {
        config.transport.algorithms.user_keys = Preference::parse("rsa-sha2-512").unwrap();
    });
    let methods = ["publickey", "password"];
    assert_refused(client.auth_none(Dropbear::USER).unwrap(), &methods, false);
    let refused = client.auth_public_key(Dropbear::USER, private_key(&keys[4]));
    assert_refused(refused.unwrap(), &methods, false);
    let password = client.auth_password(Dropbear::USER, Dropbear::PASSWORD);
    assert!(password.unwrap().success());
}

#[test]
fn a_password_lets_our_client_in_and_a_wrong_one_does_not() {
    let server = server(&[], &["-B"]);
    let client = connect_client(&server, |_| {});
    let methods = ["publickey", "password"];
    assert_refused(client.auth_none(Dropbear::USER).unwrap(), &methods, false);
    let wrong = client.auth_password(Dropbear::USER, "wrong").unwrap();
    assert_refused(wrong, &methods, false);
    let right = client.auth_password(Dropbear::USER, Dropbear::PASSWORD);
    assert!(right.unwrap().success(), "{}", server.log());
    assert_in(&client);
    // Who has no password needs none.
    let client = connect_client(&server, |_| {});
    assert!(client.auth_none(Dropbear::OPEN_USER).unwrap().success());
    assert_in(&client);
}

#[test]
fn two_factors_of_dropbear_are_passed_in_either_order() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate(
        Version::V10_0,
        KeyKind::Ed25519,
        &folder.path().join("id"),
        "",
    );
    let server = server(&[&key], &["-t"]);
    let with_key = |client: &Client| {
        client
            .auth_public_key(Dropbear::USER, private_key(&key))
            .unwrap()
    };
    let with_password = |client: &Client| {
        client
            .auth_password(Dropbear::USER, Dropbear::PASSWORD)
            .unwrap()
    };
    let client = connect_client(&server, |_| {});
    assert_refused(with_key(&client), &["password"], true);
    assert!(with_password(&client).success());
    assert_in(&client);
    let client = connect_client(&server, |_| {});
    assert_refused(with_password(&client), &["publickey"], true);
    assert!(with_key(&client).success());
    assert_in(&client);
}

/// `dbclient` without a terminal, so that its questions are answered by its standard input.
fn answering(server: &OurServer) -> Dbclient {
    Dbclient::new(server.address(), &server.host_key().to_openssh(""))
}

/// It was let in nowhere. Its status is 0 all the same when the server hangs up on it.
#[track_caller]
fn assert_not_in(finished: &Finished) {
    assert!(!finished.timed_out);
    assert_eq!(finished.stdout_text(), "");
    let said = finished.stderr_text();
    assert!(said.contains("exited: "), "{said}");
}

#[test]
fn dbclient_logs_in_with_every_kind_of_key() {
    let folder = tempfile::tempdir().unwrap();
    let keys =
        KeyKind::all().map(|kind| DropbearKey::generate(kind, &folder.path().join(kind.name())));
    let [right @ .., wrong] = &keys;
    let accounts = |keys: &[DropbearKey]| Accounts {
        keys: keys
            .iter()
            .map(|key| read_public_key(&key.public))
            .collect(),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts(&keys), |_| {});
    for key in &keys {
        let finished = answering(&server)
            .identity(key)
            .run("echo in", "", TIME)
            .expect_code(0);
        assert_eq!(finished.stdout_text(), "in\n");
        assert!(
            server
                .seen()
                .lines()
                .contains(&format!("proof {}", key.kind.name()))
        );
    }
    let server = OurServer::start(accounts(right), |_| {});
    let finished = answering(&server)
        .identity(wrong)
        .run_detached("echo in", "", TIME);
    assert_not_in(&finished);
}

#[test]
fn dbclient_logs_in_with_a_password_and_without_anything() {
    let accounts = Accounts {
        password: Some("with:colons and blanks".into()),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let finished = answering(&server)
        .password("with:colons and blanks")
        .run("echo in", "", TIME)
        .expect_code(0);
    assert_eq!(finished.stdout_text(), "in\n");
    let finished = answering(&server)
        .password("wrong")
        .run_detached("echo in", "", TIME);
    assert_not_in(&finished);
    let accounts = Accounts {
        open: true,
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    _ = answering(&server).run("true", "", TIME).expect_code(0);
}

#[test]
fn dbclient_answers_several_rounds_of_questions() {
    let accounts = Accounts {
        rounds: rounds(),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let finished = answering(&server)
        .run_detached("echo in", "blue\n42\nyes\n", TIME)
        .expect_code(0);
    assert_eq!(finished.stdout_text(), "in\n");
    let said = finished.stderr_text();
    for question in [
        "Two questions.",
        "Colour: ",
        "Code: ",
        "Nothing to ask.",
        "Sure? ",
    ] {
        assert!(said.contains(question), "no {question:?} in {said}");
    }
    let finished = answering(&server).run_detached("echo in", "blue\n41\n", TIME);
    assert_not_in(&finished);
}

#[test]
fn dbclient_passes_two_factors() {
    let folder = tempfile::tempdir().unwrap();
    let key = DropbearKey::generate(KeyKind::EcdsaP384, &folder.path().join("id"));
    let accounts = Accounts {
        keys: vec![read_public_key(&key.public)],
        password: Some("right".into()),
        factors: vec![AuthMethod::PublicKey, AuthMethod::Password],
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let finished = answering(&server)
        .identity(&key)
        .password("right")
        .run("echo in", "", TIME)
        .expect_code(0);
    assert_eq!(finished.stdout_text(), "in\n");
    let alone = answering(&server)
        .password("right")
        .run_detached("echo in", "", TIME);
    assert_not_in(&alone);
}
