//! What authentication tells the caller. The facade's events of each role contain these.

use super::attempt::{KeyOffer, LoginAttempt};
use super::prompt::{PasswordChange, Prompts};
use super::signature::SignatureRequest;

/// What happened in a client's authentication.
#[derive(Debug)]
pub(crate) enum ClientAuthEvent {
    /// Text of the server for the user, safe to print.
    Banner(String),
    /// The attempt failed, or (with `partial_success`) was good and must be followed by another. It also ends an
    /// attempt whose signature could not be made: then nothing was sent, and `methods` is what the server said last.
    AuthenticationRefused {
        methods: Vec<String>,
        partial_success: bool,
    },
    /// A question: `answer`.
    PromptsReceived(Prompts),
    /// A question: `change_password`.
    PasswordChangeRequested(PasswordChange),
    /// A question: `supply_signature`.
    SignatureNeeded(SignatureRequest),
    /// The user is authenticated.
    Authenticated,
}

/// What happened in a server's authentication.
#[derive(Debug)]
pub(crate) enum ServerAuthEvent {
    /// A question: `accept_key` or `refuse_key`.
    KeyOffered(KeyOffer),
    /// A question: `grant`, `refuse`, `partial`, `prompt` or `require_password_change`.
    LoginAttempted(LoginAttempt),
    /// The user is authenticated.
    Authenticated { user: String },
}
