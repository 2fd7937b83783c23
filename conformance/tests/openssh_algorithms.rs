//! Every key exchange, cipher, MAC and host key that this library and OpenSSH both have, in both roles.
//!
//! Each connection moves data both ways, exchanges keys once more under load, and both sides are asked what was negotiated.

use std::time::Duration;

use conformance::ours::{SshExample, SshdExample, log_in, private_key, public_key, stream};
use conformance::peers::{KeyKind, KeyPair, Sshd, SshdOptions, Version, query};
use conformance::suites::{LEN, Missing, Offer, Suite, our_client_with_server, suites};
use ssh_blocking::ssh_proto::names::{Kex, SignatureAlgorithm};

const TIME: Duration = Duration::from_secs(60);

/// The lines that OpenSSH writes about a connection at its level DEBUG1.
fn log_lines(suite: Suite) -> [String; 4] {
    let mac = if suite.cipher.is_aead() {
        "<implicit>"
    } else {
        suite.mac.name()
    };
    let direction = |name| {
        let cipher = suite.cipher;
        format!("kex: {name} cipher: {cipher} MAC: {mac} compression: none")
    };
    [
        format!("kex: algorithm: {}", suite.kex),
        format!("kex: host key algorithm: {}", suite.host_key),
        direction("client->server"),
        direction("server->client"),
    ]
}

fn common(version: Version) -> Vec<Suite> {
    let kex: &[&str] = match version {
        Version::V9_2 => &["mlkem768x25519-sha256"],
        Version::V10_0 => &[],
    };
    let offer = Offer {
        kex: query(version, "kex"),
        host_keys: query(version, "HostKeyAlgorithms"),
        ciphers: query(version, "cipher"),
        macs: query(version, "mac"),
    };
    let missing = Missing {
        kex,
        ..Missing::default()
    };
    let suites = suites(&offer, missing);
    // Kex, host keys, three ciphers that need no MAC, three that need one of four.
    assert_eq!(suites.len(), 6 - kex.len() + 6 + 3 + 3 * 4);
    suites
}

fn key(folder: &tempfile::TempDir) -> KeyPair {
    KeyPair::generate(
        Version::V10_0,
        KeyKind::Ed25519,
        &folder.path().join("id"),
        "",
    )
}

fn our_client_with_sshd(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    let options = SshdOptions {
        config: vec!["LogLevel DEBUG1".into()],
        host_keys: KeyKind::all().to_vec(),
        authorized_keys: vec![key.public.clone()],
        ..SshdOptions::default()
    };
    let sshd = Sshd::start(version, &options);
    let mut before = 0;
    our_client_with_server(
        &sshd,
        &common(version),
        |client| {
            let outcome = client.auth_public_key(Sshd::USER, private_key(&key));
            assert!(outcome.unwrap().success(), "{}", sshd.log());
        },
        |suite, _| {
            let log = sshd.log();
            for line in log_lines(suite) {
                assert!(
                    log[before..].contains(&line),
                    "no {line:?} in:\n{}",
                    &log[before..]
                );
            }
            before = log.len();
        },
    );
}

fn ssh_with_our_server(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    let sshd = SshdExample::start(&KeyKind::all(), &[&key], &[]);
    let data = stream(LEN);
    for suite in common(version) {
        let finished = sshd
            .client(version)
            .identity(&key)
            .option("KexAlgorithms", suite.kex.name())
            .option("HostKeyAlgorithms", suite.host_key.name())
            .option("Ciphers", suite.cipher.name())
            .option("MACs", suite.mac.name())
            .option("RekeyLimit", "64K")
            .flag("-v")
            .run("cat", &*data, TIME)
            .expect_code(0);
        assert!(finished.stdout == data, "{suite:?}");
        let log = finished.stderr_text();
        for line in log_lines(suite) {
            assert!(log.contains(&line), "no {line:?} in:\n{log}");
        }
        // Every exchange writes the lines again; the one at the start is not the only one.
        assert!(log.matches(&log_lines(suite)[0]).count() > 1, "{log}");
    }
}

#[test]
fn our_client_agrees_with_sshd_9_2_on_everything_that_both_have() {
    our_client_with_sshd(Version::V9_2);
}

#[test]
fn our_client_agrees_with_sshd_10_0_on_everything_that_both_have() {
    our_client_with_sshd(Version::V10_0);
}

#[test]
fn ssh_9_2_agrees_with_our_server_on_everything_that_both_have() {
    ssh_with_our_server(Version::V9_2);
}

