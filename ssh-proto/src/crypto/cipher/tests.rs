//! Known answers (NIST, the chacha20-poly1305 draft, OpenSSL), the ends of the counters, round trips.

use super::super::testing::{count, hex};
use super::*;
use crate::names::Algorithm;
use proptest::prelude::*;

const GCM: [Cipher; 2] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm];
const CTR: [Cipher; 3] = [Cipher::Aes128Ctr, Cipher::Aes192Ctr, Cipher::Aes256Ctr];

fn gcm(key: &[u8], iv: &[u8]) -> (GcmSeal, GcmOpen) {
    let cipher = GCM[usize::from(key.len() == 32)];
    match (
        SealKey::new(cipher, key, iv).unwrap(),
        OpenKey::new(cipher, key, iv).unwrap(),
    ) {
        (SealKey::Gcm(seal), OpenKey::Gcm(open)) => (seal, open),
        other => panic!("{other:?}"),
    }
}

fn chacha(key: &[u8]) -> (ChaChaSeal, ChaChaOpen) {
    let cipher = Cipher::ChaCha20Poly1305;
    match (
        SealKey::new(cipher, key, &[]).unwrap(),
        OpenKey::new(cipher, key, &[]).unwrap(),
    ) {
        (SealKey::ChaCha(seal), OpenKey::ChaCha(open)) => (seal, open),
        other => panic!("{other:?}"),
    }
}

fn ctr(key: &[u8], iv: &[u8]) -> Ctr {
    let cipher = CTR[key.len() / 8 - 2];
    match SealKey::new(cipher, key, iv).unwrap() {
        SealKey::Ctr(ctr) => ctr,
        other => panic!("{other:?}"),
    }
}

fn ctr_open(key: &[u8], iv: &[u8]) -> Ctr {
    let cipher = CTR[key.len() / 8 - 2];
    match OpenKey::new(cipher, key, iv).unwrap() {
        OpenKey::Ctr(ctr) => ctr,
        other => panic!("{other:?}"),
    }
}

// McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 4 and 16.
#[test]
fn gcm_gives_nist_s_answers() {
    let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain = hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    for (key, sealed, tag) in [
        (
            "feffe9928665731c6d6a8f9467308308",
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ] {
        let (mut seal, mut open) = gcm(&hex(key), &hex("cafebabefacedbaddecaf888"));
        let mut body = plain.clone();
        let made = seal.0.seal(&aad, &mut body).unwrap();
        assert_eq!(body, hex(sealed));
        assert_eq!(made.to_vec(), hex(tag));
        open.0.open(&aad, &mut body, &made).unwrap();
        assert_eq!(body, plain);
    }
}

// Three packets whose counter wraps before the third, computed with OpenSSL.
impl SealKey {
    /// As if so many packets had been sealed with it.
    pub(crate) const fn age(&mut self, records: u64) {
        match self {
            Self::Gcm(key) => key.0.records = Records(records),
            Self::ChaCha(key) => key.records = Records(records),
            Self::Ctr(_) => {}
        }
    }
}

impl OpenKey {
    /// As if so many packets had been opened with it.
    pub(crate) const fn age(&mut self, records: u64) {
        match self {
            Self::Gcm(key) => key.0.records = Records(records),
            Self::ChaCha(key) => key.records = Records(records),
            Self::Ctr(_) => {}
        }
    }
}

#[test]
fn gcm_counts_packets_and_wraps() {
    let expected = [
        [
            "2b833d3fe645114346a7f02e0a29c22488299d26980aa664eb36cd6b5b6b080a29915adfb7f8bf7a1ab51547de5a0338",
            "eb7d0ba9a0401242a375133ee953836d1f5f81dd96962576f4ad27e3bea325deea58d0614841f7d66d108fb6e3e4f43c",
            "1f04a09bfe9a6f09af326a91ae70a1b389b4c767a64f1bc547446ca76a9d27d99f920bc2fd21cd670f970ff582f5b738",
        ],
        [
            "85269202e3d360c34b2c6f9af3ed3b4b043b93d584b9d40532237a459b31bf2aee2976f7947c73755f791e3bd9178976",
            "f0387193abc787b3c97fc0bf848a4b9dff6c43eaa874d6fde36bcb753a6509efd94cec44665571404be05f5f0bd45576",
            "bf97a2d7a2ff4120ed7f2f2ff83f70745bc0517e4969e4ee2cc7c795b83d76033ccc5e46e5367ef0de6bae54f8319655",
        ],
    ];
    for (len, expected) in [16, 32].into_iter().zip(expected) {
        let (mut seal, mut open) = gcm(&count::<32>()[..len], &hex("00010203fffffffffffffffe"));
        for expected in expected {
            let mut body = count::<32>();
            let tag = seal.seal(&[0, 0, 0, 32], &mut body).unwrap();
            assert_eq!([&body[..], &tag].concat(), hex(expected));
            open.open(&[0, 0, 0, 32], &mut body, &tag).unwrap();
            assert_eq!(body, count());
        }
        assert_eq!(seal.0.fixed, [0, 1, 2, 3]);
        assert_eq!(seal.0.counter, 1);
    }
}

#[test]
fn a_key_stops_after_2_32_packets() {
    let mut body = count::<32>();
    let (mut seal, mut open) = gcm(&[1; 16], &[2; 12]);
    let tag = seal.seal(&[0; 4], &mut body).unwrap();
    seal.0.records = Records(AEAD_RECORDS - 1);
    open.0.records = Records(AEAD_RECORDS - 1);
    open.open(&[0; 4], &mut body, &tag).unwrap();
    assert!(seal.seal(&[0; 4], &mut body).is_ok());
    assert_eq!(seal.seal(&[0; 4], &mut body), Err(CryptoFault));
    assert_eq!(open.open(&[0; 4], &mut body, &tag), Err(CryptoFault));

    let (mut seal, mut open) = chacha(&[1; 64]);
    let tag = seal.seal(0, &mut body).unwrap();
    seal.records = Records(AEAD_RECORDS);
    open.records = Records(AEAD_RECORDS - 1);
    open.open(0, &mut body.clone(), &tag).unwrap();
    assert_eq!(open.open(0, &mut body, &tag), Err(CryptoFault));
    assert_eq!(seal.seal(1, &mut body), Err(CryptoFault));
}

// draft-ietf-sshm-chacha20-poly1305-02, appendix A.
#[test]
fn chacha_gives_the_draft_s_answer() {
    let key = hex(
        "8bbff6855fc102338c373e73aac0c914f076a905b2444a32eecaffeae22becc5
         e9b7a7a5825a8249346ec1c28301cf394543fc7569887d76e168f37562ac0740",
    );
    let plain = hex(
        "00000048 065e000000000000 00384c6f72656d20 697073756d20646f 6c6f722073697420
                  616d65742c20636f 6e73656374657475 7220616469706973 6963696e6720656c
                  69744e43e804dc6c",
    );
    let (mut seal, mut open) = chacha(&key);
    let mut packet = plain.clone();
    let tag = seal.seal(7, &mut packet).unwrap();
    assert_eq!(
        packet,
        hex(
            "2c3ecce4 a5bc05895bf07a7b a956b6c68829ac7c 83b780b7000ecde7 45afc705bbc378ce
                      03a280236b87b53b ed5839662302b164 b6286a48cd1e0971 38e3cb909b8b2b82
                      9dd18d2a35ff82d9"
        )
    );
    assert_eq!(tag.to_vec(), hex("95349e855bf02c298ef775f2d1a7e8b8"));
    assert_eq!(
        open.length(7, *packet.first_chunk().unwrap()),
        [0, 0, 0, 72]
    );
    open.open(7, &mut packet, &tag).unwrap();
    assert_eq!(packet[4..], plain[4..]);
}

// Put together from OpenSSL's ChaCha20 and Poly1305.
#[test]
fn chacha_takes_the_first_and_the_last_sequence_number() {
    for (sequence, sealed, tag) in [
        (
            0,
            "94450e4118b94032a9e3a0d61b68566aa34e4028e8a0e1e6f5b84d4b",
            "44840666813a12b7cd1d841e64b138fe",
        ),
        (
            u32::MAX,
            "b90ee4a809930e98aa01d2e59e3fa1b97e8b0ca106ab2b05db3acd6f",
            "e4e3956bd228d94cff265bef9db0c014",
        ),
    ] {
        let (mut seal, mut open) = chacha(&count::<64>());
        let mut packet = [&[0, 0, 0, 24][..], &count::<24>()].concat();
        assert_eq!(seal.seal(sequence, &mut packet).unwrap().to_vec(), hex(tag));
        assert_eq!(packet, hex(sealed));
        open.open(sequence, &mut packet, &hex(tag).try_into().unwrap())
            .unwrap();
        assert_eq!(packet[4..], count::<24>());
    }
}

#[test]
fn a_chacha_packet_without_its_length_is_refused() {
    let (mut seal, mut open) = chacha(&[1; 64]);
    for len in 0..4 {
        assert_eq!(seal.seal(0, &mut vec![0; len]), Err(CryptoFault));
        assert_eq!(open.open(0, &mut vec![0; len], &[0; 16]), Err(CryptoFault));
    }
}

// NIST SP 800-38A, F.5.1, F.5.3 and F.5.5.
#[test]
fn ctr_gives_nist_s_answers() {
    let plain = hex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    );
    for (key, sealed) in [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff
             5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
        ),
        (
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "1abc932417521ca24f2b0459fe7e6e0b090339ec0aa6faefd5ccc2c6f4ce8e94
             1e36b26bd1ebc670d1bd1d665620abf74f78a7f6d29809585a97daec58c6b050",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5
             2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
        ),
    ] {
        let iv = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
        let mut data = plain.clone();
        ctr(&hex(key), &iv).apply(&mut data).unwrap();
        assert_eq!(data, hex(sealed));
        ctr_open(&hex(key), &iv).apply(&mut data).unwrap();
        assert_eq!(data, plain);
    }
}

