//! A linked program: its memory, and where everything in it is.

use std::collections::HashMap;

use super::machine::Machine;
use crate::id::SectionId;
use crate::image::Image;
use crate::kind::SectionKind;
use crate::num::Address;

/// Objects that were linked, in memory that they run from.
///
/// Dropping it gives the memory back. Whoever calls into it keeps it alive meanwhile, and with it what it was linked against:
/// libraries, and other programs whose addresses the resolver gave.
#[derive(Debug)]
pub struct Program {
    pub(super) image: Image,
    /// With what they are defined in; `None` for absolute ones.
    pub(super) symbols: HashMap<String, (Address, Option<SectionKind>)>,
    pub(super) machine: Machine,
    pub(super) sections: Vec<ProgramSection>,
}

/// Where a section of an object is, or something that the linker made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramSection {
    pub(super) object: String,
    pub(super) name: String,
    pub(super) kind: SectionKind,
    pub(super) id: SectionId,
    pub(super) address: Address,
    pub(super) size: usize,
}

impl ProgramSection {
    /// The object that it is part of; for what objects share, the first one of them.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// As the object calls it; `.got`, `.stubs` and `COMMON` for what the linker made.
    pub fn name(&self) -> &str {
        &self.name
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
    /// The address of a global symbol that an object defines.
    pub fn address(&self, symbol: &str) -> Option<Address> {
        self.symbols.get(symbol).map(|&(address, _)| address)
    }

    /// All global symbols that the objects define, in no particular order.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, Address)> {
        self.symbols
            .iter()
            .map(|(name, &(address, _))| (name.as_str(), address))
    }

    /// All sections, object by object.
    pub fn sections(&self) -> impl Iterator<Item = &ProgramSection> {
        self.sections.iter()
    }

    /// The memory.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The memory, to take what was in flight beside the program out of it.
    pub fn image_mut(&mut self) -> &mut Image {
        &mut self.image
    }

    /// The memory, to keep or to leak without the names.
    pub fn into_image(self) -> Image {
        self.image
    }
}
