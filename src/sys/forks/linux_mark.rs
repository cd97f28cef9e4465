//! A page that the kernel clears in a child: it costs one load to look at, and no system call.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::MmapMut;
use rustix::mm::{Advice, madvise};

use super::super::{failed, fault, page_size};
use crate::error::Error;

/// Tells whether the process that looks is the one that made it.
#[derive(Debug)]
pub(crate) struct ForkMark {
    /// Keeps the page; read through `mark` only.
    _page: MmapMut,
    mark: NonNull<AtomicU8>,
}

// SAFETY: the page is only accessed as an atomic.
unsafe impl Send for ForkMark {}
// SAFETY: as above.
unsafe impl Sync for ForkMark {}

impl ForkMark {
    pub(crate) fn new() -> Result<Self, Error> {
        let size = page_size().bytes();
        let page = fault::check().and_then(|()| MmapMut::map_anon(size));
        let mut page = page.map_err(failed("mmap", size))?;
        let start = page.as_mut_ptr();
        fault::check()
            // SAFETY: a page of our own, on which nothing was written yet.
            .and_then(|()| Ok(unsafe { madvise(start.cast(), size, Advice::LinuxWipeOnFork) }?))
            .map_err(failed("madvise(MADV_WIPEONFORK)", size))?;
        let mark = NonNull::new(start.cast()).expect("a mapping is not at address zero");
        let new = Self { _page: page, mark };
        new.mark().store(1, Ordering::Relaxed);
        Ok(new)
    }

    /// Whether this process inherited the mark by `fork`.
    pub(crate) fn is_inherited(&self) -> bool {
        self.mark().load(Ordering::Relaxed) == 0
    }

    fn mark(&self) -> &AtomicU8 {
        // SAFETY: the first byte of the page, which `self` keeps and which is only accessed as this atomic.
        unsafe { self.mark.as_ref() }
    }
}
