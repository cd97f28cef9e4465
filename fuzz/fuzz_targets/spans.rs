//! Any history of the spans of a sub-window.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nearcode::fuzzing::spans(bytes));
