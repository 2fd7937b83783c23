//! Every method of authentication, in both roles, against real OpenSSH.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conformance::logins::{assert_in, assert_refused, rounds};
use conformance::ours::{
    Accounts, OurServer, SshExample, SshdExample, connect, options, private_key, public_key,
};
use conformance::peers::{Askpass, KeyKind, KeyPair, Sshd, SshdOptions, Version, all};
use ssh_blocking::ssh_proto::key::{KeyError, PrivateKey, PublicKey};
use ssh_blocking::ssh_proto::names::{Algorithm, Preference, SignatureAlgorithm};
use ssh_blocking::ssh_proto::{AuthMethod, ClientConfig, Secret};
use ssh_blocking::{Client, Error, Method};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(60);

fn key_of(folder: &TempDir, kind: KeyKind) -> KeyPair {
    let path = folder.path().join(format!("id_{}", kind.name()));
    KeyPair::generate(Version::V10_0, kind, &path, "")
}

fn sshd(version: Version, keys: &[&KeyPair], config: &[&str]) -> Sshd {
    Sshd::start(
        version,
        &SshdOptions {
            config: config.iter().map(|&line| line.to_owned()).collect(),
            authorized_keys: keys.iter().map(|key| key.public.clone()).collect(),
            ..SshdOptions::default()
        },
    )
}

#[test]
fn every_kind_of_key_and_signature_logs_our_client_in() {
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyKind::all().map(|kind| key_of(&folder, kind));
    for version in all() {
        let sshd = sshd(version, &keys.each_ref(), &[]);
        let mut tried = 0;
        for key in &keys {
            for name in key.kind.algorithms() {
                let algorithm: SignatureAlgorithm = name.parse().unwrap();
                let client = connect(&sshd, |config| {
                    config.transport.algorithms.user_keys = Preference::new([algorithm]).unwrap();
                });
                let outcome = client
                    .auth_public_key(Sshd::USER, private_key(key))
                    .unwrap();
                assert!(outcome.success(), "{name} with {version}: {outcome:?}");
                assert_in(&client);
                tried += 1;
            }
            // The server is asked first, and the signature is made elsewhere.
            let client = connect(&sshd, |_| {});
            let private = private_key(key);
            let outcome = client
                .auth_external(Sshd::USER, public_key(key), |request| {
                    private.sign(request.algorithm(), request.data()).ok()
                })
                .unwrap();
            assert!(outcome.success());
            assert_in(&client);
        }
        assert_eq!(tried, SignatureAlgorithm::ALL.len());
    }
}

#[test]
fn every_kind_of_key_and_signature_is_taken_by_our_server() {
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyKind::all().map(|kind| key_of(&folder, kind));
    let server = SshdExample::start(&[KeyKind::Ed25519], &keys.each_ref(), &[]);
    for version in all() {
        for key in &keys {
            for algorithm in key.kind.algorithms() {
                let finished = server
                    .client(version)
                    .identity(key)
                    .option("PubkeyAcceptedAlgorithms", algorithm)
                    .flag("-vvv")
                    .run("echo in", "", TIME)
                    .expect_code(0);
                assert_eq!(finished.stdout_text(), "in\n");
                // The name in `server-sig-algs` decides which of RSA's two is used.
                let log = finished.stderr_text();
                assert!(
                    log.contains(&format!("signing using {algorithm} ")),
                    "{log}"
                );
            }
        }
    }
}

#[test]
fn a_key_that_is_not_authorized_is_refused_and_another_one_may_follow() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (
        key_of(&folder, KeyKind::Ed25519),
        key_of(&folder, KeyKind::Rsa),
    );
    let ours = SshdExample::start(&[KeyKind::Ed25519], &[&right], &[]);
    for version in all() {
        let theirs = sshd(
            version,
            &[&right],
            &[
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
            ],
        );
        let client = connect(&theirs, |_| {});
        let outcome = client
            .auth_public_key(Sshd::USER, private_key(&wrong))
            .unwrap();
        assert_refused(outcome, &["publickey"], false);
        let mut methods = [
            Method::PublicKey(private_key(&wrong)),
            Method::PublicKey(private_key(&right)),
        ];
        assert!(
            client
                .authenticate(Sshd::USER, &mut methods)
                .unwrap()
                .success()
        );
        assert_in(&client);

        let _ = ours
            .client(version)
            .identity(&wrong)
            .identity(&right)
            .run("true", "", TIME)
            .expect_code(0);
        let finished = ours
            .client(version)
            .identity(&wrong)
            .run("true", "", TIME)
            .expect_code(255);
        let said = finished.stderr_text();
        assert!(said.contains("Permission denied (publickey)"), "{said}");
    }
}

