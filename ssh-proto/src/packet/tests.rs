mod framing;

use proptest::prelude::*;

use super::draft::Draft;
use super::input::Input;
use super::keys::{DirectionKeys, Layout};
use super::opener::{Opened, Opener};
use super::output::Output;
use super::sealer::{HEADER_LEN, Sealer};
use crate::channel::Stream;
use crate::channel::recv::counter::copied;
use crate::crypto::cipher;
use crate::crypto::drbg::{Drbg, Seed};
use crate::crypto::mac::MacKey;
use crate::error::PeerError;
use crate::limits::PACKET_DATA_LEN;
use crate::names::{Algorithm, Cipher, Mac};
use crate::secret::Secret;

const MAX: usize = 35_000;

fn rng() -> Drbg {
    Drbg::new(Seed::new([3; 32]))
}

fn keys(cipher: Cipher, mac: Mac) -> DirectionKeys {
    let mac = (!cipher.is_aead()).then_some(mac);
    DirectionKeys {
        cipher,
        mac,
        iv: Secret::new(vec![1; cipher::iv_len(cipher)]),
        key: Secret::new(vec![2; cipher::key_len(cipher)]),
        mac_key: Secret::new(vec![3; mac.map_or(0, MacKey::key_len)]),
    }
}

/// Every protection that packets can have: in clear, and each cipher with each MAC it takes.
fn protections() -> Vec<Option<(Cipher, Mac)>> {
    let mut all = vec![None];
    for &cipher in Cipher::ALL {
        for &mac in Mac::ALL {
            if !cipher.is_aead() || mac == Mac::HmacSha256 {
                all.push(Some((cipher, mac)));
            }
        }
    }
    all
}

fn pair(protection: Option<(Cipher, Mac)>) -> (Sealer, Opener) {
    match protection {
        None => (Sealer::plain(), Opener::plain()),
        Some((cipher, mac)) => {
            let keys = keys(cipher, mac);
            (Sealer::new(&keys, 0).unwrap(), Opener::new(&keys).unwrap())
        }
    }
}

fn seal(sealer: &mut Sealer, payload: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; HEADER_LEN];
    buf.extend_from_slice(payload);
    sealer.seal(&mut buf, 0, &mut rng()).unwrap();
    buf
}

#[test]
fn four_packets_of_32_kib_fill_a_buffer_whatever_protects_them() {
    for protection in protections() {
        // CHANNEL_DATA: number, channel, length, data.
        let packet = seal(&mut pair(protection).0, &[94; 1 + 4 + 4 + 32 * 1024]);
        let left = Input::DEFAULT_CAPACITY - 4 * packet.len();
        assert!(left < 512, "{protection:?}: {left} bytes are left");
    }
}

#[test]
fn a_large_buffer_starts_with_a_page_and_has_the_room_that_was_asked_for() {
    for capacity in [64 * 1024, 100_000, Input::DEFAULT_CAPACITY] {
        let mut inputs = [(); 8].map(|()| Input::with_capacity(capacity));
        for input in &mut inputs {
            assert_eq!(input.capacity(), capacity);
            let room = input.unfilled();
            assert_eq!(
                (room.len(), room.as_ptr().align_offset(4096)),
                (capacity, 0)
            );
            room.fill(7);
            input.advance(capacity);
            assert_eq!(input.filled(), vec![7; capacity]);
            assert!(input.unfilled().is_empty());
        }
    }
    // With 64 KiB it is large: below that the memory is what was asked for, wherever it lies.
    for capacity in [0, 1, 10, 64 * 1024 - 1] {
        assert_eq!(Input::with_capacity(capacity).unfilled().len(), capacity);
        let memory = Input::with_capacity(capacity).into_empty_vec().capacity();
        assert_eq!(memory, capacity);
    }
    assert!(Input::with_capacity(64 * 1024).into_empty_vec().capacity() >= 68 * 1024);
}

