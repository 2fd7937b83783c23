//! Sessions with OpenSSH, recorded through each adapter and in both roles, with every key exchange, host key and method of
//! authentication. Each is replayed at once. With `RECORD=1` they are written to `conformance/recordings`, which the test
//! `recordings` replays ever after.

mod clients;
mod rows;
mod servers;

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use conformance::ours::read_public_key;
use conformance::peers::{Askpass, KeyPair, Sshd, SshdOptions, Version};
use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::replay::{Trace, play};

use rows::{Auth, CLIENT_ROWS, Row, SERVER_ROWS};

const VERSION: Version = Version::V10_0;
/// How long anything may take.
const TIME: Duration = Duration::from_secs(60);
/// A recording that is kept is no longer than this, in bytes.
const MAX_LEN: usize = 24 * 1024;

/// A recording as it comes in.
fn sink() -> (Pieces, Whole) {
    let (sender, receiver) = channel();
    (Pieces(sender), Whole(receiver))
}

#[derive(Clone)]
struct Pieces(Sender<String>);

impl Pieces {
    fn add(&self, piece: &str) {
        // Nobody listens when the test has failed already.
        _ = self.0.send(piece.to_owned());
    }
}

struct Whole(Receiver<String>);

impl Whole {
    /// All pieces up to the last one.
    #[track_caller]
    fn text(self) -> String {
        let mut text = String::new();
        while !text.ends_with("\nend\n") {
            match self.0.recv_timeout(TIME) {
                Ok(piece) => text.push_str(&piece),
                Err(error) => panic!("{error}: the recording has no end:\n{text}"),
            }
        }
        text
    }
}

/// Replays a recording, and keeps it if it is to be kept.
#[track_caller]
fn check(name: &str, text: &str) {
    let trace = Trace::parse(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
    assert!(trace.is_whole());
    if let Err(divergence) = play(&trace, Instant::now()) {
        panic!("{name}: {divergence}\n{text}");
    }
    assert!(text.len() < MAX_LEN, "{name}: {} bytes", text.len());
    if std::env::var_os("RECORD").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("recordings")
            .join(format!("{name}.trace"));
        fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

/// What a row's user has.
struct User {
    key: Option<KeyPair>,
    _folder: tempfile::TempDir,
}

impl User {
    fn of(row: &Row) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        let key = row
            .auth
            .key()
            .map(|kind| KeyPair::generate(VERSION, kind, &path, ""));
        Self {
            key,
            _folder: folder,
        }
    }
}

fn with_sshd(adapter: &str, client: impl Fn(&Row, &User, &Sshd) -> String) {
    for row in &CLIENT_ROWS {
        let user = User::of(row);
        let mut config: Vec<String> = Vec::new();
        let lines: &[&str] = match row.auth {
            Auth::None => &["PermitEmptyPasswords yes"],
            Auth::Interactive => &["UsePAM yes", "PasswordAuthentication no"],
            Auth::TwoFactors(_) => &["AuthenticationMethods publickey,password"],
            _ => &[],
        };
        config.extend(lines.iter().map(|&line| line.to_owned()));
        let options = SshdOptions {
            config,
            host_keys: vec![row.host_key_kind()],
            authorized_keys: user.key.iter().map(|key| key.public.clone()).collect(),
            ..SshdOptions::default()
        };
        let sshd = Sshd::start(VERSION, &options);
        let text = client(row, &user, &sshd);
        check(&format!("client-{adapter}-{}", row.auth.name()), &text);
    }
}

fn with_ssh(adapter: &str, serve: impl Fn(&'static Row, Option<PublicKey>) -> servers::Running) {
    for row in &SERVER_ROWS {
        let user = User::of(row);
        let key = user.key.as_ref().map(|key| read_public_key(&key.public));
        let server = serve(row, key);
        let askpass = Askpass::new(match row.auth {
            Auth::Password => &[rows::PASSWORD],
            Auth::PasswordChange => &[
                rows::PASSWORD,
                rows::PASSWORD,
                rows::NEW_PASSWORD,
                rows::NEW_PASSWORD,
            ],
            Auth::Interactive => &["blue", "42"],
            Auth::TwoFactors(_) => &[rows::PASSWORD],
            _ => &[],
        });
        let mut ssh = conformance::peers::Ssh::new(VERSION, server.address)
            .host_key(&row.host_key().public().to_openssh(""))
            .option("KexAlgorithms", row.kex.name())
            .option("HostKeyAlgorithms", row.host_key.name())
            .option("Ciphers", row.cipher.name())
            .askpass(&askpass);
        if let Some(key) = &user.key {
            ssh = ssh.identity(key);
        }
        if row.auth == Auth::PasswordChange {
            ssh = ssh.option("PreferredAuthentications", "password");
        }
        let finished = ssh.run("greet", "", TIME).expect_code(7);
        assert_eq!(finished.stdout_text(), rows::GREETING, "{row:?}");
        let text = server.end();
        check(&format!("server-{adapter}-{}", row.auth.name()), &text);
    }
}

#[test]
fn clients_on_threads_replay_their_sessions_with_sshd() {
    with_sshd("blocking", clients::blocking);
}

#[test]
fn clients_on_tokio_replay_their_sessions_with_sshd() {
    with_sshd("tokio", clients::tokio);
}

#[test]
fn clients_on_mio_replay_their_sessions_with_sshd() {
    with_sshd("mio", clients::mio);
}

#[test]
fn servers_on_threads_replay_their_sessions_with_ssh() {
    with_ssh("blocking", servers::blocking);
}

#[test]
fn servers_on_tokio_replay_their_sessions_with_ssh() {
    with_ssh("tokio", servers::tokio);
}

#[test]
fn servers_on_mio_replay_their_sessions_with_ssh() {
    with_ssh("mio", servers::mio);
}
