//! A stream that ends or fails behind so many bytes, and knows what was heard through it.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use ssh_mio::mio::event::Source;
use ssh_mio::mio::net::UnixStream;
use ssh_mio::mio::{Interest, Registry, Token};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Failure,
}

/// Where and how a stream ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) after: usize,
    pub(crate) end: End,
}

/// What a side has heard.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.len().fmt(f)
    }
}

impl Heard {
    pub(crate) fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

/// A stream, or the half of one that is read.
#[derive(Debug)]
pub(crate) struct Line<S> {
    pub(crate) stream: S,
    cut: Option<Cut>,
    heard: Heard,
}

impl<S> Line<S> {
    pub(crate) const fn new(stream: S, cut: Option<Cut>, heard: Heard) -> Self {
        Self { stream, cut, heard }
    }

    /// How much of `len` bytes may be read; or how it ends.
    fn room(&self, len: usize) -> io::Result<usize> {
        let Some(cut) = self.cut else {
            return Ok(len);
        };
        match cut.after - self.heard.len() {
            0 if cut.end == End::Failure => Err(ErrorKind::ConnectionReset.into()),
            left => Ok(len.min(left)),
        }
    }
}

impl<S: Read> Read for Line<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buf.len())?;
        if room == 0 {
            return Ok(0);
        }
        let len = self.stream.read(&mut buf[..room])?;
        self.heard.add(&buf[..len]);
        Ok(len)
    }
}

impl<S: Write> Write for Line<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = this.room(buf.remaining())?;
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut piece = vec![0; room];
        let mut piece = ReadBuf::new(&mut piece);
        let read = Pin::new(&mut this.stream).poll_read(cx, &mut piece);
        buf.put_slice(piece.filled());
        this.heard.add(piece.filled());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Source for Line<UnixStream> {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.stream.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.stream.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}

impl ssh_mio::Transport for Line<UnixStream> {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown_write()
    }
}
