//! Packets: bytes on the wire to payloads and back (RFC 4253 sections 4.2 and 6).
//!
//! In: bytes of the peer in an [`Input`], and payloads of ours. Out: payloads of the peer, decrypted in
//! place, and sealed bytes. Nothing here knows what a message means.

pub(crate) mod draft;
pub(crate) mod ident;
pub(crate) mod input;
pub(crate) mod keys;
pub(crate) mod opener;
pub(crate) mod output;
pub(crate) mod sealer;

pub use draft::Draft;
pub use input::Input;

#[cfg(test)]
mod tests;
