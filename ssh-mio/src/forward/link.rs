//! One connection of a forward: a socket and a channel joined.
//!
//! In: what happened on either. Out: bytes moved from one to the other, read straight into the packet that they leave in,
//! and written straight from the block in which they were opened. Nothing is kept between: what one side does not take
//! stays in the other, where its own flow control holds it up.

use std::io;
use std::net::Shutdown;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use ssh_proto::socks::{SocksEvent, SocksFailure, SocksProxy};
use ssh_proto::{
    Channel, ChannelEvent, ChannelId, Connection, Draft, ForwardAddress, ForwardTarget,
    OpenRequest, Role, Stream, WriteError,
};

use super::connect::Connecting;
use super::socket::Socket;

/// So many bytes go to a socket in one turn at the most, then it is the turn of others. What goes to the channel is bounded
/// by the connection's output.
const TURN: usize = 256 * 1024;
/// How long the talk about the target may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a socket that was told the end may take to say its own: closing it while something is unread would keep the
/// other side from reading what it was sent.
const LINGER: Duration = Duration::from_secs(2);
/// So much is read and dropped of it meanwhile, at the most. Who sends more than that does not wait for the end.
const LAST_WORDS: usize = 256 * 1024;

/// Where a connection that came to a socket is to go through the channel.
#[derive(Debug, Clone)]
pub(super) enum Destination {
    /// A client's: where the server connects to.
    Target(ForwardTarget),
    /// A server's: where the client had it listen.
    Address(ForwardAddress),
}

/// How far a connection is.
///
/// ```text
/// a socket came:    (Asking ─►) Waiting ─► Opening ──► Open ──► Draining ─► over
/// a channel came:   (Asking ─►) Connecting ──────────► Open
/// no connection, and somebody asked by SOCKS:  ──► Refusing ─► Draining ─► over
/// ```
#[derive(Debug)]
pub(super) enum Stage {
    /// It says itself where it goes.
    Asking,
    /// The channel is to be asked for, when there is room for that.
    Waiting(Destination),
    /// The peer was asked for the channel.
    Opening,
    /// The socket is being connected.
    Connecting(Connecting),
    Open,
    /// The proxy says that it is not to be.
    Refusing,
    /// The channel is gone. What the socket still says is dropped until its end.
    Draining {
        /// So much may still come.
        left: usize,
    },
}

/// What a turn has left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for something that will be announced.
    Keep,
    /// It stopped to be fair.
    Again,
    Over,
}

/// What a connection works with.
pub(super) struct Cx<'a, R: Role> {
    pub(super) ssh: &'a mut Connection<R>,
    pub(super) registry: &'a Registry,
    /// Shared by all connections of a thread: it is empty between two of them.
    pub(super) draft: &'a mut Draft,
    pub(super) token: Token,
    pub(super) now: Instant,
    /// The caller looks up names.
    pub(super) resolves: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    /// The key of its forward.
    pub(super) forward: u64,
    pub(super) stage: Stage,
    /// It came to a socket of this side, and not on a channel.
    came_here: bool,
    pub(super) socket: Option<Socket>,
    pub(super) channel: Option<ChannelId>,
    /// In front of the data, until it has said everything.
    pub(super) proxy: Option<Box<SocksProxy>>,
    pub(super) deadline: Option<Instant>,
    /// The socket may have something, as far as is known.
    pub(super) readable: bool,
    /// The socket may take something, as far as is known.
    pub(super) writable: bool,
    /// The other side of the socket has closed: the end is still to be read.
    pub(super) hung_up: bool,
    /// The end of the socket was read.
    socket_eof: bool,
    /// Nothing is carried from the socket to the channel any more.
    upload_over: bool,
    /// Nothing is carried from the channel to the socket any more.
    download_over: bool,
}

impl Link {
    /// A connection that came to a listener. `None`: it says itself where it goes.
    pub(super) fn to_socket(
        forward: u64,
        socket: Socket,
        destination: Option<Destination>,
        now: Instant,
    ) -> Self {
        let mut link = Self::new(forward, true);
        link.socket = Some(socket);
        match destination {
            Some(destination) => link.stage = Stage::Waiting(destination),
            None => link.ask(now),
        }
        link
    }

