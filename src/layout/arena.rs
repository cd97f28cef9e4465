//! What a reservation has while it is being filled: places for announced sections, and free space behind them.

use std::iter;
use std::ops::{Index, IndexMut};

use crate::kind::{PerKind, SectionKind};
use crate::num::{Align, Span};

/// All that a reservation has.
#[derive(Debug)]
pub(crate) struct Arenas {
    /// What was reserved.
    of_kind: PerKind<Arena>,
    /// What was taken later, in a window.
    beyond: Vec<(SectionKind, Arena)>,
}

impl Arenas {
    /// Nothing.
    pub(crate) const EMPTY: Self = Self {
        of_kind: PerKind::new(Arena::EMPTY, Arena::EMPTY, Arena::EMPTY),
        beyond: Vec::new(),
    };

    /// Replaces all that was there by what was reserved.
    #[inline]
    pub(crate) fn set(&mut self, reserved: PerKind<Arena>) {
        self.of_kind = reserved;
        self.beyond.clear();
    }

    /// The latest that was taken of a kind beyond what was reserved.
    pub(crate) fn latest_beyond(&mut self, kind: SectionKind) -> Option<&mut Arena> {
        let mut latest = self.beyond.iter_mut().rev();
        latest.find(|(of, _)| *of == kind).map(|(_, arena)| arena)
    }

    pub(crate) fn add_beyond(&mut self, kind: SectionKind, arena: Arena) {
        self.beyond.push((kind, arena));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SectionKind, &Arena)> {
        let beyond = self.beyond.iter().map(|(kind, arena)| (*kind, arena));
        self.of_kind.iter().chain(beyond)
    }

    /// Wherever there may be code.
    pub(crate) fn code(&self) -> impl Iterator<Item = Span> {
        let reserved = iter::once(&self.of_kind[SectionKind::Code]);
        let beyond = self.beyond.iter();
        let beyond = beyond.filter(|(kind, _)| *kind == SectionKind::Code);
        reserved
            .chain(beyond.map(|(_, arena)| arena))
            .map(Arena::reached)
    }
}

impl Index<SectionKind> for Arenas {
    type Output = Arena;

    fn index(&self, kind: SectionKind) -> &Arena {
        &self.of_kind[kind]
    }
}

impl IndexMut<SectionKind> for Arenas {
    fn index_mut(&mut self, kind: SectionKind) -> &mut Arena {
        &mut self.of_kind[kind]
    }
}

/// A piece of one kind of memory that hands out spans. It takes nothing back: what it has belongs to one reservation.
#[derive(Debug)]
pub(crate) struct Arena {
    span: Span,
    /// Invariant: ends where `span` ends; no announced place and nothing handed out lies in it.
    free: Span,
    /// Invariant: inside `span`; every span handed out ends at or before it.
    reached: usize,
}

impl Arena {
    /// The sub-arena at `span`, whose first `planned` bytes are for announced sections.
    pub(crate) fn new(span: Span, planned: usize) -> Self {
        let places = Span::sized(span.start(), planned);
        let places = places.filter(|&places| span.contains(places));
        let places = places.expect("a plan makes room for its places");
        Self {
            span,
            free: Span::new(places.end(), span.end()).expect("the places are inside"),
            reached: span.start(),
        }
    }

    /// Nothing.
    pub(crate) const EMPTY: Self = Self {
        span: Span::empty(0),
        free: Span::empty(0),
        reached: 0,
    };

    /// Where a place lies that was announced, and counted from the arena's start.
    pub(crate) fn announced(&mut self, place: Span) -> Span {
        let start = self.span.start() + place.start();
        let span = Span::sized(start, place.size()).expect("a place is inside its arena");
        self.reached = self.reached.max(span.end());
        span
    }

    /// A place for a section that was not announced, such that its address is a multiple of `align` when offset 0 lies at
    /// `origin`.
    ///
    /// # Errors
    ///
    /// The largest size for which there would be space at this alignment. Nothing changed.
    pub(crate) fn beyond_the_plan(
        &mut self,
        size: usize,
        align: Align,
        origin: usize,
    ) -> Result<Span, usize> {
        if size == 0 {
            // No bytes, so in nobody's way, wherever the alignment holds. The start is as aligned as any section announced.
            return self.span.first_fit(0, align, origin).ok_or(0);
        }
        let found = self.free.first_fit(size, align, origin);
        let found = found.ok_or_else(|| self.largest(align, origin))?;
        self.free = Span::new(found.end(), self.free.end()).expect("found inside the free space");
        self.reached = found.end();
        Ok(found)
    }

    fn largest(&self, align: Align, origin: usize) -> usize {
        let empty = self.free.first_fit(0, align, origin);
        empty.map_or(0, |at| self.free.end() - at.start())
    }

    /// All of it.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// From its start up to the last byte of a section.
    pub(crate) fn reached(&self) -> Span {
        Span::new(self.span.start(), self.reached).expect("nothing lies in front of it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn align(bytes: usize) -> Align {
        Align::new(bytes).unwrap()
    }

    fn arena(pages: usize, planned: usize) -> Arena {
        Arena::new(Span::sized(0x2000, pages * 4096).unwrap(), planned)
    }

    fn place(start: usize, size: usize) -> Span {
        Span::sized(start, size).unwrap()
    }

    #[test]
    fn what_rounding_to_pages_leaves_over_is_usable() {
        let mut arena = arena(1, 100);
        arena.beyond_the_plan(4096 - 112, align(16), 0).unwrap();
        assert_eq!(arena.announced(place(0, 100)), place(0x2000, 100));
        assert_eq!(arena.beyond_the_plan(1, align(16), 0), Err(0));
    }

    #[test]
    fn a_section_beyond_the_plan_never_takes_an_announced_place() {
        let mut arena = arena(1, 4000);
        assert_eq!(arena.beyond_the_plan(4000, align(32), 0), Err(96));
        let span = arena.beyond_the_plan(96, align(32), 0).unwrap();
        assert_eq!(span, place(0x2000 + 4000, 96));
    }

    #[test]
    fn an_empty_section_takes_nothing_and_uses_no_page() {
        let mut arena = arena(1, 0);
        for _ in 0..3 {
            assert!(arena.beyond_the_plan(0, align(4096), 0).unwrap().is_empty());
        }
        assert!(arena.reached().is_empty());
        arena.beyond_the_plan(4096, align(1), 0).unwrap();
        assert_eq!(arena.reached(), arena.span());
        assert!(arena.beyond_the_plan(0, align(1), 0).unwrap().is_empty());
        assert_eq!(
            arena.beyond_the_plan(0, align(1 << 21), 0x1000),
            Err(0),
            "no address in it is that aligned"
        );
    }

    #[test]
    fn it_is_reached_as_far_as_sections_go() {
        let mut arena = arena(4, 4097);
        arena.announced(place(0, 1));
        assert_eq!(arena.reached(), place(0x2000, 1));
        arena.announced(place(1, 4096));
        assert_eq!(arena.reached(), place(0x2000, 4097));
        arena.beyond_the_plan(4096, align(1), 0).unwrap();
        arena.announced(place(0, 1));
        assert_eq!(arena.reached(), place(0x2000, 2 * 4096 + 1));
    }
}
