//! libFuzzer's shell around `fuzz::formats::trace`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::formats::trace(data));
