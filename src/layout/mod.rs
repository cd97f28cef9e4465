//! What a host asks for, and where in a block it goes: plain requests in, plain plans out.
//!
//! The room knows offsets, sizes, alignments and page sizes, all as arguments. It has no addresses and asks the system nothing,
//! so that every page size is tested on every machine.

mod arena;
mod block;
#[cfg(any(test, fuzzing))]
mod packing;
mod slots;
mod window;

pub(crate) use arena::{Arena, Arenas};
pub(crate) use block::BlockPlan;
#[cfg(fuzzing)]
pub(crate) use packing::Packing;
pub(crate) use slots::Slots;
pub(crate) use window::{GUARD, UNIT, WindowPlan, check_alignment};

use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::num::Align;

/// Zero bytes behind the last record of an unwind table. `__register_frame` takes no length: it reads records until one has
/// the length zero (Linux Standard Base, "The .eh_frame section").
pub(crate) const EH_FRAME_TERMINATOR: u8 = 4;

/// A section to come, or to allocate now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionRequest<'a> {
    name: &'a str,
    kind: SectionKind,
    size: usize,
    align: Align,
    terminator: u8,
}

impl<'a> SectionRequest<'a> {
    /// A section of `size` bytes at a multiple of `align`. The name is for messages and events only; a size of zero is fine.
    pub const fn new(name: &'a str, kind: SectionKind, size: usize, align: Align) -> Self {
        Self {
            name,
            kind,
            size,
            align,
            terminator: 0,
        }
    }

    /// The same section, with four zero bytes behind its end that nobody can write: the end of an unwind table, which
    /// compilers leave to the linker. Ask for it on every `.eh_frame` that is to be registered.
    pub const fn with_eh_frame_terminator(mut self) -> Self {
        self.terminator = EH_FRAME_TERMINATOR;
        self
    }

    /// What messages call it.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// What it holds.
    pub const fn kind(&self) -> SectionKind {
        self.kind
    }

    /// In bytes, without a terminator.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Its address becomes a multiple of this.
    pub const fn align(&self) -> Align {
        self.align
    }

    /// The bytes that it takes up: its size and, where it was asked for, the terminator.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`] when the sum does not fit into a `usize`.
    pub fn footprint(&self) -> Result<usize, Error> {
        self.size
            .checked_add(usize::from(self.terminator))
            .ok_or_else(|| self.overflow())
    }

    /// Bytes of zeros behind its end.
    pub(crate) fn terminator(&self) -> u8 {
        self.terminator
    }

    pub(crate) fn overflow(&self) -> Error {
        Error::SizeOverflow {
            section: self.name.into(),
            size: self.size,
            align: self.align,
        }
    }
}

/// The total of one kind of memory: how many bytes, and the strictest alignment among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    size: usize,
    align: Align,
}

impl Extent {
    /// Nothing.
    pub const EMPTY: Self = Self::new(0, Align::ONE);

    /// `size` bytes for sections that are aligned to at most `align`.
    pub const fn new(size: usize, align: Align) -> Self {
        Self { size, align }
    }

    /// In bytes.
    pub const fn size(self) -> usize {
        self.size
    }

    /// The strictest alignment.
    pub const fn align(self) -> Align {
        self.align
    }
}

/// What an object is going to need, announced before the first section is allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocationSpace<'a> {
    /// Every section to come.
    ///
    /// Each of them then succeeds, once, in any order. They are told apart by kind, size and alignment, not by name: a section
    /// that was not announced but looks just like one that was takes its place.
    Sections(&'a [SectionRequest<'a>]),
    /// The totals of code, read-only data and read-write data, from a host that knows no more.
    ///
    /// Any sections of a kind then succeed, in any order, if none is aligned to more than the total is and the sum of their
    /// [footprints](SectionRequest::footprint), each rounded up to the total's alignment, is at most the total's size.
    Totals(PerKind<Extent>),
}

impl AllocationSpace<'_> {
    /// Nothing. Reserving it ends what older reservations still had to give.
    pub const EMPTY: AllocationSpace<'static> = AllocationSpace::Sections(&[]);

    /// The totals under which every announced section succeeds in any order: those given, or for a list the sums of the
    /// sizes, each rounded up to the strictest alignment of its kind.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`], naming the section with which a sum left the number range.
    pub fn totals(&self) -> Result<PerKind<Extent>, Error> {
        let sections = match self {
            Self::Totals(totals) => return Ok(*totals),
            Self::Sections(sections) => *sections,
        };
        let mut totals = PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY);
        for section in sections {
            let total = &mut totals[section.kind];
            total.align = total.align.max(section.align);
        }
        for section in sections {
            let total = &mut totals[section.kind];
            let rounded = total.align.up(section.footprint()?);
            total.size = rounded
                .and_then(|size| total.size.checked_add(size))
                .ok_or_else(|| section.overflow())?;
        }
        Ok(totals)
    }

    /// Makes a place in `slots` for each announced section, if they are known, and says what each kind needs.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`].
    pub(crate) fn pack(&self, slots: &mut Slots) -> Result<PerKind<Extent>, Error> {
        match self {
            Self::Sections(sections) => slots.pack(sections),
            Self::Totals(totals) => Ok(*totals),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn align(bytes: usize) -> Align {
        Align::new(bytes).unwrap()
    }

    #[test]
    fn totals_of_a_list_round_each_section_to_the_strictest_alignment_of_its_kind() {
        // The first aarch64 row of what RuntimeDyld announces: .text 124/4, .rodata 3/1, .data 28/8, .eh_frame 64/8, .got 8/8.
        let list = [
            SectionRequest::new(".text", SectionKind::Code, 124, align(4)),
            SectionRequest::new(".rodata", SectionKind::ReadOnlyData, 3, align(1)),
            SectionRequest::new(".eh_frame", SectionKind::ReadOnlyData, 60, align(8))
                .with_eh_frame_terminator(),
            SectionRequest::new(".data", SectionKind::ReadWriteData, 28, align(8)),
            SectionRequest::new(".got", SectionKind::ReadWriteData, 8, align(8)),
        ];
        let totals = AllocationSpace::Sections(&list).totals().unwrap();
        let extents =
            SectionKind::ALL.map(|kind| (totals[kind].size(), totals[kind].align().bytes()));
        assert_eq!(extents, [(124, 4), (8 + 64, 8), (32 + 8, 8)]);
    }

    #[test]
    fn a_total_that_overflows_names_the_section() {
        let list = [
            SectionRequest::new(".small", SectionKind::Code, 1, align(1)),
            SectionRequest::new(".huge", SectionKind::Code, usize::MAX, align(1)),
        ];
        let error = AllocationSpace::Sections(&list).totals().unwrap_err();
        assert!(error.to_string().contains(".huge"), "{error}");
        let last = SectionRequest::new(".eh", SectionKind::ReadOnlyData, usize::MAX, Align::ONE)
            .with_eh_frame_terminator();
        assert!(last.footprint().is_err());
    }
}
