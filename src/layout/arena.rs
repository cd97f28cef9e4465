//! One kind's part of a block while it is being filled: places for announced sections, and free space behind them.

use super::Slots;
use crate::num::{Align, PageSize, Span};

/// A sub-arena that hands out spans of a block. It takes nothing back: what it has belongs to one reservation.
#[derive(Debug)]
pub(crate) struct Arena {
    /// Invariant: whole pages.
    span: Span,
    slots: Slots,
    /// Invariant: ends where `span` ends; no place of `slots` and nothing handed out lies in it.
    free: Span,
    /// Invariant: every span handed out ends at or before it; on a page boundary in `span`.
    in_use_end: usize,
}

impl Arena {
    /// The sub-arena at `span`, whose first bytes are the places in `slots`.
    pub(crate) fn new(span: Span, slots: Slots) -> Self {
        let places =
            Span::sized(span.start(), slots.size()).expect("the plan was made of numbers that fit");
        let (_, free) = span
            .split_at(places.end())
            .expect("a plan makes room for its places");
        Self {
            span,
            slots,
            free,
            in_use_end: span.start(),
        }
    }

    /// A place for a section, such that its address is a multiple of `align` when offset 0 of the block lies at `origin`:
    /// the one announced for it, or else from the free space.
    ///
    /// # Errors
    ///
    /// The largest size for which there would be space at this alignment. Nothing changed.
    pub(crate) fn allocate(
        &mut self,
        size: usize,
        align: Align,
        origin: usize,
        page: PageSize,
    ) -> Result<Span, usize> {
        let span = if size == 0 {
            // No bytes, so in nobody's way, wherever the alignment holds. The start is as aligned as any section announced.
            self.span.first_fit(0, align, origin).ok_or(0usize)?
        } else if let Some(place) = self.slots.claim(size, align) {
            Span::sized(self.span.start() + place.start(), size)
                .expect("a place is inside its arena")
        } else {
            let found = self
                .free
                .first_fit(size, align, origin)
                .ok_or_else(|| self.largest(align, origin))?;
            let (_, free) = self
                .free
                .split_at(found.end())
                .expect("what was found is inside the free space");
            self.free = free;
            found
        };
        let used = page
            .align()
            .up(span.end())
            .expect("a block ends on a page boundary");
        self.in_use_end = self.in_use_end.max(if size == 0 { 0 } else { used });
        Ok(span)
    }

    fn largest(&self, align: Align, origin: usize) -> usize {
        let empty = self.free.first_fit(0, align, origin);
        empty.map_or(0, |at| self.free.end() - at.start())
    }

    /// All of it.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// The pages from its start up to the last one that holds a byte of a section.
    pub(crate) fn pages_in_use(&self) -> Span {
        let (in_use, _) = self
            .span
            .split_at(self.in_use_end)
            .expect("pages in use are inside");
        in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageSize = PageSize::MIN;

    fn align(bytes: usize) -> Align {
        Align::new(bytes).unwrap()
    }

    fn arena(pages: usize, planned: &[(usize, usize)]) -> Arena {
        let slots = Slots::pack(planned.iter().map(|&(size, bytes)| (size, align(bytes)))).unwrap();
        Arena::new(Span::sized(0x2000, pages * 4096).unwrap(), slots)
    }

    #[test]
    fn what_rounding_to_pages_leaves_over_is_usable() {
        let mut arena = arena(1, &[(100, 16)]);
        arena.allocate(4096 - 112, align(16), 0, PAGE).unwrap();
        arena.allocate(100, align(16), 0, PAGE).unwrap();
        assert_eq!(arena.allocate(1, align(16), 0, PAGE), Err(0));
    }

    #[test]
    fn a_section_beyond_the_plan_never_takes_an_announced_place() {
        let mut arena = arena(1, &[(4000, 16)]);
        assert_eq!(arena.allocate(4000, align(32), 0, PAGE), Err(96));
        arena.allocate(96, align(32), 0, PAGE).unwrap();
        arena.allocate(4000, align(16), 0, PAGE).unwrap();
    }

    #[test]
    fn an_empty_section_takes_nothing_and_uses_no_page() {
        let mut arena = arena(1, &[(4096, 1)]);
        for _ in 0..3 {
            assert!(arena.allocate(0, align(4096), 0, PAGE).unwrap().is_empty());
        }
        assert!(arena.pages_in_use().is_empty());
        arena.allocate(4096, align(1), 0, PAGE).unwrap();
        assert_eq!(arena.pages_in_use().size(), 4096);
        assert!(arena.allocate(0, align(1), 0, PAGE).unwrap().is_empty());
        assert_eq!(
            arena.allocate(0, align(1 << 21), 0x1000, PAGE),
            Err(0),
            "no address in it is that aligned"
        );
    }

    #[test]
    fn pages_come_into_use_as_sections_reach_them() {
        let mut arena = arena(3, &[]);
        arena.allocate(1, align(1), 0, PAGE).unwrap();
        assert_eq!(arena.pages_in_use(), Span::sized(0x2000, 0x1000).unwrap());
        arena.allocate(4096, align(1), 0, PAGE).unwrap();
        assert_eq!(arena.pages_in_use(), Span::sized(0x2000, 0x2000).unwrap());
    }
}
