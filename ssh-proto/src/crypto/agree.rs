//! The mathematics of the key exchanges: shares in, a shared secret out.
//!
//! The client makes an [`Ephemeral`] and sends its share; the server answers with [`respond`]; both
//! end with the same [`SharedSecret`], the K of RFC 4253 section 8. ECDH is RFC 5656, X25519 RFC 8731,
//! ML-KEM with X25519 RFC 10042. The messages around it and the exchange hash are elsewhere.
//!
//! A share is checked before it is used: its exact length, that a point is uncompressed and on the
//! curve, that the result is not zero, that an ML-KEM key is reduced. All failures look the same.

use aws_lc_rs::agreement::{
    self, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey, X25519,
};
use aws_lc_rs::kem;
use zeroize::Zeroizing;

use super::CryptoFault;
use super::drbg::Drbg;
use super::hash::HashKind;
use crate::names::Kex;
use crate::secret::Secret;
use crate::wire::Writer;

/// The hash of an exchange: of its exchange hash, and of the key derivation behind it.
pub(crate) const fn hash_of(kex: Kex) -> HashKind {
    match kex {
        // RFC 5656 section 6.2.1: by the size of the curve.
        Kex::EcdhNistp384 => HashKind::Sha384,
        Kex::EcdhNistp521 => HashKind::Sha512,
        Kex::EcdhNistp256
        | Kex::Curve25519Sha256
        | Kex::Curve25519Sha256Libssh
        | Kex::MlKem768X25519Sha256 => HashKind::Sha256,
    }
}

/// The client's half of an exchange that waits for the server's share.
pub(crate) struct Ephemeral(Half);

enum Half {
    Curve(Curve, PrivateKey),
    /// The keys of ML-KEM-768 and X25519.
    Hybrid(kem::DecapsulationKey, PrivateKey),
}

impl Ephemeral {
    /// A new half, and the share to send: Q_C, or C_INIT of the hybrid.
    pub(crate) fn generate(kex: Kex, rng: &mut Drbg) -> Result<(Self, Vec<u8>), CryptoFault> {
        Self::generate_with(kex, rng, &mut Library)
    }

    fn generate_with(
        kex: Kex,
        rng: &mut Drbg,
        ml_kem: &mut impl MlKem,
    ) -> Result<(Self, Vec<u8>), CryptoFault> {
        match Method::of(kex) {
            Method::Curve(curve) => {
                let (key, share) = curve.generate(rng)?;
                Ok((Self(Half::Curve(curve, key)), share))
            }
            Method::Hybrid => {
                let drawn = rng.foreign(|| ml_kem.generate()).ok_or(CryptoFault)?;
                let encapsulation = drawn.expose().get(ML_KEM_KEY_AT).ok_or(CryptoFault)?;
                let (key, share) = Curve::X25519.generate(rng)?;
                // RFC 10042: C_INIT is the ML-KEM key and the X25519 key, one behind the other.
                let share = [encapsulation, &share].concat();
                let decapsulation = kem::DecapsulationKey::new(&kem::ML_KEM_768, drawn.expose())?;
                Ok((Self(Half::Hybrid(decapsulation, key)), share))
            }
        }
    }

    /// The secret from the server's share: Q_S, or S_REPLY of the hybrid.
    pub(crate) fn agree(self, server_share: &[u8]) -> Result<SharedSecret, CryptoFault> {
        match self.0 {
            Half::Curve(curve, key) => Ok(SharedSecret::number(curve.agree(&key, server_share)?)),
            Half::Hybrid(decapsulation, key) => {
                let (ciphertext, share) = split(server_share, ML_KEM_CIPHERTEXT)?;
                // A ciphertext of the right length always opens: to another secret if it was
                // tampered with (FIPS 203's implicit rejection), and then the signature is wrong.
                let quantum = decapsulation.decapsulate(ciphertext.into())?;
                let classic = Curve::X25519.agree(&key, share)?;
                Ok(SharedSecret::hybrid(quantum.as_ref(), &classic))
            }
        }
    }
}

/// The server's half at once: from the client's share, the one to send back (Q_S, or S_REPLY of the
/// hybrid) and the secret.
pub(crate) fn respond(
    kex: Kex,
    client_share: &[u8],
    rng: &mut Drbg,
) -> Result<(Vec<u8>, SharedSecret), CryptoFault> {
    respond_with(kex, client_share, rng, &mut Library)
}

