//! What a caller can do with a channel.

use std::marker::PhantomData;

use crate::connection::role::{ClientRole, Role, ServerRole};
use crate::error::{Misuse, WriteError};
use crate::note::{note, note_late, settle};
use crate::packet::Draft;
#[cfg(any(test, feature = "replay"))]
use crate::replay::{Command, Name, Written, offered};

use super::kinds::{
    ChannelEvent, ExitSignal, Program, PtyRequest, RequestId, Signal, WindowSize, is_name,
};
use super::recv::Received;
use super::request;
use super::state::{Phase, Say, Started, State};
use super::table::{Channels, Io, Shared};
use super::{ChannelId, RequestToken, Stream};

/// A channel of a connection, borrowed: what can be done with it (RFC 4254 section 5).
///
/// Nothing here waits. A write that finds no room is [`Blocked`](WriteError::Blocked) and announced with
/// [`ChannelEvent::Writable`] when it may go on; reading is what gives the peer credit to send more.
#[derive(Debug)]
pub struct Channel<'a, R: Role> {
    inner: Handle<'a>,
    role: PhantomData<R>,
}

impl<'a, R: Role> Channel<'a, R> {
    pub(crate) const fn new(inner: Handle<'a>) -> Self {
        Self {
            inner,
            role: PhantomData,
        }
    }

    /// The channel's id.
    pub const fn id(&self) -> ChannelId {
        self.inner.id
    }

    /// The next event of this channel.
    pub fn poll_event(&mut self) -> Option<ChannelEvent> {
        self.inner.poll_event()
    }

    /// Sends data, or as much of it as the peer's window and the output have room for; says how much that was. Data of
    /// one call may leave in several packets.
    ///
    /// # Errors
    /// [`WriteError::Blocked`]: there is room for nothing now, [`ChannelEvent::Writable`] follows.
    /// [`WriteError::Closed`]: nothing can be written any more.
    pub fn write(&mut self, stream: Stream, data: &[u8]) -> Result<usize, WriteError> {
        self.inner.write(stream, &[data])
    }

    /// [`write`](Self::write) of several pieces as if they were one, such as a header and a body. Nothing is copied but
    /// into the output.
    ///
    /// # Errors
    /// As those of [`write`](Self::write).
    pub fn write_parts(&mut self, stream: Stream, parts: &[&[u8]]) -> Result<usize, WriteError> {
        self.inner.write(stream, parts)
    }

    /// Prepares a draft for data of a stream, with as much room as the peer's window takes now, and for one packet at
    /// least; with all its room where what little is left of the window waits for more. What was in it is forgotten.
    pub fn lay_out(&self, stream: Stream, draft: &mut Draft) {
        let io = &self.inner.io;
        match self.inner.state() {
            Some(state) => state.lay_out(stream, draft, io),
            None => draft.lay_out(io.out.layout(), stream, 0),
        }
    }

    /// Prepares a draft for just as much data as [`send`](Self::send) takes right now, and says how much that is: for who
    /// has no place for a rest. What was in it is forgotten. As long as nothing else is done with the connection, data that
    /// is read into it is sent whole.
    ///
    /// # Errors
    /// As those of [`write`](Self::write): [`Blocked`](WriteError::Blocked) when it is nothing now, and
    /// [`ChannelEvent::Writable`] follows.
    pub fn lay_out_now(&mut self, stream: Stream, draft: &mut Draft) -> Result<usize, WriteError> {
        note!(self.inner.io.out, |_| Command::LayOutNow {
            id: self.inner.id,
            stream,
        });
        self.inner.lay_out_now(stream, draft)
    }

    /// Sends the data in a draft, or as much of it as there is room for; says how much that was, and keeps the rest for
    /// the next call. When nothing else is on its way out it is sealed where it lies: no byte is copied. A draft that was
    /// sent whole is laid out for the next data.
    ///
    /// # Errors
    /// As those of [`write`](Self::write).
    pub fn send(&mut self, stream: Stream, draft: &mut Draft) -> Result<usize, WriteError> {
        self.inner.send(stream, draft)
    }

