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
    // Section 7.1, all of them: tests 1, 2, 3, 1024 and SHA(abc).
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
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
            "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
            "08b8b2b733424243760fe426a4b54908632110a66c2f6591eabd3345e3e4eb98fa6e264bf09efe12ee50f8f54e9f77b1\
             e355f6c50544e23fb1433ddf73be84d879de7c0046dc4996d9e773f4bc9efe5738829adb26c81b37c93a1b270b20329d\
             658675fc6ea534e0810a4432826bf58c941efb65d57a338bbd2e26640f89ffbc1a858efcb8550ee3a5e1998bd177e93a\
             7363c344fe6b199ee5d02e82d522c4feba15452f80288a821a579116ec6dad2b3b310da903401aa62100ab5d1a36553e\
             06203b33890cc9b832f79ef80560ccb9a39ce767967ed628c6ad573cb116dbefefd75499da96bd68a8a97b928a8bbc10\
             3b6621fcde2beca1231d206be6cd9ec7aff6f6c94fcd7204ed3455c68c83f4a41da4af2b74ef5c53f1d8ac70bdcb7ed1\
             85ce81bd84359d44254d95629e9855a94a7c1958d1f8ada5d0532ed8a5aa3fb2d17ba70eb6248e594e1a2297acbbb39d\
             502f1a8c6eb6f1ce22b3de1a1f40cc24554119a831a9aad6079cad88425de6bde1a9187ebb6092cf67bf2b13fd65f270\
             88d78b7e883c8759d2c4f5c65adb7553878ad575f9fad878e80a0c9ba63bcbcc2732e69485bbc9c90bfbd62481d9089b\
             eccf80cfe2df16a2cf65bd92dd597b0707e0917af48bbb75fed413d238f5555a7a569d80c3414a8d0859dc65a46128ba\
             b27af87a71314f318c782b23ebfe808b82b0ce26401d2e22f04d83d1255dc51addd3b75a2b1ae0784504df543af8969b\
             e3ea7082ff7fc9888c144da2af58429ec96031dbcad3dad9af0dcbaaaf268cb8fcffead94f3c7ca495e056a9b47acdb7\
             51fb73e666c6c655ade8297297d07ad1ba5e43f1bca32301651339e22904cc8c42f58c30c04aafdb038dda0847dd988d\
             cda6f3bfd15c4b4c4525004aa06eeff8ca61783aacec57fb3d1f92b0fe2fd1a85f6724517b65e614ad6808d6f6ee34df\
             f7310fdc82aebfd904b01e1dc54b2927094b2db68d6f903b68401adebf5a7e08d78ff4ef5d63653a65040cf9bfd4aca7\
             984a74d37145986780fc0b16ac451649de6188a7dbdf191f64b5fc5e2ab47b57f7f7276cd419c17a3ca8e1b939ae49e4\
             88acba6b965610b5480109c8b17b80e1b7b750dfc7598d5d5011fd2dcc5600a32ef5b52a1ecc820e308aa342721aac09\
             43bf6686b64b2579376504ccc493d97e6aed3fb0f9cd71a43dd497f01f17c0e2cb3797aa2a2f256656168e6c496afc5f\
             b93246f6b1116398a346f1a641f3b041e989f7914f90cc2c7fff357876e506b50d334ba77c225bc307ba537152f3f161\
             0e4eafe595f6d9d90d11faa933a15ef1369546868a7f3a45a96768d40fd9d03412c091c6315cf4fde7cb68606937380d\
             b2eaaa707b4c4185c32eddcdd306705e4dc1ffc872eeee475a64dfac86aba41c0618983f8741c5ef68d3a101e8a3b8ca\
             c60c905c15fc910840b94c00a0b9d0",
            "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350aa5371b1508f9f4528ecea23c436d94b5e8fcd4f681e30a6ac00a9704a188a03",
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
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
