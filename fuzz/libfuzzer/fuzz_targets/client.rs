//! libFuzzer's shell around `fuzz::session::client`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::client(data));
