//! OpenSSH's private key files (its PROTOCOL.key): `openssh-key-v1`.
//!
//! ```text
//! "openssh-key-v1" NUL
//! string  ciphername, string kdfname, string kdfoptions
//! uint32  number of keys: 1
//! string  public key
//! string  private section, encrypted:
//!             uint32 checkint, twice
//!             string key type, numbers of the kind, string comment
//!             padding 1, 2, 3, ...
//! byte[n] tag, when the cipher has one
//! ```

use zeroize::Zeroizing;

use super::error::Field;
use super::private::PrivateNumbers;
use super::public::Numbers;
use super::{KeyError, PrivateKey, PublicKey, pem};
use crate::Secret;
#[cfg(feature = "encrypted-keys")]
use crate::crypto::kdf::{self, FileCipher};
use crate::crypto::sign::{Curve, RsaPrivate, RsaPublic};
#[cfg(feature = "encrypted-keys")]
use crate::limits::KEY_SALT_LEN;
use crate::wire::{Malformed, Reader, Writer};

const MAGIC: &[u8] = b"openssh-key-v1\0";

/// The padding of a file in clear goes up to a multiple of this.
const CLEAR_BLOCK_LEN: usize = 8;

/// How to encrypt a private key file: `aes256-ctr` under a key that `bcrypt` makes of a passphrase.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "this is all that the format has")]
pub struct Encryption<'a> {
    /// The passphrase; not empty.
    pub passphrase: &'a [u8],
    /// How often the key derivation is repeated, at least 1. Each round costs about 10 ms, whoever wants to
    /// read the file, and whoever guesses. See [`DEFAULT_ROUNDS`](Self::DEFAULT_ROUNDS).
    pub rounds: u32,
    /// 16 fresh random bytes.
    pub salt: [u8; 16],
}

impl Encryption<'_> {
    /// The number of rounds that `ssh-keygen` uses since OpenSSH 9.4.
    pub const DEFAULT_ROUNDS: u32 = 24;
}

impl std::fmt::Debug for Encryption<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption")
            .field("rounds", &self.rounds)
            .finish_non_exhaustive()
    }
}

/// A file, taken apart but not opened.
struct Envelope<'a> {
    cipher: &'a str,
    kdf: &'a str,
    kdf_options: &'a [u8],
    public: PublicKey,
    section: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.bytes(MAGIC.len()).field("magic")?;
        if magic != MAGIC {
            return Err(KeyError::malformed("magic", Malformed::Value));
        }
        let cipher = reader.text().field("ciphername")?;
        let kdf = reader.text().field("kdfname")?;
        let kdf_options = reader.string().field("kdfoptions")?;
        if reader.uint32().field("number of keys")? != 1 {
            return Err(KeyError::Limit("a private key file has one key"));
        }
        let public = PublicKey::from_blob(reader.string().field("public key")?)?;
        let section = reader.string().field("private section")?;
        let tag = reader.rest();
        Ok(Self {
            cipher,
            kdf,
            kdf_options,
            public,
            section,
            tag,
        })
    }

    const fn is_encrypted(&self) -> bool {
        !matches!(self.cipher.as_bytes(), b"none")
    }

    /// The private section in clear.
    fn open(&self, passphrase: Option<&[u8]>, max_rounds: u32) -> Result<Secret, KeyError> {
        if self.is_encrypted() {
            return self.decrypt(passphrase, max_rounds);
        }
        if self.kdf != "none" || !self.kdf_options.is_empty() {
            return Err(KeyError::malformed("kdfname", Malformed::Value));
        }
        if !self.tag.is_empty() {
            return Err(KeyError::malformed("private section", Malformed::Trailing));
        }
        if !self.section.len().is_multiple_of(CLEAR_BLOCK_LEN) {
            return Err(KeyError::malformed("private section", Malformed::Value));
        }
        Ok(Secret::from(self.section))
    }

    #[cfg(not(feature = "encrypted-keys"))]
    fn decrypt(&self, _passphrase: Option<&[u8]>, _max_rounds: u32) -> Result<Secret, KeyError> {
        Err(KeyError::unsupported("key derivation", self.kdf))
    }

    #[cfg(feature = "encrypted-keys")]
    fn decrypt(&self, passphrase: Option<&[u8]>, max_rounds: u32) -> Result<Secret, KeyError> {
        let cipher = FileCipher::from_name(self.cipher)
            .ok_or_else(|| KeyError::unsupported("cipher", self.cipher))?;
        match self.kdf {
            "bcrypt" => {}
            // A cipher without a key.
            "none" => return Err(KeyError::malformed("kdfname", Malformed::Value)),
            other => return Err(KeyError::unsupported("key derivation", other)),
        }
        let mut options = Reader::new(self.kdf_options);
        let salt = options.string_max(KEY_SALT_LEN).field("salt")?;
        let rounds = options.uint32().field("rounds")?;
        options.finish().field("kdfoptions")?;
        if salt.is_empty() {
            return Err(KeyError::malformed("salt", Malformed::Value));
        }
        if rounds == 0 {
            return Err(KeyError::malformed("rounds", Malformed::Value));
        }
        if rounds > max_rounds {
            return Err(KeyError::Limit("more bcrypt rounds than are allowed"));
        }
        if !self.section.len().is_multiple_of(FileCipher::BLOCK_LEN) {
            return Err(KeyError::malformed("private section", Malformed::Value));
        }
        if self.tag.len() != cipher.tag_len() {
            let problem = if self.tag.len() < cipher.tag_len() {
                Malformed::Truncated
            } else {
                Malformed::Trailing
            };
            return Err(KeyError::malformed("tag", problem));
        }
        let passphrase = passphrase
            .filter(|passphrase| !passphrase.is_empty())
            .ok_or(KeyError::PassphraseNeeded)?;
        let material = kdf::bcrypt_pbkdf(passphrase, salt, rounds, cipher.material_len())
            .map_err(|_| KeyError::malformed("kdfoptions", Malformed::Value))?;
        let mut section = Zeroizing::new(self.section.to_vec());
        cipher
            .open(material.expose(), &mut section, self.tag)
            .map_err(|_| KeyError::WrongPassphrase)?;
        Ok(Secret::new(std::mem::take(&mut *section)))
    }
}

