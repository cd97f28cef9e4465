//! What a program consists of: its objects' sections, and what the linker makes.

use smallvec::SmallVec;

use super::Sections;
use super::symbols::SymbolId;
use crate::kind::{PerKind, SectionKind};
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
    /// The number of what the memory manager is asked for, of which it is all or a part.
    pub(super) piece: usize,
    /// In that, in bytes.
    pub(super) offset: usize,
    /// Where it begins, once that is known.
    pub(super) address: Address,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
    /// The GOT entries of thread-local variables.
    ThreadEntries,
}

impl<'data> Item<'data> {
    /// What to ask a memory manager for, unless it is a part.
    fn request(&self) -> SectionRequest<'data> {
        SectionRequest::new(self.name, self.kind, self.size, self.align)
    }

    /// Whether nothing has to lie directly in front of it or behind it.
    fn is_free(&self) -> bool {
        !self.is_unwind() && self.bounds.is_none()
    }

    /// The index of the section that it is, of its object's.
    pub(super) fn section(&self) -> Option<usize> {
        match self.content {
            Content::Section(index) | Content::Unwind(index) => Some(index),
            _ => None,
        }
    }

    pub(super) fn is_unwind(&self) -> bool {
        matches!(self.content, Content::Unwind(_))
    }

    /// How much it asks of a memory manager, to tell whose fault it is when that refuses.
    pub(super) fn demand(&self) -> usize {
        self.size.max(self.align.bytes())
    }
}

/// What to ask a memory manager for, for one reservation.
pub(super) type Requests<'data> = SmallVec<[SectionRequest<'data>; 4]>;

/// What to ask a memory manager for, so that all items have room, and of each item where in that it is. `None` where that does
/// not fit into a number.
pub(super) fn requests<'data>(
    items: &mut [Item<'data>],
    sections: Sections,
) -> Option<Requests<'data>> {
    let mut requests = Requests::new();
    match sections {
        Sections::Joined => {
            // A bit for each alignment that occurs.
            let mut aligns = PerKind::<usize>::default();
            for item in items.iter().filter(|item| item.is_free()) {
                aligns[item.kind] |= item.align.bytes();
            }
            for kind in SectionKind::ALL {
                join(items, kind, aligns[kind], &mut requests)?;
            }
        }
        Sections::Apart => {
            for item in items.iter_mut().filter(|item| item.is_free()) {
                item.piece = requests.len();
                requests.push(item.request());
            }
        }
    }
    add_bounded(items, &mut requests)?;
    add_unwind_table(items, &mut requests)?;
    Some(requests)
}

/// Makes one piece of all sections of each name whose bounds are referred to, in the order of the objects.
fn add_bounded<'data>(items: &mut [Item<'data>], requests: &mut Requests<'data>) -> Option<()> {
    let mut pieces = Vec::new(); // By name.
    for item in items {
        let Some(name) = item.bounds else {
            continue;
        };
        pieces.resize(pieces.len().max(name + 1), None);
        let piece = *pieces[name].get_or_insert_with(|| {
            requests.push(SectionRequest::new(item.name, item.kind, 0, Align::ONE));
            requests.len() - 1
        });
        let before = requests[piece];
        (item.piece, item.offset) = (piece, item.align.up(before.size())?);
        let size = item.offset.checked_add(item.size)?;
        let align = before.align().max(item.align);
        requests[piece] = SectionRequest::new(item.name, item.kind, size, align);
    }
    Some(())
}

