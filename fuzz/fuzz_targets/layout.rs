//! Any plan of a block, and any sections in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nearcode::fuzzing::layout(bytes));
