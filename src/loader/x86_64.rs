//! x86-64's static relocations (System V ABI, AMD64 supplement, "Relocation Types") and its stub.
//!
//! All of that table is here, but for thread-local storage and what only dynamic linkers see (COPY, GLOB_DAT, JUMP_SLOT,
//! RELATIVE, RELATIVE64, IRELATIVE). Not here are PC32_BND and PLT32_BND (39, 40), which went with MPX: the ABI keeps the
//! numbers back, and assemblers have not written them since.

use super::machine::STUB_CODE;
use super::relocation::{Field::*, Operand::*, Row};
use crate::reach::x86_64::*;

/// Sorted by number.
pub(super) const RELOCATIONS: &[Row] = &[
    Row::new(ABS64, Symbol, Data64),
    Row::new(PC32, Symbol, Data32),
    Row::new(GOT32, SlotFromGot, Data32),
    Row::new(PLT32, Plt, Data32),
    Row::new(GOTPCREL, SlotPlusAddend, Data32),
    Row::new(ABS32, Symbol, Data32),
    Row::new(ABS32S, Symbol, Data32),
    Row::new(ABS16, Symbol, Data16),
    Row::new(PC16, Symbol, Data16),
    Row::new(ABS8, Symbol, Data8),
    Row::new(PC8, Symbol, Data8),
    Row::new(PC64, Symbol, Data64),
    Row::new(GOTOFF64, SymbolFromGot, Data64),
    Row::new(GOTPC32, Got, Data32),
    Row::new(GOT64, SlotFromGot, Data64),
    Row::new(GOTPCREL64, SlotPlusAddend, Data64),
    Row::new(GOTPC64, Got, Data64),
    Row::new(GOTPLT64, SlotFromGot, Data64),
    Row::new(PLTOFF64, SymbolFromGot, Data64),
    Row::new(SIZE32, Size, Data32),
    Row::new(SIZE64, Size, Data64),
    Row::new(GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(REX_GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(CODE_4_GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(CODE_5_GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(CODE_6_GOTPCRELX, SlotPlusAddend, Data32),
];

/// `jmp *2(%rip)`, `ud2`: to the address that follows (Intel SDM volume 2, JMP).
pub(super) const STUB: [u8; STUB_CODE] = [0xff, 0x25, 0x02, 0, 0, 0, 0x0f, 0x0b];
