//! AArch64: the thread pointer, and the functions of TLS descriptors (aaelf64, "TLS descriptors"; sysvabi64).
//!
//! Such a function is called with the address of its descriptor in X0 and returns the variable's offset from the thread pointer
//! there. It changes nothing else but X30 and flags; of the vector registers, compilers rely on the low 128 bits.
#![allow(unsafe_code)] // None of it has another form than assembly.

use std::arch::{asm, global_asm};

use super::{distance, table};

/// Every CPU keeps its registers in the same way.
pub(super) fn prepare() {}

/// Of this thread.
pub(super) fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: a register that Linux lets every program read.
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nomem, nostack, preserves_flags))
    };
    pointer
}

global_asm!(
    ".pushsection .text",
    concat!(".globl ", symbol!("fixed_descriptor")),
    concat!(".hidden ", symbol!("fixed_descriptor")),
    concat!(".type ", symbol!("fixed_descriptor"), ", %function"),
    ".p2align 4",
    concat!(symbol!("fixed_descriptor"), ":"),
    "hint #34", // BTI c
    "ldr x0, [x0, #8]",
    "ret",
    //
    concat!(".globl ", symbol!("dynamic_descriptor")),
    concat!(".hidden ", symbol!("dynamic_descriptor")),
    concat!(".type ", symbol!("dynamic_descriptor"), ", %function"),
    ".p2align 4",
    concat!(symbol!("dynamic_descriptor"), ":"),
    "hint #34",
    "stp x1, x2, [sp, #-32]!",
    "stp x3, x4, [sp, #16]",
    // The block, if this thread's table is where it is in every thread, and has it.
    "mrs x1, tpidr_el0",
    "adrp x2, {distance}",
    "ldr x2, [x2, #:lo12:{distance}]",
    "cbz x2, 2f",
    "ldr x2, [x1, x2]",
    "cbz x2, 2f",
    "ldr x3, [x0, #8]",
    "ldr x4, [x2]",
    "cmp x3, x4",
    "b.hs 2f",
    "ldr x2, [x2, x3]",
    "cbz x2, 2f",
    "ldr x0, [x0, #16]",
    "add x0, x0, x2",
    "sub x0, x0, x1",
    "ldp x3, x4, [sp, #16]",
    "ldp x1, x2, [sp], #32",
    "ret",
    // A function finds it: keep all that it may change (AAPCS64, section 6.1).
    "2:",
    "stp x29, x30, [sp, #-128]!",
    "mov x29, sp",
    "stp x5, x6, [sp, #16]",
    "stp x7, x8, [sp, #32]",
    "stp x9, x10, [sp, #48]",
    "stp x11, x12, [sp, #64]",
    "stp x13, x14, [sp, #80]",
    "stp x15, x16, [sp, #96]",
    "stp x17, x18, [sp, #112]",
    "sub sp, sp, #512",
    "stp q0, q1, [sp]",
    "stp q2, q3, [sp, #32]",
    "stp q4, q5, [sp, #64]",
    "stp q6, q7, [sp, #96]",
    "stp q8, q9, [sp, #128]",
    "stp q10, q11, [sp, #160]",
    "stp q12, q13, [sp, #192]",
    "stp q14, q15, [sp, #224]",
    "stp q16, q17, [sp, #256]",
    "stp q18, q19, [sp, #288]",
    "stp q20, q21, [sp, #320]",
    "stp q22, q23, [sp, #352]",
    "stp q24, q25, [sp, #384]",
    "stp q26, q27, [sp, #416]",
    "stp q28, q29, [sp, #448]",
    "stp q30, q31, [sp, #480]",
    "add x0, x0, #8",
    "bl {address}",
    "mrs x1, tpidr_el0",
    "sub x0, x0, x1",
    "ldp q0, q1, [sp]",
    "ldp q2, q3, [sp, #32]",
    "ldp q4, q5, [sp, #64]",
    "ldp q6, q7, [sp, #96]",
    "ldp q8, q9, [sp, #128]",
    "ldp q10, q11, [sp, #160]",
    "ldp q12, q13, [sp, #192]",
    "ldp q14, q15, [sp, #224]",
    "ldp q16, q17, [sp, #256]",
    "ldp q18, q19, [sp, #288]",
    "ldp q20, q21, [sp, #320]",
    "ldp q22, q23, [sp, #352]",
    "ldp q24, q25, [sp, #384]",
    "ldp q26, q27, [sp, #416]",
    "ldp q28, q29, [sp, #448]",
    "ldp q30, q31, [sp, #480]",
    "add sp, sp, #512",
    "ldp x5, x6, [sp, #16]",
    "ldp x7, x8, [sp, #32]",
    "ldp x9, x10, [sp, #48]",
    "ldp x11, x12, [sp, #64]",
    "ldp x13, x14, [sp, #80]",
    "ldp x15, x16, [sp, #96]",
    "ldp x17, x18, [sp, #112]",
    "ldp x29, x30, [sp], #128",
    "ldp x3, x4, [sp, #16]",
    "ldp x1, x2, [sp], #32",
    "ret",
    ".popsection",
    distance = sym distance::TABLE,
    address = sym table::slow_address,
);
