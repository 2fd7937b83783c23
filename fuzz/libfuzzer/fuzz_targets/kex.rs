//! libFuzzer's shell around `fuzz::session::kex`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::kex(data));
