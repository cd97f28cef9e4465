//! Where there is no such bit.

use std::io;
use std::ptr::NonNull;

/// The protection bit under which indirect branches may only reach landing pads, if there is one.
pub(crate) fn protection() -> Option<u32> {
    None
}

/// # Safety
///
/// None needed: nothing is done.
pub(crate) unsafe fn protect_executable(_start: NonNull<u8>, _size: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
