//! Windows: private memory. `memmap2` maps a section, which has to be writable and executable at first, to be either later.

use std::io;
use std::ptr::{NonNull, null};

use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_READWRITE, VirtualAlloc, VirtualFree,
};

/// Memory of its own, at a multiple of 64 KiB.
#[derive(Debug)]
pub(in super::super) struct Mapping {
    /// Invariant: the first of `len` bytes that nobody else gives back.
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// # Errors
    ///
    /// The system's: also where it could not back all of the memory, which counts against its limit at once.
    pub(in super::super) fn map_anon(len: usize) -> io::Result<Self> {
        // SAFETY: without an address it touches no memory that is there.
        let start = unsafe { VirtualAlloc(null(), len, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) };
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self { start, len }),
            None => Err(io::Error::last_os_error()),
        }
    }

    pub(in super::super) fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub(in super::super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(in super::super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole of an allocation of our own, which nobody uses any more. Nothing could be done about a refusal.
        unsafe { VirtualFree(self.start.as_ptr().cast(), 0, MEM_RELEASE) };
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{size_of, zeroed};

    use windows_sys::Win32::System::Memory::{MEMORY_BASIC_INFORMATION, VirtualQuery};

    use super::super::super::Block;
    use crate::num::{Align, Span};

    /// What the system says of the memory at the start of a block.
    fn asked(block: &Block) -> MEMORY_BASIC_INFORMATION {
        let start = block.pointer(Span::sized(0, block.size()).unwrap());
        // SAFETY: numbers, for all of which zero is one.
        let mut answer: MEMORY_BASIC_INFORMATION = unsafe { zeroed() };
        let size = size_of::<MEMORY_BASIC_INFORMATION>();
        // SAFETY: the answer has this size.
        let written = unsafe { VirtualQuery(start.as_ptr().cast(), &mut answer, size) };
        assert_eq!(written, size);
        answer
    }

    #[test]
    fn memory_is_not_executable_from_birth() {
        let block = Block::map(0x5000, 0, Align::ONE).unwrap();
        let answer = asked(&block);
        assert_eq!(
            (answer.AllocationProtect, answer.Protect),
            (super::PAGE_READWRITE, super::PAGE_READWRITE)
        );
    }
}
