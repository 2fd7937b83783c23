//! SHA-2: the hashes of the exchange hash, the key derivation and the signatures (RFC 6234).
//! In: parts of a message. Out: a [`Digest`].

use std::fmt;
use std::ops::Deref;

use aws_lc_rs::digest;
use zeroize::Zeroize;

/// Which hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HashKind {
    Sha256,
    Sha384,
    Sha512,
}

impl HashKind {
    /// The digest of the parts, one behind the other.
    pub(crate) fn digest(self, parts: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::new(self);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A hash of what is yet to come in full.
#[derive(Clone)]
pub(crate) struct Hasher(digest::Context);

impl Hasher {
    pub(crate) fn new(kind: HashKind) -> Self {
        Self(digest::Context::new(kind.algorithm()))
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::new(self.0.finish().as_ref())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(..)")
    }
}

/// What a hash gives: 32, 48 or 64 bytes.
///
/// It compares in variable time and is not wiped by itself: a digest that is a secret is compared by
/// other means, and ends with [`wipe`](Self::wipe).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    bytes: [u8; MAX],
    len: u8,
}

const MAX: usize = 64;

impl Digest {
    fn new(digest: &[u8]) -> Self {
        let mut bytes = [0; MAX];
        let mut len = 0u8;
        for (to, from) in bytes.iter_mut().zip(digest) {
            *to = *from;
            len = len.saturating_add(1);
        }
        Self { bytes, len }
    }

    /// Overwrites the bytes of a digest that is a secret.
    pub(crate) fn wipe(&mut self) {
        self.bytes.zeroize();
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Deref for Digest {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;
    use proptest::prelude::*;

    const ALL: [HashKind; 3] = [HashKind::Sha256, HashKind::Sha384, HashKind::Sha512];

    // FIPS 180-4's examples.
    #[test]
    fn the_digests_are_those_of_the_standard() {
        let abc = [
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ];
        for (kind, expected) in ALL.into_iter().zip(abc) {
            let digest = kind.digest(&[b"a", b"", b"bc"]);
            assert_eq!(digest.as_ref(), hex(expected));
            assert_eq!(format!("{digest:?}"), expected);
        }
        assert_eq!(
            HashKind::Sha256.digest(&[]).as_ref(),
            hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
    }

    // RFC 6234 section 8.5: tests 2 to 4 of each hash. They are longer than a block, end where the length no longer fits
    // behind the message, fill blocks exactly, and come in parts.
    #[test]
    fn messages_longer_than_a_block_hash_as_in_rfc_6234() {
        let million = [b'a'; 1_000_000];
        let eights = b"01234567".repeat(80);
        let of_512 = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let of_1024 = b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn\
                        hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
        let cases: [(HashKind, &[u8], [&str; 3]); 3] = [
            (
                HashKind::Sha256,
                of_512,
                [
                    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
                    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
                    "594847328451bdfa85056225462cc1d867d877fb388df0ce35f25ab5562bfbb5",
                ],
            ),
            (
                HashKind::Sha384,
                of_1024,
                [
                    "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712fcc7c71a557e2db966c3e9fa91746039",
                    "9d0e1809716474cb086e834e310a4a1ced149e9c00f248527972cec5704c2a5b07b8b3dc38ecc4ebae97ddd87f3d8985",
                    "2fc64a4f500ddb6828f6a3430b8dd72a368eb7f3a8322a70bc84275b9c0b3ab00d27a5cc3c2d224aa6b61a0d79fb4596",
                ],
            ),
            (
                HashKind::Sha512,
                of_1024,
                [
                    "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018
                     501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909",
                    "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb
                     de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b",
                    "89d05ba632c699c31231ded4ffc127d5a894dad412c0e024db872d1abd2ba814
                     1a0f85072a9be1e2aa04cf33c765cb510813a39cd5a84c4acaa64d3f3fb7bae9",
                ],
            ),
        ];
        for (kind, two, expected) in cases {
            for (message, digest) in [two, &million, &eights].into_iter().zip(expected) {
                for part in [message.len(), 64, 999] {
                    let parts: Vec<_> = message.chunks(part).collect();
                    assert_eq!(kind.digest(&parts).as_ref(), hex(digest), "{kind:?} {part}");
                }
            }
        }
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let mut one = Hasher::new(HashKind::Sha512);
        one.update(b"common");
        let mut two = one.clone();
        one.update(b"1");
        two.update(b"2");
        assert_eq!(one.finish(), HashKind::Sha512.digest(&[b"common1"]));
        assert_eq!(two.finish(), HashKind::Sha512.digest(&[b"common2"]));
    }

    #[test]
    fn a_wiped_digest_holds_nothing() {
        let mut digest = HashKind::Sha384.digest(&[b"x"]);
        digest.wipe();
        assert_eq!(digest.bytes, [0; MAX]);
    }

    proptest! {
        #[test]
        fn parts_hash_as_their_whole(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6)) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            for kind in ALL {
                prop_assert_eq!(kind.digest(&slices), kind.digest(&[&parts.concat()]));
            }
        }
    }
}
