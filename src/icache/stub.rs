//! A CPU or a system for which nobody has said how code is published: refused before any is written.

#![allow(unsafe_code)] // `make_coherent` is unsafe on the CPUs where it touches memory, so also here.

use std::io;

/// # Errors
///
/// Always: [`io::ErrorKind::Unsupported`].
pub(crate) fn prepare() -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "how to make code coherent is not known for this cpu and system",
    ))
}

/// Not reached, since [`prepare`] fails.
///
/// # Safety
///
/// As on every CPU: `write` and `run` are the addresses of the same `len` bytes, mapped and readable.
pub(crate) unsafe fn make_coherent(_write: *const u8, _run: *const u8, _len: usize) {}

/// # Errors
///
/// Always, as [`prepare`].
pub(crate) fn synchronize_cores() -> io::Result<()> {
    prepare()
}
