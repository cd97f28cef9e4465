//! The CPUs that objects can be for.

use std::fmt;

use object::elf;

use super::relocation::{Operand, Row};
use super::{aarch64, x86_64};
use crate::kind::SectionKind;
use crate::reach::RangeError;

/// A CPU that this loader knows the relocations of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Machine {
    /// 64-bit Arm, little-endian.
    Aarch64,
    /// x86-64.
    X86_64,
}

impl Machine {
    /// The one that this runs on, if it is one of them.
    pub const HOST: Option<Self> = if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
        Some(Self::Aarch64)
    } else if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else {
        None
    };

    pub(super) fn elf(self) -> elf::Machine {
        match self {
            Self::Aarch64 => elf::EM_AARCH64,
            Self::X86_64 => elf::EM_X86_64,
        }
    }

    pub(super) fn from_elf(machine: elf::Machine) -> Option<Self> {
        [Self::Aarch64, Self::X86_64]
            .into_iter()
            .find(|known| known.elf() == machine)
    }

    /// What relocation `number` computes and writes.
    pub(super) fn relocation(self, number: u32) -> Option<&'static Row> {
        static AARCH64: [Option<&Row>; numbers(aarch64::RELOCATIONS)] =
            by_number(aarch64::RELOCATIONS);
        static X86_64: [Option<&Row>; numbers(x86_64::RELOCATIONS)] =
            by_number(x86_64::RELOCATIONS);
        let known = match self {
            Self::Aarch64 => AARCH64.get(number as usize),
            Self::X86_64 => X86_64.get(number as usize),
        };
        known.copied().flatten()
    }

    /// Relocation `number` in words.
    pub(super) fn relocation_name(self, number: u32) -> String {
        let known = match self {
            Self::Aarch64 => crate::reach::aarch64::range(number),
            Self::X86_64 => crate::reach::x86_64::range(number),
        };
        known.map_or_else(
            || format!("{self} relocation {number}"),
            |range| range.name().into(),
        )
    }

    /// Whether relocation `number` asks for nothing.
    pub(super) fn is_none(self, number: u32) -> bool {
        match self {
            // aaelf64 section 5.7.1: 0, and 256 from before the numbers were final. The others mark instructions that linkers
            // may change, as TLSDESC_CALL does.
            Self::Aarch64 => matches!(number, 0 | 256 | 567..=569),
            Self::X86_64 => matches!(number, 0 | 35),
        }
    }

    /// What a branch that goes through a stub makes of its addend: how far behind the symbol the stub goes on, and what is added
    /// to the distance to the stub. `None` for what is no branch.
    pub(super) fn through_stub(
        self,
        operand: Operand,
        kind: SectionKind,
        addend: i64,
    ) -> Option<(i64, i64)> {
        match (operand, self, kind) {
            (Operand::Branch, ..) => Some((addend, 0)),
            // In an instruction the distance is counted from the end of its field, which are its last four bytes.
            (Operand::Plt, Self::X86_64, SectionKind::Code) => Some((addend.wrapping_add(4), -4)),
            (Operand::Plt, ..) => Some((0, addend)),
            _ => None,
        }
    }

    /// Changes the instruction that `code` ends with, if it can do without a GOT slot what it does with that of `symbol`. The
    /// field, whose address is `place`, is the instruction's end.
    pub(super) fn relax(self, code: &mut [u8], place: u64, symbol: u64) -> bool {
        match self {
            Self::Aarch64 => false,
            Self::X86_64 => x86_64::relax(code, place, symbol),
        }
    }

    /// The value of a weak symbol that nobody defines, in a relative reference at `place`. Zero is usually out of reach.
    pub(super) fn nowhere(self, place: u64, operand: Operand) -> u64 {
        match (self, operand) {
            // aaelf64, "Weak References": the place itself; a branch goes on behind it.
            (Self::Aarch64, Operand::Branch) => place.wrapping_add(4),
            (Self::Aarch64, _) => place,
            (Self::X86_64, _) => 0,
        }
    }

    /// Code at `place` that goes on where the slot says.
    ///
    /// # Errors
    ///
    /// The slot is out of reach.
    pub(super) fn indirect_stub(
        self,
        place: u64,
        slot: u64,
    ) -> Result<[u8; INDIRECT_STUB_SIZE], RangeError> {
        let IndirectStub {
            mut code,
            relocations,
        } = match self {
            Self::Aarch64 => aarch64::INDIRECT_STUB,
            Self::X86_64 => x86_64::INDIRECT_STUB,
        };
        for &(offset, number, addend) in relocations {
            let row = self.relocation(number).expect("one of the table");
            let from = place.wrapping_add(offset as u64);
            let value = row.range.check(from, slot.wrapping_add_signed(addend))?;
            row.field.write(&mut code[offset..], value);
        }
        Ok(code)
    }

    /// Code that goes on at `target`, wherever that is.
    pub(super) fn stub(self, target: u64) -> [u8; STUB_SIZE] {
        let code = match self {
            Self::Aarch64 => aarch64::STUB,
            Self::X86_64 => x86_64::STUB,
        };
        let mut stub = [0; STUB_SIZE];
        let (head, tail) = stub.split_at_mut(STUB_SIZE - size_of::<u64>());
        head.copy_from_slice(&code);
        tail.copy_from_slice(&target.to_le_bytes());
        stub
    }
}

/// One more than the largest number of rows that are sorted by it.
const fn numbers(rows: &[Row]) -> usize {
    rows[rows.len() - 1].range.number() as usize + 1
}

/// Rows where their numbers say.
const fn by_number<const N: usize>(rows: &'static [Row]) -> [Option<&'static Row>; N] {
    let mut table = [None; N];
    let mut at = 0;
    while at < rows.len() {
        table[rows[at].range.number() as usize] = Some(&rows[at]);
        at += 1;
    }
    table
}

/// Of the stub of an indirect function, in bytes.
pub(super) const INDIRECT_STUB_SIZE: usize = 16;

/// A stub that reads where to go: its code, and which relocations lead it to its slot: offset, number, addend.
pub(super) struct IndirectStub {
    pub(super) code: [u8; INDIRECT_STUB_SIZE],
    pub(super) relocations: &'static [(usize, u32, i64)],
}

/// Of a stub, in bytes: code that loads an address from its end, and that address.
pub(super) const STUB_SIZE: usize = STUB_CODE + size_of::<u64>();

/// Of the code in a stub, in bytes.
pub(super) const STUB_CODE: usize = 8;

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86-64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relocations_are_found_by_number() {
        for (machine, table) in [
            (Machine::Aarch64, aarch64::RELOCATIONS),
            (Machine::X86_64, x86_64::RELOCATIONS),
        ] {
            assert!(
                table
                    .windows(2)
                    .all(|pair| pair[0].range.number() < pair[1].range.number()),
                "{machine}"
            );
            for row in table {
                let found = machine.relocation(row.range.number()).unwrap();
                assert_eq!(found.range.name(), row.range.name());
            }
        }
        assert!(Machine::X86_64.relocation(0x1000).is_none());
        assert_eq!(
            Machine::X86_64.relocation_name(0x1000),
            "x86-64 relocation 4096"
        );
    }
}
