//! A linked program: its memory, and where everything in it is.
//!
//! There may be very many of them, so that the names are one piece of memory, in which everything else has its number.

use std::sync::Arc;

use smallvec::SmallVec;

use super::by_name::ByName;
use super::execute::Life;
use super::listeners::Registered;
use super::object::Object;
use super::plan::Plan;
use super::tls;
use crate::id::SectionId;
use crate::image::Image;
use crate::kind::SectionKind;
use crate::num::Address;

/// Objects that were linked, in memory that they run from.
///
/// Dropping it gives the memory back. Whoever calls into it keeps it alive meanwhile, and with it what it was linked against.
/// The programs of [`Loader::with_program`](super::Loader::with_program) it keeps alive itself.
#[derive(Debug)]
pub struct Program {
    /// What runs by itself. In front of the image: it ends before its memory does.
    pub(super) life: Option<Box<Life>>,
    /// Debuggers that know of it. In front of the image: they forget it before its memory goes.
    pub(super) debuggers: Registered,
    pub(super) image: Image,
    /// Whether it is for this CPU and this address space.
    pub(super) runs_here: bool,
    /// How many objects it was made of.
    objects: u32,
    /// Of the objects, then of `sections`, then of `symbols`.
    names: Names,
    sections: Box<[Section]>,
    symbols: SmallVec<[Symbol; 1]>,
    /// Numbers of `symbols`.
    by_name: ByName,
    /// Behind the memory.
    pub(super) needs: Option<Box<Needs>>,
}

/// What a program's code needs for as long as it runs.
#[derive(Debug)]
pub(super) struct Needs {
    /// The program's blocks in all threads: made from its memory.
    storage: Option<tls::Storage>,
    /// What it was linked against.
    _earlier: Vec<Arc<Program>>,
}

impl Needs {
    /// `None` if it is nothing.
    pub(super) fn of(
        storage: Option<tls::Storage>,
        earlier: Vec<Arc<Program>>,
    ) -> Option<Box<Self>> {
        let is_any = storage.is_some() || !earlier.is_empty();
        is_any.then(|| {
            Box::new(Self {
                storage,
                _earlier: earlier,
            })
        })
    }
}

/// A section of an object, or something that the linker made.
#[derive(Debug)]
pub(super) struct Section {
    /// The number of the object.
    pub(super) object: u32,
    pub(super) kind: SectionKind,
    pub(super) id: SectionId,
    pub(super) address: Address,
    /// In bytes.
    pub(super) size: usize,
}

/// A global symbol that an object defines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub(super) address: Address,
    /// Of what it is defined in; `None` for an absolute one.
    pub(super) kind: Option<SectionKind>,
    /// Whether it is for this program only.
    pub(super) is_hidden: bool,
}

/// What the names of a program may come to, in bytes: so much is counted in 32 bits even if no byte of it is text.
pub(super) const MAX_NAMES: usize = u32::MAX as usize / '\u{fffd}'.len_utf8();

/// Texts, one behind the other, of [so many](MAX_NAMES) bytes at most.
#[derive(Debug)]
struct Names {
    text: Box<str>,
    /// By number, where each ends in `text`.
    ends: Box<[u32]>,
}

impl Names {
    /// Bytes that are no text become replacement characters.
    fn new(names: &[&[u8]]) -> Self {
        let mut text = Vec::with_capacity(names.iter().map(|name| name.len()).sum());
        let mut ends: Vec<u32> = Vec::with_capacity(names.len());
        for name in names {
            text.extend_from_slice(name);
            ends.push(text.len() as u32);
        }
        // Looked at once, since one by one takes longer than all the rest.
        if let Ok(text) = String::from_utf8(text) {
            if ends.iter().all(|&end| text.is_char_boundary(end as usize)) {
                return Self {
                    text: text.into(),
                    ends: ends.into(),
                };
            }
        }
        let mut text = String::new();
        ends.clear();
        for name in names {
            text.push_str(&String::from_utf8_lossy(name));
            ends.push(text.len() as u32);
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }

    fn get(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[number] as usize]
    }
}

/// Where a section of an object is, or something that the linker made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramSection<'program> {
    object: &'program str,
    name: &'program str,
    kind: SectionKind,
    id: SectionId,
    address: Address,
    size: usize,
}

