//! One range of memory in which everything reaches everything. So far: who gets which of its bytes.

mod spans;
