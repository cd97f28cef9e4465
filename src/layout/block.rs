//! The plan of a dedicated block: three sub-arenas one after the other, each on pages of its own.
//!
//! ```text
//! | code                 | read-only data       | read-write data      |
//! ^ page                 ^ page                 ^ page                 ^ page
//! ```
//!
//! Permissions come in pages, so each sub-arena is rounded up to pages; what the rounding leaves over is usable. Where an
//! alignment exceeds the page, the sub-arena with the strictest one is the anchor and the others are moved up against it, so
//! that the block is as short as it can be.

use super::Extent;
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::num::{Align, PageSize, Span};
use crate::reach::Reach;

/// Where in a block everything is going to lie.
#[derive(Debug)]
pub(crate) struct BlockPlan {
    /// Page-aligned parts of the block, ascending; empty for a kind that needs nothing.
    pub(crate) arenas: PerKind<Span>,
    /// Of the whole block, in bytes.
    pub(crate) size: usize,
    /// The address of offset `anchor` must be a multiple of `align`, which is at least a page.
    pub(crate) align: Align,
    pub(crate) anchor: usize,
}

impl BlockPlan {
    /// The shortest block for `extents` and, beyond them, `headroom` bytes of each kind.
    ///
    /// # Errors
    ///
    /// [`Error::SpanTooLarge`].
    pub(crate) fn new(
        extents: &PerKind<Extent>,
        headroom: &PerKind<usize>,
        page: PageSize,
        reach: Reach,
    ) -> Result<Self, Error> {
        let plan = Self::arrange(extents, headroom, page).ok_or_else(|| Error::too_large(reach))?;
        if plan.size as u64 > reach.bytes() {
            return Err(Error::SpanTooLarge {
                span: Some(plan.size),
                limit: reach.bytes(),
            });
        }
        Ok(plan)
    }

    /// Lays the sub-arenas out around the one with the strictest alignment. `None` past the end of the number range.
    fn arrange(
        extents: &PerKind<Extent>,
        headroom: &PerKind<usize>,
        page: PageSize,
    ) -> Option<Self> {
        let aligns = extents.map(|extent| extent.align().max(page.align()));
        let mut sizes = PerKind::default();
        for (kind, extent) in extents.iter() {
            sizes[kind] = page
                .align()
                .up(extent.size().checked_add(headroom[kind])?)?;
        }
        let strictest = SectionKind::ALL
            .map(|kind| aligns[kind])
            .into_iter()
            .max()?;
        let anchored = SectionKind::ALL
            .into_iter()
            .find(|&kind| aligns[kind] == strictest)?;

        // Downwards from the anchor: how far in front of it each sub-arena starts.
        let mut anchor = 0usize;
        let mut lead = PerKind::<usize>::default();
        for kind in SectionKind::ALL
            .into_iter()
            .rev()
            .filter(|&kind| kind < anchored)
        {
            anchor = aligns[kind].up(anchor.checked_add(sizes[kind])?)?;
            lead[kind] = anchor;
        }
        // Upwards from the anchor. An offset is aligned if its distance from the anchor is.
        let mut arenas = PerKind::new(Span::empty(0), Span::empty(0), Span::empty(0));
        let mut distance = 0usize;
        for kind in SectionKind::ALL {
            let start = if kind < anchored {
                anchor - lead[kind]
            } else {
                distance = aligns[kind].up(distance)?;
                anchor.checked_add(distance)?
            };
            arenas[kind] = Span::sized(start, sizes[kind])?;
            if kind >= anchored {
                distance = distance.checked_add(sizes[kind])?;
            }
        }
        let size = anchor.checked_add(distance)?;
        Some(Self {
            arenas,
            size,
            align: strictest,
            anchor,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::{AllocationSpace, SectionRequest, Slots};

    const NO_HEADROOM: PerKind<usize> = PerKind::new(0, 0, 0);

    fn pages() -> impl Strategy<Value = PageSize> {
        prop::sample::select(vec![4096, 16384, 65536])
            .prop_map(|bytes| PageSize::new(bytes).unwrap())
    }

    fn aligns() -> impl Strategy<Value = Align> {
        (0u32..=21).prop_map(|exponent| Align::new(1 << exponent).unwrap())
    }

    fn sizes() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..300, 0usize..70_000, 0usize..8 << 20]
    }

    fn kinds() -> impl Strategy<Value = SectionKind> {
        prop::sample::select(SectionKind::ALL.to_vec())
    }

    fn requests() -> impl Strategy<Value = Vec<SectionRequest<'static>>> {
        let one = (kinds(), sizes(), aligns())
            .prop_map(|(kind, size, align)| SectionRequest::new("s", kind, size, align));
        prop::collection::vec(one, 0..20)
    }

