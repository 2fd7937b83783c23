//! PuTTY's client for the command line, which reads nothing of the user's.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::write;
use super::{
    Finished, KeyPair, Sshd, command_in, run_with_answers, run_with_timeout, unpacked,
    without_terminal,
};

fn command(program: &str) -> Command {
    command_in(&unpacked("putty-0.78"), program)
}

/// A private key in PuTTY's own format.
#[derive(Clone, Debug)]
pub struct PuttyKey {
    /// The file.
    pub path: PathBuf,
}

impl PuttyKey {
    /// Writes a key that has no passphrase into the new file `path`.
    ///
    /// # Panics
    /// If `puttygen` fails.
    #[must_use]
    #[track_caller]
    pub fn convert(key: &KeyPair, path: &Path) -> Self {
        let mut command = command("usr/bin/puttygen");
        command.arg(&key.path).arg("-o").arg(path);
        let _ = run_with_timeout(command, "", Duration::from_secs(60)).expect_code(0);
        Self {
            path: path.to_owned(),
        }
    }
}

/// A call of `plink` that is being put together. The files it names live as long as this value.
#[derive(Debug)]
pub struct Plink {
    address: SocketAddr,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Plink {
    /// The saved session that the calls start from.
    const SESSION: &str = "conformance";

    /// A client for the server at `address`, as the user of [`Sshd`], that takes the host key of this fingerprint
    /// (`SHA256:..`) and no other.
    ///
    /// # Panics
    /// If there is no room for its temporary folder.
    #[must_use]
    pub fn new(address: SocketAddr, fingerprint: &str) -> Self {
        let folder =
            tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let this = Self {
            address,
            arguments: ["-hostkey", fingerprint].map(str::to_owned).to_vec(),
            folder,
        };
        this.setting("Protocol", "ssh")
    }

    /// A line of the saved session: what no argument can say.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn setting(self, name: &str, value: &str) -> Self {
        let folder = self.folder.path().join("sessions");
        fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let path = folder.join(Self::SESSION);
        let before = fs::read_to_string(&path).unwrap_or_default();
        write(&path, &format!("{before}{name}={value}\n"));
        self
    }

    /// Offers this key.
    #[must_use]
    pub fn identity(self, key: &PuttyKey) -> Self {
        let path = key.path.display().to_string();
        self.flag("-i").flag(&path)
    }

    /// An argument before the destination: `-v`, `-pw`, `-N`, ..
    #[must_use]
    pub fn flag(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The command that runs `remote` on the server, or a shell there if it is empty. This value has to live until it has ended.
    #[must_use]
    pub fn command(&self, remote: &str) -> Command {
        let mut command = command("usr/bin/plink");
        command
            .env("PUTTYDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .args(["-load", Self::SESSION, "-noagent", "-no-antispoof"])
            .args(["-P", &self.address.port().to_string(), "-l", Sshd::USER])
            .args(&self.arguments)
            .arg(self.address.ip().to_string());
        if !remote.is_empty() {
            command.arg(remote);
        }
        command
    }

    /// Runs `remote` with `input`; see [`run_with_timeout`]. It has no terminal to ask on.
    #[must_use]
    #[track_caller]
    pub fn run(&self, remote: &str, input: impl Into<Vec<u8>>, timeout: Duration) -> Finished {
        run_with_timeout(without_terminal(&self.command(remote)), input, timeout)
    }

    /// Runs `remote` and answers what it asks; see [`run_with_answers`].
    #[must_use]
    #[track_caller]
    pub fn run_answering(
        &self,
        remote: &str,
        answers: &[(&str, &str)],
        timeout: Duration,
    ) -> Finished {
        run_with_answers(without_terminal(&self.command(remote)), answers, timeout)
    }
}
