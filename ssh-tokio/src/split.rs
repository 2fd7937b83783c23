//! The two directions of a channel apart.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ssh_proto::{ClientRole, Role, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::channel::{Channel, write_vectored};

/// The reading half of a channel: [`Channel::into_split`].
pub struct ReadHalf<R: Role = ClientRole> {
    channel: Channel<R>,
}

/// The writing half of a channel: [`Channel::into_split`]. Dropping it sends EOF.
pub struct WriteHalf<R: Role = ClientRole> {
    channel: Channel<R>,
    /// EOF is to be sent.
    open: bool,
}

impl<R: Role> ReadHalf<R> {
    pub(crate) const fn new(channel: Channel<R>) -> Self {
        Self { channel }
    }

    /// The channel below.
    pub const fn channel(&self) -> &Channel<R> {
        &self.channel
    }
}

impl<R: Role> WriteHalf<R> {
    pub(crate) const fn new(channel: Channel<R>) -> Self {
        Self {
            channel,
            open: true,
        }
    }

    /// The channel below.
    pub const fn channel(&self) -> &Channel<R> {
        &self.channel
    }

    /// EOF was sent, or is not wanted.
    pub(crate) const fn leave_open(&mut self) {
        self.open = false;
    }
}

impl<R: Role> Drop for WriteHalf<R> {
    fn drop(&mut self) {
        // It fails when the channel is gone: then there is nobody to tell.
        if self.open {
            _ = self.channel.shutdown_write();
        }
    }
}

impl<R: Role> AsyncRead for ReadHalf<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.channel.poll_read_stream(Stream::DATA, cx, buf)
    }
}

impl<R: Role> AsyncWrite for WriteHalf<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.channel.poll_write_stream(Stream::DATA, cx, &[buf])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        write_vectored(&self.channel, Stream::DATA, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open = false;
        Poll::Ready(self.channel.shutdown_write().map_err(Into::into))
    }
}

impl<R: Role> fmt::Debug for ReadHalf<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadHalf").field(&self.channel.id()).finish()
    }
}

impl<R: Role> fmt::Debug for WriteHalf<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteHalf")
            .field(&self.channel.id())
            .finish()
    }
}
