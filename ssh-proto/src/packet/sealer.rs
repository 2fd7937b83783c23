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

    /// The same at a later packet.
    #[cfg(test)]
    pub(crate) const fn at(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }

    /// The key, to be tampered with.
    #[cfg(test)]
    pub(crate) const fn key_mut(&mut self) -> Option<&mut SealKey> {
        self.keys.as_mut()
    }

    /// The sequence number of the next packet.
    pub(crate) const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// What was sealed with these keys.
    pub(crate) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// How packets are laid out under these keys.
    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Seals what lies behind `start` in `buf`: [`HEADER_LEN`] bytes of room, then the payload.
    pub(crate) fn seal(
        &mut self,
        buf: &mut Vec<u8>,
        start: usize,
        rng: &mut Drbg,
    ) -> Result<(), Error> {
        let payload = buf.len().saturating_sub(start).saturating_sub(HEADER_LEN);
        buf.resize(start.saturating_add(self.layout.packet_len(payload)), 0);
        self.seal_in(buf.get_mut(start..).unwrap_or_default(), payload, rng)
    }

    /// Seals a payload of `payload` bytes where it lies: behind [`HEADER_LEN`] bytes of room in `packet`, which is as
    /// long as the packet will be.
    pub(crate) fn seal_in(
        &mut self,
        packet: &mut [u8],
        payload: usize,
        rng: &mut Drbg,
    ) -> Result<(), Error> {
        const BUG: Error = Error::Bug("a packet could not be sealed");
        let total = packet.len();
        let body = payload.saturating_add(1);
        let padding = self.layout.padding(payload);
        let end = body.saturating_add(LENGTH_LEN);
        rng.fill(
            packet
                .get_mut(end..end.saturating_add(padding))
                .ok_or(BUG)?,
        );
        let len = u32::try_from(body.saturating_add(padding)).map_err(|_| BUG)?;
        let (length, rest) = packet.split_first_chunk_mut().ok_or(BUG)?;
        *length = len.to_be_bytes();
        *rest.first_mut().ok_or(BUG)? = u8::try_from(padding).map_err(|_| BUG)?;
        self.protect(packet, len.to_be_bytes())
            .map_err(|CryptoFault| BUG)?;
        self.traffic.count(total);
        // Before the first keys the counter must not run over: strict key exchange would be fooled by it.
        self.sequence = match self.sequence.checked_add(1) {
            None if self.keys.is_none() => return Err(PeerError::SequenceOverflow.into()),
            next => next.unwrap_or_default(),
        };
        Ok(())
    }

    fn protect(&mut self, packet: &mut [u8], len: [u8; LENGTH_LEN]) -> Result<(), CryptoFault> {
        let end = packet
            .len()
            .checked_sub(self.layout.tag)
            .ok_or(CryptoFault)?;
        let (packet, room) = packet.split_at_mut_checked(end).ok_or(CryptoFault)?;
        match (&mut self.keys, &self.mac) {
            (None, _) => {}
            (Some(SealKey::Gcm(key)), _) => {
                let tag = key.seal(&len, packet.get_mut(LENGTH_LEN..).ok_or(CryptoFault)?)?;
                put(room, &tag)?;
            }
            (Some(SealKey::ChaCha(key)), _) => {
                let tag = key.seal(self.sequence, packet)?;
                put(room, &tag)?;
            }
            (Some(SealKey::Ctr(key)), Some((mac, true))) => {
                key.apply(packet.get_mut(LENGTH_LEN..).ok_or(CryptoFault)?)?;
                put(room, mac.sign(self.sequence, packet).as_ref())?;
            }
            (Some(SealKey::Ctr(key)), Some((mac, false))) => {
                // RFC 4253 section 6.4: the MAC is "computed from [..] the unencrypted packet".
                put(room, mac.sign(self.sequence, packet).as_ref())?;
                key.apply(packet)?;
            }
            (Some(SealKey::Ctr(_)), None) => return Err(CryptoFault),
        }
        Ok(())
    }
}

/// Writes a tag or MAC into the room that the layout left for it.
fn put(room: &mut [u8], tag: &[u8]) -> Result<(), CryptoFault> {
    if room.len() != tag.len() {
        return Err(CryptoFault);
    }
    room.copy_from_slice(tag);
    Ok(())
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
