//! Runs a target on an input, and holds it to the memory that it may use.

use meter::{heap, is_counting};

use crate::Target;

/// What a target may leave behind: what is made once for all, such as the tables of the cryptographic library.
const LEFT: i64 = 8 * 1024;

/// Runs it, and says what is wrong. Where the heap is counted ([`meter::count_heap!`]) nothing else may run meanwhile.
///
/// # Errors
/// The words of the panic.
pub fn run(target: Target, data: &[u8]) -> Result<(), String> {
    let before = heap().live;
    let result = std::panic::catch_unwind(|| target(data));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })?;
    let left = heap().live - before;
    if is_counting() && left > LEFT {
        return Err(format!("it leaves {left} bytes behind"));
    }
    Ok(())
}