    /// An address for offset 0 that the plan allows and that is aligned to no more than it must be.
    fn origin(plan: &BlockPlan) -> usize {
        (plan.align.bytes() << 4) * 3 + plan.align.bytes()
            - plan.align.up(plan.anchor).unwrap() % plan.align.bytes()
            + plan.align.up(plan.anchor).unwrap()
            - plan.anchor
    }

    fn check_arenas(plan: &BlockPlan, page: PageSize) {
        let block = Span::sized(0, plan.size).unwrap();
        let mut end = 0;
        for (kind, &arena) in plan.arenas.iter() {
            assert!(block.contains(arena), "{kind}: {arena:?} in {block:?}");
            assert!(arena.start() >= end, "{kind}: ascending");
            assert!(page.align().divides(arena.start()) && page.align().divides(arena.size()));
            end = arena.end();
        }
        assert!(page.align().divides(plan.size));
        assert!(plan.align >= page.align());
        assert!(plan.align.divides(origin(plan) + plan.anchor));
    }

    /// The shortest block into which sub-arenas of these sizes and alignments fit in their order, by trying every address
    /// for the first one.
    fn shortest(arenas: &[(usize, Align)], page: PageSize) -> usize {
        let strictest = arenas.iter().map(|arena| arena.1).max().unwrap().bytes();
        (0..strictest)
            .step_by(page.bytes())
            .map(|start| {
                arenas
                    .iter()
                    .fold(start, |end, &(size, align)| align.up(end).unwrap() + size)
                    - start
            })
            .min()
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_law_of_the_list(list in requests(), page in pages()) {
            let mut slots = Slots::default();
            let extents = AllocationSpace::Sections(&list).pack(&mut slots).unwrap();
            let plan = BlockPlan::new(&extents, &NO_HEADROOM, page, Reach::PREL32).unwrap();
            check_arenas(&plan, page);
            let mut seen: Vec<Span> = Vec::new();
            for request in list.iter().rev() {
                let arena = plan.arenas[request.kind()];
                let span = match request.size() {
                    0 => Span::empty(0),
                    size => slots.claim(request.kind(), size, request.align()).unwrap(),
                };
                let address = origin(&plan) + arena.start() + span.start();
                prop_assert!(request.align().divides(address), "{request:?} at {address:#x}");
                let placed = Span::sized(arena.start() + span.start(), span.size()).unwrap();
                prop_assert!(arena.contains(placed));
                prop_assert!(seen.iter().all(|other| !other.overlaps(placed)));
                seen.push(placed);
            }
        }

        #[test]
        fn the_law_of_totals(
            wanted in prop::collection::vec((kinds(), 0usize..70_000, 0u32..=21), 0..30),
            strictest in [0u32..=21, 0u32..=21, 0u32..=21],
            page in pages(),
        ) {
            let totals_align = PerKind::new(strictest[0], strictest[1], strictest[2]).map(|e| Align::new(1 << e).unwrap());
            let requests: Vec<_> = wanted.iter().map(|&(kind, size, exponent)| {
                (kind, size, Align::new(1 << exponent).unwrap().min(totals_align[kind]))
            }).collect();
            let mut totals = totals_align.map(|align| Extent::new(0, align));
            for &(kind, size, _) in &requests {
                let align = totals[kind].align();
                totals[kind] = Extent::new(totals[kind].size() + align.up(size).unwrap(), align);
            }
            let plan = BlockPlan::new(&totals, &NO_HEADROOM, page, Reach::PREL32).unwrap();
            check_arenas(&plan, page);
            let mut free = plan.arenas;
            for &(kind, size, align) in &requests {
                let span = free[kind].first_fit(size, align, origin(&plan));
                prop_assert!(span.is_some(), "{kind} of {size} at {align:?} in {free:?}");
                free[kind] = Span::new(span.unwrap().end(), free[kind].end()).unwrap();
            }
        }

        #[test]
        fn no_arrangement_of_the_sub_arenas_is_shorter(
            sizes in [0usize..40, 0usize..40, 0usize..40],
            exponents in [0u32..=19, 0u32..=19, 0u32..=19],
            page in pages(),
        ) {
            let arenas: Vec<_> = sizes.iter().zip(exponents)
                .map(|(&pages, exponent)| (pages * page.bytes(), Align::new(1 << exponent).unwrap().max(page.align())))
                .collect();
            let totals = PerKind::new(arenas[0], arenas[1], arenas[2]).map(|(size, align)| Extent::new(size, align));
            let plan = BlockPlan::new(&totals, &NO_HEADROOM, page, Reach::PREL32).unwrap();
            check_arenas(&plan, page);
            prop_assert_eq!(plan.size, shortest(&arenas, page));
        }

        #[test]
        fn a_list_needs_no_more_pages_than_its_totals(list in requests(), page in pages()) {
            let space = AllocationSpace::Sections(&list);
            let plan = |extents| BlockPlan::new(&extents, &NO_HEADROOM, page, Reach::PREL32).unwrap();
            prop_assert!(plan(space.pack(&mut Slots::default()).unwrap()).size <= plan(space.totals().unwrap()).size);
        }
    }

