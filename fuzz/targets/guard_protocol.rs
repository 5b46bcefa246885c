//! See `fuzz::guard_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::guard_protocol(bytes));
