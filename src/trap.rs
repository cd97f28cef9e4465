//! What stands where no code was written: instructions that trap.

/// One trapping instruction of the CPU that this was built for.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
const TRAP: &[u8] = &[0xcc]; // INT3 (Intel SDM volume 2)

/// One trapping instruction of the CPU that this was built for.
#[cfg(target_arch = "aarch64")]
const TRAP: &[u8] = &0xd420_0000_u32.to_le_bytes(); // BRK #0 (Arm ARM, C6.2)

/// One trapping instruction of the CPU that this was built for.
#[cfg(target_arch = "riscv64")]
const TRAP: &[u8] = &0x9002_u16.to_le_bytes(); // C.EBREAK (RISC-V unprivileged ISA, "C" extension)

/// One trapping instruction of the CPU that this was built for.
#[cfg(target_arch = "loongarch64")]
const TRAP: &[u8] = &0x002a_0000_u32.to_le_bytes(); // BREAK 0 (LoongArch reference manual, volume 1)

/// Nothing is executable on a CPU that [`icache`](crate::icache) does not know.
#[cfg(not(any(
    target_arch = "x86",
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
)))]
const TRAP: &[u8] = &[0];

/// Bytes to fill at once: longer ones the C library gives to a string instruction, which is slow to start.
const PART: usize = 2048;

/// Fills `code`, which starts at a multiple of the instruction size, with traps.
pub(crate) fn fill(code: &mut [u8]) {
    for part in code.chunks_mut(PART) {
        for place in part.chunks_mut(TRAP.len()) {
            place.copy_from_slice(&TRAP[..place.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_end_is_filled_with_what_fits_of_a_trap() {
        let mut code = [0; PART + 11];
        fill(&mut code);
        assert!(
            code.iter()
                .zip(TRAP.iter().cycle())
                .all(|(byte, trap)| byte == trap)
        );
    }
}
