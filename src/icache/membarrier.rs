//! Linux: the kernel interrupts the cores that run this process, and each fetches anew.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{MembarrierCommand, membarrier};

/// Registers the process, once.
///
/// A child of `fork` inherits the registration (Linux copies it with the address space) as it inherits
/// this flag; `execve` clears both.
///
/// # Errors
///
/// Where the kernel is older than 4.16 or a filter denies the call. A failure is not remembered, and tried
/// again.
pub(crate) fn register() -> io::Result<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    // The flag guards no memory, and registering twice does no harm.
    if !REGISTERED.load(Ordering::Relaxed) {
        membarrier(MembarrierCommand::RegisterPrivateExpeditedSyncCore)?;
        REGISTERED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Interrupts every core that runs a thread of this process, so that it fetches again.
///
/// # Errors
///
/// `EPERM` without [`register`].
pub(crate) fn interrupt_cores() -> io::Result<()> {
    Ok(membarrier(MembarrierCommand::PrivateExpeditedSyncCore)?)
}