    /// Received data as far as it lies in one piece, lent; empty when there is none. [`consume`](Self::consume) drops
    /// it and shows the next piece.
    pub fn chunk(&self, stream: Stream) -> &[u8] {
        self.inner.chunk(stream)
    }

    /// Drops the first `len` unread bytes, at most all, and gives the peer credit for them.
    pub fn consume(&mut self, stream: Stream, len: usize) {
        self.inner.read(stream, |queue, shared| {
            queue.consume(&mut shared.blocks, len)
        });
    }

    /// Copies received data into `buf`; says how much. 0 when there is none, see [`is_eof`](Self::is_eof).
    pub fn read(&mut self, stream: Stream, buf: &mut [u8]) -> usize {
        self.inner
            .read(stream, |queue, shared| queue.read(&mut shared.blocks, buf))
    }

    /// Takes received data out, with the block that it lies in: for who writes it elsewhere without holding the
    /// connection meanwhile. The peer gets credit for it at once. `None` when there is none.
    pub fn take(&mut self, stream: Stream) -> Option<Received> {
        let mut taken = Received::default();
        self.inner.read(stream, |queue, shared| {
            taken = queue.take(&mut shared.blocks);
            taken.len()
        });
        (!taken.is_empty()).then_some(taken)
    }

    /// Gives back what [`take`](Self::take) handed out, so that its block serves a later read.
    pub fn recycle(&mut self, received: Received) {
        self.inner.channels.shared.blocks.recycle(received);
    }

    /// Drops what is unread of a stream and whatever comes, and gives the peer credit for it.
    pub fn discard(&mut self, stream: Stream) {
        note!(self.inner.io.out, |_| Command::Discard {
            id: self.inner.id,
            stream
        });
        self.inner
            .take_data(stream, |queue, shared| queue.discard(&mut shared.blocks));
    }

    /// How many bytes of a stream are unread.
    pub fn readable(&self, stream: Stream) -> usize {
        self.inner.readable(stream)
    }

    /// The peer sends no more data (EOF, CLOSE, or the end of the connection), and nothing is unread in any stream.
    pub fn is_eof(&self) -> bool {
        self.is_stream_eof(Stream::DATA) && self.is_stream_eof(Stream::STDERR)
    }

    /// The peer sends no more data, and nothing is unread in this stream.
    pub fn is_stream_eof(&self, stream: Stream) -> bool {
        self.inner.state().is_none_or(|state| state.is_eof(stream))
    }

    /// The peer has closed the channel. Where [`ChannelEvent::Closed`] comes without it, the connection has ended.
    pub fn is_closed_by_peer(&self) -> bool {
        self.inner.state().is_some_and(|state| state.peer_close)
    }

    /// From now on data of [`Stream::STDERR`] comes in [`Stream::DATA`], in the order in which it arrives. What of it is
    /// unread already goes behind the unread data.
    pub fn combine_stderr(&mut self) {
        note!(self.inner.io.out, |_| Command::CombineStderr {
            id: self.inner.id
        });
        if let Some((state, shared, io)) = self.inner.parts() {
            state.combine(shared);
            state.send_owed(shared, io);
        }
    }

    /// Sends a request of the caller's own, or of a name that the library does not know. Before the channel is open it
    /// waits. With `want_reply`, [`ChannelEvent::Replied`] follows.
    ///
    /// # Errors
    /// [`Misuse::Argument`], [`Misuse::ChannelState`] when the channel is closing, [`Misuse::Limit`] when
    /// [`pending_requests`](crate::limits::Limits::pending_requests) are waiting, [`Misuse::Blocked`].
    pub fn request(
        &mut self,
        name: &str,
        data: &[u8],
        want_reply: bool,
    ) -> Result<RequestId, Misuse> {
        note!(self.inner.io.out, |_| Command::Request {
            id: self.inner.id,
            name: name.to_owned(),
            data: data.into(),
            want_reply
        });
        if !is_name(name) {
            return Err(Misuse::Argument("name of a request"));
        }
        self.inner.request(name, data, want_reply, false)
    }