/// The public half, which stands in clear.
pub(super) fn public_half(file: &[u8]) -> Result<PublicKey, KeyError> {
    let bytes = pem::decode(file)?;
    Envelope::parse(bytes.expose()).map(|envelope| envelope.public)
}

pub(super) fn is_encrypted(file: &[u8]) -> Result<bool, KeyError> {
    let bytes = pem::decode(file)?;
    Envelope::parse(bytes.expose()).map(|envelope| envelope.is_encrypted())
}

pub(super) fn read(
    file: &[u8],
    passphrase: Option<&[u8]>,
    max_rounds: u32,
) -> Result<PrivateKey, KeyError> {
    let bytes = pem::decode(file)?;
    let envelope = Envelope::parse(bytes.expose())?;
    let section = envelope.open(passphrase, max_rounds)?;
    let mut reader = Reader::new(section.expose());
    let checkints = (
        reader.uint32().field("checkint")?,
        reader.uint32().field("checkint")?,
    );
    if checkints.0 != checkints.1 {
        return Err(if envelope.is_encrypted() {
            KeyError::WrongPassphrase
        } else {
            KeyError::malformed("checkint", Malformed::Value)
        });
    }
    let key_type = reader.text().field("key type")?;
    let (public, secret) = match key_type {
        "ssh-ed25519" => read_ed25519(&mut reader)?,
        "ecdsa-sha2-nistp256" => read_ecdsa(Curve::P256, &mut reader)?,
        "ecdsa-sha2-nistp384" => read_ecdsa(Curve::P384, &mut reader)?,
        "ecdsa-sha2-nistp521" => read_ecdsa(Curve::P521, &mut reader)?,
        "ssh-rsa" => read_rsa(&mut reader)?,
        other => return Err(KeyError::unsupported("key type", other)),
    };
    let comment = String::from_utf8_lossy(reader.string().field("comment")?);
    // PROTOCOL.key: "1, 2, 3, ..." up to the cipher's block size, which nowhere is more than a byte counts.
    if !(1..=u8::MAX)
        .take(reader.remaining().len())
        .eq(reader.remaining().iter().copied())
    {
        return Err(KeyError::malformed("padding", Malformed::Value));
    }
    // Who shows the half in clear to somebody must not end up with another key.
    if public != envelope.public {
        return Err(KeyError::BadKey("the public half belongs to another key"));
    }
    PrivateKey::new(public, secret, &comment)
}

fn read_ed25519(reader: &mut Reader<'_>) -> Result<(PublicKey, PrivateNumbers), KeyError> {
    let public = reader.string().field("public key")?;
    let private = reader.string().field("private key")?;
    // The seed, then the public key once more.
    let (Ok(public), Some((seed, again))) = (public.try_into(), private.split_at_checked(32))
    else {
        return Err(KeyError::malformed("private key", Malformed::Value));
    };
    if again != public {
        return Err(KeyError::BadKey("the public half belongs to another key"));
    }
    let public = PublicKey::from_ed25519(public);
    Ok((public, PrivateNumbers::Ed25519(seed.into())))
}

