//! Captures of sessions, opened by Wireshark's `tshark` with the key log of one of their sides.
//!
//! `tshark` 4.4 knows `curve25519-sha256`, and opens what is under the keys of the first exchange. It does not know strict key
//! exchange, which starts the sequence numbers anew: but for AES-GCM, which does not use them, it recognizes nothing before the
//! fourth packet each way, where its own count of them happens to be right.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conformance::capture::Tap;
use conformance::ours::{Accounts, OurServer, options, private_key};
use conformance::peers::{Askpass, KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Tshark, Version};
use ssh_blocking::ssh_proto::ClientConfig;
use ssh_blocking::ssh_proto::config::TransportConfig;
use ssh_blocking::ssh_proto::names::Preference;
use ssh_blocking::{Client, ClientOptions, ExitStatus, HostKeyPin, HostKeyPolicy};

const TIME: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse";

/// A file in memory.
#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl File {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `tshark` can open, with this cipher.
fn narrow(transport: &mut TransportConfig, cipher: &str) {
    let algorithms = &mut transport.algorithms;
    algorithms.kex = Preference::parse("curve25519-sha256").unwrap();
    algorithms.ciphers = Preference::parse(cipher).unwrap();
    algorithms.macs = Preference::parse("hmac-sha2-256").unwrap();
}

fn accounts() -> Accounts {
    Accounts {
        password: Some(PASSWORD.into()),
        ..Accounts::default()
    }
}

/// A session of our client with a server of ours: its capture, and the key log of each side.
fn session(cipher: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (of_client, of_server) = (File::default(), File::default());
    let sink = of_server.clone();
    let server = OurServer::start_with(accounts(), |_| {}, |options| options.key_log(sink));
    let tap = Tap::before(server.address());
    let mut config = ClientConfig::new();
    narrow(&mut config.transport, cipher);
    let policy = HostKeyPolicy::Pinned(vec![HostKeyPin::Key(server.host_key().clone())]);
    let options = ClientOptions::new(policy)
        .config(config)
        .key_log(of_client.clone());
    let client = Client::connect(tap.address(), options).unwrap();
    assert!(client.auth_password("alice", PASSWORD).unwrap().success());
    run(&client);
    (tap_after(client, tap), of_client.bytes(), of_server.bytes())
}

fn run(client: &Client) {
    let output = client.exec("echo of the session; exit 7").output().unwrap();
    assert_eq!(output.stdout, b"of the session\n");
    assert_eq!(output.status, ExitStatus::Code(7));
}

/// The capture of a client's connection, which ends with it.
fn tap_after(client: Client, tap: Tap) -> Vec<u8> {
    drop(client);
    tap.capture()
}

/// What `tshark` reads in a capture: all values of each of these fields, in order.
struct Opened([Vec<String>; FIELDS.len()]);

const FIELDS: [&str; 8] = [
    "ssh.cookie",
    "ssh.userauth_user_name",
    "ssh.userauth_password",
    "ssh.connection_type_name",
    "ssh.channel_request_name",
    "ssh.exit_status",
    "ssh.payload",
    "ssh.mac.status",
];

impl Opened {
    fn new(capture: &[u8], key_log: &[u8]) -> Self {
        let mut all: [Vec<String>; FIELDS.len()] = Default::default();
        let output = Tshark::find().fields(capture, key_log, &FIELDS);
        for line in output.lines() {
            for (values, new) in all.iter_mut().zip(line.split('\t')) {
                let new = new.split(',').filter(|value| !value.is_empty());
                values.extend(new.map(str::to_owned));
            }
        }
        Self(all)
    }

    #[track_caller]
    fn values(&self, field: &str) -> &[String] {
        let at = FIELDS.iter().position(|known| *known == field).unwrap();
        &self.0[at]
    }

    /// That the commands of [`run`] can be read, and that every MAC that was looked at is right.
    #[track_caller]
    fn assert_command(&self) {
        assert_eq!(
            self.values("ssh.channel_request_name"),
            ["exec", "exit-status"]
        );
        assert_eq!(self.values("ssh.exit_status"), ["0x00000007"]);
        let payloads = self.values("ssh.payload").concat();
        for text in [&b"echo of the session; exit 7"[..], b"of the session\n"] {
            assert!(payloads.contains(&hex(text)), "{payloads}");
        }
        let macs = self.values("ssh.mac.status");
        assert!(
            macs.len() >= 8 && macs.iter().all(|mac| mac == "1"),
            "{macs:?}"
        );
    }

