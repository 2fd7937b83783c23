//! The sessions that are recorded: between them every key exchange, every algorithm of host keys, every cipher, every
//! method of authentication.

use std::sync::Arc;

use conformance::peers::KeyKind;
use ssh_blocking::ssh_proto::adapter::Verdict;
use ssh_blocking::ssh_proto::config::{ClientConfig, HostKey, ServerConfig, TransportConfig};
use ssh_blocking::ssh_proto::key::{self, PrivateKey, PublicKey};
use ssh_blocking::ssh_proto::names::{Cipher, Kex, Preference, SignatureAlgorithm};
use ssh_blocking::ssh_proto::{AuthMethod, LoginAttempt, PromptRound, Proof, Secret};

/// The user's password at our servers, and the one that follows it.
pub(crate) const PASSWORD: &str = "open sesame";
pub(crate) const NEW_PASSWORD: &str = "close sesame";
/// What our servers say to every command, before it ends with status 7.
pub(crate) const GREETING: &str = "good day\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    None,
    Password,
    PasswordChange,
    Interactive,
    /// A key, signed with at once (which OpenSSH's client never does).
    Key(KeyKind),
    /// A key that is offered first.
    Query(KeyKind),
    /// A key whose signature is made elsewhere.
    External(KeyKind),
    /// A key, then the password.
    TwoFactors(KeyKind),
}

impl Auth {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Password => "password",
            Self::PasswordChange => "password-change",
            Self::Interactive => "keyboard-interactive",
            Self::Key(_) => "publickey",
            Self::Query(KeyKind::Rsa) => "publickey-rsa",
            Self::Query(_) => "publickey-query",
            Self::External(_) => "publickey-external",
            Self::TwoFactors(_) => "two-factors",
        }
    }

    pub(crate) const fn key(self) -> Option<KeyKind> {
        match self {
            Self::Key(kind) | Self::Query(kind) | Self::External(kind) | Self::TwoFactors(kind) => {
                Some(kind)
            }
            Self::None | Self::Password | Self::PasswordChange | Self::Interactive => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) auth: Auth,
    pub(crate) kex: Kex,
    pub(crate) host_key: SignatureAlgorithm,
    pub(crate) cipher: Cipher,
}

const fn row(auth: Auth, kex: Kex, host_key: SignatureAlgorithm, cipher: Cipher) -> Row {
    Row {
        auth,
        kex,
        host_key,
        cipher,
    }
}

pub(crate) const CLIENT_ROWS: [Row; 7] = [
    row(
        Auth::Key(KeyKind::Ed25519),
        Kex::MlKem768X25519Sha256,
        SignatureAlgorithm::Ed25519,
        Cipher::Aes128Gcm,
    ),
    row(
        Auth::Query(KeyKind::EcdsaP256),
        Kex::Curve25519Sha256,
        SignatureAlgorithm::EcdsaNistp256,
        Cipher::ChaCha20Poly1305,
    ),
    row(
        Auth::External(KeyKind::Rsa),
        Kex::Curve25519Sha256Libssh,
        SignatureAlgorithm::EcdsaNistp384,
        Cipher::Aes256Gcm,
    ),
    row(
        Auth::Password,
        Kex::EcdhNistp256,
        SignatureAlgorithm::EcdsaNistp521,
        Cipher::Aes128Ctr,
    ),
    row(
        Auth::Interactive,
        Kex::EcdhNistp384,
        SignatureAlgorithm::RsaSha512,
        Cipher::Aes192Ctr,
    ),
    row(
        Auth::TwoFactors(KeyKind::EcdsaP384),
        Kex::EcdhNistp521,
        SignatureAlgorithm::RsaSha256,
        Cipher::Aes256Ctr,
    ),
    row(
        Auth::None,
        Kex::Curve25519Sha256,
        SignatureAlgorithm::Ed25519,
        Cipher::Aes128Gcm,
    ),
];

