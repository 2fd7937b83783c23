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

impl Layout {
    /// Before the first keys (RFC 4253 section 6: "multiple of the cipher block size or 8, whichever is larger").
    pub(crate) const PLAIN: Self = Self {
        block: 8,
        length_apart: false,
        tag: 0,
    };
}