/// Makes one piece of all items of a kind, which have these alignments together, if there are any.
///
/// Alignments descend, and each item takes its size rounded up to its own. So every offset is aligned, and the piece is as large
/// as these together.
fn join(
    items: &mut [Item<'_>],
    kind: SectionKind,
    mut aligns: usize,
    requests: &mut Requests<'_>,
) -> Option<()> {
    let of_kind = |item: &&mut Item<'_>| item.kind == kind && item.is_free();
    let Some(strictest) = aligns.checked_ilog2() else {
        return Some(());
    };
    let mut size = 0usize;
    while let Some(exponent) = aligns.checked_ilog2() {
        let align = Align::from_exponent(exponent);
        aligns -= align.bytes();
        for item in items.iter_mut().filter(of_kind) {
            if item.align == align {
                (item.piece, item.offset) = (requests.len(), size);
                size = size.checked_add(align.up(item.size)?)?;
            }
        }
    }
    let name = match kind {
        SectionKind::Code => ".text",
        SectionKind::ReadOnlyData => ".rodata",
        SectionKind::ReadWriteData => ".data",
    };
    let align = Align::from_exponent(strictest);
    requests.push(SectionRequest::new(name, kind, size, align));
    Some(())
}

/// Makes one table of all parts, if there are any: one directly behind the other, so that one terminator ends them all.
///
/// From version 13 on libgcc keeps one range of code for each table that is registered, and the ranges must not overlap. The
/// code of objects in one reservation is mixed, so their tables are made one.
fn add_unwind_table(items: &mut [Item<'_>], requests: &mut Requests<'_>) -> Option<()> {
    let mut size = None;
    for part in items.iter_mut().filter(|item| item.is_unwind()) {
        let offset = size.unwrap_or(0usize);
        (part.piece, part.offset) = (requests.len(), offset);
        size = Some(offset.checked_add(part.size)?);
    }
    if let Some(size) = size {
        let (kind, align) = (SectionKind::ReadOnlyData, Align::of::<u64>());
        let table = SectionRequest::new(".eh_frame", kind, size, align);
        requests.push(table.with_eh_frame_terminator());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items() -> impl Strategy<Value = Vec<Item<'static>>> {
        let item = (0usize..6, 0usize..5000, 0u32..=13).prop_map(|(kind, size, exponent)| {
            let (content, bounds, kind) = match (SectionKind::ALL.get(kind), kind) {
                (Some(&kind), _) => (Content::Section(0), None, kind),
                (None, 3) => (Content::Unwind(0), None, SectionKind::ReadOnlyData),
                (None, name) => (Content::Section(0), Some(name), SectionKind::ReadWriteData),
            };
            Item {
                content,
                object: 0,
                name: "s",
                kind,
                size,
                align: Align::from_exponent(exponent),
                bounds,
                piece: 0,
                offset: 0,
                address: Address::new(0),
            }
        });
        prop::collection::vec(item, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn items_are_aligned_and_apart(
            mut items in items(),
            sections in prop_oneof![Just(Sections::Joined), Just(Sections::Apart)],
        ) {
            let requests = requests(&mut items, sections).unwrap();
            if sections == Sections::Joined {
                prop_assert!(requests.len() <= 4 + 2, "with two names whose bounds are referred to");
            }
            for (number, item) in items.iter().enumerate() {
                let request = &requests[item.piece];
                prop_assert_eq!(item.kind, request.kind());
                prop_assert!(item.offset + item.size <= request.size());
                if !item.is_unwind() {
                    prop_assert!(request.align() >= item.align && item.align.divides(item.offset));
                }
                for other in items[..number].iter().filter(|other| other.piece == item.piece) {
                    let end = |item: &Item<'_>| item.offset + item.size;
                    prop_assert!(end(item) <= other.offset || end(other) <= item.offset);
                }
            }
            // What lies together is in one piece, with nothing else.
            let bounded = items.iter().filter(|item| item.bounds.is_some());
            for item in bounded {
                for other in &items {
                    prop_assert_eq!(other.piece == item.piece, other.bounds == item.bounds);
                }
            }
            // No byte lies between two parts of an unwind table.
            let parts = items.iter().filter(|item| item.is_unwind());
            let size: usize = parts.clone().map(|part| part.size).sum();
            prop_assert!(parts.clone().all(|part| requests[part.piece].size() == size));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let huge = Item {
            content: Content::Section(0),
            object: 0,
            name: "huge",
            kind: SectionKind::Code,
            size: usize::MAX,
            align: Align::ONE,
            bounds: None,
            piece: 0,
            offset: 0,
            address: Address::new(0),
        };
        assert!(requests(&mut [huge], Sections::Joined).is_some());
        assert!(requests(&mut [huge, huge], Sections::Joined).is_none());
        assert!(requests(&mut [huge, huge], Sections::Apart).is_some());
    }
}
