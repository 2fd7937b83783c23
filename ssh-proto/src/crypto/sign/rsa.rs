//! RSA with PKCS#1 v1.5 padding (RFC 8017 section 8.2). AWS-LC signs and verifies up to 8,192 bits;
//! beyond that, and for the two numbers that OpenSSH's key files leave out, there is crypto-bigint.
//!
//! Numbers are big-endian. Those of a public key have no leading zero bytes.

use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPairComponents, KeySize};
use aws_lc_rs::signature::{
    KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Resize};
use zeroize::Zeroizing;

use super::Refused;
use crate::Secret;

/// The largest modulus that AWS-LC works with.
const AWS_LC_MAX_LEN: usize = 8_192 / 8;

/// The hash of a signature (RFC 8332).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RsaHash {
    Sha256,
    Sha512,
}

impl RsaHash {
    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            Self::Sha256 => &RSA_PKCS1_SHA256,
            Self::Sha512 => &RSA_PKCS1_SHA512,
        }
    }

    fn parameters(self) -> &'static RsaParameters {
        match self {
            Self::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        }
    }

    /// RFC 8017 section 9.2, note 1: the DER encoding of DigestInfo in front of the hash.
    const fn digest_info(self) -> &'static [u8; 19] {
        match self {
            Self::Sha256 => {
                b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
            }
            Self::Sha512 => {
                b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
            }
        }
    }
}

/// The numbers of a public key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RsaPublic<'a> {
    pub(crate) n: &'a [u8],
    pub(crate) e: &'a [u8],
}

impl RsaPublic<'_> {
    /// Verifies a signature exactly as long as the modulus.
    pub(crate) fn verify(
        &self,
        hash: RsaHash,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Refused> {
        if signature.len() != self.n.len() {
            return Err(Refused);
        }
        if self.n.len() > AWS_LC_MAX_LEN {
            return self.verify_large(hash, message, signature);
        }
        let components = RsaPublicKeyComponents {
            n: self.n,
            e: self.e,
        };
        Ok(components.verify(hash.parameters(), message, signature)?)
    }

    /// RFC 8017 section 8.2.2, with the comparison on the encoded message. Everything here is public,
    /// so time may depend on it.
    fn verify_large(&self, hash: RsaHash, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let modulus = BoxedUint::from_be_slice_vartime(self.n);
        let exponent = BoxedUint::from_be_slice_vartime(self.e);
        let signature = BoxedUint::from_be_slice_vartime(signature);
        // RFC 8017 section 5.2.2: "If the signature representative s is not between 0 and n - 1,
        // output 'signature representative out of range' and stop."
        if signature.cmp_vartime(&modulus).is_ge() {
            return Err(Refused);
        }
        let modulus = Option::from(modulus.into_odd()).ok_or(Refused)?;
        let params = BoxedMontyParams::new_vartime(modulus);
        let signature = signature.resize(params.bits_precision());
        let opened = BoxedMontyForm::new(signature, &params)
            .pow_bounded_exp(&exponent, exponent.bits_vartime())
            .retrieve()
            .to_be_bytes();
        let expected = self.encoded(hash, message).ok_or(Refused)?;
        // The number is padded to whole words.
        let (zeros, opened) = opened
            .split_at_checked(opened.len().saturating_sub(expected.len()))
            .ok_or(Refused)?;
        if zeros.iter().all(|&byte| byte == 0) && opened == expected {
            Ok(())
        } else {
            Err(Refused)
        }
    }

    /// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2): `00 01 ff .. ff 00 DigestInfo hash`.
    fn encoded(&self, hash: RsaHash, message: &[u8]) -> Option<Vec<u8>> {
        let digest = digest(hash.algorithm(), message);
        let info = hash.digest_info();
        let fixed = digest.as_ref().len().checked_add(info.len())?;
        let filling = self.n.len().checked_sub(fixed)?.checked_sub(3)?;
        let mut encoded = Vec::with_capacity(self.n.len());
        encoded.extend_from_slice(&[0, 1]);
        encoded.resize(filling.checked_add(2)?, 0xff);
        encoded.push(0);
        encoded.extend_from_slice(info);
        encoded.extend_from_slice(digest.as_ref());
        Some(encoded)
    }
}

/// The secret numbers of a private key, as OpenSSH's key files have them.
#[derive(Clone)]
pub(crate) struct RsaPrivate {
    /// The private exponent.
    pub(crate) d: Secret,
    /// The inverse of q modulo p.
    pub(crate) iqmp: Secret,
    /// The first prime.
    pub(crate) p: Secret,
    /// The second prime.
    pub(crate) q: Secret,
}

/// A private key, checked: 2,048 to 8,192 bits.
pub(crate) struct RsaSigner(RsaKeyPair);

