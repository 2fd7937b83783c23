//! The ciphers of the packet layer, keyed: one [`SealKey`] and one [`OpenKey`] per connection.
//! In: the bytes of one packet, as the packet layer laid them out. Out: the same bytes sealed or opened
//! in place, and a tag. No call allocates. RFC 4344 (CTR), RFC 5647 (GCM), OpenSSH's
//! PROTOCOL.chacha20poly1305.
//!
//! What a packet is made of, and where its length and padding go, is the packet layer's business.

use std::fmt;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey, chacha20_poly1305_openssh,
};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey,
};

use super::{CryptoFault, NULL};
use crate::limits::AEAD_RECORDS;
use crate::names::Cipher;

/// The length of an AEAD cipher's tag, in bytes.
pub(crate) const TAG: usize = 16;

/// The length of the key, in bytes. ChaCha20-Poly1305 has two keys of 32 bytes.
pub(crate) const fn key_len(cipher: Cipher) -> usize {
    match cipher {
        Cipher::Aes128Gcm | Cipher::Aes128Ctr => 16,
        Cipher::Aes192Ctr => 24,
        Cipher::Aes256Gcm | Cipher::Aes256Ctr => 32,
        Cipher::ChaCha20Poly1305 => chacha20_poly1305_openssh::KEY_LEN,
    }
}

/// The length of the initial IV, in bytes. ChaCha20-Poly1305 has none: the sequence number is its nonce.
pub(crate) const fn iv_len(cipher: Cipher) -> usize {
    match cipher {
        Cipher::Aes128Gcm | Cipher::Aes256Gcm => 12,
        Cipher::ChaCha20Poly1305 => 0,
        Cipher::Aes128Ctr | Cipher::Aes192Ctr | Cipher::Aes256Ctr => BLOCK,
    }
}

/// What the encrypted part of a packet is a multiple of, in bytes.
pub(crate) const fn block_len(cipher: Cipher) -> usize {
    match cipher {
        // RFC 4253 section 6: "a multiple of the cipher block size or 8, whichever is larger"
        Cipher::ChaCha20Poly1305 => 8,
        _ => BLOCK,
    }
}

/// The length of the tag behind a packet, in bytes; 0 where a MAC does its work.
pub(crate) const fn tag_len(cipher: Cipher) -> usize {
    if cipher.is_aead() { TAG } else { 0 }
}

/// The key that outgoing packets are sealed with.
pub(crate) enum SealKey {
    Gcm(GcmSeal),
    ChaCha(ChaChaSeal),
    Ctr(Ctr),
}

impl SealKey {
    /// `None` unless key and IV have exactly the cipher's lengths.
    pub(crate) fn new(cipher: Cipher, key: &[u8], iv: &[u8]) -> Option<Self> {
        if key.len() != key_len(cipher) || iv.len() != iv_len(cipher) {
            return None;
        }
        Some(match cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Self::Gcm(GcmSeal(Gcm::new(key, iv)?)),
            Cipher::ChaCha20Poly1305 => Self::ChaCha(ChaChaSeal {
                key: chacha20_poly1305_openssh::SealingKey::new(key.try_into().ok()?),
                records: Records::default(),
            }),
            Cipher::Aes128Ctr | Cipher::Aes192Ctr | Cipher::Aes256Ctr => {
                Self::Ctr(Ctr::new(key, iv)?)
            }
        })
    }
}

/// The key that incoming packets are opened with.
pub(crate) enum OpenKey {
    Gcm(GcmOpen),
    ChaCha(ChaChaOpen),
    Ctr(Ctr),
}

impl OpenKey {
    /// `None` unless key and IV have exactly the cipher's lengths.
    pub(crate) fn new(cipher: Cipher, key: &[u8], iv: &[u8]) -> Option<Self> {
        if key.len() != key_len(cipher) || iv.len() != iv_len(cipher) {
            return None;
        }
        Some(match cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Self::Gcm(GcmOpen(Gcm::new(key, iv)?)),
            Cipher::ChaCha20Poly1305 => Self::ChaCha(ChaChaOpen {
                key: chacha20_poly1305_openssh::OpeningKey::new(key.try_into().ok()?),
                records: Records::default(),
            }),
            Cipher::Aes128Ctr | Cipher::Aes192Ctr | Cipher::Aes256Ctr => {
                Self::Ctr(Ctr::new(key, iv)?)
            }
        })
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenKey(..)")
    }
}

/// AES-GCM, sealing.
pub(crate) struct GcmSeal(Gcm);

impl GcmSeal {
    /// Encrypts `body` in place. `aad` is the packet's length field, which travels in clear:
    /// RFC 5647 section 7.2 makes it the additional authenticated data.
    pub(crate) fn seal(
        &mut self,
        aad: &[u8; 4],
        body: &mut [u8],
    ) -> Result<[u8; TAG], CryptoFault> {
        self.0.seal(aad, body)
    }
}

/// AES-GCM, opening.
pub(crate) struct GcmOpen(Gcm);

impl GcmOpen {
    /// Decrypts `body` in place. After a fault its contents are unspecified, and the key is of no
    /// further use.
    pub(crate) fn open(
        &mut self,
        aad: &[u8; 4],
        body: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), CryptoFault> {
        self.0.open(aad, body, tag)
    }
}

/// RFC 5647 section 7.1: the 12 bytes of the IV are "a 4-octet fixed field and an 8-octet invocation
/// counter field", and the counter goes up by one with each packet, whatever the sequence number does.
struct Gcm {
    key: LessSafeKey,
    fixed: [u8; 4],
    /// It starts anywhere and wraps.
    counter: u64,
    records: Records,
}

