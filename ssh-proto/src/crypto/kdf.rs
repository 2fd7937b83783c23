//! What protects a private key in a file: the key derivation `bcrypt` and the ciphers of OpenSSH's
//! PROTOCOL.key. In: a passphrase and the protected bytes. Out: the bytes in clear.
#![cfg(feature = "encrypted-keys")]

mod file_cipher;
#[cfg(test)]
mod known_answers;

use zeroize::Zeroizing;

use super::sign::Refused;
use crate::Secret;

pub(crate) use file_cipher::FileCipher;

/// `bcrypt_pbkdf` of OpenBSD: `len` bytes, at most 1,024. The work is linear in `rounds`, about 10 ms
/// for each on a machine of 2020; the caller has bounded them.
///
/// Fails when the passphrase or the salt is empty, or `rounds` or `len` is 0.
pub(crate) fn bcrypt_pbkdf(
    passphrase: &[u8],
    salt: &[u8],
    rounds: u32,
    len: usize,
) -> Result<Secret, Refused> {
    let mut key = Zeroizing::new(vec![0; len]);
    bcrypt_pbkdf::bcrypt_pbkdf(passphrase, salt, rounds, &mut key).map_err(|_| Refused)?;
    Ok(Secret::new(std::mem::take(&mut *key)))
}