#[test]
fn an_encrypted_key_file_is_opened_by_its_passphrase_only() {
    let folder = tempfile::tempdir().unwrap();
    for version in all() {
        for kind in KeyKind::all() {
            let path = folder.path().join(format!("{version}-{}", kind.name()));
            let key = KeyPair::generate(version, kind, &path, "open sesame");
            let file = fs::read(&key.path).unwrap();
            assert!(PrivateKey::is_encrypted(&file).unwrap());
            assert!(matches!(
                PrivateKey::from_openssh(&file, None),
                Err(KeyError::PassphraseNeeded)
            ));
            assert!(matches!(
                PrivateKey::from_openssh(&file, Some(b"open barley")),
                Err(KeyError::WrongPassphrase)
            ));
            let opened = PrivateKey::from_openssh(&file, Some(b"open sesame")).unwrap();
            assert_eq!(*opened.public(), public_key(&key));
            assert_eq!(
                PublicKey::from_openssh_private(&file).unwrap(),
                public_key(&key)
            );
            if kind == KeyKind::EcdsaP384 {
                let sshd = sshd(version, &[&key], &[]);
                let client = connect(&sshd, |_| {});
                assert!(
                    client
                        .auth_public_key(Sshd::USER, opened)
                        .unwrap()
                        .success()
                );
                assert_in(&client);
            }
        }
    }
}

#[test]
fn a_password_lets_our_client_in_and_a_wrong_one_does_not() {
    for version in all() {
        let sshd = sshd(version, &[], &["KbdInteractiveAuthentication no"]);
        let client = connect(&sshd, |_| {});
        let all = ["publickey", "password"];
        assert_refused(client.auth_none(Sshd::USER).unwrap(), &all, false);
        assert_refused(
            client.auth_password(Sshd::USER, "wrong").unwrap(),
            &all,
            false,
        );
        // Everything about the session is refused before authentication, here already.
        assert!(client.exec("true").output().is_err());
        assert!(
            client
                .auth_password(Sshd::USER, Sshd::PASSWORD)
                .unwrap()
                .success()
        );
        assert_in(&client);
    }
}

