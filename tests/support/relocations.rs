//! What the loader can relocate, in the ABIs' words: AMD64 ABI, "Relocation Types"; aaelf64, "Relocation types".

use nearcode::loader::Machine;
use nearcode::reach::{RelocationRange, aarch64, x86_64};

/// One relocation type.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) number: u32,
    pub(crate) operand: Operand,
    /// What has to stand in front of the field: on x86-64, the instruction that it ends.
    pub(crate) head: &'static [u8],
    /// Of the field, in bytes.
    pub(crate) size: u64,
    /// The instruction, if it relocates one: without the bits of the field.
    pub(crate) word: u32,
    /// The bits of the instruction that it writes to.
    pub(crate) mask: u32,
}

/// What the value is computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operand {
    /// Nothing is computed.
    Nothing,
    /// S + A.
    Symbol,
    /// S + A, of a branch.
    Branch,
    /// A GOT entry that holds S, plus A.
    Slot,
    /// The page of a GOT entry; the next instruction is relocated with its low bits.
    SlotPage,
    /// The low bits of a GOT entry; only behind its page.
    SlotLow,
    /// A GOT entry, counted from the GOT or its page.
    SlotFromGot,
    /// The high bits of that, which are zero: the GOT is small.
    SlotFromGotHigh,
    /// A GOT entry that holds S, plus A, or S + A.
    SlotOrSymbol,
    /// GOT + A.
    Got,
    /// S + A, counted from the GOT.
    SymbolFromGot,
    /// The symbol's size + A.
    Size,
}

use Operand::*;

const fn data(number: u32, operand: Operand, size: u64) -> Kind {
    Kind {
        number,
        operand,
        head: &[],
        size,
        word: 0,
        mask: 0,
    }
}

/// An x86-64 instruction that ends with its distance to a GOT entry.
const fn through_slot(number: u32, operand: Operand, head: &'static [u8]) -> Kind {
    Kind {
        head,
        ..data(number, operand, 4)
    }
}

const fn code(number: u32, operand: Operand, word: u32, mask: u32) -> Kind {
    Kind {
        number,
        operand,
        head: &[],
        size: 4,
        word,
        mask,
    }
}

const X86_64: &[Kind] = &[
    data(0, Nothing, 4),
    data(1, Symbol, 8),         // 64
    data(2, Symbol, 4),         // PC32
    data(3, SlotFromGot, 4),    // GOT32
    data(4, Branch, 4),         // PLT32
    data(9, Slot, 4),           // GOTPCREL
    data(10, Symbol, 4),        // 32
    data(11, Symbol, 4),        // 32S
    data(12, Symbol, 2),        // 16
    data(13, Symbol, 2),        // PC16
    data(14, Symbol, 1),        // 8
    data(15, Symbol, 1),        // PC8
    data(24, Symbol, 8),        // PC64
    data(25, SymbolFromGot, 8), // GOTOFF64
    data(26, Got, 4),           // GOTPC32
    data(27, SlotFromGot, 8),   // GOT64
    data(28, Slot, 8),          // GOTPCREL64
    data(29, Got, 8),           // GOTPC64
    data(30, SlotFromGot, 8),   // GOTPLT64
    data(31, SymbolFromGot, 8), // PLTOFF64
    data(32, Size, 4),          // SIZE32
    data(33, Size, 8),          // SIZE64
    data(35, Nothing, 4),       // TLSDESC_CALL
    // Arithmetic is not changed, and by GNU ld only if it may.
    through_slot(41, Slot, &[0x03, 0x05]), // GOTPCRELX: add
    through_slot(42, Slot, &[0x48, 0x85, 0x05]), // REX_GOTPCRELX: test
    data(43, Slot, 4),                     // CODE_4_GOTPCRELX
    data(46, Slot, 4),                     // CODE_5_GOTPCRELX
    data(49, Slot, 4),                     // CODE_6_GOTPCRELX
];

/// What goes through the GOT only if its target is out of reach.
pub(crate) const RELAXED: &[Kind] = &[
    through_slot(41, SlotOrSymbol, &[0xff, 0x15]), // call
    through_slot(41, SlotOrSymbol, &[0xff, 0x25]), // jmp
    through_slot(41, SlotOrSymbol, &[0x8b, 0x05]), // mov to eax
    through_slot(41, SlotOrSymbol, &[0x8b, 0x3d]), // mov to edi
    through_slot(42, SlotOrSymbol, &[0x48, 0x8b, 0x0d]), // mov to rcx
    through_slot(42, SlotOrSymbol, &[0x4c, 0x8b, 0x3d]), // mov to r15
    through_slot(42, SlotOrSymbol, &[0x44, 0x8b, 0x05]), // mov to r8d
];

const IMM26: u32 = 0x03ff_ffff;
const IMM19: u32 = 0x00ff_ffe0;
const IMM16: u32 = 0x001f_ffe0;
const IMM14: u32 = 0x0007_ffe0;
const IMM12: u32 = 0x003f_fc00;
const IMM21: u32 = 0x60ff_ffe0;
/// `MOVZ` and `MOVN` differ by one bit.
const SIGNED16: u32 = IMM16 | 1 << 30;

