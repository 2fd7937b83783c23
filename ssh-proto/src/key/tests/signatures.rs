use base64ct::{Base64, Encoding};
use proptest::prelude::*;

use super::*;
use crate::names::{Algorithm, SignatureAlgorithm};
use crate::wire::{Malformed, Reader, Writer};

/// The signature proper inside a blob.
fn inner(signature: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(signature);
    reader.string().unwrap();
    reader.string().unwrap().to_vec()
}

/// A blob around a signature proper.
fn outer(algorithm: SignatureAlgorithm, inner: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    Writer::new(&mut blob)
        .string(algorithm.name().as_bytes())
        .string(inner);
    blob
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |d: u8| (d as char).to_digit(16).unwrap() as u8;
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|p| digit(p[0]) * 16 + digit(p[1])).collect()
}

/// SHA-512 of `message`.
const MESSAGE_SHA512: &str = "f8daf57a3347cc4d6b9d575b31fe6077e2cb487f60a96233c08cb479dbf31538\
                              cc915ec6d48bdbaa96ddc1a16db4f4f96f37276cfcb3510b8246241770d5952c";

/// Takes an SSH signature of `ssh-keygen -Y sign` apart: key, signed bytes, signature (PROTOCOL.sshsig).
fn sshsig(file: &str) -> (PublicKey, Vec<u8>, Vec<u8>) {
    let text: String = file.lines().filter(|line| !line.starts_with('-')).collect();
    let bytes = Base64::decode_vec(&text).unwrap();
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.bytes(6), Ok(&b"SSHSIG"[..]));
    assert_eq!(reader.uint32(), Ok(1));
    let key = PublicKey::from_blob(reader.string().unwrap()).unwrap();
    let mut signed = b"SSHSIG".to_vec();
    let mut writer = Writer::new(&mut signed);
    let namespace = reader.string().unwrap();
    let reserved = reader.string().unwrap();
    let hash = reader.string().unwrap();
    assert_eq!((namespace, hash), (&b"test"[..], &b"sha512"[..]));
    writer.string(namespace).string(reserved).string(hash);
    writer.string(&hex(MESSAGE_SHA512));
    (key, signed, reader.string().unwrap().to_vec())
}

#[test]
fn signatures_of_openssh_are_verified() {
    for fixture in &FIXTURES {
        let (key, signed, signature) = sshsig(fixture.signature);
        assert_eq!(key, fixture.public_key());
        let algorithm = key.algorithms()[0];
        assert_eq!(key.verify(algorithm, &signed, &signature), Ok(()));
        let other = key.verify(algorithm, b"message", &signature);
        assert_eq!(other, Err(KeyError::BadSignature));
    }
}

#[test]
fn the_largest_rsa_key_of_openssh_verifies() {
    let (key, signed, mut signature) = sshsig(include_str!("../fixtures/rsa16384.sshsig"));
    let public = include_str!("../fixtures/rsa16384.pub");
    assert_eq!(PublicKey::from_openssh(public).unwrap().0, key);
    assert_eq!(key.bits(), 16_384);
    let algorithm = SignatureAlgorithm::RsaSha512;
    assert_eq!(key.verify(algorithm, &signed, &signature), Ok(()));
    signature[1_000] ^= 1;
    assert_eq!(
        key.verify(algorithm, &signed, &signature),
        Err(KeyError::BadSignature)
    );
}

#[test]
fn ed25519_gives_the_signatures_of_rfc_8032() {
    // Section 7.1, tests 1 and 2.
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ] {
        let entropy = hex(seed).try_into().unwrap();
        let key = PrivateKey::generate(KeyKind::Ed25519, &entropy).unwrap();
        assert!(key.public().blob().ends_with(&hex(public)));
        let algorithm = SignatureAlgorithm::Ed25519;
        let made = key.sign(algorithm, &hex(message)).unwrap();
        assert_eq!(made, outer(algorithm, &hex(signature)));
        let verdict = key.public().verify(algorithm, &hex(message), &made);
        assert_eq!(verdict, Ok(()));
    }
}

