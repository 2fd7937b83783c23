//! A stream whose calls do less than they were asked for, or nothing, as the system's may at any time: crumbs, signals,
//! readiness that is not true.
//!
//! What may befall a call is what its kind of stream can say. Halves that block are always ready; a future has never heard
//! of signals, and is polled in vain instead.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use ssh_mio::mio::event::Source;
use ssh_mio::mio::{self, Interest, Registry, Token};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::draw;

/// No piece is longer, in bytes.
const PIECE: u64 = 1_500;

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all that there are")]
pub enum Fault {
    /// It moves no more than so many bytes.
    Short(usize),
    /// A signal came before it could do anything.
    Interrupted,
    /// It says that it would have to wait, and soon afterwards that it would not.
    NotReady,
}

/// What befalls the calls of a stream, reads and writes each by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all that there are")]
pub enum Disturbance {
    /// Most of them, drawn from this number.
    Drawn(u64),
    /// The call of this number alone, counted from 1.
    Once(u64, Fault),
}

/// What one side of a scenario speaks through.
pub(super) struct Line {
    pub(super) stream: TcpStream,
    pub(super) disturbance: Option<Disturbance>,
}

/// The faults of one direction.
#[derive(Debug)]
struct Faults {
    disturbance: Disturbance,
    calls: u64,
    state: u64,
}

impl Faults {
    const fn new(disturbance: Disturbance, direction: u64) -> Self {
        let state = match disturbance {
            Disturbance::Drawn(number) => number * 2 + direction,
            Disturbance::Once(..) => 0,
        };
        Self {
            disturbance,
            calls: 0,
            state,
        }
    }

    fn next(&mut self) -> Option<Fault> {
        self.calls += 1;
        match self.disturbance {
            Disturbance::Once(at, fault) => (self.calls == at).then_some(fault),
            Disturbance::Drawn(_) => {
                let drawn = draw(&mut self.state);
                match drawn % 8 {
                    0 => None,
                    1 => Some(Fault::Interrupted),
                    2 => Some(Fault::NotReady),
                    _ => Some(Fault::Short((1 + (drawn >> 8) % PIECE) as usize)),
                }
            }
        }
    }
}

/// A stream, or a half of one, that is disturbed.
#[derive(Debug)]
pub(super) struct Disturbed<S> {
    stream: S,
    reads: Faults,
    writes: Faults,
    /// Whether halves block.
    blocks: bool,
    /// It was not ready and is again, which is to be announced.
    ready: Arc<AtomicBool>,
}

impl<S> Disturbed<S> {
    pub(super) fn new(stream: S, disturbance: Disturbance) -> Self {
        Self {
            stream,
            reads: Faults::new(disturbance, 0),
            writes: Faults::new(disturbance, 1),
            blocks: false,
            ready: Arc::default(),
        }
    }

    /// One that is never not ready.
    pub(super) fn blocking(stream: S, disturbance: Disturbance) -> Self {
        Self {
            blocks: true,
            ..Self::new(stream, disturbance)
        }
    }

    /// Set when it was not ready and is again.
    pub(super) fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// How much a call may move, if it may.
    fn room(&self, fault: Option<Fault>, len: usize) -> io::Result<usize> {
        match fault {
            Some(Fault::Short(most)) => Ok(len.min(most)),
            Some(Fault::Interrupted) => Err(ErrorKind::Interrupted.into()),
            Some(Fault::NotReady) if !self.blocks => {
                self.ready.store(true, Ordering::Relaxed);
                Err(ErrorKind::WouldBlock.into())
            }
            Some(Fault::NotReady) | None => Ok(len),
        }
    }
}

impl<S: Read> Read for Disturbed<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let fault = self.reads.next();
        let room = self.room(fault, buf.len())?;
        self.stream.read(&mut buf[..room])
    }
}

impl<S: Write> Write for Disturbed<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let fault = self.writes.next();
        let room = self.room(fault, buf.len())?;
        self.stream.write(&buf[..room])
    }

    fn flush(&mut self) -> io::Result<()> {
        let fault = self.writes.next();
        self.room(fault, 0)?;
        self.stream.flush()
    }
}

/// How much a poll may move; `None`: it is to come again.
fn room(fault: Option<Fault>, len: usize, cx: &Context<'_>) -> Option<usize> {
    match fault {
        Some(Fault::Short(most)) => Some(len.min(most)),
        Some(Fault::Interrupted) => {
            cx.waker().wake_by_ref();
            Some(len)
        }
        Some(Fault::NotReady) => {
            cx.waker().wake_by_ref();
            None
        }
        None => Some(len),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Disturbed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let fault = this.reads.next();
        let Some(room) = room(fault, buf.remaining(), cx) else {
            return Poll::Pending;
        };
        let mut piece = vec![0; room];
        let mut piece = ReadBuf::new(&mut piece);
        let read = Pin::new(&mut this.stream).poll_read(cx, &mut piece);
        buf.put_slice(piece.filled());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Disturbed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let fault = this.writes.next();
        match room(fault, buf.len(), cx) {
            Some(room) => Pin::new(&mut this.stream).poll_write(cx, &buf[..room]),
            None => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let fault = this.writes.next();
        match room(fault, 0, cx) {
            Some(_) => Pin::new(&mut this.stream).poll_flush(cx),
            None => Poll::Pending,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let fault = this.writes.next();
        match room(fault, 0, cx) {
            Some(_) => Pin::new(&mut this.stream).poll_shutdown(cx),
            None => Poll::Pending,
        }
    }
}

impl Source for Disturbed<mio::net::TcpStream> {
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

impl ssh_mio::Transport for Disturbed<mio::net::TcpStream> {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}
