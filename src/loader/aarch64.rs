//! AArch64's static relocations (ARM-software/abi-aa, aaelf64, section 5.7) and its stub.
//!
//! All of its tables are here. Not here are the numbers that other documents of that ABI add:
//! PATCHINST and FUNCINIT64 (316, 317) and AUTH_* (from 580), since nothing in this loader signs pointers or calls a
//! program's functions before it is linked; and the numbers below 256, which are for ILP32.

use super::machine::{IndirectStub, STUB_CODE};
use super::relocation::{Field::*, Operand::*, Row};
use super::tls::Entry;
use crate::reach::aarch64::*;

/// Sorted by number.
pub(super) const RELOCATIONS: &[Row] = &[
    Row::new(ABS64, Symbol, Data64),
    Row::new(ABS32, Symbol, Data32),
    Row::new(ABS16, Symbol, Data16),
    Row::new(PREL64, Symbol, Data64),
    Row::new(PREL32, Symbol, Data32),
    Row::new(PREL16, Symbol, Data16),
    Row::new(MOVW_UABS_G0, Symbol, Movw { shift: 0 }),
    Row::new(MOVW_UABS_G0_NC, Symbol, Movw { shift: 0 }),
    Row::new(MOVW_UABS_G1, Symbol, Movw { shift: 16 }),
    Row::new(MOVW_UABS_G1_NC, Symbol, Movw { shift: 16 }),
    Row::new(MOVW_UABS_G2, Symbol, Movw { shift: 32 }),
    Row::new(MOVW_UABS_G2_NC, Symbol, Movw { shift: 32 }),
    Row::new(MOVW_UABS_G3, Symbol, Movw { shift: 48 }),
    Row::new(MOVW_SABS_G0, Symbol, MovwSigned { shift: 0 }),
    Row::new(MOVW_SABS_G1, Symbol, MovwSigned { shift: 16 }),
    Row::new(MOVW_SABS_G2, Symbol, MovwSigned { shift: 32 }),
    Row::new(LD_PREL_LO19, Symbol, Offset { at: 5, bits: 19 }),
    Row::new(ADR_PREL_LO21, Symbol, Adr),
    Row::new(ADR_PREL_PG_HI21, Symbol, AdrPage),
    Row::new(ADR_PREL_PG_HI21_NC, Symbol, AdrPage),
    Row::new(ADD_ABS_LO12_NC, Symbol, Imm12 { scale: 0 }),
    Row::new(LDST8_ABS_LO12_NC, Symbol, Imm12 { scale: 0 }),
    Row::new(TSTBR14, Symbol, Offset { at: 5, bits: 14 }),
    Row::new(CONDBR19, Symbol, Offset { at: 5, bits: 19 }),
    Row::new(JUMP26, Branch, Offset { at: 0, bits: 26 }),
    Row::new(CALL26, Branch, Offset { at: 0, bits: 26 }),
    Row::new(LDST16_ABS_LO12_NC, Symbol, Imm12 { scale: 1 }),
    Row::new(LDST32_ABS_LO12_NC, Symbol, Imm12 { scale: 2 }),
    Row::new(LDST64_ABS_LO12_NC, Symbol, Imm12 { scale: 3 }),
    Row::new(MOVW_PREL_G0, Symbol, MovwSigned { shift: 0 }),
    Row::new(MOVW_PREL_G0_NC, Symbol, Movw { shift: 0 }),
    Row::new(MOVW_PREL_G1, Symbol, MovwSigned { shift: 16 }),
    Row::new(MOVW_PREL_G1_NC, Symbol, Movw { shift: 16 }),
    Row::new(MOVW_PREL_G2, Symbol, MovwSigned { shift: 32 }),
    Row::new(MOVW_PREL_G2_NC, Symbol, Movw { shift: 32 }),
    Row::new(MOVW_PREL_G3, Symbol, MovwSigned { shift: 48 }),
    Row::new(LDST128_ABS_LO12_NC, Symbol, Imm12 { scale: 4 }),
    Row::new(MOVW_GOTOFF_G0, SlotOfSumFromGot, MovwSigned { shift: 0 }),
    Row::new(MOVW_GOTOFF_G0_NC, SlotOfSumFromGot, Movw { shift: 0 }),
    Row::new(MOVW_GOTOFF_G1, SlotOfSumFromGot, MovwSigned { shift: 16 }),
    Row::new(MOVW_GOTOFF_G1_NC, SlotOfSumFromGot, Movw { shift: 16 }),
    Row::new(MOVW_GOTOFF_G2, SlotOfSumFromGot, MovwSigned { shift: 32 }),
    Row::new(MOVW_GOTOFF_G2_NC, SlotOfSumFromGot, Movw { shift: 32 }),
    Row::new(MOVW_GOTOFF_G3, SlotOfSumFromGot, MovwSigned { shift: 48 }),
    Row::new(GOTREL64, SymbolFromGot, Data64),
    Row::new(GOTREL32, SymbolFromGot, Data32),
    Row::new(GOT_LD_PREL19, SlotOfSum, Offset { at: 5, bits: 19 }),
    Row::new(LD64_GOTOFF_LO15, SlotOfSumFromGot, Imm12 { scale: 3 }),
    Row::new(ADR_GOT_PAGE, SlotOfSum, AdrPage),
    Row::new(LD64_GOT_LO12_NC, SlotOfSum, Imm12 { scale: 3 }),
    Row::new(LD64_GOTPAGE_LO15, SlotOfSumFromGot, Imm12 { scale: 3 }),
    Row::new(PLT32, Plt, Data32),
    Row::new(GOTPCREL32, SlotPlusAddend, Data32),
    Row::new(TLSGD_ADR_PREL21, ThreadEntryOfSum(Entry::Pair), Adr),
    Row::new(TLSGD_ADR_PAGE21, ThreadEntryOfSum(Entry::Pair), AdrPage),
    Row::new(
        TLSGD_ADD_LO12_NC,
        ThreadEntryOfSum(Entry::Pair),
        Imm12 { scale: 0 },
    ),
    Row::new(
        TLSGD_MOVW_G1,
        ThreadEntryOfSumFromGot(Entry::Pair),
        MovwSigned { shift: 16 },
    ),
    Row::new(
        TLSGD_MOVW_G0_NC,
        ThreadEntryOfSumFromGot(Entry::Pair),
        Movw { shift: 0 },
    ),
    Row::new(TLSLD_ADR_PREL21, ThreadEntryOfSum(Entry::Module), Adr),
    Row::new(TLSLD_ADR_PAGE21, ThreadEntryOfSum(Entry::Module), AdrPage),
    Row::new(
        TLSLD_ADD_LO12_NC,
        ThreadEntryOfSum(Entry::Module),
        Imm12 { scale: 0 },
    ),
    Row::new(
        TLSLD_MOVW_G1,
        ThreadEntryOfSumFromGot(Entry::Module),
        MovwSigned { shift: 16 },
    ),
    Row::new(
        TLSLD_MOVW_G0_NC,
        ThreadEntryOfSumFromGot(Entry::Module),
        Movw { shift: 0 },
    ),
    Row::new(
        TLSLD_LD_PREL19,
        ThreadEntryOfSum(Entry::Module),
        Offset { at: 5, bits: 19 },
    ),
    Row::new(TLSLD_MOVW_DTPREL_G2, BlockOffset, MovwSigned { shift: 32 }),
    Row::new(TLSLD_MOVW_DTPREL_G1, BlockOffset, MovwSigned { shift: 16 }),
    Row::new(TLSLD_MOVW_DTPREL_G1_NC, BlockOffset, Movw { shift: 16 }),
    Row::new(TLSLD_MOVW_DTPREL_G0, BlockOffset, MovwSigned { shift: 0 }),
    Row::new(TLSLD_MOVW_DTPREL_G0_NC, BlockOffset, Movw { shift: 0 }),
    Row::new(TLSLD_ADD_DTPREL_HI12, BlockOffset, High12),
    Row::new(TLSLD_ADD_DTPREL_LO12, BlockOffset, Imm12 { scale: 0 }),
    Row::new(TLSLD_ADD_DTPREL_LO12_NC, BlockOffset, Imm12 { scale: 0 }),
    Row::new(TLSLD_LDST8_DTPREL_LO12, BlockOffset, Imm12 { scale: 0 }),
    Row::new(TLSLD_LDST8_DTPREL_LO12_NC, BlockOffset, Imm12 { scale: 0 }),
    Row::new(TLSLD_LDST16_DTPREL_LO12, BlockOffset, Imm12 { scale: 1 }),
    Row::new(TLSLD_LDST16_DTPREL_LO12_NC, BlockOffset, Imm12 { scale: 1 }),
    Row::new(TLSLD_LDST32_DTPREL_LO12, BlockOffset, Imm12 { scale: 2 }),
    Row::new(TLSLD_LDST32_DTPREL_LO12_NC, BlockOffset, Imm12 { scale: 2 }),
    Row::new(TLSLD_LDST64_DTPREL_LO12, BlockOffset, Imm12 { scale: 3 }),
    Row::new(TLSLD_LDST64_DTPREL_LO12_NC, BlockOffset, Imm12 { scale: 3 }),
    Row::new(
        TLSIE_MOVW_GOTTPREL_G1,
        ThreadEntryOfSumFromGot(Entry::Offset),
        MovwSigned { shift: 16 },
    ),
    Row::new(
        TLSIE_MOVW_GOTTPREL_G0_NC,
        ThreadEntryOfSumFromGot(Entry::Offset),
        Movw { shift: 0 },
    ),
    Row::new(
        TLSIE_ADR_GOTTPREL_PAGE21,
        ThreadEntryOfSum(Entry::Offset),
        AdrPage,
    ),
    Row::new(
        TLSIE_LD64_GOTTPREL_LO12_NC,
        ThreadEntryOfSum(Entry::Offset),
        Imm12 { scale: 3 },
    ),
    Row::new(
        TLSIE_LD_GOTTPREL_PREL19,
        ThreadEntryOfSum(Entry::Offset),
        Offset { at: 5, bits: 19 },
    ),
    Row::new(TLSLE_MOVW_TPREL_G2, ThreadOffset, MovwSigned { shift: 32 }),
    Row::new(TLSLE_MOVW_TPREL_G1, ThreadOffset, MovwSigned { shift: 16 }),
    Row::new(TLSLE_MOVW_TPREL_G1_NC, ThreadOffset, Movw { shift: 16 }),
    Row::new(TLSLE_MOVW_TPREL_G0, ThreadOffset, MovwSigned { shift: 0 }),
    Row::new(TLSLE_MOVW_TPREL_G0_NC, ThreadOffset, Movw { shift: 0 }),
    Row::new(TLSLE_ADD_TPREL_HI12, ThreadOffset, High12),
    Row::new(TLSLE_ADD_TPREL_LO12, ThreadOffset, Imm12 { scale: 0 }),
    Row::new(TLSLE_ADD_TPREL_LO12_NC, ThreadOffset, Imm12 { scale: 0 }),
    Row::new(TLSLE_LDST8_TPREL_LO12, ThreadOffset, Imm12 { scale: 0 }),
    Row::new(TLSLE_LDST8_TPREL_LO12_NC, ThreadOffset, Imm12 { scale: 0 }),
    Row::new(TLSLE_LDST16_TPREL_LO12, ThreadOffset, Imm12 { scale: 1 }),
    Row::new(TLSLE_LDST16_TPREL_LO12_NC, ThreadOffset, Imm12 { scale: 1 }),
    Row::new(TLSLE_LDST32_TPREL_LO12, ThreadOffset, Imm12 { scale: 2 }),
    Row::new(TLSLE_LDST32_TPREL_LO12_NC, ThreadOffset, Imm12 { scale: 2 }),
    Row::new(TLSLE_LDST64_TPREL_LO12, ThreadOffset, Imm12 { scale: 3 }),
    Row::new(TLSLE_LDST64_TPREL_LO12_NC, ThreadOffset, Imm12 { scale: 3 }),
    Row::new(
        TLSDESC_LD_PREL19,
        ThreadEntryOfSum(Entry::Descriptor),
        Offset { at: 5, bits: 19 },
    ),
    Row::new(TLSDESC_ADR_PREL21, ThreadEntryOfSum(Entry::Descriptor), Adr),
    Row::new(
        TLSDESC_ADR_PAGE21,
        ThreadEntryOfSum(Entry::Descriptor),
        AdrPage,
    ),
    Row::new(
        TLSDESC_LD64_LO12,
        ThreadEntryOfSum(Entry::Descriptor),
        Imm12 { scale: 3 },
    ),
    Row::new(
        TLSDESC_ADD_LO12,
        ThreadEntryOfSum(Entry::Descriptor),
        Imm12 { scale: 0 },
    ),
    Row::new(
        TLSDESC_OFF_G1,
        ThreadEntryOfSumFromGot(Entry::Descriptor),
        MovwSigned { shift: 16 },
    ),
    Row::new(
        TLSDESC_OFF_G0_NC,
        ThreadEntryOfSumFromGot(Entry::Descriptor),
        Movw { shift: 0 },
    ),
    Row::new(TLSLE_LDST128_TPREL_LO12, ThreadOffset, Imm12 { scale: 4 }),
    Row::new(
        TLSLE_LDST128_TPREL_LO12_NC,
        ThreadOffset,
        Imm12 { scale: 4 },
    ),
    Row::new(TLSLD_LDST128_DTPREL_LO12, BlockOffset, Imm12 { scale: 4 }),
    Row::new(
        TLSLD_LDST128_DTPREL_LO12_NC,
        BlockOffset,
        Imm12 { scale: 4 },
    ),
];

/// `ldr x16, .+8`, `br x16`: to the address that follows. x16 is a linker's to use (AAPCS64, section 6.1.1), and a branch
/// through it may land on a BTI for calls.
pub(super) const STUB: [u8; STUB_CODE] = [0x50, 0, 0, 0x58, 0, 0x02, 0x1f, 0xd6];

/// `bti c`, since its address may be called, `adrp x16, slot`, `ldr x16, [x16, :lo12:slot]`, `br x16`.
pub(super) const INDIRECT_STUB: IndirectStub = IndirectStub {
    code: [
        0x5f, 0x24, 0x03, 0xd5, 0x10, 0, 0, 0x90, 0x10, 0x02, 0x40, 0xf9, 0, 0x02, 0x1f, 0xd6,
    ],
    relocations: &[
        (4, ADR_PREL_PG_HI21.number(), 0),
        (8, LDST64_ABS_LO12_NC.number(), 0),
    ],
};
