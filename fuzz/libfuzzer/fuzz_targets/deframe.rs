//! libFuzzer's shell around `fuzz::session::deframe`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::deframe(data));
