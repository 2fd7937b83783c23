//! The examples `sshd`, `sshd-tokio` and `ssh` as processes.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::peers::{
    Finished, KeyKind, KeyPair, Ssh, Sshd, Version, descendants, run_with_timeout, signal, watch,
};

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);

/// The executable of an example, built in the same profile as this program.
///
/// # Panics
/// If it was not built.
#[must_use]
#[track_caller]
pub fn example(name: &str) -> PathBuf {
    let this =
        env::current_exe().unwrap_or_else(|error| panic!("no path of this program: {error}"));
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("examples").join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("the example {name} is not built: `cargo test --workspace` does it, or `cargo build -p ssh-blocking --examples`")
        })
}

/// A command without anything of the user's in its environment.
fn plain(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", home)
        .env("SHELL", "/bin/sh");
    if let Some(path) = env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// The running example `sshd`. Dropping it kills it and the commands below it; if this process dies first, a watchdog does.
#[derive(Debug)]
pub struct SshdExample {
    address: SocketAddr,
    host_keys: Vec<KeyPair>,
    server: Child,
    watchdog: Child,
    folder: TempDir,
}

impl SshdExample {
    /// Starts a server on a free port, with host keys of these kinds, that lets these keys in, and waits until it listens.
    /// `arguments` are added to its own.
    ///
    /// # Panics
    /// If it does not come to that.
    #[must_use]
    #[track_caller]
    pub fn start(host_keys: &[KeyKind], authorized: &[&KeyPair], arguments: &[&str]) -> Self {
        Self::start_program("sshd", host_keys, authorized, arguments)
    }

    /// The same with another example that takes these arguments, such as `sshd-tokio`.
    ///
    /// # Panics
    /// If it does not come to that.
    #[must_use]
    #[track_caller]
    pub fn start_program(
        program: &str,
        host_keys: &[KeyKind],
        authorized: &[&KeyPair],
        arguments: &[&str],
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("our-sshd-")
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let dir = folder.path();
        let host_keys: Vec<_> = host_keys
            .iter()
            .enumerate()
            .map(|(index, &kind)| {
                let path = dir.join(format!("host_key.{index}"));
                KeyPair::generate(Version::V10_0, kind, &path, "")
            })
            .collect();
        let authorized: String = authorized
            .iter()
            .map(|key| format!("{} somebody\n", key.public))
            .collect();
        fs::write(dir.join("authorized_keys"), authorized)
            .and_then(|()| fs::create_dir(dir.join("home")))
            .unwrap_or_else(|error| panic!("cannot write to {}: {error}", dir.display()));
        let mut command = plain(&example(program), &dir.join("home"));
        command.args(["--port", "0", "--authorized-keys"]);
        command.arg(dir.join("authorized_keys"));
        for key in &host_keys {
            command.arg("--host-key").arg(&key.path);
        }
        let mut server = command
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let watchdog = watch(&server);
        let address = listening(&mut server);
        let mut this = Self {
            address: SocketAddr::from(([0; 4], 0)),
            host_keys,
            server,
            watchdog,
            folder,
        };
        let Some(address) = address else {
            let status = this.server.try_wait();
            panic!("the example {program} does not say where it listens; its status: {status:?}");
        };
        this.address = address;
        this
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its host keys, in the order in which they were asked for.
    #[must_use]
    pub fn host_keys(&self) -> &[KeyPair] {
        &self.host_keys
    }

    /// The folder that its commands start in.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// OpenSSH's client for it, which takes its host keys only.
    #[must_use]
    pub fn client(&self, version: Version) -> Ssh {
        self.host_keys
            .iter()
            .fold(Ssh::new(version, self.address), |client, key| {
                client.host_key(&key.public)
            })
    }
}

/// The address that a server prints.
fn listening(server: &mut Child) -> Option<SocketAddr> {
    let stdout = server.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // The other side stops waiting when nothing comes.
        if BufReader::new(stdout).read_line(&mut line).is_ok() {
            _ = sender.send(line);
        }
    });
    let line = receiver.recv_timeout(START).ok()?;
    line.trim_end().strip_prefix("listening on ")?.parse().ok()
}

impl Drop for SshdExample {
    fn drop(&mut self) {
        let below: Vec<_> = descendants(self.server.id())
            .into_iter()
            .map(i64::from)
            .collect();
        for child in [&mut self.watchdog, &mut self.server] {
            // Both fail only for a child that has ended and was waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
        signal("KILL", &below);
    }
}

/// A call of the example `ssh` that is being put together.
#[derive(Debug)]
pub struct SshExample {
    program: &'static str,
    address: SocketAddr,
    arguments: Vec<OsString>,
    folder: TempDir,
}

impl SshExample {
    /// A client for a server with this host key.
    ///
    /// # Panics
    /// If there is no room for its temporary folder.
    #[must_use]
    pub fn new(address: SocketAddr, host_key: &KeyPair) -> Self {
        let fingerprint = super::public_key(host_key).fingerprint_sha256();
        Self::unpinned(address).option("HostKeyFingerprint", &fingerprint)
    }

    /// A client for `sshd`, with its first host key.
    #[must_use]
    pub fn for_sshd(sshd: &Sshd) -> Self {
        let algorithm = sshd.host_keys()[0].kind.algorithms()[0];
        Self::new(sshd.address(), &sshd.host_keys()[0]).option("HostKeyAlgorithms", algorithm)
    }

    /// The example `forward` for `sshd`, with all its host keys.
    #[must_use]
    pub fn forward(sshd: &Sshd) -> Self {
        let mut this = Self::unpinned(sshd.address());
        this.program = "forward";
        sshd.host_keys().iter().fold(this, |this, key| {
            let fingerprint = super::public_key(key).fingerprint_sha256();
            this.option("HostKeyFingerprint", &fingerprint)
        })
    }

    /// A client that was not told which host key to take.
    ///
    /// # Panics
    /// If there is no room for its temporary folder.
    #[must_use]
    pub fn unpinned(address: SocketAddr) -> Self {
        Self {
            program: "ssh",
            address,
            arguments: ["-l", Sshd::USER].map(OsString::from).to_vec(),
            folder: tempfile::tempdir()
                .unwrap_or_else(|error| panic!("no temporary folder: {error}")),
        }
    }

    /// An argument before the destination.
    #[must_use]
    pub fn flag(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// `-o name=value`.
    #[must_use]
    pub fn option(self, name: &str, value: &str) -> Self {
        self.flag("-o").flag(&format!("{name}={value}"))
    }

    /// Offers this key.
    #[must_use]
    pub fn identity(mut self, key: &KeyPair) -> Self {
        self.arguments
            .extend(["-i".into(), key.path.clone().into()]);
        self
    }

    /// The command that runs `remote`, or a shell if it is empty. This value has to live until it has ended.
    #[must_use]
    pub fn command(&self, remote: &str) -> Command {
        let mut command = plain(&example(self.program), self.folder.path());
        command
            .arg("-p")
            .arg(self.address.port().to_string())
            .args(&self.arguments)
            .arg(self.address.ip().to_string());
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
}
