//! OpenSSH's server in a temporary folder, on a free port of loopback, with an account of its own.
//!
//! It wants the system user `sshd` when started as root, which its accounts have, and the folder /run/sshd, which is made if missing.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::daemon::{Account, Daemon, free_address, lines, read_log, write};
use super::{KeyKind, KeyPair, ServerPeer, Ssh, Version};

/// How often another port is tried when somebody took the one that was free.
const ATTEMPTS: usize = 5;

/// What is to be different from a plain server that knows one account.
#[derive(Clone, Debug)]
pub struct SshdOptions {
    /// Lines for `sshd_config`. They come before the server's own, so they win; from the first `Match` on they come last.
    ///
    /// `UsePAM yes` adds keyboard-interactive: one round that asks for the password, checked by the machine's PAM.
    pub config: Vec<String>,
    /// The host keys to make, in this order. One Ed25519 key unless said otherwise.
    pub host_keys: Vec<KeyKind>,
    /// Lines of the account's `authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// When this process is root's, the account is an ordinary user all the same. `sshd` passes signals on to such users' commands
    /// only, but a session then reaches nothing that only root may read.
    pub ordinary_user: bool,
}

impl Default for SshdOptions {
    fn default() -> Self {
        Self {
            config: Vec::new(),
            host_keys: vec![KeyKind::Ed25519],
            authorized_keys: Vec::new(),
            ordinary_user: false,
        }
    }
}

/// A running server. Dropping it kills it, its sessions and their commands; if this process dies first, a watchdog kills the server.
#[derive(Debug)]
pub struct Sshd {
    version: Version,
    address: SocketAddr,
    host_keys: Vec<KeyPair>,
    server: Daemon,
    folder: TempDir,
}

impl Sshd {
    /// The account's name. Its user id is that of this process (but see [`SshdOptions::ordinary_user`]), its home folder is [`Sshd::home`], its shell is `/bin/sh`.
    pub const USER: &str = Account::USER;

    /// The account's password.
    pub const PASSWORD: &str = Account::PASSWORD;

    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    /// If it does not come to that; the message has its log.
    #[must_use]
    #[track_caller]
    pub fn start(version: Version, options: &SshdOptions) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("sshd-")
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let dir = folder.path();
        Account::write(dir, options.ordinary_user);
        make_run_folder();
        write(
            &dir.join("authorized_keys"),
            &lines(&options.authorized_keys),
        );
        let host_keys: Vec<_> = options
            .host_keys
            .iter()
            .enumerate()
            .map(|(index, &kind)| {
                KeyPair::generate(version, kind, &dir.join(format!("host_key.{index}")), "")
            })
            .collect();
        let mut last_log = String::new();
        for _ in 0..ATTEMPTS {
            let address = free_address();
            write(
                &dir.join("sshd_config"),
                &config(version, dir, address, &host_keys, &options.config),
            );
            let mut server = spawn(version, dir);
            let said = format!(
                "Server listening on {} port {}.",
                address.ip(),
                address.port()
            );
            if server.comes_up(|| read_log(dir).contains(&said)) {
                return Self {
                    version,
                    address,
                    host_keys,
                    server,
                    folder,
                };
            }
            drop(server);
            last_log = read_log(dir);
            if !last_log.contains("Address already in use") {
                break;
            }
        }
        panic!("sshd {version} does not start:\n{last_log}");
    }

    /// Its release.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process; those of the sessions are below it (see `descendants`).
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its host keys, in the order of [`SshdOptions::host_keys`].
    #[must_use]
    pub fn host_keys(&self) -> &[KeyPair] {
        &self.host_keys
    }

    /// Its temporary folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The account's home folder, where commands start.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        Account::home(self.folder.path())
    }

    /// A client for it that takes its host keys only.
    #[must_use]
    pub fn client(&self, version: Version) -> Ssh {
        let client = Ssh::new(version, self.address).user(Self::USER);
        self.host_keys
            .iter()
            .fold(client, |client, key| client.host_key(&key.public))
    }

    /// What it has logged so far, at `LogLevel VERBOSE` unless its options say otherwise.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// Waits until the log contains `text`.
    ///
    /// # Panics
    /// If that takes longer than `timeout`; the message has the log.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.log().contains(text) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} in the log of sshd {}:\n{}",
                self.version,
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn spawn(version: Version, dir: &Path) -> Daemon {
    let mut command = version.command("usr/sbin/sshd");
    command
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"));
    Account::wrap(&mut command, &version.path("libs/libnss_wrapper.so"), dir);
    Daemon::start(command, dir)
}

/// `sshd` started as root does without nothing less.
fn make_run_folder() {
    if rustix::process::geteuid().is_root() {
        match DirBuilder::new().mode(0o755).create("/run/sshd") {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                panic!("cannot make /run/sshd: {error}")
            }
            _ => {}
        }
    }
}

fn config(
    version: Version,
    dir: &Path,
    address: SocketAddr,
    host_keys: &[KeyPair],
    extra: &[String],
) -> String {
    let first_match = extra
        .iter()
        .position(|line| line.trim_start().to_ascii_lowercase().starts_with("match "));
    let (general, conditional) = extra.split_at(first_match.unwrap_or(extra.len()));
    let mut config = general.to_vec();
    config.extend([
        format!("ListenAddress {}", address.ip()),
        format!("Port {}", address.port()),
        format!(
            "AuthorizedKeysFile {}",
            dir.join("authorized_keys").display()
        ),
        "PidFile none".to_owned(),
        "LogLevel VERBOSE".to_owned(),
        "UsePAM no".to_owned(),
        "UseDNS no".to_owned(),
        "StrictModes no".to_owned(),
        "PermitRootLogin yes".to_owned(),
        "PasswordAuthentication yes".to_owned(),
        "PrintMotd no".to_owned(),
        "PrintLastLog no".to_owned(),
        "MaxStartups 1000".to_owned(),
        format!("ModuliFile {}", version.path("etc/ssh/moduli").display()),
    ]);
    config.extend(
        host_keys
            .iter()
            .map(|key| format!("HostKey {}", key.path.display())),
    );
    if !general.iter().any(|line| {
        line.trim_start()
            .to_ascii_lowercase()
            .starts_with("subsystem sftp")
    }) {
        // A session's environment is made afresh, so the program is told where its libraries are.
        let libraries = version.libraries();
        let program = version.path("usr/lib/openssh/sftp-server");
        config.push(format!(
            "Subsystem sftp /usr/bin/env LD_LIBRARY_PATH={} {}",
            libraries.display(),
            program.display()
        ));
    }
    if version == Version::V10_0 {
        config.extend([
            format!(
                "SshdSessionPath {}",
                version.path("usr/lib/openssh/sshd-session").display()
            ),
            format!(
                "SshdAuthPath {}",
                version.path("usr/lib/openssh/sshd-auth").display()
            ),
            // Failed logins are what some tests are about; all come from the same address.
            "PerSourcePenalties no".to_owned(),
        ]);
    }
    config.extend_from_slice(conditional);
    lines(&config)
}

impl ServerPeer for Sshd {
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
