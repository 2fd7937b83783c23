//! OpenSSH's client, cut off from the user's own configuration, keys, known hosts and agent.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{Finished, KeyPair, Version, run_with_timeout};

/// A call of `ssh` that is being put together. The files it names live as long as this value.
///
/// What it asks of the user fails at once (`BatchMode`), unless [`Ssh::askpass`] gives answers. It writes errors only to its standard
/// error, unless `-v` or `LogLevel` says otherwise.
#[derive(Debug)]
pub struct Ssh {
    version: Version,
    address: SocketAddr,
    user: String,
    flags: Vec<OsString>,
    host_keys: Vec<String>,
    identities: bool,
    askpass: Option<OsString>,
    folder: TempDir,
}

impl Ssh {
    /// A client of release `version` for the server at `address`. The user's name is `tester` and any host key is taken.
    ///
    /// # Panics
    /// If there is no room for its temporary folder.
    #[must_use]
    pub fn new(version: Version, address: SocketAddr) -> Self {
        Self {
            version,
            address,
            user: "tester".to_owned(),
            flags: Vec::new(),
            host_keys: Vec::new(),
            identities: false,
            askpass: None,
            folder: tempfile::tempdir()
                .unwrap_or_else(|error| panic!("no temporary folder: {error}")),
        }
    }

    /// The name to log in with.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        name.clone_into(&mut self.user);
        self
    }

    /// Takes this host key (a public key's line) and others given so, none else.
    #[must_use]
    pub fn host_key(mut self, public: &str) -> Self {
        self.host_keys.push(public.to_owned());
        self
    }

    /// Offers this key.
    #[must_use]
    pub fn identity(mut self, key: &KeyPair) -> Self {
        self.identities = true;
        self.flags.extend(["-i".into(), key.path.clone().into()]);
        self
    }

    /// `-o name=value`, before the options that this type sets: the first one counts.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.flags
            .extend(["-o".into(), format!("{name}={value}").into()]);
        self
    }

    /// An argument before the destination: `-tt`, `-v`, `-N`, `-s`, ..
    #[must_use]
    pub fn flag(mut self, argument: &str) -> Self {
        self.flags.push(argument.into());
        self
    }

    /// Answers its questions (passwords, passphrases, prompts) with `askpass`, which must outlive the call.
    #[must_use]
    pub fn askpass(mut self, askpass: &Askpass) -> Self {
        self.askpass = Some(askpass.program().into());
        self
    }

    /// The command that runs `remote` on the server, or a shell there if it is empty. For callers that start it in their own way;
    /// this value has to live until it has ended.
    ///
    /// # Panics
    /// If its file of known hosts cannot be written.
    #[must_use]
    pub fn command(&self, remote: &str) -> Command {
        let known_hosts = self.folder.path().join("known_hosts");
        let (ip, port) = (self.address.ip(), self.address.port());
        let lines: String = self
            .host_keys
            .iter()
            .map(|key| format!("[{ip}]:{port} {key}\n"))
            .collect();
        fs::write(&known_hosts, lines)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", known_hosts.display()));

        let mut command = self.version.command("usr/bin/ssh");
        command
            .args(["-F", "none", "-p", &port.to_string(), "-l", &self.user])
            .args(&self.flags);
        let strict = if self.host_keys.is_empty() {
            "no"
        } else {
            "yes"
        };
        let mut options = vec![
            format!("UserKnownHostsFile={}", known_hosts.display()),
            "GlobalKnownHostsFile=none".to_owned(),
            format!("StrictHostKeyChecking={strict}"),
            "UpdateHostKeys=no".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "LogLevel=ERROR".to_owned(),
            "ConnectTimeout=20".to_owned(),
        ];
        if !self.identities {
            options.push("IdentityFile=none".to_owned());
        }
        if let Some(askpass) = &self.askpass {
            command
                .env("SSH_ASKPASS", askpass)
                .env("SSH_ASKPASS_REQUIRE", "force");
        } else {
            options.push("BatchMode=yes".to_owned());
        }
        for option in options {
            command.arg("-o").arg(option);
        }
        command.arg("--").arg(ip.to_string());
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

/// A program that answers what `ssh` asks of its user, one answer after the other, and keeps the questions.
#[derive(Debug)]
pub struct Askpass {
    folder: TempDir,
}

impl Askpass {
    /// The first question gets the first answer and so on; when they are used up, it fails, as if the user had cancelled.
    /// An answer is one line.
    ///
    /// # Panics
    /// If its files cannot be written.
    #[must_use]
    pub fn new(answers: &[&str]) -> Self {
        let folder =
            tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        };
        for (index, answer) in answers.iter().enumerate() {
            write(&format!("answer.{index}"), &format!("{answer}\n"));
        }
        // Its own path tells it where it is: `ssh` hands nothing on but the question.
        write(
            "askpass",
            "#!/bin/sh\n\
             cd \"${0%/*}\" || exit 1\n\
             index=0\n\
             while [ -e \"question.$index\" ]; do index=$((index + 1)); done\n\
             printf '%s' \"$1\" >\"question.$index\"\n\
             exec cat \"answer.$index\"\n",
        );
        Self { folder }
    }

    /// The program's path, for `SSH_ASKPASS`.
    #[must_use]
    pub fn program(&self) -> std::path::PathBuf {
        self.folder.path().join("askpass")
    }

    /// What was asked so far.
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        let question = |index: usize| {
            fs::read_to_string(Path::new(self.folder.path()).join(format!("question.{index}"))).ok()
        };
        (0..).map_while(question).collect()
    }
}
