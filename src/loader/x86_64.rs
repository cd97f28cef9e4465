//! x86-64's static relocations (System V ABI, AMD64 supplement, "Relocation Types"), the instructions that change with them,
//! and its stub.
//!
//! All of that table is here, but for what only dynamic linkers see (COPY, GLOB_DAT, JUMP_SLOT, RELATIVE, RELATIVE64,
//! IRELATIVE, DTPMOD64, TLSDESC). Not here are PC32_BND and PLT32_BND (39, 40), which went with MPX: the ABI keeps the
//! numbers back, and assemblers have not written them since.

use super::machine::{IndirectStub, STUB_CODE};
use super::relocation::{Field::*, Operand::*, Row};
use super::tls::Entry;
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
    Row::new(DTPOFF64, BlockOffset, Data64),
    Row::new(TPOFF64, ThreadOffset, Data64),
    Row::new(TLSGD, ThreadEntry(Entry::Pair), Data32),
    Row::new(TLSLD, ThreadEntry(Entry::Module), Data32),
    Row::new(DTPOFF32, BlockOffset, Data32),
    Row::new(GOTTPOFF, ThreadEntry(Entry::Offset), Data32),
    Row::new(TPOFF32, ThreadOffset, Data32),
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
    Row::new(GOTPC32_TLSDESC, ThreadEntry(Entry::Descriptor), Data32),
    Row::new(GOTPCRELX, SlotOrSymbol, Data32),
    Row::new(REX_GOTPCRELX, SlotOrSymbol, Data32),
    Row::new(CODE_4_GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(CODE_4_GOTTPOFF, ThreadEntry(Entry::Offset), Data32),
    Row::new(
        CODE_4_GOTPC32_TLSDESC,
        ThreadEntry(Entry::Descriptor),
        Data32,
    ),
    Row::new(CODE_5_GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(CODE_5_GOTTPOFF, ThreadEntry(Entry::Offset), Data32),
    Row::new(
        CODE_5_GOTPC32_TLSDESC,
        ThreadEntry(Entry::Descriptor),
        Data32,
    ),
    Row::new(CODE_6_GOTPCRELX, SlotPlusAddend, Data32),
    Row::new(CODE_6_GOTTPOFF, ThreadEntry(Entry::Offset), Data32),
    Row::new(
        CODE_6_GOTPC32_TLSDESC,
        ThreadEntry(Entry::Descriptor),
        Data32,
    ),
];

/// Changes the instruction that `code` ends with from one that reads the GOT slot of `symbol` to one of the same length that
/// needs no slot (AMD64 ABI, "Optimize GOTPCRELX Relocations"). The last four bytes lie at `place`, and are the distance to the
/// slot. Says whether it did: not all instructions can be changed, and the symbol has to be in *signed* reach.
///
/// `call`, `jmp` and `mov` can; arithmetic cannot, since its immediates hold addresses below 2 GiB only, and APX's instructions
/// keep their slot. GOTPCREL stays out of it: nothing says that it is in an instruction.
pub(super) fn relax(code: &mut [u8], place: u64, symbol: u64) -> bool {
    let Some(code) = code.last_chunk_mut::<6>() else {
        return false;
    };
    // The new distance begins at byte `at`, and is counted from its end.
    let (mut direct, at): ([u8; 6], usize) = match *code {
        [0xff, 0x15, ..] => ([0x67, 0xe8, 0, 0, 0, 0], 2), // A prefix without a meaning fills up.
        [0xff, 0x25, ..] => ([0xe9, 0, 0, 0, 0, 0x90], 1),
        [0x8b, modrm, ..] if modrm & 0xc7 == 0x05 => ([0x8d, modrm, 0, 0, 0, 0], 2), // `lea`
        _ => return false,
    };
    let place = place.wrapping_add(at as u64).wrapping_sub(2);
    let Ok(distance) = PC32.check(place, symbol.wrapping_sub(4)) else {
        return false;
    };
    Data32.write(&mut direct[at..], distance);
    *code = direct;
    true
}

/// `endbr64`, since its address may be called, `jmp *slot(%rip)`, and traps.
pub(super) const INDIRECT_STUB: IndirectStub = IndirectStub {
    code: [
        0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0, 0, 0, 0, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
    ],
    relocations: &[(6, PC32.number(), -4)],
};

/// `jmp *2(%rip)`, `ud2`: to the address that follows (Intel SDM volume 2, JMP).
pub(super) const STUB: [u8; STUB_CODE] = [0xff, 0x25, 0x02, 0, 0, 0, 0x0f, 0x0b];

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: u64 = 0x7000_0000_0002;

    /// Where the CPU goes, or what it loads, with an instruction two bytes in front of `PLACE` (Intel SDM volume 2: CALL, JMP, LEA).
    fn target(instruction: [u8; 6]) -> u64 {
        let (distance, end) = match instruction {
            [0x67, 0xe8, distance @ ..] => (distance, PLACE + 4),
            [0xe9, a, b, c, d, 0x90] => ([a, b, c, d], PLACE + 3),
            [0x8d, modrm, distance @ ..] if modrm & 0xc7 == 5 => (distance, PLACE + 4),
            other => panic!("{other:x?}"),
        };
        end.wrapping_add_signed(i32::from_le_bytes(distance).into())
    }

    /// lld 22 tests a jump's reach from where its field was: one byte short below, and one too far above, where it jumps down.
    #[test]
    fn instructions_change_as_far_as_the_cpu_reaches_and_no_further() {
        for (head, end) in [
            ([0xff, 0x15], PLACE + 4),
            ([0xff, 0x25], PLACE + 3),
            ([0x8b, 0x05], PLACE + 4),
            ([0x8b, 0x3d], PLACE + 4),
        ] {
            let before = [0x48, head[0], head[1], 1, 2, 3, 4];
            for distance in [i32::MIN, -1, 0, 1, i32::MAX] {
                let mut code = before;
                let symbol = end.wrapping_add_signed(distance.into());
                assert!(relax(&mut code, PLACE, symbol), "{head:x?} {distance:#x}");
                let [0x48, instruction @ ..] = code else {
                    panic!("{code:x?}");
                };
                assert_eq!(target(instruction), symbol, "{code:x?}");
            }
            for distance in [i64::from(i32::MIN) - 1, 1 << 31, 0xffff_ffff, i64::MIN] {
                let mut code = before;
                let symbol = end.wrapping_add_signed(distance);
                assert!(!relax(&mut code, PLACE, symbol), "{head:x?} {distance:#x}");
                assert_eq!(code, before);
            }
        }
    }

    #[test]
    fn other_instructions_stay_what_they_are() {
        let heads: [&[u8]; 8] = [
            &[0x03, 0x05],       // add
            &[0x48, 0x85, 0x05], // test
            &[0xff, 0x35],       // push
            &[0x8b, 0x04],       // mov, without rip
            &[0x8b, 0x45],
            &[0x8b, 0x85],
            &[0x8b],
            &[],
        ];
        for head in heads {
            let before = [head, &[0; 4]].concat();
            let mut code = before.clone();
            assert!(!relax(&mut code, PLACE, PLACE), "{head:x?}");
            assert_eq!(code, before);
        }
    }
}