impl Gcm {
    fn new(key: &[u8], iv: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            _ => &AES_256_GCM,
        };
        let (fixed, counter) = iv.split_first_chunk()?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?),
            fixed: *fixed,
            counter: u64::from_be_bytes(counter.try_into().ok()?),
            records: Records::default(),
        })
    }

    fn nonce(&mut self) -> Result<Nonce, CryptoFault> {
        self.records.count()?;
        let [f0, f1, f2, f3] = self.fixed;
        let [c0, c1, c2, c3, c4, c5, c6, c7] = self.counter.to_be_bytes();
        self.counter = self.counter.wrapping_add(1);
        Ok(Nonce::assume_unique_for_key([
            f0, f1, f2, f3, c0, c1, c2, c3, c4, c5, c6, c7,
        ]))
    }

    fn seal(&mut self, aad: &[u8], body: &mut [u8]) -> Result<[u8; TAG], CryptoFault> {
        let nonce = self.nonce()?;
        if NULL {
            return Ok([0; TAG]);
        }
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), body)?;
        tag.as_ref().try_into().map_err(|_| CryptoFault)
    }

    fn open(&mut self, aad: &[u8], body: &mut [u8], tag: &[u8; TAG]) -> Result<(), CryptoFault> {
        let nonce = self.nonce()?;
        if NULL {
            return Ok(());
        }
        self.key
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag, body)?;
        Ok(())
    }
}

/// ChaCha20-Poly1305 as OpenSSH has it, sealing.
pub(crate) struct ChaChaSeal {
    key: chacha20_poly1305_openssh::SealingKey,
    records: Records,
}

impl ChaChaSeal {
    /// Encrypts a packet in place: 4 bytes of length under one key, the rest under the other.
    ///
    /// The sequence number is the nonce: it must be another one for each packet of a key.
    pub(crate) fn seal(
        &mut self,
        sequence: u32,
        packet: &mut [u8],
    ) -> Result<[u8; TAG], CryptoFault> {
        if packet.len() < chacha20_poly1305_openssh::PACKET_LENGTH_LEN {
            return Err(CryptoFault);
        }
        self.records.count()?;
        let mut tag = [0; TAG];
        if NULL {
            return Ok(tag);
        }
        self.key.seal_in_place(sequence, packet, &mut tag);
        Ok(tag)
    }
}

/// ChaCha20-Poly1305 as OpenSSH has it, opening.
pub(crate) struct ChaChaOpen {
    key: chacha20_poly1305_openssh::OpeningKey,
    records: Records,
}

impl ChaChaOpen {
    /// Decrypts the length field. Nothing vouches for it before [`open`](Self::open) has succeeded.
    pub(crate) fn length(&self, sequence: u32, length: [u8; 4]) -> [u8; 4] {
        if NULL {
            return length;
        }
        self.key.decrypt_packet_length(sequence, length)
    }

    /// Verifies a packet (the encrypted length and all behind it), then decrypts in place what is
    /// behind the length, which itself stays encrypted. After a fault the key is of no further use.
    pub(crate) fn open(
        &mut self,
        sequence: u32,
        packet: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), CryptoFault> {
        if packet.len() < chacha20_poly1305_openssh::PACKET_LENGTH_LEN {
            return Err(CryptoFault);
        }
        self.records.count()?;
        if NULL {
            return Ok(());
        }
        self.key.open_in_place(sequence, packet, tag)?;
        Ok(())
    }
}

/// AES in counter mode (RFC 4344 section 4), which opens and seals alike. It authenticates nothing.
pub(crate) struct Ctr {
    /// On the heap: two key schedules are half a KiB, which other ciphers need not carry.
    key: Box<EncryptingKey>,
    /// RFC 4344 section 4: an unsigned number in network byte order that starts as the IV.
    /// The library's streaming form would keep it, but cannot be shared between threads.
    counter: u128,
}

const BLOCK: usize = 16;

impl Ctr {
    fn new(key: &[u8], iv: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128,
            24 => &AES_192,
            _ => &AES_256,
        };
        let key = UnboundCipherKey::new(algorithm, key).ok()?;
        Some(Self {
            key: Box::new(EncryptingKey::ctr(key).ok()?),
            counter: u128::from_be_bytes(iv.try_into().ok()?),
        })
    }

    /// Encrypts or decrypts whole blocks in place, going on where the last call stopped.
    /// A fault, which leaves everything as it was, if `data` is not a multiple of 16 bytes.
    pub(crate) fn apply(&mut self, data: &mut [u8]) -> Result<(), CryptoFault> {
        let (blocks, partial) = data.as_chunks::<BLOCK>();
        if !partial.is_empty() {
            return Err(CryptoFault);
        }
        if NULL {
            return Ok(());
        }
        let blocks = u128::try_from(blocks.len()).map_err(|_| CryptoFault)?;
        let iv = self.counter.to_be_bytes();
        self.key
            .less_safe_encrypt(data, EncryptionContext::Iv128(iv.into()))?;
        // RFC 4344 section 4: it goes up by one per block, modulo 2^128.
        self.counter = self.counter.wrapping_add(blocks);
        Ok(())
    }
}

/// Counts the packets of one AEAD key, and stops at 2^32.
///
/// The transport renews keys long before. Should it fail to, this is what keeps a nonce from being used
/// twice: neither the 32-bit sequence number nor the 64-bit invocation counter has gone around by then.
#[derive(Default)]
struct Records(u64);

impl Records {
    fn count(&mut self) -> Result<(), CryptoFault> {
        if self.0 >= AEAD_RECORDS {
            return Err(CryptoFault);
        }
        self.0 = self.0.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod known_answers;
#[cfg(test)]
mod tests;
