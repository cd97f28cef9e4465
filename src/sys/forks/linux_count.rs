//! A counter that `fork` itself moves on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Moves on before and after each `fork` of this process: what differs, differs by a fork.
///
/// Programs are started by `posix_spawn` or `vfork` where that suffices (`std::process::Command` does), which run no handlers
/// and share no memory with what comes of it: they do not count.
pub(crate) fn fork_count() -> u32 {
    FORKS.load(Ordering::SeqCst)
}

/// Counts from here on. Cheap from the second time on.
pub(crate) fn count_forks() -> io::Result<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if REGISTERED.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: the handler is a function of this signature that only changes an atomic. Registered by two threads at once, it
    // counts twice, which does no harm.
    match unsafe { libc::pthread_atfork(Some(count), Some(count), None) } {
        0 => REGISTERED.store(true, Ordering::Relaxed),
        code => return Err(io::Error::from_raw_os_error(code)), // Tried again the next time.
    }
    Ok(())
}

extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}
