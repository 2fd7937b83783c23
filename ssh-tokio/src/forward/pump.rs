//! One connection of a forward: a socket and a channel joined.
//!
//! In and out: bytes of both. A byte is copied into one buffer on its way. The buffer is a connection's own only while the
//! side that it is written to takes nothing; otherwise the connections of a worker share it.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use ssh_proto::Role;
use ssh_proto::limits::PACKET_DATA_LEN;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::channel::Channel;

/// How much is moved at a time.
const BUFFER_LEN: usize = 2 * PACKET_DATA_LEN;
/// How many pieces are moved in a row before other connections are let in.
const TURNS: usize = 16;

thread_local! {
    /// The buffer that the connections of a worker share while nothing is in it.
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// A socket.
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

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Carries data both ways until both sides have ended, or one has failed. Then, or when the future is dropped, the channel
/// is closed and the socket, too.
///
/// Cancellation: the connection is cut.
pub(super) async fn pump<R: Role>(channel: Channel<R>, mut stream: Stream) {
    let (mut upload, mut download) = (Half::default(), Half::default());
    let mut ends = channel.clone();
    let mut closed = pin!(channel.wait_closed());
    std::future::poll_fn(|cx| {
        match upload.poll(cx, &mut stream, &mut ends) {
            Poll::Ready(End::ReadFailed) => return Poll::Ready(()),
            // When writing has failed, the peer has closed the channel. What it sent before is still to be delivered.
            Poll::Ready(End::Eof | End::WriteFailed) | Poll::Pending => {}
        }
        match download.poll(cx, &mut ends, &mut stream) {
            Poll::Ready(End::ReadFailed | End::WriteFailed) => Poll::Ready(()),
            Poll::Ready(End::Eof) if upload.end.is_some() => Poll::Ready(()),
            // The other direction waits for the socket. It need not, once the peer has closed the channel.
            Poll::Ready(End::Eof) => closed.as_mut().poll(cx),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}

/// How a direction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side has said EOF, and the other was told.
    Eof,
    ReadFailed,
    WriteFailed,
}

/// One direction.
///
/// ```text
/// empty ── read ──► full ── all written ──► empty
///   └──── EOF ──► ending ── told ──► ended
/// ```
#[derive(Default)]
struct Half {
    /// What was read and not written yet: from `at` to `len`.
    buf: Option<Vec<u8>>,
    at: usize,
    len: usize,
    ending: bool,
    end: Option<End>,
}

impl Half {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<End> {
        if let Some(end) = self.end {
            return Poll::Ready(end);
        }
        let polled = self.advance(cx, source, sink);
        if let Poll::Ready(end) = polled {
            self.end = Some(end);
            self.buf = None;
        }
        polled
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<End> {
        for _ in 0..TURNS {
            if self.ending {
                // It fails when the other side is gone already, which is as good.
                return Pin::new(sink).poll_shutdown(cx).map(|_| End::Eof);
            }
            if self.buf.is_none() {
                let mut spare = SPARE.take().unwrap_or_else(|| vec![0; BUFFER_LEN]);
                let mut buf = ReadBuf::new(&mut spare);
                let polled = Pin::new(&mut *source).poll_read(cx, &mut buf);
                let len = buf.filled().len();
                match polled {
                    Poll::Ready(Ok(())) if len > 0 => {
                        (self.buf, self.at, self.len) = (Some(spare), 0, len);
                    }
                    other => {
                        SPARE.set(Some(spare));
                        match other {
                            Poll::Pending => return Poll::Pending,
                            Poll::Ready(Err(_)) => return Poll::Ready(End::ReadFailed),
                            Poll::Ready(Ok(())) => self.ending = true,
                        }
                    }
                }
            }
            while let Some(buf) = &self.buf {
                let rest = buf.get(self.at..self.len).unwrap_or_default();
                match Pin::new(&mut *sink).poll_write(cx, rest) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(written)) if written > 0 => self.at += written,
                    Poll::Ready(_) => return Poll::Ready(End::WriteFailed),
                }
                if self.at >= self.len {
                    SPARE.set(self.buf.take());
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
