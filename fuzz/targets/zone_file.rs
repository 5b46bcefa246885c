//! See `fuzz::zone_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::zone_file(bytes));
