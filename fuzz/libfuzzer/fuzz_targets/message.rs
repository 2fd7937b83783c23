//! libFuzzer's shell around `fuzz::formats::message`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::formats::message(data));
