//! libFuzzer's shell around `fuzz::formats::private_key`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::formats::private_key(data));
