//! One connection of a forward: a socket and a channel joined, and the list of those that there are.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ssh_proto::limits::PACKET_DATA_LEN;
use ssh_proto::{Role, Stream as ChannelStream};

use crate::channel::Channel;

use super::MAX_CONNECTIONS;

/// How much is moved at a time.
const BUFFER_LEN: usize = 2 * PACKET_DATA_LEN;

/// A socket, in blocking mode.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        // What is forwarded was waited for long enough. A socket without the option works as well.
        _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Stream {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            #[cfg(unix)]
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        // It fails when the other side is gone already, which is as good.
        _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_read_timeout(timeout),
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
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buf),
            #[cfg(unix)]
            Stream::Unix(stream) => (&*stream).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(buf),
            #[cfg(unix)]
            Stream::Unix(stream) => (&*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The connections of one forward.
pub(super) struct Pumps<R: Role> {
    live: Mutex<Live<R>>,
}

struct Live<R: Role> {
    stopped: bool,
    next: u64,
    connections: BTreeMap<u64, Connection<R>>,
}

struct Connection<R: Role> {
    stream: Option<Stream>,
    channel: Option<Channel<R>>,
}

/// One place among the connections.
pub(super) struct Pass<R: Role> {
    pumps: Arc<Pumps<R>>,
    number: u64,
}

impl<R: Role> Pumps<R> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            live: Mutex::new(Live {
                stopped: false,
                next: 0,
                connections: BTreeMap::new(),
            }),
        })
    }

    fn live(&self) -> MutexGuard<'_, Live<R>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection; `None` when the forward has ended, or carries all that it can.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Pass<R>> {
        let mut live = self.live();
        if live.stopped || live.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        let number = live.next;
        live.next += 1;
        let connection = Connection {
            stream: None,
            channel: None,
        };
        live.connections.insert(number, connection);
        Some(Pass {
            pumps: Arc::clone(self),
            number,
        })
    }

    /// Cuts all connections, and lets none begin.
    pub(super) fn stop(&self) {
        let connections = {
            let mut live = self.live();
            live.stopped = true;
            std::mem::take(&mut live.connections)
        };
        for connection in connections.into_values() {
            if let Some(channel) = connection.channel {
                channel.abandon();
            }
            if let Some(stream) = connection.stream {
                stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl<R: Role> Pass<R> {
    /// From now on the socket is cut when the forward ends.
    pub(super) fn stream(&self, stream: &Stream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        match self.pumps.live().connections.get_mut(&self.number) {
            Some(connection) => connection.stream = Some(stream),
            None => stream.shutdown(Shutdown::Both),
        }
        Ok(())
    }

    /// From now on the channel is cut when the forward ends.
    pub(super) fn channel(&self, channel: &Channel<R>) {
        let mut live = self.pumps.live();
        if let Some(connection) = live.connections.get_mut(&self.number) {
            connection.channel = Some(channel.clone());
        } else {
            drop(live);
            channel.abandon();
        }
    }
}

impl<R: Role> Drop for Pass<R> {
    fn drop(&mut self) {
        let gone = self.pumps.live().connections.remove(&self.number);
        // Its last handle may close the channel: not under the lock.
        drop(gone);
    }
}

/// What both directions of one connection know of each other.
struct Joint<R: Role> {
    channel: Channel<R>,
    stream: Stream,
    /// One direction has ended well.
    half: AtomicBool,
}

impl<R: Role> Joint<R> {
    /// One direction has ended; with the second one the channel is closed.
    fn finish(&self) {
        if self.half.swap(true, Ordering::AcqRel) {
            self.channel.abandon();
        }
    }

    fn cut(&self) {
        self.channel.abandon();
        self.stream.shutdown(Shutdown::Both);
    }
}

/// Carries data both ways until both sides have ended, or one has failed. It takes the calling thread and one more.
pub(super) fn pump<R: Role>(pass: &Pass<R>, channel: Channel<R>, stream: Stream) {
    pass.channel(&channel);
    if stream.set_read_timeout(None).is_err() || pass.stream(&stream).is_err() {
        channel.abandon();
        return;
    }
    let joint = Arc::new(Joint {
        channel,
        stream,
        half: AtomicBool::new(false),
    });
    let other = Arc::clone(&joint);
    let upload = thread::Builder::new()
        .name("ssh forward".into())
        .spawn(move || to_channel(&other));
    let Ok(upload) = upload else {
        joint.cut();
        return;
    };
    to_socket(&joint);
    // It does not panic; and if it did, the connection is cut.
    _ = upload.join();
}

fn to_channel<R: Role>(joint: &Joint<R>) {
    let mut buf = vec![0; BUFFER_LEN];
    loop {
        let len = match (&joint.stream).read(&mut buf) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return joint.cut(),
        };
        if len == 0 {
            // It fails when the channel is gone, which the other direction notices.
            _ = joint.channel.shutdown_write();
            return joint.finish();
        }
        let mut rest = buf.get(..len).unwrap_or_default();
        while !rest.is_empty() {
            match joint.channel.write_stream(ChannelStream::DATA, rest) {
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(_) => {
                    // The peer has closed the channel. What it sent before is still to be delivered.
                    joint.stream.shutdown(Shutdown::Read);
                    return joint.finish();
                }
            }
        }
    }
}

fn to_socket<R: Role>(joint: &Joint<R>) {
    let mut buf = vec![0; BUFFER_LEN];
    loop {
        let Ok(len) = joint.channel.read_stream(ChannelStream::DATA, &mut buf) else {
            return joint.cut();
        };
        if len == 0 {
            break;
        }
        if (&joint.stream)
            .write_all(buf.get(..len).unwrap_or_default())
            .is_err()
        {
            return joint.cut();
        }
    }
    joint.stream.shutdown(Shutdown::Write);
    joint.finish();
    // The other direction waits for the socket. It need not, once the peer has closed the channel; and the channel is
    // abandoned, which this waits for as well, when that direction ends.
    _ = joint.channel.wait_closed(None);
    joint.stream.shutdown(Shutdown::Read);
}
