//! Packets that no sealer makes, each with the right MAC or tag: the lengths and paddings that a peer who holds the keys
//! may say (RFC 4253 section 6).

use super::*;
use crate::crypto::cipher::SealKey;
use crate::packet::keys::Layout;
use crate::packet::sealer::layout;

/// A peer who holds the keys, at its first packet.
struct Forger {
    protection: Option<(Cipher, Mac)>,
    layout: Layout,
}

impl Forger {
    fn all() -> impl Iterator<Item = Self> {
        protections().into_iter().map(|protection| Self {
            protection,
            layout: match protection {
                None => Layout::PLAIN,
                Some((cipher, mac)) => layout(&keys(cipher, mac)),
            },
        })
    }

    /// Encrypts `packet`, which says any length and is of any length, and puts a right MAC behind it.
    fn seal(&self, mut packet: Vec<u8>) -> Vec<u8> {
        let Some((cipher, mac)) = self.protection else {
            return packet;
        };
        let keys = keys(cipher, mac);
        let mac = keys
            .mac
            .map(|mac| (MacKey::new(mac, keys.mac_key.expose()).unwrap(), mac));
        match SealKey::new(cipher, keys.key.expose(), keys.iv.expose()).unwrap() {
            SealKey::Gcm(mut key) => {
                let (length, body) = packet.split_first_chunk_mut::<4>().unwrap();
                let tag = key.seal(length, body).unwrap();
                packet.extend(tag);
            }
            SealKey::ChaCha(mut key) => {
                let tag = key.seal(0, &mut packet).unwrap();
                packet.extend(tag);
            }
            SealKey::Ctr(mut key) => {
                let (mac, kind) = mac.unwrap();
                let start = if kind.is_etm() { 4 } else { 0 };
                let mut tag = mac.sign(0, &packet);
                let len = packet.len();
                // A stream has no blocks: what is short of one is encrypted all the same.
                packet.resize(start + (len - start).next_multiple_of(16), 0);
                key.apply(&mut packet[start..]).unwrap();
                packet.truncate(len);
                if kind.is_etm() {
                    tag = mac.sign(0, &packet);
                }
                packet.extend_from_slice(tag.as_ref());
            }
        }
        packet
    }

    fn opener(&self) -> Opener {
        pair(self.protection).1
    }

    /// The rule: what is counted is a multiple of the block and no less than the least packet.
    const fn allows(&self, length: usize) -> bool {
        let Layout {
            block,
            length_apart,
            ..
        } = self.layout;
        if length_apart {
            length >= block && length.is_multiple_of(block)
        } else {
            length + 4 >= 16 && (length + 4).is_multiple_of(block)
        }
    }
}

fn packet(length: usize, padding: u8) -> Vec<u8> {
    let mut packet = (length as u32).to_be_bytes().to_vec();
    packet.resize(4 + length, 7);
    if let Some(field) = packet.get_mut(4) {
        *field = padding;
    }
    packet
}

#[test]
fn no_length_and_no_padding_under_a_right_mac_is_taken_but_those_of_the_rfc() {
    for forger in Forger::all() {
        let mut taken = 0;
        for length in 0..64_usize {
            for padding in 0..=255_u8 {
                let what = format!("{:?}: {length} {padding}", forger.protection);
                let legal =
                    forger.allows(length) && padding >= 4 && usize::from(padding) + 1 < length;
                let mut wire = forger.seal(packet(length, padding));
                let whole = wire.len();
                // More is there than the packet says: nothing waits for anything.
                wire.resize(256, 0);
                match forger.opener().open(&mut wire, MAX) {
                    Ok(Opened::Packet { payload, len }) => {
                        assert!(legal, "{what}");
                        assert_eq!(len, whole, "{what}");
                        let payload = &wire[payload];
                        assert_eq!(payload.len(), length - usize::from(padding) - 1, "{what}");
                        assert!(payload.iter().all(|byte| *byte == 7), "{what}");
                        taken += 1;
                    }
                    Ok(Opened::NeedMore(_)) => panic!("{what}: it waits"),
                    Err(error) => {
                        assert!(!legal, "{what}");
                        assert_eq!(error, PeerError::PacketLength(length as u32), "{what}");
                    }
                }
            }
        }
        assert!(taken > 0, "{:?}", forger.protection);
    }
}

#[test]
fn the_shortest_packet_of_each_protection_is_taken() {
    for forger in Forger::all() {
        let length = (0..64).find(|&length| forger.allows(length)).unwrap();
        // All padding but for one byte of payload, where four bytes of padding and one of payload fit.
        let padding = u8::try_from(length - 2).unwrap();
        let mut wire = forger.seal(packet(length, padding));
        let Ok(Opened::Packet { payload, .. }) = forger.opener().open(&mut wire, MAX) else {
            panic!("{:?}", forger.protection);
        };
        assert_eq!(&wire[payload], [7]);
    }
}

#[test]
fn a_length_under_keys_is_bounded_before_anything_is_waited_for() {
    let edge = 256 * 1024_usize;
    for forger in Forger::all() {
        let lengths = (0..=16)
            .chain(edge - 40..=edge + 40)
            .chain([1 << 31, u32::MAX as usize]);
        for length in lengths {
            let what = format!("{:?}: {length}", forger.protection);
            // The first block, and nothing of the rest.
            let mut start = (length as u32).to_be_bytes().to_vec();
            start.resize(16, 4);
            let mut wire = forger.seal(start);
            wire.truncate(16);
            let expected = if forger.allows(length) && length <= edge {
                Ok(Opened::NeedMore(4 + length + forger.layout.tag))
            } else {
                Err(PeerError::PacketLength(length as u32))
            };
            // In clear a packet of no more than 16 bytes is there already.
            if forger.protection.is_none() && length <= 12 {
                continue;
            }
            assert_eq!(forger.opener().open(&mut wire, edge), expected, "{what}");
        }
    }
}