fn respond_with(
    kex: Kex,
    client_share: &[u8],
    rng: &mut Drbg,
    ml_kem: &mut impl MlKem,
) -> Result<(Vec<u8>, SharedSecret), CryptoFault> {
    match Method::of(kex) {
        Method::Curve(curve) => {
            curve.check(client_share)?;
            let (key, share) = curve.generate(rng)?;
            let secret = curve.agree(&key, client_share)?;
            Ok((share, SharedSecret::number(secret)))
        }
        Method::Hybrid => {
            let (encapsulation, client_share) = split(client_share, ML_KEM_KEY)?;
            let (key, share) = Curve::X25519.generate(rng)?;
            let classic = Curve::X25519.agree(&key, client_share)?;
            let drawn = rng.foreign(|| ml_kem.encapsulate(encapsulation));
            let drawn = drawn.ok_or(CryptoFault)?;
            let (ciphertext, quantum) = drawn
                .expose()
                .split_at_checked(ML_KEM_CIPHERTEXT)
                .ok_or(CryptoFault)?;
            Ok((
                [ciphertext, &share].concat(),
                SharedSecret::hybrid(quantum, &classic),
            ))
        }
    }
}

/// K, which both sides have and nobody else. Wiped on drop.
pub(crate) struct SharedSecret {
    value: Secret,
    encoding: Encoding,
}

/// How K enters the exchange hash and the key derivation.
#[derive(Clone, Copy)]
enum Encoding {
    Mpint,
    String,
}

