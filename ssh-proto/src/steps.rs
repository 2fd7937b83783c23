//! Counts work, where the library is tested (feature `step-counter`), and is nothing otherwise: so a test sees work that is
//! out of proportion to what came, where a clock would only guess.
//!
//! A step is one turn of a loop whose length the peer decides, or 64 bytes that were looked at, moved or opened.

/// So many bytes are a step.
#[cfg(any(test, feature = "step-counter"))]
const BYTES: usize = 64;

#[cfg(not(any(test, feature = "step-counter")))]
pub(crate) const fn count_turn() {}
#[cfg(not(any(test, feature = "step-counter")))]
pub(crate) const fn count_bytes(_len: usize) {}

#[cfg(any(test, feature = "step-counter"))]
pub(crate) use counter::{count_bytes, count_turn};

/// The step counter of this thread. For tests.
#[cfg_attr(
    not(feature = "step-counter"),
    expect(unreachable_pub, reason = "public with the feature")
)]
#[cfg(any(test, feature = "step-counter"))]
pub mod counter {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    fn count(steps: usize) {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        STEPS.with(|all| all.set(all.get().saturating_add(steps)));
    }

    pub(crate) fn count_turn() {
        count(1);
    }

    pub(crate) fn count_bytes(len: usize) {
        count(len.div_ceil(super::BYTES));
    }

    /// The steps that this thread has made so far.
    #[cfg_attr(
        not(feature = "step-counter"),
        expect(dead_code, reason = "it is for other crates")
    )]
    pub fn steps() -> u64 {
        STEPS.with(Cell::get)
    }
}
