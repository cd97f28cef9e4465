//! Linux on AArch64: `BTI`, where CPU and kernel have it.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{MprotectFlags, mprotect};

/// Bit of the second word of hardware capabilities (Linux, `arch/arm64/include/uapi/asm/hwcap.h`).
const HWCAP2_BTI: usize = 1 << 17;

/// (Linux, `arch/arm64/include/uapi/asm/mman.h`.)
const PROT_BTI: u32 = 0x10;

/// The protection bit under which indirect branches may only reach landing pads, if there is one.
pub(crate) fn protection() -> Option<u32> {
    let (_, hwcap2) = rustix::param::linux_hwcap();
    (hwcap2 & HWCAP2_BTI != 0).then_some(PROT_BTI)
}

/// Makes whole pages readable and executable with that bit.
///
/// # Safety
///
/// As [`protect`](super::super::protect).
pub(crate) unsafe fn protect_executable(start: NonNull<u8>, size: usize) -> io::Result<()> {
    let flags =
        MprotectFlags::READ | MprotectFlags::EXEC | MprotectFlags::from_bits_retain(PROT_BTI);
    // SAFETY: the contract is the same.
    Ok(unsafe { mprotect(start.as_ptr().cast(), size, flags) }?)
}
