//! LoongArch, 64 bits: *ELF for the LoongArch Architecture* (laelf), "Relocation types" and "Code Models".
//!
//! `pcalau12i` starts from the 4 KiB page of the place and takes whole pages; the second instruction
//! adds a signed 12-bit part. So the reach is fixed to the page and shifted down by 2 KiB.
//! These are the ranges of the normal and medium code models; the extreme model's four instructions,
//! which use the same upper and lower rows unchecked, reach everything and have no row here.

use super::{
    ANY, Bounds, RelocationRange, absolute, find, from_page, low_bits, relative, signed,
    signed_or_unsigned,
};

/// An upper part of 20 bits and a signed lower part of 12: -2^31 - 0x800 <= X < 2^31 - 0x800.
const PAIR: Bounds = Bounds {
    min: signed(32).min - 0x800,
    max: signed(32).max - 0x800,
};

/// An upper part of 20 bits and a signed lower part of 18: -2^37 - 0x20000 <= X < 2^37 - 0x20000.
const CALL: Bounds = Bounds {
    min: signed(38).min - 0x2_0000,
    max: signed(38).max - 0x2_0000,
};

/// 32 bits of data, S + A, under either reading.
pub const ABS32: RelocationRange = absolute("R_LARCH_32", 1, signed_or_unsigned(32));
/// 64 bits of data, S + A.
pub const ABS64: RelocationRange = absolute("R_LARCH_64", 2, ANY);
/// Branch on two registers: 18 bits.
pub const B16: RelocationRange = relative("R_LARCH_B16", 64, signed(18)).aligned(4);
/// Branch on zero: 23 bits.
pub const B21: RelocationRange = relative("R_LARCH_B21", 65, signed(23)).aligned(4);
/// `B`, `BL`: -128 MiB to +128 MiB - 4.
pub const B26: RelocationRange = relative("R_LARCH_B26", 66, signed(28)).aligned(4);
/// `PCALAU12I`. "Normal code model".
pub const PCALA_HI20: RelocationRange = from_page("R_LARCH_PCALA_HI20", 71, PAIR);
/// Load, store or `ADDI` after `PCALAU12I`.
pub const PCALA_LO12: RelocationRange = low_bits("R_LARCH_PCALA_LO12", 72);
/// `PCALAU12I` of a GOT entry.
pub const GOT_PC_HI20: RelocationRange = from_page("R_LARCH_GOT_PC_HI20", 75, PAIR);
/// Load of a GOT entry after `PCALAU12I`.
pub const GOT_PC_LO12: RelocationRange = low_bits("R_LARCH_GOT_PC_LO12", 76);
/// `PCALAU12I` of the GOT entry that holds the offset from the thread pointer.
pub const TLS_IE_PC_HI20: RelocationRange = from_page("R_LARCH_TLS_IE_PC_HI20", 87, PAIR);
/// Load of that entry after `PCALAU12I`.
pub const TLS_IE_PC_LO12: RelocationRange = low_bits("R_LARCH_TLS_IE_PC_LO12", 88);
/// `PCALAU12I` of the module's entry.
pub const TLS_LD_PC_HI20: RelocationRange = from_page("R_LARCH_TLS_LD_PC_HI20", 95, PAIR);
/// `PCALAU12I` of a module and offset pair.
pub const TLS_GD_PC_HI20: RelocationRange = from_page("R_LARCH_TLS_GD_PC_HI20", 97, PAIR);
/// 32 bits of data, S + A - P.
pub const PCREL32: RelocationRange = relative("R_LARCH_32_PCREL", 99, signed(32));
/// `PCADDI`: 22 bits.
pub const PCREL20_S2: RelocationRange = relative("R_LARCH_PCREL20_S2", 103, signed(22)).aligned(4);
/// 64 bits of data, S + A - P.
pub const PCREL64: RelocationRange = relative("R_LARCH_64_PCREL", 109, ANY);
/// `PCADDU18I` and `JIRL`: -128 GiB - 128 KiB to +128 GiB - 128 KiB - 4. "Medium code model".
pub const CALL36: RelocationRange = relative("R_LARCH_CALL36", 110, CALL).aligned(4);
/// `PCALAU12I` of a TLS descriptor.
pub const TLS_DESC_PC_HI20: RelocationRange = from_page("R_LARCH_TLS_DESC_PC_HI20", 111, PAIR);
/// `ADDI` after `PCALAU12I`.
pub const TLS_DESC_PC_LO12: RelocationRange = low_bits("R_LARCH_TLS_DESC_PC_LO12", 112);

/// Every row above, ascending by number.
pub const TABLE: &[RelocationRange] = &[
    ABS32,
    ABS64,
    B16,
    B21,
    B26,
    PCALA_HI20,
    PCALA_LO12,
    GOT_PC_HI20,
    GOT_PC_LO12,
    TLS_IE_PC_HI20,
    TLS_IE_PC_LO12,
    TLS_LD_PC_HI20,
    TLS_GD_PC_HI20,
    PCREL32,
    PCREL20_S2,
    PCREL64,
    CALL36,
    TLS_DESC_PC_HI20,
    TLS_DESC_PC_LO12,
];
/// The range of the LoongArch relocation type `number`; `None` if it has no row here.
pub fn range(number: u32) -> Option<&'static RelocationRange> {
    find(TABLE, number)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Ends, check_table};

    // By hand from laelf's text: numbers, first, last, step.
    const ENDS: &[Ends] = &[
        (&[1], -0x8000_0000, 0xffff_ffff, 1),
        (&[64], -0x2_0000, 0x1_fffc, 4),
        (&[65], -0x40_0000, 0x3f_fffc, 4),
        (&[66], -0x800_0000, 0x7ff_fffc, 4),
        (&[71, 75, 87, 95, 97, 111], -0x8000_0800, 0x7fff_f7ff, 1),
        (&[99], -0x8000_0000, 0x7fff_ffff, 1),
        (&[103], -0x20_0000, 0x1f_fffc, 4),
        (&[110], -0x20_0002_0000, 0x1f_fffd_fffc, 4),
    ];

    #[test]
    fn every_row_is_exact_at_both_ends() {
        let unchecked: &[(&[u32], i64)] = &[(&[2, 72, 76, 88, 109, 112], 1)];
        check_table(super::TABLE, "R_LARCH_", ENDS, unchecked);
    }

    #[test]
    fn a_pair_reaches_from_the_page_of_the_place_not_from_the_place() {
        for place in [0x1_0000_0000, 0x1_0000_0ffc] {
            let row = super::PCALA_HI20;
            assert_eq!(row.check(place, 0x1_7fff_f7ff), Ok(0x7fff_f7ff));
            assert!(row.check(place, 0x1_7fff_f800).is_err());
            assert_eq!(row.check(place, 0x7fff_f800), Ok(-0x8000_0800));
            assert!(row.check(place, 0x7fff_f7ff).is_err());
        }
    }
}
