//! The facade: every public method, each of which only delegates.

pub(crate) mod cx;
pub(crate) mod role;
