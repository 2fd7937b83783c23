//! Why a key or a signature is not taken.

use std::fmt;

use crate::names::SignatureAlgorithm;
use crate::wire::Malformed;

/// Why a key cannot be read, written or used, or why a signature is not good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The file is encrypted, and no passphrase, or an empty one, was given.
    PassphraseNeeded,
    /// The passphrase does not open the file. A file damaged inside its encrypted part looks the same.
    WrongPassphrase,
    /// A field cannot be read.
    Malformed {
        /// The field's name in the RFC or in OpenSSH's PROTOCOL.key.
        field: &'static str,
        /// What is wrong with it.
        problem: Malformed,
    },
    /// This is something else than what was asked for.
    Foreign(Format),
    /// The format is right, but something that it names is not supported.
    Unsupported {
        /// What is named: `cipher`, `key derivation`, `key type` or `signature algorithm`.
        what: &'static str,
        /// The name, with control characters escaped.
        name: Box<str>,
    },
    /// A bound was passed; the text says which, and what it is.
    Limit(&'static str),
    /// The numbers make no key, or do not belong to one another.
    BadKey(&'static str),
    /// The signature is not one of this key over this message.
    BadSignature,
}

impl KeyError {
    pub(super) const fn malformed(field: &'static str, problem: Malformed) -> Self {
        Self::Malformed { field, problem }
    }

    pub(super) fn unsupported(what: &'static str, name: &str) -> Self {
        let name = name.escape_debug().take(64).collect::<String>();
        let name = name.into_boxed_str();
        Self::Unsupported { what, name }
    }

    pub(super) fn algorithm(algorithm: SignatureAlgorithm) -> Self {
        Self::unsupported("signature algorithm", algorithm.name())
    }
}

/// Names the field in what a [`Reader`](crate::wire::Reader) says.
pub(super) trait Field<T> {
    fn field(self, name: &'static str) -> Result<T, KeyError>;
}

impl<T> Field<T> for Result<T, Malformed> {
    fn field(self, name: &'static str) -> Result<T, KeyError> {
        self.map_err(|problem| KeyError::malformed(name, problem))
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassphraseNeeded => f.write_str("a passphrase is needed"),
            Self::WrongPassphrase => f.write_str("wrong passphrase, or a damaged file"),
            Self::Malformed { field, problem } => write!(f, "field {field:?} is {problem}"),
            Self::Foreign(format) => write!(f, "this is {format}"),
            Self::Unsupported { what, name } => write!(f, "{what} {name:?} is not supported"),
            Self::Limit(bound) => write!(f, "bound passed: {bound}"),
            Self::BadKey(why) => write!(f, "no usable key: {why}"),
            Self::BadSignature => f.write_str("wrong signature"),
        }
    }
}

impl std::error::Error for KeyError {}

/// What a file that is not of the expected format was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// An OpenSSH private key, where a public one is expected.
    OpensshPrivate,
    /// A line of an OpenSSH public key, where a private key is expected.
    OpensshPublic,
    /// A line of an OpenSSH certificate, where a private key is expected.
    OpensshCertificate,
    /// An RSA private key in PEM (PKCS#1, RFC 8017).
    Pkcs1Private,
    /// An RSA public key in PEM (PKCS#1, RFC 8017).
    Pkcs1Public,
    /// An EC private key in PEM (SEC 1, RFC 5915).
    Sec1Private,
    /// A DSA private key in PEM.
    DsaPrivate,
    /// A private key in PEM (PKCS#8, RFC 5958).
    Pkcs8Private,
    /// An encrypted private key in PEM (PKCS#8, RFC 5958).
    Pkcs8EncryptedPrivate,
    /// A public key in PEM (SubjectPublicKeyInfo, RFC 5280).
    SpkiPublic,
    /// An X.509 certificate in PEM.
    X509Certificate,
    /// A private key of PuTTY.
    PuttyPrivate,
    /// A public key of RFC 4716.
    Rfc4716Public,
    /// A private key of ssh.com's implementation.
    SshComPrivate,
    /// A private key of SSH protocol 1.
    Ssh1Private,
    /// An SSH signature (OpenSSH's PROTOCOL.sshsig).
    SshSignature,
    /// PEM of another kind.
    OtherPem,
    /// Nothing that is known.
    Unknown,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpensshPrivate => "an OpenSSH private key",
            Self::OpensshPublic => "an OpenSSH public key",
            Self::OpensshCertificate => "an OpenSSH certificate",
            Self::Pkcs1Private => "an RSA private key in PEM (PKCS#1)",
            Self::Pkcs1Public => "an RSA public key in PEM (PKCS#1)",
            Self::Sec1Private => "an EC private key in PEM (SEC 1)",
            Self::DsaPrivate => "a DSA private key in PEM",
            Self::Pkcs8Private => "a private key in PEM (PKCS#8)",
            Self::Pkcs8EncryptedPrivate => "an encrypted private key in PEM (PKCS#8)",
            Self::SpkiPublic => "a public key in PEM",
            Self::X509Certificate => "an X.509 certificate",
            Self::PuttyPrivate => "a PuTTY private key",
            Self::Rfc4716Public => "an RFC 4716 public key",
            Self::SshComPrivate => "an ssh.com private key",
            Self::Ssh1Private => "a private key of SSH protocol 1",
            Self::SshSignature => "an SSH signature",
            Self::OtherPem => "PEM of another kind",
            Self::Unknown => "of no known format",
        })
    }
}
