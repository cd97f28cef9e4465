//! x86-64: nothing to do, on any system.
//!
//! Caches are coherent, the instruction cache included: Intel SDM volume 3, "Self-Modifying Code"; AMD APM
//! volume 2, "Self-Modifying Code". The `Release` store that publishes the code's address is ordered after
//! the stores of its bytes. The manuals ask for a serializing instruction on a core that runs code which
//! another core has *changed*; code at an address that no thread was told before has not been run, and
//! JIT engines on this CPU publish it as described, without one.
//!
//! In a window that is written at two addresses, the store goes to another linear address than the fetch. For that the Intel
//! SDM names a serializing instruction too, since the core compares linear addresses with what it has in its pipeline. Again
//! that is about code that was fetched before it was written; JIT engines with a second view, as AsmJit's, publish
//! without one, and where an address serves again, [`forget_freed_code`](super::forget_freed_code) comes in between.

#![allow(unsafe_code)] // `make_coherent` is unsafe on the CPUs where it touches memory, so also here.

use std::io;

/// Nothing to register.
pub(crate) fn prepare() -> io::Result<()> {
    Ok(())
}

/// Nothing to clean and nothing to invalidate.
///
/// # Safety
///
/// As on every CPU: `write` and `run` are the addresses of the same `len` bytes, mapped and readable.
pub(crate) unsafe fn make_coherent(_write: *const u8, _run: *const u8, _len: usize) {}

/// No core keeps stale instructions: see the head of this file.
///
/// What remains is reuse; see [`forget_freed_code`](super::forget_freed_code).
pub(crate) fn synchronize_cores() -> io::Result<()> {
    Ok(())
}
