//! The whole of SSHv2, client and server, as a pure state machine: bytes in, bytes and events out.
//!
//! A [`Connection`] does no I/O. It has no clock, no thread, no callback and no source of randomness: whoever owns the
//! byte stream feeds it what was read and the time, writes what it has to say, and looks at what happened. The same seed
//! and the same inputs at the same times give the same bytes, so a session can be simulated, fuzzed and replayed. For a
//! client or a server over sockets take an adapter, such as `ssh-blocking`; take this crate for an event loop of your
//! own.
//!
//! # An event loop
//!
//! The loop below is complete: it checks the host key, authenticates, runs a command and prints what came of it. What
//! would be a socket is `net`, here with a server behind it.
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use ssh_proto::*;
//! # use ssh_proto::key::{KeyKind, PrivateKey};
//! # struct Net { server: Server, now: Instant }
//! # impl Net {
//! #     fn connect(key: PrivateKey) -> Self {
//! #         let config = ServerConfig::new(vec![HostKey::Private(Arc::new(key))]);
//! #         let now = Instant::now();
//! #         Self { server: Server::new(Arc::new(config), Seed::new([2; 32]), now), now }
//! #     }
//! #     fn write(&mut self, bytes: &[u8]) -> usize { self.server.handle_bytes(bytes, self.now) }
//! #     fn read(&mut self, buf: &mut [u8]) -> usize {
//! #         while let Some(event) = self.server.poll_event() {
//! #             match event {
//! #                 ServerEvent::LoginAttempted(attempt) => self.server.grant(attempt).unwrap(),
//! #                 ServerEvent::OpenRequested(open) => _ = self.server.accept_open(open, b"").unwrap(),
//! #                 ServerEvent::Channel(id) => while let Some(mut channel) = self.server.channel(id) {
//! #                     let Some(event) = channel.poll_event() else { break };
//! #                     if let ChannelEvent::Requested { token: Some(token), .. } = event {
//! #                         channel.reply(token, true).unwrap();
//! #                         channel.write(Stream::DATA, b"hello, world\n").unwrap();
//! #                         channel.send_exit_status(0).unwrap();
//! #                         channel.close();
//! #                     }
//! #                 },
//! #                 _ => {}
//! #             }
//! #         }
//! #         let len = self.server.output().len().min(buf.len());
//! #         buf[..len].copy_from_slice(&self.server.output()[..len]);
//! #         self.server.consume_output(len);
//! #         len
//! #     }
//! # }
//! # let host_key = PrivateKey::generate(KeyKind::Ed25519, &[7; 32])?;
//! # let trusted = host_key.public().fingerprint_sha256();
//! # let user_key = Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[9; 32])?);
//! # let mut net = Net::connect(host_key);
//! # let from_the_system = [1; 32];
//! let seed = Seed::new(from_the_system); // 32 fresh random bytes for each connection
//! let mut ssh = Client::new(Arc::new(ClientConfig::new()), seed, Instant::now());
//! ssh.authenticate("alice", Credential::public_key(user_key), Instant::now())?;
//! let (mut input, mut stdout, mut status) = (Input::with_capacity(64 * 1024), Vec::new(), None);
//! 'session: loop {
//!     while !ssh.output().is_empty() {
//!         let written = net.write(ssh.output());
//!         ssh.consume_output(written);
//!     }
//!     if let Ok(mut buffer) = ssh.take_input(std::mem::take(&mut input)) {
//!         let read = net.read(buffer.unfilled());
//!         buffer.advance(read);
//!         input = ssh.handle_input(buffer, Instant::now()).unwrap_or_default();
//!     }
//!     ssh.handle_timeout(Instant::now()); // at `ssh.poll_timeout()` at the latest
//!     while let Some(event) = ssh.poll_event() {
//!         match event {
//!             ClientEvent::HostKeyOffered(offer) if offer.key().fingerprint_sha256() == trusted => {
//!                 ssh.accept_host_key(offer)?;
//!             }
//!             ClientEvent::HostKeyOffered(offer) => ssh.reject_host_key(offer)?,
//!             ClientEvent::Authenticated => {
//!                 let id = ssh.open(OpenChannel::Session, Instant::now())?;
//!                 let mut channel = ssh.channel(id).expect("it was just opened");
//!                 channel.start(Program::Exec(b"echo hello, world"))?;
//!             }
//!             ClientEvent::Channel(id) => {
//!                 let Some(mut channel) = ssh.channel(id) else { continue };
//!                 while let Some(event) = channel.poll_event() {
//!                     match event {
//!                         ChannelEvent::Data(stream) => {
//!                             let len = channel.chunk(stream).len();
//!                             stdout.extend_from_slice(channel.chunk(stream));
//!                             channel.consume(stream, len);
//!                         }
//!                         ChannelEvent::ExitStatus(code) => status = Some(code),
//!                         ChannelEvent::Closed => break 'session,
//!                         _ => {}
//!                     }
//!                 }
//!             }
//!             ClientEvent::Disconnected(error) => return Err(error.into()),
//!             _ => {}
//!         }
//!     }
//! }
//! print!("{}", String::from_utf8_lossy(&stdout));
//! println!("exit status {status:?}");
//! # assert_eq!((stdout.as_slice(), status), (&b"hello, world\n"[..], Some(0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What keeps it bounded
//!
//! The bounds that a caller may set are in [`limits`]. Channel data waits in the blocks that the reader filled, never more than the window
//! that was granted; the window is given back by reading ([`Channel::consume`]), so a channel that nobody reads holds up
//! its sender and nothing else. Output has three marks: channel data stops at the first, requests of ours at the second,
//! and only at the third, which replies alone can reach, does the connection stop reading. Before authentication that one
//! is lower.
//!
//! # Questions
//!
//! Where the library cannot decide (a host key, a password, a prompt, a signature of a key that is elsewhere, a request
//! for a channel) it asks: an event carries a token, and a method takes the token back with the answer. A token cannot be
//! copied, and one that is out of date is a [`Misuse`] that changes nothing.
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::exhaustive_enums
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "tests"
    )
)]

