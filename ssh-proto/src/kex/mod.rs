//! Key exchange without its messages: negotiation, the exchange hash, the keys (RFC 4253 sections 7 and 8).

pub(crate) mod exchange;
pub(crate) mod negotiate;

pub use negotiate::{DirectionAlgorithms, Negotiated};
