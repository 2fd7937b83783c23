//! Received data.

pub(crate) const fn count_copy(_len: usize) {}
