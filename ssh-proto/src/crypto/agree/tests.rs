//! Known answers (RFC 7748, OpenSSL, libcrux's ML-KEM), both sides against each other, and every kind of
//! share that must be refused.

use super::super::drbg::Seed;
use super::super::testing::{count, hex};
use super::*;
use crate::names::Algorithm;
use libcrux_ml_kem::mlkem768;
use proptest::prelude::*;

/// ML-KEM with given random bytes, computed by another library.
struct Seeded(u8);

impl MlKem for Seeded {
    fn generate(&mut self) -> Result<Secret, CryptoFault> {
        let pair = mlkem768::generate_key_pair([self.0; 64]);
        assert_eq!(pair.sk()[ML_KEM_KEY_AT], pair.pk()[..]);
        Ok(Secret::from(&pair.sk()[..]))
    }

    fn encapsulate(&mut self, key: &[u8]) -> Result<Secret, CryptoFault> {
        let key = key.try_into().map_err(|_| CryptoFault)?;
        let (ciphertext, secret) = mlkem768::encapsulate(&key, [self.0; 32]);
        Ok(Secret::new([ciphertext.as_ref(), &secret[..]].concat()))
    }
}

fn rng(seed: u8) -> Drbg {
    Drbg::new(Seed::new([seed; 32]))
}

fn written(secret: &SharedSecret) -> Vec<u8> {
    let mut buf = Vec::new();
    secret.write(&mut Writer::new(&mut buf));
    buf
}

/// The lengths of the client's and of the server's share.
fn lengths(kex: Kex) -> (usize, usize) {
    match Method::of(kex) {
        Method::Curve(curve) => (curve.share_len(), curve.share_len()),
        Method::Hybrid => (1216, 1120),
    }
}

/// The client side of an exchange whose server answers `share`.
fn client_takes(kex: Kex, share: &[u8]) -> Result<SharedSecret, CryptoFault> {
    let (ours, _) = Ephemeral::generate(kex, &mut rng(1)).unwrap();
    ours.agree(share)
}

fn server_takes(kex: Kex, share: &[u8]) -> Result<SharedSecret, CryptoFault> {
    respond(kex, share, &mut rng(2)).map(|(_, secret)| secret)
}

const CURVES: [(Kex, usize); 3] = [
    (Kex::EcdhNistp256, 32),
    (Kex::EcdhNistp384, 48),
    (Kex::EcdhNistp521, 66),
];

#[test]
fn both_sides_agree_by_every_method() {
    for &kex in Kex::ALL {
        for seed in 0..4 {
            let (client, c) = Ephemeral::generate(kex, &mut rng(seed)).unwrap();
            let (s, secret) = respond(kex, &c, &mut rng(seed + 100)).unwrap();
            assert_eq!((c.len(), s.len()), lengths(kex), "{kex}");
            assert_eq!(
                written(&client.agree(&s).unwrap()),
                written(&secret),
                "{kex}"
            );
        }
    }
}

#[test]
fn each_exchange_has_a_secret_of_its_own() {
    for &kex in Kex::ALL {
        let (_, c) = Ephemeral::generate(kex, &mut rng(1)).unwrap();
        let mut rng = rng(2);
        let (_, first) = respond(kex, &c, &mut rng).unwrap();
        let (_, second) = respond(kex, &c, &mut rng).unwrap();
        assert_ne!(written(&first), written(&second), "{kex}");
    }
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    for &kex in Kex::ALL {
        let run = || {
            let (client, c) = Ephemeral::generate_with(kex, &mut rng(1), &mut Seeded(1)).unwrap();
            let (s, _) = respond_with(kex, &c, &mut rng(2), &mut Seeded(2)).unwrap();
            let secret = written(&client.agree(&s).unwrap());
            (c, s, secret)
        };
        assert_eq!(run(), run(), "{kex}");
        let (_, other) = Ephemeral::generate_with(kex, &mut rng(3), &mut Seeded(1)).unwrap();
        assert_ne!(run().0, other, "{kex}");
    }
}

#[test]
fn the_hashes_are_those_of_the_names() {
    for &kex in Kex::ALL {
        let expected = match kex {
            Kex::EcdhNistp384 => HashKind::Sha384,
            Kex::EcdhNistp521 => HashKind::Sha512,
            _ => HashKind::Sha256,
        };
        assert_eq!(hash_of(kex), expected, "{kex}");
    }
}