    /// A connection that the peer asks for, to a target.
    pub(super) fn to_target(forward: u64, connecting: Connecting, now: Instant) -> Self {
        let mut link = Self::new(forward, false);
        link.connect(connecting, now);
        link
    }

    /// A connection that came on a channel, which is open, and says itself where it goes.
    pub(super) fn to_channel(forward: u64, channel: ChannelId, now: Instant) -> Self {
        let mut link = Self::new(forward, false);
        link.channel = Some(channel);
        link.ask(now);
        link
    }

    const fn new(forward: u64, came_here: bool) -> Self {
        Self {
            forward,
            stage: Stage::Asking,
            came_here,
            socket: None,
            channel: None,
            proxy: None,
            deadline: None,
            readable: false,
            writable: false,
            hung_up: false,
            socket_eof: false,
            upload_over: false,
            download_over: false,
        }
    }

    fn ask(&mut self, now: Instant) {
        self.proxy = Some(Box::new(SocksProxy::new()));
        self.deadline = now.checked_add(ASK_TIMEOUT);
    }

    /// The question of the peer that was not answered yet.
    pub(super) fn take_request(&mut self) -> Option<OpenRequest> {
        match &mut self.stage {
            Stage::Connecting(connecting) => connecting.request.take(),
            _ => None,
        }
    }

    /// The proxy is to say that there is no connection. Without one, it just ends.
    pub(super) fn refuse(&mut self, why: SocksFailure, now: Instant) -> ControlFlow<Fate> {
        match &mut self.proxy {
            // Where it is no question, the other side said something wrong, and was told so.
            Some(proxy) => _ = proxy.refuse(why),
            None => return Break(Fate::Over),
        }
        self.stage = Stage::Refusing;
        self.deadline = now.checked_add(LINGER);
        Continue(())
    }

    /// Takes the events of the channel.
    pub(super) fn notice<R: Role>(
        &mut self,
        channel: &mut Channel<'_, R>,
        now: Instant,
    ) -> ControlFlow<Fate> {
        while let Some(event) = channel.poll_event() {
            match event {
                ChannelEvent::Opened { .. } => {
                    if let Some(proxy) = &mut self.proxy {
                        // The question is open, or no channel would have been asked for.
                        _ = proxy.accept();
                    }
                    self.open(channel);
                }
                ChannelEvent::OpenFailed { reason, .. } => {
                    self.channel = None;
                    self.refuse(reason.into(), now)?;
                }
                ChannelEvent::EndOfWrite => {
                    if let Some(socket) = &self.socket {
                        socket.say_unread();
                    }
                    channel.eof();
                    self.upload_over = true;
                }
                ChannelEvent::Closed if matches!(self.stage, Stage::Open) => {
                    // What it sent before is still to be delivered.
                    self.upload_over = true;
                }
                ChannelEvent::Closed => return Break(Fate::Over),
                ChannelEvent::Requested {
                    token: Some(token), ..
                } => _ = channel.reply(token, false),
                _ => {}
            }
        }
        Continue(())
    }

    pub(super) fn open<R: Role>(&mut self, channel: &mut Channel<'_, R>) {
        self.stage = Stage::Open;
        self.deadline = None;
        // Nobody reads it, and it must not hold up the data.
        channel.discard(Stream::STDERR);
    }

    /// Does what can be done now.
    pub(super) fn step<R: Role>(&mut self, cx: &mut Cx<'_, R>) -> Fate {
        loop {
            let overdue = self.deadline.is_some_and(|deadline| deadline <= cx.now);
            let flow = match &self.stage {
                Stage::Asking | Stage::Refusing | Stage::Draining { .. } if overdue => {
                    Break(Fate::Over)
                }
                Stage::Asking => self.talk(cx),
                Stage::Waiting(_) | Stage::Opening => Break(Fate::Keep),
                Stage::Connecting(_) => self.connecting(cx, overdue),
                Stage::Open => self.carry(cx),
                Stage::Refusing => self.part(cx),
                Stage::Draining { left } => self.drain(*left),
            };
            if let Break(fate) = flow {
                return fate;
            }
        }
    }

