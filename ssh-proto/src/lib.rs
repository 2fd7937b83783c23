//! The whole of SSHv2, client and server, as a pure state machine: bytes in, bytes and events out.
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

mod auth;
mod channel;
pub mod config;
mod connection;
mod crypto;
pub mod error;
pub mod key;
pub mod limits;
pub mod log;
pub mod msg;
pub mod names;
mod packet;
pub mod secret;
pub mod wire;

#[cfg(feature = "copy-counter")]
#[doc(hidden)]
pub use channel::recv::counter as copy_counter;
pub use channel::{
    Answer, Channel, ChannelEvent, ChannelId, ChannelRequest, ExitSignal, GlobalRequestReceived,
    GlobalRequestToken, OpenChannel, OpenFailureReason, OpenKind, OpenRequest, Program, PtyRequest,
    RequestId, RequestToken, Signal, Stream, WindowSize,
};
pub use connection::role::{ClientRole, Role, ServerRole};
pub use crypto::drbg::Seed;
pub use error::{Error, Misuse, WriteError};
pub use packet::Input;
pub use secret::Secret;