// RFC 7748 section 6.1. RFC 8731 section 3.1: the 32 bytes are read with the highest first.
#[test]
fn x25519_gives_the_rfc_s_answer() {
    let alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let kex = Kex::Curve25519Sha256;
    let (client, c) = Ephemeral::generate(kex, &mut Drbg::serving(&alice)).unwrap();
    let (s, secret) = respond(kex, &c, &mut Drbg::serving(&bob)).unwrap();
    assert_eq!(
        c,
        hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    );
    assert_eq!(
        s,
        hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    );
    let k = hex("00000020 4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(written(&secret), k);
    assert_eq!(written(&client.agree(&s).unwrap()), k);
}

// Computed with OpenSSL; K has a top bit set, or a zero in front, in the
// first and the last.
#[test]
fn the_nist_curves_give_openssl_s_answers() {
    let expected = [
        (
            "047a593180860c4037c83c12749845c8ee1424dd297fadcb895e358255d2c7d2b2a8ca25580f2626fe579062ff1b99ff91c24a0da06fb32b5be20148c9249f5650",
            "00000021 00cf5ffbbcdbbe72d521bf33b6ef6b636ef00ddbe34e173b520a016eb91207358b",
        ),
        (
            "04e62a3a94e407b16bff82947b56a30380269da64a130371cb641501d9b90b226a93d2e8c059b26530f025bd8d83d55613cc96e994d700581e2d9785cb2974e5e0a0937e71f09c7b51178b40cadb28e1444e387b9c2b967add040b087157c39836",
            "00000030 6da91c1cfd6cc6bdebda333267e95fcc0e42f161e052a4d83dc60af17e5776dc26d5ba1bd2b174e483de0f4300c9fe09",
        ),
        (
            "040126f7e6a6df7087c94b0c1b0b194a85669ee810fda2eae12ca64160ded6b26c46475ebedcceae4011da8edd5c6394e0b0bd4209a15227f2574656256854a7eb6e4601b9a248cd4017ddd4c2f6cc27cf0a307a1838ee9237913d8a501760b7a638c9573b9a0a08ced30befa7a3c0938bbaaa770a7bc37dd175957cb3a45ebde3c9826eeb",
            "00000042 0093b7f848d6ab0cf0debc43c60c588e644f058fcf72614e6630d221fde49a35ecbb73ab8b913a86f6af8df588f8abaf56d137fb419516b6fe6980ef009d268ad6e8",
        ),
    ];
    for ((kex, len), (share, k)) in CURVES.into_iter().zip(expected) {
        let client = &count::<66>()[..len];
        // What P-521 draws has 7 bits too many, which are dropped.
        let mut drawn = client.to_vec();
        let mut server = count::<68>()[2..2 + len].to_vec();
        if kex == Kex::EcdhNistp521 {
            drawn[0] = 0xfe;
            server = [&[0x80][..], &count::<67>()[2..]].concat();
        }
        let (client, c) = Ephemeral::generate(kex, &mut Drbg::serving(&drawn)).unwrap();
        assert_eq!(c, hex(share), "{kex}");
        let (s, secret) = respond(kex, &c, &mut Drbg::serving(&server)).unwrap();
        assert_eq!(written(&secret), hex(k), "{kex}");
        assert_eq!(written(&client.agree(&s).unwrap()), hex(k), "{kex}");
    }
}

#[test]
fn what_is_no_scalar_is_drawn_again() {
    for (kex, len) in CURVES {
        let fine = &count::<66>()[..len];
        let (_, expected) = Ephemeral::generate(kex, &mut Drbg::serving(fine)).unwrap();
        for bad in [0x00, 0xff] {
            let drawn = [&vec![bad; len][..], fine].concat();
            let (_, share) = Ephemeral::generate(kex, &mut Drbg::serving(&drawn)).unwrap();
            assert_eq!(share, expected, "{kex}");
        }
        let drawn = vec![0; len * ATTEMPTS];
        assert!(Ephemeral::generate(kex, &mut Drbg::serving(&drawn)).is_err());
    }
}

#[test]
fn shares_of_another_length_are_refused() {
    for &kex in Kex::ALL {
        let (c_len, s_len) = lengths(kex);
        let (_, c) = Ephemeral::generate(kex, &mut rng(5)).unwrap();
        let (s, _) = respond(kex, &c, &mut rng(6)).unwrap();
        for len in [
            0,
            1,
            16,
            31,
            33,
            64,
            66,
            c_len - 1,
            c_len + 1,
            s_len - 1,
            s_len + 1,
            9000,
        ] {
            let cut = |share: &[u8]| [share, &[4; 9000]].concat()[..len].to_vec();
            if len != c_len {
                assert!(server_takes(kex, &cut(&c)).is_err(), "{kex} {len}");
            }
            if len != s_len {
                assert!(client_takes(kex, &cut(&s)).is_err(), "{kex} {len}");
            }
        }
        // A client's share is no server's share, and the other way round.
        if c_len != s_len {
            assert!(client_takes(kex, &c).is_err(), "{kex}");
            assert!(server_takes(kex, &s).is_err(), "{kex}");
        }
    }
}

#[test]
fn malformed_points_are_refused() {
    for (kex, len) in CURVES {
        let (_, good) = Ephemeral::generate(kex, &mut rng(7)).unwrap();
        assert!(server_takes(kex, &good).is_ok());
        let mut bad: Vec<(&str, Vec<u8>)> = Vec::new();
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut share = good.clone();
            change(&mut share);
            share
        };
        bad.push(("all zeros", vec![0; good.len()]));
        bad.push(("infinity", vec![0]));
        bad.push(("infinity, padded", changed(&|share| share.fill(0))));
        bad.push(("the origin", changed(&|share| share[1..].fill(0))));
        bad.push(("all ones", changed(&|share| share[1..].fill(0xff))));
        bad.push(("x off the curve", changed(&|share| share[len] ^= 1)));
        bad.push(("y off the curve", changed(&|share| share[2 * len] ^= 1)));
        // With the right sign these are points of the curve in other forms.
        for form in [0, 2, 3, 5, 6, 7] {
            bad.push(("another form", changed(&|share| share[0] = form)));
            bad.push((
                "compressed",
                changed(&|share| {
                    share[0] = form;
                    share.truncate(1 + len);
                }),
            ));
        }
        for (what, share) in bad {
            assert!(server_takes(kex, &share).is_err(), "{kex}: {what}");
            assert!(client_takes(kex, &share).is_err(), "{kex}: {what}");
        }
    }
}

