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
mod kex;
pub mod key;
pub mod limits;
pub mod log;
pub mod msg;
pub mod names;
mod packet;
pub mod secret;
mod transport;
pub mod wire;

pub use auth::{
    Credential, KeyOffer, LoginAttempt, PasswordChange, Prompt, PromptRound, Prompts, Proof,
    SignaturePurpose, SignatureRequest,
};
pub use channel::{
    Answer, Channel, ChannelId, GlobalRequestReceived, GlobalRequestToken, OpenChannel,
    OpenFailureReason, OpenRequest, RequestId, Stream,
};
pub use config::{AuthMethod, ClientConfig, HostKey, ServerConfig, TransportConfig};
pub use connection::event::{ClientEvent, HostKeyOffer, ServerEvent};
pub use connection::role::{ClientRole, Role, ServerRole};
pub use connection::{Client, Connection, Server, Session};
pub use crypto::drbg::Seed;
pub use error::{DisconnectReason, Error, Misuse, WriteError};
pub use kex::{DirectionAlgorithms, Negotiated};
pub use packet::Input;
pub use secret::Secret;
