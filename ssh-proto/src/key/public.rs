//! Public keys (RFC 4253 section 6.6): the blob on the wire, the line in a file, the fingerprint.

use std::fmt;

use base64ct::{Base64, Base64Unpadded, Encoding};

use super::error::Field;
use super::{Format, KeyError, pem, signature};
use crate::crypto::sign::{self, Curve, RsaPublic};
use crate::limits::{KEY_BLOB_LEN, KEY_NAME_LEN, RSA_BITS};
use crate::names::SignatureAlgorithm;
use crate::wire::{Malformed, Reader, Writer};

/// A public key.
///
/// It keeps the blob that it was made from, and two keys are equal when their blobs are. A number has one
/// encoding only (RFC 4251 section 5: "Unnecessary leading bytes [...] MUST NOT be included"), so nobody
/// can dress up one key as two.
///
/// A key type that is not known survives: it has a name, a blob and a fingerprint, and
/// [`algorithms`](Self::algorithms) is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    kind: Kind,
    blob: Box<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Ed25519,
    Ecdsa(Curve),
    Rsa,
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "ssh-ed25519" => Self::Ed25519,
            "ecdsa-sha2-nistp256" => Self::Ecdsa(Curve::P256),
            "ecdsa-sha2-nistp384" => Self::Ecdsa(Curve::P384),
            "ecdsa-sha2-nistp521" => Self::Ecdsa(Curve::P521),
            "ssh-rsa" => Self::Rsa,
            _ => Self::Other,
        }
    }
}