// Four blocks each, computed with OpenSSL: all 128 bits wrap, and the lowest 32 carry over.
#[test]
fn ctr_carries_through_all_128_bits() {
    for (iv, sealed) in [
        (
            "fffffffffffffffffffffffffffffffe",
            "b6b5c2d82d8bd40fcf4ed8f4ae6e97ee3c441f32ce07822364d7a2990e50bb13
             c6a13b37878f5b826f4f8162a1c8d8797346139595c0b41e497bbde365f42d0a",
        ),
        (
            "000000000000000000000000fffffffe",
            "0b3076752114f7d0ec5b8283036668d157941ff3415881a0b2a7917ac5fa33b8
             426c768faa410b72ab103951259ba14ad4826774d118c5351aa48113690c3973",
        ),
    ] {
        let mut whole = [0; 64];
        ctr(&count::<16>(), &hex(iv)).apply(&mut whole).unwrap();
        assert_eq!(whole.to_vec(), hex(sealed));
        let mut pieces = [0; 64];
        let mut key = ctr(&count::<16>(), &hex(iv));
        for piece in pieces.chunks_mut(16) {
            key.apply(piece).unwrap();
        }
        assert_eq!(pieces, whole);
    }
}

#[test]
fn ctr_refuses_partial_blocks_and_stays_where_it_is() {
    let mut key = ctr(&count::<32>(), &count::<16>());
    for len in (0..64).filter(|len| len % 16 != 0) {
        let mut data = vec![7; len];
        assert_eq!(key.apply(&mut data), Err(CryptoFault));
        assert_eq!(data, vec![7; len]);
    }
    key.apply(&mut []).unwrap();
    assert_eq!(key.counter, u128::from_be_bytes(count()));
}

#[test]
fn keys_and_ivs_of_other_lengths_are_refused() {
    for &cipher in Cipher::ALL {
        let (key, iv) = (key_len(cipher), iv_len(cipher));
        for len in 0..80 {
            let fits = |wanted| len == wanted;
            let other = vec![1; len];
            assert_eq!(
                SealKey::new(cipher, &other, &vec![1; iv]).is_some(),
                fits(key)
            );
            assert_eq!(
                OpenKey::new(cipher, &other, &vec![1; iv]).is_some(),
                fits(key)
            );
            assert_eq!(
                SealKey::new(cipher, &vec![1; key], &other).is_some(),
                fits(iv)
            );
            assert_eq!(
                OpenKey::new(cipher, &vec![1; key], &other).is_some(),
                fits(iv)
            );
        }
        assert_eq!(tag_len(cipher) > 0, cipher.is_aead());
        assert_eq!(block_len(cipher), if key == 64 { 8 } else { 16 });
    }
}

#[test]
fn keys_are_small_and_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<SealKey>();
    shared::<OpenKey>();
    // An idle connection has 8 KiB for everything: both keys in place, and both of Ctr's boxes.
    assert!(size_of::<SealKey>() <= 96, "{}", size_of::<SealKey>());
    assert!(size_of::<OpenKey>() <= 96, "{}", size_of::<OpenKey>());
    assert!(
        size_of::<EncryptingKey>() <= 520,
        "{}",
        size_of::<EncryptingKey>()
    );
    let key = SealKey::new(Cipher::Aes128Gcm, &[1; 16], &[1; 12]);
    assert_eq!(format!("{key:?}"), "Some(SealKey(..))");
}

