//! Places for sections that are known in advance, packed as tightly as can be, and claimed in any order.

use std::collections::BTreeMap;
use std::fmt;

use smallvec::SmallVec;

use super::{Extent, SectionRequest};
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::num::{Align, Span};

/// Places for announced sections, as offsets from the start of their kind's sub-arena.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Invariant: sorted by shape, so that equal ones are neighbours.
    slots: SmallVec<[Slot; 6]>,
    /// Where the places of each kind end.
    ends: PerKind<usize>,
}

#[derive(Debug)]
struct Slot {
    shape: Shape,
    start: usize,
    /// In the first slot of a run of equal ones: how many of the run are claimed. Unused in the others.
    claimed: usize,
}

/// So many slots are looked through one by one: quicker than to halve them.
const FEW: usize = 8;

/// What tells slots apart, in one number: ascends with the kind, then with falling alignment, then with falling size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape(u64);

/// Sizes that a shape tells apart. No system has addresses for more: the widest are those of x86-64 with five levels of pages,
/// 2^57 bytes, of which the kernel has one half.
const SIZES: u32 = 56;

impl Shape {
    fn new(kind: SectionKind, size: usize, align: Align) -> Option<Self> {
        let size = size as u64;
        let smallness = (1 << SIZES) - 1_u64;
        let smallness = smallness.checked_sub(size)?;
        let looseness = (u64::BITS - 1 - align.exponent()) as u64;
        Some(Self((kind as u64) << 62 | looseness << SIZES | smallness))
    }

    fn kind(self) -> SectionKind {
        SectionKind::ALL[(self.0 >> 62) as usize]
    }

    fn align(self) -> Align {
        let looseness = (self.0 >> SIZES) as u32 % u64::BITS;
        Align::from_exponent(u64::BITS - 1 - looseness)
    }

    fn size(self) -> usize {
        let size = !self.0 & ((1 << SIZES) - 1);
        size as usize
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, size, align) = (self.kind(), self.size(), self.align());
        write!(f, "{size} bytes of {kind} at {align:?}")
    }
}

impl Slots {
    /// Makes places for these sections, the first it has, and says what each kind needs for them: where they end, and the
    /// strictest alignment. Empty sections need no place: they are nowhere in the way.
    ///
    /// In descending alignment padding can only arise behind a size that is no multiple of the next alignment. Smaller
    /// sections go into such gaps first, each into the tightest one that holds it; the rest is appended. Where sizes are
    /// multiples of their alignments nothing is lost, and the result is the optimum. Elsewhere it ends before the sum of
    /// the sizes rounded up to their alignments; the very best would be bin packing.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`], naming a section that ends beyond the number range.
    pub(crate) fn pack(
        &mut self,
        sections: &[SectionRequest<'_>],
    ) -> Result<PerKind<Extent>, Error> {
        let mut aligns = PerKind::new(Align::ONE, Align::ONE, Align::ONE);
        for section in sections {
            let align = &mut aligns[section.kind];
            *align = section.align.max(*align);
            let size = section.footprint()?;
            let shape = Shape::new(section.kind, size, section.align);
            let shape = shape.ok_or_else(|| section.overflow())?;
            if size > 0 {
                self.slots.push(Slot {
                    shape,
                    start: 0,
                    claimed: 0,
                });
            }
        }
        self.slots.sort_unstable_by_key(|slot: &Slot| slot.shape);
        self.place().map_err(|shape| {
            let beyond = sections.iter().find(|section| {
                let footprint = section.footprint().unwrap_or(0);
                Shape::new(section.kind, footprint, section.align) == Some(shape)
            });
            beyond.expect("every place is for a section").overflow()
        })?;
        let extent = |kind| Extent::new(self.ends[kind], aligns[kind]);
        Ok(PerKind::new(
            extent(SectionKind::Code),
            extent(SectionKind::ReadOnlyData),
            extent(SectionKind::ReadWriteData),
        ))
    }

    /// Decides where the places start.
    ///
    /// # Errors
    ///
    /// The shape of one that ends beyond the number range.
    fn place(&mut self) -> Result<(), Shape> {
        let mut gaps = Gaps::default();
        for slot in &mut self.slots {
            let (kind, size, align) = (slot.shape.kind(), slot.shape.size(), slot.shape.align());
            if let Some(start) = gaps.take(kind, size, align) {
                slot.start = start;
                continue;
            }
            let end = self.ends[kind];
            let start = align.up(end).ok_or(slot.shape)?;
            slot.start = start;
            self.ends[kind] = start.checked_add(size).ok_or(slot.shape)?;
            gaps.put(kind, Span::new(end, start).expect("rounded up"));
        }
        Ok(())
    }

    /// Whether there are more than most objects have.
    pub(crate) fn spilled(&self) -> bool {
        self.slots.spilled()
    }

    /// Forgets all places.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.ends = PerKind::default();
    }