impl SharedSecret {
    /// Writes K as the exchange hash and the key derivation want it.
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        match self.encoding {
            Encoding::Mpint => w.mpint(self.value.expose()),
            Encoding::String => w.string(self.value.expose()),
        };
    }

    /// K as Wireshark wants it: a number in as few bytes as it has, without a byte for its sign; a string as it is.
    #[cfg(any(test, feature = "keylog"))]
    pub(crate) fn bare(&self) -> &[u8] {
        let value = self.value.expose();
        match self.encoding {
            Encoding::String => value,
            Encoding::Mpint => {
                let zeros = value.iter().take_while(|byte| **byte == 0).count();
                value.get(zeros..).unwrap_or_default()
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(number: &[u8]) -> Self {
        Self::number(Secret::from(number))
    }

    /// RFC 5656 section 4: K is the x coordinate as an mpint. RFC 8731 section 3.1: so are the 32
    /// bytes of X25519, read as a number with the highest byte first.
    const fn number(value: Secret) -> Self {
        Self {
            value,
            encoding: Encoding::Mpint,
        }
    }

    /// RFC 10042: K = HASH(K_PQ || K_CL), and K is a string, not an mpint.
    fn hybrid(quantum: &[u8], classic: &Secret) -> Self {
        let mut digest = HashKind::Sha256.digest(&[quantum, classic.expose()]);
        let value = Secret::from(digest.as_ref());
        digest.wipe();
        Self {
            value,
            encoding: Encoding::String,
        }
    }
}

/// What is behind a name of [`Kex`].
enum Method {
    Curve(Curve),
    Hybrid,
}

impl Method {
    const fn of(kex: Kex) -> Self {
        match kex {
            Kex::Curve25519Sha256 | Kex::Curve25519Sha256Libssh => Self::Curve(Curve::X25519),
            Kex::EcdhNistp256 => Self::Curve(Curve::P256),
            Kex::EcdhNistp384 => Self::Curve(Curve::P384),
            Kex::EcdhNistp521 => Self::Curve(Curve::P521),
            Kex::MlKem768X25519Sha256 => Self::Hybrid,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    X25519,
    P256,
    P384,
    P521,
}

/// A scalar of P-521.
const MAX_SCALAR: usize = 66;

/// One drawn number in 2^32 is no scalar of P-256, and far fewer of the others: four in a row never
/// come up by chance.
const ATTEMPTS: usize = 4;

/// SEC 1 section 2.3.3: the first byte of a point that is not compressed.
const UNCOMPRESSED: u8 = 4;

impl Curve {
    const fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &X25519,
            Self::P256 => &ECDH_P256,
            Self::P384 => &ECDH_P384,
            Self::P521 => &ECDH_P521,
        }
    }

    const fn scalar_len(self) -> usize {
        match self {
            Self::X25519 | Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => MAX_SCALAR,
        }
    }

    const fn share_len(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => 133,
        }
    }

    /// A key pair: the private key, and the share of the peer.
    fn generate(self, rng: &mut Drbg) -> Result<(PrivateKey, Vec<u8>), CryptoFault> {
        let mut scalar = Zeroizing::new([0; MAX_SCALAR]);
        let scalar = scalar.get_mut(..self.scalar_len()).ok_or(CryptoFault)?;
        for _ in 0..ATTEMPTS {
            rng.fill(scalar);
            if let (Self::P521, Some(first)) = (self, scalar.first_mut()) {
                // 521 bits are 65 bytes and one bit.
                *first &= 1;
            }
            // 0 and what is not below the order are refused: draw again (FIPS 186-5 A.2.2).
            let Ok(key) = PrivateKey::from_private_key(self.algorithm(), scalar) else {
                continue;
            };
            let share = key.compute_public_key()?.as_ref().to_vec();
            return Ok((key, share));
        }
        Err(CryptoFault)
    }

    /// What can be said of a peer's share by its form.
    fn check(self, share: &[u8]) -> Result<(), CryptoFault> {
        // RFC 5656 section 4 lets a side refuse compressed points; nobody sends them, and the library
        // would take them.
        let form = self == Self::X25519 || share.first() == Some(&UNCOMPRESSED);
        (form && share.len() == self.share_len())
            .then_some(())
            .ok_or(CryptoFault)
    }

    /// The secret of our key and the peer's share.
    ///
    /// RFC 5656 section 4: "All elliptic curve public keys MUST be validated after they are received."
    /// The library does it, and it refuses an X25519 result of zeros, as RFC 8731 section 3 demands.
    fn agree(self, key: &PrivateKey, share: &[u8]) -> Result<Secret, CryptoFault> {
        self.check(share)?;
        let peer = UnparsedPublicKey::new(self.algorithm(), share);
        agreement::agree(key, peer, CryptoFault, |secret| Ok(Secret::from(secret)))
    }
}

/// The length of an ML-KEM-768 encapsulation key (FIPS 203, table 3).
const ML_KEM_KEY: usize = 1184;
/// Where the encapsulation key lies in a decapsulation key: behind the key of the inner scheme (FIPS 203, algorithm 16).
const ML_KEM_KEY_AT: std::ops::Range<usize> = 1152..1152 + ML_KEM_KEY;
/// The length of an ML-KEM-768 ciphertext (FIPS 203, table 3).
const ML_KEM_CIPHERTEXT: usize = 1088;

/// A hybrid share taken apart: `quantum` bytes of ML-KEM, and a share of X25519.
fn split(share: &[u8], quantum: usize) -> Result<(&[u8], &[u8]), CryptoFault> {
    let (quantum, classic) = share.split_at_checked(quantum).ok_or(CryptoFault)?;
    Curve::X25519.check(classic)?;
    Ok((quantum, classic))
}

/// The two operations of ML-KEM-768 that draw random bytes.
///
/// The library insists on drawing them itself, so they are not the connection's generator's but
/// [`foreign`](Drbg::foreign) to it. They stand behind this trait so that a test can fix them.
trait MlKem {
    /// A decapsulation key, with the encapsulation key in it at [`ML_KEM_KEY_AT`].
    fn generate(&mut self) -> Result<Secret, CryptoFault>;

    /// The 1088 bytes of a ciphertext for the owner of the key, and the secret that it says.
    fn encapsulate(&mut self, key: &[u8]) -> Result<Secret, CryptoFault>;
}

/// The library with its own random bytes.
struct Library;

impl MlKem for Library {
    fn generate(&mut self) -> Result<Secret, CryptoFault> {
        let key = kem::DecapsulationKey::generate(&kem::ML_KEM_768)?;
        Ok(Secret::from(key.key_bytes()?.as_ref()))
    }

    fn encapsulate(&mut self, key: &[u8]) -> Result<Secret, CryptoFault> {
        // FIPS 203 section 7.2: a key with a coefficient that is not reduced must be refused. The
        // library does so in `encapsulate`, not before.
        let key = kem::EncapsulationKey::new(&kem::ML_KEM_768, key)?;
        let (ciphertext, secret) = key.encapsulate()?;
        Ok(Secret::new([ciphertext.as_ref(), secret.as_ref()].concat()))
    }
}

#[cfg(test)]
mod known_answers;
#[cfg(test)]
mod mpints;
#[cfg(test)]
mod tests;