    /// SOCKS, with whichever side the connection came from.
    fn talk<R: Role>(&mut self, cx: &mut Cx<'_, R>) -> ControlFlow<Fate> {
        self.say(cx)?;
        let Some(proxy) = &mut self.proxy else {
            return Break(Fate::Over);
        };
        match proxy.poll_event() {
            Some(SocksEvent::Connect { host, port }) => {
                let target = ForwardTarget::from((host, port));
                if self.came_here {
                    self.stage = Stage::Waiting(Destination::Target(target));
                    self.deadline = None;
                    return Break(Fate::Keep);
                }
                self.connect(Connecting::new(target, None), cx.now);
                return Continue(());
            }
            Some(_) => return self.refuse(SocksFailure::GENERAL, cx.now),
            None => {}
        }
        match (&self.socket, self.channel) {
            (Some(socket), _) => {
                if !self.readable {
                    return Break(Fate::Keep);
                }
                // What follows its request belongs to the connection, and stays where it is until that is there.
                let mut buf = [0; 512];
                let result = socket.peek(&mut buf).and_then(|len| {
                    let taken = proxy.handle_bytes(buf.get(..len).unwrap_or_default());
                    socket.read(buf.get_mut(..taken).unwrap_or_default())
                });
                match result {
                    Ok(0) => Break(Fate::Over),
                    Ok(_) => Continue(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => Continue(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.readable = false;
                        Break(Fate::Keep)
                    }
                    Err(_) => Break(Fate::Over),
                }
            }
            (None, Some(id)) => {
                let Some(mut channel) = cx.ssh.channel(id) else {
                    return Break(Fate::Over);
                };
                let taken = proxy.handle_bytes(channel.chunk(Stream::DATA));
                channel.consume(Stream::DATA, taken);
                match taken {
                    0 if channel.is_stream_eof(Stream::DATA) => Break(Fate::Over),
                    0 => Break(Fate::Keep),
                    _ => Continue(()),
                }
            }
            (None, None) => Break(Fate::Over),
        }
    }

    /// Writes what the proxy has to say.
    fn say<R: Role>(&mut self, cx: &mut Cx<'_, R>) -> ControlFlow<Fate> {
        let Some(proxy) = &mut self.proxy else {
            return Continue(());
        };
        while !proxy.output().is_empty() {
            let written = match (&self.socket, self.channel) {
                (Some(socket), _) if self.came_here => match socket.write(proxy.output()) {
                    Ok(len) if len > 0 => Ok(len),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.writable = false;
                        Err(WriteError::Blocked)
                    }
                    _ => Err(WriteError::Closed),
                },
                (_, Some(id)) if !self.came_here => match cx.ssh.channel(id) {
                    Some(mut channel) => channel.write(Stream::DATA, proxy.output()),
                    None => Err(WriteError::Closed),
                },
                _ => Err(WriteError::Closed),
            };
            match written {
                Ok(len) => proxy.consume_output(len),
                Err(WriteError::Blocked) => return Break(Fate::Keep),
                Err(WriteError::Closed) => return Break(Fate::Over),
            }
        }
        Continue(())
    }

    /// The proxy refuses; then it is over.
    fn part<R: Role>(&mut self, cx: &mut Cx<'_, R>) -> ControlFlow<Fate> {
        self.say(cx)?;
        match &self.socket {
            Some(socket) if self.came_here => {
                socket.shutdown(Shutdown::Write);
                self.stage = Stage::Draining { left: LAST_WORDS };
                Continue(())
            }
            _ => {
                if let Some(mut channel) = self.channel.and_then(|id| cx.ssh.channel(id)) {
                    channel.eof();
                }
                Break(Fate::Over)
            }
        }
    }

