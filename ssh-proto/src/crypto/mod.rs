//! The one door to cryptography (rule 8 of the house): only this folder names a third-party crate
//! of the field. Everything behind it is total: no panic for any input.

pub(crate) mod agree;
pub(crate) mod cipher;
pub(crate) mod drbg;
pub(crate) mod hash;
pub(crate) mod kdf;
pub(crate) mod mac;
pub(crate) mod sign;

/// With `--cfg fuzzing` ciphers change nothing, and every tag and every signature is right: so a fuzzer gets past the key
/// exchange. Such a build protects nothing and nobody, and no feature turns it on.
pub(crate) const NULL: bool = cfg!(fuzzing);

/// An operation failed: a wrong tag, an unusable share or key, a counter at its end.
///
/// It says nothing more on purpose: who learns why a decryption failed can decrypt (Vaudenay).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CryptoFault;

impl From<aws_lc_rs::error::Unspecified> for CryptoFault {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

impl From<aws_lc_rs::error::KeyRejected> for CryptoFault {
    fn from(_: aws_lc_rs::error::KeyRejected) -> Self {
        Self
    }
}

#[cfg(test)]
pub(crate) mod known_answers;

#[cfg(test)]
pub(crate) mod testing {
    /// Bytes from hexadecimal; blanks are skipped.
    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).unwrap() as u8)
            .collect();
        assert!(digits.len().is_multiple_of(2));
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    /// The bytes 0, 1, 2 and so on.
    pub(crate) fn count<const N: usize>() -> [u8; N] {
        std::array::from_fn(|i| i as u8)
    }
}
