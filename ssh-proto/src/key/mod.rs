//! Keys: public and private, their formats, their fingerprints, generation.
#![expect(missing_docs, dead_code, reason = "in the making")]
use crate::names::SignatureAlgorithm;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    blob: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyError;

impl PublicKey {
    pub fn from_blob(_blob: &[u8]) -> Result<Self, KeyError> {
        Err(KeyError)
    }
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
    pub fn key_type(&self) -> &str {
        ""
    }
    pub fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        &[]
    }
    pub fn verify(&self, _a: SignatureAlgorithm, _m: &[u8], _s: &[u8]) -> Result<(), KeyError> {
        Err(KeyError)
    }
}

#[derive(Debug, Clone)]
pub struct PrivateKey {
    public: PublicKey,
}

impl PrivateKey {
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
    pub fn sign(&self, _a: SignatureAlgorithm, _m: &[u8]) -> Result<Vec<u8>, KeyError> {
        Err(KeyError)
    }
}