    /// Answers a request of the peer. Replies leave in the order of the requests, whatever the order of the answers.
    ///
    /// # Errors
    /// [`Misuse::StaleToken`] when the question was withdrawn because the channel is closing, or belongs to another
    /// channel.
    pub fn reply(&mut self, token: RequestToken, accept: bool) -> Result<(), Misuse> {
        if token.channel == self.inner.id {
            note!(self.inner.io.out, |_| Command::Reply {
                id: self.inner.id,
                serial: token.serial,
                accept
            });
        }
        self.inner.reply(&token, accept)
    }

    /// Says that no more data will be written. Everything that was written arrives before. Later calls do nothing.
    pub fn eof(&mut self) {
        note!(self.inner.io.out, |_| Command::ChannelEof {
            id: self.inner.id
        });
        if let Some((state, shared, io)) = self.inner.parts() {
            state.eof(shared, io);
        }
        self.inner.after();
    }

    /// Tells the peer that this side reads no more of the channel, while it may go on writing (`eow@openssh.com`,
    /// OpenSSH's PROTOCOL section 2.1). What still comes should be [discarded](Self::discard). OpenSSH sends it to OpenSSH
    /// only, because others were seen to fail on it although RFC 4254 section 5.4 has them ignore it.
    ///
    /// # Errors
    /// As those of [`request`](Self::request).
    pub fn end_of_write(&mut self) -> Result<(), Misuse> {
        note!(self.inner.io.out, |_| Command::EndOfWrite {
            id: self.inner.id
        });
        self.inner
            .request(request::END_OF_WRITE, &[], false, false)
            .map(|_| ())
    }

    /// Closes the channel behind everything that was written. [`ChannelEvent::Closed`] follows when the peer has done
    /// the same. What is unread, and what still arrives, stays readable. Later calls do nothing.
    pub fn close(&mut self) {
        note!(self.inner.io.out, |_| Command::Close { id: self.inner.id });
        if let Some((state, shared, io)) = self.inner.parts() {
            state.close(shared, io);
        }
        self.inner.after();
    }

    /// The caller is done with the channel: closes it if need be, drops what is unread and all events. The id is not
    /// valid any more; the channel's number is used again once the peer has closed, too.
    pub fn release(&mut self) {
        note!(self.inner.io.out, |_| Command::Release {
            id: self.inner.id
        });
        self.inner.release();
    }

    /// How many bytes the peer's window takes now.
    pub fn send_window(&self) -> u32 {
        self.inner.state().map_or(0, |state| state.send.window())
    }

    /// The longest data packet that the peer takes, in bytes. 0 before the channel is open.
    pub fn max_packet(&self) -> u32 {
        self.inner
            .state()
            .map_or(0, |state| state.send.max_packet())
    }

    /// How many bytes the peer may have under way and unread at the most, right now.
    pub fn receive_window(&self) -> u32 {
        self.inner.state().map_or(0, |state| state.recv.target())
    }

    /// How many bytes the peer may send right now. 0: it waits until what is unread is consumed.
    pub fn receive_credit(&self) -> u32 {
        self.inner.state().map_or(0, |state| state.recv.granted())
    }

    /// Fixes that number, within [`window`](crate::limits::Limits::window) and what is left of
    /// [`window_budget`](crate::limits::Limits::window_budget): it does not grow any more. Credit that was given cannot
    /// be taken back, so a lower number takes effect while data is consumed.
    pub fn set_receive_window(&mut self, bytes: u32) {
        note!(self.inner.io.out, |_| Command::SetReceiveWindow {
            id: self.inner.id,
            bytes
        });
        if let Some((state, shared, io)) = self.inner.parts() {
            // What a lower target holds back is charged already.
            let left = shared
                .budget(io.limits)
                .saturating_add(state.recv.debt().into());
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let most = state.recv.target().saturating_add(left);
            let target = bytes.min(io.limits.window).min(most);
            shared.resize(&mut state.recv, |window| window.fix(target));
            state.send_owed(shared, io);
        }
    }
}

