//! libFuzzer's shell around `fuzz::session::mitm`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::mitm(data));
