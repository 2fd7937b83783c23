//! The clients of every adapter, as the tests of forwarding see them.

use std::path::Path;
use std::sync::Arc;

use ssh_blocking::ssh_proto::adapter::Error;
use ssh_blocking::ssh_proto::{ForwardTarget, OpenFailureReason};
use tokio::runtime::Runtime;

use crate::ours::{host_key_pins, log_in, private_key};
use crate::peers::{KeyPair, Sshd};
use crate::tcp::ANY;

/// A forward that is in force, and ends with its value.
pub trait Forwarded {
    /// The port that is listened on.
    fn port(&self) -> Option<u16>;

    /// Ends it.
    fn stop(self);
}

/// A client that forwards.
pub trait Forwarder: Sized {
    /// One forward of it.
    type Forward: Forwarded;

    /// A client that is logged in.
    ///
    /// # Panics
    /// If it does not come to that.
    fn log_in(sshd: &Sshd, key: &KeyPair) -> Self;

    /// From a free port here.
    ///
    /// # Errors
    /// It could not be done.
    fn local(&self, target: impl Into<ForwardTarget>) -> Result<Self::Forward, Error>;

    /// From a Unix socket here.
    ///
    /// # Errors
    /// It could not be done.
    fn local_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error>;

    /// From a free port here, to wherever each connection asks for.
    ///
    /// # Errors
    /// It could not be done.
    fn dynamic(&self) -> Result<Self::Forward, Error>;

    /// From a port of the server.
    ///
    /// # Errors
    /// It could not be done.
    fn remote(
        &self,
        bind: (&str, u16),
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error>;

    /// From a Unix socket of the server.
    ///
    /// # Errors
    /// It could not be done.
    fn remote_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error>;

    /// From a free port of the server, to wherever each connection asks for.
    ///
    /// # Errors
    /// It could not be done.
    fn remote_dynamic(&self) -> Result<Self::Forward, Error>;

    /// A channel to a Unix socket of the server, which is closed at once.
    ///
    /// # Errors
    /// It could not be done.
    fn direct_streamlocal(&self, path: &Path) -> Result<(), Error>;

    /// Promises that there will be no session.
    ///
    /// # Errors
    /// It could not be done.
    fn no_more_sessions(&self) -> Result<(), Error>;

    /// Runs a command.
    ///
    /// # Errors
    /// It could not be done.
    fn exec(&self, command: &str) -> Result<(), Error>;

    /// Whether the connection has not ended.
    fn is_alive(&self) -> bool;
}

/// Why it could not be done, as far as a test wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server refused a request.
    Refused,
    /// The server refused a channel.
    OpenFailed(OpenFailureReason),
    /// Something else.
    Other,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(_) => Self::Refused,
            Error::OpenFailed { reason, .. } => Self::OpenFailed(reason),
            _ => Self::Other,
        }
    }
}

impl Forwarded for ssh_blocking::Forward {
    fn port(&self) -> Option<u16> {
        self.port()
    }

    fn stop(self) {
        self.stop();
    }
}

impl Forwarder for ssh_blocking::Client {
    type Forward = ssh_blocking::Forward;

    fn log_in(sshd: &Sshd, key: &KeyPair) -> Self {
        log_in(sshd, key, |_| {})
    }

    fn local(&self, target: impl Into<ForwardTarget>) -> Result<Self::Forward, Error> {
        self.forward_local(ANY, target)
    }

    fn local_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        self.forward_local_path(path, target)
    }

    fn dynamic(&self) -> Result<Self::Forward, Error> {
        self.forward_dynamic(ANY)
    }

    fn remote(
        &self,
        bind: (&str, u16),
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        self.forward_remote(bind, target)
    }

    fn remote_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        self.forward_remote_path(path, target)
    }

    fn remote_dynamic(&self) -> Result<Self::Forward, Error> {
        self.forward_remote_dynamic(("localhost", 0))
    }

    fn direct_streamlocal(&self, path: &Path) -> Result<(), Error> {
        self.direct_streamlocal(path).map(drop)
    }

    fn no_more_sessions(&self) -> Result<(), Error> {
        self.no_more_sessions()
    }

    fn exec(&self, command: &str) -> Result<(), Error> {
        self.exec(command).status().map(drop)
    }

    fn is_alive(&self) -> bool {
        self.is_alive()
    }
}

/// A client of `ssh-tokio`, with a runtime of its own.
#[derive(Debug)]
pub struct TokioClient {
    client: ssh_tokio::Client,
    runtime: Arc<Runtime>,
}

/// A forward of [`TokioClient`].
#[derive(Debug)]
pub struct TokioForward {
    forward: ssh_tokio::ForwardHandle,
    runtime: Arc<Runtime>,
}

impl TokioClient {
    fn spawn(
        &self,
        forward: impl Future<Output = Result<ssh_tokio::Forward, Error>>,
    ) -> Result<TokioForward, Error> {
        let runtime = Arc::clone(&self.runtime);
        let forward = runtime.block_on(async { Ok::<_, Error>(forward.await?.spawn()) })?;
        Ok(TokioForward { forward, runtime })
    }
}

impl Forwarded for TokioForward {
    fn port(&self) -> Option<u16> {
        self.forward.port()
    }

    fn stop(self) {
        self.runtime.block_on(self.forward.stop());
    }
}

impl Forwarder for TokioClient {
    type Forward = TokioForward;

    fn log_in(sshd: &Sshd, key: &KeyPair) -> Self {
        let runtime = Runtime::new().unwrap_or_else(|error| panic!("no runtime: {error}"));
        let policy = ssh_tokio::HostKeyPolicy::Pinned(host_key_pins(sshd));
        let options = ssh_tokio::ClientOptions::new(policy);
        let client = runtime.block_on(async {
            let client = ssh_tokio::Client::connect_spawn(sshd.address(), options).await?;
            let key = private_key(key);
            let outcome = client.auth_public_key(Sshd::USER, key).await?;
            assert!(outcome.success(), "{outcome:?}");
            Ok::<_, Error>(client)
        });
        match client {
            Ok(client) => Self {
                client,
                runtime: Arc::new(runtime),
            },
            Err(error) => panic!("{error}\nlog of the server:\n{}", sshd.log()),
        }
    }

    fn local(&self, target: impl Into<ForwardTarget>) -> Result<Self::Forward, Error> {
        self.spawn(self.client.forward_local(ANY, target))
    }

    fn local_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        self.spawn(self.client.forward_local_path(path, target))
    }

    fn dynamic(&self) -> Result<Self::Forward, Error> {
        self.spawn(self.client.forward_dynamic(ANY))
    }

    fn remote(
        &self,
        bind: (&str, u16),
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        self.spawn(self.client.forward_remote(bind, target))
    }

    fn remote_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        self.spawn(self.client.forward_remote_path(path, target))
    }

    fn remote_dynamic(&self) -> Result<Self::Forward, Error> {
        self.spawn(self.client.forward_remote_dynamic(("localhost", 0)))
    }

    fn direct_streamlocal(&self, path: &Path) -> Result<(), Error> {
        let opening = self.client.direct_streamlocal(path);
        self.runtime.block_on(opening).map(drop)
    }

    fn no_more_sessions(&self) -> Result<(), Error> {
        self.runtime.block_on(self.client.no_more_sessions())
    }

    fn exec(&self, command: &str) -> Result<(), Error> {
        let running = self.client.exec(command);
        self.runtime.block_on(running.status()).map(drop)
    }

    fn is_alive(&self) -> bool {
        self.client.is_alive()
    }
}