/// What only a client does: RFC 4254 section 6, sessions.
impl Channel<'_, ClientRole> {
    /// Starts a shell, a command or a subsystem. Before the channel is open it waits. [`ChannelEvent::Replied`] follows.
    ///
    /// # Errors
    /// Those of [`request`](Self::request), and [`Misuse::ChannelState`] when a program was started on the channel or
    /// asked for.
    pub fn start(&mut self, program: Program<'_>) -> Result<RequestId, Misuse> {
        note!(self.inner.io.out, |_| Command::Start {
            id: self.inner.id,
            program: program.into()
        });
        self.inner.session()?;
        if self
            .inner
            .state()
            .is_some_and(|state| state.started != Started::No)
        {
            return Err(Misuse::ChannelState("it has a program already"));
        }
        let (name, data) = request::program(program);
        self.inner.request(name, &data, true, true)
    }

    /// Asks for a pseudo-terminal. [`ChannelEvent::Replied`] follows.
    ///
    /// # Errors
    /// As those of [`request`](Self::request).
    pub fn pty(&mut self, pty: &PtyRequest) -> Result<RequestId, Misuse> {
        note!(self.inner.io.out, |_| Command::Pty {
            id: self.inner.id,
            pty: pty.clone()
        });
        self.inner.session()?;
        self.inner
            .request("pty-req", &request::pty(pty), true, false)
    }

    /// Sets an environment variable of the program to come. [`ChannelEvent::Replied`] follows: most servers take few.
    ///
    /// # Errors
    /// As those of [`request`](Self::request).
    pub fn env(&mut self, name: &[u8], value: &[u8]) -> Result<RequestId, Misuse> {
        note!(self.inner.io.out, |_| Command::Env {
            id: self.inner.id,
            name: name.into(),
            value: value.into()
        });
        self.inner.session()?;
        self.inner
            .request("env", &request::env(name, value), true, false)
    }

    /// Tells the size of the terminal. Of several sizes that could not be sent yet, the last one is.
    ///
    /// # Errors
    /// [`Misuse::ChannelState`] when the channel is closing or is no session.
    pub fn resize(&mut self, size: WindowSize) -> Result<(), Misuse> {
        note!(self.inner.io.out, |_| Command::Resize {
            id: self.inner.id,
            size
        });
        self.inner.session()?;
        self.inner.writable()?;
        if let Some((state, shared, io)) = self.inner.parts() {
            state.resized = Some(size);
            state.send_owed(shared, io);
        }
        Ok(())
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// As those of [`request`](Self::request).
    pub fn signal(&mut self, signal: &Signal) -> Result<(), Misuse> {
        note!(self.inner.io.out, |_| Command::Signal {
            id: self.inner.id,
            signal: signal.clone()
        });
        self.inner.session()?;
        // RFC 4254 section 6.9: `want_reply` is FALSE.
        self.inner
            .request("signal", &request::signal(signal), false, false)
            .map(|_| ())
    }

    /// Sends a break of `ms` milliseconds; 0 is the default of whatever sends it on (RFC 4335).
    /// [`ChannelEvent::Replied`] follows.
    ///
    /// # Errors
    /// As those of [`request`](Self::request).
    pub fn send_break(&mut self, ms: u32) -> Result<RequestId, Misuse> {
        note!(self.inner.io.out, |_| Command::Break {
            id: self.inner.id,
            ms
        });
        self.inner.session()?;
        self.inner.request("break", &ms.to_be_bytes(), true, false)
    }
}

