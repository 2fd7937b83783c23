//! The streams that a session can run on.
//!
//! In: nothing. Out: the few things beyond `Read`, `Write` and [`Source`] that a session needs of its stream.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::TcpStream;

/// A non-blocking byte stream that mio can watch. Implemented for mio's TCP and Unix streams; implement it for another
/// one, such as a stream through a proxy, to run a session on it.
///
/// Reads and writes that would have to wait fail with [`WouldBlock`](io::ErrorKind::WouldBlock), and readiness that
/// follows is announced by mio. A read of no bytes is the end of the stream.
pub trait Transport: Read + Write + Source {
    /// Whether a read that returns less than it was given room for has emptied the stream, such that what comes later
    /// is announced again. True for sockets, and saves a system call for each piece of data. `false`: the session reads
    /// until `WouldBlock`.
    const SHORT_READ_IS_LAST: bool = false;

    /// The peer's address, if there is one and it is known: for logs.
    fn peer_address(&self) -> Option<SocketAddr> {
        None
    }

    /// Called once, before anything else. What goes wrong here is not reported: the stream will fail soon enough.
    fn set_up(&mut self) {}

    /// Tells the peer that nothing more will be written; what it sends can still be read.
    ///
    /// # Errors
    /// Those of the system. The session is over by then and does not mind.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

impl Transport for TcpStream {
    const SHORT_READ_IS_LAST: bool = cfg!(unix);

    fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }

    fn set_up(&mut self) {
        // Packets are small and complete: they must not wait for the acknowledgement of those before.
        _ = self.set_nodelay(true);
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

#[cfg(unix)]
impl Transport for mio::net::UnixStream {
    const SHORT_READ_IS_LAST: bool = true;

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}
