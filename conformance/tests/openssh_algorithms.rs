//! Every key exchange, cipher, MAC and host key that this library and OpenSSH both have, in both roles.
//!
//! Each connection moves data both ways, exchanges keys once more under load, and both sides are asked what was negotiated.

use std::collections::BTreeSet;
use std::time::Duration;

use conformance::ours::{SshExample, SshdExample, log_in, public_key, stream};
use conformance::peers::{KeyKind, KeyPair, Sshd, SshdOptions, Version, query};
use ssh_blocking::ssh_proto::Negotiated;
use ssh_blocking::ssh_proto::names::{Algorithm, Cipher, Kex, Mac, Preference, SignatureAlgorithm};

const TIME: Duration = Duration::from_secs(60);

/// More than two packets, and no multiple of anything.
const LEN: usize = 200_003;

/// The algorithms of one connection.
#[derive(Clone, Copy, Debug)]
struct Suite {
    kex: Kex,
    host_key: SignatureAlgorithm,
    cipher: Cipher,
    mac: Mac,
}

impl Suite {
    /// What the other rows hold still.
    const PLAIN: Self = Self {
        kex: Kex::Curve25519Sha256,
        host_key: SignatureAlgorithm::Ed25519,
        cipher: Cipher::Aes128Gcm,
        mac: Mac::HmacSha256,
    };

    /// The MAC as OpenSSH's log has it.
    fn mac_name(self) -> &'static str {
        if self.cipher.is_aead() {
            "<implicit>"
        } else {
            self.mac.name()
        }
    }

    /// The lines that OpenSSH writes about it at its level DEBUG1.
    fn log_lines(self) -> [String; 4] {
        let direction = |name| {
            format!(
                "kex: {name} cipher: {} MAC: {} compression: none",
                self.cipher,
                self.mac_name()
            )
        };
        [
            format!("kex: algorithm: {}", self.kex),
            format!("kex: host key algorithm: {}", self.host_key),
            direction("client->server"),
            direction("server->client"),
        ]
    }

    #[track_caller]
    fn assert_negotiated(self, negotiated: Negotiated) {
        assert_eq!(negotiated.kex, self.kex);
        assert_eq!(negotiated.host_key, self.host_key);
        assert!(negotiated.strict);
        for direction in [negotiated.client_to_server, negotiated.server_to_client] {
            assert_eq!(direction.cipher, self.cipher);
            assert_eq!(direction.mac, (!self.cipher.is_aead()).then_some(self.mac));
        }
    }
}

/// What both have: everything of ours but `missing`, so that the list cannot shrink unnoticed.
fn common<A: Algorithm>(version: Version, what: &str, missing: &[&str]) -> Vec<A> {
    let theirs: BTreeSet<String> = query(version, what).into_iter().collect();
    let (common, ours_only): (Vec<A>, Vec<A>) =
        A::ALL.iter().partition(|ours| theirs.contains(ours.name()));
    let ours_only: Vec<_> = ours_only.into_iter().map(A::name).collect();
    assert_eq!(ours_only, missing, "OpenSSH {version}, {what}");
    common
}

/// The rows: each list is gone through with the other algorithms held still.
fn suites(version: Version) -> Vec<Suite> {
    let missing: &[&str] = match version {
        Version::V9_2 => &["mlkem768x25519-sha256"],
        Version::V10_0 => &[],
    };
    let plain = Suite::PLAIN;
    let mut suites = Vec::new();
    suites.extend(
        common(version, "kex", missing)
            .into_iter()
            .map(|kex| Suite { kex, ..plain }),
    );
    suites.extend(
        common(version, "HostKeyAlgorithms", &[])
            .into_iter()
            .map(|host_key| Suite { host_key, ..plain }),
    );
    let macs: Vec<Mac> = common(version, "mac", &[]);
    for cipher in common::<Cipher>(version, "cipher", &[]) {
        if cipher.is_aead() {
            suites.push(Suite { cipher, ..plain });
        } else {
            suites.extend(macs.iter().map(|&mac| Suite {
                cipher,
                mac,
                ..plain
            }));
        }
    }
    // Kex, host keys, three ciphers that need no MAC, three that need one of four.
    assert_eq!(suites.len(), 6 - missing.len() + 6 + 3 + 3 * 4);
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
    let data = stream(LEN);
    for suite in suites(version) {
        let before = sshd.log().len();
        let client = log_in(&sshd, &key, |config| {
            let algorithms = &mut config.transport.algorithms;
            algorithms.kex = Preference::new([suite.kex]).unwrap();
            algorithms.host_keys = Preference::new([suite.host_key]).unwrap();
            algorithms.ciphers = Preference::new([suite.cipher]).unwrap();
            algorithms.macs = Preference::new([suite.mac]).unwrap();
        });
        suite.assert_negotiated(client.negotiated().unwrap());
        let cat = client.exec("cat").input(&*data).timeout(TIME);
        client.rekey().unwrap();
        let output = cat
            .output()
            .unwrap_or_else(|error| panic!("{suite:?}: {error}"));
        assert!(output.stdout == data, "{suite:?}");
        assert_eq!(output.status.code(), Some(0));
        // The second exchange has begun before the command: its answers come under the new keys.
        assert_eq!(client.rekeys(), 1, "{suite:?}");
        suite.assert_negotiated(client.negotiated().unwrap());
        assert_eq!(
            client.session().unwrap().host_key.key_type(),
            suite.host_key.key_type()
        );
        for line in suite.log_lines() {
            let log = sshd.log();
            assert!(
                log[before..].contains(&line),
                "no {line:?} in:\n{}",
                &log[before..]
            );
        }
    }
}

fn ssh_with_our_server(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    let sshd = SshdExample::start(&KeyKind::all(), &[&key], &[]);
    let data = stream(LEN);
    for suite in suites(version) {
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
        for line in suite.log_lines() {
            assert!(log.contains(&line), "no {line:?} in:\n{log}");
        }
        // Every exchange writes the lines again; the one at the start is not the only one.
        assert!(log.matches(&suite.log_lines()[0]).count() > 1, "{log}");
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
