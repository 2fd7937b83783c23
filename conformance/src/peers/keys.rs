//! Keys made by the peer's own `ssh-keygen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        let mut command = version.command("usr/bin/ssh-keygen");
        command
            .args(["-q", "-C", "conformance", "-N", passphrase])
            .args(kind.keygen_arguments())
            .arg("-f")
            .arg(path);
        let _ = run_with_timeout(command, Vec::new(), Duration::from_secs(60)).expect_code(0);
        Self {
            kind,
            path: path.to_owned(),
            public: public_line(path),
        }
    }
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
