//! AArch64 under Apple's systems, whose C library does it.
//!
//! Type-checked only. Apple's "Porting just-in-time compilers to Apple silicon" asks for this one call
//! between writing and running, and names nothing for other cores.

#![allow(unsafe_code)] // A function of the system's C library.

use std::ffi::c_void;
use std::io;

unsafe extern "C" {
    /// libkern/OSCacheControl.h.
    fn sys_icache_invalidate(start: *mut c_void, len: usize);
}

/// Nothing to register.
pub(crate) fn prepare() -> io::Result<()> {
    Ok(())
}

/// Makes the instruction caches agree with the `len` bytes that will run at `run`.
///
/// # Safety
///
/// `write` and `run` are addresses of the same `len` bytes of memory, mapped and readable at both
/// throughout the call.
pub(crate) unsafe fn make_coherent(_write: *const u8, run: *const u8, len: usize) {
    // SAFETY: the caller keeps the range mapped; the call changes no memory, whatever its type says.
    unsafe { sys_icache_invalidate(run.cast_mut().cast(), len) };
}

/// The system has no call for this, and its own JIT guide needs none.
pub(crate) fn synchronize_cores() -> io::Result<()> {
    Ok(())
}
