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
