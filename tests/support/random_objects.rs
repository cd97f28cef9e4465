//! Random objects whose addresses are known before they are written, so that each relocation can be aimed at its limits.

use std::collections::{BTreeMap, HashMap};

use nearcode::loader::Machine;
use nearcode::reach::{RelocationRange, Value};
use object::SectionKind;

use crate::relocations::{Kind, Operand, RELAXED, kinds};

/// Numbers that look random and are the same each time (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A number of any size, either sign.
    fn signed(&mut self) -> i64 {
        let shift = self.below(64);
        self.next() as i64 >> shift
    }
}

/// Objects that are linked at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) machine: Machine,
    pub(crate) objects: usize,
    pub(crate) got: u64,
    pub(crate) sections: Vec<Section>,
    pub(crate) symbols: Vec<Symbol>,
}

#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) object: usize,
    pub(crate) name: String,
    pub(crate) kind: SectionKind,
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) align: u64,
    /// Empty if it has none in the file.
    pub(crate) contents: Vec<u8>,
    pub(crate) sites: Vec<Site>,
}

/// A relocated place.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) offset: u64,
    pub(crate) kind: &'static Kind,
    pub(crate) symbol: usize,
    pub(crate) addend: i64,
}

#[derive(Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) home: Home,
    pub(crate) address: u64,
    /// As its object says.
    pub(crate) size: u64,
}

/// Who defines a symbol, and who sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    /// The section itself, by number.
    Section(usize),
    /// In a section.
    Local(usize),
    Hidden(usize),
    Global(usize),
    Weak(usize),
    /// No section, but an object.
    Absolute(usize),
    /// Every object that refers to it.
    Common,
    /// The resolver, or ld's script.
    Outside,
    /// Nobody: a weak reference.
    Absent,
    /// `_GLOBAL_OFFSET_TABLE_`: the linker.
    Got,
}

/// What is free behind the GOT's address, in bytes: ld orders its entries in its own way, so all of it has to be in reach.
/// Less than the 28 KiB that a GOT at the end of a page can have in the reach of `LD64_GOTPAGE_LO15`.
const GOT_ROOM: u64 = 0x4000;

/// In bytes.
pub(crate) const COMMON_SIZE: u64 = 24;

/// The shape of an address space: where something is already.
#[derive(Debug, Default)]
struct Taken(BTreeMap<u64, u64>);

impl Taken {
    /// Takes `size` bytes from `address`, if they are free.
    fn take(&mut self, address: u64, size: u64) -> bool {
        let is_user = (0x1_0000..1 << 47).contains(&address);
        let below = self.0.range(..address + size).next_back();
        let is_free = is_user && below.is_none_or(|(start, size)| start + size <= address);
        if is_free {
            self.0.insert(address, size);
        }
        is_free
    }

    /// Settles something near another, or about as far from it as a relocation reaches.
    fn settle(&mut self, random: &mut Random, machine: Machine, size: u64, align: u64) -> u64 {
        let limits: &[u32] = match machine {
            Machine::Aarch64 => &[15, 20, 27, 31, 32],
            _ => &[7, 15, 31],
        };
        loop {
            let others: Vec<u64> = self.0.keys().copied().collect();
            let mut near = *random.pick(&others);
            if random.below(2) == 0 {
                near = others[0];
            }
            let power = match random.below(2) {
                0 => 8 + random.below(6) as u32,
                _ => *random.pick(limits),
            };
            let distance = ((1 << power) + random.below(0x200)).wrapping_sub(0x100);
            let address = match random.below(2) {
                0 => near.wrapping_add(distance),
                _ => near.wrapping_sub(distance),
            };
            let address = address & align.wrapping_neg();
            // The bytes between are for what ld may put behind a section.
            if address < 1 << 47 && self.take(address, size + 0x20) {
                return address;
            }
        }
    }
}