#[test]
fn an_ed25519_signature_has_64_bytes() {
    let key = FIXTURES[0].key();
    let algorithm = SignatureAlgorithm::Ed25519;
    let mut signature = inner(&key.sign(algorithm, b"message").unwrap());
    signature.resize(128, 0);
    for len in 0..=128 {
        let verdict =
            key.public()
                .verify(algorithm, b"message", &outer(algorithm, &signature[..len]));
        assert_eq!(verdict.is_ok(), len == 64, "{len}");
    }
}

#[test]
fn an_ed25519_s_out_of_range_is_refused() {
    // RFC 8032 section 5.1.7: S must lie in 0 <= s < L, or one signature makes others.
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let key = FIXTURES[0].key();
    let algorithm = SignatureAlgorithm::Ed25519;
    let good = inner(&key.sign(algorithm, b"message").unwrap());
    let mut plus_order = good.clone();
    let mut carry = 0;
    for (byte, add) in plus_order[32..].iter_mut().zip(hex(order)) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let high_bit = |at: usize| {
        let mut signature = good.clone();
        signature[at] ^= 0x80;
        signature
    };
    let all_ones = [&good[..32], &[0xff; 32]].concat();
    for wrong in [
        plus_order,
        high_bit(63),
        high_bit(31),
        all_ones,
        vec![0; 64],
    ] {
        let verdict = key
            .public()
            .verify(algorithm, b"message", &outer(algorithm, &wrong));
        assert_eq!(verdict, Err(KeyError::BadSignature));
    }
}

#[test]
fn ecdsa_numbers_out_of_range_are_refused_and_padding_is_not() {
    let orders = [
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551".to_owned(),
        format!(
            "{}c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
            "f".repeat(48)
        ),
        format!(
            "01{}fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
            "f".repeat(64)
        ),
    ];
    for (fixture, order) in FIXTURES[1..4].iter().zip(orders) {
        let key = fixture.key();
        let algorithm = key.public().algorithms()[0];
        let good = inner(&key.sign(algorithm, b"message").unwrap());
        let mut reader = Reader::new(&good);
        let (r, s) = (reader.string().unwrap(), reader.string().unwrap());
        let verify = |r: &[u8], s: &[u8], tail: &[u8]| {
            let mut inner = Vec::new();
            Writer::new(&mut inner).string(r).string(s).bytes(tail);
            key.public()
                .verify(algorithm, b"message", &outer(algorithm, &inner))
        };
        let padded = |number: &[u8]| [&[0; 100][..], number].concat();
        assert_eq!(verify(r, s, b""), Ok(()));
        assert_eq!(verify(&padded(r), &padded(s), b""), Ok(()));

        let bad = Err(KeyError::BadSignature);
        let order = [vec![0], hex(&order)].concat();
        for wrong in [&[][..], &[0], &[1], &order, &[1; 80]] {
            assert_eq!(verify(wrong, s, b""), bad);
            assert_eq!(verify(r, wrong, b""), bad);
            assert_eq!(verify(wrong, wrong, b""), bad);
        }
        assert_eq!(verify(s, r, b""), bad);
        let negative = |field| Err(KeyError::malformed(field, Malformed::Negative));
        assert_eq!(verify(&[0x80], s, b""), negative("r"));
        assert_eq!(verify(r, &[0xff], b""), negative("s"));
        let trailing = KeyError::malformed("signature", Malformed::Trailing);
        assert_eq!(verify(r, s, b"\0"), Err(trailing));
        for len in 0..good.len() {
            let cut = outer(algorithm, &good[..len]);
            assert!(key.public().verify(algorithm, b"message", &cut).is_err());
        }
    }
}

#[test]
fn a_point_off_the_curve_verifies_nothing() {
    for fixture in &FIXTURES[1..4] {
        let key = fixture.key();
        let algorithm = key.public().algorithms()[0];
        let signature = key.sign(algorithm, b"message").unwrap();
        let mut blob = key.public().blob().to_vec();
        *blob.last_mut().unwrap() ^= 1;
        let off = PublicKey::from_blob(&blob).unwrap();
        assert_eq!(
            off.verify(algorithm, b"message", &signature),
            Err(KeyError::BadSignature)
        );
    }
}

