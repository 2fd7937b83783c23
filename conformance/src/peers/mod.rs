//! Processes of other implementations on loopback, for tests and benchmarks.
//!
//! `conformance/test` unpacks the peers into a cache folder; nothing is installed. This module finds them there and starts them:
//! [`Sshd`] is OpenSSH's server in a folder of its own, [`Ssh`] its client that reads nothing of the user's, [`Askpass`] answers its
//! questions, [`KeyPair`] is made by `ssh-keygen`; [`Dropbear`] and [`Dbclient`] are the same of Dropbear; [`Actor`] is a
//! program of ours around a peer that is a library, and does both; [`run_with_timeout`] ends
//! every process in time. It all works as root and as anybody else.
//!
//! These are tools for tests: they panic, with the log of the process concerned, instead of returning errors.

mod actor;
mod daemon;
mod dropbear;
mod keys;
mod putty;
mod run;
mod ssh;
mod sshd;
mod tshark;

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use actor::{Actor, ActorServer, ActorSession, Answer};
pub(crate) use daemon::watch;
pub use dropbear::{Dbclient, Dropbear, DropbearKey, DropbearOptions};
pub use keys::{KeyKind, KeyPair};
pub use putty::{Plink, PuttyKey};
use run::without_terminal;
pub use run::{Finished, Running, descendants, run_with_answers, run_with_timeout, signal};
pub use ssh::{Askpass, Ssh};
pub use sshd::{Sshd, SshdOptions};
pub use tshark::Tshark;

/// A release of OpenSSH that the tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// OpenSSH 9.2, of Debian bookworm.
    V9_2,
    /// OpenSSH 10.0, of bookworm-backports: ML-KEM, `ping@openssh.com`, the server in three programs.
    V10_0,
}

/// A server of another implementation, whose account is [`Sshd::USER`] with [`Sshd::PASSWORD`].
pub trait ServerPeer {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// The public lines of its host keys.
    fn host_key_lines(&self) -> Vec<String>;
    /// What it has said so far, for the messages of failed tests.
    fn log(&self) -> String;
}

/// Every release, oldest first.
#[must_use]
pub const fn all() -> [Version; 2] {
    [Version::V9_2, Version::V10_0]
}

/// The names that `ssh -Q what` prints, in its order: `kex`, `cipher`, `mac`, `key`, `key-sig`, `HostKeyAlgorithms`, ..
///
/// # Panics
/// If this `ssh` does not know `what`.
#[must_use]
pub fn query(version: Version, what: &str) -> Vec<String> {
    let mut command = version.command("usr/bin/ssh");
    command.args(["-Q", what]);
    run_with_timeout(command, Vec::new(), Duration::from_secs(30))
        .expect_code(0)
        .stdout_text()
        .lines()
        .map(str::to_owned)
        .collect()
}

impl Version {
    /// The folder that this release is unpacked in.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn root(self) -> PathBuf {
        unpacked(&format!("openssh-{self}"))
    }

    /// The absolute path of one of its files, given from its root: `usr/sbin/sshd`.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn path(self, file: &str) -> PathBuf {
        file_in(&self.root(), file)
    }

    /// A command for one of its programs, which finds the libraries that came with it. The environment is empty but for `PATH`,
    /// so neither an agent nor an askpass program of the user's is asked.
    #[must_use]
    pub fn command(self, program: &str) -> Command {
        command_in(&self.root(), program)
    }

    /// What `LD_LIBRARY_PATH` has to be for its programs.
    #[must_use]
    pub fn libraries(self) -> PathBuf {
        self.path("libs")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V9_2 => "9.2",
            Self::V10_0 => "10.0",
        })
    }
}

/// The folder of the cache that a peer is unpacked in.
#[track_caller]
fn unpacked(name: &str) -> PathBuf {
    let root = cache().join(name);
    assert!(
        root.join(".stamp").is_file(),
        "{} is not there: run `conformance/test` (or `conformance/test --fetch-only`)",
        root.display()
    );
    root
}

#[track_caller]
fn file_in(root: &Path, file: &str) -> PathBuf {
    let path = root.join(file);
    assert!(path.exists(), "there is no {file} in {}", root.display());
    path
}

/// A command for a program of the peer in `root`, with its libraries, and nothing else but `PATH` in its environment.
#[track_caller]
fn command_in(root: &Path, program: &str) -> Command {
    let mut command = Command::new(file_in(root, program));
    command
        .env_clear()
        .env("LD_LIBRARY_PATH", file_in(root, "libs"));
    if let Some(path) = env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Where `conformance/test` puts the peers: the same rule as there.
fn cache() -> PathBuf {
    let folder = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("CONFORMANCE_PEERS")
        .or_else(|| folder("CONFORMANCE_CACHE"))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("ssh-conformance")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/ssh-conformance")))
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"))
}
