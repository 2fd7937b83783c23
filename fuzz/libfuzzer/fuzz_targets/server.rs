//! libFuzzer's shell around `fuzz::session::server`.

#![no_main]

meter::count_heap!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::server(data));