#[test]
fn an_rsa_signature_may_lack_leading_zeros_and_not_have_more() {
    let key = FIXTURES[4].key();
    let algorithm = SignatureAlgorithm::RsaSha256;
    // One message in 256 has a signature that starts with zero.
    let (message, full) = (0_u32..)
        .map(|n| n.to_be_bytes())
        .find_map(|message| {
            let signature = inner(&key.sign(algorithm, &message).unwrap());
            (signature[0] == 0).then_some((message, signature))
        })
        .unwrap();
    let verify = |signature: &[u8]| {
        key.public()
            .verify(algorithm, &message, &outer(algorithm, signature))
    };
    assert_eq!(full.len(), 256);
    assert_eq!(verify(&full), Ok(()));
    assert_eq!(verify(&full[1..]), Ok(()));
    let longer = [&[0][..], &full].concat();
    for wrong in [&longer, &full[..255], &full[2..], &[], &[0; 256], &[0; 257]] {
        assert_eq!(verify(wrong), Err(KeyError::BadSignature));
    }
}

#[test]
fn rsa_signatures_are_tied_to_their_hash() {
    use SignatureAlgorithm::{RsaSha256, RsaSha512};
    let key = FIXTURES[4].key();
    let (public, message) = (key.public(), b"message");
    for (made, asked) in [(RsaSha256, RsaSha512), (RsaSha512, RsaSha256)] {
        let signature = key.sign(made, message).unwrap();
        assert_eq!(public.verify(made, message, &signature), Ok(()));
        let mismatch = KeyError::malformed("signature algorithm", Malformed::Value);
        assert_eq!(public.verify(asked, message, &signature), Err(mismatch));
        let relabelled = outer(asked, &inner(&signature));
        let verdict = public.verify(asked, message, &relabelled);
        assert_eq!(verdict, Err(KeyError::BadSignature));
    }
    // RFC 8332 section 3: `ssh-rsa` is the key's type, and as a signature's name it means SHA-1.
    let mut sha1 = Vec::new();
    Writer::new(&mut sha1).string(b"ssh-rsa").string(&[1; 256]);
    assert!(public.verify(RsaSha256, message, &sha1).is_err());
}

#[test]
fn a_key_has_no_part_in_algorithms_of_others() {
    for fixture in &FIXTURES {
        let key = fixture.key();
        for &algorithm in SignatureAlgorithm::ALL {
            if key.public().algorithms().contains(&algorithm) {
                assert_eq!(algorithm.key_type(), key.public().key_type());
                continue;
            }
            let error = KeyError::unsupported("signature algorithm", algorithm.name());
            assert_eq!(key.sign(algorithm, b""), Err(error.clone()));
            let blob = outer(algorithm, &[0; 64]);
            assert_eq!(key.public().verify(algorithm, b"", &blob), Err(error));
        }
    }
}

#[test]
fn bytes_behind_a_signature_and_cut_ones_are_refused() {
    for fixture in &FIXTURES {
        let key = fixture.key();
        let algorithm = key.public().algorithms()[0];
        let mut signature = key.sign(algorithm, b"message").unwrap();
        for len in 0..signature.len() {
            let verdict = key
                .public()
                .verify(algorithm, b"message", &signature[..len]);
            assert!(matches!(verdict, Err(KeyError::Malformed { .. })), "{len}");
        }
        signature.push(0);
        let error = KeyError::malformed("signature", Malformed::Trailing);
        assert_eq!(
            key.public().verify(algorithm, b"message", &signature),
            Err(error)
        );
    }
}

proptest! {
    #[test]
    fn a_signature_holds_for_its_message_and_key_alone(
        which in 0_usize..5,
        message in prop::collection::vec(any::<u8>(), 1..300),
        at in any::<prop::sample::Index>(),
        mask in 1_u8..,
    ) {
        let key = FIXTURES[which].key();
        let algorithm = key.public().algorithms()[0];
        let signature = key.sign(algorithm, &message).unwrap();
        prop_assert_eq!(key.public().verify(algorithm, &message, &signature), Ok(()));

        let mut other = message.clone();
        other[at.index(message.len())] ^= mask;
        prop_assert!(key.public().verify(algorithm, &other, &signature).is_err());
        let mut wrong = signature.clone();
        wrong[at.index(signature.len())] ^= mask;
        prop_assert!(key.public().verify(algorithm, &message, &wrong).is_err());
    }
}
