//! See `fuzz::peer_sequence`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::peer_sequence(bytes));
