//! What a client shows to prove who its user is.

use std::sync::Arc;

use crate::config::AuthMethod;
use crate::key::{PrivateKey, PublicKey};
use crate::secret::Secret;

/// What one attempt to authenticate shows to the server. It is sent once, and wiped as soon as it was sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Credential {
    /// Nothing (RFC 4252 section 5.2): servers that need no proof grant it, all others say which methods they take.
    None,
    /// A password (RFC 4252 section 8), in UTF-8. At most
    /// [`Limits::password_len`](crate::limits::Limits::password_len) bytes.
    Password(Secret),
    /// A private key that is here (RFC 4252 section 7).
    PublicKey {
        /// The key.
        key: Arc<PrivateKey>,
        /// Ask first whether the key would do, and sign only then: a round trip more, but a key that would not do
        /// costs no failed attempt.
        query: bool,
    },
    /// A private key that is elsewhere: in an agent or a hardware module. The server is always asked first; when the
    /// key would do, the event `SignatureNeeded` asks for the signature.
    External {
        /// The public half.
        key: PublicKey,
    },
    /// Answers to the server's questions (RFC 4256): the event `PromptsReceived` brings them.
    KeyboardInteractive {
        /// Names that hint at how the user wants to be asked, joined with commas; empty to leave it to the server.
        submethods: String,
    },
}

impl Credential {
    /// A password.
    pub fn password(password: impl Into<Secret>) -> Self {
        Self::Password(password.into())
    }

    /// A private key, signed with at once. Where several keys may have to be tried, spell the variant out and let
    /// it query.
    pub fn public_key(key: impl Into<Arc<PrivateKey>>) -> Self {
        Self::PublicKey {
            key: key.into(),
            query: false,
        }
    }

    /// A key whose private half is elsewhere.
    pub const fn external(key: PublicKey) -> Self {
        Self::External { key }
    }

    /// Answers to the server's questions.
    pub const fn keyboard_interactive() -> Self {
        Self::KeyboardInteractive {
            submethods: String::new(),
        }
    }

    /// The method of the attempt.
    pub const fn method(&self) -> AuthMethod {
        match self {
            Self::None => AuthMethod::None,
            Self::Password(_) => AuthMethod::Password,
            Self::PublicKey { .. } | Self::External { .. } => AuthMethod::PublicKey,
            Self::KeyboardInteractive { .. } => AuthMethod::KeyboardInteractive,
        }
    }
}
