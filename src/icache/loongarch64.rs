//! LoongArch under Linux: caches are coherent, pipelines are not.
//!
//! Type-checked only. Linux relies on the hardware for the caches and executes IBAR alone
//! (arch/loongarch/mm/cache.c). IBAR acts on its own core. For the others Linux offers no core-serializing
//! membarrier on this CPU, so they get the plain one, whose interrupt they take an exception for.

#![allow(unsafe_code)] // IBAR has no other form than assembly.

use std::arch::asm;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{MembarrierCommand, membarrier};

/// Registers the process for [`synchronize_cores`], once; a child of `fork` inherits it.
///
/// # Errors
///
/// Where the kernel is older than 4.14 or a filter denies the call.
pub(crate) fn prepare() -> io::Result<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    // The flag guards no memory, and registering twice does no harm.
    if !REGISTERED.load(Ordering::Relaxed) {
        membarrier(MembarrierCommand::RegisterPrivateExpedited)?;
        REGISTERED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Makes this core fetch what was stored before.
///
/// # Safety
///
/// As on every CPU: `write` and `run` are the addresses of the same `len` bytes, mapped and readable.
pub(crate) unsafe fn make_coherent(_write: *const u8, _run: *const u8, _len: usize) {
    // SAFETY: a barrier changes neither memory nor registers.
    unsafe { asm!("ibar 0", options(nostack, preserves_flags)) };
}

/// Interrupts every core that runs a thread of this process.
///
/// # Errors
///
/// `EPERM` without [`prepare`].
pub(crate) fn synchronize_cores() -> io::Result<()> {
    Ok(membarrier(MembarrierCommand::PrivateExpedited)?)
}
