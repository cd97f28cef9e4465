//! Where loaded code is not given the environment.

use std::ffi::c_char;

/// None.
pub(super) fn environment() -> *mut *mut c_char {
    std::ptr::null_mut()
}
