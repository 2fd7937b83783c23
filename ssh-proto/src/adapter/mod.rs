//! What the adapters have in common: the words of a client or a server that waits, whatever it waits with.
//!
//! Nothing in the state machine uses any of this. An adapter gives these types to its users under its own name
//! (`ssh_blocking::Error` is [`Error`]), so that code that deals with one adapter's errors and outcomes deals with
//! all of them; an event loop of your own may use them or not.

mod attempts;
mod client;
mod error;
mod exit;
mod server;
#[cfg(feature = "tracing")]
mod spans;

pub use attempts::Attempts;
pub use client::{AuthOutcome, HostKeyPin, HostKeyRefused, SessionInfo, judge_host_key};
pub use error::Error;
pub use exit::ExitStatus;
pub use server::{GrantedSession, MaxStartups, Verdict};
#[cfg(feature = "tracing")]
pub use spans::{LogCallback, Spans, traced};
