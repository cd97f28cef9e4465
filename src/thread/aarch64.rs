//! AArch64: TPIDR_EL0.
#![allow(unsafe_code)] // Has no other form than assembly.

use std::arch::asm;

/// Of this thread.
pub(super) fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: a register that Linux lets every program read.
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nomem, nostack, preserves_flags))
    };
    pointer
}
