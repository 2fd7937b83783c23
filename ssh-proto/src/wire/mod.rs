//! Data type representations of the SSH protocol (RFC 4251 section 5).
//!
//! [`Reader`] takes the bytes of a message apart without copying them and without a way to panic;
//! [`Writer`] puts them together. Every layer above (messages, keys, files) is built on these two.

mod reader;
mod writer;

pub use reader::{Malformed, NameList, Reader};
pub use writer::Writer;

#[cfg(test)]
mod tests;
