//! Elsewhere `memmap2` has just this.

pub(in super::super) use memmap2::MmapMut as Mapping;
