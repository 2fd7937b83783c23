//! The facade: every public method of a connection. Each only delegates: to the spine, or to the layer it is about.

pub(crate) mod cx;
pub(crate) mod role;
