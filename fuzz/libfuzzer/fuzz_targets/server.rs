//! libFuzzer's shell around `fuzz::session::server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::server(data));
