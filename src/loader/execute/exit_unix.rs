//! The Itanium C++ ABI's interface, section 3.3.6: what `dlclose` calls as well.

use std::ffi::c_void;

unsafe extern "C" {
    fn __cxa_finalize(handle: *mut c_void);
}

/// Runs what was registered for `handle` by `__cxa_atexit`, the latest first, each once.
///
/// # Safety
///
/// The functions are still there, and may be called now.
pub(super) unsafe fn run_registered(handle: *mut c_void) {
    // SAFETY: by this function's contract.
    unsafe { __cxa_finalize(handle) }
}