    /// Where the places of a kind end.
    pub(crate) fn end(&self, kind: SectionKind) -> usize {
        self.ends[kind]
    }

    /// A place that was made for just such a section and is still free.
    pub(crate) fn claim(&mut self, kind: SectionKind, size: usize, align: Align) -> Option<Span> {
        let shape = Shape::new(kind, size, align)?;
        let slots = &mut self.slots[..];
        let first = if slots.len() <= FEW {
            slots.iter().position(|slot| slot.shape == shape)?
        } else {
            slots.partition_point(|slot| slot.shape < shape)
        };
        let index = first + slots.get(first)?.claimed;
        let found = slots.get(index).filter(|slot| slot.shape == shape)?;
        let span = Span::sized(found.start, size)?;
        slots[first].claimed += 1;
        Some(span)
    }
}

/// Unused bytes between sections that were placed already, by kind and size.
///
/// Invariant: each gap ends at a multiple of every alignment of its kind that is still to come, since alignments descend.
#[derive(Default)]
struct Gaps {
    /// Mostly none.
    by_size: Option<BTreeMap<(SectionKind, usize), Vec<usize>>>,
}

impl Gaps {
    fn put(&mut self, kind: SectionKind, gap: Span) {
        if !gap.is_empty() {
            self.insert(kind, gap);
        }
    }

    #[inline(never)] // Mostly there is none, and who asks is small without it.
    fn insert(&mut self, kind: SectionKind, gap: Span) {
        let by_size = self.by_size.get_or_insert_default();
        let starts = by_size.entry((kind, gap.size())).or_default();
        starts.push(gap.start());
    }

    /// The tightest gap that holds `size` bytes at `align`. By the invariant a gap holds them just if it holds `size`
    /// rounded up to `align`: one look-up finds it.
    fn take(&mut self, kind: SectionKind, size: usize, align: Align) -> Option<usize> {
        self.by_size.as_ref()?;
        self.take_fitting(kind, size, align)
    }

