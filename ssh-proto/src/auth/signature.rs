//! A signature that is made outside the library: by an agent, a hardware module, a key service.

use std::fmt;

use crate::key::PublicKey;
use crate::names::SignatureAlgorithm;

/// What a signature is for. A signer may treat the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignaturePurpose {
    /// A client's user proves that a key is theirs (RFC 4252 section 7).
    UserAuthentication,
    /// A server proves its host key in a key exchange (RFC 4253 section 8).
    HostKey,
}

/// A signature is needed from a key that is not here: the question of the event `SignatureNeeded`, answered once with
/// `supply_signature`. Packets of the peer wait meanwhile.
#[must_use = "the connection waits for the signature"]
pub struct SignatureRequest {
    serial: u64,
    purpose: SignaturePurpose,
    key: PublicKey,
    algorithm: SignatureAlgorithm,
    data: Vec<u8>,
}

impl SignatureRequest {
    /// A request; `serial` is known to whoever asks, and to nobody else.
    pub(crate) const fn new(
        serial: u64,
        purpose: SignaturePurpose,
        key: PublicKey,
        algorithm: SignatureAlgorithm,
        data: Vec<u8>,
    ) -> Self {
        Self {
            serial,
            purpose,
            key,
            algorithm,
            data,
        }
    }

    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// What the signature is for.
    pub const fn purpose(&self) -> SignaturePurpose {
        self.purpose
    }

    /// The key to sign with.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The algorithm to sign with. For RSA keys it says which hash (RFC 8332); the signature must name the same.
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The bytes to sign, not hashed yet.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

impl fmt::Debug for SignatureRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureRequest")
            .field("purpose", &self.purpose)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
