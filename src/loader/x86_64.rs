//! x86-64's static relocations (System V ABI, AMD64 supplement, "Relocation Types") and its stub.

use super::machine::STUB_CODE;
use super::relocation::{Field::*, Operand::*, Row};
use crate::reach::x86_64::*;

/// Sorted by number.
pub(super) const RELOCATIONS: &[Row] = &[
    Row::new(ABS64, Symbol, Data64),
    Row::new(PC32, Symbol, Data32),
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
    Row::new(PLTOFF64, SymbolFromGot, Data64),
    Row::new(GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(REX_GOTPCRELX, SlotPlusAddend, Data32),
];

/// `jmp *2(%rip)`, `ud2`: to the address that follows (Intel SDM volume 2, JMP).
pub(super) const STUB: [u8; STUB_CODE] = [0xff, 0x25, 0x02, 0, 0, 0, 0x0f, 0x0b];
