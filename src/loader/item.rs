//! What a program consists of: its objects' sections, and what the linker makes.

use super::symbols::SymbolId;
use crate::id::SectionId;
use crate::kind::SectionKind;
use crate::layout::SectionRequest;
use crate::num::{Address, Align};

/// A section, or something like one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'data> {
    pub(super) content: Content,
    /// The number of the object that it is part of or that first needs it; for what objects share, of the first one.
    pub(super) object: usize,
    pub(super) name: &'data str,
    pub(super) kind: SectionKind,
    /// In bytes.
    pub(super) size: usize,
    pub(super) align: Align,
    /// The number of its name, if something refers to where all sections of that name begin or end: they lie together.
    pub(super) bounds: Option<usize>,
    /// Where it is, once it has memory.
    pub(super) place: Option<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// By index.
    Section(usize),
    /// A section of unwind information, by index: a part of the one table of all objects.
    Unwind(usize),
    Common(SymbolId),
    Got,
    Stubs,
    /// Code that goes where an indirect function was found to be.
    IndirectStub(SymbolId),
    /// Where that is.
    IndirectSlot(SymbolId),
    /// What the program calls itself.
    Handle,
}

/// A place in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: SectionId,
    /// In the section, in bytes.
    pub(super) offset: usize,
    /// Of the first byte.
    pub(super) address: Address,
}

impl Place {
    /// The first place from here on in the same section, which is aligned enough, for an item with this alignment.
    pub(super) fn aligned(self, align: Align) -> Self {
        let offset = align.up(self.offset).expect("the section has room");
        self.behind(offset - self.offset)
    }

    /// What lies `size` bytes further on in the same section.
    pub(super) fn behind(self, size: usize) -> Self {
        Self {
            offset: self.offset + size,
            address: self.address.wrapping_add(size as u64),
            ..self
        }
    }
}

impl<'data> Item<'data> {
    /// What to ask a memory manager for, unless it is a part.
    pub(super) fn request(&self) -> SectionRequest<'data> {
        SectionRequest::new(self.name, self.kind, self.size, self.align)
    }

    pub(super) fn is_unwind(&self) -> bool {
        matches!(self.content, Content::Unwind(_))
    }

    /// How much it asks of a memory manager, to tell whose fault it is when that refuses.
    pub(super) fn demand(&self) -> usize {
        self.size.max(self.align.bytes())
    }

    /// # Panics
    ///
    /// If it has no memory yet.
    pub(super) fn place(&self) -> Place {
        self.place.expect("memory comes before contents")
    }
}
