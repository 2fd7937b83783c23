//! A client that runs one command, on Tokio.
//!
//! ```text
//! ssh-tokio [-p PORT] [-i KEY]... [-l USER] [-o NAME=VALUE]... [-n] [-T] [user@]HOST COMMAND...
//! ```
//!
//! Standard input, output and error are the command's. The host must show the key that is pinned with
//! `-o HostKeyFingerprint=SHA256:..`; without that, it says which key there is, and stops. Other options: `Ciphers`,
//! `MACs`, `KexAlgorithms`. It ends with the status of the command, and with 255 when it fails itself. There is no
//! terminal: for that see the `ssh` example of `ssh-blocking`.

#![cfg(unix)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::task::{Context, Poll};

use lexopt::prelude::*;
use ssh_tokio::ssh_proto::Secret;
use ssh_tokio::ssh_proto::config::ClientConfig;
use ssh_tokio::ssh_proto::key::PrivateKey;
use ssh_tokio::{AuthOutcome, Client, ClientOptions, ExitStatus, HostKeyPolicy, Method};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

const USAGE: &str = "usage: ssh-tokio [-p PORT] [-i KEY]... [-l USER] [-o NAME=VALUE]... [-n] [-T] [user@]HOST COMMAND...";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One connection has work for one thread.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    // As a task: the runtime looks at its main future less readily.
    let code = match tokio::spawn(run()).await {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("ssh-tokio: {error}");
            255
        }
        Err(_) => 255,
    };
    // A read of standard input may still wait in a thread of the runtime's.
    process::exit(code);
}

struct Options {
    host: String,
    port: u16,
    user: String,
    identities: Vec<PathBuf>,
    command: Vec<u8>,
    fingerprint: Option<String>,
    config: ClientConfig,
    no_input: bool,
}

impl Options {
    fn from_arguments() -> Result<Self, Failure> {
        let mut parser = lexopt::Parser::from_env();
        let mut options = Self {
            host: String::new(),
            port: 22,
            user: String::new(),
            identities: Vec::new(),
            command: Vec::new(),
            fingerprint: None,
            config: ClientConfig::new(),
            no_input: false,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Short('p') => options.port = parser.value()?.parse()?,
                Short('i') => options.identities.push(parser.value()?.into()),
                Short('l') => options.user = parser.value()?.string()?,
                Short('o') => options.set(&parser.value()?.string()?)?,
                Short('n') => options.no_input = true,
                // There never is a terminal.
                Short('T') => {}
                Value(host) => {
                    options.destination(&host.string()?);
                    // Joined with spaces, as every SSH client does it.
                    let words: Vec<OsString> = parser.raw_args()?.collect();
                    options.command = words.join(OsStr::new(" ")).into_encoded_bytes();
                    break;
                }
                other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
            }
        }
        if options.host.is_empty() || options.command.is_empty() {
            return Err(USAGE.into());
        }
        if options.user.is_empty() {
            options.user = std::env::var("USER")
                .or_else(|_| std::env::var("LOGNAME"))
                .map_err(|_| "no user name: give one with -l")?;
        }
        Ok(options)
    }

    fn destination(&mut self, destination: &str) {
        let (user, host) = destination.rsplit_once('@').unwrap_or(("", destination));
        if self.user.is_empty() {
            user.clone_into(&mut self.user);
        }
        self.host = host.trim_matches(['[', ']']).to_owned();
    }

    /// One `-o NAME=VALUE`. Names do not mind case, as in OpenSSH.
    fn set(&mut self, option: &str) -> Result<(), Failure> {
        let bad = |error: &dyn std::fmt::Display| format!("-o {option}: {error}");
        let (name, value) = option
            .split_once(['=', ' '])
            .ok_or_else(|| bad(&"NAME=VALUE is wanted"))?;
        let value = value.trim();
        let algorithms = &mut self.config.transport.algorithms;
        match name.to_ascii_lowercase().as_str() {
            "ciphers" => algorithms.ciphers = value.parse().map_err(|error| bad(&error))?,
            "macs" => algorithms.macs = value.parse().map_err(|error| bad(&error))?,
            "kexalgorithms" => algorithms.kex = value.parse().map_err(|error| bad(&error))?,
            "hostkeyfingerprint" => self.fingerprint = Some(value.to_owned()),
            _ => return Err(bad(&"no such option").into()),
        }
        Ok(())
    }
}

