//! A part of each thread's room, as an owner has it.
#![allow(unsafe_code)] // Takes its word for what was stored there.

use super::room::Part;
use crate::error::Error;
use crate::num::Align;

/// Bytes that every thread of the process has, at the same offset from its thread pointer: for a loader of code that takes its
/// thread-local variables to be at fixed offsets (the initial-exec and local-exec models), as RuntimeDyld makes all of it.
///
/// They are zero in all threads, those to come included. Another initial value cannot be had: there is no way to store it in
/// threads that run, or before one begins.
///
/// There are 4096 bytes for all owners together, loaded programs included: a page that every thread of the process has. What was
/// dropped is given out again only when the process has no other thread than the one that asks: nobody can clear what the others
/// have left there.
///
/// ```
/// use nearcode::{Align, ThreadBlock};
///
/// # fn main() -> Result<(), nearcode::Error> {
/// # if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) { return Ok(()); }
/// let counter = ThreadBlock::new(8, Align::new(8)?)?;
/// // On x86-64 `mov %fs:OFFSET, %rax` reads it, in any thread.
/// let offset = counter.thread_offset();
/// # assert_ne!(offset, 0);
/// let own = counter.pointer().cast::<u64>();
/// // SAFETY: eight bytes of this thread's, and nobody else stores there.
/// assert_eq!(unsafe { own.read() }, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ThreadBlock {
    part: Part,
}

impl ThreadBlock {
    /// `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::ThreadRoomExhausted`]; [`Error::AlignmentTooLarge`] above 64 bytes; [`Error::Unsupported`] elsewhere than on Linux
    /// on x86-64 and aarch64, and where this crate is part of a library that was loaded after the start of the process: each
    /// thread has that library's variables anywhere.
    pub fn new(size: usize, align: Align) -> Result<Self, Error> {
        let part = Part::new(size, align)?;
        Ok(Self { part })
    }

    /// Where it begins, in bytes from the thread pointer: the FS base on x86-64, TPIDR_EL0 on aarch64.
    pub fn thread_offset(&self) -> isize {
        self.part.thread_offset()
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        self.part.size()
    }

    /// Where the calling thread has it.
    pub fn pointer(&self) -> *mut u8 {
        self.part.pointer()
    }

    /// Drops it, to be given out again at once, whichever threads there are.
    ///
    /// # Safety
    ///
    /// Nobody has stored anything in it, in any thread.
    pub unsafe fn abandon(mut self) {
        self.part.forget_use();
    }
}
