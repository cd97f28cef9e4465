//! Memory on the heap, for what LLVM writes and nobody runs.

use std::ops::Range;
use std::ptr::NonNull;

use crate::place::{DEFAULT_ALIGNMENT, Place};

/// Zero at first. LLVM may write there for as long as it lives.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    /// What LLVM gets of them.
    range: Range<usize>,
}

impl Scratch {
    /// `None` if the heap is exhausted.
    pub(crate) fn new(size: usize, align: usize) -> Option<Self> {
        let align = align.max(DEFAULT_ALIGNMENT).checked_next_power_of_two()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size.checked_add(align)?).ok()?;
        bytes.resize(size + align, 0);
        let start = bytes.as_ptr().align_offset(align);
        let range = start..start.checked_add(size)?;
        Some(Self { bytes, range })
    }

    pub(crate) fn place(&mut self) -> Option<Place> {
        let write = NonNull::from(self.bytes.get_mut(self.range.clone())?).cast::<u8>();
        let address = write.as_ptr() as u64;
        Some(Place { write, address })
    }

    #[cfg_attr(not(feature = "cxx"), allow(dead_code))] // As are variables.
    pub(crate) fn is_zero(&self) -> bool {
        let bytes = self.bytes.get(self.range.clone()).unwrap_or_default();
        bytes.iter().all(|&byte| byte == 0)
    }
}
