use std::time::Instant;

/// Some instant: what it is does not matter.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to make one"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}
