//! The target `corefiles`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::fuzz::corefiles(input));
