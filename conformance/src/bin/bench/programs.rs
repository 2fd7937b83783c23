//! The SSH clients and servers of a transfer, and how each is started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use conformance::peers::{KeyPair, Ssh, Sshd, SshdOptions};

use crate::cpu::Group;
use crate::floor;
use crate::pipeline::{Place, STEP_LIMIT};
use crate::process::{Process, output, pinned};

/// An SSH client or server.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    OpenSsh,
    /// An example of ours, with arguments before those that all examples take.
    Example {
        path: PathBuf,
        arguments: &'static [&'static str],
    },
    /// This program's own client on ssh-mio.
    OnMio,
    /// The programs on russh, on a runtime of one thread: everything runs on one CPU.
    Russh(PathBuf),
}

/// A server that listens.
pub(crate) struct Listening {
    /// Kept because dropping it ends the server.
    _owner: Owner,
    pub(crate) group: Group,
    pub(crate) address: SocketAddr,
    host_key: KeyPair,
    /// The proxy before it.
    _proxy: Option<Process>,
}

enum Owner {
    OpenSsh(#[expect(dead_code, reason = "held for its drop")] Box<Sshd>),
    Other(#[expect(dead_code, reason = "held for its drop")] Process),
}

impl Place {
    /// A client that runs `remote` on a server. Besides: files that OpenSSH's client needs as long as it runs.
    ///
    /// # Errors
    ///
    /// A line for the user when the host key cannot be read.
    pub(crate) fn client_command(
        &self,
        program: &Program,
        server: &Listening,
        cipher: &str,
        remote: &str,
    ) -> Result<(Command, Option<Ssh>), String> {
        let (host, port) = (server.address.ip().to_string(), server.address.port());
        let port = port.to_string();
        let key = &self.user_key.path;
        let command = match program {
            Program::OpenSsh => {
                let client = Ssh::new(self.version, server.address)
                    .user(Sshd::USER)
                    .identity(&self.user_key)
                    .option("Ciphers", cipher);
                return Ok((pinned(&self.cpu, &client.command(remote)), Some(client)));
            }
            Program::Example { path, arguments } => {
                let mut keygen = self.version.command("usr/bin/ssh-keygen");
                let printed = output(keygen.arg("-lf").arg(&server.host_key.path))?;
                let fingerprint = printed.split_ascii_whitespace().nth(1).unwrap_or_default();
                let mut command = pinned(&self.cpu, &Command::new(path));
                command.args(*arguments).args(["-T", "-p", &port, "-i"]);
                command.arg(key).args(["-l", Sshd::USER]);
                command.args(["-o", &format!("HostKeyFingerprint={fingerprint}")]);
                command.args(["-o", &format!("Ciphers={cipher}"), &host, remote]);
                command
            }
            Program::OnMio => {
                let mut command = self.part("__mio-exec");
                command.args([&server.address.to_string(), Sshd::USER]);
                command.arg(key).args([cipher, remote]);
                command
            }
            Program::Russh(path) => {
                let mut command = pinned(&self.cpu, &Command::new(path));
                command.args(["client", "--runtime", "current", "--port", &port, "--key"]);
                command.arg(key).args(["--user", Sshd::USER]);
                command.args(["--cipher", cipher, &host, remote]);
                command
            }
        };
        Ok((command, None))
    }

    /// A fresh server for each transfer: its time then starts from nothing.
    ///
    /// # Errors
    ///
    /// A line for the user when it does not start.
    pub(crate) fn start_server(&self, program: &Program) -> Result<Listening, String> {
        let mut listening = self.start_near_server(program)?;
        if let Some(delay) = self.delay {
            let mut command = self.part("__delay");
            command
                .arg(listening.address.to_string())
                .arg(delay.as_millis().to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let mut proxy = Process::start("the delaying proxy", command, false)?;
            let address = proxy.wait_for(floor::LISTENING, STEP_LIMIT)?;
            let wrong = |_| format!("the proxy listens on `{address}`");
            listening.address = address.trim().parse().map_err(wrong)?;
            listening._proxy = Some(proxy);
        }
        Ok(listening)
    }

    fn start_near_server(&self, program: &Program) -> Result<Listening, String> {
        let (path, arguments) = match program {
            Program::OpenSsh => return self.start_sshd(),
            Program::Example { path, arguments } => (path, *arguments),
            Program::Russh(path) => (path, &["server", "--runtime", "current"][..]),
            Program::OnMio => return Err("this program has no server".into()),
        };
        let mut command = pinned(&self.cpu, &Command::new(path));
        command.args(arguments).args(["--port", "0", "--host-key"]);
        command.arg(&self.host_key.path);
        command.arg("--authorized-keys").arg(&self.authorized_keys);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The name that the kernel keeps has 15 bytes.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let family = Some(name.chars().take(15).collect());
        let mut process = Process::start(&name, command, true)?;
        let address = process.wait_for(floor::LISTENING, STEP_LIMIT)?;
        let address = address
            .trim()
            .parse()
            .map_err(|_| format!("{name} listens on `{address}`"))?;
        Ok(Listening {
            group: Group {
                root: process.id(),
                family,
            },
            address,
            host_key: self.host_key.clone(),
            _owner: Owner::Other(process),
            _proxy: None,
        })
    }

    fn start_sshd(&self) -> Result<Listening, String> {
        let keys = vec![self.user_key.public.clone()];
        let sshd = Sshd::start(
            self.version,
            &SshdOptions {
                authorized_keys: keys,
                ..SshdOptions::default()
            },
        );
        let pid = sshd.pid();
        let mut pin = Command::new("taskset");
        output(pin.args(["-a", "-p", "-c", &self.cpu, &pid.to_string()]))?;
        Ok(Listening {
            group: Group {
                root: pid,
                family: Some("sshd".to_owned()),
            },
            address: sshd.address(),
            host_key: sshd.host_keys()[0].clone(),
            _owner: Owner::OpenSsh(Box::new(sshd)),
            _proxy: None,
        })
    }
}