/// Flips one bit of the parts taken as one.
fn flip(parts: [&mut [u8]; 3], bit: prop::sample::Index) {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let bit = bit.index(total * 8);
    *parts.into_iter().flatten().nth(bit / 8).unwrap() ^= 1 << (bit % 8);
}

proptest! {
    #[test]
    fn gcm_opens_what_it_sealed_and_nothing_else(
        key: [u8; 32],
        iv: [u8; 12],
        aad: [u8; 4],
        plain in prop::collection::vec(any::<u8>(), 0..600),
        bit: prop::sample::Index,
    ) {
        for len in [16, 32] {
            let (mut seal, mut open) = gcm(&key[..len], &iv);
            for _ in 0..3 {
                let mut body = plain.clone();
                let tag = seal.seal(&aad, &mut body).unwrap();
                open.open(&aad, &mut body, &tag).unwrap();
                prop_assert_eq!(&body, &plain);
            }
            let (mut aad, mut body) = (aad, plain.clone());
            let mut tag = seal.seal(&aad, &mut body).unwrap();
            flip([&mut aad, &mut body, &mut tag], bit);
            prop_assert_eq!(open.open(&aad, &mut body, &tag), Err(CryptoFault));
        }
    }

    #[test]
    fn chacha_opens_what_it_sealed_and_nothing_else(
        key in prop::collection::vec(any::<u8>(), 64),
        sequence: u32,
        length: [u8; 4],
        plain in prop::collection::vec(any::<u8>(), 0..600),
        bit: prop::sample::Index,
    ) {
        let (mut seal, mut open) = chacha(&key);
        let mut packet = [&length[..], &plain].concat();
        let tag = seal.seal(sequence, &mut packet).unwrap();
        prop_assert_eq!(open.length(sequence, *packet.first_chunk().unwrap()), length);
        let sealed = packet.clone();
        open.open(sequence, &mut packet, &tag).unwrap();
        prop_assert_eq!(&packet[4..], &plain[..]);

        let other = sequence.wrapping_add(1);
        prop_assert_eq!(open.open(other, &mut sealed.clone(), &tag), Err(CryptoFault));
        let (mut packet, mut tag) = (sealed, tag);
        flip([&mut packet, &mut tag, &mut []], bit);
        prop_assert_eq!(open.open(sequence, &mut packet, &tag), Err(CryptoFault));
    }

    #[test]
    fn ctr_does_not_depend_on_how_the_stream_is_cut(
        key: [u8; 32],
        iv: [u8; 16],
        blocks in prop::collection::vec(0usize..8, 0..8),
    ) {
        for len in [16, 24, 32] {
            let total: usize = blocks.iter().sum();
            let plain: Vec<u8> = (0..total * 16).map(|i| i as u8).collect();
            let mut whole = plain.clone();
            ctr(&key[..len], &iv).apply(&mut whole).unwrap();
            let (mut seal, mut open) = (ctr(&key[..len], &iv), ctr_open(&key[..len], &iv));
            let mut data = plain.clone();
            let mut rest = &mut data[..];
            for &count in &blocks {
                let (piece, later) = rest.split_at_mut(count * 16);
                seal.apply(piece).unwrap();
                rest = later;
            }
            prop_assert_eq!(&data, &whole);
            open.apply(&mut data).unwrap();
            prop_assert_eq!(&data, &plain);
        }
    }
}

// One bit in each part of a packet: the length, the body, the tag.
#[test]
fn a_flipped_bit_anywhere_in_a_chacha_packet_is_refused() {
    let (mut seal, mut open) = chacha(&count::<64>());
    let mut packet = [&[0, 0, 0, 24][..], &count::<24>()].concat();
    let tag = seal.seal(9, &mut packet).unwrap();
    for at in 0..packet.len() + tag.len() {
        let (mut packet, mut tag) = (packet.clone(), tag);
        *packet.iter_mut().chain(&mut tag).nth(at).unwrap() ^= 0x80;
        let before = packet.clone();
        assert_eq!(open.open(9, &mut packet, &tag), Err(CryptoFault), "{at}");
        assert_eq!(packet, before, "nothing unauthenticated is decrypted");
        // The length can be peeked at, wrong as it is: that is for the packet layer to bound.
        let length = open.length(9, *packet.first_chunk().unwrap());
        assert_eq!(length == [0, 0, 0, 24], at >= 4, "{at}");
    }
    open.open(9, &mut packet, &tag).unwrap();
}
