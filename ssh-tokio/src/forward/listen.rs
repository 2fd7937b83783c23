//! A listener: a TCP port, or a Unix socket whose file goes with it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::time::Sleep;

use super::pump::Stream;

/// How long a listener rests when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// Removes the file of a Unix socket in the end.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // Whoever removed it before has done our work.
        _ = std::fs::remove_file(&self.0);
    }
}

/// A socket that listens until it is dropped.
pub(super) struct Listener {
    /// Gone before the socket is, so that nobody connects who is not served.
    _path: Option<Remove>,
    socket: Socket,
    rest: Option<Pin<Box<Sleep>>>,
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::new(Socket::Tcp(listener), None)
    }
}

impl Listener {
    const fn new(socket: Socket, path: Option<Remove>) -> Self {
        Self {
            _path: path,
            socket,
            rest: None,
        }
    }

    /// A Unix socket that only its owner can use, where the file does not exist yet.
    #[cfg(unix)]
    pub(super) fn bind_path(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let listener = UnixListener::bind(path)?;
        let remove = Remove(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self::new(Socket::Unix(listener), Some(remove)))
    }

    #[cfg(not(unix))]
    pub(super) fn bind_path(_: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Socket::Unix(_) => Ok(None),
        }
    }

    /// The next connection.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Stream> {
        loop {
            if let Some(rest) = &mut self.rest {
                ready!(rest.as_mut().poll(cx));
                self.rest = None;
            }
            let accepted = match &self.socket {
                Socket::Tcp(listener) => {
                    ready!(listener.poll_accept(cx)).map(|(stream, _)| stream.into())
                }
                #[cfg(unix)]
                Socket::Unix(listener) => {
                    ready!(listener.poll_accept(cx)).map(|(stream, _)| stream.into())
                }
            };
            match accepted {
                Ok(stream) => return Poll::Ready(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                // Out of descriptors or memory: it gets better when connections end.
                Err(_) => self.rest = Some(Box::pin(tokio::time::sleep(EXHAUSTED))),
            }
        }
    }
}
