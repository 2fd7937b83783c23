//! The heap of this process, as its allocator counts it.

use crate::INSTRUMENTED_SYSTEM;

/// Makes a program count its heap. Once, in the file of the program or test.
#[macro_export]
macro_rules! count_heap {
    () => {
        #[global_allocator]
        static COUNTING: &$crate::StatsAlloc<std::alloc::System> = &$crate::INSTRUMENTED_SYSTEM;
    };
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heap {
    /// Bytes in use.
    pub live: i64,
    /// All bytes that were ever asked for; those that memory grew by are among them.
    pub allocated: u64,
    /// How often memory was asked for.
    pub allocations: u64,
}

/// The counters now.
pub fn heap() -> Heap {
    let stats = INSTRUMENTED_SYSTEM.stats();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (allocated, freed) = (
        number(stats.bytes_allocated),
        number(stats.bytes_deallocated),
    );
    Heap {
        live: allocated.cast_signed().wrapping_sub(freed.cast_signed()),
        allocated,
        allocations: number(stats.allocations).wrapping_add(number(stats.reallocations)),
    }
}

/// Whether this program counts at all.
pub fn is_counting() -> bool {
    heap().allocated > 0
}