impl RsaSigner {
    /// Checks that the numbers belong together: n = p q, and d, e and iqmp fit. Whether p and q are
    /// primes is not checked.
    pub(crate) fn new(public: RsaPublic<'_>, private: &RsaPrivate) -> Result<Self, Refused> {
        let RsaPrivate { d, iqmp, p, q } = private;
        // Bounds the arithmetic below, whatever a file says.
        if [d, iqmp, p, q].iter().any(|x| x.len() > AWS_LC_MAX_LEN) {
            return Err(Refused);
        }
        let (dp, dq) = (crt_exponent(d, p)?, crt_exponent(d, q)?);
        let components = KeyPairComponents {
            public_key: RsaPublicKeyComponents {
                n: public.n,
                e: public.e,
            },
            d: d.expose(),
            p: p.expose(),
            q: q.expose(),
            dP: dp.expose(),
            dQ: dq.expose(),
            qInv: iqmp.expose(),
        };
        Ok(Self(RsaKeyPair::from_components(&components)?))
    }

    /// A new key. AWS-LC has 2,048, 3,072, 4,096 and 8,192 bits, e = 65537, and draws for itself.
    pub(crate) fn generate(bits: u32) -> Result<(Self, RsaNumbers), Refused> {
        let size = match bits {
            2_048 => KeySize::Rsa2048,
            3_072 => KeySize::Rsa3072,
            4_096 => KeySize::Rsa4096,
            8_192 => KeySize::Rsa8192,
            _ => return Err(Refused),
        };
        let pair = RsaKeyPair::generate(size)?;
        let der: Pkcs8V1Der<'_> = pair.as_der()?;
        let numbers = RsaNumbers::from_pkcs8(der.as_ref()).ok_or(Refused)?;
        Ok((Self(pair), numbers))
    }

    /// Signs, and verifies the result before it is let out: a single fault in the arithmetic would
    /// give a signature that tells the private key (Boneh, DeMillo, Lipton 1997).
    pub(crate) fn sign(&self, hash: RsaHash, message: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let digest = digest(hash.algorithm(), message);
        self.0
            .sign_digest(hash.encoding(), &digest, &mut signature)?;
        UnparsedPublicKey::new(hash.parameters(), self.0.public_key().as_ref())
            .verify(message, &signature)?;
        Ok(signature)
    }
}

/// d modulo (p - 1). AWS-LC wants it, OpenSSH's files do not have it. In constant time.
fn crt_exponent(d: &Secret, prime: &Secret) -> Result<Secret, Refused> {
    let number = |secret: &Secret| {
        let bits = u32::try_from(secret.len().saturating_mul(8)).map_err(|_| Refused)?;
        BoxedUint::from_be_slice(secret.expose(), bits)
            .map(Zeroizing::new)
            .map_err(|_| Refused)
    };
    let (d, prime) = (number(d)?, number(prime)?);
    let less_one = prime.wrapping_sub(BoxedUint::one());
    let less_one = Option::from(less_one.into_nz()).ok_or(Refused)?;
    let less_one = Zeroizing::new(less_one);
    let exponent = Zeroizing::new(d.rem(&*less_one));
    Ok(Secret::new(exponent.to_be_bytes().into_vec()))
}

/// All numbers of a new key.
pub(crate) struct RsaNumbers {
    pub(crate) n: Vec<u8>,
    pub(crate) e: Vec<u8>,
    pub(crate) private: RsaPrivate,
}

impl RsaNumbers {
    /// Reads PrivateKeyInfo (RFC 5208 section 5) around RSAPrivateKey (RFC 8017 appendix A.1.2).
    fn from_pkcs8(document: &[u8]) -> Option<Self> {
        const INTEGER: u8 = 0x02;
        const OCTET_STRING: u8 = 0x04;
        const SEQUENCE: u8 = 0x30;
        let mut info = der(&mut { document }, SEQUENCE)?;
        der(&mut info, INTEGER)?; // version
        der(&mut info, SEQUENCE)?; // algorithm
        let mut inside = der(&mut info, OCTET_STRING)?;
        let mut key = der(&mut inside, SEQUENCE)?;
        der(&mut key, INTEGER)?; // version
        let mut number = || {
            let digits = der(&mut key, INTEGER)?;
            Some(digits.strip_prefix(&[0]).unwrap_or(digits))
        };
        let (n, e) = (number()?.to_vec(), number()?.to_vec());
        let (d, p, q) = (number()?, number()?, number()?);
        let (_dp, _dq, iqmp) = (number()?, number()?, number()?);
        let private = RsaPrivate {
            d: d.into(),
            iqmp: iqmp.into(),
            p: p.into(),
            q: q.into(),
        };
        Some(Self { n, e, private })
    }
}

/// The contents of the next DER element, which must be of type `tag`.
fn der<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&[found, first], mut rest) = from.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
        len = digits.iter().try_fold(0_usize, |len, &digit| {
            len.checked_mul(256)?.checked_add(usize::from(digit))
        })?;
        rest = behind;
    }
    let (contents, behind) = rest.split_at_checked(len)?;
    *from = behind;
    Some(contents)
}

