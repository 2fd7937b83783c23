//! libFuzzer's shell around `fuzz::formats::public_key`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::formats::public_key(data));
