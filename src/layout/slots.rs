//! Places for sections that are known in advance, packed as tightly as can be, and claimed in any order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::num::{Align, Span};

/// Places for one kind of sections, as offsets from the start of their sub-arena.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Invariant: sorted by descending alignment, then by descending size, so that equal ones are neighbours.
    slots: Vec<Slot>,
    size: usize,
}

#[derive(Debug)]
struct Slot {
    align: Align,
    size: usize,
    start: usize,
    /// In the first slot of a run of equal ones: how many of the run are claimed. Unused in the others.
    claimed: usize,
}

impl Slot {
    fn key(&self) -> (Reverse<Align>, Reverse<usize>) {
        (Reverse(self.align), Reverse(self.size))
    }
}

impl Slots {
    /// Places for sections of these sizes and alignments. Empty ones need none: they are nowhere in the way.
    /// `None` if the sizes do not fit into the number range.
    ///
    /// In descending alignment padding can only arise behind a size that is no multiple of the next alignment. Smaller
    /// sections go into such gaps first, each into the tightest one that holds it; the rest is appended. Where sizes are
    /// multiples of their alignments nothing is lost, and the result is the optimum. Elsewhere it ends before the sum of
    /// the sizes rounded up to their alignments; the very best would be bin packing.
    pub(crate) fn pack(sections: impl IntoIterator<Item = (usize, Align)>) -> Option<Self> {
        let mut slots: Vec<Slot> = sections
            .into_iter()
            .filter(|&(size, _)| size > 0)
            .map(|(size, align)| Slot {
                align,
                size,
                start: 0,
                claimed: 0,
            })
            .collect();
        slots.sort_unstable_by_key(Slot::key);

        let mut gaps = Gaps::default();
        let mut size = 0;
        for slot in &mut slots {
            slot.start = match gaps.take(slot.size, slot.align) {
                Some(start) => start,
                None => {
                    let start = slot.align.up(size)?;
                    gaps.put(Span::new(size, start)?);
                    size = start.checked_add(slot.size)?;
                    start
                }
            };
        }
        Some(Self { slots, size })
    }

    /// The bytes that all places need.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// A place that was made for just such a section and is still free.
    pub(crate) fn claim(&mut self, size: usize, align: Align) -> Option<Span> {
        let key = (Reverse(align), Reverse(size));
        let first = self.slots.partition_point(|slot| slot.key() < key);
        let index = first + self.slots.get(first)?.claimed;
        let found = self.slots.get(index).filter(|slot| slot.key() == key)?;
        let span = Span::sized(found.start, found.size)?;
        self.slots[first].claimed += 1;
        Some(span)
    }
}

/// Unused bytes between sections that were placed already, by size.
///
/// Invariant: each gap ends at a multiple of every alignment that is still to come, since alignments descend.
#[derive(Default)]
struct Gaps {
    by_size: BTreeMap<usize, Vec<usize>>,
}

impl Gaps {
    fn put(&mut self, gap: Span) {
        if !gap.is_empty() {
            self.by_size
                .entry(gap.size())
                .or_default()
                .push(gap.start());
        }
    }

    /// The tightest gap that holds `size` bytes at `align`. By the invariant a gap holds them just if it holds `size`
    /// rounded up to `align`: one look-up finds it.
    fn take(&mut self, size: usize, align: Align) -> Option<usize> {
        let (&gap_size, starts) = self.by_size.range_mut(align.up(size)?..).next()?;
        let start = starts.pop()?;
        if starts.is_empty() {
            self.by_size.remove(&gap_size);
        }
        let gap = Span::sized(start, gap_size)?;
        let taken = gap.first_fit(size, align, 0)?;
        self.put(Span::new(gap.start(), taken.start())?);
        self.put(Span::new(taken.end(), gap.end())?);
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

    fn check(sections: &[(usize, Align)]) -> Slots {
        let mut slots = Slots::pack(sections.iter().copied()).unwrap();
        assert!(
            slots.size() >= lower_bound(sections),
            "better than possible"
        );
        let all = Span::sized(0, slots.size()).unwrap();
        let mut claimed: Vec<Span> = Vec::new();
        for &(size, align) in sections.iter().filter(|&&(size, _)| size > 0) {
            let span = slots.claim(size, align).unwrap();
            assert_eq!(span.size(), size);
            assert!(align.divides(span.start()));
            assert!(all.contains(span));
            claimed.push(span);
        }
        claimed.sort();
        assert!(claimed.windows(2).all(|pair| !pair[0].overlaps(pair[1])));
        for &(size, align) in sections {
            assert_eq!(slots.claim(size, align), None, "claimed twice");
        }
        slots
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
            let packed = check(&sections).size();
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
            prop_assert_eq!(check(&multiples).size(), multiples.iter().map(|&(size, _)| size).sum::<usize>());
        }

        #[test]
        fn gaps_behind_odd_sizes_are_filled(count in 1usize..40, exponent in 1u8..8) {
            // One byte for each cell and all the bytes between them: nothing is left.
            let cell = 1 << exponent;
            let mut sections = vec![(1, align(exponent)); count];
            sections.extend(vec![(1, Align::ONE); (count - 1) * (cell - 1)]);
            prop_assert_eq!(check(&sections).size(), lower_bound(&sections));
        }
    }

    #[test]
    fn sizes_beyond_the_number_range_are_refused() {
        assert!(Slots::pack([(usize::MAX, Align::ONE), (1, Align::ONE)]).is_none());
        assert!(Slots::pack([(usize::MAX, align(0)), (16, align(4))]).is_none());
    }
}
