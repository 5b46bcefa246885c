//! See `fuzz::agent_report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::agent_report(bytes));
