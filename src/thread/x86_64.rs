//! x86-64: FS.
#![allow(unsafe_code)] // Has no other form than assembly.

use std::arch::asm;

/// Of this thread.
pub(super) fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the first word at FS is its own address (AMD64 ABI, section 6.2 of the TLS document that it refers to).
    unsafe {
        asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly))
    };
    pointer
}
