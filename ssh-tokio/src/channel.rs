//! A channel as a stream: `AsyncRead` and `AsyncWrite`, half-close, stderr, requests.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    ChannelId, ClientRole, Draft, Misuse, Received, RequestId, Role, ServerRole, Stream,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;
use crate::copy::{copy_from, copy_to};
use crate::core::{ChannelState, Core, Interest, Shared, must_wait};
use crate::events::ChannelEvents;
use crate::split::{ReadHalf, WriteHalf};
use crate::waiters::Wish;

/// What every handle of a connection holds. The last one to go ends the connection.
pub(crate) struct Owner<R: Role> {
    pub(crate) shared: Arc<Shared<R>>,
}

impl<R: Role> Drop for Owner<R> {
    fn drop(&mut self) {
        self.shared.disconnect(DisconnectReason::BY_APPLICATION, "");
    }
}

/// A channel of a connection: a stream in both directions, and a second one for errors.
///
/// It is a handle: clones use the same channel, also from different tasks, in both directions at once. When the last
/// one is dropped the channel is closed.
///
/// Reads end at the peer's EOF. Writes take what there is room for: the peer's window, and what the socket has not taken
/// yet. [`flush`](tokio::io::AsyncWriteExt::flush) has nothing to do;
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) sends EOF, and reading goes on. A read that is dropped has consumed nothing, and a write that is dropped has written nothing.
pub struct Channel<R: Role = ClientRole> {
    inner: Arc<Inner<R>>,
}

/// A channel of a server's connection.
pub type ServerChannel = Channel<ServerRole>;

struct Inner<R: Role> {
    owner: Arc<Owner<R>>,
    id: ChannelId,
}

impl<R: Role> Drop for Inner<R> {
    fn drop(&mut self) {
        self.owner.shared.act(|core| core.release(self.id));
    }
}

impl<R: Role> Clone for Channel<R> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<R: Role> fmt::Debug for Channel<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.inner.id).finish()
    }
}

impl<R: Role> Channel<R> {
    /// A handle for a channel that was added to the core.
    pub(crate) fn new(owner: Arc<Owner<R>>, id: ChannelId) -> Self {
        Self {
            inner: Arc::new(Inner { owner, id }),
        }
    }

    /// The channel's id: unique on its connection.
    pub fn id(&self) -> ChannelId {
        self.inner.id
    }

    pub(crate) fn shared(&self) -> &Shared<R> {
        &self.inner.owner.shared
    }

    pub(crate) fn interest(&self, wish: Wish) -> Interest {
        Interest::Channel(self.inner.id, wish)
    }

    /// Both directions apart: each with a task of its own. The channel is closed when both halves are dropped.
    pub fn into_split(self) -> (ReadHalf<R>, WriteHalf<R>) {
        (ReadHalf::new(self.clone()), WriteHalf::new(self))
    }

    /// The stream of extended data of type 1.
    pub fn stderr(&self) -> Stderr<R> {
        Stderr {
            channel: self.clone(),
        }
    }

    /// What happens on the channel besides data, from its opening on.
    pub fn events(&self) -> ChannelEvents<R> {
        ChannelEvents::new(self.clone())
    }

    pub(crate) fn poll_read_stream(
        &self,
        stream: Stream,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let id = self.inner.id;
        self.shared()
            .act(|core| core.poll_read(id, stream, buf, cx.waker()))
            .map_err(Into::into)
    }