#[test]
fn after_too_many_wrong_passwords_the_connection_ends_with_the_servers_words() {
    for version in all() {
        let sshd = sshd(version, &[], &["MaxAuthTries 3"]);
        let client = connect(&sshd, |_| {});
        let error = loop {
            match client.auth_password(Sshd::USER, "wrong") {
                Ok(outcome) => assert!(!outcome.success()),
                Err(error) => break error,
            }
        };
        assert!(
            error
                .to_string()
                .contains("Too many authentication failures"),
            "{error}"
        );
        assert!(!client.is_alive());
    }
    // The other way round: the library's own limit is 6.
    let server = OurServer::start(
        Accounts {
            password: Some("right".into()),
            ..Accounts::default()
        },
        |_| {},
    );
    for version in all() {
        let askpass = Askpass::new(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let finished = server
            .client(version)
            .option("NumberOfPasswordPrompts", "8")
            .option("PreferredAuthentications", "password")
            .option("LogLevel", "INFO")
            .askpass(&askpass)
            .run("true", "", TIME)
            .expect_code(255);
        let said = finished.stderr_text();
        assert!(
            said.contains("disconnect from") || said.contains("Received disconnect"),
            "{said}"
        );
        assert!(askpass.questions().len() <= 6, "{:?}", askpass.questions());
    }
}

#[test]
fn our_server_takes_the_password_of_the_right_user_only() {
    let server = SshdExample::start(
        &[KeyKind::Ed25519],
        &[],
        &[
            "--password",
            "tester:with:colons",
            "--password",
            "other:secret",
        ],
    );
    for version in all() {
        let askpass = Askpass::new(&["secret", "with:colons"]);
        let finished = server
            .client(version)
            .askpass(&askpass)
            .run("echo in", "", TIME)
            .expect_code(0);
        assert_eq!(finished.stdout_text(), "in\n");
        assert_eq!(askpass.questions(), ["tester@127.0.0.1's password: "; 2]);
        let askpass = Askpass::new(&["secret"]);
        let other = server.client(version).user("other").askpass(&askpass);
        let _ = other.run("true", "", TIME).expect_code(0);
        let askpass = Askpass::new(&["1", "2", "3"]);
        let finished = server
            .client(version)
            .askpass(&askpass)
            .run("true", "", TIME)
            .expect_code(255);
        let said = finished.stderr_text();
        assert!(
            said.contains("Permission denied (publickey,password)"),
            "{said}"
        );
    }
}

#[test]
fn keyboard_interactive_of_sshd_asks_our_client_through_pam() {
    for version in all() {
        let sshd = sshd(version, &[], &["UsePAM yes", "PasswordAuthentication no"]);
        let client = connect(&sshd, |_| {});
        let wrong = client
            .auth_keyboard_interactive(Sshd::USER, |prompts| {
                Some(
                    prompts
                        .prompts()
                        .iter()
                        .map(|_| Secret::from("wrong"))
                        .collect(),
                )
            })
            .unwrap();
        assert_refused(wrong, &["publickey", "keyboard-interactive"], false);
        let mut asked = Vec::new();
        let outcome = client
            .auth_keyboard_interactive(Sshd::USER, |prompts| {
                // PAM ends with a round that has no prompts.
                asked.extend(
                    prompts
                        .prompts()
                        .iter()
                        .map(|prompt| (prompt.text.clone(), prompt.echo)),
                );
                Some(
                    prompts
                        .prompts()
                        .iter()
                        .map(|_| Secret::from(Sshd::PASSWORD))
                        .collect(),
                )
            })
            .unwrap();
        assert!(outcome.success(), "{outcome:?}");
        assert_eq!(asked, [("Password: ".to_owned(), false)]);
        assert_in(&client);
        assert!(
            sshd.log().contains("Accepted keyboard-interactive/pam"),
            "{}",
            sshd.log()
        );
    }
}

#[test]
fn several_rounds_of_our_server_reach_the_user_of_ssh() {
    let server = OurServer::start(
        Accounts {
            rounds: rounds(),
            ..Accounts::default()
        },
        |_| {},
    );
    for version in all() {
        let askpass = Askpass::new(&["blue", "42", "yes"]);
        let finished = server
            .client(version)
            .askpass(&askpass)
            .run("echo in", "", TIME)
            .expect_code(0);
        assert_eq!(finished.stdout_text(), "in\n");
        let questions = askpass.questions();
        let ends = ["Colour: ", "Code: ", "Sure? "];
        assert_eq!(questions.len(), ends.len(), "{questions:?}");
        for (question, end) in questions.iter().zip(ends) {
            assert!(question.ends_with(end), "{question:?}");
        }
        let askpass = Askpass::new(&["blue", "41"]);
        let finished = server
            .client(version)
            .askpass(&askpass)
            .option("NumberOfPasswordPrompts", "1")
            .option("PreferredAuthentications", "keyboard-interactive")
            .run("true", "", TIME)
            .expect_code(255);
        assert!(
            finished.stderr_text().contains("Permission denied"),
            "{}",
            finished.stderr_text()
        );
    }
}

#[test]
fn an_expired_password_is_changed_by_the_user_of_ssh() {
    let accounts = Accounts {
        password: Some("old".into()),
        new_password: Some("new".into()),
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |_| {});
    for version in all() {
        let askpass = Askpass::new(&["old", "old", "new", "new"]);
        let finished = server
            .client(version)
            .option("PreferredAuthentications", "password")
            .option("LogLevel", "INFO")
            .askpass(&askpass)
            .run("echo in", "", TIME)
            .expect_code(0);
        assert_eq!(finished.stdout_text(), "in\n");
        assert!(
            finished
                .stderr_text()
                .contains("Your password has expired."),
            "{}",
            finished.stderr_text()
        );
        let questions = askpass.questions();
        assert_eq!(questions.len(), 4, "{questions:?}");
        assert!(questions[1].contains("old password"), "{questions:?}");
        assert!(questions[2].contains("new password"), "{questions:?}");
    }
    assert!(
        server
            .seen()
            .lines()
            .iter()
            .any(|line| line == "password change")
    );
}

#[test]
fn two_factors_lead_on_from_one_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let key = key_of(&folder, KeyKind::Ed25519);
    let accounts = Accounts {
        keys: vec![public_key(&key)],
        password: Some("right".into()),
        factors: vec![AuthMethod::PublicKey, AuthMethod::Password],
        ..Accounts::default()
    };
    let ours = OurServer::start(accounts, |_| {});
    for version in all() {
        let theirs = sshd(
            version,
            &[&key],
            &["AuthenticationMethods publickey,password"],
        );
        let client = connect(&theirs, |_| {});
        // The second one alone is worth nothing.
        let outcome = client.auth_password(Sshd::USER, Sshd::PASSWORD).unwrap();
        assert_refused(outcome, &["publickey"], false);
        let outcome = client
            .auth_public_key(Sshd::USER, private_key(&key))
            .unwrap();
        assert_refused(outcome, &["password"], true);
        assert!(
            client
                .auth_password(Sshd::USER, Sshd::PASSWORD)
                .unwrap()
                .success()
        );
        assert_in(&client);

        let client = connect(&theirs, |_| {});
        let mut methods = [
            Method::Password(Secret::from(Sshd::PASSWORD)),
            Method::PublicKey(private_key(&key)),
        ];
        assert!(
            client
                .authenticate(Sshd::USER, &mut methods)
                .unwrap()
                .success()
        );
        assert_in(&client);

        let askpass = Askpass::new(&["right"]);
        let finished = ours
            .client(version)
            .identity(&key)
            .askpass(&askpass)
            .flag("-v")
            .run("echo in", "", TIME)
            .expect_code(0);
        assert_eq!(finished.stdout_text(), "in\n");
        let log = finished.stderr_text();
        assert!(
            log.contains("using \"publickey\" with partial success"),
            "{log}"
        );
        let finished = ours
            .client(version)
            .identity(&key)
            .run("true", "", TIME)
            .expect_code(255);
        assert!(
            finished
                .stderr_text()
                .contains("Permission denied (password)"),
            "{}",
            finished.stderr_text()
        );
    }
}

