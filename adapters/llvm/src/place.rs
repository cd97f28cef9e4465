//! Where LLVM writes, and where what it wrote will be.

use std::ptr::NonNull;

/// What LLVM means by an alignment of 0 (`SectionMemoryManager::allocateSection`).
pub(crate) const DEFAULT_ALIGNMENT: usize = 16;

/// Where a section is written, and where it will run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) write: NonNull<u8>,
    #[cfg_attr(not(feature = "cxx"), allow(dead_code))] // One pointer is enough for the callbacks.
    pub(crate) address: u64,
}
