//! OpenSSH: where it is, and the command lines of its client and server.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{output, pinned};

/// The versions that can be fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    V9_2,
    V10_0,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V9_2 => "9.2",
            Self::V10_0 => "10.0",
        }
    }
}

/// One unpacked version with keys and a configuration of its own.
pub(crate) struct OpenSsh {
    root: PathBuf,
    /// Where the keys and files below are.
    folder: PathBuf,
    pub(crate) user: String,
    pub(crate) host_fingerprint: String,
}

impl OpenSsh {
    /// Fetches the peers unless the cache has them, and makes fresh keys in `folder`.
    ///
    /// # Errors
    ///
    /// A line for the user when that does not work.
    pub(crate) fn prepare(version: Version, folder: &Path) -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("test");
        let cache = output(Command::new(script).arg("--fetch-only"))?;
        let root = Path::new(&cache).join(format!("openssh-{}", version.name()));
        let keygen = root.join("usr/bin/ssh-keygen");
        for name in ["host_key", "user_key"] {
            output(
                Command::new(&keygen)
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(folder.join(name)),
            )?;
        }
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::copy(folder.join("user_key.pub"), folder.join("authorized_keys")).map_err(failed)?;
        let printed = output(
            Command::new(&keygen)
                .arg("-lf")
                .arg(folder.join("host_key.pub")),
        )?;
        let fingerprint = printed
            .split_ascii_whitespace()
            .nth(1)
            .ok_or("ssh-keygen printed no fingerprint")?;
        let made = Self {
            root,
            folder: folder.to_owned(),
            user: output(Command::new("id").arg("-un"))?,
            host_fingerprint: fingerprint.to_owned(),
        };
        fs::write(made.file("sshd_config"), made.server_config()).map_err(failed)?;
        fs::write(made.file("passwd"), made.accounts()?).map_err(failed)?;
        Ok(made)
    }

    fn server_config(&self) -> String {
        let mut config = format!(
            "ListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nUseDNS no\n\
             PermitRootLogin yes\nPrintLastLog no\nPrintMotd no\nLogLevel INFO\n",
            self.file("host_key").display(),
            self.file("authorized_keys").display()
        );
        for name in ["sshd-session", "sshd-auth"] {
            let path = self.root.join("usr/lib/openssh").join(name);
            if path.exists() {
                let keyword = if name == "sshd-auth" {
                    "SshdAuthPath"
                } else {
                    "SshdSessionPath"
                };
                config += &format!("{keyword} {}\n", path.display());
            }
        }
        config
    }

    /// The user's own account and sshd's, which a machine without a server does not have.
    fn accounts(&self) -> Result<String, String> {
        let own = output(Command::new("getent").args(["passwd", &self.user]))?;
        Ok(format!(
            "{own}\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        ))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The client with everything but user, port, key and cipher.
    pub(crate) fn client_command(&self, cpu: usize) -> Command {
        let mut command = pinned(cpu, &self.root.join("usr/bin/ssh"));
        command
            .env("LD_LIBRARY_PATH", self.root.join("libs"))
            .args(["-F", "none"]);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command
    }

    /// The server on a free port of the loopback interface. It says `Server listening on 127.0.0.1 port N.`
    pub(crate) fn server_command(&self, cpu: usize) -> Result<Command, String> {
        // sshd cannot be told to choose a port itself.
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = listener
            .map_err(|error| format!("no free port: {error}"))?
            .port();
        let mut command = pinned(cpu, &self.root.join("usr/sbin/sshd"));
        command
            .arg("-f")
            .arg(self.file("sshd_config"))
            .args(["-D", "-e", "-p", &port.to_string()]);
        command.env("LD_LIBRARY_PATH", self.root.join("libs"));
        command.env("LD_PRELOAD", self.root.join("libs/libnss_wrapper.so"));
        command
            .env("NSS_WRAPPER_PASSWD", self.file("passwd"))
            .env("NSS_WRAPPER_GROUP", "/etc/group");
        Ok(command)
    }
}
