//! What a relocation computes, and which bits of its place it writes.
//!
//! Law: a value is written only after its range was checked. Everything here works on slices and numbers.

use super::tls::Entry;
use crate::reach::RelocationRange;

/// A relocation that the loader can apply.
#[derive(Debug)]
pub(super) struct Row {
    /// Which values fit.
    pub(super) range: RelocationRange,
    /// What the value is computed from.
    pub(super) operand: Operand,
    /// Where its bits go.
    pub(super) field: Field,
    /// Of the field, in bytes.
    pub(super) size: usize,
}

impl Row {
    pub(super) const fn new(range: RelocationRange, operand: Operand, field: Field) -> Self {
        Self {
            range,
            operand,
            field,
            size: field.size(),
        }
    }
}

/// The target that a relocation's value is computed from. S is the symbol, A the addend, in the ABIs' letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    /// S + A.
    Symbol,
    /// S + A, or a stub that goes on there: the code does not care how it gets to its target.
    Branch,
    /// L + A: L is S, or a stub that goes on there, and the addend is part of the distance.
    Plt,
    /// The address of the GOT slot that holds S, plus A: x86-64.
    SlotPlusAddend,
    /// The same, or S + A, if the instruction can be changed into one that needs no slot: x86-64.
    SlotOrSymbol,
    /// The address of the GOT slot that holds S + A: AArch64.
    SlotOfSum,
    /// The same, seen from the GOT in place of the relocated place.
    SlotOfSumFromGot,
    /// The offset in the GOT of the slot that holds S, plus A: x86-64.
    SlotFromGot,
    /// The GOT + A.
    Got,
    /// S + A, seen from the GOT in place of the relocated place.
    SymbolFromGot,
    /// Z + A: Z is how large the symbol is, in bytes.
    Size,
    /// The address of the GOT entry of this kind for S, plus A: x86-64.
    ThreadEntry(Entry),
    /// The address of the GOT entry of this kind for S + A: AArch64.
    ThreadEntryOfSum(Entry),
    /// The same, seen from the GOT in place of the relocated place.
    ThreadEntryOfSumFromGot(Entry),
    /// S + A, from the beginning of the program's block in each thread.
    BlockOffset,
    /// S + A, from the thread pointer.
    ThreadOffset,
}

impl Operand {
    /// Whether it is about thread-local storage.
    pub(super) fn is_thread_local(self) -> bool {
        matches!(
            self,
            Self::ThreadEntry(_)
                | Self::ThreadEntryOfSum(_)
                | Self::ThreadEntryOfSumFromGot(_)
                | Self::BlockOffset
                | Self::ThreadOffset
        )
    }

    /// Whether it is about an offset that is the same in all threads.
    pub(super) fn is_static(self) -> bool {
        matches!(
            self,
            Self::ThreadOffset
                | Self::ThreadEntry(Entry::Offset)
                | Self::ThreadEntryOfSum(Entry::Offset)
                | Self::ThreadEntryOfSumFromGot(Entry::Offset)
        )
    }
}

/// The bits of a relocated place that hold the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    /// All bits of as many bytes, little-endian.
    Data8,
    Data16,
    Data32,
    Data64,
    /// AArch64 ADR: bits 0 to 20.
    Adr,
    /// AArch64 ADRP: bits 12 to 32.
    AdrPage,
    /// AArch64 immediates of 12 bits at bit 10, for accesses of `1 << scale` bytes.
    Imm12 {
        scale: u32,
    },
    /// AArch64 branch offsets at bit `at`, `bits` wide, counted in instructions.
    Offset {
        at: u32,
        bits: u32,
    },
    /// AArch64 MOVZ, MOVK: 16 bits from bit `shift`.
    Movw {
        shift: u32,
    },
    /// AArch64 MOVZ for a value from zero up, MOVN for one below: 16 bits from bit `shift`. A MOVK stays what it is.
    MovwSigned {
        shift: u32,
    },
    /// AArch64 ADD: bits 12 to 23.
    High12,
}

impl Field {
    /// How many bytes it lies in.
    const fn size(self) -> usize {
        match self {
            Self::Data8 => 1,
            Self::Data16 => 2,
            Self::Data64 => 8,
            _ => 4,
        }
    }

    /// Writes `value`, which is in range, into the first [`size`](Self::size) bytes of `place`.
    #[inline]
    pub(super) fn write(self, place: &mut [u8], value: i64) {
        match self {
            Self::Data8 => place[0] = value as u8,
            Self::Data16 => place[..2].copy_from_slice(&(value as u16).to_le_bytes()),
            Self::Data32 => place[..4].copy_from_slice(&(value as u32).to_le_bytes()),
            Self::Data64 => place[..8].copy_from_slice(&value.to_le_bytes()),
            _ => {
                let place = place
                    .first_chunk_mut()
                    .expect("an instruction has four bytes");
                let word = self.instruction(u32::from_le_bytes(*place), value);
                *place = word.to_le_bytes();
            }
        }
    }

