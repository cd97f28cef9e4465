//! Any history of two managers that share a source.
#![no_main]

#[path = "../../src/choices.rs"]
mod choices;
#[path = "../../tests/support/protocol.rs"]
mod protocol;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocol::check(&protocol::TestCase::read(bytes)));
