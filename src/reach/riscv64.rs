//! RISC-V, 64 bits: *RISC-V ELF psABI*, "Relocations"; rows name the subsection where the range stands.
//!
//! A pair adds a signed 12-bit part to an upper part that is a multiple of 4096, so what it reaches is
//! shifted down by 2 KiB: the uppermost 2 KiB of the signed 32-bit distances are out of reach.

use super::{
    ANY, Bounds, RelocationRange, absolute, find, low_bits, relative, signed, signed_or_unsigned,
};

/// An upper part of 20 bits and a signed lower part of 12: -2^31 - 0x800 <= X <= 2^31 - 0x801.
const PAIR: Bounds = Bounds {
    min: signed(32).min - 0x800,
    max: signed(32).max - 0x800,
};

/// 32 bits of data, S + A, under either reading.
pub const ABS32: RelocationRange = absolute("R_RISCV_32", 1, signed_or_unsigned(32));
/// 64 bits of data, S + A.
pub const ABS64: RelocationRange = absolute("R_RISCV_64", 2, ANY);
/// Conditional branch: -4096 to +4094. "PC-Relative Jumps and Branches".
pub const BRANCH: RelocationRange = relative("R_RISCV_BRANCH", 16, signed(13)).aligned(2);
/// `JAL`: -1 MiB to +1 MiB - 2. "PC-Relative Jumps and Branches".
pub const JAL: RelocationRange = relative("R_RISCV_JAL", 17, signed(21)).aligned(2);
/// `AUIPC` and `JALR`, the deprecated name of [`CALL_PLT`]. "Procedure Calls".
pub const CALL: RelocationRange = relative("R_RISCV_CALL", 18, PAIR).aligned(2);
/// `AUIPC` and `JALR`, which clears the lowest bit. "Procedure Calls".
pub const CALL_PLT: RelocationRange = relative("R_RISCV_CALL_PLT", 19, PAIR).aligned(2);
/// `AUIPC` of a GOT entry.
pub const GOT_HI20: RelocationRange = relative("R_RISCV_GOT_HI20", 20, PAIR);
/// `AUIPC` of the GOT entry that holds the offset from the thread pointer. "Initial Exec".
pub const TLS_GOT_HI20: RelocationRange = relative("R_RISCV_TLS_GOT_HI20", 21, PAIR);
/// `AUIPC` of a module and offset pair. "Global Dynamic".
pub const TLS_GD_HI20: RelocationRange = relative("R_RISCV_TLS_GD_HI20", 22, PAIR);
/// `AUIPC`. "PC-Relative Symbol Addresses".
pub const PCREL_HI20: RelocationRange = relative("R_RISCV_PCREL_HI20", 23, PAIR);
/// Load or `ADDI` after `AUIPC`: the place is the `AUIPC`, which did the check.
pub const PCREL_LO12_I: RelocationRange = relative("R_RISCV_PCREL_LO12_I", 24, ANY);
/// Store after `AUIPC`: the place is the `AUIPC`, which did the check.
pub const PCREL_LO12_S: RelocationRange = relative("R_RISCV_PCREL_LO12_S", 25, ANY);
/// `LUI`, which RV64 sign-extends. "Absolute Addresses".
pub const HI20: RelocationRange = absolute("R_RISCV_HI20", 26, PAIR);
/// Load or `ADDI` after `LUI`. "Absolute Addresses".
pub const LO12_I: RelocationRange = low_bits("R_RISCV_LO12_I", 27);
/// Store after `LUI`. "Absolute Addresses".
pub const LO12_S: RelocationRange = low_bits("R_RISCV_LO12_S", 28);
/// Compressed branch: -256 to +254. CB-type field.
pub const RVC_BRANCH: RelocationRange = relative("R_RISCV_RVC_BRANCH", 44, signed(9)).aligned(2);
/// Compressed jump: -2048 to +2046. CJ-type field.
pub const RVC_JUMP: RelocationRange = relative("R_RISCV_RVC_JUMP", 45, signed(12)).aligned(2);
/// 32 bits of data, S + A - P.
pub const PCREL32: RelocationRange = relative("R_RISCV_32_PCREL", 57, signed(32));
/// 32 bits of data, the distance to a function or its stub.
pub const PLT32: RelocationRange = relative("R_RISCV_PLT32", 59, signed(32));
/// `AUIPC` of a TLS descriptor. "TLS Descriptors".
pub const TLSDESC_HI20: RelocationRange = relative("R_RISCV_TLSDESC_HI20", 62, PAIR);

/// Every row above, ascending by number.
pub const TABLE: &[RelocationRange] = &[
    ABS32,
    ABS64,
    BRANCH,
    JAL,
    CALL,
    CALL_PLT,
    GOT_HI20,
    TLS_GOT_HI20,
    TLS_GD_HI20,
    PCREL_HI20,
    PCREL_LO12_I,
    PCREL_LO12_S,
    HI20,
    LO12_I,
    LO12_S,
    RVC_BRANCH,
    RVC_JUMP,
    PCREL32,
    PLT32,
    TLSDESC_HI20,
];
/// The range of the RISC-V relocation type `number`; `None` if it has no row here.
pub fn range(number: u32) -> Option<&'static RelocationRange> {
    find(TABLE, number)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Ends, check_table};

    // By hand from the psABI's text: numbers, first, last, step.
    const ENDS: &[Ends] = &[
        (&[1], -0x8000_0000, 0xffff_ffff, 1),
        (&[16], -4096, 4094, 2),
        (&[17], -0x10_0000, 0xf_fffe, 2),
        (&[18, 19], -0x8000_0800, 0x7fff_f7fe, 2),
        (&[20, 21, 22, 23, 26, 62], -0x8000_0800, 0x7fff_f7ff, 1),
        (&[44], -256, 254, 2),
        (&[45], -2048, 2046, 2),
        (&[57, 59], -0x8000_0000, 0x7fff_ffff, 1),
    ];

    #[test]
    fn every_row_is_exact_at_both_ends() {
        let unchecked: &[(&[u32], i64)] = &[(&[2, 24, 25, 27, 28], 1)];
        check_table(super::TABLE, "R_RISCV_", ENDS, unchecked);
    }

    #[test]
    fn a_pair_s_two_parts_rebuild_the_distance_at_both_ends() {
        for x in [-0x8000_0800_i64, -0x800, -1, 0x7ff, 0x800, 0x7fff_f7ff] {
            assert_eq!(super::PCREL_HI20.check(0, x as u64), Ok(x));
            let upper = (x + 0x800) >> 12;
            let lower = (x << 52) >> 52;
            assert!((-0x8_0000..0x8_0000).contains(&upper), "{x:#x}");
            assert_eq!((upper << 12) + lower, x);
        }
    }
}
