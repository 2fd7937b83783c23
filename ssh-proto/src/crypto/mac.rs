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
    use super::super::hash::HashKind;
    use super::super::testing::{count, hex};
    use super::*;
    use crate::names::Algorithm;
    use proptest::prelude::*;

    fn key(mac: Mac) -> MacKey {
        MacKey::new(mac, &count::<64>()[..MacKey::key_len(mac)]).unwrap()
    }

    /// A key as long as SSH's that does what `key` does. RFC 2104 section 2: a key longer than a block of the hash is
    /// hashed first, and zeros are put behind a shorter one.
    fn as_long_as_the_hash(mac: Mac, key: &[u8]) -> Vec<u8> {
        let (hash, block) = match mac {
            Mac::HmacSha256 | Mac::HmacSha256Etm => (HashKind::Sha256, 64),
            Mac::HmacSha512 | Mac::HmacSha512Etm => (HashKind::Sha512, 128),
        };
        let mut same = if key.len() > block {
            hash.digest(&[key]).to_vec()
        } else {
            key.to_vec()
        };
        same.resize(MacKey::key_len(mac), 0);
        same
    }

    // Section 4, test cases 1 to 7. None of its keys is as long as the hash, so none is a key of the door's: the keys
    // here are those that HMAC itself makes of them. The first four bytes of the data are the sequence number.
    #[test]
    fn the_hmac_is_that_of_rfc_4231() {
        let counted: Vec<u8> = (1..=25).collect();
        let cases: [(&[u8], &[u8], [&str; 2]); 7] = [
            (
                &[0x0b; 20],
                b"Hi There",
                [
                    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
                    "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde
                     daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
                ],
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                [
                    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
                    "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554
                     9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
                ],
            ),
            (
                &[0xaa; 20],
                &[0xdd; 50],
                [
                    "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
                    "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39
                     bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
                ],
            ),
            (
                &counted,
                &[0xcd; 50],
                [
                    "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
                    "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db
                     a91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
                ],
            ),
            // The one whose tag is cut off.
            (
                &[0x0c; 20],
                b"Test With Truncation",
                [
                    "a3b6167473100ee06e0c796c2955552b",
                    "415fad6271580a531d4179bc891d87a6",
                ],
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                [
                    "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
                    "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352
                     6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
                ],
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. \
                  The key needs to be hashed before being used by the HMAC algorithm.",
                [
                    "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
                    "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944
                     b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
                ],
            ),
        ];
        for (key, data, expected) in cases {
            for &mac in Mac::ALL {
                assert!(MacKey::new(mac, key).is_none(), "{mac}");
                let key = MacKey::new(mac, &as_long_as_the_hash(mac, key)).unwrap();
                let (sequence, packet) = data.split_first_chunk().unwrap();
                let sequence = u32::from_be_bytes(*sequence);
                let tag = hex(expected[usize::from(MacKey::len(mac) == 64)]);
                let whole = tag.len() == MacKey::len(mac);
                assert!(
                    key.sign(sequence, packet).as_ref().starts_with(&tag),
                    "{mac}"
                );
                assert_eq!(key.verify(sequence, packet, &tag), whole, "{mac}");
            }
        }
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
