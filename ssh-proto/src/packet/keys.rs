//! The keys of one direction, as derived from an exchange (RFC 4253 section 7.2).

use crate::names::{Cipher, Mac};
use crate::secret::Secret;

/// What a [`Sealer`](super::sealer::Sealer) or an [`Opener`](super::opener::Opener) is made of.
#[derive(Debug)]
pub(crate) struct DirectionKeys {
    pub(crate) cipher: Cipher,
    /// `None` for ciphers that authenticate by themselves.
    pub(crate) mac: Option<Mac>,
    pub(crate) iv: Secret,
    pub(crate) key: Secret,
    pub(crate) mac_key: Secret,
}

/// How packets of one direction are laid out: what the length counts, and to what it is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Padding makes the counted bytes a multiple of this.
    pub(crate) block: usize,
    /// The length field itself is not counted: it travels outside the encrypted part.
    pub(crate) length_apart: bool,
    /// Bytes behind the packet: tag or MAC.
    pub(crate) tag: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self::PLAIN
    }
}

impl Layout {
    /// Before the first keys (RFC 4253 section 6: "multiple of the cipher block size or 8, whichever is larger").
    pub(crate) const PLAIN: Self = Self {
        block: 8,
        length_apart: false,
        tag: 0,
    };

    /// The padding of a payload. RFC 4253 section 6: "There MUST be at least four bytes of padding."
    pub(crate) const fn padding(self, payload: usize) -> usize {
        // `padding_length`, and `packet_length` where it counts.
        let fields = if self.length_apart { 1 } else { 5 };
        let counted = payload.saturating_add(fields).saturating_add(4);
        match counted.checked_rem(self.block) {
            None | Some(0) => 4,
            Some(short) => 4_usize.saturating_add(self.block).saturating_sub(short),
        }
    }

    /// How long the packet of a payload is, tag or MAC included.
    pub(crate) const fn packet_len(self, payload: usize) -> usize {
        payload
            .saturating_add(5)
            .saturating_add(self.padding(payload))
            .saturating_add(self.tag)
    }
}
