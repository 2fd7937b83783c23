//! The ciphers that a private key file may be under. A file is small and read once: everything
//! happens in place and in one call.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey,
    EncryptionContext, UnboundCipherKey,
};

use crate::crypto::sign::Refused;

/// A cipher of a private key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileCipher {
    Aes128Ctr,
    Aes192Ctr,
    Aes256Ctr,
    Aes128Cbc,
    Aes192Cbc,
    Aes256Cbc,
    Aes128Gcm,
    Aes256Gcm,
}

impl FileCipher {
    const ALL: [Self; 8] = [
        Self::Aes128Ctr,
        Self::Aes192Ctr,
        Self::Aes256Ctr,
        Self::Aes128Cbc,
        Self::Aes192Cbc,
        Self::Aes256Cbc,
        Self::Aes128Gcm,
        Self::Aes256Gcm,
    ];

    /// The cipher of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.name() == name)
    }

    /// The name in the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Aes128Ctr => "aes128-ctr",
            Self::Aes192Ctr => "aes192-ctr",
            Self::Aes256Ctr => "aes256-ctr",
            Self::Aes128Cbc => "aes128-cbc",
            Self::Aes192Cbc => "aes192-cbc",
            Self::Aes256Cbc => "aes256-cbc",
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
        }
    }

    /// The length of the key, in bytes.
    const fn key_len(self) -> usize {
        match self {
            Self::Aes128Ctr | Self::Aes128Cbc | Self::Aes128Gcm => 16,
            Self::Aes192Ctr | Self::Aes192Cbc => 24,
            Self::Aes256Ctr | Self::Aes256Cbc | Self::Aes256Gcm => 32,
        }
    }

    /// The length of key and initialization vector together: what the key derivation has to give.
    pub(crate) const fn material_len(self) -> usize {
        match self {
            Self::Aes128Ctr | Self::Aes128Cbc => 16 + 16,
            Self::Aes192Ctr | Self::Aes192Cbc => 24 + 16,
            Self::Aes256Ctr | Self::Aes256Cbc => 32 + 16,
            Self::Aes128Gcm => 16 + 12,
            Self::Aes256Gcm => 32 + 12,
        }
    }

    /// What the encrypted length is a multiple of, in bytes: all of them are AES.
    pub(crate) const BLOCK_LEN: usize = 16;

    /// The length of the tag behind the ciphertext, in bytes.
    pub(crate) const fn tag_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 16,
            _ => 0,
        }
    }

    /// Decrypts `data` in place with `material`: the key, then the initialization vector. Fails when
    /// a length or the tag is wrong.
    pub(crate) fn open(self, material: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), Refused> {
        if tag.len() != self.tag_len() || material.len() != self.material_len() {
            return Err(Refused);
        }
        let (key, iv) = material.split_at_checked(self.key_len()).ok_or(Refused)?;
        match self {
            Self::Aes128Ctr => ctr(&AES_128, key, iv, data),
            Self::Aes192Ctr => ctr(&AES_192, key, iv, data),
            Self::Aes256Ctr => ctr(&AES_256, key, iv, data),
            Self::Aes128Cbc => open_cbc(&AES_128, key, iv, data),
            Self::Aes192Cbc => open_cbc(&AES_192, key, iv, data),
            Self::Aes256Cbc => open_cbc(&AES_256, key, iv, data),
            Self::Aes128Gcm => open_gcm(UnboundKey::new(&AES_128_GCM, key)?, iv, data, tag),
            Self::Aes256Gcm => open_gcm(UnboundKey::new(&AES_256_GCM, key)?, iv, data, tag),
        }
    }

    /// Encrypts `data` in place under `aes256-ctr`, the only cipher that files are written with.
    pub(crate) fn seal_aes256_ctr(material: &[u8], data: &mut [u8]) -> Result<(), Refused> {
        // Counter mode is its own inverse.
        Self::Aes256Ctr.open(material, data, &[])
    }
}

fn ctr(
    algorithm: &'static Algorithm,
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Result<(), Refused> {
    let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)?;
    key.less_safe_encrypt(data, EncryptionContext::Iv128(iv.try_into()?))?;
    Ok(())
}

fn open_cbc(
    algorithm: &'static Algorithm,
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Result<(), Refused> {
    let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key)?)?;
    key.decrypt(data, DecryptionContext::Iv128(iv.try_into()?))?;
    Ok(())
}

fn open_gcm(key: UnboundKey, iv: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), Refused> {
    let nonce = Nonce::try_assume_unique_for_key(iv)?;
    LessSafeKey::new(key).open_in_place_separate_tag(nonce, Aad::empty(), tag, data)?;
    Ok(())
}
