//! A channel as a stream: `Read` and `Write` with deadlines, half-close, stderr.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    ChannelId, ClientRole, Draft, Misuse, Received, RequestId, Role, ServerRole, Stream,
};

use crate::Error;
use crate::core::{Call, Core, Gate, Interest, Wish};
use crate::driver::Shared;
use crate::events::ChannelEvents;

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
/// It is a handle: clones, and threads that share one by reference, use the same channel, also in both directions at
/// once. When the last one is dropped the channel is closed.
///
/// Reads return 0 at the peer's EOF. Writes return when the data is on its way: the peer's window and the socket took
/// it, or the connection's own thread carries on. [`flush`](Write::flush) has nothing to do.
pub struct Channel<R: Role = ClientRole> {
    inner: Arc<Inner<R>>,
}

/// A channel of a server's connection.
pub type ServerChannel = Channel<ServerRole>;

pub(crate) struct Inner<R: Role> {
    owner: Arc<Owner<R>>,
    id: ChannelId,
    gate: Arc<Gate>,
    /// In nanoseconds; 0: none.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
}

impl<R: Role> Drop for Inner<R> {
    fn drop(&mut self) {
        self.owner.shared.act(|core| {
            if let Some(mut channel) = core.conn.channel(self.id) {
                channel.release();
            }
            core.channels.remove(&self.id);
            if core.wants_closes {
                core.calls.push_back(Call::ChannelClosed(self.id));
            }
        });
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
    pub(crate) fn new(owner: Arc<Owner<R>>, id: ChannelId, gate: Arc<Gate>) -> Self {
        Self {
            inner: Arc::new(Inner {
                owner,
                id,
                gate,
                read_timeout: AtomicU64::new(0),
                write_timeout: AtomicU64::new(0),
            }),
        }
    }

    /// The channel's id: unique on its connection.
    pub fn id(&self) -> ChannelId {
        self.inner.id
    }

    pub(crate) fn owner(&self) -> &Arc<Owner<R>> {
        &self.inner.owner
    }

    pub(crate) fn shared(&self) -> &Shared<R> {
        &self.inner.owner.shared
    }

    pub(crate) fn interest(&self, wish: Wish) -> Interest<'_> {
        Interest::Channel(self.inner.id, &self.inner.gate, wish)
    }