#[test]
fn a_packet_is_opened_as_it_was_sealed_whatever_its_length() {
    for protection in protections() {
        let (mut sealer, mut opener) = pair(protection);
        for len in (1..80).chain([32_640, 32_768]) {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut wire = seal(&mut sealer, &payload);
            let whole = wire.len();
            let Ok(Opened::Packet { payload: at, len }) = opener.open(&mut wire, MAX) else {
                panic!("{protection:?} {len}");
            };
            assert_eq!((&wire[at], len), (&payload[..], whole));
        }
        assert_eq!(opener.sequence(), sealer.sequence());
        assert_eq!(opener.traffic(), sealer.traffic());
    }
}

#[test]
fn two_full_data_packets_leave_in_one_segment_of_a_loopback_socket() {
    for protection in protections() {
        let (sealer, _) = pair(protection);
        let mut output = Output::new(rng(), sealer, 0);
        for _ in 0..2 {
            assert_eq!(output.data_room(), PACKET_DATA_LEN, "{protection:?}");
            let data = [7; PACKET_DATA_LEN];
            output.data(0, Stream::DATA, &[&data], 0, data.len());
        }
        assert!(output.pending().len() <= 65_483, "{protection:?}");
        assert_eq!(output.data_room(), 0);
    }
}

#[test]
fn every_proper_prefix_needs_more_and_changes_nothing() {
    for protection in protections() {
        let (mut sealer, mut opener) = pair(protection);
        let wire = seal(&mut sealer, b"\x5eexample");
        // The reader keeps what was looked at, decrypted or not, and appends to it.
        let mut seen: Vec<u8> = Vec::new();
        for &byte in &wire[..wire.len() - 1] {
            seen.push(byte);
            assert!(
                matches!(opener.open(&mut seen, MAX), Ok(Opened::NeedMore(n)) if n <= wire.len())
            );
        }
        seen.push(wire[wire.len() - 1]);
        assert!(
            matches!(opener.open(&mut seen, MAX), Ok(Opened::Packet { .. })),
            "{protection:?}"
        );
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for protection in protections().into_iter().flatten() {
        let (mut sealer, _) = pair(Some(protection));
        let Layout {
            block,
            length_apart,
            tag,
        } = sealer.layout();
        let wire = seal(&mut sealer, b"\x5eexample of a payload");
        let length = (wire.len() - tag - 4) as u32;
        for bit in 0..wire.len() * 8 {
            let what = format!("{protection:?} bit {bit}");
            let (_, mut opener) = pair(Some(protection));
            let mut bad = wire.clone();
            bad[bit / 8] ^= 0x80 >> (bit % 8);
            // All that a longer length could ask for is there: nothing waits.
            bad.resize(wire.len() + MAX, 0);
            // The MAC tells, but where the length is that of no packet: of such a one nobody knows where its MAC is.
            let flipped = length ^ if bit < 32 { 1 << (31 - bit) } else { 0 };
            let counted = flipped as usize + if length_apart { 0 } else { 4 };
            let legal =
                counted >= block && counted.is_multiple_of(block) && flipped as usize <= MAX;
            let expected = if legal {
                PeerError::MacIncorrect
            } else {
                PeerError::PacketLength(flipped)
            };
            assert_eq!(opener.open(&mut bad, MAX), Err(expected), "{what}");
            // Nothing was counted: it was no packet.
            assert_eq!(
                (opener.sequence(), opener.traffic().packets),
                (0, 0),
                "{what}"
            );
        }
    }
}

#[test]
fn a_replayed_or_reordered_packet_is_noticed() {
    for protection in protections().into_iter().flatten() {
        let (mut sealer, mut opener) = pair(Some(protection));
        let first = seal(&mut sealer, b"\x5efirst");
        assert!(opener.open(&mut first.clone(), MAX).is_ok());
        let again = opener.open(&mut first.clone(), MAX);
        assert!(
            matches!(
                again,
                Err(PeerError::MacIncorrect | PeerError::PacketLength(_)) | Ok(Opened::NeedMore(_))
            ),
            "{protection:?}: {again:?}"
        );
    }
}

/// Packets in clear with every small length and every padding: none panics, and the rules of RFC 4253 section 6 hold.
#[test]
fn only_lengths_and_paddings_of_the_rfc_pass() {
    for length in 0..64_usize {
        for padding in 0..=255_usize {
            let mut packet = vec![0; 4 + length];
            packet[..4].copy_from_slice(&(length as u32).to_be_bytes());
            if let Some(field) = packet.get_mut(4) {
                *field = padding as u8;
            }
            let legal =
                length + 4 >= 16 && (length + 4) % 8 == 0 && padding >= 4 && padding + 1 < length;
            match Opener::plain().open(&mut packet, MAX) {
                Ok(Opened::Packet { payload, len }) => {
                    assert!(legal, "{length} {padding}");
                    assert_eq!((payload.len(), len), (length - padding - 1, length + 4));
                }
                Ok(Opened::NeedMore(_)) => panic!("{length} {padding}"),
                Err(error) => {
                    assert!(!legal, "{length} {padding}");
                    assert_eq!(error, PeerError::PacketLength(length as u32));
                }
            }
        }
    }
}

#[test]
fn a_length_is_bounded_before_anything_is_waited_for() {
    for length in [MAX as u32 + 1, 256 * 1024 + 1, 1 << 31, u32::MAX] {
        let mut start = [&length.to_be_bytes()[..], &[0; 28]].concat();
        assert_eq!(
            Opener::plain().open(&mut start, MAX),
            Err(PeerError::PacketLength(length))
        );
    }
}

#[test]
fn sequence_numbers_wrap_under_keys_and_never_before_them() {
    for protection in protections() {
        let (sealer, opener) = pair(protection);
        let (mut sealer, mut opener) = (sealer.at(u32::MAX - 1), opener.at(u32::MAX - 1));
        let mut wire = seal(&mut sealer, b"\x02");
        assert!(opener.open(&mut wire, MAX).is_ok());
        assert_eq!((sealer.sequence(), opener.sequence()), (u32::MAX, u32::MAX));
        let mut wire = vec![0; HEADER_LEN];
        wire.push(2);
        let sealed = sealer.seal(&mut wire, 0, &mut rng());
        let opened = opener.open(&mut wire, MAX);
        if protection.is_none() {
            // Who made them wrap could take packets away unnoticed (strict key exchange).
            assert_eq!(sealed, Err(PeerError::SequenceOverflow.into()));
            assert_eq!(opened, Err(PeerError::SequenceOverflow));
        } else {
            assert!(sealed.is_ok() && opened.is_ok(), "{protection:?}");
            assert_eq!((sealer.sequence(), opener.sequence()), (0, 0));
            let mut wire = seal(&mut sealer, b"\x5emore");
            assert!(opener.open(&mut wire, MAX).is_ok(), "{protection:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_an_opener_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        which in 0..protections().len(),
    ) {
        let (_, mut opener) = pair(protections()[which]);
        let mut bytes = bytes;
        let _ = opener.open(&mut bytes, MAX);
        let _ = opener.open(&mut bytes, MAX);
    }
}

#[test]
fn what_is_read_in_one_piece_is_not_moved_when_it_is_one_packet() {
    for room in [1, PACKET_DATA_LEN] {
        let mut draft = Draft::new();
        draft.lay_out_for(Layout::PLAIN, Stream::DATA, room);
        assert_eq!(draft.whole().as_ptr(), draft.slices()[0].as_ptr());
        let before = copied();
        draft.fill_whole(room);
        assert_eq!(copied(), before);
    }
}

#[test]
fn a_buffer_knows_which_state_it_was_lent_for_until_it_is_cleared() {
    let mut input = Input::with_capacity(16);
    assert_eq!(input.edition(), 0, "of no state");
    input.lend(b"start", 7);
    assert_eq!((input.edition(), input.held()), (7, 5));
    let shown = format!("{input:?}");
    assert!(
        shown.contains("filled: 5") && !shown.contains("116"),
        "{shown}"
    );
    input.clear();
    assert_eq!((input.edition(), input.held()), (0, 0));
}

#[test]
fn only_a_buffer_that_was_gathered_of_pieces_is_one_that_nobody_reads_into() {
    assert!(Input::of_pieces(vec![1, 2]).is_of_pieces());
    assert!(!Input::from(vec![1, 2]).is_of_pieces());
    assert!(!Input::with_capacity(2).is_of_pieces());
}
