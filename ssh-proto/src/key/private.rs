//! Private keys: made, read, and put to use. The file format is in `openssh`, the wire form of signatures
//! in `signature`.

use std::fmt;
use std::sync::Arc;

use super::openssh::{self, Encryption};
use super::{KeyError, PublicKey, signature};
use crate::Secret;
use crate::crypto::sign::{self, Curve, RsaPrivate, RsaSigner, Signer};
use crate::names::SignatureAlgorithm;

use super::public::Numbers;

/// What kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// Ed25519 (RFC 8709): small, fast, the one to choose.
    Ed25519,
    /// ECDSA over NIST P-256 (RFC 5656).
    EcdsaNistp256,
    /// ECDSA over NIST P-384 (RFC 5656).
    EcdsaNistp384,
    /// ECDSA over NIST P-521 (RFC 5656).
    EcdsaNistp521,
    /// RSA (RFC 8017) with the public exponent 65537.
    Rsa {
        /// The length of the modulus: 2,048, 3,072, 4,096 or 8,192.
        bits: u32,
    },
}

/// A private key with its public half and a comment.
///
/// Cloning is cheap: clones share the secret, which is wiped when the last of them is dropped. `Debug` shows
/// the public half alone.
#[derive(Clone)]
pub struct PrivateKey {
    public: PublicKey,
    comment: Box<str>,
    shared: Arc<Shared>,
}

/// The secret as it goes into a file, and ready to sign with.
struct Shared {
    secret: PrivateNumbers,
    signer: Signer,
}

/// The secret numbers of a key, as files have them.
pub(super) enum PrivateNumbers {
    /// The seed (RFC 8032 section 5.1.5).
    Ed25519(Secret),
    /// The scalar, as long as the curve's order.
    Ecdsa(Secret),
    Rsa(RsaPrivate),
    /// Of a recording, which has the signatures and not the key.
    #[cfg(any(test, feature = "replay"))]
    Absent,
}

impl PrivateKey {
    /// The highest number of bcrypt rounds that [`from_openssh`](Self::from_openssh) takes. `ssh-keygen`
    /// makes files with 16 or 24; each costs about 10 ms.
    pub const MAX_ROUNDS: u32 = 1_024;

    /// Makes a new key, with an empty comment.
    ///
    /// `entropy` must be 32 fresh bytes of the system's generator, used for this key alone. Ed25519 and ECDSA
    /// keys follow from it: the same bytes give the same key. RSA is the exception: the cryptographic library
    /// draws the primes from the system for itself, and `entropy` is not used.
    pub fn generate(kind: KeyKind, entropy: &[u8; 32]) -> Result<Self, KeyError> {
        let failed = |_| KeyError::BadKey("generation failed");
        let curve = match kind {
            KeyKind::Ed25519 => {
                // RFC 8032 section 5.1.5: "The private key is 32 octets [...] of cryptographically secure
                // random data".
                let public = sign::ed25519_public(entropy).map_err(failed)?;
                let public = PublicKey::from_ed25519(&public);
                let secret = PrivateNumbers::Ed25519(Secret::from(&entropy[..]));
                return Self::new(public, secret, "");
            }
            KeyKind::EcdsaNistp256 => Curve::P256,
            KeyKind::EcdsaNistp384 => Curve::P384,
            KeyKind::EcdsaNistp521 => Curve::P521,
            KeyKind::Rsa { bits } => {
                if ![2_048, 3_072, 4_096, 8_192].contains(&bits) {
                    let sizes = "RSA keys are made with 2,048, 3,072, 4,096 or 8,192 bits";
                    return Err(KeyError::Limit(sizes));
                }
                let (signer, numbers) = RsaSigner::generate(bits).map_err(failed)?;
                let public = PublicKey::from_rsa(sign::RsaPublic {
                    n: &numbers.n,
                    e: &numbers.e,
                })?;
                let secret = PrivateNumbers::Rsa(numbers.private);
                let signer = Signer::Rsa(signer);
                return Ok(Self {
                    public,
                    comment: "".into(),
                    shared: Arc::new(Shared { secret, signer }),
                });
            }
        };
        let (scalar, point) = sign::ecdsa_generate(curve, entropy).map_err(failed)?;
        let public = PublicKey::from_point(curve, &point)?;
        Self::new(public, PrivateNumbers::Ecdsa(scalar), "")
    }