impl Batch {
    pub(crate) fn new(random: &mut Random, machine: Machine, objects: usize) -> Self {
        let bases = [0x1000_0000, 0x7fff_0000, 0x1234_5600_0000];
        let got = *random.pick(&bases) + random.below(0x1000) * 8;
        let mut taken = Taken::default();
        assert!(taken.take(got, GOT_ROOM));
        let mut batch = Self {
            machine,
            objects,
            got,
            sections: Vec::new(),
            symbols: Vec::new(),
        };
        for object in 0..objects {
            for number in 0..2 + random.below(3) {
                batch.add_section(random, &mut taken, object, number);
            }
        }
        for section in 0..batch.sections.len() {
            batch.add_symbols(random, section);
        }
        batch.add_shared_symbols(random, &mut taken);
        for section in 0..batch.sections.len() {
            batch.fill(random, section, kinds(machine));
        }
        batch
    }

    /// Objects for x86-64, near each other, whose instructions go through the GOT to each other's symbols.
    pub(crate) fn relaxed(random: &mut Random, objects: usize) -> Self {
        let got = 0x1234_5600_0000;
        let mut batch = Self {
            machine: Machine::X86_64,
            objects,
            got,
            sections: Vec::new(),
            symbols: Vec::new(),
        };
        let mut address = got + GOT_ROOM;
        for object in 0..objects {
            let size = 16 + random.below(160);
            batch.sections.push(Section {
                object,
                name: format!(".s{object}"),
                kind: SectionKind::Text,
                address,
                size,
                align: 16,
                contents: (0..size).map(|_| random.next() as u8).collect(),
                sites: Vec::new(),
            });
            batch.add_symbols(random, object);
            address += (size + random.below(0x2000) + 31) & !15;
        }
        for section in 0..objects {
            batch.fill(random, section, RELAXED);
        }
        batch
    }

    fn add_section(&mut self, random: &mut Random, taken: &mut Taken, object: usize, number: u64) {
        let kind = match number {
            0 => SectionKind::Text,
            _ => *random.pick(&[
                SectionKind::Text,
                SectionKind::ReadOnlyData,
                SectionKind::Data,
                SectionKind::UninitializedData,
            ]),
        };
        let size = 4 + random.below(160);
        let align = 4 << random.below(5);
        let has_contents = kind != SectionKind::UninitializedData;
        let address = taken.settle(random, self.machine, size, align);
        let contents = (0..size).map(|_| random.next() as u8);
        self.sections.push(Section {
            object,
            name: format!(".s{object}.{number}"),
            kind,
            address,
            size,
            align,
            contents: contents.filter(|_| has_contents).collect(),
            sites: Vec::new(),
        });
    }

    fn add_symbols(&mut self, random: &mut Random, section: usize) {
        let Section { address, size, .. } = self.sections[section];
        for home in [
            Home::Section(section),
            Home::Local(section),
            Home::Hidden(section),
            Home::Global(section),
            Home::Weak(section),
        ] {
            let offset = match home {
                Home::Section(_) => 0,
                _ => random.below(size + 1),
            };
            let size = match home {
                Home::Section(_) => 0,
                _ => random.signed() as u64,
            };
            if matches!(home, Home::Section(_)) || random.below(2) == 0 {
                self.add_symbol(home, address + offset, size);
            }
        }
    }

    fn add_shared_symbols(&mut self, random: &mut Random, taken: &mut Taken) {
        for object in 0..self.objects {
            if random.below(4) == 0 {
                let value = random.signed() as u64;
                self.add_symbol(Home::Absolute(object), value, random.below(0x1000));
            }
        }
        for _ in 0..4 {
            let address = taken.settle(random, self.machine, 16, 4);
            self.add_symbol(Home::Outside, address, 0);
        }
        let address = taken.settle(random, self.machine, COMMON_SIZE, 8);
        self.add_symbol(Home::Common, address, COMMON_SIZE);
        self.add_symbol(Home::Absent, 0, 0);
        self.add_symbol(Home::Got, self.got, 0);
    }

    fn add_symbol(&mut self, home: Home, address: u64, size: u64) {
        let name = match home {
            Home::Got => "_GLOBAL_OFFSET_TABLE_".into(),
            _ => format!("symbol{}", self.symbols.len()),
        };
        self.symbols.push(Symbol {
            name,
            home,
            address,
            size,
        });
    }

