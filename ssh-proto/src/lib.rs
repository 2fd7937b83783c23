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

pub use auth::{
    Credential, KeyOffer, LoginAttempt, PasswordChange, Prompt, PromptRound, Prompts, Proof,
    SignaturePurpose, SignatureRequest,
};
pub use crypto::drbg::Seed;
pub use error::{Error, Misuse};
pub use secret::Secret;