    /// That the login can be read as well.
    #[track_caller]
    fn assert_login(&self, user: &str, passwords: &[&str]) {
        let users = self.values("ssh.userauth_user_name");
        assert!(
            !users.is_empty() && users.iter().all(|name| name == user),
            "{users:?}"
        );
        assert_eq!(self.values("ssh.userauth_password"), passwords);
        assert_eq!(self.values("ssh.connection_type_name"), ["session"]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_session_of_ours_is_opened_from_its_first_packet_on() {
    for cipher in ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"] {
        let (capture, of_client, of_server) = session(cipher);
        assert_eq!(of_client, of_server);
        let opened = Opened::new(&capture, &of_client);
        opened.assert_login("alice", &[PASSWORD]);
        opened.assert_command();
    }
}

#[test]
fn with_other_ciphers_what_follows_the_login_is_opened() {
    let others = [
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
    ];
    for cipher in others {
        let (capture, of_client, _) = session(cipher);
        Opened::new(&capture, &of_client).assert_command();
    }
}

#[test]
fn without_its_key_log_a_session_stays_closed() {
    let (capture, _, _) = session("aes128-gcm@openssh.com");
    let (_, of_another, _) = session("aes128-gcm@openssh.com");
    for key_log in [Vec::new(), of_another] {
        let opened = Opened::new(&capture, &key_log);
        for field in FIELDS {
            // What is in clear is seen: the capture itself is fine.
            let len = if field == "ssh.cookie" { 2 } else { 0 };
            // Before the keys are in force there is one payload and no MAC: what is taken for one is of no use.
            if field != "ssh.payload" {
                assert_eq!(opened.values(field).len(), len, "{field}");
            }
        }
        let payloads = opened.values("ssh.payload").concat();
        assert!(!payloads.contains(&hex(PASSWORD.as_bytes())));
    }
}

#[test]
fn our_clients_session_with_openssh_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let version = Version::V10_0;
    let key = KeyPair::generate(version, KeyKind::Ed25519, &folder.path().join("id"), "");
    let sshd = Sshd::start(
        version,
        &SshdOptions {
            // tshark's dissector of `hostkeys-00@openssh.com` stumbles over every other kind, and the rest of what the
            // server says stays closed then.
            host_keys: vec![KeyKind::Rsa],
            authorized_keys: vec![key.public.clone()],
            ..SshdOptions::default()
        },
    );
    let tap = Tap::before(sshd.address());
    let mut config = ClientConfig::new();
    narrow(&mut config.transport, "aes256-gcm@openssh.com");
    let key_log = File::default();
    let options = options(&sshd, config).key_log(key_log.clone());
    let client = Client::connect(tap.address(), options).unwrap();
    let outcome = client.auth_public_key(Sshd::USER, private_key(&key));
    assert!(outcome.unwrap().success(), "{}", sshd.log());
    run(&client);
    let capture = tap_after(client, tap);
    let opened = Opened::new(&capture, &key_log.bytes());
    opened.assert_login(Sshd::USER, &[]);
    opened.assert_command();
}

#[test]
fn openssh_clients_session_with_our_server_is_opened() {
    let key_log = File::default();
    let sink = key_log.clone();
    let server = OurServer::start_with(
        accounts(),
        |config| narrow(&mut config.transport, "aes128-gcm@openssh.com"),
        |options| options.key_log(sink),
    );
    let tap = Tap::before(server.address());
    let askpass = Askpass::new(&[PASSWORD]);
    let finished = openssh(tap.address(), &askpass);
    assert_eq!(finished, "of the session\n");
    let capture = tap.capture();
    let opened = Opened::new(&capture, &key_log.bytes());
    opened.assert_login("alice", &[PASSWORD]);
    opened.assert_command();
}

fn openssh(address: SocketAddr, askpass: &Askpass) -> String {
    Ssh::new(Version::V10_0, address)
        .user("alice")
        .option("PreferredAuthentications", "password")
        .askpass(askpass)
        .run("echo of the session; exit 7", "", TIME)
        .expect_code(7)
        .stdout_text()
}
