//! Bytes that must not outlive their use (rule 9 of the house): wiped on drop, never printed.

use std::fmt;
use zeroize::Zeroize;

/// Secret bytes: a password, a private key, a shared secret.
///
/// They are overwritten when the value is dropped, [`Debug`](fmt::Debug) shows nothing of them, and
/// comparing two takes a time that depends on their lengths alone. Copies that the compiler makes
/// on the stack, and memory that a caller copied them from, are beyond its reach.
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes over. Their buffer is not reallocated, so nothing is left behind.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Keeps the first `len` bytes and wipes the others.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.get_mut(len..).unwrap_or_default().zeroize();
        self.0.truncate(len);
    }

    /// How many bytes there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// `true` when there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.expose(), other.expose()).into()
    }
}

impl Eq for Secret {}
