//! One contiguous mapping, whose permissions `region` changes: the same on every system.

use std::io;
use std::ptr::{NonNull, without_provenance_mut};
use std::slice;

use super::mapping::Mapping;
use super::{Permission, fault, page_size, protect};
use crate::error::Error;
use crate::num::{Address, Align, Span};

/// A contiguous range of memory of its own, readable and writable and zero at first.
///
/// Dropping it unmaps it. The system can refuse that only where it has merged the end of the mapping with a neighbour's and has
/// no room for one mapping more; the memory then stays until the process ends.
#[derive(Debug)]
pub(crate) struct Block {
    /// Unmaps when dropped. `None` for a block of no bytes, which needs no mapping.
    /// Invariant: never dereferenced, so that pointers handed out stay valid.
    mapping: Option<Mapping>,
    /// Invariant: the first of `size` bytes that all lie in `mapping`.
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: a block owns its memory; `base` points into its own mapping, which is bound to no thread.
unsafe impl Send for Block {}
// SAFETY: through a shared reference a block gives out addresses, pointers and permissions, no references to its memory.
unsafe impl Sync for Block {}

impl Block {
    /// Maps `size` bytes such that the address of offset `anchor` is a multiple of `align`: one mapping, one system call.
    ///
    /// Where `align` exceeds the page, the mapping is that much longer and the block lies somewhere in it. What is left at
    /// the ends is never touched.
    pub(crate) fn map(size: usize, anchor: usize, align: Align) -> Result<Self, Error> {
        if size == 0 {
            // No byte is ever accessed here; the address is as aligned as that of a real block.
            let base = NonNull::new(without_provenance_mut(align.bytes()))
                .expect("an alignment is not zero");
            return Ok(Self {
                mapping: None,
                base,
                size,
            });
        }
        let slack = align.bytes().saturating_sub(page_size().bytes());
        let out_of_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let failed = |source| Error::System {
            operation: "mmap",
            size: size.saturating_add(slack),
            source,
        };
        let length = size
            .checked_add(slack)
            .ok_or_else(out_of_memory)
            .map_err(failed)?;
        let mapping = fault::check().and_then(|()| Mapping::map_anon(length));
        let mut mapping = mapping.map_err(failed)?;
        let start = mapping.as_mut_ptr();
        let skip = align
            .up(start as usize + anchor)
            .expect("a mapping is far from the end of the address space")
            - (start as usize + anchor);
        assert!(
            skip <= slack,
            "mapping at {start:p} of {length:#x} bytes is not even page-aligned"
        );
        // SAFETY: `skip <= slack`, so `skip` plus `size` bytes are inside the mapping's `length`.
        let base = unsafe { start.add(skip) };
        let base = NonNull::new(base).expect("a mapping is not at address zero");
        Ok(Self {
            mapping: Some(mapping),
            base,
            size,
        })
    }

    /// The address of offset 0.
    pub(crate) fn address(&self) -> Address {
        Address::new(self.base.as_ptr() as u64)
    }

    /// In bytes, without what alignment left over.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// What the mapping takes of the address space, in bytes.
    pub(crate) fn mapped(&self) -> usize {
        self.mapping.as_ref().map_or(0, |mapping| mapping.len())
    }

    /// What alignment left over in front of the block and behind it, in bytes.
    pub(crate) fn slack(&self) -> (usize, usize) {
        let Some(mapping) = &self.mapping else {
            return (0, 0);
        };
        let before = self.base.as_ptr().addr() - mapping.as_ptr().addr();
        (before, mapping.len() - self.size - before)
    }

    /// Where `span` begins, to write to as long as its pages are writable and to read or run from then on.
    pub(crate) fn pointer(&self, span: Span) -> NonNull<u8> {
        self.assert_inside(span);
        // SAFETY: `span` is inside the block, and so are the bytes from `base` to its start.
        unsafe { self.base.add(span.start()) }
    }

    /// The bytes of `span`, which the caller knows to be on pages that are still writable.
    ///
    /// # Safety
    ///
    /// The pages of `span` are readable and writable.
    pub(crate) unsafe fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let start = self.pointer(span).as_ptr();
        // SAFETY: the bytes are inside the mapping, initialized (zero from birth), writable by this function's contract,
        // and borrowed from `self` mutably, so that no other reference to them exists.
        unsafe { slice::from_raw_parts_mut(start, span.size()) }
    }

    /// Gives whole pages another permission: one system call, none for an empty span.
    pub(crate) fn protect(&mut self, span: Span, permission: Permission) -> Result<(), Error> {
        self.assert_inside(span);
        if span.is_empty() {
            return Ok(());
        }
        let start = self.pointer(span);
        // SAFETY: whole pages of this block's own mapping; `&mut self` excludes references into them.
        unsafe { protect(start, span.size(), permission) }
    }

    fn assert_inside(&self, span: Span) {
        let block = Span::sized(0, self.size).expect("a mapping's size is a number");
        assert!(
            block.contains(span),
            "{span:?} is outside of a block of {:#x} bytes",
            self.size
        );
    }
}

#[cfg(test)]
mod tests {
    use region::Protection;

    use super::*;

    #[test]
    fn the_anchor_is_aligned_beyond_the_page() {
        let page = page_size().bytes();
        for align in [page, 1 << 16, 1 << 21] {
            let align = Align::new(align).unwrap().max(page_size().align());
            for anchor in [0, page, 3 * page] {
                let block = Block::map(4 * page, anchor, align).unwrap();
                assert!(align.divides(block.address().get() as usize + anchor));
            }
        }
    }

    #[test]
    fn the_system_confirms_each_permission() {
        let page = page_size().bytes();
        let mut block = Block::map(3 * page, 0, page_size().align()).unwrap();
        let pages = [0, 1, 2].map(|i| Span::sized(i * page, page).unwrap());
        block.protect(pages[0], Permission::ReadExecute).unwrap();
        block.protect(pages[1], Permission::Read).unwrap();
        let expected = [
            Protection::READ_EXECUTE,
            Protection::READ,
            Protection::READ_WRITE,
        ];
        for (span, expected) in pages.into_iter().zip(expected) {
            assert_eq!(
                region::query(block.pointer(span).as_ptr())
                    .unwrap()
                    .protection(),
                expected,
                "{span:?}"
            );
        }
        block
            .protect(Span::sized(0, 3 * page).unwrap(), Permission::ReadWrite)
            .unwrap();
        let all = Span::sized(0, 3 * page).unwrap();
        // SAFETY: all of it was just made writable.
        unsafe { block.bytes_mut(all) }.fill(7);
    }

    #[test]
    fn no_bytes_need_no_mapping() {
        let mut block = Block::map(0, 0, page_size().align()).unwrap();
        assert_eq!((block.size(), block.mapped()), (0, 0));
        block
            .protect(Span::empty(0), Permission::ReadExecute)
            .unwrap();
        // SAFETY: there is no byte to access.
        assert!(unsafe { block.bytes_mut(Span::empty(0)) }.is_empty());
    }

    #[test]
    fn more_than_the_address_space_is_an_error() {
        let error = Block::map(usize::MAX / 2, 0, page_size().align()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::System {
                    operation: "mmap",
                    ..
                }
            ),
            "{error}"
        );
        Block::map(usize::MAX, 0, Align::new(1 << 21).unwrap()).unwrap_err();
    }
}