pub mod adapter;
mod auth;
mod channel;
pub mod config;
mod connection;
mod crypto;
pub mod error;
mod forward;
mod kex;
pub mod key;
#[cfg(any(test, feature = "keylog"))]
mod key_log;
pub mod limits;
pub mod log;
pub mod msg;
pub mod names;
mod note;
mod packet;
#[cfg(any(test, feature = "replay"))]
pub mod replay;
pub mod secret;
pub mod socks;
mod steps;
mod transport;
pub mod wire;

pub use auth::{
    Credential, KeyOffer, LoginAttempt, PasswordChange, Prompt, PromptRound, Prompts, Proof,
    SignaturePurpose, SignatureRequest,
};
pub use channel::recv::Received;
#[cfg(feature = "copy-counter")]
#[doc(hidden)]
pub use channel::recv::counter as copy_counter;
pub use channel::{
    Answer, Channel, ChannelEvent, ChannelId, ChannelRequest, ExitSignal, ForwardAddress,
    GlobalRequestKind, GlobalRequestReceived, GlobalRequestToken, OpenChannel, OpenFailureReason,
    OpenKind, OpenRequest, Program, PtyRequest, RequestId, RequestToken, Signal, Stream,
    WindowSize,
};
pub use config::{AuthMethod, ClientConfig, HostKey, ServerConfig, TransportConfig};
pub use connection::event::{ClientEvent, HostKeyOffer, ServerEvent};
pub use connection::role::{ClientRole, Role, ServerRole};
pub use connection::{Client, Connection, Server, Session};
pub use crypto::drbg::Seed;
pub use error::{DisconnectReason, Error, Misuse, WriteError};
pub use forward::{ForwardPolicy, ForwardTarget, ListenOn};
pub use kex::{DirectionAlgorithms, Negotiated};
#[cfg(any(test, feature = "keylog"))]
pub use key_log::KeyLogLine;
pub use packet::{Draft, Input};
pub use secret::Secret;
#[cfg(feature = "step-counter")]
#[doc(hidden)]
pub use steps::counter as step_counter;
