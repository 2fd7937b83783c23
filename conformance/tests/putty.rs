//! PuTTY 0.78: its client `plink` with our server.

use std::fs;
use std::time::Duration;

use conformance::forwards::{LEN, LITTLE};
use conformance::logins::rounds;
use conformance::ours::{Accounts, OurServer, public_key, stream};
use conformance::peers::{Finished, KeyKind, KeyPair, Plink, PuttyKey, Running, Version};
use conformance::suites::{self, HostKeys, Missing, Offer, client_with_our_server, suites};
use conformance::tcp::{
    connect, echo_target, ends_at_once, exchange_by_socks, exchange_tcp, free_port, mirror_target,
    socks, wait_until_closed,
};
use ssh_blocking::ForwardPolicy;
use ssh_blocking::ssh_proto::AuthMethod;
use ssh_blocking::ssh_proto::names::Preference;
use ssh_blocking::ssh_proto::socks::SocksVersion;
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(60);
const PASSWORD: &str = "with:colons and blanks";

fn plink(server: &OurServer) -> Plink {
    Plink::new(server.address(), &server.host_key().fingerprint_sha256())
}

/// A server that lets in everybody.
fn open_server(forwards: ForwardPolicy) -> OurServer {
    let accounts = Accounts {
        open: true,
        forwards,
        ..Accounts::default()
    };
    OurServer::start(accounts, |_| {})
}

fn key(folder: &TempDir, kind: KeyKind) -> (KeyPair, PuttyKey) {
    let path = folder.path().join(kind.name());
    let key = KeyPair::generate(Version::V10_0, kind, &path, "");
    let putty = PuttyKey::convert(&key, &path.with_extension("ppk"));
    (key, putty)
}

#[track_caller]
fn assert_in(finished: Finished) {
    assert_eq!(finished.expect_code(0).stdout_text(), "in\n");
}

#[track_caller]
fn assert_not_in(finished: &Finished) {
    // Its status is 0 when there is nobody to ask again.
    assert!(!finished.timed_out);
    assert_eq!(finished.stdout_text(), "");
    let said = finished.stderr_text();
    let refused = ["Access denied", "refused our key", "Host key not in"];
    assert!(refused.iter().any(|text| said.contains(text)), "{said}");
}

