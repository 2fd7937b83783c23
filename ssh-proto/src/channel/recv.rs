//! Received data.

pub(crate) const fn count_copy(_len: usize) {}
pub(crate) const fn count_moved(_len: usize) {}
