//! Keys: public and private, their wire form and their file formats, fingerprints, signatures, generation.
//!
//! In: blobs (RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4), lines of `.pub` files, and
//! private key files of OpenSSH (its PROTOCOL.key). Out: the same, signatures, and verdicts on signatures.
//! Everything here is a value: bytes go in and out, files are the caller's.
//!
//! | kind | sizes that verify | sizes that sign | sizes that are generated |
//! |---|---|---|---|
//! | Ed25519 | the one | the one | the one |
//! | ECDSA | P-256, P-384, P-521 | the same | the same |
//! | RSA | 2,048 to 16,384 bits | 2,048 to 8,192 bits | 2,048, 3,072, 4,096 and 8,192 bits |
//!
//! RSA's public exponent is odd, at least 3, and has at most 33 bits. Public keys of other types, such as
//! certificates and security keys, are read, kept byte by byte, compared and fingerprinted; they verify
//! nothing.
//!
//! ```
//! use ssh_proto::key::{Encryption, KeyKind, PrivateKey, PublicKey};
//! use ssh_proto::names::SignatureAlgorithm;
//!
//! # let from_the_system = || [7; 32];
//! let entropy: [u8; 32] = from_the_system();
//! let key = PrivateKey::generate(KeyKind::Ed25519, &entropy)?.with_comment("me@home");
//! println!("{} {}", key.public().fingerprint_sha256(), key.comment());
//!
//! let signature = key.sign(SignatureAlgorithm::Ed25519, b"message")?;
//! key.public().verify(SignatureAlgorithm::Ed25519, b"message", &signature)?;
//!
//! let line = key.public().to_openssh(key.comment());
//! assert!(line.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"));
//! assert_eq!(PublicKey::from_openssh(&line)?.0, *key.public());
//!
//! let file = key.to_openssh(None, 0x0123_4567)?;
//! assert_eq!(PrivateKey::from_openssh(file.expose(), None)?.public(), key.public());
//! # Ok::<(), ssh_proto::key::KeyError>(())
//! ```

mod error;
mod openssh;
mod pem;
mod private;
mod public;
mod signature;

pub use error::{Format, KeyError};
pub use openssh::Encryption;
pub use private::{KeyKind, PrivateKey};
pub use public::PublicKey;

#[cfg(test)]
mod tests;