/// The numbers of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a> {
    Ed25519(&'a [u8]),
    /// An uncompressed point of the right length.
    Ecdsa(Curve, &'a [u8]),
    Rsa(RsaPublic<'a>),
    Other,
}

impl PublicKey {
    /// Reads a key as it stands on the wire, at most 64 KiB.
    ///
    /// Lengths, the form of every number and the bounds of RSA keys are checked. That a point lies on its
    /// curve is checked where it matters: one that does not verifies nothing.
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        if blob.len() > KEY_BLOB_LEN {
            return Err(KeyError::Limit("a public key has at most 64 KiB"));
        }
        let mut reader = Reader::new(blob);
        let name = reader
            .string_max(KEY_NAME_LEN)
            .and_then(name)
            .field("key type")?;
        let kind = Kind::of(name);
        match numbers(kind, reader)? {
            Numbers::Rsa(public) => {
                check_rsa(public)?;
                if rsa_blob(public).as_slice() != blob {
                    return Err(KeyError::malformed("n or e", Malformed::Value));
                }
            }
            Numbers::Ed25519(_) | Numbers::Ecdsa(..) | Numbers::Other => {}
        }
        let blob = blob.into();
        Ok(Self { kind, blob })
    }

    /// The key as it stands on the wire.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The name at the start of the blob, such as `ssh-ed25519`. RSA keys are `ssh-rsa`, whatever hash
    /// they sign with.
    pub fn key_type(&self) -> &str {
        Reader::new(&self.blob).text().unwrap_or_default()
    }

    /// Reads the line of a `.pub` file: type, base64, and a comment, which may be absent. A line of
    /// `authorized_keys` with options in front is not one.
    pub fn from_openssh(line: &str) -> Result<(Self, String), KeyError> {
        let line = line.trim();
        match pem::detect(line.as_bytes()) {
            Format::OpensshPublic | Format::OpensshCertificate => {}
            other => return Err(KeyError::Foreign(other)),
        }
        let blank = [' ', '\t'];
        let (name, rest) = line.split_once(blank).unwrap_or_default();
        let rest = rest.trim_start();
        let (base64, comment) = rest.split_once(blank).unwrap_or((rest, ""));
        let comment = comment.trim_start();
        if comment.contains(['\n', '\r']) {
            return Err(KeyError::malformed("comment", Malformed::Trailing));
        }
        if base64.len() > KEY_BLOB_LEN.saturating_mul(2) {
            return Err(KeyError::Limit("a public key has at most 64 KiB"));
        }
        let blob = Base64::decode_vec(base64)
            .map_err(|_| KeyError::malformed("base64", Malformed::Encoding))?;
        let key = Self::from_blob(&blob)?;
        // A line must not say one thing and be another.
        if key.key_type() != name {
            return Err(KeyError::malformed("key type", Malformed::Value));
        }
        Ok((key, comment.to_owned()))
    }

    /// The line of a `.pub` file, without a line end. Control characters of the comment become blanks:
    /// it must not become a line of its own.
    pub fn to_openssh(&self, comment: &str) -> String {
        let mut line = format!("{} {}", self.key_type(), Base64::encode_string(&self.blob));
        if !comment.is_empty() {
            line.push(' ');
            line.extend(
                comment
                    .chars()
                    .map(|c| if c.is_control() { ' ' } else { c }),
            );
        }
        line
    }

    /// Reads the public half of an OpenSSH private key file, for which no passphrase is needed.
    ///
    /// Nothing proves that it belongs to the private half before that is read as well.
    pub fn from_openssh_private(file: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        super::openssh::public_half(file.as_ref())
    }

    /// The fingerprint as OpenSSH prints it: `SHA256:` and 43 characters of base64.
    pub fn fingerprint_sha256(&self) -> String {
        let hash = Base64Unpadded::encode_string(&sign::sha256(&self.blob));
        format!("SHA256:{hash}")
    }

    /// The fingerprint as OpenSSH printed it before version 6.8: `MD5:` and 16 bytes in hex. MD5 is broken:
    /// this is to be compared with old records, never to be trusted.
    #[cfg(feature = "encrypted-keys")]
    pub fn fingerprint_md5(&self) -> String {
        let mut text = "MD5".to_owned();
        for byte in sign::md5(&self.blob) {
            text.push_str(&format!(":{byte:02x}"));
        }
        text
    }

    /// The algorithms whose signatures this key can verify, most preferred first.
    pub const fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        use SignatureAlgorithm as Algorithm;
        match self.kind {
            Kind::Ed25519 => &[Algorithm::Ed25519],
            Kind::Ecdsa(Curve::P256) => &[Algorithm::EcdsaNistp256],
            Kind::Ecdsa(Curve::P384) => &[Algorithm::EcdsaNistp384],
            Kind::Ecdsa(Curve::P521) => &[Algorithm::EcdsaNistp521],
            Kind::Rsa => &[Algorithm::RsaSha512, Algorithm::RsaSha256],
            Kind::Other => &[],
        }
    }

    /// The size in bits, as `ssh-keygen -l` prints it: of the curve, or of the modulus. 0 when the type is
    /// not known.
    pub fn bits(&self) -> u32 {
        match self.numbers() {
            Numbers::Ed25519(_) => 256,
            Numbers::Ecdsa(curve, _) => curve.bits(),
            Numbers::Rsa(RsaPublic { n, .. }) => bit_len(n),
            Numbers::Other => 0,
        }
    }

    /// Verifies a signature over `message`. `signature` is the blob of RFC 4253 section 6.6: the name of the
    /// algorithm, then the signature proper, and nothing behind it.
    ///
    /// The name in the blob must be that of `algorithm`: a signature that was asked for with one hash is not
    /// accepted with another (RFC 8332 section 3).
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), KeyError> {
        if !self.algorithms().contains(&algorithm) {
            return Err(KeyError::algorithm(algorithm));
        }
        signature::verify(self.numbers(), algorithm, message, signature)
    }

    /// The numbers inside the blob, which was checked when the key was made.
    pub(super) fn numbers(&self) -> Numbers<'_> {
        let mut reader = Reader::new(&self.blob);
        reader
            .string()
            .map_err(|_| ())
            .and_then(|_name| numbers(self.kind, reader).map_err(|_| ()))
            .unwrap_or(Numbers::Other)
    }

    pub(crate) fn from_ed25519(public: &[u8; 32]) -> Self {
        let mut blob = Vec::with_capacity(51);
        Writer::new(&mut blob).string(b"ssh-ed25519").string(public);
        let (kind, blob) = (Kind::Ed25519, blob.into());
        Self { kind, blob }
    }

    pub(super) fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        let mut blob = Vec::new();
        Writer::new(&mut blob)
            .nested(|name| {
                name.bytes(b"ecdsa-sha2-").bytes(curve.name().as_bytes());
            })
            .string(curve.name().as_bytes())
            .string(point);
        Self::from_blob(&blob)
    }

    pub(super) fn from_rsa(public: RsaPublic<'_>) -> Result<Self, KeyError> {
        Self::from_blob(&rsa_blob(public))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.fingerprint_sha256();
        write!(f, "PublicKey({} {fingerprint})", self.key_type())
    }
}

