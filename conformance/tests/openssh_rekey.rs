//! 64 MiB each way at once, with the keys exchanged anew every 1 MiB by either side or by both, in both roles.

use std::io::{Read, Write};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use conformance::ours::{Accounts, OurServer, log_in, public_key, stream};
use conformance::peers::{KeyKind, KeyPair, Sshd, SshdOptions, Version, all};
use ssh_blocking::ssh_proto::TransportConfig;
use ssh_blocking::ssh_proto::names::Preference;
use ssh_blocking::{Client, ExitStatus};
use tempfile::TempDir;

const TIME: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;
const LEN: usize = 64 * MIB;

/// Who exchanges keys anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Us,
    Them,
    Both,
}

impl By {
    const fn us(self) -> bool {
        matches!(self, Self::Us | Self::Both)
    }

    const fn them(self) -> bool {
        matches!(self, Self::Them | Self::Both)
    }
}

/// What is to be encrypted with: a cipher, and a MAC for those that need one.
type Suite = (&'static str, &'static str);

/// Whoever asks, with OpenSSH's usual cipher and ours; and our own asking, with every other way to make a packet.
const CASES: [(By, Suite); 6] = [
    (By::Us, ("aes128-gcm@openssh.com", "hmac-sha2-256")),
    (By::Them, ("aes256-gcm@openssh.com", "hmac-sha2-256")),
    (By::Both, ("chacha20-poly1305@openssh.com", "hmac-sha2-256")),
    (By::Us, ("chacha20-poly1305@openssh.com", "hmac-sha2-256")),
    (By::Both, ("aes128-ctr", "hmac-sha2-512")),
    (By::Us, ("aes256-ctr", "hmac-sha2-256-etm@openssh.com")),
];

fn data() -> &'static [u8] {
    static DATA: OnceLock<Vec<u8>> = OnceLock::new();
    DATA.get_or_init(|| stream(LEN))
}

fn key() -> (KeyPair, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id");
    (
        KeyPair::generate(Version::V10_0, KeyKind::Ed25519, &path, ""),
        folder,
    )
}

fn configure(config: &mut TransportConfig, by: By, (cipher, mac): Suite) {
    config.algorithms.ciphers = Preference::parse(cipher).unwrap();
    config.algorithms.macs = Preference::parse(mac).unwrap();
    if by.us() {
        config.rekey.bytes = MIB as u64;
    }
}

/// Both directions at once through `cat`, in two threads. What came back is compared as it comes.
fn there_and_back(client: &Client) {
    let mut child = client.exec("cat").spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(data()).unwrap());
        let (mut rest, mut block) = (data(), vec![0; 256 * 1024]);
        loop {
            let len = stdout.read(&mut block).unwrap();
            if len == 0 {
                break;
            }
            let wanted = rest.split_off(..len).expect("more came back than was sent");
            assert!(
                block[..len] == *wanted,
                "wrong data at {}",
                LEN - rest.len()
            );
        }
        assert!(rest.is_empty(), "{} bytes are missing", rest.len());
    });
    assert_eq!(child.wait_timeout(TIME).unwrap(), ExitStatus::Code(0));
}

fn our_client_with_sshd(version: Version) {
    let (key, _folder) = key();
    let start = |config: &[&str]| {
        Sshd::start(
            version,
            &SshdOptions {
                config: config.iter().map(|&line| line.to_owned()).collect(),
                authorized_keys: vec![key.public.clone()],
                ..SshdOptions::default()
            },
        )
    };
    let (patient, eager) = (start(&[]), start(&["RekeyLimit 1M"]));
    for (by, suite) in CASES {
        let sshd = if by.them() { &eager } else { &patient };
        let client = log_in(sshd, &key, |config| {
            configure(&mut config.transport, by, suite)
        });
        there_and_back(&client);
        assert_eq!(
            client.negotiated().unwrap().client_to_server.cipher.name(),
            suite.0
        );
        // Fewer than 64, since what flows during an exchange counts for none; more, since OpenSSH begins after half a MiB already.
        let rekeys = client.rekeys();
        assert!(
            (40..=200).contains(&rekeys),
            "{rekeys} exchanges, {by:?} {suite:?}"
        );
    }
}