async fn run() -> Result<i32, Failure> {
    let options = Options::from_arguments()?;
    let policy = match &options.fingerprint {
        Some(fingerprint) => HostKeyPolicy::fingerprint(fingerprint),
        None => HostKeyPolicy::ask(|key| {
            let shown = key.fingerprint_sha256();
            eprintln!("the host key is not pinned; to trust it: -o HostKeyFingerprint={shown}");
            std::future::ready(false)
        }),
    };
    let client_options = ClientOptions::new(policy)
        .config(options.config.clone())
        .on_banner(|text| eprint!("{text}"));
    let address = (options.host.as_str(), options.port);
    let client = Client::connect_spawn(address, client_options).await?;
    log_in(&client, &options).await?;
    let code = session(&client, &options).await?;
    client.disconnect();
    Ok(code)
}

async fn log_in(client: &Client, options: &Options) -> Result<(), Failure> {
    let mut methods = Vec::new();
    for path in &options.identities {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = Secret::from(std::fs::read(path).map_err(|error| named(&error))?);
        let key = PrivateKey::from_openssh(file.expose(), None).map_err(|error| named(&error))?;
        methods.push(Method::PublicKey(Arc::new(key)));
    }
    match client.authenticate(&options.user, &mut methods).await? {
        AuthOutcome::Success => Ok(()),
        AuthOutcome::Refused { methods, .. } => Err(format!(
            "{}@{}: Permission denied ({}).",
            options.user,
            options.host,
            methods.join(",")
        )
        .into()),
        other => Err(format!("Permission denied ({other:?}).").into()),
    }
}

async fn session(client: &Client, options: &Options) -> Result<i32, Failure> {
    let mut child = client.exec(&options.command).spawn().await?;
    let (Some(stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("no standard streams".into());
    };
    if options.no_input {
        drop(stdin);
    } else {
        // It waits for the keyboard, and ends with the process.
        tokio::spawn(async move {
            // When it fails, the channel is gone, and the others notice.
            _ = stdin.copy_from(&mut *input()).await;
        });
    }
    let mut output = output(io::stdout().as_fd(), "/dev/stdout")?;
    let mut errors = Direct(duplicate(io::stderr().as_fd())?);
    let (written, _) = tokio::join!(stdout.copy_to(&mut *output), stderr.copy_to(&mut errors));
    if let Err(error) = written {
        // Nobody reads our output any more: the remote program learns it from the closed channel.
        child.channel().close();
        return if error.kind() == io::ErrorKind::BrokenPipe {
            Ok(255)
        } else {
            Err(error.into())
        };
    }
    Ok(match child.wait().await? {
        ExitStatus::Code(code) => i32::try_from(code & 0xff).unwrap_or(255),
        other => {
            eprintln!("ssh-tokio: remote program: {other}");
            255
        }
    })
}

/// Standard input. A pipe is waited for without a thread; it is opened anew, since what is non-blocking here would be so
/// for everybody who shares it.
fn input() -> Box<dyn AsyncRead + Send + Unpin> {
    match pipe::OpenOptions::new().open_receiver("/dev/stdin") {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

/// A standard stream to write to: a pipe as with [`input`], a terminal with the help of a thread, since somebody may
/// stop it; anything else takes what it is given.
fn output(stream: BorrowedFd<'_>, path: &str) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
    if let Ok(pipe) = pipe::OpenOptions::new().open_sender(path) {
        return Ok(Box::new(pipe));
    }
    if stream.is_terminal() {
        return Ok(Box::new(tokio::io::stdout()));
    }
    Ok(Box::new(Direct(duplicate(stream)?)))
}

fn duplicate(stream: BorrowedFd<'_>) -> io::Result<File> {
    stream.try_clone_to_owned().map(File::from)
}

/// A file, `/dev/null` and the like: writing there is not waited for.
struct Direct(File);

impl AsyncWrite for Direct {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready((&self.0).write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready((&self.0).write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
