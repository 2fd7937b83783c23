//! Keys made by the peer's own `ssh-keygen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64ct::{Base64, Encoding as _};

use super::{Version, run_with_timeout};

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on the curve P-256.
    EcdsaP256,
    /// ECDSA on the curve P-384.
    EcdsaP384,
    /// ECDSA on the curve P-521.
    EcdsaP521,
    /// RSA of 2048 bits: a larger one takes a second to make.
    Rsa,
}

impl KeyKind {
    /// Every kind.
    #[must_use]
    pub const fn all() -> [Self; 5] {
        [
            Self::Ed25519,
            Self::EcdsaP256,
            Self::EcdsaP384,
            Self::EcdsaP521,
            Self::Rsa,
        ]
    }

    /// The name that opens its blob and its line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::Rsa => "ssh-rsa",
        }
    }

    /// The algorithms that sign with it, as `HostKeyAlgorithms` and `PubkeyAcceptedAlgorithms` name them.
    #[must_use]
    pub const fn algorithms(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["ssh-ed25519"],
            Self::EcdsaP256 => &["ecdsa-sha2-nistp256"],
            Self::EcdsaP384 => &["ecdsa-sha2-nistp384"],
            Self::EcdsaP521 => &["ecdsa-sha2-nistp521"],
            Self::Rsa => &["rsa-sha2-512", "rsa-sha2-256"],
        }
    }

    const fn keygen_arguments(self) -> [&'static str; 4] {
        match self {
            Self::Ed25519 => ["-t", "ed25519", "-b", "256"],
            Self::EcdsaP256 => ["-t", "ecdsa", "-b", "256"],
            Self::EcdsaP384 => ["-t", "ecdsa", "-b", "384"],
            Self::EcdsaP521 => ["-t", "ecdsa", "-b", "521"],
            Self::Rsa => ["-t", "rsa", "-b", "2048"],
        }
    }
}

/// A private key in a file of OpenSSH's format, and its public half.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// What it is.
    pub kind: KeyKind,
    /// The private key's file; the public one is beside it with `.pub`.
    pub path: PathBuf,
    /// The public key's line without a comment: `ssh-ed25519 AAAA..`.
    pub public: String,
}

impl KeyPair {
    /// Makes a key in the new file `path`, under `passphrase` unless that is empty.
    ///
    /// # Panics
    /// If `ssh-keygen` fails.
    #[must_use]
    #[track_caller]
    pub fn generate(version: Version, kind: KeyKind, path: &Path, passphrase: &str) -> Self {
        loop {
            let mut command = version.command("usr/bin/ssh-keygen");
            command
                .args(["-q", "-C", "conformance", "-N", passphrase])
                .args(kind.keygen_arguments())
                .arg("-f")
                .arg(path);
            let _ = run_with_timeout(command, Vec::new(), Duration::from_secs(60)).expect_code(0);
            if !passphrase.is_empty() || !has_short_number(&decoded(path)) {
                break;
            }
            fs::remove_file(path).expect("the key was just made");
        }
        Self {
            kind,
            path: path.to_owned(),
            public: public_line(path),
        }
    }
}

/// What is in a file of a private key that is not encrypted.
fn decoded(private: &Path) -> Vec<u8> {
    let text = fs::read_to_string(private)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", private.display()));
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    Base64::decode_vec(&lines.collect::<String>()).expect("base64")
}

/// Whether this is a key of P-256 whose private number has fewer than 32 bytes, as one of 512 has: russh 0.65 (ssh-key
/// 0.7.0-rc.11) does not read those.
fn has_short_number(key: &[u8]) -> bool {
    // It comes behind the point that is said for the second time.
    let point = key.windows(5).rposition(|five| five == b"\0\0\0\x41\x04");
    let number = point.and_then(|at| key.get(at + 4 + 65..)?.first_chunk());
    number.is_some_and(|len| u32::from_be_bytes(*len) < 32)
}

fn public_line(private: &Path) -> String {
    let mut path = private.as_os_str().to_owned();
    path.push(".pub");
    let line = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    line.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_private_number_of_p256_is_seen() {
        let key = |len| [&b"\0\0\0\x41\x04"[..], &[7; 64], &[0, 0, 0, len], &[1; 33]].concat();
        assert!(has_short_number(&key(31)));
        assert!(!has_short_number(&key(32)));
        assert!(!has_short_number(&key(33)));
        assert!(!has_short_number(b"another key"));
    }
}
