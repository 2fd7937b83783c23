//! A listener with a thread that can be stopped.

use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::pump::Stream;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// How long a listener rests when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A socket that listens.
pub(super) enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Socket {
    /// A Unix socket that only its owner can use, where the file does not exist yet.
    #[cfg(unix)]
    pub(super) fn bind_path(path: &std::path::Path) -> io::Result<(Self, Remove)> {
        use std::os::unix::fs::PermissionsExt;
        let listener = UnixListener::bind(path)?;
        let remove = Remove(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok((Self::Unix(listener), remove))
    }

    #[cfg(not(unix))]
    pub(super) fn bind_path(_: &std::path::Path) -> io::Result<(Self, Remove)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                stream.into()
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                stream.into()
            }
        })
    }

    fn register(&self, poll: &Poll) -> io::Result<Box<dyn mio::event::Source + Send>> {
        // A second descriptor of the same socket, which mio keeps.
        let mut source: Box<dyn mio::event::Source + Send> = match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Box::new(mio::net::TcpListener::from_std(listener.try_clone()?))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Box::new(mio::net::UnixListener::from_std(listener.try_clone()?))
            }
        };
        poll.registry()
            .register(&mut source, LISTENER, Interest::READABLE)?;
        Ok(source)
    }
}

/// Removes the file of a Unix socket in the end.
pub(super) struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // Whoever removed it before has done our work.
        _ = std::fs::remove_file(&self.0);
    }
}

/// A listener that is in force.
pub(super) struct Listener {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<thread::JoinHandle<()>>,
    /// Gone before the socket is, so that nobody connects who is not served.
    path: Option<Remove>,
}

impl Listener {
    /// Listens on a thread of its own: `connected` gets each connection, and is not to wait. `path` is removed in the
    /// end. It also ends when `ended` says so, which is asked whenever the waker was woken.
    pub(super) fn start(
        socket: Socket,
        path: Option<Remove>,
        ended: impl Fn() -> bool + Send + 'static,
        mut connected: impl FnMut(Stream) + Send + 'static,
    ) -> io::Result<Self> {
        let mut poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let source = socket.register(&poll)?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("ssh forward listener".into())
            .spawn(move || {
                let _source = source;
                let mut events = Events::with_capacity(4);
                while !seen.load(Ordering::Acquire) && !ended() {
                    match socket.accept() {
                        Ok(stream) => connected(stream),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            // It fails only when interrupted.
                            _ = poll.poll(&mut events, None);
                        }
                        Err(error)
                            if matches!(
                                error.kind(),
                                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                            ) => {}
                        // Out of descriptors or memory: it gets better when connections end.
                        Err(_) => thread::sleep(EXHAUSTED),
                    }
                }
            })?;
        Ok(Self {
            stop,
            waker,
            thread: Some(thread),
            path,
        })
    }

    pub(super) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // It fails only when the system is out of everything; then the next connection wakes the listener.
        _ = self.waker.wake();
        self.path = None;
        if let Some(thread) = self.thread.take() {
            // A listener that panicked has stopped, too.
            _ = thread.join();
        }
    }
}
