//! The algorithms by name (RFC 4250 section 4.11; OpenSSH's PROTOCOL for the `@openssh.com` ones),
//! and lists of them in order of preference.

use std::fmt;

/// A name that is not one of the algorithms of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    /// The kind of algorithm that was looked for, such as `cipher`.
    pub kind: &'static str,
    /// The name that was given.
    pub name: String,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "no {} is left in the list", self.kind)
        } else {
            write!(f, "unknown {}: {:?}", self.kind, self.name)
        }
    }
}

impl std::error::Error for UnknownName {}

/// One kind of algorithm: what [`Preference`] is a list of.
pub trait Algorithm: Copy + Eq + fmt::Debug + 'static {
    /// What the kind is called in messages.
    const KIND: &'static str;
    /// Every algorithm of the kind that this library has.
    const ALL: &'static [Self];
    /// Those offered when nobody says otherwise, most preferred first.
    const DEFAULT: &'static [Self];
    /// The name on the wire.
    fn name(self) -> &'static str;
    /// The algorithm of that name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|algorithm| algorithm.name() == name)
    }
}

macro_rules! algorithms {
    ($(#[$doc:meta])* $type:ident, $kind:literal, default [$($default:ident),* $(,)?],
     { $($(#[$vdoc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $type { $($(#[$vdoc])* #[doc = concat!("`", $name, "`.")] $variant,)* }

        impl $type {
            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl Algorithm for $type {
            const KIND: &'static str = $kind;
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            const DEFAULT: &'static [Self] = &[$(Self::$default,)*];
            fn name(self) -> &'static str {
                Self::name(self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = UnknownName;
            fn from_str(name: &str) -> Result<Self, UnknownName> {
                Self::from_name(name)
                    .ok_or_else(|| UnknownName { kind: $kind, name: name.to_owned() })
            }
        }
    };
}

algorithms! {
    /// A key exchange method (RFC 4253 section 8).
    Kex, "key exchange method",
    default [MlKem768X25519Sha256, Curve25519Sha256, Curve25519Sha256Libssh, EcdhNistp256, EcdhNistp384, EcdhNistp521],
    {
        /// ML-KEM-768 and X25519 together: safe as long as one of them is (RFC 10042).
        MlKem768X25519Sha256 = "mlkem768x25519-sha256",
        /// X25519 (RFC 8731).
        Curve25519Sha256 = "curve25519-sha256",
        /// X25519 under the name that it had before RFC 8731.
        Curve25519Sha256Libssh = "curve25519-sha256@libssh.org",
        /// ECDH over NIST P-256 (RFC 5656).
        EcdhNistp256 = "ecdh-sha2-nistp256",
        /// ECDH over NIST P-384 (RFC 5656).
        EcdhNistp384 = "ecdh-sha2-nistp384",
        /// ECDH over NIST P-521 (RFC 5656).
        EcdhNistp521 = "ecdh-sha2-nistp521",
    }
}

algorithms! {
    /// A cipher (RFC 4253 section 6.3).
    Cipher, "cipher",
    default [Aes128Gcm, Aes256Gcm, ChaCha20Poly1305, Aes128Ctr, Aes192Ctr, Aes256Ctr],
    {
        /// AES-128 in Galois/counter mode (RFC 5647, as OpenSSH negotiates it).
        Aes128Gcm = "aes128-gcm@openssh.com",
        /// AES-256 in Galois/counter mode (RFC 5647, as OpenSSH negotiates it).
        Aes256Gcm = "aes256-gcm@openssh.com",
        /// ChaCha20 and Poly1305, the length under a key of its own (OpenSSH's PROTOCOL.chacha20poly1305).
        ChaCha20Poly1305 = "chacha20-poly1305@openssh.com",
        /// AES-128 in counter mode (RFC 4344).
        Aes128Ctr = "aes128-ctr",
        /// AES-192 in counter mode (RFC 4344).
        Aes192Ctr = "aes192-ctr",
        /// AES-256 in counter mode (RFC 4344).
        Aes256Ctr = "aes256-ctr",
    }
}

impl Cipher {
    /// `true` for the ciphers that authenticate by themselves: no MAC is negotiated beside them.
    pub const fn is_aead(self) -> bool {
        matches!(
            self,
            Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305
        )
    }
}

algorithms! {
    /// A message authentication code (RFC 4253 section 6.4).
    Mac, "MAC",
    default [HmacSha256Etm, HmacSha512Etm, HmacSha256, HmacSha512],
    {
        /// HMAC-SHA-256 over the ciphertext.
        HmacSha256Etm = "hmac-sha2-256-etm@openssh.com",
        /// HMAC-SHA-512 over the ciphertext.
        HmacSha512Etm = "hmac-sha2-512-etm@openssh.com",
        /// HMAC-SHA-256 over the plaintext (RFC 6668).
        HmacSha256 = "hmac-sha2-256",
        /// HMAC-SHA-512 over the plaintext (RFC 6668).
        HmacSha512 = "hmac-sha2-512",
    }
}

impl Mac {
    /// `true` for the encrypt-then-MAC forms: the length travels in clear, and the ciphertext is authenticated.
    pub const fn is_etm(self) -> bool {
        matches!(self, Self::HmacSha256Etm | Self::HmacSha512Etm)
    }
}

algorithms! {
    /// A public key signature algorithm, for host keys and for user keys (RFC 4253 section 6.6).
    SignatureAlgorithm, "signature algorithm",
    default [Ed25519, EcdsaNistp256, EcdsaNistp384, EcdsaNistp521, RsaSha512, RsaSha256],
    {
        /// Ed25519 (RFC 8709).
        Ed25519 = "ssh-ed25519",
        /// ECDSA over NIST P-256 (RFC 5656).
        EcdsaNistp256 = "ecdsa-sha2-nistp256",
        /// ECDSA over NIST P-384 (RFC 5656).
        EcdsaNistp384 = "ecdsa-sha2-nistp384",
        /// ECDSA over NIST P-521 (RFC 5656).
        EcdsaNistp521 = "ecdsa-sha2-nistp521",
        /// RSA with SHA-512 (RFC 8332).
        RsaSha512 = "rsa-sha2-512",
        /// RSA with SHA-256 (RFC 8332).
        RsaSha256 = "rsa-sha2-256",
    }
}

impl SignatureAlgorithm {
    /// The type name inside the blob of a key that can make such signatures.
    ///
    /// RFC 8332 section 3: RSA keys are `ssh-rsa` whatever the hash of the signature is.
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha512 | Self::RsaSha256 => "ssh-rsa",
            _ => self.name(),
        }
    }
}

algorithms! {
    /// A compression method (RFC 4253 section 6.2).
    Compression, "compression method",
    default [None],
    {
        /// No compression.
        None = "none",
    }
}

/// Algorithms of one kind in order of preference: what is offered, and in which order.
///
/// Never empty, no name twice. It is written the way OpenSSH's configuration does it: names joined
/// with commas replace the default list; behind `+` they are added at its end, behind `^` put at its
/// front, and behind `-` taken out (where `*` and `?` match).
///
/// ```
/// use ssh_proto::names::{Cipher, Preference};
///
/// let list = Preference::<Cipher>::parse("-aes*-ctr,chacha20-poly1305@openssh.com")?;
/// assert_eq!(list.as_slice(), [Cipher::Aes128Gcm, Cipher::Aes256Gcm]);
/// assert!(Preference::<Cipher>::parse("rot13").is_err());
/// # Ok::<(), ssh_proto::names::UnknownName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference<A>(Vec<A>);

impl<A: Algorithm> Preference<A> {
    /// A list in the given order. Fails when it is empty.
    pub fn new(algorithms: impl IntoIterator<Item = A>) -> Result<Self, UnknownName> {
        let mut list = Vec::new();
        for algorithm in algorithms {
            if !list.contains(&algorithm) {
                list.push(algorithm);
            }
        }
        Self::checked(list)
    }

    /// Reads a list as OpenSSH's configuration has it; a name that is not known is an error.
    pub fn parse(text: &str) -> Result<Self, UnknownName> {
        Self::default().modified(text)
    }

    /// This list, replaced or changed by `text` as [`parse`](Self::parse) does with the default.
    pub fn modified(&self, text: &str) -> Result<Self, UnknownName> {
        let named = |names: &str| {
            names
                .split(',')
                .map(|name| Self::known(name.trim()))
                .collect::<Result<Vec<A>, _>>()
        };
        match text.split_at_checked(1) {
            Some(("+", names)) => Self::new(self.iter().chain(named(names)?)),
            Some(("^", names)) => Self::new(named(names)?.into_iter().chain(self.iter())),
            Some(("-", names)) => {
                let mut list = self.0.clone();
                for pattern in names.split(',').map(str::trim) {
                    if !A::ALL
                        .iter()
                        .any(|algorithm| matches(pattern, algorithm.name()))
                    {
                        return Err(UnknownName {
                            kind: A::KIND,
                            name: pattern.to_owned(),
                        });
                    }
                    list.retain(|algorithm| !matches(pattern, algorithm.name()));
                }
                Self::checked(list)
            }
            _ => Self::new(named(text)?),
        }
    }

    /// The algorithms, most preferred first.
    pub fn as_slice(&self) -> &[A] {
        &self.0
    }

    /// The algorithms, most preferred first.
    pub fn iter(&self) -> impl Iterator<Item = A> + '_ {
        self.0.iter().copied()
    }

    /// The names, most preferred first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.iter().map(A::name)
    }

    /// `true` when `algorithm` is in the list.
    pub fn contains(&self, algorithm: A) -> bool {
        self.0.contains(&algorithm)
    }

    fn known(name: &str) -> Result<A, UnknownName> {
        A::from_name(name).ok_or_else(|| UnknownName {
            kind: A::KIND,
            name: name.to_owned(),
        })
    }

    fn checked(list: Vec<A>) -> Result<Self, UnknownName> {
        if list.is_empty() {
            return Err(UnknownName {
                kind: A::KIND,
                name: String::new(),
            });
        }
        Ok(Self(list))
    }
}

impl<A: Algorithm> Default for Preference<A> {
    fn default() -> Self {
        Self(A::DEFAULT.to_vec())
    }
}

impl<A: Algorithm> std::str::FromStr for Preference<A> {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::parse(text)
    }
}

impl<A: Algorithm> fmt::Display for Preference<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// Matches `text` against a pattern with `*` and `?`, in time linear in their product.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // reachable[j]: the pattern read so far matches the first j bytes of the text.
    let mut reachable = vec![false; text.len().saturating_add(1)];
    if let Some(start) = reachable.first_mut() {
        *start = true;
    }
    for &wanted in pattern {
        let mut before = false;
        let mut any = false;
        for (j, here) in reachable.iter_mut().enumerate() {
            let last = j.checked_sub(1).and_then(|j| text.get(j));
            let next = match wanted {
                b'*' => {
                    any |= *here;
                    any
                }
                b'?' => before && last.is_some(),
                literal => before && last == Some(&literal),
            };
            before = std::mem::replace(here, next);
        }
    }
    reachable.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_again() {
        fn check<A: Algorithm>() {
            for &algorithm in A::ALL {
                assert_eq!(A::from_name(algorithm.name()), Some(algorithm));
            }
            assert_eq!(A::from_name("none-such"), None);
        }
        check::<Kex>();
        check::<Cipher>();
        check::<Mac>();
        check::<SignatureAlgorithm>();
        check::<Compression>();
    }

    #[test]
    fn a_list_is_replaced_extended_cut_and_reordered() {
        let parse = |text| Preference::<Mac>::parse(text).map(|list| list.to_string());
        assert_eq!(
            parse("hmac-sha2-512,hmac-sha2-256").unwrap(),
            "hmac-sha2-512,hmac-sha2-256"
        );
        assert!(
            parse("^hmac-sha2-512")
                .unwrap()
                .starts_with("hmac-sha2-512,")
        );
        assert_eq!(
            parse("-*etm@openssh.com").unwrap(),
            "hmac-sha2-256,hmac-sha2-512"
        );
        assert_eq!(
            parse("+hmac-sha2-512").unwrap(),
            Preference::<Mac>::default().to_string()
        );
    }

    #[test]
    fn an_unknown_name_and_an_empty_list_are_errors() {
        for text in [
            "rot13",
            "+rot13",
            "^rot13",
            "-rot13*",
            "aes128-ctr,",
            "",
            "-*",
        ] {
            assert!(Preference::<Cipher>::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn stars_and_question_marks_match() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("?", "", false),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("abc", "abc", true),
            ("abc", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), is, "{pattern} {text}");
        }
    }
}