    /// Whether an object can refer to a symbol.
    fn sees(&self, object: usize, symbol: usize) -> bool {
        match self.symbols[symbol].home {
            Home::Section(section) | Home::Local(section) => {
                self.sections[section].object == object
            }
            _ => true,
        }
    }

    /// Relocates as many places in a section as fit.
    fn fill(&mut self, random: &mut Random, section: usize, kinds: &'static [Kind]) {
        let Section {
            object, address, ..
        } = self.sections[section];
        let end = self.sections[section].contents.len() as u64;
        let mut offset = random.below(8);
        let slot_low = kinds.iter().find(|kind| kind.operand == Operand::SlotLow);
        for _ in 0..60 {
            let kind = random.pick(kinds);
            let symbol = random.below(self.symbols.len() as u64) as usize;
            let mut size = kind.size;
            let mut follower = None;
            match kind.operand {
                Operand::SlotLow => continue,
                Operand::SlotPage => {
                    follower = slot_low;
                    size = 8;
                }
                _ => {}
            }
            if kind.mask != 0 {
                offset = (offset + 3) & !3;
            }
            let place = offset + kind.head.len() as u64;
            if place + size > end {
                break;
            }
            if !self.sees(object, symbol) {
                continue;
            }
            let Some(addend) = self.aim(random, kind, address + place, symbol) else {
                continue;
            };
            let section = &mut self.sections[section];
            section.contents[offset as usize..place as usize].copy_from_slice(kind.head);
            for (kind, offset) in [(Some(kind), place), (follower, place + 4)] {
                let Some(kind) = kind else { continue };
                if kind.mask != 0 {
                    let at = offset as usize;
                    // What stands in the field does not matter.
                    let word = kind.word & !kind.mask | random.next() as u32 & kind.mask;
                    section.contents[at..at + 4].copy_from_slice(&word.to_le_bytes());
                }
                section.sites.push(Site {
                    offset,
                    kind,
                    symbol,
                    addend,
                });
            }
            offset = place + size + random.below(4);
        }
    }

    /// An addend with which a relocation is in range, often just so. `None` if there is none.
    fn aim(&self, random: &mut Random, kind: &Kind, place: u64, symbol: usize) -> Option<i64> {
        let Symbol {
            home,
            address,
            size,
            ..
        } = self.symbols[symbol];
        if kind.operand == Operand::Nothing {
            return Some(0);
        }
        let range = kind.range(self.machine);
        let is_absolute = matches!(range.value(), Value::Absolute | Value::LowBits);
        let small = random.below(65) as i64 - 32;
        match kind.operand {
            // aaelf64: relative to nothing is relative to the place. GNU ld counts an addend from its page, sometimes.
            Operand::Symbol
                if home == Home::Absent && !is_absolute && self.machine == Machine::Aarch64 =>
            {
                Some(0)
            }
            Operand::Symbol if home == Home::Absent && !is_absolute => None, // No compiler writes one.
            // GNU ld makes a NOP of a branch to nothing; ours goes on behind it.
            Operand::Branch | Operand::SymbolFromGot if home == Home::Absent => None,
            Operand::Symbol | Operand::Branch => Some(self.aim_at(random, range, place, address)),
            Operand::SymbolFromGot => Some(self.aim_at(random, range, self.got, address)),
            Operand::Got => Some(self.aim_at(random, range, place, self.got)),
            Operand::SlotOrSymbol => Some(-4),
            Operand::Size if matches!(home, Home::Outside | Home::Got) => None, // Nobody knows it.
            Operand::Size => Some(self.aim_at(random, range, place, size)),
            _ if home == Home::Got => None, // GNU ld makes no entry for it.
            _ => {
                // aaelf64 has the entry hold S + A. GNU ld ignores A, and no compiler writes one. On x86-64 it is -4, mostly.
                let addend = match kind.mask {
                    0 => *random.pick(&[-4, small]),
                    _ => 0,
                };
                if home == Home::Absent && addend == -4 {
                    return None; // GNU ld makes another instruction of it, in spite of --no-relax.
                }
                let is_in_reach = |entry: u64| {
                    let entry = entry.wrapping_add_signed(addend);
                    let (place, entry) = match (kind.operand, range.value()) {
                        (Operand::SlotFromGot, Value::Absolute) => {
                            (0, entry.wrapping_sub(self.got))
                        }
                        (Operand::SlotFromGot | Operand::SlotFromGotHigh, _) => (self.got, entry),
                        _ => (place, entry),
                    };
                    range.check(place, entry).is_ok()
                };
                let ends = [self.got, self.got + GOT_ROOM];
                ends.into_iter().all(is_in_reach).then_some(addend)
            }
        }
    }

