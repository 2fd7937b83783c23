//! Signature schemes: Ed25519 (RFC 8032), ECDSA over the NIST curves (FIPS 186-5, RFC 5656), and RSA
//! with PKCS#1 v1.5 padding (RFC 8017 section 8.2).
//!
//! In: raw numbers and messages. Out: raw signatures and verdicts. How keys and signatures look on
//! the wire or in a file is the business of `key`; so are the bounds that are stricter than those here.
//!
//! The nonce of an ECDSA signature, the blinding of an RSA signature and the primes of a new RSA key
//! are drawn by AWS-LC itself: it has no way to take them from a caller.

#[cfg(test)]
mod known_answers;
#[cfg(test)]
mod nonces;
mod rsa;

use aws_lc_rs::agreement;
use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
    ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair,
    KeyPair, UnparsedPublicKey,
};
use zeroize::Zeroizing;

use crate::Secret;

pub(crate) use rsa::{RsaHash, RsaPrivate, RsaPublic, RsaSigner};

/// The numbers are no key, do not belong together, or the signature is wrong. Which of these is plain
/// from the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

impl From<aws_lc_rs::error::Unspecified> for Refused {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

impl From<aws_lc_rs::error::KeyRejected> for Refused {
    fn from(_: aws_lc_rs::error::KeyRejected) -> Self {
        Self
    }
}

/// SHA-256, for fingerprints.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&digest::SHA256, data).as_ref()) {
        *to = *from;
    }
    hash
}

/// MD5, for the fingerprints of old.
#[cfg(feature = "encrypted-keys")]
pub(crate) fn md5(data: &[u8]) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(data).into()
}

/// A private key, parsed and checked, ready to sign.
pub(crate) enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaSigner),
    /// The key of a recording, which has the signatures and not the key.
    #[cfg(any(test, feature = "replay"))]
    Absent,
}

impl Signer {
    /// An Ed25519 key from its seed, which must belong to `public`.
    pub(crate) fn ed25519(seed: &[u8], public: &[u8]) -> Result<Self, Refused> {
        Ok(Self::Ed25519(Ed25519KeyPair::from_seed_and_public_key(
            seed, public,
        )?))
    }

    /// An ECDSA key from its scalar, big-endian and [`Curve::scalar_len`] bytes long, which must
    /// belong to `point`.
    pub(crate) fn ecdsa(curve: Curve, scalar: &[u8], point: &[u8]) -> Result<Self, Refused> {
        Ok(Self::Ecdsa(EcdsaKeyPair::from_private_key_and_public_key(
            curve.signing(),
            scalar,
            point,
        )?))
    }

    /// Signs with the one hash that the key's kind goes with; `hash` is for RSA alone.
    ///
    /// Ed25519 gives R and S (64 bytes), ECDSA gives r and s, each [`Curve::scalar_len`] bytes long,
    /// RSA a number as long as the modulus.
    pub(crate) fn sign(&self, hash: RsaHash, message: &[u8]) -> Result<Vec<u8>, Refused> {
        match self {
            Self::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            Self::Ecdsa(pair) => {
                // `sign` would have a random generator as an argument, which it then does not use.
                let hash = digest(Curve::of(pair).hash(), message);
                Ok(pair.sign_digest(&hash)?.as_ref().to_vec())
            }
            Self::Rsa(signer) => signer.sign(hash, message),
            #[cfg(any(test, feature = "replay"))]
            Self::Absent => Err(Refused),
        }
    }
}

/// The public key of an Ed25519 seed.
pub(crate) fn ed25519_public(seed: &[u8; 32]) -> Result<[u8; 32], Refused> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed)?;
    pair.public_key().as_ref().try_into().map_err(|_| Refused)
}

/// Verifies an Ed25519 signature: 64 bytes, S below the group order (RFC 8032 section 5.1.7).
pub(crate) fn verify_ed25519(
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refused> {
    if signature.len() != 64 {
        return Err(Refused);
    }
    Ok(UnparsedPublicKey::new(&ED25519, public).verify(message, signature)?)
}

/// A NIST curve of RFC 5656 section 10.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    fn of(pair: &EcdsaKeyPair) -> Self {
        let algorithm = pair.algorithm();
        if algorithm == Self::P256.signing() {
            Self::P256
        } else if algorithm == Self::P384.signing() {
            Self::P384
        } else {
            Self::P521
        }
    }

    /// The curve's identifier inside a key.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
            Self::P521 => "nistp521",
        }
    }

    /// The size of the field, in bits.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }

    /// The length of a private scalar, and of r and s in a signature, in bytes.
    pub(crate) const fn scalar_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The length of an uncompressed point: 0x04, x, y.
    pub(crate) const fn point_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => 133,
        }
    }

    /// RFC 5656 section 6.2.1: the hash goes by the size of the curve.
    fn hash(self) -> &'static digest::Algorithm {
        match self {
            Self::P256 => &digest::SHA256,
            Self::P384 => &digest::SHA384,
            Self::P521 => &digest::SHA512,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }

    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    fn agreement(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
            Self::P521 => &agreement::ECDH_P521,
        }
    }
}

/// Verifies an ECDSA signature: r and s, each [`Curve::scalar_len`] bytes long.
///
/// `point` must be uncompressed; a point off the curve verifies nothing.
pub(crate) fn verify_ecdsa(
    curve: Curve,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refused> {
    Ok(UnparsedPublicKey::new(curve.verification(), point).verify(message, signature)?)
}

/// A scalar and its point, drawn from `entropy`: the same entropy gives the same key.
///
/// Candidates are HMAC-SHA-512 over the curve's name and two counters, under the entropy; the first
/// that lies in 1..n is the scalar (FIPS 186-5 appendix A.2.2, by rejection). One candidate in 2^32 is
/// rejected on P-256, fewer on the others.
pub(crate) fn ecdsa_generate(
    curve: Curve,
    entropy: &[u8; 32],
) -> Result<(Secret, Vec<u8>), Refused> {
    let key = hmac::Key::new(hmac::HMAC_SHA512, entropy);
    for attempt in 0..=u8::MAX {
        let mut scalar = Zeroizing::new(vec![0; curve.scalar_len()]);
        for (block, part) in (0_u8..).zip(scalar.chunks_mut(64)) {
            let mut context = hmac::Context::with_key(&key);
            context.update(b"ecdsa key ");
            context.update(curve.name().as_bytes());
            context.update(&[attempt, block]);
            for (to, from) in part.iter_mut().zip(context.sign().as_ref()) {
                *to = *from;
            }
        }
        if curve == Curve::P521
            && let Some(first) = scalar.first_mut()
        {
            *first &= 1;
        }
        if let Ok(private) = agreement::PrivateKey::from_private_key(curve.agreement(), &scalar) {
            let point = private.compute_public_key()?.as_ref().to_vec();
            return Ok((Secret::new(std::mem::take(&mut *scalar)), point));
        }
    }
    Err(Refused)
}
