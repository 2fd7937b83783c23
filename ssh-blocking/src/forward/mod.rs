//! Forwarding: listeners whose connections go through the SSH connection, on either side of it (RFC 4254 section 7,
//! OpenSSH's PROTOCOL section 2.4).
//!
//! | file | what it holds |
//! |---|---|
//! | `client` | the six kinds of forwards that a client has |
//! | `policy` | what a server does with what its policy grants |
//! | `listen` | a listener with a thread that can be stopped |
//! | `pump` | one connection: a socket and a channel joined |
//! | `dynamic` | SOCKS in front of that |

mod client;
mod dynamic;
mod listen;
mod policy;
mod pump;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ssh_proto::ForwardTarget;

use crate::transport;

pub(crate) use client::Routes;
pub use policy::Forwarding;
use pump::Stream;

/// How long a connection to a target may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How many connections one forward carries at once; more are dropped.
const MAX_CONNECTIONS: usize = 512;

/// Connects to a target from here.
fn connect(target: &ForwardTarget) -> io::Result<Stream> {
    match target {
        ForwardTarget::Tcp { host, port } => {
            let (stream, _) = transport::connect((host.as_str(), *port), Some(CONNECT_TIMEOUT))?;
            Ok(stream.into())
        }
        #[cfg(unix)]
        ForwardTarget::Path(path) => Ok(std::os::unix::net::UnixStream::connect(path)?.into()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A forward that is in force. [`stop`](Self::stop), or dropping it, ends it: nobody listens any more, its connections
/// are cut, and its threads end. They end with the SSH connection, too, which a forward keeps alive as any other handle
/// does.
///
/// Each connection has two threads and two buffers of 64 KiB. What one side does not read is not read from the other.
/// EOF of one side is passed on, and the connection ends when both sides have said it. When a connection cannot be made,
/// it is that connection which fails, and no other.
#[must_use = "dropping it ends the forward"]
pub struct Forward {
    address: Option<SocketAddr>,
    port: Option<u16>,
    stop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Forward {
    /// The address that is listened on here; `None` when it is a path, or listened on at the server.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The port that is listened on, here or at the server: port 0 was replaced by the one that was free.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Ends the forward.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.end();
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