    pub(crate) fn poll_write_stream(
        &self,
        stream: Stream,
        cx: &Context<'_>,
        parts: &[&[u8]],
    ) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let id = self.inner.id;
        self.shared()
            .act(|core| core.poll_write(id, stream, parts, cx.waker()))
            .map_err(Into::into)
    }

    /// Takes a block of received data; `done` goes back first. `None`: EOF.
    pub(crate) fn poll_take(
        &self,
        stream: Stream,
        cx: &Context<'_>,
        done: &mut Option<Received>,
    ) -> Poll<io::Result<Option<Received>>> {
        let id = self.inner.id;
        self.shared()
            .act(|core| core.poll_take(id, stream, done, cx.waker()))
            .map_err(Into::into)
    }

    /// Prepares a draft.
    pub(crate) fn lay_out(&self, stream: Stream, draft: &mut Draft) -> Result<(), Error> {
        self.with(|channel| {
            channel.lay_out(stream, draft);
            Ok(())
        })
    }

    /// Sends what there is room for of a draft.
    pub(crate) fn poll_send(
        &self,
        stream: Stream,
        cx: &Context<'_>,
        draft: &mut Draft,
    ) -> Poll<io::Result<()>> {
        let id = self.inner.id;
        self.shared()
            .act(|core| core.poll_send(id, stream, draft, cx.waker()))
            .map_err(Into::into)
    }

    /// Hands out everything that is unread and what comes, until EOF, to `writer`: block by block as it was read from
    /// the stream, without a copy. Says how many bytes there were.
    ///
    /// Cancellation: what was read and not taken by `writer` yet is lost with the future.
    ///
    /// # Errors
    ///
    /// Those of reading, and those of `writer`.
    pub async fn copy_to(
        &self,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> io::Result<u64> {
        copy_to(self, Stream::DATA, writer).await
    }

    /// Writes everything that `reader` has to the channel, until its end: it reads to where the data is sealed. EOF is
    /// not sent: see [`shutdown_write`](Self::shutdown_write). Says how many bytes there were.
    ///
    /// Cancellation: what was read and not written yet is lost with the future.
    ///
    /// # Errors
    ///
    /// Those of `reader`, and those of writing.
    pub async fn copy_from(
        &self,
        reader: &mut (impl AsyncRead + Unpin + ?Sized),
    ) -> io::Result<u64> {
        copy_from(self, Stream::DATA, reader).await
    }

    /// From now on stderr comes within the channel's own data, in the order in which both arrived.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub fn combine_stderr(&self) -> Result<(), Error> {
        self.with(|channel| {
            channel.combine_stderr();
            Ok(())
        })
    }

    /// Throws away what is unread of a stream and whatever comes, so that it does not hold up the peer. A reader of the
    /// stream gets to its end without data.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub fn discard(&self, stream: Stream) -> Result<(), Error> {
        self.with(|channel| {
            channel.discard(stream);
            Ok(())
        })
    }

    /// How many bytes can be read without waiting.
    pub fn readable(&self) -> usize {
        self.shared().act(|core| {
            core.conn
                .channel(self.inner.id)
                .map_or(0, |channel| channel.readable(Stream::DATA))
        })
    }

    /// Fixes how many bytes the peer may have under way and unread: see
    /// [`ssh_proto::Channel::set_receive_window`].
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub fn set_receive_window(&self, bytes: u32) -> Result<(), Error> {
        self.with(|channel| {
            channel.set_receive_window(bytes);
            Ok(())
        })
    }

    /// Sends EOF: this side writes nothing more. Reading goes on.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn shutdown_write(&self) -> Result<(), Error> {
        self.with(|channel| {
            channel.eof();
            Ok(())
        })
    }

    /// Tells the peer that nothing more is read here, while writing goes on (`eow@openssh.com`), and drops what comes. To
    /// a peer of this library, further writes fail as to a closed pipe; others may ignore it. OpenSSH sends it to OpenSSH
    /// only.
    ///
    /// Cancellation: it was done or it was not.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub async fn shutdown_read(&self) -> Result<(), Error> {
        self.command(false, |channel| {
            channel.end_of_write()?;
            channel.discard(Stream::DATA);
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Closes the channel in both directions. What was written before still leaves; what the peer sends now is lost.
    pub fn close(&self) {
        self.shared().act(|core| {
            if let Some(mut channel) = core.conn.channel(self.inner.id) {
                channel.close();
            }
        });
    }

    /// Waits until the peer has closed the channel, too, or the connection has ended.
    ///
    /// Cancellation: nothing happens.
    pub async fn wait_closed(&self) {
        let id = self.inner.id;
        // It fails when the connection has ended, which is the same here.
        _ = self
            .shared()
            .wait(self.interest(Wish::STATE), |core| {
                core.channels
                    .get(id)
                    .is_none_or(|state| state.closed)
                    .then_some(())
            })
            .await;
    }

    /// Sends a request of the caller's own, and waits for the answer when one is wanted.
    ///
    /// Cancellation: the request was sent or it was not; its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the peer refuses it.
    pub async fn request(&self, name: &str, data: &[u8], want_reply: bool) -> Result<(), Error> {
        let request = self
            .command(want_reply, |channel| {
                channel.request(name, data, want_reply)
            })
            .await?;
        if want_reply {
            request.reply("the caller's own").await?;
        }
        Ok(())
    }

    /// Runs a command on the core's channel; one that is blocked is tried again. With `wants_reply` the reply is kept
    /// for whoever asks the result for it.
    pub(crate) async fn command<T: AsRequest>(
        &self,
        wants_reply: bool,
        mut command: impl FnMut(&mut ssh_proto::Channel<'_, R>) -> Result<T, Misuse>,
    ) -> Result<Requested<'_, R>, Error> {
        let id = self.inner.id;
        let request = self
            .shared()
            .wait(Interest::Connection(Wish::ROOM), |core| {
                let Some(mut channel) = core.conn.channel(id) else {
                    return Some(Err(core.gone(id)));
                };
                match command(&mut channel) {
                    Err(misuse) if must_wait(misuse) => None,
                    Err(misuse) => Some(Err(core.over.clone().unwrap_or(Error::Misuse(misuse)))),
                    Ok(result) => {
                        let request = result.request().filter(|_| wants_reply);
                        if let (Some(request), Some(state)) = (request, core.channels.get_mut(id)) {
                            state.replies.insert(request, None);
                        }
                        Some(Ok(request))
                    }
                }
            })
            .await??;
        Ok(Requested {
            channel: self,
            request,
        })
    }

    /// Waits until the peer has opened the channel.
    pub(crate) async fn opened(&self) -> Result<Vec<u8>, Error> {
        let id = self.inner.id;
        self.shared()
            .wait(self.interest(Wish::STATE), |core| {
                match &mut core.channels.get_mut(id)?.opened {
                    Some(Ok(data)) => Some(Ok(std::mem::take(data))),
                    Some(Err(error)) => Some(Err(error.clone())),
                    None => None,
                }
            })
            .await?
    }

    pub(crate) fn state<T>(
        &self,
        core: &mut Core<R>,
        look: impl FnOnce(&mut ChannelState) -> Option<T>,
    ) -> Option<T> {
        core.channels.get_mut(self.inner.id).and_then(look)
    }

    pub(crate) fn with(
        &self,
        act: impl FnOnce(&mut ssh_proto::Channel<'_, R>) -> Result<(), Misuse>,
    ) -> Result<(), Error> {
        self.shared().act(|core| {
            let Some(mut channel) = core.conn.channel(self.inner.id) else {
                return Err(core.ended());
            };
            Ok(act(&mut channel)?)
        })
    }
}

/// A request that was sent. Dropping it throws the reply away.
pub(crate) struct Requested<'a, R: Role> {
    channel: &'a Channel<R>,
    request: Option<RequestId>,
}

impl<R: Role> Requested<'_, R> {
    /// Waits for the reply.
    pub(crate) async fn reply(self, what: &'static str) -> Result<(), Error> {
        let Some(request) = self.request else {
            return Ok(());
        };
        let channel = self.channel;
        let accepted = channel
            .shared()
            .wait(channel.interest(Wish::STATE), |core| {
                channel.state(core, |state| {
                    if let Some(Err(error)) = &state.opened {
                        return Some(Err(error.clone()));
                    }
                    match state.replies.get(&request) {
                        Some(Some(accepted)) => Some(Ok(*accepted)),
                        Some(None) if !state.closed => None,
                        _ => Some(Ok(false)),
                    }
                })
            })
            .await??;
        if accepted {
            Ok(())
        } else {
            Err(Error::Refused(what))
        }
    }
}

