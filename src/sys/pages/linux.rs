//! Linux: `madvise`.

use std::io;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::num::PageSize;

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

/// Of a huge page, in bytes: as many pages as a page has entries for (Linux, `HPAGE_PMD_SIZE`).
pub(crate) fn huge(page: PageSize) -> usize {
    page.bytes() / size_of::<u64>() * page.bytes()
}

/// Makes the pages of a part of a shared mapping one huge page, also where settings give none unasked. A page that has no memory
/// is zero then, but one has to have some.
///
/// # Safety
///
/// A huge page of a mapping of the caller's, aligned in memory and in its file.
pub(crate) unsafe fn collapse(start: NonNull<u8>, size: usize) -> io::Result<()> {
    const MADV_COLLAPSE: libc::c_int = 25; // linux/mman.h; not every libc has it.
    // SAFETY: the contract is the same.
    match unsafe { libc::madvise(start.as_ptr().cast(), size, MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a page of a mapping has memory. Where the system does not say, it is taken for one that has.
pub(crate) fn is_resident(page: NonNull<u8>) -> bool {
    let mut answer = 1;
    // SAFETY: it only looks, whatever is there, and writes one byte for a page that one byte is on.
    let known = unsafe { libc::mincore(page.as_ptr().cast(), 1, &raw mut answer) };
    known != 0 || answer & 1 != 0
}
