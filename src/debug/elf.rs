//! A file in memory that says where functions are, in the form that debuggers read: an ELF relocatable object (gABI) with names
//! and perhaps an unwind table, and none of the code.
//!
//! Law: its sections are where the code is (`sh_addr`), and none of them holds an address that is not some symbol's. Images of
//! neighbours do not overlap, as debuggers want it.

use super::MACHINE;
use super::symbol::Symbol;
use crate::error::Error;
use crate::num::Address;

/// Of the file's header, a section's header and a symbol, in bytes.
const HEADER_SIZE: usize = 64;
const SECTION_SIZE: usize = 64;
const SYMBOL_SIZE: usize = 24;

/// Numbers of the gABI, chapter 4: kinds of sections, and what is in memory or runs.
const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const NOBITS: u32 = 8;
const ALLOC: u64 = 2;
const EXECINSTR: u64 = 4;

/// A global function (gABI: `STB_GLOBAL << 4 | STT_FUNC`).
const GLOBAL_FUNCTION: u8 = 0x12;

/// Gaps between functions that are smaller lie inside of a section: alignment, in which nobody else has code.
const LARGEST_GAP: u64 = 16;

/// How many symbols a file has at most. Section numbers from 0xff00 up have other meanings, and each symbol may need a section.
pub(super) const MAX_SYMBOLS: usize = 0x4000;

/// A section's header without what follows from its place in the file.
#[derive(Clone, Copy, Default)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry_size: u64,
}

/// The names of a file, each ended by a zero. Offset 0 is the empty one.
struct Names(Vec<u8>);

impl Names {
    fn add(&mut self, name: &str) -> Result<u32, Error> {
        let offset = u32::try_from(self.0.len()).map_err(|_| Error::InvalidSymbol {
            name: name.into(),
            reason: "it comes behind 4 GiB of names",
        })?;
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        Ok(offset)
    }
}

