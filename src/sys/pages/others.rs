//! Elsewhere pages come at the first touch, and stay until the mapping goes.

use std::io;
use std::ptr::NonNull;

/// Whether [`release`] does anything.
pub(crate) const RETURNS_PAGES: bool = false;

/// # Safety
///
/// None needed: nothing is done.
pub(crate) unsafe fn populate(_start: NonNull<u8>, _size: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// # Safety
///
/// None needed: nothing is done.
pub(crate) unsafe fn release(_start: NonNull<u8>, _size: usize) -> io::Result<()> {
    Ok(())
}

/// # Safety
///
/// None needed: nothing is done.
pub(crate) unsafe fn avoid_huge_pages(_start: NonNull<u8>, _size: usize) {}
