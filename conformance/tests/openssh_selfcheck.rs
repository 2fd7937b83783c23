//! The harness itself: OpenSSH's client of each release against OpenSSH's server of each release.
//!
//! What fails here is wrong with the harness or the machine, not with the library.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use conformance::peers::{
    Askpass, KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version, all, descendants, query,
};

const TIME: Duration = Duration::from_secs(60);

/// Every release's client with every release's server.
fn pairs() -> impl Iterator<Item = (Version, Version)> {
    all()
        .into_iter()
        .flat_map(|client| all().into_iter().map(move |server| (client, server)))
}

/// A server that lets `key` in.
fn server_for(version: Version, key: &KeyPair) -> Sshd {
    Sshd::start(
        version,
        &SshdOptions {
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        },
    )
}

fn key(version: Version, folder: &Path) -> KeyPair {
    KeyPair::generate(version, KeyKind::Ed25519, &folder.join("id"), "")
}

#[test]
fn a_command_runs_with_its_input_output_and_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V10_0, folder.path());
    for (client, server) in pairs() {
        let sshd = server_for(server, &key);
        let ssh = sshd.client(client).identity(&key);
        let finished = ssh
            .run("echo out; echo err >&2; cat; pwd; exit 7", "in\n", TIME)
            .expect_code(7);
        assert_eq!(
            finished.stdout_text(),
            format!("out\nin\n{}\n", sshd.home().display()),
            "{client} to {server}"
        );
        assert_eq!(finished.stderr_text(), "err\n");
        sshd.wait_for_log("Accepted publickey for tester", TIME);
    }
}

#[test]
fn a_key_of_every_kind_logs_in_and_proves_the_host() {
    let folder = tempfile::tempdir().unwrap();
    for version in all() {
        let keys = KeyKind::all().map(|kind| {
            KeyPair::generate(
                version,
                kind,
                &folder.path().join(format!("{version}-{}", kind.name())),
                "",
            )
        });
        let sshd = Sshd::start(
            version,
            &SshdOptions {
                host_keys: KeyKind::all().to_vec(),
                authorized_keys: keys.iter().map(|key| key.public.clone()).collect(),
                ..SshdOptions::default()
            },
        );
        for (user, host) in keys.iter().zip(sshd.host_keys()) {
            for client in all() {
                for algorithm in host.kind.algorithms() {
                    // Only this host key is known, and only this algorithm may prove it.
                    let finished = Ssh::new(client, sshd.address())
                        .host_key(&host.public)
                        .identity(user)
                        .option("HostKeyAlgorithms", algorithm)
                        .option("PubkeyAcceptedAlgorithms", algorithm)
                        .flag("-v")
                        .run("exit 3", "", TIME)
                        .expect_code(3);
                    let stderr = finished.stderr_text();
                    assert!(
                        stderr.contains(&format!("kex: host key algorithm: {algorithm}")),
                        "{stderr}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_host_key_other_than_the_known_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V9_2, folder.path());
    for (client, server) in pairs() {
        let sshd = server_for(server, &key);
        let finished = Ssh::new(client, sshd.address())
            .host_key(&key.public)
            .identity(&key)
            .run("true", "", TIME)
            .expect_code(255);
        assert!(
            finished
                .stderr_text()
                .contains("Host key verification failed"),
            "{}",
            finished.stderr_text()
        );
    }
}

#[test]
fn a_password_is_asked_for_and_checked() {
    for (client, server) in pairs() {
        let sshd = Sshd::start(server, &SshdOptions::default());
        let askpass = Askpass::new(&["wrong", Sshd::PASSWORD]);
        let ssh = sshd.client(client).askpass(&askpass);
        assert_eq!(
            ssh.run("echo in", "", TIME).expect_code(0).stdout_text(),
            "in\n"
        );
        let question = format!("{}@127.0.0.1's password: ", Sshd::USER);
        assert_eq!(askpass.questions(), [question.clone(), question]);
        let log = sshd.log();
        assert!(
            log.contains("Failed password for tester")
                && log.contains("Accepted password for tester"),
            "{log}"
        );
    }
}

#[test]
fn keyboard_interactive_asks_through_pam_and_can_be_a_second_factor() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V9_2, folder.path());
    for (client, server) in pairs() {
        let config = [
            "UsePAM yes",
            "AuthenticationMethods publickey,keyboard-interactive",
        ];
        let options = SshdOptions {
            config: config.map(str::to_owned).to_vec(),
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        };
        let sshd = Sshd::start(server, &options);
        let askpass = Askpass::new(&[Sshd::PASSWORD]);
        let ssh = sshd.client(client).identity(&key).askpass(&askpass);
        assert_eq!(
            ssh.run("echo in", "", TIME).expect_code(0).stdout_text(),
            "in\n"
        );
        assert_eq!(
            askpass.questions(),
            [format!("({}@127.0.0.1) Password: ", Sshd::USER)]
        );
        let log = sshd.log();
        assert!(
            log.contains("Partial publickey for tester")
                && log.contains("Accepted keyboard-interactive/pam for tester"),
            "{log}"
        );
    }
}

#[test]
fn a_passphrase_opens_the_key() {
    let folder = tempfile::tempdir().unwrap();
    for version in all() {
        let key = KeyPair::generate(
            version,
            KeyKind::EcdsaP256,
            &folder.path().join(version.to_string()),
            "open sesame",
        );
        let sshd = server_for(version, &key);
        let askpass = Askpass::new(&["open sesame"]);
        let ssh = sshd
            .client(version)
            .identity(&key)
            .option("PreferredAuthentications", "publickey")
            .askpass(&askpass);
        let _ = ssh.run("true", "", TIME).expect_code(0);
        assert_eq!(askpass.questions().len(), 1);
    }
}

#[test]
fn nobody_logs_in_without_a_key_and_nothing_waits_for_a_user() {
    for (client, server) in pairs() {
        let sshd = Sshd::start(server, &SshdOptions::default());
        let finished = sshd.client(client).run("true", "", TIME).expect_code(255);
        assert!(
            finished.stderr_text().contains("Permission denied"),
            "{}",
            finished.stderr_text()
        );
    }
}

#[test]
fn extra_configuration_wins_and_a_match_block_comes_last() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V9_2, folder.path());
    for version in all() {
        let config = [
            "Ciphers aes128-gcm@openssh.com",
            "LogLevel DEBUG1",
            "Match User tester",
            "ForceCommand echo forced",
        ];
        let options = SshdOptions {
            config: config.map(str::to_owned).to_vec(),
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        };
        let sshd = Sshd::start(version, &options);
        let ssh = sshd.client(version).identity(&key).flag("-v");
        let finished = ssh.run("echo mine", "", TIME).expect_code(0);
        assert_eq!(finished.stdout_text(), "forced\n");
        assert!(
            finished
                .stderr_text()
                .contains("cipher: aes128-gcm@openssh.com"),
            "{}",
            finished.stderr_text()
        );
        assert!(sshd.log().contains("debug1"), "{}", sshd.log());
    }
}

#[test]
fn the_sftp_subsystem_answers() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V9_2, folder.path());
    for version in all() {
        let sshd = server_for(version, &key);
        let ssh = sshd.client(version).identity(&key).flag("-s");
        let mut child = ssh
            .command("sftp")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // SSH_FXP_INIT of version 3. The input stays open: at its end the program drops replies that it has not written yet.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut reply = [0; 9];
            sender
                .send(stdout.read_exact(&mut reply).map(|()| reply))
                .unwrap();
            // Until the end, so that the program can write it all.
            stdout.read_to_end(&mut Vec::new()).unwrap();
        });
        let reply = receiver.recv_timeout(TIME).unwrap().unwrap();
        // A length, then SSH_FXP_VERSION and the version.
        assert_eq!(reply[4..], [2, 0, 0, 0, 3]);
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn every_algorithm_that_is_listed_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V10_0, folder.path());
    for version in all() {
        let kex = query(version, "kex");
        assert_eq!(
            kex.iter().any(|name| name == "mlkem768x25519-sha256"),
            version == Version::V10_0,
            "{kex:?}"
        );
        assert!(
            query(version, "mac")
                .iter()
                .any(|name| name == "hmac-sha2-256-etm@openssh.com")
        );
        assert!(
            query(version, "key")
                .iter()
                .any(|name| name == "ssh-ed25519")
        );
        let options = SshdOptions {
            config: vec![format!("Ciphers {}", query(version, "cipher").join(","))],
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        };
        let sshd = Sshd::start(version, &options);
        for cipher in query(version, "cipher") {
            let ssh = sshd
                .client(version)
                .identity(&key)
                .option("Ciphers", &cipher);
            assert_eq!(
                ssh.run("echo it works", "", TIME)
                    .expect_code(0)
                    .stdout_text(),
                "it works\n",
                "{cipher}"
            );
        }
    }
}