    /// Puts the halves together after having checked that they belong to one another.
    pub(super) fn new(
        public: PublicKey,
        secret: PrivateNumbers,
        comment: &str,
    ) -> Result<Self, KeyError> {
        let signer = match (public.numbers(), &secret) {
            (Numbers::Ed25519(public), PrivateNumbers::Ed25519(seed)) => {
                Signer::ed25519(seed.expose(), public)
            }
            (Numbers::Ecdsa(curve, point), PrivateNumbers::Ecdsa(scalar)) => {
                Signer::ecdsa(curve, scalar.expose(), point)
            }
            (Numbers::Rsa(public), PrivateNumbers::Rsa(private)) => {
                if public.n.len() > 8_192 / 8 {
                    let bound = "an RSA private key has 2,048 to 8,192 bits";
                    return Err(KeyError::Limit(bound));
                }
                RsaSigner::new(public, private).map(Signer::Rsa)
            }
            _ => Err(sign::Refused),
        };
        let signer = signer.map_err(|_| KeyError::BadKey("its numbers do not fit together"))?;
        Ok(Self {
            public,
            comment: comment.into(),
            shared: Arc::new(Shared { secret, signer }),
        })
    }

    /// In place of a key whose signatures were recorded: it makes none.
    #[cfg(any(test, feature = "replay"))]
    pub(crate) fn without_secret(public: PublicKey) -> Self {
        Self {
            public,
            comment: "".into(),
            shared: Arc::new(Shared {
                secret: PrivateNumbers::Absent,
                signer: Signer::Absent,
            }),
        }
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The comment: often `user@host`, and of no meaning.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The same key with another comment.
    #[must_use]
    pub fn with_comment(mut self, comment: &str) -> Self {
        self.comment = comment.into();
        self
    }

    /// Signs `message`. The result is the blob of RFC 4253 section 6.6: the algorithm's name and the
    /// signature proper.
    ///
    /// `algorithm` must be one of the public half's [`algorithms`](PublicKey::algorithms). An RSA signature is
    /// verified before it is given out. The nonces of ECDSA signatures are drawn by the cryptographic library
    /// from the system, so two signatures of one message differ.
    pub fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if !self.public.algorithms().contains(&algorithm) {
            return Err(KeyError::algorithm(algorithm));
        }
        signature::sign(&self.shared.signer, algorithm, message)
    }

    /// Reads an OpenSSH private key file (`-----BEGIN OPENSSH PRIVATE KEY-----`).
    ///
    /// `passphrase` is used when the file is encrypted; an empty one counts as none. A file whose key
    /// derivation takes more than [`MAX_ROUNDS`](Self::MAX_ROUNDS) rounds is refused before any work is done.
    /// A comment that is not UTF-8 is made so with replacement characters.
    pub fn from_openssh(
        file: impl AsRef<[u8]>,
        passphrase: Option<&[u8]>,
    ) -> Result<Self, KeyError> {
        Self::from_openssh_with_max_rounds(file, passphrase, Self::MAX_ROUNDS)
    }

    /// [`from_openssh`](Self::from_openssh) with another bound of the rounds.
    pub fn from_openssh_with_max_rounds(
        file: impl AsRef<[u8]>,
        passphrase: Option<&[u8]>,
        max_rounds: u32,
    ) -> Result<Self, KeyError> {
        openssh::read(file.as_ref(), passphrase, max_rounds)
    }

    /// `true` when the OpenSSH private key file wants a passphrase. Its public half does not:
    /// [`PublicKey::from_openssh_private`].
    pub fn is_encrypted(file: impl AsRef<[u8]>) -> Result<bool, KeyError> {
        openssh::is_encrypted(file.as_ref())
    }

    /// Writes an OpenSSH private key file, with a line end at its end, in clear or encrypted with `aes256-ctr`.
    ///
    /// `checkint` is written twice into the private part; when it comes out equal, the passphrase was right.
    /// It should be random when the file is encrypted.
    pub fn to_openssh(
        &self,
        encryption: Option<Encryption<'_>>,
        checkint: u32,
    ) -> Result<Secret, KeyError> {
        openssh::write(self, &self.shared.secret, encryption, checkint)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("public", &self.public)
            .field("comment", &self.comment)
            .finish_non_exhaustive()
    }
}
