//! The files of a batch of random objects.

use std::collections::HashMap;

use nearcode::loader::Machine;
use object::write::{Object, Relocation, SectionId, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope,
};

use crate::random_objects::{Batch, COMMON_SIZE, Home, Section, Symbol};

/// Who gets to read an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reader {
    Loader,
    Ld,
}

impl Batch {
    /// The file of one object.
    pub(crate) fn write(&self, object: usize, reader: Reader) -> Vec<u8> {
        let architecture = match self.machine {
            Machine::Aarch64 => Architecture::Aarch64,
            _ => Architecture::X86_64,
        };
        let mut file = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
        let mut ids = HashMap::new();
        for (number, section) in self.of(object) {
            let id = file.add_section(Vec::new(), section.name.clone().into(), section.kind);
            if section.contents.is_empty() {
                file.append_section_bss(id, section.size, section.align);
            } else {
                file.append_section_data(id, &section.contents, section.align);
            }
            ids.insert(number, id);
        }
        let mut symbols: HashMap<usize, SymbolId> = HashMap::new();
        let defined = (0..self.symbols.len()).filter(|&symbol| match self.symbols[symbol].home {
            Home::Local(home) | Home::Hidden(home) | Home::Global(home) | Home::Weak(home) => {
                self.sections[home].object == object
            }
            Home::Absolute(home) => home == object,
            _ => false,
        });
        let referenced = self.of(object).flat_map(|(_, section)| &section.sites);
        for symbol in defined.chain(referenced.map(|site| site.symbol)) {
            symbols
                .entry(symbol)
                .or_insert_with(|| self.declare(&mut file, &ids, object, symbol));
        }
        for (number, section) in self.of(object) {
            for site in &section.sites {
                let (kind, place) = (site.kind, section.address + site.offset);
                let (number_of_kind, addend) = match reader {
                    Reader::Loader => (kind.number, site.addend),
                    Reader::Ld => (
                        kind.number_for_ld(self.machine),
                        kind.addend_for_ld(self.machine, site.addend, place, self.got),
                    ),
                };
                let relocation = Relocation {
                    offset: site.offset,
                    symbol: symbols[&site.symbol],
                    addend,
                    flags: RelocationFlags::Elf {
                        r_type: object::elf::RelocationType(number_of_kind),
                    },
                };
                file.add_relocation(ids[&number], relocation)
                    .expect("ELF takes any number");
            }
        }
        file.write().expect("a small file")
    }

    fn of(&self, object: usize) -> impl Iterator<Item = (usize, &Section)> {
        let sections = self.sections.iter().enumerate();
        sections.filter(move |(_, section)| section.object == object)
    }

    fn declare(
        &self,
        file: &mut Object<'_>,
        ids: &HashMap<usize, SectionId>,
        object: usize,
        symbol: usize,
    ) -> SymbolId {
        let Symbol {
            home,
            address,
            size,
            ..
        } = self.symbols[symbol];
        let mut declared = object::write::Symbol {
            name: self.symbols[symbol].name.clone().into(),
            value: 0,
            size: 0,
            kind: SymbolKind::Data,
            scope: SymbolScope::Dynamic,
            weak: matches!(home, Home::Weak(_) | Home::Absent),
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        };
        match home {
            Home::Section(section) => return file.section_symbol(ids[&section]),
            Home::Local(_) => declared.scope = SymbolScope::Compilation,
            Home::Hidden(_) => declared.scope = SymbolScope::Linkage,
            Home::Common => return file.add_common_symbol(declared, COMMON_SIZE, 8),
            _ => {}
        }
        match home {
            Home::Local(section)
            | Home::Hidden(section)
            | Home::Global(section)
            | Home::Weak(section) => {
                if let Some(&id) = ids.get(&section) {
                    declared.section = SymbolSection::Section(id);
                    declared.value = address - self.sections[section].address;
                    declared.size = size;
                } else {
                    declared.weak = false;
                }
            }
            Home::Absolute(owner) if owner == object => {
                declared.section = SymbolSection::Absolute;
                declared.value = address;
                declared.size = size;
            }
            _ => {}
        }
        file.add_symbol(declared)
    }
}