/// RFC 4250 section 4.6.1: names are printable US-ASCII without blanks and commas.
fn name(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.is_empty() || !bytes.iter().all(|&b| b.is_ascii_graphic() && b != b',') {
        return Err(Malformed::Encoding);
    }
    std::str::from_utf8(bytes).map_err(|_| Malformed::Encoding)
}

/// Reads what is behind the name.
fn numbers(kind: Kind, mut reader: Reader<'_>) -> Result<Numbers<'_>, KeyError> {
    let numbers = match kind {
        Kind::Ed25519 => {
            let public = reader.string().field("public key")?;
            // RFC 8709 section 4: "the 32-octet public key".
            if public.len() != 32 {
                return Err(KeyError::malformed("public key", Malformed::Value));
            }
            Numbers::Ed25519(public)
        }
        Kind::Ecdsa(curve) => {
            let name = reader.string().field("curve")?;
            if name != curve.name().as_bytes() {
                return Err(KeyError::malformed("curve", Malformed::Value));
            }
            let point = reader.string().field("Q")?;
            // Compressed points are allowed (RFC 5656 section 3.1) and used by nobody; OpenSSH refuses them.
            if point.len() != curve.point_len() || point.first() != Some(&4) {
                return Err(KeyError::malformed("Q", Malformed::Value));
            }
            Numbers::Ecdsa(curve, point)
        }
        Kind::Rsa => {
            let e = reader.mpint().field("e")?;
            let n = reader.mpint().field("n")?;
            Numbers::Rsa(RsaPublic { n, e })
        }
        Kind::Other => return Ok(Numbers::Other),
    };
    reader.finish().field("public key")?;
    Ok(numbers)
}

fn rsa_blob(RsaPublic { n, e }: RsaPublic<'_>) -> Vec<u8> {
    let mut blob = Vec::with_capacity(n.len().saturating_add(e.len()).saturating_add(21));
    Writer::new(&mut blob).string(b"ssh-rsa").mpint(e).mpint(n);
    blob
}

fn check_rsa(RsaPublic { n, e }: RsaPublic<'_>) -> Result<(), KeyError> {
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !RSA_BITS.contains(&bit_len(n)) {
        return Err(KeyError::Limit("an RSA modulus has 2,048 to 16,384 bits"));
    }
    if !odd(n) {
        return Err(KeyError::BadKey("an even RSA modulus"));
    }
    // With e = 1 everybody can sign; an even one has no inverse.
    if !odd(e) || e == [1] {
        return Err(KeyError::BadKey("an RSA exponent that is 1 or even"));
    }
    if bit_len(e) > 33 {
        return Err(KeyError::Limit("an RSA exponent has at most 33 bits"));
    }
    Ok(())
}

/// The length in bits of a number without leading zero bytes.
fn bit_len(number: &[u8]) -> u32 {
    let bits = u32::try_from(number.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(8);
    bits.saturating_sub(number.first().map_or(0, |first| first.leading_zeros()))
}