    /// The addend that makes X of `range` what it should be.
    fn aim_at(&self, random: &mut Random, range: &RelocationRange, place: u64, symbol: u64) -> i64 {
        let step = range.multiple_of() as i64;
        // GNU ld takes these for unsigned: tests/reach_table.rs.
        let unsigned = ["R_AARCH64_ABS32", "R_AARCH64_ABS16", "R_X86_64_SIZE32"];
        let is_unsigned = unsigned.contains(&range.name());
        let min = if is_unsigned { 0 } else { range.min() };
        let last = range.max() & -step;
        let addend = (random.below(65) as i64 - 32) & -step;
        let near = symbol.wrapping_add_signed(addend);
        let x = match random.below(6) {
            0 => min,
            1 => last,
            2 => min.saturating_add(random.below(0x100) as i64 & -step),
            3 => last.saturating_sub(random.below(0x100) as i64 & -step),
            4 if (min, last) != (i64::MIN, i64::MAX) => random.signed().clamp(min, last) & -step,
            4 => random.signed() & -step,
            // As it comes, if it comes in reach.
            _ => match range.check(place, near) {
                Ok(x) if x >= min => return addend,
                _ => random.signed().clamp(min, last) & -step,
            },
        };
        let target = match range.value() {
            Value::Relative => place.wrapping_add_signed(x),
            Value::PageRelative => {
                let low = *random.pick(&[0, 0xfff, 0x800]);
                ((place & !0xfff).wrapping_add_signed(x) & !0xfff) + low
            }
            Value::LowBits => near & (step as u64).wrapping_neg(),
            _ => x as u64,
        };
        let checked = range.check(place, target);
        assert!(checked.is_ok(), "{checked:?}");
        target.wrapping_sub(symbol) as i64
    }

    /// Where the loader's memory manager puts everything.
    pub(crate) fn addresses(&self) -> HashMap<String, u64> {
        let sections = self.sections.iter();
        let mut addresses: HashMap<String, u64> = sections
            .map(|section| (section.name.clone(), section.address))
            .collect();
        addresses.insert(".got".into(), self.got);
        let mut symbols = self.symbols.iter();
        if let Some(common) = symbols.find(|symbol| symbol.home == Home::Common) {
            addresses.insert("COMMON".into(), common.address);
        }
        addresses.insert(".stubs".into(), 1 << 50); // Out of reach: what is compared does without.
        addresses
    }

    /// Objects with nothing but one relocation each, of its own place: kind, place and addend.
    pub(crate) fn singles(
        machine: Machine,
        got: u64,
        relocations: &[(&'static Kind, u64, i64)],
    ) -> Self {
        let mut batch = Self {
            machine,
            objects: relocations.len(),
            got,
            sections: Vec::new(),
            symbols: Vec::new(),
        };
        for (number, &(kind, address, addend)) in relocations.iter().enumerate() {
            let mut contents = vec![0; 16];
            let offset = kind.head.len();
            contents[..offset].copy_from_slice(kind.head);
            contents[offset..offset + 4].copy_from_slice(&kind.word.to_le_bytes());
            batch.sections.push(Section {
                object: number,
                name: format!(".s{number}"),
                kind: SectionKind::Text,
                address,
                size: 16,
                align: 16,
                contents,
                sites: vec![Site {
                    offset: offset as u64,
                    kind,
                    symbol: number,
                    addend,
                }],
            });
            batch.add_symbol(Home::Local(number), address, 0);
        }
        batch
    }
}