/// The file of some symbols, at most [`MAX_SYMBOLS`], and of an unwind table and where that is.
pub(super) fn file(
    symbols: &[Symbol<'_>],
    eh_frame: Option<(Address, &[u8])>,
) -> Result<Vec<u8>, Error> {
    assert!(symbols.len() <= MAX_SYMBOLS, "{} symbols", symbols.len());
    let mut symbols = symbols.to_vec();
    symbols.sort_by_key(|symbol| (symbol.address(), symbol.size()));
    let mut names = Names(vec![0]);
    let mut sections = vec![Section::default()];
    let text = names.add(".text")?;
    let mut table = vec![0; SYMBOL_SIZE]; // Symbol 0 is none.
    for symbol in &symbols {
        let (start, end) = (
            symbol.address().get(),
            symbol.address().get() + symbol.size(),
        );
        let last = sections.last_mut().expect("section 0 is there");
        let (from, to) = (last.address, last.address + last.size);
        if last.kind == NOBITS && start < to.saturating_add(LARGEST_GAP) {
            last.size = to.max(end) - from;
        } else {
            sections.push(Section {
                name: text,
                kind: NOBITS,
                flags: ALLOC | EXECINSTR,
                address: start,
                size: end - start,
                align: 1,
                ..Section::default()
            });
        }
        let section = sections.len() - 1;
        table.extend(names.add(symbol.name())?.to_le_bytes());
        table.extend([GLOBAL_FUNCTION, 0]);
        table.extend((section as u16).to_le_bytes());
        table.extend((start - sections[section].address).to_le_bytes());
        table.extend(symbol.size().to_le_bytes());
    }
    let mut file = vec![0; HEADER_SIZE];
    if let Some((address, bytes)) = eh_frame {
        sections.push(Section {
            name: names.add(".eh_frame")?,
            kind: PROGBITS,
            flags: ALLOC,
            address: address.get(),
            offset: append(&mut file, bytes),
            size: bytes.len() as u64,
            align: 8,
            ..Section::default()
        });
    }
    sections.push(Section {
        name: names.add(".symtab")?,
        kind: SYMTAB,
        offset: append(&mut file, &table),
        size: table.len() as u64,
        link: sections.len() as u32 + 1, // The names.
        info: 1,                         // The first global symbol.
        align: 8,
        entry_size: SYMBOL_SIZE as u64,
        ..Section::default()
    });
    let name = names.add(".strtab")?;
    sections.push(Section {
        name,
        kind: STRTAB,
        offset: append(&mut file, &names.0),
        size: names.0.len() as u64,
        align: 1,
        ..Section::default()
    });
    let headers: Vec<u8> = sections.iter().flat_map(header).collect();
    let offset = append(&mut file, &headers);
    file[..HEADER_SIZE].copy_from_slice(&file_header(offset, sections.len() as u16));
    Ok(file)
}

/// Puts `bytes` behind what is there, aligned to 8; where they are now.
fn append(file: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    file.resize(file.len().next_multiple_of(8), 0);
    let offset = file.len() as u64;
    file.extend_from_slice(bytes);
    offset
}

fn header(section: &Section) -> [u8; SECTION_SIZE] {
    let mut bytes = [0; SECTION_SIZE];
    let words = [
        (0, section.name),
        (4, section.kind),
        (40, section.link),
        (44, section.info),
    ];
    for (at, word) in words {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    let numbers = [
        (8, section.flags),
        (16, section.address),
        (24, section.offset),
        (32, section.size),
        (48, section.align),
        (56, section.entry_size),
    ];
    for (at, number) in numbers {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// The header of a file whose last section has the names.
fn file_header(sections_at: u64, sections: u16) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    bytes[..4].copy_from_slice(b"\x7fELF");
    bytes[4..7].copy_from_slice(&[2, 1, 1]); // 64 bits, little-endian, version 1.
    bytes[40..48].copy_from_slice(&sections_at.to_le_bytes());
    let halves = [
        (16, 1), // A relocatable object.
        (18, MACHINE),
        (20, 1), // The version again.
        (52, HEADER_SIZE as u16),
        (58, SECTION_SIZE as u16),
        (60, sections),
        (62, sections - 1),
    ];
    for (at, half) in halves {
        bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, elf};

    use super::*;

    /// Names, addresses and sizes, as another reader of ELF finds them: it is told where sections are by their headers.
    fn read(file: &[u8]) -> Vec<(String, u64, u64)> {
        let file = object::File::parse(file).expect("a file that another reader understands");
        let symbols = file.symbols().map(|symbol| {
            let section = file
                .section_by_index(symbol.section_index().unwrap())
                .unwrap();
            let header = match section.flags() {
                SectionFlags::Elf { sh_flags, .. } => sh_flags,
                _ => panic!("an ELF file has flags of ELF"),
            };
            assert!(header.contains(elf::SHF_ALLOC) && header.contains(elf::SHF_EXECINSTR));
            let address = section.address() + symbol.address();
            assert!(address + symbol.size() <= section.address() + section.size());
            (symbol.name().unwrap().to_owned(), address, symbol.size())
        });
        symbols.collect()
    }

    fn symbol(name: &str, address: u64, size: u64) -> Symbol<'_> {
        Symbol::new(name, Address::new(address), size).unwrap()
    }

    #[test]
    fn symbols_are_where_they_were_said_to_be() {
        let symbols = [
            symbol("far", 0x7fff_0000_1000, 3),
            symbol("near", 0x1010, 0x10),
            symbol("nested", 0x1018, 4),
            symbol("next", 0x1030, 8),
            symbol("empty", 0x5000, 0),
        ];
        let file = file(&symbols, None).unwrap();
        let expected = [
            ("near".into(), 0x1010, 0x10),
            ("nested".into(), 0x1018, 4),
            ("next".into(), 0x1030, 8),
            ("empty".into(), 0x5000, 0),
            ("far".into(), 0x7fff_0000_1000, 3),
        ];
        assert_eq!(read(&file), expected);
    }

    #[test]
    fn code_of_others_between_two_symbols_is_in_no_section() {
        let apart = [symbol("a", 0x1000, 16), symbol("b", 0x1020, 16)];
        let bytes = file(&apart, None).unwrap();
        let parsed = object::File::parse(&*bytes).unwrap();
        let texts = parsed.sections().filter(|s| s.name() == Ok(".text"));
        assert_eq!(
            texts.map(|s| (s.address(), s.size())).collect::<Vec<_>>(),
            [(0x1000, 16), (0x1020, 16)]
        );
    }

    #[test]
    fn an_unwind_table_keeps_its_address_and_its_bytes() {
        let table = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let file = file(
            &[symbol("f", 0x1000, 4)],
            Some((Address::new(0x2000), &table)),
        )
        .unwrap();
        let parsed = object::File::parse(&*file).unwrap();
        let section = parsed.section_by_name(".eh_frame").unwrap();
        assert_eq!(
            (section.address(), section.data().unwrap()),
            (0x2000, &table[..])
        );
        assert_eq!(read(&file), [("f".into(), 0x1000, 4)]);
    }

    #[test]
    fn a_full_file_of_scattered_symbols_can_be_read() {
        let symbols: Vec<_> = (0..MAX_SYMBOLS as u64)
            .map(|i| symbol("s", 0x1000 + i * 0x100, 8))
            .collect();
        assert_eq!(read(&file(&symbols, None).unwrap()).len(), MAX_SYMBOLS);
    }
}