#[test]
fn a_command_that_hangs_is_ended_in_time_and_does_not_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V9_2, folder.path());
    for version in all() {
        let sshd = server_for(version, &key);
        let ssh = sshd.client(version).identity(&key);
        let finished = ssh.run("echo $$; exec sleep 1000", "", Duration::from_secs(1));
        assert!(finished.timed_out);
        assert!(
            finished.elapsed < Duration::from_secs(20),
            "{:?}",
            finished.elapsed
        );
        let sleeper = finished.stdout_text().trim().parse().unwrap();
        // Its session ends with the connection; the command does not notice.
        sshd.wait_for_log("Connection closed by 127.0.0.1", TIME);
        assert!(is_running(sleeper));
        drop(sshd);
        assert_gone(sleeper);
    }
}

#[test]
fn dropping_the_server_ends_its_sessions_and_their_commands() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(Version::V9_2, folder.path());
    for version in all() {
        let sshd = server_for(version, &key);
        let ssh = sshd.client(version).identity(&key);
        let mut client = ssh
            .command("echo $$ >started; exec sleep 1000")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = sshd.home().join("started");
        let deadline = Instant::now() + TIME;
        let sleeper = loop {
            match fs::read_to_string(&started) {
                Ok(id) if id.ends_with('\n') => break id.trim().parse().unwrap(),
                _ => assert!(Instant::now() < deadline, "{}", sshd.log()),
            }
            thread::sleep(Duration::from_millis(5));
        };
        let listener = sshd.pid();
        assert!(descendants(listener).contains(&sleeper));
        drop(sshd);
        // The client sees the connection close; all the server's processes are gone, or dead and not yet reaped.
        assert_eq!(client.wait().unwrap().code(), Some(255));
        assert_gone(listener);
        assert_gone(sleeper);
    }
}

fn is_running(id: u32) -> bool {
    // A dead process that nobody has reaped yet is in state Z.
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A killed process takes a moment to go.
#[track_caller]
fn assert_gone(id: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_running(id) {
        assert!(Instant::now() < deadline, "process {id} is still there");
        thread::sleep(Duration::from_millis(5));
    }
}
