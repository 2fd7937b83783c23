//! Signatures on the wire: `string` algorithm name, `string` signature proper (RFC 4253 section 6.6), the
//! latter for Ed25519 by RFC 8709 section 6, ECDSA by RFC 5656 section 3.1.2, RSA by RFC 8332 section 3.
//!
//! In: a blob of a peer. Out: a verdict; and the other way round for signatures of ours.

use super::KeyError;
use super::error::Field;
use super::public::Numbers;
use crate::crypto::NULL;
use crate::crypto::sign::{self, Curve, RsaHash, Signer};
use crate::names::SignatureAlgorithm;
use crate::wire::{Malformed, Reader, Writer};

/// Verifies a blob; the caller made sure that `algorithm` is one of the key's.
pub(super) fn verify(
    key: Numbers<'_>,
    algorithm: SignatureAlgorithm,
    message: &[u8],
    blob: &[u8],
) -> Result<(), KeyError> {
    let mut reader = Reader::new(blob);
    let name = reader.string().field("signature algorithm")?;
    // RFC 8332 section 3: the name in the blob says what was signed with; it has to be what was agreed on.
    if name != algorithm.name().as_bytes() {
        return Err(KeyError::malformed("signature algorithm", Malformed::Value));
    }
    let signature = reader.string().field("signature")?;
    reader.finish().field("signature")?;
    // Hashing it is the work that follows from its length.
    crate::steps::count_bytes(message.len());
    let verdict = match key {
        Numbers::Ed25519(public) => sign::verify_ed25519(public, message, signature),
        Numbers::Ecdsa(curve, point) => {
            let signature = read_ecdsa(curve, signature)?;
            sign::verify_ecdsa(curve, point, message, &signature)
        }
        Numbers::Rsa(public) => {
            // A number may have lost leading zero bytes on its way: some implementations send it as an
            // mpint would be. One longer than the modulus is wrong, even with zeros in front.
            let missing = public.n.len().checked_sub(signature.len());
            let mut padded = vec![0; missing.ok_or(KeyError::BadSignature)?];
            padded.extend_from_slice(signature);
            public.verify(rsa_hash(algorithm), message, &padded)
        }
        Numbers::Other => return Err(KeyError::algorithm(algorithm)),
    };
    if NULL {
        return Ok(());
    }
    verdict.map_err(|_| KeyError::BadSignature)
}

/// Signs; the caller made sure that `algorithm` is one of the key's.
pub(super) fn sign(
    signer: &Signer,
    algorithm: SignatureAlgorithm,
    message: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let signature = signer
        .sign(rsa_hash(algorithm), message)
        .map_err(|_| KeyError::BadKey("signing failed"))?;
    let mut blob = Vec::with_capacity(signature.len().saturating_add(40));
    let mut writer = Writer::new(&mut blob);
    writer.string(algorithm.name().as_bytes());
    match algorithm {
        SignatureAlgorithm::EcdsaNistp256
        | SignatureAlgorithm::EcdsaNistp384
        | SignatureAlgorithm::EcdsaNistp521 => {
            let (r, s) = signature
                .split_at_checked(signature.len() / 2)
                .ok_or(KeyError::BadKey("signing failed"))?;
            writer.nested(|inside| {
                inside.mpint(r).mpint(s);
            });
        }
        SignatureAlgorithm::Ed25519
        | SignatureAlgorithm::RsaSha512
        | SignatureAlgorithm::RsaSha256 => {
            writer.string(&signature);
        }
    }
    Ok(blob)
}

/// r and s side by side, each as long as the curve wants it. Whether they lie in 1..n is checked by whoever
/// verifies.
fn read_ecdsa(curve: Curve, signature: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut reader = Reader::new(signature);
    let mut fixed = Vec::with_capacity(curve.scalar_len().saturating_mul(2));
    for field in ["r", "s"] {
        let number = reader.mpint().field(field)?;
        let missing = curve.scalar_len().checked_sub(number.len());
        let missing = missing.ok_or(KeyError::BadSignature)?;
        fixed.resize(fixed.len().saturating_add(missing), 0);
        fixed.extend_from_slice(number);
    }
    reader.finish().field("signature")?;
    Ok(fixed)
}

const fn rsa_hash(algorithm: SignatureAlgorithm) -> RsaHash {
    match algorithm {
        SignatureAlgorithm::RsaSha256 => RsaHash::Sha256,
        _ => RsaHash::Sha512,
    }
}
