//! What AArch64's cache type register says, as a pure function of its 64 bits.
//!
//! Arm ARM (DDI 0487), CTR_EL0: IminLine is bits 0 to 3 and DminLine bits 16 to 19, each the binary
//! logarithm of the smallest line of all such caches, in words of 4 bytes; IDC (bit 28) says that data
//! need not be cleaned for instructions to see it, DIC (bit 29) that instructions need not be
//! invalidated. Neither bit excuses the barriers.
//!
//! Compiled for the tests of every CPU, since no test can observe a cache that was not maintained.

/// Whether a loop over the lines has to run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maintenance {
    Required,
    DoneByHardware,
}

/// The caches of this machine, as far as code that is written to memory has to know them.
// Invariant: both lines are powers of two between 4 bytes and 128 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheType {
    data_line: usize,
    instruction_line: usize,
    data: Maintenance,
    instruction: Maintenance,
}

impl CacheType {
    /// Decodes the value of CTR_EL0.
    pub(super) const fn decode(ctr: u64) -> CacheType {
        CacheType {
            data_line: 4 << ((ctr >> 16) & 0xf),
            instruction_line: 4 << (ctr & 0xf),
            data: maintenance(ctr, 28),
            instruction: maintenance(ctr, 29),
        }
    }

    /// The addresses to clean, one in each data line that overlaps `len` bytes from `start`.
    pub(super) fn lines_to_clean(self, start: usize, len: usize) -> impl Iterator<Item = usize> {
        lines(self.data, self.data_line, start, len)
    }

    /// The addresses to invalidate, one in each instruction line that overlaps `len` bytes from `start`.
    pub(super) fn lines_to_invalidate(
        self,
        start: usize,
        len: usize,
    ) -> impl Iterator<Item = usize> {
        lines(self.instruction, self.instruction_line, start, len)
    }
}

const fn maintenance(ctr: u64, bit: u32) -> Maintenance {
    if (ctr >> bit) & 1 == 0 {
        Maintenance::Required
    } else {
        Maintenance::DoneByHardware
    }
}

/// The first byte of each line, counted from the one that holds `start`, so that nothing can wrap.
fn lines(
    maintenance: Maintenance,
    line: usize,
    start: usize,
    len: usize,
) -> impl Iterator<Item = usize> {
    let skew = start % line;
    let count = match maintenance {
        Maintenance::Required if len > 0 => 1 + (skew + (len - 1)) / line,
        Maintenance::Required | Maintenance::DoneByHardware => 0,
    };
    (0..count).map(move |n| start - skew + n * line)
}

#[cfg(test)]
mod tests {
    use super::Maintenance::{DoneByHardware, Required};
    use super::*;

    /// Name, register, data line, instruction line, data, instruction.
    type Cpu = (&'static str, u64, usize, usize, Maintenance, Maintenance);

    // qemu: what qemu-aarch64 10.0 shows for `-cpu NAME`; its values come from the CPUs' manuals (TRM).
    // N1 with the coherent instruction cache that its TRM offers the integrator: qemu's value, IDC and DIC set.
    // Erratum 1542419 of such an N1: Linux traps the register (arch/arm64/kernel/traps.c, ctr_read_handler),
    // hides DIC, and shows IminLine = PAGE_SHIFT - 2, one line for each page, so that IC IVAU traps less.
    const CPUS: &[Cpu] = &[
        ("Cortex-A53, qemu", 0x8444_8004, 64, 64, Required, Required),
        ("Cortex-A55, qemu", 0x8444_8004, 64, 64, Required, Required),
        ("Cortex-A72, qemu", 0x8444_c004, 64, 64, Required, Required),
        ("Neoverse N1, qemu", 0x8444_c004, 64, 64, Required, Required),
        (
            "Neoverse N1, coherent instruction cache",
            0xb444_c004,
            64,
            64,
            DoneByHardware,
            DoneByHardware,
        ),
        (
            "the same with erratum 1542419 and 4 KiB pages, Linux",
            0x9444_c00a,
            64,
            0x1000,
            DoneByHardware,
            Required,
        ),
        (
            "the same with 64 KiB pages, Linux",
            0x9444_c00e,
            64,
            0x1_0000,
            DoneByHardware,
            Required,
        ),
        (
            "Neoverse V1, qemu",
            0x9444_c004,
            64,
            64,
            DoneByHardware,
            Required,
        ),
        (
            "Neoverse N2, qemu",
            0x4_9444_c004,
            64,
            64,
            DoneByHardware,
            Required,
        ),
        ("A64FX, qemu", 0x8666_8006, 256, 256, Required, Required),
        ("max, qemu", 0x8003_8003, 32, 32, Required, Required),
    ];

    #[test]
    fn every_known_cpu_decodes_to_its_manual() {
        for &(name, ctr, data_line, instruction_line, data, instruction) in CPUS {
            let expected = CacheType {
                data_line,
                instruction_line,
                data,
                instruction,
            };
            assert_eq!(CacheType::decode(ctr), expected, "{name}: {ctr:#x}");
        }
    }

    #[test]
    fn no_line_where_the_hardware_does_it() {
        let coherent = CacheType::decode(0xb444_c004);
        assert_eq!(coherent.lines_to_clean(0x1000, 0x1000).count(), 0);
        assert_eq!(coherent.lines_to_invalidate(0x1000, 0x1000).count(), 0);

        let half = CacheType::decode(0x9444_c004);
        assert_eq!(half.lines_to_clean(0x1000, 0x1000).count(), 0);
        assert_eq!(half.lines_to_invalidate(0x1000, 0x1000).count(), 64);
    }

    #[test]
    fn every_line_that_holds_a_byte_is_visited_once() {
        let cache = CacheType::decode(0x8444_c004);
        let clean = |start, len| cache.lines_to_clean(start, len).collect::<Vec<_>>();
        assert_eq!(clean(0x1000, 0), []);
        assert_eq!(clean(0x103f, 0), []);
        assert_eq!(clean(0x1000, 1), [0x1000]);
        assert_eq!(clean(0x1000, 0x40), [0x1000]);
        assert_eq!(clean(0x1000, 0x41), [0x1000, 0x1040]);
        assert_eq!(clean(0x103f, 1), [0x1000]);
        assert_eq!(clean(0x103f, 2), [0x1000, 0x1040]);
        assert_eq!(clean(0x1020, 0x40), [0x1000, 0x1040]);
        // The last line of the address space.
        assert_eq!(clean(usize::MAX - 1, 2), [usize::MAX - 0x3f]);
    }

    #[test]
    fn the_two_loops_use_their_own_line() {
        let faked = CacheType::decode(0x8444_c00a);
        assert_eq!(faked.lines_to_clean(0x1ffc, 8).last(), Some(0x2000));
        let pages: Vec<usize> = faked.lines_to_invalidate(0x1ffc, 8).collect();
        assert_eq!(pages, [0x1000, 0x2000]);
    }
}
