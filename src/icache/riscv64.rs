//! RISC-V under Linux, where one kernel call does the whole for all threads.
//!
//! Tested under qemu-user, to which the call is nothing: no test shows what it does. FENCE.I reaches the core that executes it and
//! no other, and a thread may be moved after it, so the ISA manual (Zifencei) itself sends programs to the system's call.

#![allow(unsafe_code)] // A system call that no crate wraps.

use std::arch::asm;
use std::io;

/// `__NR_riscv_flush_icache`, asm/unistd.h.
const RISCV_FLUSH_ICACHE: usize = 259;

/// Nothing to register.
pub(crate) fn prepare() -> io::Result<()> {
    Ok(())
}

/// Left to [`synchronize_cores`]: the kernel's call takes no heed of the range, so one for all spans will do.
///
/// # Safety
///
/// As on every CPU: `write` and `run` are the addresses of the same `len` bytes, mapped and readable.
pub(crate) unsafe fn make_coherent(_write: *const u8, _run: *const u8, _len: usize) {}

/// Makes all threads of the process see the stores that were made before, as instructions.
///
/// # Errors
///
/// Those of `riscv_flush_icache`; a filter may deny it.
pub(crate) fn synchronize_cores() -> io::Result<()> {
    let result: isize;
    // The whole address space, should a kernel come to heed the range; flags 0 means all threads.
    // SAFETY: the call reads and writes no memory of ours, and the kernel preserves all registers but a0.
    unsafe {
        asm!(
            "ecall",
            in("a7") RISCV_FLUSH_ICACHE,
            inlateout("a0") 0_usize => result,
            in("a1") usize::MAX,
            in("a2") 0_usize,
            options(nostack),
        );
    }
    match result {
        0.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error as i32)),
    }
}
