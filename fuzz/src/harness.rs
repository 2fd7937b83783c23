//! Runs a target on an input, and holds it to the memory that it may use.

use meter::{heap, is_counting};

use crate::Target;

/// What a target may leave behind, in bytes.
const LEFT: i64 = 4 * 1024;
/// So often an input that leaves memory behind is tried: what is made once for all, such as the tables of a library, is
/// not made again, and what other threads of the process allocate meanwhile is counted once. A leak is there every time.
const TRIES: usize = 4;

/// Runs it, and says what is wrong.
///
/// # Errors
/// The words of the panic, or how much memory is left behind each time, where the heap is counted
/// ([`meter::count_heap!`]).
pub fn run(target: Target, data: &[u8]) -> Result<(), String> {
    let mut left = 0;
    for _ in 0..TRIES {
        let before = heap().live;
        let result = std::panic::catch_unwind(|| target(data));
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default()
        })?;
        left = heap().live - before;
        if !is_counting() || left <= LEFT {
            return Ok(());
        }
    }
    Err(format!("it leaves {left} bytes behind"))
}