#[cfg(test)]
mod known_answers;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arithmetic_for_large_keys_agrees_with_that_for_small_ones() {
        let (signer, RsaNumbers { n, e, .. }) = RsaSigner::generate(2_048).unwrap();
        let public = RsaPublic { n: &n, e: &e };
        for hash in [RsaHash::Sha256, RsaHash::Sha512] {
            let good = signer.sign(hash, b"message").unwrap();
            assert_eq!(public.verify(hash, b"message", &good), Ok(()));
            assert_eq!(public.verify_large(hash, b"message", &good), Ok(()));
            assert_eq!(public.verify_large(hash, b"another", &good), Err(Refused));
            for at in [0, 100, 255] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert_eq!(public.verify(hash, b"message", &bad), Err(Refused));
                assert_eq!(public.verify_large(hash, b"message", &bad), Err(Refused));
            }
            assert_eq!(public.verify_large(hash, b"message", &n), Err(Refused));
        }
    }

    #[test]
    fn a_generated_key_is_built_again_from_its_numbers() {
        let (_, RsaNumbers { n, e, private }) = RsaSigner::generate(2_048).unwrap();
        let public = RsaPublic { n: &n, e: &e };
        let again = RsaSigner::new(public, &private).unwrap();
        let signature = again.sign(RsaHash::Sha512, b"message").unwrap();
        assert_eq!(
            public.verify(RsaHash::Sha512, b"message", &signature),
            Ok(())
        );
    }

    fn flipped(number: &Secret) -> Secret {
        let mut digits = number.expose().to_vec();
        digits[9] ^= 1;
        Secret::new(digits)
    }

    #[test]
    fn a_broken_key_is_refused() {
        let (_, RsaNumbers { n, e, private }) = RsaSigner::generate(2_048).unwrap();
        let public = RsaPublic { n: &n, e: &e };
        for break_it in [
            |key: &mut RsaPrivate| key.d = flipped(&key.d),
            |key: &mut RsaPrivate| key.iqmp = flipped(&key.iqmp),
            |key: &mut RsaPrivate| key.p = flipped(&key.p),
            |key: &mut RsaPrivate| std::mem::swap(&mut key.p, &mut key.q),
            |key: &mut RsaPrivate| key.q = Secret::default(),
            |key: &mut RsaPrivate| key.q = Secret::new(vec![1]),
            |key: &mut RsaPrivate| key.q = Secret::new(vec![0xff; 1_025]),
        ] {
            let mut broken = private.clone();
            break_it(&mut broken);
            assert!(RsaSigner::new(public, &broken).is_err());
        }
    }

    /// Factors that pass for primes make a key whose numbers belong together and whose arithmetic comes out wrong.
    #[test]
    fn a_signature_that_came_out_wrong_is_not_let_out() {
        let (_, RsaNumbers { e, private, .. }) = RsaSigner::generate(2_048).unwrap();
        let number = |bytes: &[u8]| BoxedUint::from_be_slice_vartime(bytes).resize(4_096);
        let digits = |number: &BoxedUint| {
            let bytes = number.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes[zeros..].to_vec()
        };
        let (q, one) = (number(private.q.expose()), number(&[1]));
        let three = number(&[3]).into_nz().unwrap();
        let mut p = number(private.p.expose());
        let (p, d, iqmp) = loop {
            p = p.wrapping_add(number(&[2]));
            let order = p.wrapping_sub(&one).wrapping_mul(q.wrapping_sub(&one));
            let inverses = number(&e)
                .invert_mod(&order.into_nz().unwrap())
                .into_option()
                .zip(
                    q.rem(&p.clone().into_nz().unwrap())
                        .resize(4_096)
                        .invert_mod(&p.clone().into_nz().unwrap())
                        .into_option(),
                );
            if p.rem(&three) == number(&[])
                && let Some((d, iqmp)) = inverses
            {
                break (p, d, iqmp);
            }
        };
        let n = digits(&p.wrapping_mul(&q));
        let wrong = RsaPrivate {
            d: Secret::new(digits(&d)),
            iqmp: Secret::new(digits(&iqmp)),
            p: Secret::new(digits(&p)),
            q: private.q,
        };
        let signer = RsaSigner::new(RsaPublic { n: &n, e: &e }, &wrong)
            .expect("numbers that belong together");
        for hash in [RsaHash::Sha256, RsaHash::Sha512] {
            for message in [&b"message"[..], b"another", b""] {
                assert!(signer.sign(hash, message).is_err());
            }
        }
    }

    #[test]
    fn only_the_sizes_of_aws_lc_are_generated() {
        for bits in [0, 1_024, 2_047, 2_056, 16_384] {
            assert!(RsaSigner::generate(bits).is_err());
        }
    }
}