#[test]
fn banners_are_shown_on_both_sides() {
    let text = "No trespassing.\nViolators will be shot.\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("banner");
    fs::write(&file, text).unwrap();
    let key = key_of(&folder, KeyKind::Ed25519);
    let accounts = Accounts {
        keys: vec![public_key(&key)],
        ..Accounts::default()
    };
    let ours = OurServer::start(accounts, |config| config.banner = Some(text.into()));
    for version in all() {
        let theirs = sshd(version, &[&key], &[&format!("Banner {}", file.display())]);
        let shown = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&shown);
        let options = options(&theirs, ClientConfig::new())
            .on_banner(move |text| sink.lock().unwrap().push_str(text));
        let client = Client::connect(theirs.address(), options).unwrap();
        assert!(
            client
                .auth_public_key(Sshd::USER, private_key(&key))
                .unwrap()
                .success()
        );
        assert_eq!(*shown.lock().unwrap(), text);

        let finished = ours
            .client(version)
            .identity(&key)
            .option("LogLevel", "INFO")
            .run("true", "", TIME)
            .expect_code(0);
        let shown = finished.stderr_text().replace("\r\n", "\n");
        assert!(shown.contains(text), "{shown:?}");
    }
}

#[test]
fn the_example_ssh_logs_in_with_a_key_and_says_when_it_may_not() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (
        key_of(&folder, KeyKind::EcdsaP256),
        key_of(&folder, KeyKind::Ed25519),
    );
    for version in all() {
        let sshd = sshd(version, &[&right], &[]);
        let ssh = SshExample::for_sshd(&sshd)
            .identity(&wrong)
            .identity(&right);
        let finished = ssh.run("echo in; exit 9", "", TIME).expect_code(9);
        assert_eq!(finished.stdout_text(), "in\n");
        let ssh = SshExample::for_sshd(&sshd).identity(&wrong);
        let finished = ssh.run("true", "", TIME).expect_code(255);
        let said = finished.stderr_text();
        assert!(
            said.contains("Permission denied (publickey,password"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_login_that_takes_too_long_is_ended_by_either_side() {
    let folder = tempfile::tempdir().unwrap();
    let key = key_of(&folder, KeyKind::Ed25519);
    for version in all() {
        let theirs = sshd(version, &[&key], &["LoginGraceTime 1"]);
        let client = connect(&theirs, |_| {});
        // 10.0 adds up to four seconds by chance.
        let deadline = Instant::now() + TIME;
        while client.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let error = client
            .auth_public_key(Sshd::USER, private_key(&key))
            .unwrap_err();
        assert!(
            matches!(error, Error::Connection(_) | Error::Io(_)),
            "{error:?}"
        );
    }
    let ours = OurServer::start(Accounts::default(), |config| {
        config.transport.deadlines.authentication = Some(Duration::from_secs(1));
    });
    // The question waits for its answer longer than the server does.
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("askpass");
    fs::write(&slow, "#!/bin/sh\nsleep 2\necho secret\n").unwrap();
    fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for version in all() {
        let askpass = Askpass::new(&[]);
        let ssh = ours.client(version).askpass(&askpass);
        let mut command = ssh.command("true");
        command.env("SSH_ASKPASS", &slow);
        let finished = conformance::peers::run_with_timeout(command, "", TIME).expect_code(255);
        assert!(
            !finished.stderr_text().contains("Permission denied"),
            "{}",
            finished.stderr_text()
        );
    }
}
