//! AArch64 under Linux, which lets programs maintain caches (SCTLR_EL1.UCI) and read their shape (UCT).
//!
//! The sequence is the one of the Arm ARM (DDI 0487, "Concurrent modification and execution of
//! instructions"): clean the data lines, wait, invalidate the instruction lines, wait, and
//! flush this core's pipeline. IC IVAU is broadcast to all cores; the ISB is not, and `mprotect` sends no
//! interrupt on Arm. So the kernel has to interrupt the cores that run this process: membarrier.

#![allow(unsafe_code)] // Cache maintenance and barriers have no other form than assembly.

use std::arch::asm;
use std::sync::OnceLock;

use super::ctr::CacheType;
pub(crate) use super::membarrier::{interrupt_cores as synchronize_cores, register as prepare};

/// Makes the instruction caches of all cores agree with the `len` bytes that were written at `write`
/// and will run at `run`; the two are equal where there is one view.
///
/// # Safety
///
/// `write` and `run` are addresses of the same `len` bytes of memory, mapped and readable at both
/// throughout the call.
pub(crate) unsafe fn make_coherent(write: *const u8, run: *const u8, len: usize) {
    let cache = cache_type();
    for line in cache.lines_to_clean(write.addr(), len) {
        // SAFETY: the line holds a byte of the range, which the caller keeps mapped and readable; DC CVAU
        // changes no memory. The assembly may read memory, so the stores before stay before.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // Never skipped: with IDC it is what makes the stores visible to instruction fetch.
    data_barrier();
    for line in cache.lines_to_invalidate(run.addr(), len) {
        // SAFETY: as above, at the run address; IC IVAU changes no memory.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // Never skipped: it waits until the invalidation is done on all cores.
    data_barrier();
    instruction_barrier();
}

/// Read once: where Linux traps the register (errata, unequal cores) each read costs a kernel entry,
/// and it shows the same value on all cores.
fn cache_type() -> CacheType {
    static CACHE: OnceLock<CacheType> = OnceLock::new();
    *CACHE.get_or_init(|| CacheType::decode(read_ctr()))
}

fn read_ctr() -> u64 {
    let ctr: u64;
    // SAFETY: Linux lets user space read CTR_EL0, or emulates the read; it has no side effects.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    ctr
}

fn data_barrier() {
    // SAFETY: a barrier changes neither memory nor registers.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
}

fn instruction_barrier() {
    // SAFETY: as above.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use memmap2::MmapMut;

    use super::*;

    /// `mov w0, #N; ret`, as the Arm ARM encodes them: MOVZ is 0x52800000 with N at bit 5.
    fn code_that_returns(n: u16) -> [u8; 8] {
        let words = [0x5280_0000 | (u32::from(n) << 5), 0xd65f_03c0];
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&words[0].to_le_bytes());
        bytes[4..].copy_from_slice(&words[1].to_le_bytes());
        bytes
    }

    #[test]
    fn rewritten_code_runs_as_rewritten() {
        prepare().expect("membarrier");
        let mut writable = MmapMut::map_anon(0x1000).expect("a page");
        for n in [43, 44, 45] {
            // Not at the start of a line, and across two of them.
            writable[0x7c..0x84].copy_from_slice(&code_that_returns(n));
            let executable = writable.make_exec().expect("protect");
            let code = &executable[0x7c..0x84];
            // SAFETY: one view, borrowed for the call.
            unsafe { make_coherent(code.as_ptr(), code.as_ptr(), code.len()) };
            synchronize_cores().expect("prepared");
            // SAFETY: the bytes are a whole function of this signature, mapped R-X.
            let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(code.as_ptr()) };
            assert_eq!(function(), u32::from(n));
            writable = executable.make_mut().expect("protect");
        }
    }

    #[test]
    fn an_empty_range_touches_nothing() {
        let nowhere = std::ptr::without_provenance(0x10);
        // SAFETY: no bytes, so nothing has to be mapped.
        unsafe { make_coherent(nowhere, nowhere, 0) };
    }
}