    #[test]
    fn a_kind_with_nothing_planned_takes_no_page_unless_there_is_headroom() {
        let size = |code, headroom| {
            let code = Extent::new(code, Align::ONE);
            let extents = PerKind::new(code, Extent::EMPTY, Extent::EMPTY);
            BlockPlan::new(&extents, &headroom, PageSize::MIN, Reach::PREL32)
                .unwrap()
                .size
        };
        assert_eq!(size(4, NO_HEADROOM), 4096);
        assert_eq!(size(4, PerKind::new(0, 1, 0)), 2 * 4096);
        assert_eq!(size(4, PerKind::new(4093, 1, 1)), 4 * 4096);
        assert_eq!(size(0, NO_HEADROOM), 0);
    }

    #[test]
    fn a_block_wider_than_the_reach_is_refused() {
        let plan = |size, reach| {
            let totals = PerKind::new(
                Extent::new(size, Align::ONE),
                Extent::new(1, Align::ONE),
                Extent::EMPTY,
            );
            BlockPlan::new(&totals, &NO_HEADROOM, PageSize::MIN, reach)
        };
        let limit = Reach::PREL32.bytes() as usize;
        assert!(plan(limit - 4096, Reach::PREL32).is_ok());
        assert!(matches!(
            plan(limit - 4095, Reach::PREL32),
            Err(Error::SpanTooLarge { .. })
        ));
        assert!(plan(limit - 4095, Reach::ADRP).is_ok());
        assert!(matches!(
            plan((4 << 30) - 4095, Reach::ADRP),
            Err(Error::SpanTooLarge { .. })
        ));
        assert!(matches!(
            plan(usize::MAX, Reach::ADRP),
            Err(Error::SpanTooLarge { span: None, .. })
        ));
    }
}
