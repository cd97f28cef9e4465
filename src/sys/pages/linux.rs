//! Linux: `madvise`.

use std::io;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

/// Whether [`release`] does anything.
pub(crate) const RETURNS_PAGES: bool = true;

/// Fetches pages of private memory, so that writing them later cannot fail. The answer is [`Unsupported`](io::ErrorKind) before
/// Linux 5.14, or where they cannot be written.
///
/// # Safety
///
/// Whole pages of a mapping of the caller's.
pub(crate) unsafe fn populate(start: NonNull<u8>, size: usize) -> io::Result<()> {
    // SAFETY: the contract is the same.
    match unsafe { madvise(start.as_ptr().cast(), size, Advice::LinuxPopulateWrite) } {
        Err(Errno::INVAL) => Err(io::ErrorKind::Unsupported.into()),
        other => Ok(other?),
    }
}

/// Gives pages of private memory back. They read as zero from then on, and keep their permission.
///
/// # Safety
///
/// Whole pages of a mapping of the caller's, whose content nobody needs any more.
pub(crate) unsafe fn release(start: NonNull<u8>, size: usize) -> io::Result<()> {
    // SAFETY: the contract is the same.
    Ok(unsafe { madvise(start.as_ptr().cast(), size, Advice::LinuxDontNeed) }?)
}

/// Asks for small pages, so that one byte in use does not fetch 2 MiB. A kernel without huge pages refuses, which is as good.
///
/// # Safety
///
/// Whole pages of a mapping of the caller's.
pub(crate) unsafe fn avoid_huge_pages(start: NonNull<u8>, size: usize) {
    // SAFETY: the contract is the same.
    let _ = unsafe { madvise(start.as_ptr().cast(), size, Advice::LinuxNoHugepage) };
}
