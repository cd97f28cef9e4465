//! Where no C library keeps functions by the handle of their program.

use std::ffi::c_void;

/// Nothing was registered.
///
/// # Safety
///
/// None is needed.
pub(super) unsafe fn run_registered(_handle: *mut c_void) {}
