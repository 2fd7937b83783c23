//! Dropbear: its server in a temporary folder on a free port of loopback, and its client, which reads nothing of the user's.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::{Account, Daemon, free_address, lines, read_log, write};
use super::{
    Finished, KeyKind, ServerPeer, command_in, file_in, run_with_timeout, unpacked,
    without_terminal,
};

/// The release of Debian bookworm.
const FOLDER: &str = "dropbear-2022.83";

/// How often another port is tried when somebody took the one that was free.
const ATTEMPTS: usize = 5;

fn command(program: &str) -> Command {
    command_in(&unpacked(FOLDER), program)
}

/// A private key in Dropbear's own format, and its public half.
#[derive(Clone, Debug)]
pub struct DropbearKey {
    /// What it is.
    pub kind: KeyKind,
    /// The private key's file.
    pub path: PathBuf,
    /// The public key's line without a comment: `ssh-ed25519 AAAA..`.
    pub public: String,
}

impl DropbearKey {
    /// Makes a key in the new file `path`.
    ///
    /// # Panics
    /// If `dropbearkey` fails.
    #[must_use]
    #[track_caller]
    pub fn generate(kind: KeyKind, path: &Path) -> Self {
        let arguments: &[&str] = match kind {
            KeyKind::Ed25519 => &["-t", "ed25519"],
            KeyKind::EcdsaP256 => &["-t", "ecdsa", "-s", "256"],
            KeyKind::EcdsaP384 => &["-t", "ecdsa", "-s", "384"],
            KeyKind::EcdsaP521 => &["-t", "ecdsa", "-s", "521"],
            KeyKind::Rsa => &["-t", "rsa", "-s", "2048"],
        };
        let mut command = command("usr/bin/dropbearkey");
        command.args(arguments).arg("-f").arg(path);
        let said = run_with_timeout(command, "", Duration::from_secs(60))
            .expect_code(0)
            .stdout_text();
        let line = said
            .lines()
            .find(|line| line.starts_with(kind.name()))
            .unwrap_or_else(|| panic!("no public key in {said:?}"));
        Self {
            kind,
            path: path.to_owned(),
            public: line
                .split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// What is to be different from a plain server that knows one account.
#[derive(Clone, Debug)]
pub struct DropbearOptions {
    /// Arguments for the server, which come last.
    pub arguments: Vec<String>,
    /// The host keys to make, four at most and one of each kind. An Ed25519 key unless said otherwise.
    pub host_keys: Vec<KeyKind>,
    /// Lines of the account's `authorized_keys`.
    pub authorized_keys: Vec<String>,
}

impl Default for DropbearOptions {
    fn default() -> Self {
        Self {
            arguments: Vec::new(),
            host_keys: vec![KeyKind::Ed25519],
            authorized_keys: Vec::new(),
        }
    }
}

/// A running server. Dropping it kills it, its sessions and their commands; if this process dies first, a watchdog kills the server.
#[derive(Debug)]
pub struct Dropbear {
    address: SocketAddr,
    host_keys: Vec<DropbearKey>,
    // Ends before its folder goes.
    _server: Daemon,
    folder: TempDir,
}

impl Dropbear {
    /// The account's name: the same as that of [`Sshd`](super::Sshd).
    pub const USER: &str = Account::USER;

    /// The account's password.
    pub const PASSWORD: &str = Account::PASSWORD;

    /// Another account, whose password is empty.
    pub const OPEN_USER: &str = Account::OPEN_USER;

    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    /// If it does not come to that; the message has its log.
    #[must_use]
    #[track_caller]
    pub fn start(options: &DropbearOptions) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("dropbear-")
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let dir = folder.path();
        Account::write(dir, false);
        let ssh = Account::home(dir).join(".ssh");
        DirBuilder::new()
            .mode(0o700)
            .create(&ssh)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", ssh.display()));
        write(
            &ssh.join("authorized_keys"),
            &lines(&options.authorized_keys),
        );
        let host_keys: Vec<_> = options
            .host_keys
            .iter()
            .map(|&kind| {
                DropbearKey::generate(kind, &dir.join(format!("host_key.{}", kind.name())))
            })
            .collect();
        for _ in 0..ATTEMPTS {
            let address = free_address();
            let mut server = spawn(dir, address, &host_keys, &options.arguments);
            // The file is written once it listens.
            if server.comes_up(|| dir.join("pid").exists()) {
                return Self {
                    address,
                    host_keys,
                    _server: server,
                    folder,
                };
            }
            drop(server);
            if !read_log(dir).contains("Address already in use") {
                break;
            }
        }
        panic!("dropbear does not start:\n{}", read_log(dir));
    }
}

fn spawn(
    dir: &Path,
    address: SocketAddr,
    host_keys: &[DropbearKey],
    arguments: &[String],
) -> Daemon {
    let mut command = command("usr/sbin/dropbear");
    // In the foreground, logging to standard error.
    command.args(["-F", "-E", "-p"]).arg(address.to_string());
    command.arg("-P").arg(dir.join("pid"));
    for key in host_keys {
        command.arg("-r").arg(&key.path);
    }
    command.args(arguments);
    let wrapper = file_in(&unpacked(FOLDER), "libs/libnss_wrapper.so");
    Account::wrap(&mut command, &wrapper, dir);
    Daemon::start(command, dir)
}

/// A call of `dbclient` that is being put together. The files it names live as long as this value.
#[derive(Debug)]
pub struct Dbclient {
    address: SocketAddr,
    arguments: Vec<String>,
    host_keys: Vec<String>,
    password: Option<String>,
    folder: TempDir,
}

impl Dbclient {
    /// A client for the server at `address`, as the user `tester`, that takes this host key (a public key's line) and no other.
    ///
    /// # Panics
    /// If there is no room for its temporary folder.
    #[must_use]
    pub fn new(address: SocketAddr, host_key: &str) -> Self {
        Self {
            address,
            arguments: Vec::new(),
            host_keys: vec![host_key.to_owned()],
            password: None,
            folder: tempfile::tempdir()
                .unwrap_or_else(|error| panic!("no temporary folder: {error}")),
        }
    }

    /// Offers this key.
    #[must_use]
    pub fn identity(self, key: &DropbearKey) -> Self {
        let path = key.path.display().to_string();
        self.flag("-i").flag(&path)
    }

    /// Gives this password whenever it would ask the user for something secret.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// An argument before the destination.
    #[must_use]
    pub fn flag(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The command that runs `remote` on the server, or a shell there if it is empty. This value has to live until it has ended.
    ///
    /// # Panics
    /// If its file of known hosts cannot be written.
    #[must_use]
    pub fn command(&self, remote: &str) -> Command {
        let (ip, port) = (self.address.ip(), self.address.port());
        let ssh = self.folder.path().join(".ssh");
        let known_hosts: Vec<_> = self
            .host_keys
            .iter()
            .map(|key| format!("{ip} {key}"))
            .collect();
        fs::create_dir_all(&ssh)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", ssh.display()));
        write(&ssh.join("known_hosts"), &lines(&known_hosts));
        let mut command = command("usr/bin/dbclient");
        command
            .env("HOME", self.folder.path())
            .args(["-p", &port.to_string(), "-l", Account::USER])
            .args(&self.arguments)
            .arg(ip.to_string());
        if let Some(password) = &self.password {
            command.env("DROPBEAR_PASSWORD", password);
        }
        if !remote.is_empty() {
            command.arg(remote);
        }
        command
    }

    /// Runs `remote` with `input`; see [`run_with_timeout`].
    #[must_use]
    #[track_caller]
    pub fn run(&self, remote: &str, input: impl Into<Vec<u8>>, timeout: Duration) -> Finished {
        run_with_timeout(self.command(remote), input, timeout)
    }

    /// The same in a session without a terminal: what it asks is read from its standard input.
    #[must_use]
    #[track_caller]
    pub fn run_detached(
        &self,
        remote: &str,
        input: impl Into<Vec<u8>>,
        timeout: Duration,
    ) -> Finished {
        run_with_timeout(without_terminal(&self.command(remote)), input, timeout)
    }
}

impl ServerPeer for Dropbear {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn host_key_lines(&self) -> Vec<String> {
        self.host_keys
            .iter()
            .map(|key| key.public.clone())
            .collect()
    }

    fn log(&self) -> String {
        read_log(self.folder.path())
    }
}
