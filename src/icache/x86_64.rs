//! x86-64: nothing to do, on any system.
//!
//! Caches are coherent, the instruction cache included: Intel SDM volume 3, "Self-Modifying Code"; AMD APM
//! volume 2, "Self-Modifying Code". The `Release` store that publishes the code's address is ordered after
//! the stores of its bytes. The manuals ask for a serializing instruction on a core that runs code which
//! another core has *changed*; code at an address that no thread was told before has not been run, and
//! JIT engines on this CPU publish it as described, without one.

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
