//! AArch64 under Windows, which has a call for each step.
//!
//! Type-checked only.

#![allow(unsafe_code)] // System calls through windows-sys.

use std::io;

use windows_sys::Win32::System::Diagnostics::Debug::FlushInstructionCache;
use windows_sys::Win32::System::Threading::{FlushProcessWriteBuffers, GetCurrentProcess};

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
    // SAFETY: returns a constant, the pseudo handle of this process.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the handle is this process's own, and the caller keeps the range mapped.
    let flushed = unsafe { FlushInstructionCache(process, run.cast(), len) };
    assert!(
        flushed != 0,
        "FlushInstructionCache refused {len:#x} bytes of this process at {run:p}: {}",
        io::Error::last_os_error()
    );
}

/// Interrupts every core that runs a thread of this process; on AArch64 returning from an interrupt
/// makes a core fetch again.
pub(crate) fn synchronize_cores() -> io::Result<()> {
    // SAFETY: has no arguments and no effect but the interrupts.
    unsafe { FlushProcessWriteBuffers() };
    Ok(())
}