#[test]
fn x25519_points_of_low_order_are_refused() {
    let small = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let hybrid = Kex::MlKem768X25519Sha256;
    let (_, c) = Ephemeral::generate(hybrid, &mut rng(8)).unwrap();
    let (client, _) = Ephemeral::generate(hybrid, &mut rng(8)).unwrap();
    let (s, _) = respond(hybrid, &c, &mut rng(9)).unwrap();
    assert!(client.agree(&s).is_ok());
    for point in small {
        for top in [0, 0x80] {
            let mut point = hex(point);
            // RFC 7748 section 5: the top bit is ignored.
            point[31] |= top;
            for kex in [Kex::Curve25519Sha256, Kex::Curve25519Sha256Libssh] {
                assert!(server_takes(kex, &point).is_err(), "{point:?}");
                assert!(client_takes(kex, &point).is_err(), "{point:?}");
            }
            let c = [&c[..ML_KEM_KEY], &point].concat();
            assert!(server_takes(hybrid, &c).is_err(), "{point:?}");
            let s = [&s[..ML_KEM_CIPHERTEXT], &point].concat();
            assert!(client_takes(hybrid, &s).is_err(), "{point:?}");
        }
    }
}

#[test]
fn ml_kem_keys_that_are_not_reduced_are_refused() {
    let kex = Kex::MlKem768X25519Sha256;
    let (_, good) = Ephemeral::generate(kex, &mut rng(10)).unwrap();
    // Two coefficients of 12 bits are three bytes; the modulus is 3329, 0xd01.
    let with_first = |low: u8, high: u8| {
        let mut share = good.clone();
        share[0] = low;
        share[1] = share[1] & 0xf0 | high;
        share
    };
    assert!(server_takes(kex, &with_first(0x00, 0xd)).is_ok());
    assert!(server_takes(kex, &with_first(0x01, 0xd)).is_err());
    let mut last = good.clone();
    last[1150] |= 0xf0;
    last[1151] = 0xff;
    assert!(server_takes(kex, &last).is_err());
    let mut ones = good;
    ones[..ML_KEM_KEY].fill(0xff);
    assert!(server_takes(kex, &ones).is_err());
}