const AARCH64: &[Kind] = &[
    data(0, Nothing, 4),
    data(256, Nothing, 4),
    data(257, Symbol, 8),                  // ABS64
    data(258, Symbol, 4),                  // ABS32
    data(259, Symbol, 2),                  // ABS16
    data(260, Symbol, 8),                  // PREL64
    data(261, Symbol, 4),                  // PREL32
    data(262, Symbol, 2),                  // PREL16
    code(263, Symbol, 0xd280_0000, IMM16), // MOVW_UABS_G0: movz
    code(264, Symbol, 0xf280_0000, IMM16), // MOVW_UABS_G0_NC: movk
    code(265, Symbol, 0xd2a0_0000, IMM16),
    code(266, Symbol, 0xf2a0_0000, IMM16),
    code(267, Symbol, 0xd2c0_0000, IMM16),
    code(268, Symbol, 0xf2c0_0000, IMM16),
    code(269, Symbol, 0xd2e0_0000, IMM16),    // MOVW_UABS_G3
    code(270, Symbol, 0x9280_0000, SIGNED16), // MOVW_SABS_G0: movn or movz
    code(271, Symbol, 0x92a0_0000, SIGNED16), // MOVW_SABS_G1
    code(272, Symbol, 0x92c0_0000, SIGNED16), // MOVW_SABS_G2
    code(273, Symbol, 0x5800_0000, IMM19),    // LD_PREL_LO19: ldr
    code(274, Symbol, 0x1000_0000, IMM21),    // ADR_PREL_LO21: adr
    code(275, Symbol, 0x9000_0000, IMM21),    // ADR_PREL_PG_HI21: adrp
    code(276, Symbol, 0x9000_0000, IMM21),    // ADR_PREL_PG_HI21_NC
    code(277, Symbol, 0x9100_0000, IMM12),    // ADD_ABS_LO12_NC: add
    code(278, Symbol, 0x3940_0000, IMM12),    // LDST8_ABS_LO12_NC: ldrb
    code(279, Symbol, 0x3608_0000, IMM14),    // TSTBR14: tbz
    code(280, Symbol, 0x5400_0000, IMM19),    // CONDBR19: b.eq
    code(282, Branch, 0x1400_0000, IMM26),    // JUMP26: b
    code(283, Branch, 0x9400_0000, IMM26),    // CALL26: bl
    code(284, Symbol, 0x7940_0000, IMM12),    // LDST16_ABS_LO12_NC: ldrh
    code(285, Symbol, 0xb940_0000, IMM12),    // LDST32_ABS_LO12_NC: ldr
    code(286, Symbol, 0xf940_0000, IMM12),    // LDST64_ABS_LO12_NC: ldr
    code(287, Symbol, 0x9280_0000, SIGNED16), // MOVW_PREL_G0: movn or movz
    code(288, Symbol, 0xf280_0000, IMM16),    // MOVW_PREL_G0_NC: movk
    code(289, Symbol, 0x92a0_0000, SIGNED16), // MOVW_PREL_G1
    code(290, Symbol, 0xf2a0_0000, IMM16),    // MOVW_PREL_G1_NC
    code(291, Symbol, 0x92c0_0000, SIGNED16), // MOVW_PREL_G2
    code(292, Symbol, 0xf2c0_0000, IMM16),    // MOVW_PREL_G2_NC
    code(293, Symbol, 0x92e0_0000, SIGNED16), // MOVW_PREL_G3
    code(299, Symbol, 0x3dc0_0000, IMM12),    // LDST128_ABS_LO12_NC: ldr
    code(300, SlotFromGot, 0x9280_0000, SIGNED16), // MOVW_GOTOFF_G0: movn or movz
    code(301, SlotFromGot, 0xf280_0000, IMM16), // MOVW_GOTOFF_G0_NC: movk
    // MOVW_GOTOFF_G1: movz. GNU ld leaves a movn one, against aaelf64, Group relocations (GOT-relative).
    code(302, SlotFromGotHigh, 0xd2a0_0000, IMM16),
    code(303, SlotFromGotHigh, 0xf2a0_0000, IMM16), // MOVW_GOTOFF_G1_NC
    code(304, SlotFromGotHigh, 0x92c0_0000, SIGNED16), // MOVW_GOTOFF_G2
    code(305, SlotFromGotHigh, 0xf2c0_0000, IMM16), // MOVW_GOTOFF_G2_NC
    code(306, SlotFromGotHigh, 0x92e0_0000, SIGNED16), // MOVW_GOTOFF_G3
    data(GOTREL64, SymbolFromGot, 8),
    data(GOTREL32, SymbolFromGot, 4),
    code(309, Slot, 0x5800_0000, IMM19), // GOT_LD_PREL19: ldr
    code(310, SlotFromGot, 0xf940_0000, IMM12), // LD64_GOTOFF_LO15: ldr
    code(311, SlotPage, 0x9000_0000, IMM21), // ADR_GOT_PAGE: adrp
    code(312, SlotLow, 0xf940_0000, IMM12), // LD64_GOT_LO12_NC: ldr
    code(313, SlotFromGot, 0xf940_0000, IMM12), // LD64_GOTPAGE_LO15: ldr
    data(PLT32, Branch, 4),
    data(GOTPCREL32, Slot, 4),
    data(567, Nothing, 4), // TLSDESC_LDR
    data(568, Nothing, 4), // TLSDESC_ADD
    data(569, Nothing, 4), // TLSDESC_CALL
];

