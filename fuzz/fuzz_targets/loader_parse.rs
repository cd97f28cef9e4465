//! Any bytes, read as an object file.
#![no_main]

#[path = "../../src/choices.rs"]
mod choices;
#[path = "../../tests/support/damaged.rs"]
mod damaged;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| damaged::parse(bytes));
