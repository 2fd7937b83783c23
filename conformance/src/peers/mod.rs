//! Real OpenSSH processes on loopback, for tests and benchmarks.
//!
//! `conformance/test` unpacks the peers into a cache folder; nothing is installed. This module finds them there and starts them:
//! [`Sshd`] is a server in a folder of its own, [`Ssh`] a client that reads nothing of the user's, [`Askpass`] answers its questions,
//! [`KeyPair`] is made by `ssh-keygen`, [`run_with_timeout`] ends every process in time. It all works as root and as anybody else.
//!
//! These are tools for tests: they panic, with the log of the process concerned, instead of returning errors.

mod keys;
mod run;
mod ssh;
mod sshd;

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use keys::{KeyKind, KeyPair};
pub use run::{Finished, descendants, run_with_timeout, signal};
pub use ssh::{Askpass, Ssh};
pub(crate) use sshd::watch;
pub use sshd::{Sshd, SshdOptions};

/// A release of OpenSSH that the tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// OpenSSH 9.2, of Debian bookworm.
    V9_2,
    /// OpenSSH 10.0, of bookworm-backports: ML-KEM, `ping@openssh.com`, the server in three programs.
    V10_0,
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
        let root = cache().join(format!("openssh-{self}"));
        assert!(
            root.join(".stamp").is_file(),
            "OpenSSH {self} is not in {}: run `conformance/test` (or `conformance/test --fetch-only`)",
            root.display()
        );
        root
    }

    /// The absolute path of one of its files, given from its root: `usr/sbin/sshd`.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn path(self, file: &str) -> PathBuf {
        let path = self.root().join(file);
        assert!(
            path.exists(),
            "OpenSSH {self} has no {file} in {}",
            self.root().display()
        );
        path
    }

    /// A command for one of its programs, which finds the libraries that came with it. The environment is empty but for `PATH`,
    /// so neither an agent nor an askpass program of the user's is asked.
    #[must_use]
    pub fn command(self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command.env_clear().env("LD_LIBRARY_PATH", self.libraries());
        if let Some(path) = env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
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
