//! Packets as a peer would send them, were ciphers the identity and tags all zero: what `--cfg fuzzing` makes of them.

use ssh_proto::names::{Cipher, Mac};

/// How the packets of one direction look.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    block: usize,
    length_apart: bool,
    tag: usize,
}

impl Frame {
    /// Before the first keys.
    pub const PLAIN: Self = Self {
        block: 8,
        length_apart: false,
        tag: 0,
    };

    /// With these algorithms.
    pub fn new(cipher: Cipher, mac: Mac) -> Self {
        let tag = match mac {
            Mac::HmacSha256 | Mac::HmacSha256Etm => 32,
            _ => 64,
        };
        match cipher {
            Cipher::ChaCha20Poly1305 => Self {
                block: 8,
                length_apart: true,
                tag: 16,
            },
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Self {
                block: 16,
                length_apart: true,
                tag: 16,
            },
            _ => Self {
                block: 16,
                length_apart: matches!(mac, Mac::HmacSha256Etm | Mac::HmacSha512Etm),
                tag,
            },
        }
    }

    /// The packet of a payload.
    pub fn packet(self, payload: &[u8]) -> Vec<u8> {
        let fields = if self.length_apart { 1 } else { 5 };
        let padding = self.block - (fields + payload.len() + 4) % self.block + 4;
        let padding = if padding == self.block + 4 {
            4
        } else {
            padding
        };
        let len = 1 + payload.len() + padding;
        let mut packet = Vec::with_capacity(4 + len + self.tag);
        packet.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        packet.push(u8::try_from(padding).unwrap_or(u8::MAX));
        packet.extend_from_slice(payload);
        packet.resize(4 + len + self.tag, 0);
        packet
    }
}
