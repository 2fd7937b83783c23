//! curve25519-sha256 (RFC 8731) and aes128-gcm@openssh.com (RFC 5647), apart from the library's own.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest::{SHA256, digest};
use ssh_proto::wire::Writer;

/// A value of one exchange.
pub(super) struct Share {
    private: PrivateKey,
    public: Vec<u8>,
}

impl Share {
    pub(super) fn new(private: [u8; 32]) -> Self {
        let private = PrivateKey::from_private_key(&X25519, &private).expect("32 bytes");
        let public = private.compute_public_key().expect("a value");
        Self {
            private,
            public: public.as_ref().to_vec(),
        }
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// `K`, as an mpint.
    pub(super) fn agree(&self, peer: &[u8]) -> Vec<u8> {
        let peer = UnparsedPublicKey::new(&X25519, peer);
        agree(&self.private, peer, (), |secret| {
            let mut encoded = Vec::new();
            Writer::new(&mut encoded).mpint(secret);
            Ok(encoded)
        })
        .expect("a value of a curve")
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let digest = digest(&SHA256, &parts.concat());
    digest.as_ref().try_into().expect("32 bytes")
}

/// `H` of RFC 5656 section 4.
pub(super) fn hash(strings: [&[u8]; 7], secret: &[u8]) -> [u8; 32] {
    let mut text = Vec::new();
    let mut writer = Writer::new(&mut text);
    for string in strings {
        writer.string(string);
    }
    sha256(&[&text, secret])
}

/// What an exchange came to.
pub(super) struct Agreed {
    pub(super) secret: Vec<u8>,
    pub(super) hash: [u8; 32],
    pub(super) id: [u8; 32],
}

impl Agreed {
    /// The keys of one direction (RFC 4253 section 7.2).
    pub(super) fn keys(&self, from_server: bool) -> Keys {
        let [iv, key] = if from_server {
            [b"B", b"D"]
        } else {
            [b"A", b"C"]
        };
        let derive = |letter: &[u8; 1]| sha256(&[&self.secret, &self.hash, letter, &self.id]);
        let (iv, key) = (derive(iv), derive(key));
        let key = UnboundKey::new(&AES_128_GCM, &key[..16]).expect("16 bytes");
        Keys {
            key: LessSafeKey::new(key),
            nonce: iv[..12].try_into().expect("12 bytes"),
        }
    }
}

/// The keys of one direction.
pub(super) struct Keys {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Keys {
    /// RFC 5647 section 7.1: the last eight bytes of the nonce count.
    fn nonce(&mut self) -> Nonce {
        let nonce = self.nonce;
        let (_, counter) = self.nonce.split_at_mut(4);
        let next = u64::from_be_bytes((&*counter).try_into().expect("8 bytes")).wrapping_add(1);
        counter.copy_from_slice(&next.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a packet, its length in front; gives the tag.
    pub(super) fn seal(&mut self, packet: &mut [u8]) -> [u8; 16] {
        let nonce = self.nonce();
        let (length, body) = packet.split_at_mut(4);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*length), body);
        tag.expect("it can be sealed")
            .as_ref()
            .try_into()
            .expect("16 bytes")
    }

    /// Opens a packet with its length in front and its tag behind.
    pub(super) fn open(&mut self, packet: &mut [u8]) {
        let nonce = self.nonce();
        let (length, body) = packet.split_at_mut(4);
        self.key
            .open_in_place(nonce, Aad::from(&*length), body)
            .expect("what the victim seals can be opened");
    }
}