impl<R: Role> Drop for Requested<'_, R> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            let mut core = self.channel.shared().lock();
            if let Some(state) = core.channels.get_mut(self.channel.inner.id) {
                state.replies.remove(&request);
            }
        }
    }
}

/// A result of a command that may be a request with a reply to come.
pub(crate) trait AsRequest {
    fn request(&self) -> Option<RequestId>;
}

impl AsRequest for RequestId {
    fn request(&self) -> Option<RequestId> {
        Some(*self)
    }
}

impl AsRequest for () {
    fn request(&self) -> Option<RequestId> {
        None
    }
}

impl<R: Role> AsyncRead for Channel<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_stream(Stream::DATA, cx, buf)
    }
}

impl<R: Role> AsyncWrite for Channel<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_stream(Stream::DATA, cx, &[buf])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        write_vectored(&self, Stream::DATA, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write().map_err(Into::into))
    }
}

/// The first few pieces as one write.
pub(crate) fn write_vectored<R: Role>(
    channel: &Channel<R>,
    stream: Stream,
    cx: &Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut parts: [&[u8]; 8] = [&[]; 8];
    let pieces = bufs.iter().filter(|buf| !buf.is_empty());
    for (part, buf) in parts.iter_mut().zip(pieces) {
        *part = buf;
    }
    channel.poll_write_stream(stream, cx, &parts)
}

/// The error stream of a channel. On a session the client reads it and the server writes it; channels of other kinds
/// may use it in both directions.
pub struct Stderr<R: Role = ClientRole> {
    channel: Channel<R>,
}

impl<R: Role> fmt::Debug for Stderr<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stderr").field(&self.channel.id()).finish()
    }
}

impl<R: Role> Stderr<R> {
    /// Writes everything up to EOF to `writer`: see [`Channel::copy_to`].
    ///
    /// # Errors
    ///
    /// Those of reading, and those of `writer`.
    pub async fn copy_to(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> io::Result<u64> {
        copy_to(&self.channel, Stream::STDERR, writer).await
    }

    /// Writes everything that `reader` has: see [`Channel::copy_from`].
    ///
    /// # Errors
    ///
    /// Those of `reader`, and those of writing.
    pub async fn copy_from(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin + ?Sized),
    ) -> io::Result<u64> {
        copy_from(&self.channel, Stream::STDERR, reader).await
    }
}

impl<R: Role> AsyncRead for Stderr<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.channel.poll_read_stream(Stream::STDERR, cx, buf)
    }
}

impl<R: Role> AsyncWrite for Stderr<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.channel.poll_write_stream(Stream::STDERR, cx, &[buf])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The stream ends with the channel.
        Poll::Ready(Ok(()))
    }
}