    /// How long a read may wait for data. `None`, as at first: for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.inner
            .read_timeout
            .store(nanoseconds(timeout), Ordering::Relaxed);
    }

    /// How long a write may wait for room. `None`, as at first: for ever.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.inner
            .write_timeout
            .store(nanoseconds(timeout), Ordering::Relaxed);
    }

    fn read_deadline(&self) -> Option<Instant> {
        deadline(&self.inner.read_timeout)
    }

    fn write_deadline(&self) -> Option<Instant> {
        deadline(&self.inner.write_timeout)
    }

    /// Reads from one of the two streams. 0 means EOF.
    pub(crate) fn read_stream(&self, stream: Stream, buf: &mut [u8]) -> Result<usize, Error> {
        if buf.is_empty() {
            return Ok(0);
        }
        let result = self.shared().wait(
            self.interest(Wish::read(stream)),
            self.read_deadline(),
            "data of the channel",
            |core| core.read(self.inner.id, stream, buf),
        )?;
        if matches!(result, Ok(0)) {
            // Whoever got EOF does not come back soon.
            self.shared().hand_over();
        }
        result
    }

    /// Writes to one of the two streams as much as there is room for, at least one byte.
    pub(crate) fn write_stream(&self, stream: Stream, bytes: &[u8]) -> Result<usize, Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.shared().wait_and_settle(
            self.interest(Wish::Write),
            self.write_deadline(),
            "room to write to the channel",
            |core| {
                core.writes += 1;
                core.write(self.inner.id, stream, bytes)
            },
        )?
    }

    /// Hands out everything that is unread of a stream, without a copy to a buffer of the caller's own, and waits
    /// for EOF: until then each chunk is written to `writer`. Says how many bytes there were.
    ///
    /// `writer` is called without any lock held, with the blocks that were read from the socket, so each byte is
    /// copied by nobody but the system.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Read::read), and those of `writer`.
    pub fn copy_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        self.copy_stream(Stream::DATA, writer)
    }

    pub(crate) fn copy_stream(
        &self,
        stream: Stream,
        writer: &mut (impl Write + ?Sized),
    ) -> io::Result<u64> {
        let mut total = 0;
        let mut done: Option<Received> = None;
        loop {
            // The block that was written goes back under the same lock under which the next one is taken.
            let taken = self.shared().wait(
                self.interest(Wish::read(stream)),
                self.read_deadline(),
                "data of the channel",
                |core| core.take(self.inner.id, stream, &mut done),
            )??;
            let Some(taken) = taken else {
                self.shared().hand_over();
                return Ok(total);
            };
            write_pieces(writer, &taken)?;
            total += taken.len() as u64;
            done = Some(taken);
        }
    }

    /// Writes everything that `reader` has to the channel, until its end. EOF is not sent: see
    /// [`shutdown_write`](Self::shutdown_write). Says how many bytes there were.
    ///
    /// # Errors
    ///
    /// Those of `reader`, and those of [`write`](Write::write).
    pub fn copy_from(&self, reader: &mut (impl Read + ?Sized)) -> io::Result<u64> {
        self.copy_into(Stream::DATA, reader)
    }

    pub(crate) fn copy_into(
        &self,
        stream: Stream,
        reader: &mut (impl Read + ?Sized),
    ) -> io::Result<u64> {
        let mut draft = Draft::new();
        self.with(|channel| {
            channel.lay_out(stream, &mut draft);
            Ok(())
        })?;
        let mut total = 0;
        loop {
            let len = match reader.read_vectored(&mut draft.slices()) {
                Ok(0) => return Ok(total),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            draft.fill(len);
            while !draft.is_empty() {
                self.send_draft(stream, &mut draft)?;
            }
            total += len as u64;
        }
    }

    fn send_draft(&self, stream: Stream, draft: &mut Draft) -> Result<(), Error> {
        self.shared().wait_and_settle(
            self.interest(Wish::Write),
            self.write_deadline(),
            "room to write to the channel",
            |core| {
                core.writes += 1;
                core.send(self.inner.id, stream, draft)
            },
        )?
    }

    /// The stream of extended data of type 1.
    pub fn stderr(&self) -> Stderr<R> {
        Stderr {
            channel: self.clone(),
        }
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

    /// What happens on the channel besides data, from its opening on.
    pub fn events(&self) -> ChannelEvents<R> {
        ChannelEvents::new(self.clone())
    }

    /// How many bytes can be read without waiting.
    pub fn readable(&self) -> usize {
        self.shared().act(|core| {
            core.conn
                .channel(self.inner.id)
                .map_or(0, |channel| channel.readable(Stream::DATA))
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
    /// # Errors
    ///
    /// The channel is gone.
    pub fn shutdown_read(&self) -> Result<(), Error> {
        self.command(false, |channel| {
            channel.end_of_write()?;
            channel.discard(Stream::DATA);
            Ok(())
        })
    }

    /// Closes the channel in both directions. What was written before still leaves; what the peer sends now is lost.
    pub fn close(&self) {
        self.shared().act(|core| {
            if let Some(mut channel) = core.conn.channel(self.inner.id) {
                channel.close();
            }
        });
    }

    /// Releases the channel at once, whatever its other handles do: all that wait for it return.
    pub(crate) fn abandon(&self) {
        self.shared().act(|core| core.abandon(self.inner.id));
        self.shared().wake_driver();
    }

    /// Waits until the peer has closed the channel, too, or the connection has ended.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`].
    pub fn wait_closed(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let result = self.shared().wait(
            self.interest(Wish::State),
            after(timeout),
            "the channel to be closed",
            |core| self.state(core, |state| state.closed.then_some(())),
        );
        match result {
            Err(Error::TimedOut(what)) => Err(Error::TimedOut(what)),
            _ => Ok(()),
        }
    }

    /// Sends a request of the caller's own, and waits for the answer when one is wanted.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the peer refuses it.
    pub fn request(&self, name: &str, data: &[u8], want_reply: bool) -> Result<(), Error> {
        let request = self.command(want_reply, |channel| {
            channel.request(name, data, want_reply)
        })?;
        if want_reply {
            self.reply(request, "the caller's own", None)?;
        }
        Ok(())
    }

    /// Runs a command on the core's channel; one that is blocked is tried again.
    pub(crate) fn command<T>(
        &self,
        wants_reply: bool,
        mut command: impl FnMut(&mut ssh_proto::Channel<'_, R>) -> Result<T, Misuse>,
    ) -> Result<T, Error>
    where
        T: AsRequest,
    {
        let id = self.inner.id;
        self.shared()
            .wait(Interest::Room, None, "room for a request", |core| {
                let Some(mut channel) = core.conn.channel(id) else {
                    return Some(Err(core.gone(id)));
                };
                match command(&mut channel) {
                    Err(misuse) if core.must_wait(misuse) => None,
                    Err(misuse) => Some(Err(core.refused(misuse))),
                    Ok(result) => {
                        if let (true, Some(request), Some(state)) =
                            (wants_reply, result.request(), core.channels.get_mut(&id))
                        {
                            state.replies.insert(request, None);
                        }
                        Some(Ok(result))
                    }
                }
            })?
    }

    /// Waits for the reply to a request.
    pub(crate) fn reply(
        &self,
        request: RequestId,
        what: &'static str,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let result = self
            .shared()
            .wait(self.interest(Wish::State), deadline, what, |core| {
                self.state(core, |state| {
                    if let Some(Err(error)) = &state.opened {
                        return Some(Err(error.clone()));
                    }
                    match state.replies.get(&request) {
                        Some(Some(accepted)) => Some(Ok(*accepted)),
                        Some(None) if !state.closed => None,
                        _ => Some(Ok(false)),
                    }
                })
            });
        self.shared().act(|core| {
            if let Some(state) = core.channels.get_mut(&self.inner.id) {
                state.replies.remove(&request);
            }
        });
        if result?? {
            Ok(())
        } else {
            Err(Error::Refused(what))
        }
    }

    /// Waits until the peer has opened the channel.
    pub(crate) fn opened(&self) -> Result<Vec<u8>, Error> {
        self.shared().wait(
            self.interest(Wish::State),
            None,
            "the channel to be opened",
            |core| {
                self.state(core, |state| match &mut state.opened {
                    Some(Ok(data)) => Some(Ok(std::mem::take(data))),
                    Some(Err(error)) => Some(Err(error.clone())),
                    None => None,
                })
            },
        )?
    }

    pub(crate) fn state<T>(
        &self,
        core: &mut Core<R>,
        look: impl FnOnce(&mut crate::core::ChannelState) -> Option<T>,
    ) -> Option<T> {
        core.channels.get_mut(&self.inner.id).and_then(look)
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut ssh_proto::Channel<'_, R>) -> Result<T, Misuse>,
    ) -> Result<T, Error> {
        self.shared().act(|core| {
            let Some(mut channel) = core.conn.channel(self.inner.id) else {
                return Err(core.ended());
            };
            act(&mut channel).map_err(|misuse| core.refused(misuse))
        })
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

impl<R: Role> Read for &Channel<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_stream(Stream::DATA, buf)?)
    }
}

impl<R: Role> Read for Channel<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl<R: Role> Write for &Channel<R> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(self.write_stream(Stream::DATA, buf)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Role> Write for Channel<R> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
    /// Those of [`read`](Read::read), and those of `writer`.
    pub fn copy_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        self.channel.copy_stream(Stream::STDERR, writer)
    }

    /// Writes everything that `reader` has: see [`Channel::copy_from`].
    ///
    /// # Errors
    ///
    /// Those of `reader`, and those of [`write`](Write::write).
    pub fn copy_from(&self, reader: &mut (impl Read + ?Sized)) -> io::Result<u64> {
        self.channel.copy_into(Stream::STDERR, reader)
    }
}

impl<R: Role> Read for Stderr<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.channel.read_stream(Stream::STDERR, buf)?)
    }
}

impl<R: Role> Write for Stderr<R> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(self.channel.write_stream(Stream::STDERR, buf)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn nanoseconds(timeout: Option<Duration>) -> u64 {
    timeout.map_or(0, |timeout| {
        u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1)
    })
}

fn deadline(timeout: &AtomicU64) -> Option<Instant> {
    match timeout.load(Ordering::Relaxed) {
        0 => None,
        nanoseconds => Instant::now().checked_add(Duration::from_nanos(nanoseconds)),
    }
}

/// Writes all pieces, as many at a time as the writer takes.
fn write_pieces(writer: &mut (impl Write + ?Sized), data: &Received) -> io::Result<()> {
    let mut pieces: Vec<IoSlice<'_>> = data.pieces().map(IoSlice::new).collect();
    let mut rest = &mut pieces[..];
    while !rest.is_empty() {
        match writer.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => IoSlice::advance_slices(&mut rest, len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The end of a span that starts now.
pub(crate) fn after(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
