use proptest::prelude::*;

use super::*;
use crate::wire::{Malformed, Writer};

/// The offset of the private section inside the file's bytes: behind the header of 39 bytes, the public key
/// and the two lengths.
fn section_at(fixture: &Fixture) -> usize {
    39 + 4 + fixture.public_key().blob().len() + 4
}

#[test]
fn every_cut_file_names_the_field_that_it_ends_in() {
    for fixture in &FIXTURES {
        let bytes = inside(fixture.file);
        for len in 0..bytes.len() {
            let result = PrivateKey::from_openssh(armored(&bytes[..len]), None);
            let expected = match len {
                0..15 => "magic",
                15..23 => "ciphername",
                23..31 => "kdfname",
                31..35 => "kdfoptions",
                35..39 => "number of keys",
                len if len < section_at(fixture) - 4 => "public key",
                _ => "private section",
            };
            assert_eq!(
                result.unwrap_err(),
                KeyError::malformed(expected, Malformed::Truncated),
                "{len}"
            );
        }
    }
}

#[test]
fn a_file_cut_in_its_armor_is_refused() {
    let file = FIXTURES[0].file;
    for len in 0..file.len() - 1 {
        assert!(
            PrivateKey::from_openssh(&file[..len], None).is_err(),
            "{len}"
        );
    }
    let tail = format!("{file}x");
    let error = PrivateKey::from_openssh(&tail, None).unwrap_err();
    assert_eq!(error, KeyError::malformed("END line", Malformed::Trailing));
    let base64 = file.replace('A', "*");
    let error = PrivateKey::from_openssh(&base64, None).unwrap_err();
    // The first letter of the markers is no A.
    assert!(matches!(error, KeyError::Foreign(_)), "{error}");
    let base64 = file.replace("b3Bl", "b3*l");
    let error = PrivateKey::from_openssh(&base64, None).unwrap_err();
    assert_eq!(error, KeyError::malformed("base64", Malformed::Encoding));
}

#[test]
fn every_flipped_bit_gives_an_error_or_the_same_key() {
    for fixture in &FIXTURES[..2] {
        let bytes = inside(fixture.file);
        let key = fixture.public_key();
        let mut survivors = 0;
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = PrivateKey::from_openssh(armored(&bytes), None) {
                assert_eq!(*read.public(), key);
                assert_ne!(read.comment(), "test@example");
                survivors += 1;
            }
        }
        // Only the comment has nothing to be compared with: each of its letters may change, and where the
        // padding is one byte, its length may swallow that.
        assert!((96..=97).contains(&survivors), "{survivors}");
    }
}

#[test]
fn flipped_bits_of_an_rsa_key_are_noticed() {
    let fixture = &FIXTURES[4];
    let bytes = inside(fixture.file);
    for at in (0..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        if let Ok(read) = PrivateKey::from_openssh(armored(&bytes), None) {
            assert_eq!(*read.public(), fixture.public_key());
            assert_ne!(read.comment(), "test@example");
        }
    }
}

#[test]
fn checkints_that_differ_are_refused() {
    let fixture = &FIXTURES[0];
    let mut bytes = inside(fixture.file);
    bytes[section_at(fixture) + 4] ^= 1;
    let error = PrivateKey::from_openssh(armored(&bytes), None).unwrap_err();
    assert_eq!(error, KeyError::malformed("checkint", Malformed::Value));
}

#[test]
fn padding_is_checked() {
    let fixture = &FIXTURES[1];
    let bytes = inside(fixture.file);
    let last = bytes.len() - 1;
    assert_eq!(bytes[last - 1..], [bytes[last - 1], bytes[last - 1] + 1]);
    for wrong in [0, 1, 0xff] {
        let mut bytes = bytes.clone();
        bytes[last] = wrong;
        let error = PrivateKey::from_openssh(armored(&bytes), None).unwrap_err();
        assert_eq!(error, KeyError::malformed("padding", Malformed::Value));
    }
}

#[test]
fn the_public_half_of_another_key_is_refused() {
    let (mine, other) = (inside(FIXTURES[0].file), FIXTURES[0].public_key());
    let another = PrivateKey::generate(KeyKind::Ed25519, &[9; 32]).unwrap();
    let mut bytes = mine[..39].to_vec();
    Writer::new(&mut bytes).string(another.public().blob());
    bytes.extend_from_slice(&mine[39 + 4 + other.blob().len()..]);
    let error = PrivateKey::from_openssh(armored(&bytes), None).unwrap_err();
    assert_eq!(
        error,
        KeyError::BadKey("the public half belongs to another key")
    );
}

#[test]
fn several_keys_in_one_file_are_refused() {
    let mut bytes = inside(FIXTURES[0].file);
    bytes[38] = 2;
    let error = PrivateKey::from_openssh(armored(&bytes), None).unwrap_err();
    assert_eq!(error, KeyError::Limit("a private key file has one key"));
}

#[test]
fn bytes_behind_the_private_section_are_refused() {
    let mut bytes = inside(FIXTURES[0].file);
    bytes.push(0);
    let error = PrivateKey::from_openssh(armored(&bytes), None).unwrap_err();
    assert_eq!(
        error,
        KeyError::malformed("private section", Malformed::Trailing)
    );
}

proptest! {
    #[test]
    fn any_bytes_in_armor_give_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(PrivateKey::from_openssh(armored(&bytes), PASSPHRASE).is_err());
    }

    #[test]
    fn any_text_gives_an_error(text in "[ -~\n]{0,300}") {
        prop_assert!(PrivateKey::from_openssh(&text, None).is_err());
        prop_assert!(PrivateKey::is_encrypted(&text).is_err());
        prop_assert!(PublicKey::from_openssh(&text).is_err());
    }

    /// Several bytes changed, put in or taken out, in clear.
    #[test]
    fn a_mutated_file_fails_or_gives_the_same_key(
        which in 0_usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut bytes = inside(FIXTURES[which].file);
        for (at, byte, what) in changes {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        if let Ok(read) = PrivateKey::from_openssh(armored(&bytes), None) {
            prop_assert_eq!(read.public(), &FIXTURES[which].public_key());
        }
    }
}

#[cfg(feature = "encrypted-keys")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_mutated_encrypted_file_fails_or_gives_the_same_key(
        which in 0_usize..5,
        at in any::<prop::sample::Index>(),
        mask in 1_u8..,
    ) {
        let mut bytes = inside(FIXTURES[which].encrypted);
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        // A changed count of rounds would be honest work for many seconds.
        let read = PrivateKey::from_openssh_with_max_rounds(armored(&bytes), PASSPHRASE, 4);
        if let Ok(read) = read {
            prop_assert_eq!(read.public(), &FIXTURES[which].public_key());
        }
    }
}
