//! x86-64: *System V ABI, AMD64 Architecture Processor Supplement*, section "Relocation Types".
//!
//! The ABI names the fields and says which the CPU sign-extends or zero-extends; it requires that a
//! linker check 32 and 32S, and leaves the rest to it. Here a pc-relative field is signed, as the CPU
//! reads it. `16` and `8` are data that either reading may want: -2^(n-1) <= X < 2^n. GNU ld 2.40 goes
//! further, down to -2^n for these two and +-2^16 for `PC16`, where the field loses the sign; that
//! is an error here.

use super::{ANY, RelocationRange, absolute, find, relative, signed, signed_or_unsigned, unsigned};

/// 64 bits, S + A.
pub const ABS64: RelocationRange = absolute("R_X86_64_64", 1, ANY);
/// 32 bits, S + A - P.
pub const PC32: RelocationRange = relative("R_X86_64_PC32", 2, signed(32));
/// 32 bits, the GOT entry's offset in the GOT, which is the target here.
pub const GOT32: RelocationRange = absolute("R_X86_64_GOT32", 3, signed(32));
/// 32 bits, L + A - P: the distance to a function or its stub.
pub const PLT32: RelocationRange = relative("R_X86_64_PLT32", 4, signed(32));
/// 32 bits, the distance to a GOT entry.
pub const GOTPCREL: RelocationRange = relative("R_X86_64_GOTPCREL", 9, signed(32));
/// 32 bits, S + A, which the CPU zero-extends.
pub const ABS32: RelocationRange = absolute("R_X86_64_32", 10, unsigned(32));
/// 32 bits, S + A, which the CPU sign-extends.
pub const ABS32S: RelocationRange = absolute("R_X86_64_32S", 11, signed(32));
/// 16 bits, S + A, under either reading.
pub const ABS16: RelocationRange = absolute("R_X86_64_16", 12, signed_or_unsigned(16));
/// 16 bits, S + A - P.
pub const PC16: RelocationRange = relative("R_X86_64_PC16", 13, signed(16));
/// 8 bits, S + A, under either reading.
pub const ABS8: RelocationRange = absolute("R_X86_64_8", 14, signed_or_unsigned(8));
/// 8 bits, S + A - P.
pub const PC8: RelocationRange = relative("R_X86_64_PC8", 15, signed(8));
/// 64 bits, the offset in the module's TLS block, which is the target here.
pub const DTPOFF64: RelocationRange = absolute("R_X86_64_DTPOFF64", 17, ANY);
/// 64 bits, the offset from the thread pointer, which is the target here.
pub const TPOFF64: RelocationRange = absolute("R_X86_64_TPOFF64", 18, ANY);
/// 32 bits, the distance to a module and offset pair.
pub const TLSGD: RelocationRange = relative("R_X86_64_TLSGD", 19, signed(32));
/// 32 bits, the distance to the module's entry.
pub const TLSLD: RelocationRange = relative("R_X86_64_TLSLD", 20, signed(32));
/// 32 bits, the offset in the module's TLS block, which is the target here.
pub const DTPOFF32: RelocationRange = absolute("R_X86_64_DTPOFF32", 21, signed(32));
/// 32 bits, the distance to the GOT entry that holds the offset from the thread pointer.
pub const GOTTPOFF: RelocationRange = relative("R_X86_64_GOTTPOFF", 22, signed(32));
/// 32 bits, the offset from the thread pointer, which is the target here.
pub const TPOFF32: RelocationRange = absolute("R_X86_64_TPOFF32", 23, signed(32));
/// 64 bits, S + A - P.
pub const PC64: RelocationRange = relative("R_X86_64_PC64", 24, ANY);
/// 64 bits, S + A - GOT: the place is the GOT.
pub const GOTOFF64: RelocationRange = relative("R_X86_64_GOTOFF64", 25, ANY);
/// 32 bits, GOT + A - P.
pub const GOTPC32: RelocationRange = relative("R_X86_64_GOTPC32", 26, signed(32));
/// 64 bits, the GOT entry's offset in the GOT, which is the target here.
pub const GOT64: RelocationRange = absolute("R_X86_64_GOT64", 27, ANY);
/// 64 bits, the distance to a GOT entry.
pub const GOTPCREL64: RelocationRange = relative("R_X86_64_GOTPCREL64", 28, ANY);
/// 64 bits, GOT + A - P.
pub const GOTPC64: RelocationRange = relative("R_X86_64_GOTPC64", 29, ANY);
/// 64 bits, the offset of a function's GOT entry in the GOT, which is the target here; later versions of the ABI drop it.
pub const GOTPLT64: RelocationRange = absolute("R_X86_64_GOTPLT64", 30, ANY);
/// 64 bits, L + A - GOT: the place is the GOT.
pub const PLTOFF64: RelocationRange = relative("R_X86_64_PLTOFF64", 31, ANY);
/// 32 bits, the symbol's size + A, which is the target here, under either reading.
pub const SIZE32: RelocationRange = absolute("R_X86_64_SIZE32", 32, signed_or_unsigned(32));
/// 64 bits, the symbol's size + A, which is the target here.
pub const SIZE64: RelocationRange = absolute("R_X86_64_SIZE64", 33, ANY);
/// 32 bits, the distance to a TLS descriptor.
pub const GOTPC32_TLSDESC: RelocationRange = relative("R_X86_64_GOTPC32_TLSDESC", 34, signed(32));
/// 32 bits, the distance to a GOT entry; the load may be relaxed, if the symbol itself is in *signed* reach.
pub const GOTPCRELX: RelocationRange = relative("R_X86_64_GOTPCRELX", 41, signed(32));
/// The same, of an instruction with a REX prefix.
pub const REX_GOTPCRELX: RelocationRange = relative("R_X86_64_REX_GOTPCRELX", 42, signed(32));
/// The same, of an instruction with a REX2 prefix (APX).
pub const CODE_4_GOTPCRELX: RelocationRange = relative("R_X86_64_CODE_4_GOTPCRELX", 43, signed(32));
/// [`GOTTPOFF`] of an instruction with a REX2 prefix (APX).
pub const CODE_4_GOTTPOFF: RelocationRange = relative("R_X86_64_CODE_4_GOTTPOFF", 44, signed(32));
/// [`GOTPC32_TLSDESC`] of an instruction with a REX2 prefix (APX).
pub const CODE_4_GOTPC32_TLSDESC: RelocationRange =
    relative("R_X86_64_CODE_4_GOTPC32_TLSDESC", 45, signed(32));
