//! A counter that `fork` itself moves on.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Moves on before and after each `fork` of this process: what differs, differs by a fork.
///
/// Programs are started by `posix_spawn` or `vfork` where that suffices (`std::process::Command` does), which run no handlers
/// and share no memory with what comes of it: they do not count.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::SeqCst)
}

/// Counts from here on. Cheap from the second time on.
pub(crate) fn count_forks() -> io::Result<()> {
    static REGISTERED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handler is a function of this signature that only changes an atomic.
    let answer =
        REGISTERED.get_or_init(|| unsafe { libc::pthread_atfork(Some(count), Some(count), None) });
    match answer {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(*code)),
    }
}

extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}
