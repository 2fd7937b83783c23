//! SSHv2 clients and servers on blocking sockets and threads, over the state machine of [`ssh_proto`].
//!
//! A [`Client`] connects, judges the host key, authenticates, and opens channels; each is a [`Channel`] with
//! [`Read`](std::io::Read) and [`Write`](std::io::Write), or the three streams of a [`Child`]. A [`Server`] listens,
//! and asks a [`Handler`] per connection for its verdicts. All handles can be shared between threads.
//!
//! ```no_run
//! use ssh_blocking::{Client, ClientOptions, HostKeyPolicy};
//!
//! let pin = HostKeyPolicy::fingerprint("SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og");
//! let client = Client::connect(("server.example", 22), ClientOptions::new(pin))?;
//! assert!(client.auth_password("user", "secret")?.success());
//! let output = client.exec("hostname").output()?;
//! print!("{}", String::from_utf8_lossy(&output.stdout));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Threads and deadlines
//!
//! A connection over a socket has one thread of its own; over a pair of a reader and a writer it has two. They end
//! with it. A call that waits does the connection's work itself meanwhile, so that data reaches the thread that waits
//! for it directly. No lock is held while a callback of yours runs, and a callback that panics ends its connection
//! only. The stages of the protocol have their deadlines
//! ([`Deadlines`](ssh_proto::limits::Deadlines)); reads, writes and waits have those that you set.
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

mod channel;
mod client;
mod core;
mod driver;
mod events;
mod forward;
mod pending;
mod requests;
mod server;
mod transport;

pub use channel::{Channel, ServerChannel, Stderr};
pub use client::{
    Answerer, Asker, Child, ChildStderr, ChildStdin, ChildStdout, Client, ClientOptions, Command,
    HostKeyPolicy, Method, Output, Signer,
};
pub use events::{ChannelEvent, ChannelEvents};
pub use forward::{Forward, Forwarding};
pub use pending::PendingChannel;
pub use server::{
    Handler, OpenVerdict, Server, ServerConnection, ServerHandle, ServerOptions, Task,
};
pub use ssh_proto;
pub use ssh_proto::adapter::{
    AuthOutcome, Error, ExitStatus, GrantedSession as Session, HostKeyPin, HostKeyRefused,
    MaxStartups, SessionInfo, Verdict,
};
pub use ssh_proto::{ForwardPolicy, ForwardTarget};
pub use transport::Transport;
