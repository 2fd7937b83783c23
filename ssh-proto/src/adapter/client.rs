//! A client's words: which host key will do, how an attempt to authenticate ended, what is known of the session.

use std::fmt;

use crate::Session;
use crate::key::PublicKey;

/// A host key that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostKeyPin {
    /// The key with this fingerprint: `SHA256:` and 43 characters, as `ssh-keygen -l` prints it.
    Fingerprint(String),
    /// This key.
    Key(PublicKey),
}

impl HostKeyPin {
    fn is(&self, key: &PublicKey) -> bool {
        match self {
            // Some write the padding of base64, some do not.
            Self::Fingerprint(pin) => pin.trim_end_matches('=') == key.fingerprint_sha256(),
            Self::Key(pin) => pin == key,
        }
    }
}

impl fmt::Display for HostKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(pin) => f.write_str(pin),
            Self::Key(key) => f.write_str(&key.fingerprint_sha256()),
        }
    }
}

/// The verdict on a host key, when one of these and no other will do.
///
/// # Errors
///
/// The key is none of them.
pub fn judge_host_key(pins: &[HostKeyPin], key: &PublicKey) -> Result<(), HostKeyRefused> {
    if pins.iter().any(|pin| pin.is(key)) {
        Ok(())
    } else {
        Err(HostKeyRefused::new(key, pins))
    }
}

/// The host key that a server showed, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostKeyRefused {
    /// The type of the key that was shown, such as `ssh-ed25519`.
    pub key_type: String,
    /// The `SHA256:` fingerprint of the key that was shown.
    pub shown: String,
    /// The fingerprints that would have done. Empty when a callback refused the key.
    pub expected: Vec<String>,
}

impl HostKeyRefused {
    /// What there is to say about a key that is not one of `expected`, or, when that is empty, that somebody refused.
    pub fn new(key: &PublicKey, expected: &[HostKeyPin]) -> Self {
        Self {
            key_type: key.key_type().to_owned(),
            shown: key.fingerprint_sha256(),
            expected: expected.iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for HostKeyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host key refused: the server showed {} ({})",
            self.shown, self.key_type
        )?;
        if !self.expected.is_empty() {
            write!(f, ", expected {}", self.expected.join(" or "))?;
        }
        Ok(())
    }
}

/// How an attempt to authenticate ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthOutcome {
    /// The user is in.
    Success,
    /// Not yet.
    Refused {
        /// The methods that can continue.
        methods: Vec<String>,
        /// The attempt itself was good, and another method must follow.
        partial_success: bool,
    },
    /// The password has expired, and nobody was there to choose another.
    PasswordExpired {
        /// What the server wants shown.
        prompt: String,
    },
}

impl AuthOutcome {
    /// Whether the user is in.
    pub const fn success(&self) -> bool {
        matches!(self, Self::Success)
    }
}

/// What stays the same over a connection's life.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session identifier (RFC 4253 section 7.2).
    pub id: Vec<u8>,
    /// Our version line.
    pub local_version: String,
    /// The peer's version line.
    pub peer_version: Vec<u8>,
    /// The server's host key.
    pub host_key: PublicKey,
    /// The user, once authenticated.
    pub user: Option<String>,
}

impl From<Session<'_>> for SessionInfo {
    fn from(session: Session<'_>) -> Self {
        Self {
            id: session.id.to_vec(),
            local_version: session.local_version.to_owned(),
            peer_version: session.peer_version.to_vec(),
            host_key: session.host_key.clone(),
            user: session.user.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fingerprints_are_shown() {
        let refused = HostKeyRefused {
            key_type: "ssh-ed25519".into(),
            shown: "SHA256:aaa".into(),
            expected: vec!["SHA256:bbb".into(), "SHA256:ccc".into()],
        };
        assert_eq!(
            refused.to_string(),
            "host key refused: the server showed SHA256:aaa (ssh-ed25519), expected SHA256:bbb or SHA256:ccc"
        );
    }
}
