//! Forwarding: listeners whose connections go through the SSH connection, on either side of it (RFC 4254 section 7,
//! OpenSSH's PROTOCOL section 2.4).
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | the six kinds of forwards that a client has |
//! | `policy` | what a server does with what its policy grants |
//! | `serve` | the connections of one listener, all of them in one future |
//! | `listen` | a listener |
//! | `pump` | one connection: a socket and a channel joined |
//! | `dynamic` | SOCKS in front of that |

mod client;
mod dynamic;
mod listen;
mod policy;
mod pump;
mod serve;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ssh_proto::ForwardTarget;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::BoxFuture;
use crate::Error;

pub(crate) use client::{Offered, Routes};
pub use policy::Forwarding;
use pump::Stream;

/// How long a connection to a target may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to a target from here.
async fn connect(target: &ForwardTarget) -> io::Result<Stream> {
    let connecting = async {
        match target {
            ForwardTarget::Tcp { host, port } => {
                Ok(TcpStream::connect((host.as_str(), *port)).await?.into())
            }
            #[cfg(unix)]
            ForwardTarget::Path(path) => Ok(tokio::net::UnixStream::connect(path).await?.into()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A forward that is in force. It takes connections and carries their data while it [runs](Self::run): beside what needs
/// it, or in a task that [`spawn`](Self::spawn) starts. It starts no others: the connections that it carries live in it.
///
/// Dropping it ends it: nobody listens any more, and its connections are cut. They end with the SSH connection, too, which
/// a forward keeps alive as any other handle does.
///
/// What one side of a connection does not read is not read from the other: a connection that stalls holds a buffer of 64
/// KiB for each direction that does, one that is idle holds none. EOF of one side is passed on, and the connection ends
/// when both sides have said it. When a connection cannot be made, it is that connection which fails, and no other. 512
/// connections are carried at once; more are dropped.
#[must_use = "dropping it ends the forward, and nothing moves unless it runs"]
pub struct Forward {
    address: Option<SocketAddr>,
    port: Option<u16>,
    /// Until it is ready.
    serving: Result<BoxFuture<'static, Verdict>, Verdict>,
}

type Verdict = Result<(), Error>;

impl Forward {
    /// The address that is listened on here; `None` when it is a path, or listened on at the server.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The port that is listened on, here or at the server: port 0 was replaced by the one that was free.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Carries what comes until the SSH connection has ended.
    ///
    /// Cancellation: everything stands still, and goes on when it is called again.
    ///
    /// # Errors
    ///
    /// Why the SSH connection ended, unless either side said so.
    pub async fn run(&mut self) -> Result<(), Error> {
        let ended = match &mut self.serving {
            Ok(serving) => serving.await,
            Err(ended) => return ended.clone(),
        };
        self.serving = Err(ended.clone());
        ended
    }

    /// Runs it in a task of the current runtime, which ends with the handle that is returned.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn(mut self) -> ForwardHandle {
        ForwardHandle {
            address: self.address,
            port: self.port,
            task: Ok(tokio::spawn(async move { self.run().await })),
        }
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("address", &self.address)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// A [`Forward`] that was [spawned](Forward::spawn). [`stop`](Self::stop), or dropping it, ends it.
#[must_use = "dropping it ends the forward"]
pub struct ForwardHandle {
    address: Option<SocketAddr>,
    port: Option<u16>,
    /// Until it has ended.
    task: Result<JoinHandle<Verdict>, Verdict>,
}

impl ForwardHandle {
    /// The address that is listened on here: see [`Forward::address`].
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The port that is listened on, here or at the server: see [`Forward::port`].
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Waits until the forward has ended with its SSH connection.
    ///
    /// Cancellation: nothing happens.
    ///
    /// # Errors
    ///
    /// Why the SSH connection ended, unless either side said so.
    pub async fn wait(&mut self) -> Result<(), Error> {
        let ended = match &mut self.task {
            Ok(task) => task.await,
            Err(ended) => return ended.clone(),
        };
        let ended = ended.unwrap_or_else(|error| Err(io::Error::other(error).into()));
        self.task = Err(ended.clone());
        ended
    }

    /// Ends the forward, and waits until nothing of it is left here.
    ///
    /// Cancellation: it ends all the same.
    pub async fn stop(mut self) {
        self.abort();
        // What it says is that it was stopped, or that it had ended before.
        _ = self.wait().await;
    }

    fn abort(&self) {
        if let Ok(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for ForwardHandle {
    fn drop(&mut self) {
        self.abort();
    }
}

impl fmt::Debug for ForwardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardHandle")
            .field("address", &self.address)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