    #[inline(never)] // As above.
    fn take_fitting(&mut self, kind: SectionKind, size: usize, align: Align) -> Option<usize> {
        let by_size = self.by_size.as_mut()?;
        let fitting = (kind, align.up(size)?)..=(kind, usize::MAX);
        let (&(_, gap_size), starts) = by_size.range_mut(fitting).next()?;
        let start = starts.pop()?;
        if starts.is_empty() {
            by_size.remove(&(kind, gap_size));
        }
        let gap = Span::sized(start, gap_size)?;
        let taken = gap.first_fit(size, align, 0)?;
        self.put(kind, Span::new(gap.start(), taken.start())?);
        self.put(kind, Span::new(taken.end(), gap.end())?);
        Some(taken.start())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn align(exponent: u8) -> Align {
        Align::new(1 << exponent).unwrap()
    }

    /// No packing of these sections is smaller than this. Sections aligned to at least A start at multiples of A, so none
    /// shares an A-sized cell with another, and only the last of them may leave the rest of its cell out.
    fn lower_bound(sections: &[(usize, Align)]) -> usize {
        (0..=21)
            .map(|exponent| {
                let cell = align(exponent);
                let strict = sections.iter().filter(|&&(size, a)| a >= cell && size > 0);
                let rounded = strict
                    .map(|&(size, _)| (cell.up(size).unwrap(), cell.up(size).unwrap() - size));
                let (total, slack) = rounded.fold((0, 0), |(sum, most), (size, slack)| {
                    (sum + size, slack.max(most))
                });
                total - slack
            })
            .max()
            .unwrap_or(0)
    }

    /// The smallest packing there is: in any packing the sections stand in some order, and appending them in that order
    /// makes none of them end later.
    fn optimum(sections: &[(usize, Align)], end: usize) -> usize {
        if sections.is_empty() {
            return end;
        }
        (0..sections.len())
            .map(|i| {
                let mut rest = sections.to_vec();
                let (size, align) = rest.swap_remove(i);
                optimum(&rest, align.up(end).unwrap() + size)
            })
            .min()
            .unwrap()
    }

    const KIND: SectionKind = SectionKind::ReadOnlyData;

    fn pack(sections: &[(usize, Align)]) -> Result<(Slots, usize), Error> {
        let request = |&(size, align)| SectionRequest::new("s", KIND, size, align);
        let requests: Vec<_> = sections.iter().map(request).collect();
        let mut slots = Slots::default();
        let extents = slots.pack(&requests)?;
        Ok((slots, extents[KIND].size()))
    }

    /// Where the places end.
    fn check(sections: &[(usize, Align)]) -> usize {
        let (mut slots, size) = pack(sections).unwrap();
        assert!(size >= lower_bound(sections), "better than possible");
        let all = Span::sized(0, size).unwrap();
        let mut claimed: Vec<Span> = Vec::new();
        for &(size, align) in sections.iter().filter(|&&(size, _)| size > 0) {
            let span = slots.claim(KIND, size, align).unwrap();
            assert_eq!(span.size(), size);
            assert!(align.divides(span.start()));
            assert!(all.contains(span));
            claimed.push(span);
        }
        claimed.sort();
        assert!(claimed.windows(2).all(|pair| !pair[0].overlaps(pair[1])));
        for &(size, align) in sections {
            assert_eq!(slots.claim(KIND, size, align), None, "claimed twice");
        }
        size
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_section_is_placed_once_aligned_and_alone(
            sections in prop::collection::vec((0usize..5000, (0u8..=21).prop_map(align)), 0..60),
        ) {
            check(&sections);
        }

        #[test]
        fn no_order_beats_the_lower_bound_and_packing_stays_below_the_upper_one(
            sections in prop::collection::vec((1usize..40, (0u8..=5).prop_map(align)), 0..6),
        ) {
            let best = optimum(&sections, 0);
            let packed = check(&sections);
            // Appended in descending alignment, each section ends at most at the sum of the sizes so far, each rounded up
            // to its own alignment: that sum is a multiple of the next alignment. Filling gaps can only end earlier.
            let rounded: usize = sections.iter().map(|&(size, align)| align.up(size).unwrap()).sum();
            prop_assert!(lower_bound(&sections) <= best && best <= packed && packed <= rounded);
        }

        #[test]
        fn sizes_that_are_multiples_of_their_alignment_leave_no_gap(
            sections in prop::collection::vec((0usize..9, (0u8..=21).prop_map(align)), 0..60),
        ) {
            let multiples: Vec<_> = sections.iter().map(|&(n, align)| (n * align.bytes(), align)).collect();
            prop_assert_eq!(check(&multiples), multiples.iter().map(|&(size, _)| size).sum::<usize>());
        }

        #[test]
        fn gaps_behind_odd_sizes_are_filled(count in 1usize..40, exponent in 1u8..8) {
            // One byte for each cell and all the bytes between them: nothing is left.
            let cell = 1 << exponent;
            let mut sections = vec![(1, align(exponent)); count];
            sections.extend(vec![(1, Align::ONE); (count - 1) * (cell - 1)]);
            prop_assert_eq!(check(&sections), lower_bound(&sections));
        }
    }

    #[test]
    fn each_kind_starts_at_its_own_zero() {
        let requests = SectionKind::ALL.map(|kind| SectionRequest::new("s", kind, 8, align(3)));
        let mut slots = Slots::default();
        let extents = slots.pack(&requests).unwrap();
        for kind in SectionKind::ALL {
            assert_eq!(extents[kind], Extent::new(8, align(3)));
            assert_eq!(slots.claim(kind, 8, align(3)), Span::sized(0, 8));
            assert_eq!(slots.claim(kind, 8, align(3)), None);
        }
    }

    #[test]
    fn sizes_beyond_the_number_range_are_refused() {
        assert!(pack(&[(usize::MAX, Align::ONE), (1, Align::ONE)]).is_err());
        assert!(pack(&[(usize::MAX, align(0)), (16, align(4))]).is_err());
    }
}
