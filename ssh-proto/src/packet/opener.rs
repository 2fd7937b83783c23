//! Opening packets: length, MAC first, decryption in place, padding (RFC 4253 section 6).

use std::ops::Range;

use crate::crypto::cipher::OpenKey;
use crate::crypto::mac::MacKey;
use crate::error::{Error, PeerError};

use super::keys::{DirectionKeys, Layout};
use super::sealer::{Traffic, layout};

const LENGTH_LEN: usize = 4;

/// Turns packets into payloads with the keys of one direction.
#[derive(Debug)]
pub(crate) struct Opener {
    keys: Option<OpenKey>,
    mac: Option<(MacKey, bool)>,
    layout: Layout,
    sequence: u32,
    traffic: Traffic,
    /// The `packet_length` of the packet whose first bytes are there already. In the modes that encrypt the length with
    /// the packet, its first block is plaintext by then.
    length: Option<u32>,
}

/// What one look at the bytes gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The packet is not complete; it has so many bytes in all, as far as is known.
    NeedMore(usize),
    /// The payload lies at `payload`; the packet took `len` bytes.
    Packet { payload: Range<usize>, len: usize },
}

impl Opener {
    /// Packets in clear, as they are before the first NEWKEYS.
    pub(crate) fn plain() -> Self {
        Self {
            keys: None,
            mac: None,
            layout: Layout::PLAIN,
            sequence: 0,
            traffic: Traffic::default(),
            length: None,
        }
    }

    /// An opener with new keys; [`follow`](Self::follow) says from which packet on.
    pub(crate) fn new(keys: &DirectionKeys) -> Result<Self, Error> {
        const BUG: Error = Error::Bug("derived keys of a wrong length");
        let open = OpenKey::new(keys.cipher, keys.key.expose(), keys.iv.expose()).ok_or(BUG)?;
        let mac = match keys.mac {
            Some(mac) => Some((
                MacKey::new(mac, keys.mac_key.expose()).ok_or(BUG)?,
                mac.is_etm(),
            )),
            None => None,
        };
        let layout = layout(keys);
        Ok(Self {
            keys: Some(open),
            mac,
            layout,
            sequence: 0,
            traffic: Traffic::default(),
            length: None,
        })
    }

    /// Takes the place of `previous`. Strict key exchange counts from 0 again.
    pub(crate) const fn follow(mut self, previous: &Self, strict: bool) -> Self {
        self.sequence = if strict { 0 } else { previous.sequence };
        self
    }

    /// The same at a later packet.
    #[cfg(test)]
    pub(crate) const fn at(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }

    /// The key, to be tampered with.
    #[cfg(test)]
    pub(crate) const fn key_mut(&mut self) -> Option<&mut OpenKey> {
        self.keys.as_mut()
    }

    /// The sequence number of the next packet.
    pub(crate) const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// What was opened with these keys.
    pub(crate) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Opens the packet at the start of `bytes`. `max` bounds its `packet_length`.
    pub(crate) fn open(&mut self, bytes: &mut [u8], max: usize) -> Result<Opened, PeerError> {
        let Some(length) = self.read_length(bytes)? else {
            return Ok(Opened::NeedMore(self.layout.block));
        };
        let Layout {
            block,
            length_apart,
            tag,
        } = self.layout;
        let bad_length = PeerError::PacketLength(length);
        let packet_length = usize::try_from(length).map_err(|_| bad_length)?;
        let end = packet_length.checked_add(LENGTH_LEN).ok_or(bad_length)?;
        let counted = if length_apart { packet_length } else { end };
        // RFC 4253 section 6: the length is a multiple of the block, and 16 bytes is the least that a packet has. The
        // forms that keep the length apart do not count it: there one block is the least.
        let least = if length_apart { block } else { 16 };
        if packet_length > max || counted < least || counted.checked_rem(block) != Some(0) {
            return Err(bad_length);
        }
        let len = end.checked_add(tag).ok_or(bad_length)?;
        let Some(whole) = bytes.get_mut(..len) else {
            return Ok(Opened::NeedMore(len));
        };
        crate::steps::count_bytes(len);
        let (packet, tag) = whole.split_at_mut_checked(end).ok_or(bad_length)?;
        self.unprotect(packet, tag)?;
        self.length = None;
        self.traffic.count(len);
        self.sequence = match self.sequence.checked_add(1) {
            // Only strict key exchange and its attackers ever come near this.
            None if self.keys.is_none() => return Err(PeerError::SequenceOverflow),
            next => next.unwrap_or_default(),
        };
        let padding = usize::from(packet.get(LENGTH_LEN).copied().unwrap_or_default());
        // RFC 4253 section 6: at least four bytes of padding; and a payload without a message number is none.
        let start = LENGTH_LEN.saturating_add(1);
        match end.checked_sub(padding) {
            Some(payload_end) if padding >= 4 && payload_end > start => Ok(Opened::Packet {
                payload: start..payload_end,
                len,
            }),
            _ => Err(bad_length),
        }
    }

    fn read_length(&mut self, bytes: &mut [u8]) -> Result<Option<u32>, PeerError> {
        if self.length.is_some() {
            return Ok(self.length);
        }
        let Some(&field) = bytes.first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let length = match &mut self.keys {
            Some(OpenKey::ChaCha(key)) => key.length(self.sequence, field),
            Some(OpenKey::Ctr(key)) if !self.layout.length_apart => {
                let Some(first) = bytes.get_mut(..self.layout.block) else {
                    return Ok(None);
                };
                key.apply(first).map_err(|_| PeerError::MacIncorrect)?;
                first.first_chunk().copied().unwrap_or_default()
            }
            _ => field,
        };
        self.length = Some(u32::from_be_bytes(length));
        Ok(self.length)
    }

    fn unprotect(&mut self, packet: &mut [u8], tag: &[u8]) -> Result<(), PeerError> {
        const WRONG: PeerError = PeerError::MacIncorrect;
        let sequence = self.sequence;
        match (&mut self.keys, &self.mac) {
            (None, _) => Ok(()),
            (Some(OpenKey::Gcm(key)), _) => {
                let (length, body) = packet.split_first_chunk_mut::<LENGTH_LEN>().ok_or(WRONG)?;
                key.open(length, body, tag.try_into().map_err(|_| WRONG)?)
                    .map_err(|_| WRONG)
            }
            (Some(OpenKey::ChaCha(key)), _) => key
                .open(sequence, packet, tag.try_into().map_err(|_| WRONG)?)
                .map_err(|_| WRONG),
            (Some(OpenKey::Ctr(key)), Some((mac, true))) => {
                if !mac.verify(sequence, packet, tag) {
                    return Err(WRONG);
                }
                key.apply(packet.get_mut(LENGTH_LEN..).ok_or(WRONG)?)
                    .map_err(|_| WRONG)
            }
            (Some(OpenKey::Ctr(key)), Some((mac, false))) => {
                key.apply(packet.get_mut(self.layout.block..).ok_or(WRONG)?)
                    .map_err(|_| WRONG)?;
                if mac.verify(sequence, packet, tag) {
                    Ok(())
                } else {
                    Err(WRONG)
                }
            }
            (Some(OpenKey::Ctr(_)), None) => Err(WRONG),
        }
    }
}
