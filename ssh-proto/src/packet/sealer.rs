//! Sealing packets: header, padding, encryption, MAC, in place at the tail of the output (RFC 4253 section 6).

use crate::crypto::CryptoFault;
use crate::crypto::cipher::{self, SealKey};
use crate::crypto::drbg::Drbg;
use crate::crypto::mac::MacKey;
use crate::error::{Error, PeerError};

use super::keys::{DirectionKeys, Layout};

/// `packet_length` and `padding_length`.
pub(crate) const HEADER_LEN: usize = 5;
const LENGTH_LEN: usize = 4;

/// Turns payloads into packets with the keys of one direction.
#[derive(Debug)]
pub(crate) struct Sealer {
    keys: Option<SealKey>,
    mac: Option<(MacKey, bool)>,
    layout: Layout,
    sequence: u32,
    /// Since these keys are in force.
    traffic: Traffic,
}

/// What went through one set of keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

impl Traffic {
    pub(crate) fn count(&mut self, len: usize) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        self.packets = self.packets.saturating_add(1);
    }
}

impl Sealer {
    /// Packets in clear, as they are before the first NEWKEYS.
    pub(crate) fn plain() -> Self {
        Self {
            keys: None,
            mac: None,
            layout: Layout::PLAIN,
            sequence: 0,
            traffic: Traffic::default(),
        }
    }

    /// A sealer with new keys that counts packets from `sequence` on.
    pub(crate) fn new(keys: &DirectionKeys, sequence: u32) -> Result<Self, Error> {
        const BUG: Error = Error::Bug("derived keys of a wrong length");
        let seal = SealKey::new(keys.cipher, keys.key.expose(), keys.iv.expose()).ok_or(BUG)?;
        let mac = match keys.mac {
            Some(mac) => Some((
                MacKey::new(mac, keys.mac_key.expose()).ok_or(BUG)?,
                mac.is_etm(),
            )),
            None => None,
        };
        let layout = layout(keys);
        Ok(Self {
            keys: Some(seal),
            mac,
            layout,
            sequence,
            traffic: Traffic::default(),
        })
    }

    /// The most that a packet adds to its payload: header, padding, tag or MAC.
    pub(crate) const fn max_overhead(&self) -> usize {
        HEADER_LEN
            .saturating_add(3)
            .saturating_add(self.layout.block)
            .saturating_add(self.layout.tag)
    }

    /// The sequence number of the next packet.
    pub(crate) const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// What was sealed with these keys.
    pub(crate) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Seals what lies behind `start` in `buf`: [`HEADER_LEN`] bytes of room, then the payload.
    pub(crate) fn seal(
        &mut self,
        buf: &mut Vec<u8>,
        start: usize,
        rng: &mut Drbg,
    ) -> Result<(), Error> {
        let Layout {
            block,
            length_apart,
            ..
        } = self.layout;
        let body = buf.len().saturating_sub(start).saturating_sub(LENGTH_LEN);
        let counted = if length_apart {
            body
        } else {
            body.saturating_add(LENGTH_LEN)
        };
        // RFC 4253 section 6: "There MUST be at least four bytes of padding."
        let short = counted
            .saturating_add(4)
            .checked_rem(block)
            .unwrap_or_default();
        let padding = if short == 0 {
            4
        } else {
            4_usize.saturating_add(block).saturating_sub(short)
        };
        let end = buf.len();
        buf.resize(end.saturating_add(padding), 0);
        rng.fill(buf.get_mut(end..).unwrap_or_default());
        let packet = buf.get_mut(start..).unwrap_or_default();
        let len = u32::try_from(body.saturating_add(padding))
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        if let (Some((length, rest)), Ok(padding)) =
            (packet.split_first_chunk_mut(), u8::try_from(padding))
        {
            *length = len;
            if let Some(field) = rest.first_mut() {
                *field = padding;
            }
        }
        self.protect(buf, start, len)
            .map_err(|CryptoFault| Error::Bug("a packet could not be sealed"))?;
        self.traffic.count(buf.len().saturating_sub(start));
        // Before the first keys the counter must not run over: strict key exchange would be fooled by it.
        self.sequence = match self.sequence.checked_add(1) {
            None if self.keys.is_none() => return Err(PeerError::SequenceOverflow.into()),
            next => next.unwrap_or_default(),
        };
        Ok(())
    }

    fn protect(
        &mut self,
        buf: &mut Vec<u8>,
        start: usize,
        len: [u8; LENGTH_LEN],
    ) -> Result<(), CryptoFault> {
        let packet = buf.get_mut(start..).ok_or(CryptoFault)?;
        match (&mut self.keys, &self.mac) {
            (None, _) => {}
            (Some(SealKey::Gcm(key)), _) => {
                let tag = key.seal(&len, packet.get_mut(LENGTH_LEN..).ok_or(CryptoFault)?)?;
                buf.extend_from_slice(&tag);
            }
            (Some(SealKey::ChaCha(key)), _) => {
                let tag = key.seal(self.sequence, packet)?;
                buf.extend_from_slice(&tag);
            }
            (Some(SealKey::Ctr(key)), Some((mac, true))) => {
                key.apply(packet.get_mut(LENGTH_LEN..).ok_or(CryptoFault)?)?;
                let tag = mac.sign(self.sequence, packet);
                buf.extend_from_slice(tag.as_ref());
            }
            (Some(SealKey::Ctr(key)), Some((mac, false))) => {
                // RFC 4253 section 6.4: the MAC is "computed from [..] the unencrypted packet".
                let tag = mac.sign(self.sequence, packet);
                key.apply(packet)?;
                buf.extend_from_slice(tag.as_ref());
            }
            (Some(SealKey::Ctr(_)), None) => return Err(CryptoFault),
        }
        Ok(())
    }
}

/// The layout that cipher and MAC make.
pub(crate) fn layout(keys: &DirectionKeys) -> Layout {
    Layout {
        block: cipher::block_len(keys.cipher),
        length_apart: keys.mac.is_none_or(|mac| mac.is_etm()),
        tag: keys
            .mac
            .map_or_else(|| cipher::tag_len(keys.cipher), MacKey::len),
    }
}

impl Default for Sealer {
    fn default() -> Self {
        Self::plain()
    }
}
