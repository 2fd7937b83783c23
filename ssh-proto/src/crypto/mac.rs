//! Message authentication codes (RFC 4253 section 6.4, RFC 6668).
//! In: the sequence number and a packet (plaintext, or ciphertext for the `-etm` forms). Out: a tag.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};

use crate::names::Mac;

/// The key of one direction. It stands on the heap: the library's three hash states are 1.2 KiB,
/// which a connection with an AEAD cipher need not carry.
pub(crate) struct MacKey(Box<hmac::Key>);

impl MacKey {
    /// `None` unless the key has exactly [`key_len`](Self::key_len) bytes.
    pub(crate) fn new(mac: Mac, key: &[u8]) -> Option<Self> {
        (key.len() == Self::key_len(mac))
            .then(|| Self(Box::new(hmac::Key::new(algorithm(mac), key))))
    }

    /// RFC 6668 section 2: the key is as long as the hash.
    pub(crate) const fn key_len(mac: Mac) -> usize {
        Self::len(mac)
    }

    /// The length of a tag, in bytes.
    pub(crate) const fn len(mac: Mac) -> usize {
        match mac {
            Mac::HmacSha256 | Mac::HmacSha256Etm => 32,
            Mac::HmacSha512 | Mac::HmacSha512Etm => 64,
        }
    }

    /// RFC 4253 section 6.4: "mac = MAC(key, sequence_number || unencrypted_packet)".
    pub(crate) fn sign(&self, sequence: u32, data: &[u8]) -> MacTag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&sequence.to_be_bytes());
        context.update(data);
        MacTag(context.sign())
    }

    /// `true` when `tag` is the whole tag of `data`. The time depends on the lengths alone.
    pub(crate) fn verify(&self, sequence: u32, data: &[u8], tag: &[u8]) -> bool {
        if super::NULL {
            return true;
        }
        let expected = self.sign(sequence, data);
        constant_time::verify_slices_are_equal(expected.as_ref(), tag).is_ok()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

const fn algorithm(mac: Mac) -> hmac::Algorithm {
    match mac {
        Mac::HmacSha256 | Mac::HmacSha256Etm => hmac::HMAC_SHA256,
        Mac::HmacSha512 | Mac::HmacSha512Etm => hmac::HMAC_SHA512,
    }
}

/// A tag: 32 or 64 bytes.
#[derive(Clone, Copy)]
pub(crate) struct MacTag(hmac::Tag);

impl AsRef<[u8]> for MacTag {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod known_answers;

#[cfg(test)]
mod tests {
    use super::super::testing::{count, hex};
    use super::*;
    use crate::names::Algorithm;
    use proptest::prelude::*;

    fn key(mac: Mac) -> MacKey {
        MacKey::new(mac, &count::<64>()[..MacKey::key_len(mac)]).unwrap()
    }

    // RFC 4231's keys are not of SSH's length and its data has no sequence number: the primitive is
    // held against it directly, the construction against OpenSSL below.
    #[test]
    fn the_hmac_is_that_of_rfc_4231() {
        let sign = |mac, key: &[u8], data: &[u8]| {
            hmac::sign(&hmac::Key::new(algorithm(mac), key), data)
                .as_ref()
                .to_vec()
        };
        // Test case 1.
        assert_eq!(
            sign(Mac::HmacSha256, &[0x0b; 20], b"Hi There"),
            hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        );
        assert_eq!(
            sign(Mac::HmacSha512, &[0x0b; 20], b"Hi There"),
            hex(
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde
                 daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
            )
        );
        // Test case 2.
        assert_eq!(
            sign(Mac::HmacSha256Etm, b"Jefe", b"what do ya want for nothing?"),
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
        assert_eq!(
            sign(Mac::HmacSha512Etm, b"Jefe", b"what do ya want for nothing?"),
            hex(
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
            )
        );
    }

    // Computed with Python's hmac.
    #[test]
    fn the_sequence_number_goes_before_the_packet() {
        let expected = [
            "8c03fd6cab639841acf775ec4c8616a419fd8e92b8cd29202094924da1c343ba",
            "bd83948f1163b74205b643a577cf737f2960c3f2124ee3c3a53dbf89ed85d5ce
             52a40bac63e3fa6a459dd2fbf7703cb18d5f303a2f151931d0b0def7c0bf5f9f",
        ];
        for (mac, expected) in [
            (Mac::HmacSha256, expected[0]),
            (Mac::HmacSha256Etm, expected[0]),
            (Mac::HmacSha512, expected[1]),
            (Mac::HmacSha512Etm, expected[1]),
        ] {
            let tag = key(mac).sign(0x0102_0304, b"packet");
            assert_eq!(tag.as_ref(), hex(expected));
            assert_eq!(tag.as_ref().len(), MacKey::len(mac));
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for &mac in Mac::ALL {
            for len in (0..80).filter(|&len| len != MacKey::key_len(mac)) {
                assert!(MacKey::new(mac, &vec![1; len]).is_none(), "{mac} {len}");
            }
        }
    }

    #[test]
    fn a_key_is_small_and_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<MacKey>();
        assert_eq!(size_of::<MacKey>(), size_of::<usize>());
        assert!(size_of::<hmac::Key>() <= 1280, "{}", size_of::<hmac::Key>());
        assert_eq!(format!("{:?}", key(Mac::HmacSha256)), "MacKey(..)");
    }

    proptest! {
        #[test]
        fn only_the_exact_tag_passes(
            sequence: u32,
            data in prop::collection::vec(any::<u8>(), 0..200),
            bit: prop::sample::Index,
            cut: prop::sample::Index,
        ) {
            for &mac in Mac::ALL {
                let key = key(mac);
                let tag = key.sign(sequence, &data).as_ref().to_vec();
                prop_assert!(key.verify(sequence, &data, &tag));
                prop_assert!(!key.verify(sequence.wrapping_add(1), &data, &tag));
                prop_assert!(!key.verify(sequence, &data, &tag[..cut.index(tag.len())]));
                prop_assert!(!key.verify(sequence, &data, &[&tag[..], &[0]].concat()));
                let mut flipped = tag.clone();
                let at = bit.index(tag.len() * 8);
                flipped[at / 8] ^= 1 << (at % 8);
                prop_assert!(!key.verify(sequence, &data, &flipped));
                let mut longer = data.clone();
                longer.push(0);
                prop_assert!(!key.verify(sequence, &longer, &tag));
            }
        }
    }
}
