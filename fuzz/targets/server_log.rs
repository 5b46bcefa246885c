//! See `fuzz::server_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::server_log(bytes));
