//! The exchange hash and the keys that follow from it (RFC 4253 sections 7.2 and 8).

use crate::crypto::agree::{SharedSecret, hash_of};
use crate::crypto::cipher;
use crate::crypto::hash::{Digest, Hasher};
use crate::crypto::mac::MacKey;
use crate::kex::negotiate::{DirectionAlgorithms, Negotiated};
use crate::names::Kex;
use crate::packet::keys::DirectionKeys;
use crate::secret::Secret;
use crate::wire::Writer;

/// Everything that both sides said, in the order in which it is hashed.
pub(crate) struct Transcript<'a> {
    pub(crate) client_version: &'a [u8],
    pub(crate) server_version: &'a [u8],
    pub(crate) client_kexinit: &'a [u8],
    pub(crate) server_kexinit: &'a [u8],
    pub(crate) host_key: &'a [u8],
    pub(crate) client_share: &'a [u8],
    pub(crate) server_share: &'a [u8],
}

impl Transcript<'_> {
    /// `H` of RFC 5656 section 4: the strings above, then `K`.
    pub(crate) fn hash(&self, kex: Kex, secret: &SharedSecret) -> Digest {
        let mut hasher = Hasher::new(hash_of(kex));
        for part in [
            self.client_version,
            self.server_version,
            self.client_kexinit,
            self.server_kexinit,
            self.host_key,
            self.client_share,
            self.server_share,
        ] {
            // Without a copy: a peer's KEXINIT may fill a packet.
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            hasher.update(&len.to_be_bytes());
            hasher.update(part);
        }
        let encoded = encoded(secret);
        hasher.update(encoded.expose());
        hasher.finish()
    }
}

/// Derives the keys of both directions.
pub(crate) struct KeySource {
    kex: Kex,
    secret: Secret,
    hash: Digest,
    session_id: Digest,
}

impl KeySource {
    pub(crate) fn new(kex: Kex, secret: &SharedSecret, hash: Digest, session_id: Digest) -> Self {
        Self {
            kex,
            secret: encoded(secret),
            hash,
            session_id,
        }
    }

    /// The keys from client to server: letters A, C and E.
    pub(crate) fn client_to_server(&self, negotiated: &Negotiated) -> DirectionKeys {
        self.direction(&negotiated.client_to_server, [b'A', b'C', b'E'])
    }

    /// The keys from server to client: letters B, D and F.
    pub(crate) fn server_to_client(&self, negotiated: &Negotiated) -> DirectionKeys {
        self.direction(&negotiated.server_to_client, [b'B', b'D', b'F'])
    }

    fn direction(
        &self,
        algorithms: &DirectionAlgorithms,
        [iv, key, mac]: [u8; 3],
    ) -> DirectionKeys {
        DirectionKeys {
            cipher: algorithms.cipher,
            mac: algorithms.mac,
            iv: self.derive(iv, cipher::iv_len(algorithms.cipher)),
            key: self.derive(key, cipher::key_len(algorithms.cipher)),
            mac_key: self.derive(mac, algorithms.mac.map_or(0, MacKey::key_len)),
        }
    }

    /// RFC 4253 section 7.2: K1 = HASH(K || H || X || session_id), K2 = HASH(K || H || K1), ..
    fn derive(&self, letter: u8, len: usize) -> Secret {
        // All the room at once: growing would leave copies of the key behind.
        let mut key = Vec::with_capacity(len.saturating_add(64));
        while key.len() < len {
            let mut hasher = Hasher::new(hash_of(self.kex));
            hasher.update(self.secret.expose());
            hasher.update(&self.hash);
            if key.is_empty() {
                hasher.update(&[letter]);
                hasher.update(&self.session_id);
            } else {
                hasher.update(&key);
            }
            key.extend_from_slice(&hasher.finish());
        }
        let mut key = Secret::new(key);
        key.truncate(len);
        key
    }
}

fn encoded(secret: &SharedSecret) -> Secret {
    let mut encoded = Vec::with_capacity(128);
    secret.write(&mut Writer::new(&mut encoded));
    Secret::new(encoded)
}