#[test]
fn a_ciphertext_that_was_tampered_with_gives_another_secret() {
    let kex = Kex::MlKem768X25519Sha256;
    let (client, c) = Ephemeral::generate(kex, &mut rng(11)).unwrap();
    let (mut s, secret) = respond(kex, &c, &mut rng(12)).unwrap();
    s[100] ^= 1;
    assert_ne!(written(&client.agree(&s).unwrap()), written(&secret));
}

/// K of the hybrid, put together by hand.
fn hybrid_k(quantum: &[u8], classic: &Secret) -> Vec<u8> {
    let digest = HashKind::Sha256.digest(&[quantum, classic.expose()]);
    [&[0, 0, 0, 32], digest.as_ref()].concat()
}

#[test]
fn our_client_agrees_with_another_library_s_server() {
    let (client, c) = Ephemeral::generate(Kex::MlKem768X25519Sha256, &mut rng(13)).unwrap();
    let (quantum, classic) = c.split_at(ML_KEM_KEY);
    let key = quantum.try_into().unwrap();
    assert!(mlkem768::validate_public_key(&key));
    let (ciphertext, quantum) = mlkem768::encapsulate(&key, [9; 32]);
    let (key, share) = Curve::X25519.generate(&mut rng(14)).unwrap();
    let k = hybrid_k(&quantum, &Curve::X25519.agree(&key, classic).unwrap());
    let s = [ciphertext.as_ref(), &share].concat();
    assert_eq!(written(&client.agree(&s).unwrap()), k);
}

#[test]
fn our_server_agrees_with_another_library_s_client() {
    let pair = mlkem768::generate_key_pair([7; 64]);
    let (key, share) = Curve::X25519.generate(&mut rng(15)).unwrap();
    let c = [&pair.pk()[..], &share].concat();
    let (s, secret) = respond(Kex::MlKem768X25519Sha256, &c, &mut rng(16)).unwrap();
    let (ciphertext, classic) = s.split_at(ML_KEM_CIPHERTEXT);
    let quantum = mlkem768::decapsulate(pair.private_key(), &ciphertext.try_into().unwrap());
    let k = hybrid_k(&quantum, &Curve::X25519.agree(&key, classic).unwrap());
    assert_eq!(written(&secret), k);
}

#[test]
fn a_waiting_half_is_small_and_can_be_sent() {
    fn shared<T: Send + Sync>() {}
    shared::<Ephemeral>();
    shared::<SharedSecret>();
    assert!(size_of::<Ephemeral>() <= 48, "{}", size_of::<Ephemeral>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_share_makes_either_side_panic(
        share in prop::collection::vec(any::<u8>(), 0..1300),
        kex in prop::sample::select(Kex::ALL),
        fit: bool,
        form: bool,
    ) {
        let mut share = share;
        let (c_len, s_len) = lengths(kex);
        for len in [c_len, s_len] {
            if fit {
                share.resize(len, 0xa5);
            }
            if form && !share.is_empty() {
                share[0] = UNCOMPRESSED;
            }
            let fits = (share.len() == c_len, share.len() == s_len);
            prop_assert!(fits.0 || server_takes(kex, &share).is_err());
            prop_assert!(fits.1 || client_takes(kex, &share).is_err());
            let _ = (server_takes(kex, &share), client_takes(kex, &share));
        }
    }

    #[test]
    fn both_sides_agree_for_any_seeds(client: [u8; 32], server: [u8; 32], kex in prop::sample::select(Kex::ALL)) {
        let (half, c) = Ephemeral::generate(kex, &mut Drbg::new(Seed::new(client))).unwrap();
        let (s, secret) = respond(kex, &c, &mut Drbg::new(Seed::new(server))).unwrap();
        prop_assert_eq!(written(&half.agree(&s).unwrap()), written(&secret));
    }
}
