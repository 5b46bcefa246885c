//! See `fuzz::dns_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::dns_packet(bytes));