/// What only a server does: RFC 4254 section 6.10, how a program ended.
impl Channel<'_, ServerRole> {
    /// Tells the exit status of the program. Call it before [`close`](Self::close).
    ///
    /// # Errors
    /// [`Misuse::ChannelState`] when the channel is closing or is no session, [`Misuse::Limit`].
    pub fn send_exit_status(&mut self, status: u32) -> Result<(), Misuse> {
        note!(self.inner.io.out, |_| Command::ExitStatus {
            id: self.inner.id,
            status
        });
        self.inner.exit("exit-status", &status.to_be_bytes())
    }

    /// Tells the signal that ended the program. Call it before [`close`](Self::close).
    ///
    /// # Errors
    /// As those of [`send_exit_status`](Self::send_exit_status).
    pub fn send_exit_signal(&mut self, exit: &ExitSignal) -> Result<(), Misuse> {
        note!(self.inner.io.out, |_| Command::ExitSignal {
            id: self.inner.id,
            exit: exit.clone()
        });
        self.inner.exit("exit-signal", &request::exit_signal(exit))
    }
}

/// A channel and what its commands need, for either role.
#[derive(Debug)]
pub(crate) struct Handle<'a> {
    channels: &'a mut Channels,
    io: Io<'a>,
    id: ChannelId,
}

impl<'a> Handle<'a> {
    pub(super) const fn new(channels: &'a mut Channels, io: Io<'a>, id: ChannelId) -> Self {
        Self { channels, io, id }
    }

    fn state(&self) -> Option<&State> {
        self.channels.slots.get(self.id)
    }

    fn parts(&mut self) -> Option<(&mut State, &mut Shared, &mut Io<'a>)> {
        let (state, shared) = self.channels.split(self.id)?;
        Some((state, shared, &mut self.io))
    }

    /// What a command can have made possible for others.
    fn after(&mut self) {
        self.channels.serve_writers(&self.io);
        self.channels.reap(self.id);
    }

    fn poll_event(&mut self) -> Option<ChannelEvent> {
        let (state, _, _) = self.parts()?;
        #[cfg(any(test, feature = "replay"))]
        let listed = state.listed;
        let event = state.next_event();
        if matches!(event, Some(ChannelEvent::OpenFailed { .. })) {
            // An expired one stays until the peer has answered.
            state.released = true;
            self.channels.reap(self.id);
        }
        #[cfg(any(test, feature = "replay"))]
        if event.is_some() || listed {
            // That there was none is what lets the channel be listed again.
            note!(self.io.out, |_| Command::ChannelEvent {
                id: self.id,
                name: event.as_ref().map(Name::of),
            });
        }
        event
    }

    fn write(&mut self, stream: Stream, parts: &[&[u8]]) -> Result<usize, WriteError> {
        settle!(self.io.out);
        let Some((state, shared, io)) = self.parts() else {
            return Err(WriteError::Closed);
        };
        let written = state.write(stream, parts, shared, io);
        self.channels.serve_writers(&self.io);
        #[cfg(any(test, feature = "replay"))]
        self.note_write(stream, parts, &written);
        written
    }

    fn send(&mut self, stream: Stream, draft: &mut Draft) -> Result<usize, WriteError> {
        settle!(self.io.out);
        // The draft may become the output, and leave another one in its place.
        #[cfg(any(test, feature = "replay"))]
        let data = self.io.out.is_recorded().then(|| draft.parts().concat());
        let Some((state, shared, io)) = self.parts() else {
            return Err(WriteError::Closed);
        };
        let written = state.send(stream, draft, shared, io);
        self.channels.serve_writers(&self.io);
        #[cfg(any(test, feature = "replay"))]
        self.note_write(stream, &[&data.unwrap_or_default()], &written);
        written
    }

    fn read(
        &mut self,
        stream: Stream,
        take: impl FnOnce(&mut super::recv::Queue, &mut Shared) -> usize,
    ) -> usize {
        settle!(self.io.out);
        let len = self.take_data(stream, take);
        note_late!(
            self.io.out,
            |_| Command::Read {
                id: self.id,
                stream,
                len,
            },
            &[]
        );
        len
    }

