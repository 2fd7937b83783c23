//! SSHv2 clients and servers on Tokio, over the state machine of [`ssh_proto`].
//!
//! A [`Client`] connects, judges the host key, authenticates, and opens channels; each is a [`Channel`] with
//! [`AsyncRead`](tokio::io::AsyncRead) and [`AsyncWrite`](tokio::io::AsyncWrite), or the three streams of a [`Child`].
//! A [`Server`] listens, and asks a [`Handler`] per connection for its verdicts. Both work over any stream: a socket,
//! a [`duplex`](tokio::io::duplex) pipe, a channel of another connection.
//!
//! ```no_run
//! use ssh_tokio::{Client, ClientOptions, HostKeyPolicy};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let pin = HostKeyPolicy::fingerprint("SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og");
//! let (client, driver) = Client::connect(("server.example", 22), ClientOptions::new(pin)).await?;
//! let connection = driver.spawn();
//! assert!(client.auth_password("user", "secret").await?.success());
//! let output = client.exec("hostname").output().await?;
//! print!("{}", String::from_utf8_lossy(&output.stdout));
//! drop(client); // the last handle: the connection ends
//! connection.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # The driver
//!
//! A connection has one future that moves its bytes and runs its timers: the [`Driver`]. A client's is handed to the
//! caller, to be spawned or polled beside something else; nothing is spawned in secret. Handles never send it messages:
//! they lock the state machine, act on it, and wake the driver when there is something to write. When the driver is
//! dropped the connection has ended, and everything that waits on it is told. The runtime needs its timers
//! ([`enable_time`](tokio::runtime::Builder::enable_time)), since the stages of the protocol have deadlines
//! ([`Deadlines`](ssh_proto::limits::Deadlines)).
//!
//! # Forwarding
//!
//! [`Client::forward_local`] and its siblings give a [`Forward`]: the listener and all its connections in one value, which
//! works while it [runs](Forward::run), or in the one task that [`Forward::spawn`] starts. A server's [`Handler`] delegates
//! to a [`Forwarding`], which does what its [`ForwardPolicy`] grants, in tasks that end with the connection.
//!
//! # Cancellation
//!
//! Every future of this crate may be dropped at any time: it then has done nothing, or has been cleaned up after. What
//! that means where it is not obvious stands at each method. A channel that is still being opened is closed when the
//! future that opens it is dropped; a reply that nobody waits for any more is thrown away when it comes; bytes were
//! either taken by a write that has returned or not at all, and a read that was dropped has consumed nothing.
//!
//! # Ends
//!
//! Dropping the last handle of a channel closes the channel; dropping the last handle of a connection, its channels
//! included, closes the connection. The driver then sends what is left, shuts the stream down and returns. No task, no
//! waker and no buffer is left after that.
//!
//! # Logs
//!
//! With the feature `tracing` every connection has a span `connection` (`role`, `peer`, `user`), every channel in it a span
//! `channel` (`number`, `kind`), and log records become events of the targets `ssh::transport`, `ssh::auth` and
//! `ssh::connection`. A connection keeps the records that the subscriber wants when it begins. What is in
//! them, hexdumps included, is told in [`ssh_proto::log`]: never a password, an answer, or a key.
//!
//! With the feature `keylog`, `key_log` of [`ClientOptions`] and [`ServerOptions`] writes what Wireshark needs to open a
//! capture. It gives everything away.

mod buffers;
mod channel;
mod client;
mod copy;
mod core;
mod driver;
mod events;
mod forward;
mod observers;
mod pending;
mod pump;
mod requests;
mod server;
mod split;
mod table;
mod waiters;

use std::pin::Pin;

pub use channel::{Channel, ServerChannel, Stderr};
pub use client::{
    Answerer, Asker, Child, ChildStderr, ChildStdin, ChildStdout, Client, ClientOptions, Command,
    HostKeyAsker, HostKeyPolicy, Method, Output, Signer,
};
pub use driver::Driver;
pub use events::{ChannelEvent, ChannelEvents, Event, Events};
pub use forward::{Forward, ForwardHandle, Forwarding};
pub use pending::PendingChannel;
pub use server::{
    Handler, OpenVerdict, PendingFn, Server, ServerConnection, ServerHandle, ServerOptions, Task,
};
pub use split::{ReadHalf, WriteHalf};
pub use ssh_proto;
pub use ssh_proto::adapter::{
    AuthOutcome, Error, ExitStatus, GrantedSession as Session, HostKeyPin, HostKeyRefused,
    MaxStartups, SessionInfo, Verdict,
};
pub use ssh_proto::{ForwardPolicy, ForwardTarget};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
