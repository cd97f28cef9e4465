//! Empty: this package only names where the C sources of `tests/programs.rs` come from.
