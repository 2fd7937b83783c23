//! The sockets of forwards, TCP and Unix alike.
//!
//! In: addresses and paths. Out: listeners and streams that never wait.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
#[cfg(unix)]
use std::path::PathBuf;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

/// A connected socket, or one that is connecting.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        // What is forwarded was waited for long enough. A socket without the option works as well.
        _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }
}

impl Socket {
    /// Starts to connect.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).map(Self::from)
    }

    /// Connects to a Unix socket: at once or not at all. `WouldBlock`: too many others wait there.
    #[cfg(unix)]
    pub(super) fn connect_path(path: &std::path::Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self::Unix)
    }

    #[cfg(not(unix))]
    pub(super) fn connect_path(_: &std::path::Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether it is connected by now; an error when it will not be.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Self::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
            #[cfg(unix)]
            Self::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            // What comes of it is announced.
            (None, Err(_)) => Ok(false),
        }
    }

    /// What is there to be read, which stays there.
    pub(super) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(buf),
            #[cfg(unix)]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    pub(super) fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read_vectored(bufs),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).read_vectored(bufs),
        }
    }

    pub(super) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(buf),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).write(buf),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        // It fails when the other side is gone already, which is as good.
        _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    /// Nothing more will be read. A Unix socket lets the other side's writes fail; TCP cannot tell, and would not even
    /// tell the other side that there is room again when its last bytes are read and dropped.
    pub(super) fn say_unread(&self) {
        match self {
            Self::Tcp(_) => {}
            #[cfg(unix)]
            Self::Unix(_) => self.shutdown(Shutdown::Read),
        }
    }

    /// Address and port of the other side, as a channel's originator. A Unix socket has none.
    pub(super) fn originator(&self) -> (String, u16) {
        match self {
            Self::Tcp(stream) => match stream.peer_addr() {
                Ok(address) => (address.ip().to_string(), address.port()),
                Err(_) => ("127.0.0.1".to_owned(), 0),
            },
            #[cfg(unix)]
            Self::Unix(_) => ("127.0.0.1".to_owned(), 0),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, both),
            #[cfg(unix)]
            Self::Unix(stream) => stream.register(registry, token, both),
        }
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        // Closing it does the same.
        _ = match self {
            Self::Tcp(stream) => stream.deregister(registry),
            #[cfg(unix)]
            Self::Unix(stream) => stream.deregister(registry),
        };
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        /// Gone before the socket is, so that nobody connects who is not served.
        path: Remove,
    },
}

impl Acceptor {
    /// Listens on a TCP port.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(listener)))
    }

    /// Listens on a Unix socket that only its owner can use, where the file does not exist yet.
    #[cfg(unix)]
    pub(super) fn bind_path(path: &std::path::Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        let remove = Remove(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self::Unix {
            listener: UnixListener::from_std(listener),
            path: remove,
        })
    }

    #[cfg(not(unix))]
    pub(super) fn bind_path(_: &std::path::Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The address that it listens on; a Unix socket has none.
    pub(super) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix { .. } => Ok(None),
        }
    }

    pub(super) fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| stream.into()),
            #[cfg(unix)]
            Self::Unix { listener, .. } => {
                listener.accept().map(|(stream, _)| Socket::Unix(stream))
            }
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            #[cfg(unix)]
            Self::Unix { listener, .. } => listener.register(registry, token, Interest::READABLE),
        }
    }

    /// Listens no more.
    pub(super) fn close(mut self, registry: &Registry) {
        // Closing it does the same.
        _ = match &mut self {
            Self::Tcp(listener) => listener.deregister(registry),
            #[cfg(unix)]
            Self::Unix { listener, path } => {
                path.now();
                listener.deregister(registry)
            }
        };
    }
}

/// Removes the file of a Unix socket in the end.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Remove(PathBuf);

#[cfg(unix)]
impl Remove {
    fn now(&mut self) {
        let path = std::mem::take(&mut self.0);
        if !path.as_os_str().is_empty() {
            // Whoever removed it before has done our work.
            _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(unix)]
impl Drop for Remove {
    fn drop(&mut self) {
        self.now();
    }
}
