//! libFuzzer's shell around `fuzz::formats::socks`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::formats::socks(data));
