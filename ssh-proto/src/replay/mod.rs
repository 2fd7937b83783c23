//! Sessions that are recorded, and recordings that are played: the same bytes again. Feature `replay`.
//!
//! A connection is a value: what it says follows from its seed, its configuration, and what was done to it and when. A
//! recording is a text with all of that. Where [`record`](crate::config::TransportConfig::record) is set a connection
//! writes one ([`take_recording`](crate::Connection::take_recording),
//! [`finish_recording`](crate::Connection::finish_recording)); [`play()`] does it all again, compares every byte of output
//! at every step, and names the first that differs. So a session that went wrong somewhere else can be looked at here, and
//! a bug report becomes a test.
//!
//! **A recording holds secrets**: the seed, from which all keys of the session follow, and passwords as they were typed.
//! Private keys it does not hold: their signatures are recorded instead.
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use ssh_proto::{Client, ClientConfig, Seed, replay};
//!
//! let mut config = ClientConfig::new();
//! config.transport.record = true;
//! let start = Instant::now();
//! let mut client = Client::new(Arc::new(config), Seed::new([1; 32]), start);
//! client.handle_bytes(b"SSH-2.0-example\r\n", start);
//! client.handle_eof(start);
//! let text = client.finish_recording().expect("it was asked for");
//!
//! let trace = replay::Trace::parse(&text)?;
//! replay::play(&trace, Instant::now())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The format
//!
//! Lines of US-ASCII. Those that begin with `#`, and empty ones, say nothing. First comes the head: the version of the
//! format, the seed, the role, and the configuration, one line for each group of settings. `new` makes the connection. Then
//! each line is a command, in the order in which they came, and `end` says that the recording is whole (`stopped`: that
//! nobody took its text in time).
//!
//! ```text
//! ssh-proto trace 1
//! # THIS FILE HOLDS SECRETS. ..
//! seed AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
//! role client
//! kex curve25519-sha256
//! ..
//! new
//!   > U1NILTIuMC1zc2hfcHJvdG9fMC4xLjANCgAABDwGFN2i0H1n8ghUlwB6bK46xPQAAAA8Y3VydmUyNTUxOS1z
//!   > ..
//! authenticate 0.000731204 "alice" password "correct horse"
//! input 0.001200310 no
//!   < U1NILTIuMC1PcGVuU1NIXzEwLjANCg==
//! event HostKeyOffered
//! accept-host-key 5d8cf3d3a63a8a5f
//! ..
//! end
//! ```
//!
//! Fields are separated by spaces. Times are seconds since the connection was made, with nine digits behind the point.
//! Texts stand in quotation marks, with Rust's escapes for bytes; other bytes in base64, where `=` alone is none. Channels
//! are called by their number on the wire and a generation, questions by a number that the connection draws: both are the
//! same when it is played. Below a command stand the bytes that belong to it:
//!
//! | mark | bytes |
//! |---|---|
//! | `<` | its own: what the peer sent, or what was written to a channel |
//! | `!`, `!+` | what the cryptographic library drew itself, and the rest of that; `!-`: it failed |
//! | `>` | the output that came of it |
//!
//! What a command does is what the method of its name does: `input` is
//! [`handle_input`](crate::Connection::handle_input), `read` any way to read so many bytes from a channel. Not recorded is
//! what changes no byte: which log records are kept, how memory is handed to and fro, and looking at things.

mod command;
pub(crate) mod config;
mod fields;
mod play;
pub(crate) mod record;
#[cfg(test)]
mod tests;
mod text;
mod trace;

pub(crate) use command::{Command, Start};
pub(crate) use fields::{Name, Serial, Written};
pub use play::{Difference, Divergence, Player, play};
pub(crate) use record::offered;
pub use trace::{Step, Trace, TraceError};
