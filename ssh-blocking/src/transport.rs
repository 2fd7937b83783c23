//! What a connection runs on: a socket that can be polled, or any pair of a reader and a writer.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::event::Source;

/// What a connection runs on. A [`TcpStream`](net::TcpStream) or a Unix socket becomes one by `into()`; anything else
/// is a [`pair`](Self::pair) of two halves.
///
/// A socket is switched to non-blocking mode, and costs one thread; a pair costs two.
pub struct Transport(pub(crate) Kind);

pub(crate) enum Kind {
    Socket(Socket),
    Pair(Pair),
}

/// Two halves that block.
pub(crate) struct Pair {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) writer: Box<dyn Write + Send>,
    pub(crate) close: Option<Box<dyn FnOnce() + Send>>,
}

impl Transport {
    /// A stream that was accepted, which is non-blocking already.
    pub(crate) fn from_mio(stream: mio::net::TcpStream) -> Self {
        _ = stream.set_nodelay(true);
        Self(Kind::Socket(Socket::Tcp(stream)))
    }

    /// Two halves that block: the pipes of a child process, a TLS stream's halves, a channel of another connection.
    ///
    /// When the connection ends, the writer is dropped, and the thread that reads ends with the read that it is in.
    /// Where dropping the writer does not end that read, use [`on_close`](Self::on_close).
    pub fn pair(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        Self(Kind::Pair(Pair {
            reader: Box::new(reader),
            writer: Box::new(writer),
            close: None,
        }))
    }

    /// Something to be done when the connection ends, such as shutting down what the halves of a
    /// [`pair`](Self::pair) stand for, so that a blocked read returns. It has no effect on sockets, which are shut
    /// down anyway.
    #[must_use]
    pub fn on_close(mut self, close: impl FnOnce() + Send + 'static) -> Self {
        if let Kind::Pair(pair) = &mut self.0 {
            pair.close = Some(Box::new(close));
        }
        self
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Socket(Socket::Tcp(_)) => "Transport(Tcp)",
            #[cfg(unix)]
            Kind::Socket(Socket::Unix(_)) => "Transport(Unix)",
            Kind::Pair(_) => "Transport(Pair)",
        })
    }
}

impl TryFrom<net::TcpStream> for Transport {
    type Error = io::Error;

    fn try_from(stream: net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // Without it the last packet of each flight would wait for an acknowledgement. A stream that has no such
        // option works all the same.
        _ = stream.set_nodelay(true);
        Ok(Self(Kind::Socket(Socket::Tcp(
            mio::net::TcpStream::from_std(stream),
        ))))
    }
}

#[cfg(unix)]
impl TryFrom<std::os::unix::net::UnixStream> for Transport {
    type Error = io::Error;

    fn try_from(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(Kind::Socket(Socket::Unix(
            mio::net::UnixStream::from_std(stream),
        ))))
    }
}

/// A socket in non-blocking mode.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
}

impl Socket {
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Tcp(stream) => (&*stream).read(buf),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).read(buf),
        })
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Tcp(stream) => (&*stream).write(buf),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).write(buf),
        })
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        // It fails when the peer is gone already, which is as good.
        _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            #[cfg(unix)]
            Self::Unix(stream) => stream,
        }
    }
}

/// A call that a signal interrupts is made again.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Tries every address of a name until one answers. All attempts together get `timeout`; each gets its share of what
/// is left, so that one address that swallows packets does not eat the time of the next.
pub(crate) fn connect(
    address: impl ToSocketAddrs,
    timeout: Option<Duration>,
) -> io::Result<(net::TcpStream, SocketAddr)> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let attempt = match deadline {
            None => net::TcpStream::connect(address),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    last = io::Error::new(io::ErrorKind::TimedOut, "timed out: connecting");
                    break;
                }
                let share = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
                net::TcpStream::connect_timeout(address, left / share)
            }
        };
        match attempt {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
