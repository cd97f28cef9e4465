//! Linux: `environ` of the C library (POSIX, "Environment Variables").

use std::ffi::c_char;
use std::sync::atomic::{AtomicPtr, Ordering};

unsafe extern "C" {
    /// It changes when variables are set: read as one word, which is old or new.
    static environ: AtomicPtr<*mut c_char>;
}

/// The environment of this process; null where somebody took it away (`clearenv`).
pub(super) fn environment() -> *mut *mut c_char {
    // SAFETY: every C library of Linux has it, and nothing is read but the pointer itself.
    unsafe { environ.load(Ordering::Acquire) }
}
