//! Secrets that begin with zeros, or with a bit that would make them negative: they come up once in hundreds of exchanges,
//! and a side that writes them otherwise than its peer fails once in hundreds of connections.

use super::super::drbg::Seed;
use super::*;

fn rng(seed: u32) -> Drbg {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    Drbg::new(Seed::new(bytes))
}

type Shape = fn(&[u8]) -> bool;

/// What a secret looks like that is not like others.
const SHAPES: [(&str, Shape); 4] = [
    ("a zero, then a high bit", |k| k[0] == 0 && k[1] >= 0x80),
    ("a zero, then none", |k| {
        k[0] == 0 && k[1] < 0x80 && k[1] > 0
    }),
    ("a high bit", |k| k[0] >= 0x80),
    ("neither", |k| k[0] < 0x80 && k[0] > 0),
];

/// RFC 4251 section 5: the shortest form, and a zero in front of a number whose first bit is set.
fn mpint(number: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = number
        .iter()
        .copied()
        .skip_while(|byte| *byte == 0)
        .collect();
    if digits.first().is_some_and(|byte| *byte >= 0x80) {
        digits.insert(0, 0);
    }
    [&(digits.len() as u32).to_be_bytes()[..], &digits].concat()
}

fn written(secret: &SharedSecret) -> Vec<u8> {
    let mut buf = Vec::new();
    secret.write(&mut Writer::new(&mut buf));
    buf
}

#[test]
fn secrets_with_leading_zeros_or_a_high_bit_are_written_alike_by_both_sides() {
    let methods = [
        Kex::Curve25519Sha256,
        Kex::EcdhNistp256,
        Kex::EcdhNistp384,
        Kex::EcdhNistp521,
    ];
    for kex in methods {
        for (shape, has) in SHAPES {
            if kex == Kex::EcdhNistp521 && shape == "a high bit" {
                // 521 bits: the first of 66 bytes is 0 or 1.
                continue;
            }
            let (_, client_share) = Ephemeral::generate(kex, &mut rng(0)).unwrap();
            let (seed, server_share, secret) = (1..20_000)
                .find_map(|seed| {
                    let (share, secret) = respond(kex, &client_share, &mut rng(seed)).unwrap();
                    has(secret.value.expose()).then_some((seed, share, secret))
                })
                .expect("such a secret");
            // The client's half again: the same seed gives the same.
            let (ephemeral, again) = Ephemeral::generate(kex, &mut rng(0)).unwrap();
            assert_eq!(again, client_share);
            let client = ephemeral.agree(&server_share).unwrap();
            let expected = mpint(secret.value.expose());
            assert_eq!(written(&secret), expected, "{kex}: {shape}, seed {seed}");
            assert_eq!(written(&client), expected, "{kex}: {shape}, seed {seed}");
        }
    }
}

#[test]
fn the_secret_of_the_hybrid_keeps_its_zeros() {
    // A string is as long as the hash, whatever it begins with.
    for (_, has) in SHAPES {
        let (_, client_share) =
            Ephemeral::generate(Kex::MlKem768X25519Sha256, &mut rng(0)).unwrap();
        let secret = (1..20_000)
            .map(|seed| {
                respond(Kex::MlKem768X25519Sha256, &client_share, &mut rng(seed))
                    .unwrap()
                    .1
            })
            .find(|secret| has(secret.value.expose()))
            .expect("such a secret");
        let expected = [&[0, 0, 0, 32], secret.value.expose()].concat();
        assert_eq!(written(&secret), expected);
    }
}