    /// The instruction `word` with `value` in its immediate. Encodings: Arm ARM, C6.2.
    fn instruction(self, word: u32, value: i64) -> u32 {
        let insert = |at: u32, bits: u32, value: i64| {
            let mask = (1u32 << bits) - 1;
            (word & !(mask << at)) | ((value as u32 & mask) << at)
        };
        let adr = |value: i64| {
            let (low, high) = (value as u32 & 3, (value >> 2) as u32 & 0x7_ffff);
            (word & !(3 << 29) & !(0x7_ffff << 5)) | (low << 29) | (high << 5)
        };
        match self {
            Self::Data8 | Self::Data16 | Self::Data32 | Self::Data64 => word,
            Self::Adr => adr(value),
            Self::AdrPage => adr(value >> 12),
            Self::Imm12 { scale } => insert(10, 12, value >> scale),
            Self::High12 => insert(10, 12, value >> 12),
            Self::Offset { at, bits } => insert(at, bits, value >> 2),
            Self::Movw { shift } => insert(5, 16, value >> shift),
            // Bits 29 and 30 tell MOVN (0), MOVZ (2) and MOVK (3) apart; LLVM's assembler puts MOVW_PREL_G3 on a MOVK, too.
            Self::MovwSigned { shift } if word & (1 << 29) != 0 => insert(5, 16, value >> shift),
            Self::MovwSigned { shift } if value < 0 => insert(5, 16, !value >> shift) & !(1 << 30),
            Self::MovwSigned { shift } => insert(5, 16, value >> shift) | (1 << 30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_as_gnu_as_encodes_them() {
        // Each row: instruction with a zero immediate, field, value, the same instruction as binutils 2.40 assembles it.
        let table: [(u32, Field, i64, u32); 16] = [
            (
                0x9400_0000,
                Field::Offset { at: 0, bits: 26 },
                0x1000,
                0x9400_0400,
            ), // bl .+0x1000
            (
                0x9400_0000,
                Field::Offset { at: 0, bits: 26 },
                -4,
                0x97ff_ffff,
            ), // bl .-4
            (
                0x5400_0001,
                Field::Offset { at: 5, bits: 19 },
                -8,
                0x54ff_ffc1,
            ), // b.ne .-8
            (
                0x3608_0003,
                Field::Offset { at: 5, bits: 14 },
                0x20,
                0x3608_0103,
            ), // tbz w3, #1, .+0x20
            (0x9000_0000, Field::AdrPage, 0x1000, 0xb000_0000), // adrp x0, .+0x1000
            (0x9000_0010, Field::AdrPage, -0x4000, 0x90ff_fff0), // adrp x16, .-0x4000
            (0x1000_0000, Field::Adr, 5, 0x3000_0020),          // adr x0, .+5
            (0x9100_0021, Field::Imm12 { scale: 0 }, 0xabc, 0x912a_f021), // add x1, x1, #0xabc
            (0xf940_0021, Field::Imm12 { scale: 3 }, 0xff8, 0xf947_fc21), // ldr x1, [x1, #0xff8]
            (0x3dc0_0020, Field::Imm12 { scale: 4 }, 0x10, 0x3dc0_0420), // ldr q0, [x1, #0x10]
            (0xd280_0000, Field::Movw { shift: 0 }, 0x1_2345, 0xd284_68a0), // movz x0, #0x2345
            (0xf2e0_0000, Field::Movw { shift: 48 }, -1, 0xf2ff_ffe0), // movk x0, #0xffff, lsl #48
            (0xd280_0000, Field::MovwSigned { shift: 0 }, -2, 0x9280_0020), // movn x0, #1
            (0x9280_0000, Field::MovwSigned { shift: 0 }, 7, 0xd280_00e0), // movz x0, #7
            (
                0xd2a0_0000,
                Field::MovwSigned { shift: 16 },
                -0x1_0000,
                0x92a0_0000,
            ), // movn x0, #0, lsl #16
            (
                0xf2e0_0000,
                Field::MovwSigned { shift: 48 },
                -1,
                0xf2ff_ffe0,
            ), // movk x0, #0xffff, lsl #48
        ];
        for (word, field, value, expected) in table {
            let mut place = word.to_le_bytes();
            field.write(&mut place, value);
            assert_eq!(
                u32::from_le_bytes(place),
                expected,
                "{word:#x} {field:?} {value:#x}"
            );
            // What stood in the field before does not matter.
            let mut again = place;
            field.write(&mut again, value);
            assert_eq!(again, place, "{word:#x} {field:?} {value:#x}");
        }
    }

    #[test]
    fn data_is_little_endian_and_stays_in_its_bytes() {
        for (field, expected) in [
            (Field::Data8, [0x88, 9, 9, 9, 9, 9, 9, 9, 9]),
            (Field::Data16, [0x88, 0x77, 9, 9, 9, 9, 9, 9, 9]),
            (Field::Data32, [0x88, 0x77, 0x66, 0x55, 9, 9, 9, 9, 9]),
            (
                Field::Data64,
                [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 9],
            ),
        ] {
            let mut place = [9; 9];
            field.write(&mut place, 0x1122_3344_5566_7788);
            assert_eq!(place, expected);
        }
    }
}
