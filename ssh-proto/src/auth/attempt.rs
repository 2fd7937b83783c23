//! What a server is asked about: keys that are only offered, and attempts that carry a proof.

use crate::config::AuthMethod;
use crate::key::PublicKey;
use crate::names::SignatureAlgorithm;
use crate::secret::Secret;

/// Somebody asks whether a key would do for a user (RFC 4252 section 7): the question of the server's event
/// `KeyOffered`, answered with `accept_key` or `refuse_key`.
///
/// **It proves nothing**: anybody can offer anybody's public key, and an accepted key is not always the one that is
/// signed with later. So it cannot be granted, and nothing must be kept from it: the signed request comes as a
/// [`LoginAttempt`] of its own.
///
/// ```compile_fail
/// fn an_offer_is_not_granted(server: &mut ssh_proto::Server, offer: ssh_proto::KeyOffer) {
///     let _ = server.grant(offer);
/// }
/// ```
#[derive(Debug)]
#[must_use = "the connection waits for the answer"]
pub struct KeyOffer {
    pub(super) serial: u64,
    pub(super) user: String,
    pub(super) key: PublicKey,
    pub(super) algorithm: SignatureAlgorithm,
}

impl KeyOffer {
    /// What answers the question of that number: all that is looked at when it comes back.
    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn numbered(serial: u64, key: PublicKey) -> Self {
        Self {
            serial,
            user: String::new(),
            key,
            algorithm: SignatureAlgorithm::Ed25519,
        }
    }

    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// The user name that was given. At most [`Limits::user_len`](crate::limits::Limits::user_len) bytes; any
    /// UTF-8 text that the peer likes, also empty or with control characters.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The algorithm that the client would sign with. It fits the key and is one that the configuration takes.
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

/// What an attempt to log in shows. What can be verified without knowing the users is verified: the signature of a key.
#[derive(Debug)]
#[non_exhaustive]
pub enum Proof {
    /// Nothing. Asked only where [`AuthMethod::None`] is configured.
    None,
    /// A password to be compared with the user's (comparing two [`Secret`]s takes the same time whatever is in them).
    Password(Secret),
    /// The old password, and the one that the user wants from now on. Granting says that both were fine and the
    /// change was made.
    PasswordChange {
        /// The password up to now.
        old: Secret,
        /// The password from now on.
        new: Secret,
    },
    /// A key whose signature over this very request **is valid**. What is left to decide is whether the key may log
    /// in as this user, whatever was said to a [`KeyOffer`] before.
    PublicKey(PublicKey),
    /// The user wants to be asked. It is no proof yet: answer with `prompt` or `refuse`.
    KeyboardInteractive {
        /// The client's hints at how to ask, joined with commas.
        submethods: String,
    },
    /// The answers to the round before, as many as it had prompts. Answer with `grant`, `refuse`, `partial`, or
    /// another `prompt`.
    Answers(Vec<Secret>),
}

impl Proof {
    /// The method that the proof belongs to.
    pub const fn method(&self) -> AuthMethod {
        match self {
            Self::None => AuthMethod::None,
            Self::Password(_) | Self::PasswordChange { .. } => AuthMethod::Password,
            Self::PublicKey(_) => AuthMethod::PublicKey,
            Self::KeyboardInteractive { .. } | Self::Answers(_) => AuthMethod::KeyboardInteractive,
        }
    }
}

/// Somebody wants to log in: the question of the server's event `LoginAttempted`, answered once. Packets of the client
/// wait meanwhile.
///
/// Everything that the verdict needs is in it. Whoever needs two factors looks at [`completed`](Self::completed)
/// rather than remember what came before: the library forgets it when the client changes the user name.
///
/// ```compile_fail
/// fn answered_once(attempt: ssh_proto::LoginAttempt) -> [ssh_proto::LoginAttempt; 2] {
///     [attempt.clone(), attempt]
/// }
/// ```
#[derive(Debug)]
#[must_use = "the connection waits for the answer"]
pub struct LoginAttempt {
    pub(super) serial: u64,
    pub(super) user: String,
    pub(super) proof: Proof,
    pub(super) completed: Vec<AuthMethod>,
}

impl LoginAttempt {
    /// What answers the question of that number: all that is looked at when it comes back.
    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn numbered(serial: u64) -> Self {
        Self {
            serial,
            user: String::new(),
            proof: Proof::None,
            completed: Vec::new(),
        }
    }

    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// The user name. At most [`Limits::user_len`](crate::limits::Limits::user_len) bytes; any UTF-8 text that the
    /// peer likes, also empty or with control characters.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What is shown.
    pub const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The method of the attempt.
    pub const fn method(&self) -> AuthMethod {
        self.proof.method()
    }

    /// The methods that this user has passed on this connection, each answered with `partial`, in order.
    pub fn completed(&self) -> &[AuthMethod] {
        &self.completed
    }
}
