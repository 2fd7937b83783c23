//! libFuzzer's shell around `fuzz::formats::trace`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::formats::trace(data));