/// [`GOTPCRELX`] of an instruction that begins 5 bytes in front of the field (APX).
pub const CODE_5_GOTPCRELX: RelocationRange = relative("R_X86_64_CODE_5_GOTPCRELX", 46, signed(32));
/// [`GOTTPOFF`] of an instruction that begins 5 bytes in front of the field (APX).
pub const CODE_5_GOTTPOFF: RelocationRange = relative("R_X86_64_CODE_5_GOTTPOFF", 47, signed(32));
/// [`GOTPC32_TLSDESC`] of an instruction that begins 5 bytes in front of the field (APX).
pub const CODE_5_GOTPC32_TLSDESC: RelocationRange =
    relative("R_X86_64_CODE_5_GOTPC32_TLSDESC", 48, signed(32));
/// [`GOTPCRELX`] of an instruction with an EVEX prefix (APX).
pub const CODE_6_GOTPCRELX: RelocationRange = relative("R_X86_64_CODE_6_GOTPCRELX", 49, signed(32));
/// [`GOTTPOFF`] of an instruction with an EVEX prefix (APX).
pub const CODE_6_GOTTPOFF: RelocationRange = relative("R_X86_64_CODE_6_GOTTPOFF", 50, signed(32));
/// [`GOTPC32_TLSDESC`] of an instruction with an EVEX prefix (APX).
pub const CODE_6_GOTPC32_TLSDESC: RelocationRange =
    relative("R_X86_64_CODE_6_GOTPC32_TLSDESC", 51, signed(32));

/// Every row above, ascending by number.
pub const TABLE: &[RelocationRange] = &[
    ABS64,
    PC32,
    GOT32,
    PLT32,
    GOTPCREL,
    ABS32,
    ABS32S,
    ABS16,
    PC16,
    ABS8,
    PC8,
    DTPOFF64,
    TPOFF64,
    TLSGD,
    TLSLD,
    DTPOFF32,
    GOTTPOFF,
    TPOFF32,
    PC64,
    GOTOFF64,
    GOTPC32,
    GOT64,
    GOTPCREL64,
    GOTPC64,
    GOTPLT64,
    PLTOFF64,
    SIZE32,
    SIZE64,
    GOTPC32_TLSDESC,
    GOTPCRELX,
    REX_GOTPCRELX,
    CODE_4_GOTPCRELX,
    CODE_4_GOTTPOFF,
    CODE_4_GOTPC32_TLSDESC,
    CODE_5_GOTPCRELX,
    CODE_5_GOTTPOFF,
    CODE_5_GOTPC32_TLSDESC,
    CODE_6_GOTPCRELX,
    CODE_6_GOTTPOFF,
    CODE_6_GOTPC32_TLSDESC,
];
/// The range of the x86-64 relocation type `number`; `None` if it has no row here.
pub fn range(number: u32) -> Option<&'static RelocationRange> {
    find(TABLE, number)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Ends, check_table};

    // By hand from the ABI's table: numbers, first, last, step.
    const ENDS: &[Ends] = &[
        (
            &[
                2, 4, 9, 19, 20, 22, 26, 34, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51,
            ],
            -0x8000_0000,
            0x7fff_ffff,
            1,
        ),
        (&[3, 11, 21, 23], -0x8000_0000, 0x7fff_ffff, 1),
        (&[10], 0, 0xffff_ffff, 1),
        (&[12], -0x8000, 0xffff, 1),
        (&[13], -0x8000, 0x7fff, 1),
        (&[14], -0x80, 0xff, 1),
        (&[15], -0x80, 0x7f, 1),
        (&[32], -0x8000_0000, 0xffff_ffff, 1),
    ];

    const UNCHECKED: &[(&[u32], i64)] = &[(&[1, 17, 18, 24, 25, 27, 28, 29, 30, 31, 33], 1)];

    #[test]
    fn every_row_is_exact_at_both_ends() {
        check_table(super::TABLE, "R_X86_64_", ENDS, UNCHECKED);
    }

    #[test]
    fn a_kernel_address_fits_the_sign_extended_field_only() {
        let kernel = 0xffff_ffff_8000_0000;
        assert_eq!(super::ABS32S.check(0, kernel), Ok(-0x8000_0000));
        assert!(super::ABS32.check(0, kernel).is_err());
        assert!(super::ABS32S.check(0, 0x8000_0000).is_err());
        assert!(super::ABS32.check(0, 0x8000_0000).is_ok());
    }
}