pub(crate) const SERVER_ROWS: [Row; 7] = [
    row(
        Auth::Query(KeyKind::Ed25519),
        Kex::MlKem768X25519Sha256,
        SignatureAlgorithm::Ed25519,
        Cipher::Aes128Gcm,
    ),
    row(
        Auth::Query(KeyKind::Rsa),
        Kex::Curve25519Sha256,
        SignatureAlgorithm::EcdsaNistp256,
        Cipher::ChaCha20Poly1305,
    ),
    row(
        Auth::PasswordChange,
        Kex::Curve25519Sha256Libssh,
        SignatureAlgorithm::EcdsaNistp384,
        Cipher::Aes256Gcm,
    ),
    row(
        Auth::Password,
        Kex::EcdhNistp256,
        SignatureAlgorithm::EcdsaNistp521,
        Cipher::Aes128Ctr,
    ),
    row(
        Auth::Interactive,
        Kex::EcdhNistp384,
        SignatureAlgorithm::RsaSha512,
        Cipher::Aes192Ctr,
    ),
    row(
        Auth::TwoFactors(KeyKind::EcdsaP384),
        Kex::EcdhNistp521,
        SignatureAlgorithm::RsaSha256,
        Cipher::Aes256Ctr,
    ),
    row(
        Auth::None,
        Kex::Curve25519Sha256,
        SignatureAlgorithm::Ed25519,
        Cipher::Aes128Gcm,
    ),
];

impl Row {
    pub(crate) fn host_key_kind(&self) -> KeyKind {
        KeyKind::all()
            .into_iter()
            .find(|kind| kind.algorithms().contains(&self.host_key.name()))
            .unwrap()
    }

    /// The host key of our servers. Everybody may know it.
    pub(crate) fn host_key(&self) -> HostKey {
        let kind = match self.host_key_kind() {
            KeyKind::Ed25519 => key::KeyKind::Ed25519,
            KeyKind::EcdsaP256 => key::KeyKind::EcdsaNistp256,
            KeyKind::EcdsaP384 => key::KeyKind::EcdsaNistp384,
            KeyKind::EcdsaP521 => key::KeyKind::EcdsaNistp521,
            KeyKind::Rsa => key::KeyKind::Rsa { bits: 2_048 },
        };
        // RSA keys are drawn: once for this process.
        static RSA: std::sync::OnceLock<Arc<PrivateKey>> = std::sync::OnceLock::new();
        let make = || Arc::new(PrivateKey::generate(kind, &[7; 32]).unwrap());
        HostKey::Private(match kind {
            key::KeyKind::Rsa { .. } => Arc::clone(RSA.get_or_init(make)),
            _ => make(),
        })
    }

    fn transport(&self, transport: &mut TransportConfig) {
        transport.algorithms.kex = Preference::new([self.kex]).unwrap();
        transport.algorithms.host_keys = Preference::new([self.host_key]).unwrap();
        transport.algorithms.ciphers = Preference::new([self.cipher]).unwrap();
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.transport(&mut config.transport);
        config
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        let mut config = ServerConfig::new(vec![self.host_key()]);
        self.transport(&mut config.transport);
        if self.auth == Auth::None {
            config.auth_methods.push(AuthMethod::None);
        }
        config
    }

    /// What our servers make of an attempt; `key` is the user's.
    pub(crate) fn judge(&self, key: Option<&PublicKey>, attempt: &LoginAttempt) -> Verdict {
        let right = |secret: &Secret, text: &str| *secret == Secret::from(text);
        match (self.auth, attempt.proof()) {
            (Auth::None, Proof::None) => Verdict::Accept,
            (Auth::Password, Proof::Password(password)) if right(password, PASSWORD) => {
                Verdict::Accept
            }
            (Auth::PasswordChange, Proof::Password(_)) => {
                Verdict::PasswordExpired("It is too old.".into())
            }
            (Auth::PasswordChange, Proof::PasswordChange { old, new })
                if right(old, PASSWORD) && right(new, NEW_PASSWORD) =>
            {
                Verdict::Accept
            }
            (Auth::Interactive, Proof::KeyboardInteractive { .. }) => Verdict::Prompt(
                PromptRound::new("Questions", "Two of them.")
                    .with_prompt("Colour: ", true)
                    .with_prompt("Code: ", false),
            ),
            (Auth::Interactive, Proof::Answers(answers)) if matches!(&**answers, [colour, code] if right(colour, "blue") && right(code, "42")) => {
                Verdict::Accept
            }
            (Auth::Query(_), Proof::PublicKey(shown)) if Some(shown) == key => Verdict::Accept,
            (Auth::TwoFactors(_), Proof::PublicKey(shown)) if Some(shown) == key => {
                Verdict::Partial(vec![AuthMethod::Password])
            }
            (Auth::TwoFactors(_), Proof::Password(password))
                if right(password, PASSWORD) && attempt.completed() == [AuthMethod::PublicKey] =>
            {
                Verdict::Accept
            }
            _ => Verdict::Refuse,
        }
    }
}