fn read_ecdsa(
    curve: Curve,
    reader: &mut Reader<'_>,
) -> Result<(PublicKey, PrivateNumbers), KeyError> {
    if reader.text().field("curve")? != curve.name() {
        return Err(KeyError::malformed("curve", Malformed::Value));
    }
    let point = reader.string().field("Q")?;
    let scalar = reader.mpint().field("d")?;
    let missing = curve.scalar_len().checked_sub(scalar.len());
    let missing = missing.ok_or(KeyError::malformed("d", Malformed::TooLong))?;
    let mut padded = Vec::with_capacity(curve.scalar_len());
    padded.resize(missing, 0);
    padded.extend_from_slice(scalar);
    let public = PublicKey::from_point(curve, point)?;
    Ok((public, PrivateNumbers::Ecdsa(Secret::new(padded))))
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<(PublicKey, PrivateNumbers), KeyError> {
    let n = reader.mpint().field("n")?;
    let e = reader.mpint().field("e")?;
    let private = RsaPrivate {
        d: reader.mpint().field("d")?.into(),
        iqmp: reader.mpint().field("iqmp")?.into(),
        p: reader.mpint().field("p")?.into(),
        q: reader.mpint().field("q")?.into(),
    };
    let public = PublicKey::from_rsa(RsaPublic { n, e })?;
    Ok((public, PrivateNumbers::Rsa(private)))
}

pub(super) fn write(
    key: &PrivateKey,
    secret: &PrivateNumbers,
    encryption: Option<Encryption<'_>>,
    checkint: u32,
) -> Result<Secret, KeyError> {
    let block_len = if encryption.is_some() {
        16
    } else {
        CLEAR_BLOCK_LEN
    };
    let mut section = write_section(key, secret, checkint, block_len);
    let (cipher, kdf, kdf_options) = match encryption {
        None => ("none", "none", Vec::new()),
        Some(encryption) => ("aes256-ctr", "bcrypt", encrypt(&encryption, &mut section)?),
    };
    let public = key.public().blob();
    let len = public.len().saturating_add(section.len());
    let mut bytes = Zeroizing::new(Vec::with_capacity(len.saturating_add(128)));
    Writer::new(&mut bytes)
        .bytes(MAGIC)
        .string(cipher.as_bytes())
        .string(kdf.as_bytes())
        .string(&kdf_options)
        .uint32(1)
        .string(public)
        .string(&section);
    pem::encode(&bytes)
}

/// Encrypts the section in place and gives the options of the key derivation.
#[cfg(feature = "encrypted-keys")]
fn encrypt(encryption: &Encryption<'_>, section: &mut [u8]) -> Result<Vec<u8>, KeyError> {
    let Encryption {
        passphrase,
        rounds,
        salt,
    } = *encryption;
    // `ssh-keygen` takes an empty passphrase for none; here that must be said.
    if passphrase.is_empty() {
        return Err(KeyError::PassphraseNeeded);
    }
    let refused = |_| KeyError::malformed("rounds", Malformed::Value);
    let len = FileCipher::Aes256Ctr.material_len();
    let material = kdf::bcrypt_pbkdf(passphrase, &salt, rounds, len).map_err(refused)?;
    FileCipher::seal_aes256_ctr(material.expose(), section).map_err(refused)?;
    let mut options = Vec::new();
    Writer::new(&mut options).string(&salt).uint32(rounds);
    Ok(options)
}

#[cfg(not(feature = "encrypted-keys"))]
fn encrypt(_encryption: &Encryption<'_>, _section: &mut [u8]) -> Result<Vec<u8>, KeyError> {
    Err(KeyError::unsupported("key derivation", "bcrypt"))
}

fn write_section(
    key: &PrivateKey,
    secret: &PrivateNumbers,
    checkint: u32,
    block_len: usize,
) -> Zeroizing<Vec<u8>> {
    let public = key.public();
    // More than enough for any key: n, e, d, iqmp, p and q take less than 4 times the public blob.
    let len = public.blob().len().saturating_mul(4);
    let len = len.saturating_add(key.comment().len()).saturating_add(512);
    let mut section = Zeroizing::new(Vec::with_capacity(len));
    let mut writer = Writer::new(&mut section);
    writer
        .uint32(checkint)
        .uint32(checkint)
        .string(public.key_type().as_bytes());
    match (public.numbers(), secret) {
        (Numbers::Ed25519(public), PrivateNumbers::Ed25519(seed)) => {
            writer.string(public).nested(|private| {
                private.bytes(seed.expose()).bytes(public);
            });
        }
        (Numbers::Ecdsa(curve, point), PrivateNumbers::Ecdsa(scalar)) => {
            writer
                .string(curve.name().as_bytes())
                .string(point)
                .mpint(scalar.expose());
        }
        (Numbers::Rsa(RsaPublic { n, e }), PrivateNumbers::Rsa(private)) => {
            writer
                .mpint(n)
                .mpint(e)
                .mpint(private.d.expose())
                .mpint(private.iqmp.expose())
                .mpint(private.p.expose())
                .mpint(private.q.expose());
        }
        // `PrivateKey::new` takes halves of one kind only.
        _ => {}
    }
    writer.string(key.comment().as_bytes());
    for padding in 1..=u8::MAX {
        if section.len().is_multiple_of(block_len) {
            break;
        }
        section.push(padding);
    }
    section
}