#[test]
fn plink_agrees_with_our_server_on_everything_that_both_have() {
    let accounts = Accounts {
        open: true,
        ..Accounts::default()
    };
    let keys = HostKeys::generate();
    let offer = Offer::of_client(|address| {
        // It is hung up on.
        _ = Plink::new(
            address,
            "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        )
        .run("true", "", TIME);
    });
    let missing = Missing {
        kex: &["mlkem768x25519-sha256"],
        macs: &["hmac-sha2-512-etm@openssh.com", "hmac-sha2-512"],
        ..Missing::default()
    };
    let data = stream(suites::LEN);
    client_with_our_server(
        &accounts,
        &keys,
        &suites(&offer, missing),
        |suite, server| {
            let finished = plink(server).run("cat", &*data, TIME).expect_code(0);
            assert!(finished.stdout == data, "{suite:?}");
        },
    );
}

#[test]
fn plink_refuses_another_host_key() {
    let server = open_server(ForwardPolicy::new());
    let other = Plink::new(
        server.address(),
        "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    );
    assert_not_in(&other.flag("-batch").run("echo in", "", TIME));
}

#[test]
fn plink_runs_commands_on_our_server() {
    let server = open_server(ForwardPolicy::new());
    let run = |command: &str, input: &[u8]| plink(&server).run(command, input, TIME);
    let data = stream(1 << 20);
    let finished = run("cat; echo said >&2; exit 7", &data).expect_code(7);
    assert!(finished.stdout == data, "{}", finished.stdout.len());
    assert_eq!(finished.stderr_text(), "said\n");
    for code in [0, 1, 127, 255] {
        _ = run(&format!("exit {code}"), b"").expect_code(code);
    }
    let finished = run("wc -c", &data).expect_code(0);
    assert_eq!(finished.stdout_text(), format!("{}\n", data.len()));
    let flood = format!("head -c {LITTLE} /dev/zero & head -c {LITTLE} /dev/zero >&2; wait");
    let finished = plink(&server)
        .flag("-no-sanitise-stderr")
        .run(&flood, "", TIME)
        .expect_code(0);
    assert_eq!(finished.stdout.len(), LITTLE);
    assert_eq!(finished.stderr.len(), LITTLE);
    // 128 is for signals that it does not know, as which it takes all.
    let killed = plink(&server).flag("-v").run("kill -TERM $$", "", TIME);
    let said = killed.expect_code(128).stderr_text();
    assert!(
        said.contains("exited on unrecognised signal \"TERM\""),
        "{said}"
    );
}

#[test]
fn plink_exchanges_keys_anew_under_load() {
    let data = stream(4 << 20);
    for (ours, theirs) in [(1 << 30, "256K"), (200_000, "1G"), (200_000, "256K")] {
        let accounts = Accounts {
            open: true,
            ..Accounts::default()
        };
        let server = OurServer::start(accounts, |config| config.transport.rekey.bytes = ours);
        let finished = plink(&server)
            .setting("RekeyBytes", theirs)
            .run("cat", &*data, TIME)
            .expect_code(0);
        assert!(finished.stdout == data, "{}", finished.stdout.len());
        let rekeys = server.connections()[0].rekeys();
        assert!(rekeys > 3, "{rekeys} exchanges, {ours}, {theirs}");
    }
}

#[test]
fn plink_logs_in_with_every_kind_of_key_and_signature() {
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyKind::all().map(|kind| key(&folder, kind));
    for (pair, putty) in &keys {
        for name in pair.kind.algorithms() {
            let accounts = Accounts {
                keys: vec![public_key(pair)],
                ..Accounts::default()
            };
            let server = OurServer::start(accounts, |config| {
                config.transport.algorithms.user_keys = Preference::parse(name).unwrap();
            });
            assert_in(plink(&server).identity(putty).run("echo in", "", TIME));
            let wrong = keys.iter().find(|(other, _)| other.kind != pair.kind);
            let wrong = plink(&server).identity(&wrong.unwrap().1).flag("-batch");
            assert_not_in(&wrong.run("echo in", "", TIME));
        }
    }
}

#[test]
fn plink_logs_in_with_a_password_and_without_anything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let with = |server: &OurServer, password: &str| {
        fs::write(&file, password).unwrap();
        plink(server)
            .flag("-batch")
            .flag("-pwfile")
            .flag(file.to_str().unwrap())
            .run("echo in", "", TIME)
    };
    let accounts = Accounts {
        password: Some(PASSWORD.into()),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    assert_in(with(&server, PASSWORD));
    assert_not_in(&with(&server, "wrong"));
    // Typed, at the second try.
    let typed = [("password: ", "wrong"), ("password: ", PASSWORD)];
    assert_in(plink(&server).run_answering("echo in", &typed, TIME));
    let open = open_server(ForwardPolicy::new());
    assert_in(plink(&open).run("echo in", "", TIME));
}

#[test]
fn plink_changes_an_expired_password() {
    let accounts = Accounts {
        password: Some(PASSWORD.into()),
        new_password: Some("new".into()),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let typed = [
        ("password: ", PASSWORD),
        ("Current password", PASSWORD),
        ("Enter new password: ", "new"),
        ("Confirm new password: ", "new"),
    ];
    let finished = plink(&server).run_answering("echo in", &typed, TIME);
    let said = finished.stderr_text();
    assert!(said.contains("Your password has expired."), "{said}");
    assert_in(finished);
    let lines = server.seen().lines();
    assert!(lines.contains(&"password change".to_owned()), "{lines:?}");
}

#[test]
fn plink_answers_several_rounds_of_questions() {
    let accounts = Accounts {
        rounds: rounds(),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let typed = [("Colour: ", "blue"), ("Code: ", "42"), ("Sure? ", "yes")];
    let finished = plink(&server).run_answering("echo in", &typed, TIME);
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
    assert_in(finished);
    let typed = [("Colour: ", "blue"), ("Code: ", "41")];
    assert_not_in(&plink(&server).run_answering("echo in", &typed, TIME));
}

#[test]
fn plink_passes_several_factors() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, putty) = key(&folder, KeyKind::EcdsaP521);
    let accounts = Accounts {
        keys: vec![public_key(&pair)],
        password: Some(PASSWORD.into()),
        factors: vec![AuthMethod::PublicKey, AuthMethod::Password],
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    let typed = format!("{PASSWORD}\n");
    assert_in(
        plink(&server)
            .identity(&putty)
            .run("echo in", &*typed, TIME),
    );
    assert_not_in(&plink(&server).run("echo in", &*typed, TIME));
}

#[test]
fn our_server_connects_and_listens_for_plink() {
    let server = open_server(ForwardPolicy::new().listen_on_loopback().connect(|_| true));
    let (mirror, echo) = (mirror_target(), echo_target());
    let ports: [u16; 6] = std::array::from_fn(|_| free_port());
    let to = |kind: &str, port: u16, target: u16| format!("-{kind}{port}:127.0.0.1:{target}");
    let flags = [
        "-N".to_owned(),
        to("L", ports[0], mirror.port()),
        to("L", ports[1], echo.port()),
        to("R", ports[2], mirror.port()),
        to("R", ports[3], echo.port()),
        to("R", ports[4], free_port()),
        format!("-D{}", ports[5]),
    ];
    let client = flags.iter().fold(plink(&server), |client, flag| {
        let (name, value) = flag.split_at(2);
        let client = client.flag(name);
        if value.is_empty() {
            client
        } else {
            client.flag(value)
        }
    });
    let running = Running::start(client.command(""));
    for port in &ports[..4] {
        exchange_tcp(&connect(*port), LEN);
    }
    assert!(ends_at_once(&connect(ports[4])));
    exchange_by_socks(ports[5], mirror.port(), LITTLE);
    // It says that a connection is made before it is.
    let nobody = socks(ports[5], SocksVersion::V5, "127.0.0.1", free_port());
    assert!(ends_at_once(&nobody.unwrap()));
    drop(running);
    for port in ports {
        wait_until_closed(port);
    }
}

#[test]
fn our_server_connects_the_streams_of_plink() {
    let server = open_server(ForwardPolicy::new().connect(|_| true));
    let data = stream(LEN);
    let target = mirror_target().to_string();
    let finished = plink(&server)
        .flag("-nc")
        .flag(&target)
        .run("", &*data, TIME)
        .expect_code(0);
    assert!(finished.stdout == data, "{}", finished.stdout.len());
    let forbidden = open_server(ForwardPolicy::new());
    let finished = plink(&forbidden)
        .flag("-nc")
        .flag(&target)
        .run("", "", TIME);
    let said = finished.stderr_text();
    assert!(said.contains("Administratively prohibited"), "{said}");
}
