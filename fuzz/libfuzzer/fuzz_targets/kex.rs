//! libFuzzer's shell around `fuzz::session::kex`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::kex(data));
