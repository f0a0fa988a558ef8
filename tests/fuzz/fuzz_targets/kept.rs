//! The target `kept`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::fuzz::kept(input));
