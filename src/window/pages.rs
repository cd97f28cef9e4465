//! Which pages of a sub-window have memory: one bit each.

use crate::num::{Align, PageSize, Span};

/// Invariant: a set bit is a page that the system has given memory for.
#[derive(Debug)]
pub(super) struct Pages {
    page: PageSize,
    /// As long as the highest page that ever had memory needs.
    words: Vec<u64>,
    count: usize,
    /// Invariant: where the lowest page without memory starts.
    full: usize,
}

impl Pages {
    pub(super) fn new(page: PageSize) -> Self {
        Self {
            page,
            words: Vec::new(),
            count: 0,
            full: 0,
        }
    }

    /// In all, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.count * self.page.bytes()
    }

    /// Bytes of the heap.
    pub(super) fn bookkeeping(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// Every page that `span` has a byte on. It ends where a sub-window may, at most.
    pub(super) fn around(&self, span: Span) -> Span {
        let align = self.page.align();
        let start = span.start() & !(align.bytes() - 1);
        let end = align.up(span.end());
        let pages = end.and_then(|end| Span::new(start, end));
        pages.expect("a sub-window ends on a page boundary")
    }

    /// Every page that lies in `span` as a whole, up to the highest that ever had memory.
    pub(super) fn inside(&self, span: Span) -> Span {
        let highest = self.words.len() * 64 * self.page.bytes();
        let known = Span::new(span.start(), span.end().min(highest));
        known.map_or(Span::empty(0), |known| self.whole(known))
    }

    /// Every page that lies in `span` as a whole.
    pub(super) fn whole(&self, span: Span) -> Span {
        let align: Align = self.page.align();
        let end = span.end() & !(align.bytes() - 1);
        let start = align.up(span.start());
        let pages = start.and_then(|start| Span::new(start, end));
        pages.unwrap_or(Span::empty(0))
    }

    /// Whether all pages around `span` have memory.
    #[inline]
    pub(super) fn hold(&self, span: Span) -> bool {
        span.end() <= self.full || self.hold_each(self.around(span))
    }

    #[inline(never)] // Mostly it is not asked.
    fn hold_each(&self, pages: Span) -> bool {
        self.bytes_in(pages) == pages.size()
    }

    /// How many of `pages` have memory, in bytes.
    pub(super) fn bytes_in(&self, pages: Span) -> usize {
        let words = self.masks(pages).map(|(index, mask)| {
            let word = self.words.get(index).copied().unwrap_or(0);
            (word & mask).count_ones() as usize
        });
        words.sum::<usize>() * self.page.bytes()
    }

    /// The pages from `start` on without memory, up to the first that has, of at most about `size` bytes.
    pub(super) fn gap(&self, start: usize, size: usize) -> Span {
        let bytes = self.page.bytes();
        let has = |&page: &usize| {
            let word = self.words.get(page / 64).copied().unwrap_or(0);
            word & (1 << (page % 64)) != 0
        };
        let first = start / bytes;
        let end = (first..first + size / bytes).find(has);
        let end = end.unwrap_or(first + size / bytes);
        Span::new(first * bytes, end * bytes).expect("not in front of its start")
    }

    pub(super) fn set(&mut self, pages: Span) {
        let last = pages.end().div_ceil(64 * self.page.bytes());
        self.words.resize(last.max(self.words.len()), 0);
        for (index, mask) in self.masks(pages) {
            let word = &mut self.words[index];
            self.count += (mask & !*word).count_ones() as usize;
            *word |= mask;
        }
        if pages.start() <= self.full {
            self.full = self.lowest_without();
        }
    }

    /// Where the lowest page without memory starts.
    fn lowest_without(&self) -> usize {
        let known = self.full / self.page.bytes() / 64;
        let words = self.words.iter().skip(known);
        let full = known + words.take_while(|word| **word == u64::MAX).count();
        let rest = self.words.get(full).map_or(0, |word| word.trailing_ones());
        (full * 64 + rest as usize) * self.page.bytes()
    }

    pub(super) fn clear(&mut self, pages: Span) {
        if !pages.is_empty() {
            self.full = self.full.min(pages.start());
        }
        for (index, mask) in self.masks(pages) {
            let Some(word) = self.words.get_mut(index) else {
                break;
            };
            self.count -= (mask & *word).count_ones() as usize;
            *word &= !mask;
        }
    }

    /// The bits of whole pages, word by word.
    fn masks(&self, pages: Span) -> impl Iterator<Item = (usize, u64)> + use<> {
        let first = pages.start() / self.page.bytes();
        let end = pages.end() / self.page.bytes();
        (first / 64..end.div_ceil(64)).map(move |index| {
            let from = first.saturating_sub(index * 64).min(64);
            let to = (end - index * 64).min(64);
            let below = |bit: usize| u64::MAX.checked_shr(64 - bit as u32).unwrap_or(0);
            (index, below(to) & !below(from))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn page_sizes() -> impl Strategy<Value = PageSize> {
        prop::sample::select(vec![4096, 16384, 65536])
            .prop_map(|bytes| PageSize::new(bytes).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_bits_are_those_of_a_set_of_pages(
            page in page_sizes(),
            steps in prop::collection::vec((any::<bool>(), 0usize..300, 0usize..200), 1..40),
            query in (0usize..300 * 65536, prop_oneof![0usize..300 * 65536, 0usize..3 * 4096]),
        ) {
            let (mut pages, mut model) = (Pages::new(page), BTreeSet::new());
            let mut highest = 0;
            for (sets, first, count) in steps {
                let span = Span::sized(first * page.bytes(), count * page.bytes()).unwrap();
                if sets {
                    pages.set(span);
                    highest = highest.max(first + count);
                    model.extend(first..first + count);
                } else {
                    pages.clear(span);
                    model.retain(|page| !(first..first + count).contains(page));
                }
                prop_assert_eq!(pages.bytes(), model.len() * page.bytes());
                let lowest = (0..).find(|page| !model.contains(page)).unwrap_or(0);
                prop_assert_eq!(pages.full, lowest * page.bytes());
            }
            let span = Span::sized(query.0, query.1).unwrap();
            let around = query.0 / page.bytes()..(query.0 + query.1).div_ceil(page.bytes());
            prop_assert_eq!(pages.hold(span), around.clone().all(|page| model.contains(&page)));
            let counted = model.range(around).count() * page.bytes();
            prop_assert_eq!(pages.bytes_in(pages.around(span)), counted);
            let inside = query.0.div_ceil(page.bytes())..(query.0 + query.1) / page.bytes();
            let counted = if inside.is_empty() { 0 } else { model.range(inside).count() * page.bytes() };
            prop_assert_eq!(pages.bytes_in(pages.inside(span)), counted);
            let first = query.0 / page.bytes();
            let most = first + query.1 / page.bytes();
            let gap = first..(first..most).find(|page| model.contains(page)).unwrap_or(most);
            let gap = Span::new(gap.start * page.bytes(), gap.end * page.bytes()).unwrap();
            prop_assert_eq!(pages.gap(query.0, query.1), gap);
            // A bit for each page up to the highest, and what a growing list has ahead.
            let bits = pages.bookkeeping() * 8;
            prop_assert!(bits >= highest && bits < 2 * highest + 4 * 64, "{bits}");
        }
    }
}
