//! SSHv2 clients and servers on [mio], over the state machine of [`ssh_proto`]: one thread serves thousands of
//! connections.
//!
//! A [`Session`] is an [`ssh_proto::Connection`] on a non-blocking stream. It moves the bytes and keeps account of
//! readiness; everything else is the core's own: its events, its questions, its channels, lent directly.
//! [`Sessions`] keeps all sessions of a thread, with one read buffer and one ordered structure of deadlines for all.
//!
//! # A server
//!
//! The loop below is complete. Its server lets in whoever has the right key, and sends back what comes on a channel.
//!
//! ```no_run
//! use std::{sync::Arc, time::Instant};
//! use mio::{Events, Interest, Poll, Token, net::TcpListener};
//! use ssh_mio::{ServerSession, Sessions, seed};
//! use ssh_mio::ssh_proto::{Answer, ChannelEvent, HostKey, OpenKind, OpenFailureReason, Proof, ServerConfig};
//! use ssh_mio::ssh_proto::{ServerEvent, Stream, WriteError, limits::PACKET_DATA_LEN};
//! use ssh_mio::ssh_proto::key::{PrivateKey, PublicKey};
//!
//! const LISTENER: Token = Token(0);
//!
//! let host_key = PrivateKey::from_openssh(std::fs::read("host_key")?, None)?;
//! let (user_key, _) = PublicKey::from_openssh(&std::fs::read_to_string("user_key.pub")?)?;
//! let config = Arc::new(ServerConfig::new(vec![HostKey::Private(Arc::new(host_key))]));
//!
//! let mut listener = TcpListener::bind("127.0.0.1:2222".parse()?)?;
//! let mut poll = Poll::new()?;
//! poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
//! let mut events = Events::with_capacity(1024);
//! let mut sessions = Sessions::new(Token(1));
//! let mut data = vec![0; PACKET_DATA_LEN];
//! loop {
//!     poll.poll(&mut events, sessions.wait_time(Instant::now()))?;
//!     let now = Instant::now();
//!     for event in &events {
//!         if event.token() != LISTENER {
//!             sessions.note(event);
//!             continue;
//!         }
//!         // Out of descriptors? `examples/server.rs` shows how to try again later.
//!         while let Ok((stream, _)) = listener.accept() {
//!             let session = ServerSession::new(stream, Arc::clone(&config), seed()?, now);
//!             sessions.insert(poll.registry(), session, ())?;
//!         }
//!     }
//!     sessions.run(poll.registry(), now, |_, session, ()| {
//!         while let Some(event) = session.poll_event() {
//!             let ssh = session.connection();
//!             // An answer that comes too late is a `Misuse` that changes nothing.
//!             _ = match event {
//!                 ServerEvent::KeyOffered(offer) if *offer.key() == user_key => ssh.accept_key(offer),
//!                 ServerEvent::KeyOffered(offer) => ssh.refuse_key(offer),
//!                 ServerEvent::LoginAttempted(attempt) => match attempt.proof() {
//!                     Proof::PublicKey(key) if *key == user_key => ssh.grant(attempt),
//!                     _ => ssh.refuse(attempt),
//!                 },
//!                 ServerEvent::OpenRequested(request) => match request.kind() {
//!                     OpenKind::Session => ssh.accept_open(request, b"").map(|_| ()),
//!                     _ => ssh.refuse_open(request, OpenFailureReason::UNKNOWN_CHANNEL_TYPE, ""),
//!                 },
//!                 ServerEvent::GlobalRequested(request) => match request.token {
//!                     Some(token) => ssh.answer_global(token, Answer::Refuse),
//!                     None => Ok(()),
//!                 },
//!                 ServerEvent::Channel(id) => {
//!                     let Some(mut channel) = session.channel(id) else { continue };
//!                     while let Some(event) = channel.poll_event() {
//!                         match event {
//!                             ChannelEvent::Requested { request, token: Some(token) } => {
//!                                 _ = channel.reply(token, request.is_program());
//!                             }
//!                             ChannelEvent::Data(_) | ChannelEvent::Writable | ChannelEvent::Eof => {
//!                                 loop {
//!                                     let chunk = channel.chunk(Stream::DATA);
//!                                     let len = chunk.len().min(data.len());
//!                                     data[..len].copy_from_slice(&chunk[..len]);
//!                                     if len == 0 { break }
//!                                     match channel.write(Stream::DATA, &data[..len]) {
//!                                         Ok(written) => channel.consume(Stream::DATA, written),
//!                                         Err(WriteError::Blocked) => break, // `Writable` follows
//!                                         Err(WriteError::Closed) => channel.discard(Stream::DATA),
//!                                     }
//!                                 }
//!                                 if channel.is_eof() {
//!                                     _ = channel.send_exit_status(0);
//!                                     channel.close();
//!                                 }
//!                             }
//!                             ChannelEvent::Closed => { channel.release(); break }
//!                             _ => {}
//!                         }
//!                     }
//!                     Ok(())
//!                 }
//!                 _ => Ok(()),
//!             };
//!         }
//!     });
//! }
//! # #[expect(unreachable_code, reason = "gives the loop its error type")]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - **Nothing is lost.** mio announces readiness once. A session that stops before the socket has nothing more, to be
//!   fair or because the core takes nothing now, remembers it and goes on by itself.
//! - **Nobody starves.** In one turn a session reads 256 KiB at the most, and its output is bounded by the core. A
//!   session that floods costs the others one such turn; a channel that nobody reads stops its own sender only.
//! - **Work is proportional to what happened.** Deadlines are ordered, the sessions to serve are listed; no session is
//!   looked at because it is there.
//! - **An idle connection is small.** It has no buffers of its own: see [`ReadBuffer`].
//! - **Clocks are arguments.** Take the time once for each turn.
//!
//! # Logs
//!
//! With the feature `tracing` every connection has a span `connection` (`role`, `peer`, `user`), every channel in it a span
//! `channel` (`number`, `kind`), and log records become events of the targets `ssh::transport`, `ssh::auth` and
//! `ssh::connection`. A connection keeps the records that the subscriber wants when it begins. [`Connection::poll_log`](ssh_proto::Connection::poll_log)
//! has none then: the session takes them. What is in
//! them, hexdumps included, is told in [`ssh_proto::log`]: never a password, an answer, or a key.
//!
//! With the feature `keylog`, `Session::write_key_log` writes what Wireshark needs to open a capture. It gives everything away.

mod buffer;
mod forward;
mod session;
mod sessions;
mod timers;
mod transport;

pub use buffer::ReadBuffer;
pub use forward::{
    ClientForwards, ForwardEvent, ForwardId, Forwards, NameQuestion, ServerForwards,
};
pub use mio;
pub use session::{ClientSession, ServerSession, Session};
pub use sessions::Sessions;
pub use ssh_proto;
pub use ssh_proto::{ForwardPolicy, ForwardTarget};
pub use timers::Timers;
pub use transport::Transport;

use std::io;

use ssh_proto::Seed;

/// A fresh seed from the system's generator, for one session.
///
/// # Errors
/// The system has no randomness to give, which does not happen on a healthy one.
pub fn seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Seed::new(bytes))
}
