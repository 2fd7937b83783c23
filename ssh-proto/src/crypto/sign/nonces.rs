//! The nonces of our ECDSA signatures. They are the library's, and a few bits of each that are not random tell the private
//! key (CVE-2024-31497 had nine zero bits in those of P-521). With the private key each nonce can be computed: k = (h + r d) / s.

use aws_lc_rs::agreement::{self, PrivateKey};
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Resize};

use super::super::testing::hex;
use super::*;

/// Enough that a bit which is one more often than 54 times in 100 is noticed.
const SIGNATURES: usize = 10_000;

struct Case {
    curve: Curve,
    agreement: &'static agreement::Algorithm,
    hash: &'static digest::Algorithm,
    order: &'static str,
    bits: usize,
}

#[test]
fn the_nonces_of_ecdsa_have_no_bit_that_is_not_random() {
    let cases = [
        Case {
            curve: Curve::P256,
            agreement: &agreement::ECDH_P256,
            hash: &digest::SHA256,
            order: "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
            bits: 256,
        },
        Case {
            curve: Curve::P384,
            agreement: &agreement::ECDH_P384,
            hash: &digest::SHA384,
            order: "ffffffffffffffffffffffffffffffffffffffffffffffff
                    c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
            bits: 384,
        },
        Case {
            curve: Curve::P521,
            agreement: &agreement::ECDH_P521,
            hash: &digest::SHA512,
            order: "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa
                    51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
            bits: 521,
        },
    ];
    for case in cases {
        let len = case.order.split_whitespace().collect::<String>().len() / 2;
        let order = hex(case.order);
        let mut scalar = vec![0x5a; len];
        scalar[0] = 0;
        let key = PrivateKey::from_private_key(case.agreement, &scalar).unwrap();
        let point = key.compute_public_key().unwrap();
        let signer = Signer::ecdsa(case.curve, &scalar, point.as_ref()).unwrap();

        let modulus = BoxedUint::from_be_slice_vartime(&order);
        let params = BoxedMontyParams::new_vartime(modulus.clone().into_odd().unwrap());
        let number = |bytes: &[u8]| {
            let number = BoxedUint::from_be_slice_vartime(bytes).resize(params.bits_precision());
            // A digest may be as long as the order, and larger.
            let number = if number >= modulus {
                number.wrapping_sub(&modulus)
            } else {
                number
            };
            BoxedMontyForm::new(number, &params)
        };
        let d = number(&scalar);
        let mut ones = vec![0; case.bits];
        for i in 0..SIGNATURES {
            let message = i.to_be_bytes();
            let signature = signer.sign(RsaHash::Sha256, &message).unwrap();
            let (r, s) = signature.split_at(len);
            let h = number(digest(case.hash, &message).as_ref());
            let k = (h + number(r) * &d) * number(s).invert().unwrap();
            let k = k.retrieve().to_be_bytes();
            let k = &k[k.len() - len..];
            if i == 0 {
                // It is the nonce: r is the x coordinate of its point.
                let key = PrivateKey::from_private_key(case.agreement, k).unwrap();
                let point = key.compute_public_key().unwrap();
                assert_eq!(&point.as_ref()[1..=len], r);
            }
            for (bit, ones) in ones.iter_mut().enumerate() {
                let from_end = case.bits - 1 - bit;
                *ones += usize::from(k[len - 1 - from_end / 8] >> (from_end % 8) & 1);
            }
        }
        // Half of them, give or take eight times the standard deviation: 50.
        let expected = SIGNATURES / 2 - 400..SIGNATURES / 2 + 400;
        for (bit, ones) in ones.into_iter().enumerate() {
            assert!(
                expected.contains(&ones),
                "bit {bit} of {} bits: {ones} ones in {SIGNATURES}",
                case.bits
            );
        }
    }
}