#[test]
fn ssh_10_0_agrees_with_our_server_on_everything_that_both_have() {
    ssh_with_our_server(Version::V10_0);
}

/// What is picked when nobody says anything.
const fn default_kex(version: Version) -> Kex {
    match version {
        Version::V9_2 => Kex::Curve25519Sha256,
        Version::V10_0 => Kex::MlKem768X25519Sha256,
    }
}

#[test]
fn our_defaults_with_sshd_are_post_quantum_where_it_can_and_strict() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    for version in [Version::V9_2, Version::V10_0] {
        let options = SshdOptions {
            host_keys: KeyKind::all().to_vec(),
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        };
        let sshd = Sshd::start(version, &options);
        let client = log_in(&sshd, &key, |_| {});
        let negotiated = client.negotiated().unwrap();
        assert_eq!(negotiated.kex, default_kex(version));
        assert!(negotiated.strict);
        assert_eq!(negotiated.host_key, SignatureAlgorithm::Ed25519);
        let peer = client.session().unwrap().peer_version;
        let peer = String::from_utf8(peer).unwrap();
        assert!(
            peer.starts_with(&format!("SSH-2.0-OpenSSH_{version}")),
            "{peer}"
        );

        // The guess is right with 10.0 and wrong with 9.2, whose first method is another one.
        let guessing = log_in(&sshd, &key, |config| config.guess_kex = true);
        assert_eq!(guessing.negotiated().unwrap().kex, default_kex(version));
        let output = guessing.exec("echo guessed").output().unwrap();
        assert_eq!(output.stdout, b"guessed\n");
    }
}

#[test]
fn the_defaults_of_ssh_with_our_server_are_post_quantum_where_it_can_and_strict() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    let sshd = SshdExample::start(&KeyKind::all(), &[&key], &[]);
    for version in [Version::V9_2, Version::V10_0] {
        let log = sshd
            .client(version)
            .identity(&key)
            .flag("-vvv")
            .run("true", "", TIME)
            .expect_code(0)
            .stderr_text();
        for line in [
            &format!("kex: algorithm: {}", default_kex(version)),
            "kex: host key algorithm: ssh-ed25519",
            "will use strict KEX ordering",
            "kex_ext_info_client_parse: server-sig-algs=",
        ] {
            // 9.2 as Debian has it writes some of these names in its older way.
            let older = line.replace(
                "kex_ext_info_client_parse: server-sig-algs=",
                "server-sig-algs=<",
            );
            assert!(
                log.contains(line) || log.contains(&older),
                "no {line:?} in:\n{log}"
            );
        }
    }
}

#[test]
fn without_anything_in_common_both_sides_say_which_list_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    let ours = SshdExample::start(&[KeyKind::Ed25519], &[&key], &[]);
    for version in [Version::V9_2, Version::V10_0] {
        let theirs = Sshd::start(
            version,
            &SshdOptions {
                config: vec!["Ciphers aes256-ctr".into()],
                authorized_keys: vec![key.public.clone()],
                ..SshdOptions::default()
            },
        );
        let finished = SshExample::new(theirs.address(), &theirs.host_keys()[0])
            .identity(&key)
            .option("Ciphers", "aes128-ctr")
            .run("true", "", TIME)
            .expect_code(255);
        let said = finished.stderr_text();
        assert!(
            said.contains("cipher") && said.contains("aes256-ctr"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");

        let finished = ours
            .client(version)
            .identity(&key)
            .option("Ciphers", "aes128-cbc")
            .option("LogLevel", "INFO")
            .run("true", "", TIME)
            .expect_code(255);
        let said = finished.stderr_text();
        assert!(said.contains("no matching cipher found"), "{said}");
        // The server goes on.
        let _ = ours
            .client(version)
            .identity(&key)
            .run("true", "", TIME)
            .expect_code(0);
    }
}

#[test]
fn a_host_key_other_than_the_pinned_one_is_refused_with_both_fingerprints() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    for version in [Version::V9_2, Version::V10_0] {
        let sshd = Sshd::start(version, &SshdOptions::default());
        let finished = SshExample::new(sshd.address(), &key)
            .identity(&key)
            .run("true", "", TIME)
            .expect_code(255);
        let said = finished.stderr_text();
        assert_eq!(said.lines().count(), 1, "{said}");
        for shown in [public_key(&key), public_key(&sshd.host_keys()[0])] {
            assert!(said.contains(&shown.fingerprint_sha256()), "{said}");
        }
    }
}