fn ssh_with_our_server(version: Version) {
    let (key, _folder) = key();
    for (by, suite) in CASES {
        let accounts = Accounts {
            keys: vec![public_key(&key)],
            ..Accounts::default()
        };
        let server = OurServer::start(accounts, |config| {
            configure(&mut config.transport, by, suite)
        });
        let mut ssh = server.client(version).identity(&key).flag("-v");
        if by.them() {
            ssh = ssh.option("RekeyLimit", "1M");
        }
        let finished = ssh.run("cat", data(), TIME).expect_code(0);
        assert_eq!(finished.stdout.len(), LEN);
        assert!(finished.stdout == data(), "{by:?} {suite:?}");
        let log = finished.stderr_text();
        assert!(
            log.contains(&format!("server->client cipher: {}", suite.0)),
            "{log}"
        );
        let rekeys = log.matches("SSH2_MSG_NEWKEYS received").count() - 1;
        assert!(
            (40..=200).contains(&rekeys),
            "{rekeys} exchanges, {by:?} {suite:?}"
        );
    }
}

#[test]
fn our_client_and_sshd_9_2_rekey_under_load() {
    our_client_with_sshd(Version::V9_2);
}

#[test]
fn our_client_and_sshd_10_0_rekey_under_load() {
    our_client_with_sshd(Version::V10_0);
}

#[test]
fn ssh_9_2_and_our_server_rekey_under_load() {
    ssh_with_our_server(Version::V9_2);
}

#[test]
fn ssh_10_0_and_our_server_rekey_under_load() {
    ssh_with_our_server(Version::V10_0);
}

#[test]
fn one_direction_alone_rekeys_as_well() {
    const ONE_WAY: usize = 32 * MIB;
    let (key, _folder) = key();
    let accounts = Accounts {
        keys: vec![public_key(&key)],
        ..Accounts::default()
    };
    let ours = OurServer::start(accounts, |_| {});
    let upload = "test $(wc -c) = 33554432";
    let download = "head -c 33554432 /dev/zero";
    for version in all() {
        let options = SshdOptions {
            config: vec!["RekeyLimit 1M".into()],
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        };
        let theirs = Sshd::start(version, &options);
        let client = log_in(&theirs, &key, |_| {});
        let output = client
            .exec(upload)
            .input(&data()[..ONE_WAY])
            .timeout(TIME)
            .output()
            .unwrap();
        assert!(output.status.success());
        let after_upload = client.rekeys();
        let output = client.exec(download).timeout(TIME).output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), ONE_WAY);
        assert!(
            after_upload >= 10 && client.rekeys() >= after_upload + 10,
            "{after_upload}, {}",
            client.rekeys()
        );

        let ssh = ours
            .client(version)
            .identity(&key)
            .option("RekeyLimit", "1M");
        let _ = ssh.run(upload, &data()[..ONE_WAY], TIME).expect_code(0);
        assert_eq!(
            ssh.run(download, "", TIME).expect_code(0).stdout.len(),
            ONE_WAY
        );
    }
}

#[test]
fn an_idle_connection_rekeys_by_time() {
    let (key, _folder) = key();
    for version in all() {
        let options = SshdOptions {
            config: vec!["RekeyLimit default 1s".into()],
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        };
        let eager = Sshd::start(version, &options);
        let theirs = log_in(&eager, &key, |_| {});
        let ours = log_in(&eager, &key, |config| {
            config.transport.rekey.time = Some(Duration::from_millis(250));
        });
        let before = ours.session().unwrap().id;
        thread::sleep(Duration::from_millis(1_300));
        // OpenSSH looks at its clock when something comes.
        assert_eq!(theirs.exec("echo 1").output().unwrap().stdout, b"1\n");
        assert_eq!(theirs.exec("echo 2").output().unwrap().stdout, b"2\n");
        assert!(theirs.rekeys() >= 1);
        assert!(ours.rekeys() >= 3, "{}", ours.rekeys());
        assert_eq!(ours.exec("echo 3").output().unwrap().stdout, b"3\n");
        // RFC 4253 section 7.2: the session identifier stays that of the first exchange.
        assert_eq!(ours.session().unwrap().id, before);
    }
    let accounts = Accounts {
        keys: vec![public_key(&key)],
        ..Accounts::default()
    };
    let server = OurServer::start(accounts, |config| {
        config.transport.rekey.time = Some(Duration::from_millis(250));
    });
    for version in all() {
        let ssh = server.client(version).identity(&key).flag("-v");
        let finished = ssh.run("sleep 1.2; echo idle", "", TIME).expect_code(0);
        assert_eq!(finished.stdout_text(), "idle\n");
        let log = finished.stderr_text();
        assert!(
            log.matches("SSH2_MSG_NEWKEYS received").count() > 3,
            "{log}"
        );
    }
}