    /// Carries data both ways.
    fn carry<R: Role>(&mut self, cx: &mut Cx<'_, R>) -> ControlFlow<Fate> {
        self.say(cx)?;
        self.proxy = None;
        let (Some(socket), Some(id)) = (self.socket.take(), self.channel) else {
            return Break(Fate::Over);
        };
        let flow = match cx.ssh.channel(id) {
            Some(mut channel) => match self.download(&socket, &mut channel) {
                Continue(()) => self.upload(&socket, &mut channel, cx.draft),
                Break(fate) => {
                    let upload = self.upload(&socket, &mut channel, cx.draft);
                    if upload.is_break() {
                        upload
                    } else {
                        Break(fate)
                    }
                }
            },
            None => Break(Fate::Over),
        };
        self.socket = Some(socket);
        flow?;
        if !(self.download_over && self.upload_over) {
            return Break(Fate::Keep);
        }
        if self.socket_eof {
            return Break(Fate::Over);
        }
        // The peer has closed the channel, or reads no more of it.
        if let Some(mut channel) = self.channel.take().and_then(|id| cx.ssh.channel(id)) {
            channel.release();
        }
        self.stage = Stage::Draining { left: LAST_WORDS };
        self.deadline = cx.now.checked_add(LINGER);
        Continue(())
    }

    /// From the channel to the socket.
    fn download<R: Role>(
        &mut self,
        socket: &Socket,
        channel: &mut Channel<'_, R>,
    ) -> ControlFlow<Fate> {
        let mut budget = TURN;
        while self.writable && !self.download_over {
            let chunk = channel.chunk(Stream::DATA);
            if chunk.is_empty() {
                break;
            }
            if budget == 0 {
                return Break(Fate::Again);
            }
            let chunk = chunk.get(..budget).unwrap_or(chunk);
            match socket.write(chunk) {
                Ok(len) if len > 0 => {
                    channel.consume(Stream::DATA, len);
                    budget = budget.saturating_sub(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                _ => {
                    // The other side of the socket reads no more. It may go on writing.
                    self.download_over = true;
                    channel.discard(Stream::DATA);
                    // It fails when the channel is closing, or the peer has enough to answer: it is a courtesy.
                    _ = channel.end_of_write();
                }
            }
        }
        if !self.download_over && channel.is_stream_eof(Stream::DATA) {
            socket.shutdown(Shutdown::Write);
            self.download_over = true;
        }
        Continue(())
    }

    /// From the socket to the channel.
    fn upload<R: Role>(
        &mut self,
        socket: &Socket,
        channel: &mut Channel<'_, R>,
        draft: &mut Draft,
    ) -> ControlFlow<Fate> {
        while self.readable && !self.upload_over {
            let room = match channel.lay_out_now(Stream::DATA, draft) {
                Ok(room) => room,
                // `Writable` follows.
                Err(WriteError::Blocked) => break,
                Err(WriteError::Closed) => {
                    self.upload_over = true;
                    break;
                }
            };
            match socket.read_vectored(&mut draft.slices()) {
                Ok(0) => {
                    channel.eof();
                    self.socket_eof = true;
                    self.upload_over = true;
                }
                Ok(len) => {
                    // A short read has emptied the socket, unless it ended at the end.
                    self.readable = len >= room || self.hung_up || !cfg!(unix);
                    draft.fill(len);
                    if channel.send(Stream::DATA, draft) != Ok(len) {
                        return Break(Fate::Over);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                // Cut off: what the channel still has goes nowhere.
                Err(_) => return Break(Fate::Over),
            }
        }
        Continue(())
    }

    /// Reads and drops what the socket still says.
    fn drain(&mut self, mut left: usize) -> ControlFlow<Fate> {
        let Some(socket) = &self.socket else {
            return Break(Fate::Over);
        };
        let mut scratch = [0; 8 * 1024];
        while self.readable {
            match socket.read(&mut scratch) {
                Ok(len) if len > 0 && len < left => left = left.saturating_sub(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                _ => return Break(Fate::Over),
            }
        }
        self.stage = Stage::Draining { left };
        Break(Fate::Keep)
    }
}