impl<'program> ProgramSection<'program> {
    /// The object that it is part of; for what objects share, the first one of them.
    pub fn object(&self) -> &'program str {
        self.object
    }

    /// As the object calls it; `.got`, `.stubs` and `COMMON` for what the linker made.
    pub fn name(&self) -> &'program str {
        self.name
    }

    /// What it holds.
    pub fn kind(&self) -> SectionKind {
        self.kind
    }

    /// In the program's image.
    pub fn id(&self) -> SectionId {
        self.id
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl Program {
    /// A program of what is in these plans, with these symbols, of which nothing runs by itself.
    pub(super) fn new<'data>(
        image: Image,
        runs_here: bool,
        objects: &[Object<'data>],
        plans: &[Plan<'data>],
        known: impl Iterator<Item = (&'data [u8], Symbol)>,
    ) -> Self {
        let mut names: SmallVec<[&[u8]; 16]> = SmallVec::new();
        names.extend(objects.iter().map(|object| object.name.as_bytes()));
        let items = plans.iter().map(|plan| plan.items.len());
        let mut sections = Vec::with_capacity(items.sum());
        for plan in plans {
            for item in &plan.items {
                names.push(item.name.as_bytes());
                sections.push(Section {
                    object: item.object as u32, // Objects have symbols, which have numbers of no more bits.
                    kind: item.kind,
                    id: plan.piece(item).id,
                    address: item.address,
                    size: item.size,
                });
            }
        }
        let first = names.len();
        let mut symbols = SmallVec::new();
        for (name, symbol) in known {
            names.push(name);
            symbols.push(symbol);
        }
        let mut by_name = ByName::with_capacity(symbols.len());
        for (number, name) in (0..).zip(&names[first..]) {
            by_name.find_or_insert(name, number, |number| names[first + number as usize]);
        }
        symbols.shrink_to_fit();
        Self {
            life: None,
            debuggers: Registered::default(),
            image,
            runs_here,
            objects: objects.len() as u32,
            names: Names::new(&names),
            sections: sections.into(),
            symbols,
            by_name,
            needs: None,
        }
    }

    pub(super) fn symbol(&self, name: &str) -> Option<Symbol> {
        let name_of = |number| self.symbol_name(number as usize).as_bytes();
        let count = self.symbols.len() as u32;
        let number = self.by_name.find(name.as_bytes(), count, name_of);
        number.map(|number| self.symbols[number as usize])
    }

    fn symbol_name(&self, number: usize) -> &str {
        self.names
            .get(self.objects as usize + self.sections.len() + number)
    }

    /// The address of a symbol that is there for other programs, too.
    pub(super) fn exported(&self, name: &str) -> Option<Address> {
        let symbol = self.symbol(name).filter(|symbol| !symbol.is_hidden);
        symbol.map(|symbol| symbol.address)
    }

    /// The address of a global symbol that an object defines. `None` for a thread-local variable, which has one for each thread.
    pub fn address(&self, symbol: &str) -> Option<Address> {
        self.symbol(symbol).map(|symbol| symbol.address)
    }

    /// All global symbols that the objects define, in no particular order.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, Address)> {
        let numbered = self.symbols.iter().enumerate();
        numbered.map(|(number, symbol)| (self.symbol_name(number), symbol.address))
    }

    /// All sections, object by object.
    pub fn sections(&self) -> impl Iterator<Item = ProgramSection<'_>> {
        let numbered = self.sections.iter().enumerate();
        numbered.map(|(number, section)| ProgramSection {
            object: self.names.get(section.object as usize),
            name: self.names.get(self.objects as usize + number),
            kind: section.kind,
            id: section.id,
            address: section.address,
            size: section.size,
        })
    }

    /// How many threads have a block of this program's thread-local variables, made when they first used one. Each is given
    /// back when its thread ends, or the program goes. None is made for a program whose variables are at fixed offsets from the
    /// thread pointer.
    pub fn thread_blocks(&self) -> usize {
        let storage = self.needs.as_ref().and_then(|needs| needs.storage.as_ref());
        storage.map_or(0, |storage| storage.blocks())
    }

    /// The memory.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The memory, to take what was in flight beside the program out of it.
    pub fn image_mut(&mut self) -> &mut Image {
        &mut self.image
    }

    /// The memory, to keep or to leak without the names. Destructors do not run, earlier programs are no longer kept alive, and
    /// what the program has of thread-local storage stays for as long as its threads do. Debuggers forget it.
    pub fn into_image(self) -> Image {
        if let Some(life) = self.life {
            life.forget();
        }
        if let Some(needs) = self.needs {
            std::mem::forget(needs.storage); // Nobody tells when the image goes.
        }
        self.image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_a_program_is_small() {
        // There may be a million of them.
        let others = size_of::<Image>() + size_of::<Registered>();
        assert_eq!(size_of::<Program>() - others, 104);
        assert_eq!(size_of::<Section>(), 40);
    }
}
