//! What a connection costs: heap, work and output, held against what came over the wire. The oracle that fuzz targets,
//! worlds, mutated recordings and tests share.
//!
//! The heap is counted where a program has [`count_heap!`] in it. The counters are the process's, so what is measured must
//! run alone. Steps are counted with the feature `steps`, by thread.

mod connection;
mod heap;

pub use connection::{Cost, Usage};
pub use heap::{Heap, heap, is_counting};

#[doc(hidden)]
pub use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Steps of work that this thread has made in `ssh-proto`; always 0 without the feature `steps`.
pub fn steps() -> u64 {
    #[cfg(feature = "steps")]
    return ssh_proto::step_counter::steps();
    #[cfg(not(feature = "steps"))]
    0
}