const GOTREL64: u32 = 307;
const GOTREL32: u32 = 308;
const PLT32: u32 = 314;
const GOTPCREL32: u32 = 315;

pub(crate) fn kinds(machine: Machine) -> &'static [Kind] {
    match machine {
        Machine::Aarch64 => AARCH64,
        Machine::X86_64 => X86_64,
        _ => panic!("no relocations of {machine}"),
    }
}

impl Kind {
    /// A number of which nothing is known.
    pub(crate) const fn nothing(number: u32) -> Self {
        data(number, Nothing, 4)
    }

    /// The row of the table in `reach`.
    pub(crate) fn range(&self, machine: Machine) -> &'static RelocationRange {
        let row = match machine {
            Machine::Aarch64 => aarch64::range(self.number),
            _ => x86_64::range(self.number),
        };
        row.unwrap_or_else(|| panic!("no row for {machine} relocation {}", self.number))
    }

    /// Whether its field leads to a GOT entry, which every linker puts where it likes.
    pub(crate) fn is_slot(&self) -> bool {
        matches!(
            self.operand,
            Slot | SlotPage | SlotLow | SlotFromGot | SlotFromGotHigh
        )
    }

    /// GNU ld 2.40 lacks some. `PLT32` is written as `PREL32` for it, which is the same in a program without a PLT, and so are
    /// `GOTREL32` and `GOTREL64`, with another addend. What leads to entries of ld's own GOT is left out, and what marks
    /// thread-local accesses, since the symbols are not thread-local.
    pub(crate) fn number_for_ld(&self, machine: Machine) -> u32 {
        match (machine, self.number) {
            (Machine::Aarch64, PLT32 | GOTREL32) => 261,
            (Machine::Aarch64, GOTREL64) => 260,
            (Machine::Aarch64, GOTPCREL32 | 300 | 303..=306 | 567..=569) => 0,
            (Machine::X86_64, 35 | 43 | 46 | 49) => 0,
            (_, number) => number,
        }
    }

    /// With which a distance from `place` is the one from the GOT.
    pub(crate) fn addend_for_ld(&self, machine: Machine, addend: i64, place: u64, got: u64) -> i64 {
        match (machine, self.number) {
            (Machine::Aarch64, GOTREL32 | GOTREL64) => {
                addend.wrapping_add_unsigned(place.wrapping_sub(got))
            }
            _ => addend,
        }
    }

    /// The address of the GOT entry that the field leads to; `field` begins at `place`, and goes on with the next instruction.
    pub(crate) fn slot(
        &self,
        machine: Machine,
        field: &[u8],
        place: u64,
        addend: i64,
        got: u64,
    ) -> u64 {
        let word = |at: usize| u32::from_le_bytes(field[at..at + 4].try_into().unwrap());
        let imm12 = |word: u32| u64::from((word & IMM12) >> 10) * 8;
        let distance = match (machine, self.number) {
            (Machine::Aarch64, 309) => {
                let imm19 = ((word(0) & IMM19) << 8) as i32 >> 13;
                return place.wrapping_add_signed(i64::from(imm19) * 4);
            }
            (Machine::Aarch64, 311) => {
                let bits = (word(0) & 0x00ff_ffe0) >> 3 | (word(0) >> 29 & 3);
                let pages = (bits << 11) as i32 >> 11;
                let page = (place & !0xfff).wrapping_add_signed(i64::from(pages) << 12);
                return page + imm12(word(4));
            }
            (Machine::Aarch64, 300 | 301) => return got + u64::from((word(0) & IMM16) >> 5),
            (Machine::Aarch64, 310) => return got + imm12(word(0)),
            (Machine::Aarch64, 313) => return (got & !0xfff) + imm12(word(0)),
            _ if self.size == 8 => i64::from_le_bytes(field[..8].try_into().unwrap()),
            _ => i64::from(word(0) as i32),
        };
        let origin = if self.operand == SlotFromGot {
            got
        } else {
            place
        };
        origin.wrapping_add_signed(distance.wrapping_sub(addend))
    }

    /// Whether an instruction that takes the high bits of an offset takes none, and is a `MOVZ` if it may be a `MOVN`.
    pub(crate) fn is_zero(&self, field: &[u8]) -> bool {
        let word = u32::from_le_bytes(field[..4].try_into().unwrap());
        word & self.mask == self.mask & !IMM16
    }

    /// Puts zero into what it writes.
    pub(crate) fn blank(&self, field: &mut [u8]) {
        let field = &mut field[..self.size as usize];
        if self.mask == 0 {
            field.fill(0);
            return;
        }
        let word = u32::from_le_bytes((&*field).try_into().unwrap());
        field.copy_from_slice(&(word & !self.mask).to_le_bytes());
    }
}