    #[cfg(any(test, feature = "replay"))]
    fn note_write(&mut self, stream: Stream, parts: &[&[u8]], written: &Result<usize, WriteError>) {
        if !self.io.out.is_recorded() {
            return;
        }
        let mut left = *written.as_ref().unwrap_or(&0);
        let total = offered(parts.iter().map(|part| part.len()).sum(), left);
        let data: Vec<&[u8]> = parts
            .iter()
            .map(|part| {
                let (taken, _) = part.split_at(left.min(part.len()));
                left = left.saturating_sub(taken.len());
                taken
            })
            .collect();
        note_late!(
            self.io.out,
            |_| Command::Write {
                id: self.id,
                stream,
                total,
                written: Written::of(written),
            },
            &data
        );
    }

    fn lay_out_now(&mut self, stream: Stream, draft: &mut Draft) -> Result<usize, WriteError> {
        let Some((state, shared, io)) = self.parts() else {
            return Err(WriteError::Closed);
        };
        let room = match state.sendable(stream, shared, io) {
            Ok(room) => room,
            Err(error) => {
                // Whose turn it was has given it up.
                self.channels.serve_writers(&self.io);
                return Err(error);
            }
        };
        draft.lay_out_for(self.io.out.layout(), stream, room);
        Ok(room)
    }

    fn chunk(&self, stream: Stream) -> &[u8] {
        self.state()
            .and_then(|state| state.queue(stream))
            .map(|queue| queue.chunk(&self.channels.shared.blocks))
            .unwrap_or_default()
    }

    fn readable(&self, stream: Stream) -> usize {
        self.state()
            .and_then(|state| state.queue(stream))
            .map_or(0, super::recv::Queue::len)
    }

    fn take_data(
        &mut self,
        stream: Stream,
        take: impl FnOnce(&mut super::recv::Queue, &mut Shared) -> usize,
    ) -> usize {
        let Some((state, shared, io)) = self.parts() else {
            return 0;
        };
        let len = state.take_data(stream, shared, take);
        state.send_owed(shared, io);
        len
    }

    fn session(&self) -> Result<(), Misuse> {
        match self.state() {
            Some(state) if state.session => Ok(()),
            Some(_) => Err(Misuse::ChannelState("it is no session")),
            None => Err(Misuse::NoSuchChannel),
        }
    }

    fn writable(&self) -> Result<(), Misuse> {
        self.channels.shared.usable()?;
        let state = self.state().ok_or(Misuse::NoSuchChannel)?;
        if state.local_close == Say::No && matches!(state.phase, Phase::Asked | Phase::Open) {
            Ok(())
        } else {
            Err(Misuse::ChannelState("it is closing"))
        }
    }

    fn request(
        &mut self,
        name: &str,
        data: &[u8],
        want_reply: bool,
        program: bool,
    ) -> Result<RequestId, Misuse> {
        self.writable()?;
        let (state, shared, io) = self.parts().ok_or(Misuse::NoSuchChannel)?;
        state.request(name, data, want_reply, program, shared, io)
    }

    /// How a program ended must not be lost for want of room: it waits on the channel.
    fn exit(&mut self, name: &str, data: &[u8]) -> Result<(), Misuse> {
        self.session()?;
        self.writable()?;
        let (state, shared, io) = self.parts().ok_or(Misuse::NoSuchChannel)?;
        state.enqueue(name, data, false, io.limits)?;
        state.send_owed(shared, io);
        Ok(())
    }

    fn reply(&mut self, token: &RequestToken, accept: bool) -> Result<(), Misuse> {
        if token.channel != self.id {
            return Err(Misuse::StaleToken);
        }
        let (state, shared, io) = self.parts().ok_or(Misuse::StaleToken)?;
        let answer = if accept { Some(&[][..]) } else { None };
        let program = state
            .questions
            .answer(token.serial, answer)
            .ok_or(Misuse::StaleToken)?;
        if program {
            state.started = if accept { Started::Yes } else { Started::No };
        }
        if let Err(fault) = state.send_replies(io) {
            shared.fault.get_or_insert(fault);
        }
        Ok(())
    }

    fn release(&mut self) {
        if let Some((state, shared, io)) = self.parts() {
            state.release(shared, io);
        }
        self.after();
    }
}
