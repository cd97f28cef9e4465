//! One kind's part of a window: which spans are whose, and which pages have memory. Offsets count from its start.

use super::pages::Pages;
use super::spans::{Grant, Room, Spans};
use crate::layout::UNIT;
use crate::num::{Align, PageSize, Span};

/// Free memory that is kept in any case, in bytes, and beyond it a part of what is in use: pages go back to the system where
/// there is more, so that the same page is not given back and fetched again and again.
const KEEP: usize = 1 << 20;
const KEEP_OF_USED: usize = 8;

/// Free memory in one piece that is worth a system call, in bytes.
const WORTH_RETURNING: usize = 64 << 10;

/// At most this much is fetched in advance, in bytes, and at most a part of what is there already. It begins when half of it
/// is left, so that other threads go on meanwhile.
const AHEAD: usize = 256 << 10;
const AHEAD_OF_USED: usize = 8;

/// From so much memory on, in bytes, it comes a [unit](UNIT) at a time: in one piece that takes no longer than [`AHEAD`] does in
/// pages.
const HUGE_FROM: usize = 2 * UNIT.bytes();

#[derive(Debug)]
pub(super) struct SubWindow {
    spans: Spans,
    pages: Pages,
    size: usize,
    /// Whether the system may have a unit in one piece.
    has_huge_pages: bool,
    /// Up to here pages were fetched, or somebody is about to: nobody else does it in advance.
    fetched: usize,
    /// From here on, while anybody is.
    coming_from: usize,
    coming: usize,
    /// Up to here pages have had their final permission at some time. Counts where permissions change only.
    sealed: usize,
    /// How often pages were given back.
    returns: u32,
}

/// A span that was handed out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) grant: Grant,
    pub(super) span: Span,
}

/// Pages to be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// Those of a span; empty where they have memory.
    pub(super) own: Span,
    /// Those in advance, right behind or further up; empty where somebody else fetches them.
    pub(super) ahead: Span,
    /// Whether these are a unit to fetch in one piece.
    pub(super) is_huge: bool,
    /// Whether room is to be fetched for what is kept of spans.
    pub(super) wants_room: bool,
    is_at_the_top: bool,
    returns: u32,
}

/// Pages on their way back to the system. The grant keeps everybody else off.
#[derive(Debug)]
#[must_use = "they are nobody's until they are `returned`"]
pub(super) struct Returning {
    grant: Grant,
    pub(super) pages: Span,
}

impl SubWindow {
    pub(super) fn new(size: usize, page: PageSize, has_huge_pages: bool) -> Self {
        Self {
            spans: Spans::new(size),
            pages: Pages::new(page),
            size,
            has_huge_pages,
            fetched: 0,
            coming_from: 0,
            coming: 0,
            sealed: 0,
            returns: 0,
        }
    }

    pub(super) fn take(&mut self, size: usize, align: Align) -> Option<Taken> {
        let (grant, span) = self.spans.allocate(size, align)?;
        Some(Taken { grant, span })
    }

    /// What has to be fetched before a span can be written to, and what is good to fetch soon. Whoever asks has to do it.
    pub(super) fn missing(&mut self, span: Span) -> Option<Missing> {
        let holds = self.pages.hold(span);
        let in_units = self.has_huge_pages && self.pages.bytes() >= HUGE_FROM;
        let pages = AHEAD.min(self.pages.bytes() / AHEAD_OF_USED);
        let ahead = if in_units { UNIT.bytes() } else { pages };
        let is_near_the_top = span.end() + ahead / 2 >= self.fetched;
        if holds && !is_near_the_top {
            return None;
        }
        let around = self.pages.around(span);
        let is_coming = self.coming > 0 && around.end() >= self.coming_from;
        let is_at_the_top = (is_near_the_top || is_coming) && !self.is_sealed(span);
        let own = if holds {
            Span::empty(around.end())
        } else {
            around
        };
        let mut is_huge = false;
        let ahead = if self.is_sealed(span) {
            Span::empty(own.end()) // Pages behind a sealed one may not be writable.
        } else if is_at_the_top {
            let from = self.fetched.max(own.end());
            is_huge = in_units && UNIT.divides(from) && self.size - from >= UNIT.bytes();
            let ahead = if is_huge { ahead } else { pages };
            let ahead = Span::sized(from, ahead).expect("a window's size is a number");
            // Up to where a unit may begin.
            let next = UNIT.up(from + 1).filter(|_| self.has_huge_pages);
            let limit = next.unwrap_or(self.size).min(self.size);
            let to = self.pages.around(ahead).end().min(limit);
            Span::new(from, to).unwrap_or(Span::empty(from))
        } else {
            // In what went back and is in use again.
            self.pages.gap(own.end(), pages.min(self.size - own.end()))
        };
        let wants_room = self.spans.wants_room();
        if own.is_empty() && ahead.is_empty() && !wants_room {
            return None;
        }
        if is_at_the_top {
            self.fetched = ahead.end();
            if self.coming == 0 {
                self.coming_from = ahead.start();
            }
            self.coming += 1;
        }
        Some(Missing {
            own,
            ahead,
            is_huge,
            wants_room,
            is_at_the_top,
            returns: self.returns,
        })
    }

    pub(super) fn bring_room(&mut self, room: Room) {
        self.spans.bring_room(room);
    }

    /// A span's own pages were fetched.
    pub(super) fn fetched(&mut self, pages: Span) {
        self.pages.set(pages);
    }

    /// Pages were fetched in advance, or the system refused.
    pub(super) fn fetched_ahead(&mut self, missing: Missing, came: bool) {
        self.coming -= usize::from(missing.is_at_the_top);
        self.has_huge_pages &= came || !missing.is_huge; // It may take long to be refused.
        // Some may have gone back in between. That they have memory is then not known, and does no harm.
        if came && self.returns == missing.returns {
            self.pages.set(missing.ahead);
        }
    }

    pub(super) fn span(&self, grant: &Grant) -> Span {
        self.spans.span(grant)
    }

    /// Pages of the span get their final permission. So are those to do that alignment left free in front of it and that never
    /// had one: they are taken for that time.
    pub(super) fn seal(&mut self, span: Span) -> Vec<Taken> {
        let before = self.sealed;
        self.sealed = before.max(span.end());
        if span.start() <= before {
            return Vec::new();
        }
        let holes = self.spans.holes_above(before).into_iter();
        let in_front = holes.filter(|hole| hole.span().end() <= span.start());
        let taken = in_front.map(|hole| Taken {
            grant: self.spans.take(hole, hole.span()),
            span: hole.span(),
        });
        taken.collect()
    }

    /// Whether a span may lie on pages with a final permission. Not so where permissions never change.
    pub(super) fn is_sealed(&self, span: Span) -> bool {
        span.start() < self.sealed
    }

    /// The pages that lie in a span as a whole.
    pub(super) fn pages_inside(&self, span: Span) -> Span {
        self.pages.whole(span)
    }

    /// The memory of whole pages, which the caller holds, went back.
    pub(super) fn lost(&mut self, pages: Span) {
        self.returns = self.returns.wrapping_add(1);
        self.pages.clear(pages);
        if pages.end() >= self.fetched {
            self.fetched = self.fetched.min(pages.start());
        }
    }

    /// Takes a span back. Where that leaves much free memory in one piece, its pages are to go back to the system.
    pub(super) fn free(&mut self, grant: Grant) -> Option<Returning> {
        let hole = self.spans.free(grant);
        let used = self.spans.granted_bytes();
        let idle = self.pages.bytes().saturating_sub(used);
        if idle <= KEEP + used / KEEP_OF_USED {
            return None;
        }
        let pages = self.pages.inside(hole.span());
        if self.pages.bytes_in(pages) < WORTH_RETURNING {
            return None;
        }
        self.returns = self.returns.wrapping_add(1);
        Some(Returning {
            grant: self.spans.take(hole, pages),
            pages,
        })
    }

    /// Takes a span back that nobody has used.
    pub(super) fn cancel(&mut self, grant: Grant) {
        self.spans.free(grant);
    }

    /// The pages went back, or the system kept them where they are.
    pub(super) fn returned(&mut self, returning: Returning, went: bool) {
        if went {
            self.lost(returning.pages);
        }
        self.spans.free(returning.grant);
    }

    /// Bytes with memory.
    pub(super) fn committed(&self) -> usize {
        self.pages.bytes()
    }

    /// Bytes of the heap.
    pub(super) fn bookkeeping(&self) -> usize {
        self.spans.bookkeeping() + self.pages.bookkeeping()
    }

    pub(super) fn free_bytes(&self) -> usize {
        self.spans.free_bytes()
    }

    pub(super) fn largest_free(&self) -> usize {
        self.spans.largest_free()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    /// Takes spans until this many bytes are in use, as whoever has the memory behind them would.
    fn fill(sub_window: &mut SubWindow, bytes: usize) -> Vec<Grant> {
        let take = |_| {
            let taken = sub_window.take(1184, Align::ONE).unwrap();
            if let Some(missing) = sub_window.missing(taken.span) {
                sub_window.fetched(missing.own);
                sub_window.fetched_ahead(missing, true);
            }
            assert!(sub_window.pages.hold(taken.span));
            taken.grant
        };
        (0..bytes / 1184).map(take).collect()
    }

    fn drop_all(sub_window: &mut SubWindow, grants: impl IntoIterator<Item = Grant>) {
        for grant in grants {
            if let Some(returning) = sub_window.free(grant) {
                sub_window.returned(returning, true);
            }
        }
    }

    #[test]
    fn what_is_fetched_in_advance_stays_little_however_often_memory_comes_and_goes() {
        for (page, huge) in [(4096, false), (4096, true), (16384, false), (65536, false)] {
            let page = PageSize::new(page).unwrap();
            let mut sub_window = SubWindow::new(256 * MIB, page, huge);
            let ahead = if huge { 2 * MIB } else { MIB };
            for round in 0..4 {
                let grants = fill(&mut sub_window, 16 * MIB);
                let committed = sub_window.committed();
                assert!(committed < 17 * MIB + ahead, "round {round}: {committed}");
                match round % 2 {
                    0 => drop_all(&mut sub_window, grants),
                    _ => drop_all(&mut sub_window, grants.into_iter().rev()),
                }
                let kept = sub_window.committed();
                assert!(kept < MIB + ahead, "round {round}: {kept}");
            }
        }
    }

    #[test]
    fn what_goes_back_while_it_is_fetched_in_advance_is_not_taken_for_there() {
        let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), true);
        fill(&mut sub_window, 16 * MIB);
        let missing = loop {
            let taken = sub_window.take(1184, Align::ONE).unwrap();
            match sub_window.missing(taken.span) {
                Some(missing) if !missing.ahead.is_empty() => break missing,
                Some(missing) => {
                    sub_window.fetched(missing.own);
                    sub_window.fetched_ahead(missing, true);
                }
                None => {}
            }
        };
        sub_window.lost(Span::sized(0, 4096).unwrap());
        let kept = sub_window.committed();
        sub_window.fetched_ahead(missing, true);
        assert_eq!(sub_window.committed(), kept);
    }

    #[test]
    fn memory_comes_in_units_where_there_is_much_until_the_system_refuses_one() {
        let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), true);
        let mut units = 0;
        while units < 3 {
            let taken = sub_window.take(1184, Align::ONE).unwrap();
            let Some(missing) = sub_window.missing(taken.span) else {
                continue;
            };
            sub_window.fetched(missing.own);
            if missing.is_huge {
                units += 1;
                assert!(UNIT.divides(missing.ahead.start()) && missing.ahead.size() == 2 * MIB);
                assert!(sub_window.committed() >= 4 * MIB);
            }
            sub_window.fetched_ahead(missing, units < 3);
        }
        let mut used = 0;
        while used < 16 * MIB {
            let taken = sub_window.take(1184, Align::ONE).unwrap();
            used += 1184;
            if let Some(missing) = sub_window.missing(taken.span) {
                assert!(!missing.is_huge);
                sub_window.fetched(missing.own);
                sub_window.fetched_ahead(missing, true);
            }
        }
    }

    #[test]
    fn units_are_whole_to_the_end_of_a_sub_window() {
        let size = 16 * MIB - (64 << 10);
        let mut sub_window = SubWindow::new(size, PageSize::new(4096).unwrap(), true);
        let mut units = 0;
        while let Some(taken) = sub_window.take(1184, Align::ONE) {
            if let Some(missing) = sub_window.missing(taken.span) {
                assert!(missing.ahead.end() <= size, "{missing:?}");
                assert!(
                    !missing.is_huge || missing.ahead.size() == UNIT.bytes(),
                    "{missing:?}"
                );
                units += usize::from(missing.is_huge);
                sub_window.fetched(missing.own);
                sub_window.fetched_ahead(missing, true);
            }
        }
        assert_eq!(
            units, 5,
            "from 4 MiB on, but for the last one, which is cut"
        );
    }

    /// How often the system is asked while spans are taken, and how often somebody has to wait for a page of its own.
    fn fetches(sub_window: &mut SubWindow, bytes: usize) -> (usize, usize) {
        let (mut calls, mut waits) = (0, 0);
        for _ in 0..bytes / 1184 {
            let taken = sub_window.take(1184, Align::ONE).unwrap();
            if let Some(missing) = sub_window.missing(taken.span) {
                calls += 1;
                waits += usize::from(!missing.own.is_empty());
                sub_window.fetched(missing.own);
                sub_window.fetched_ahead(missing, true);
            }
            let used = sub_window.spans.granted_bytes();
            let most = used + used / 4 + 4 * 4096;
            assert!(sub_window.committed() <= most, "{most}");
        }
        (calls, waits)
    }

    #[test]
    fn pages_are_there_before_they_are_reached_and_come_many_at_once() {
        let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
        let (calls, waits) = fetches(&mut sub_window, MIB);
        assert!(waits <= 20 && calls <= 50, "{calls}, {waits}");
        let (calls, waits) = fetches(&mut sub_window, 31 * MIB);
        assert!(waits == 0 && calls <= 130, "{calls}, {waits}");
    }

    #[test]
    fn pages_that_went_back_below_others_come_again_many_at_once() {
        let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
        let mut grants = fill(&mut sub_window, 32 * MIB);
        let above = grants.split_off(grants.len() / 2);
        drop_all(&mut sub_window, grants);
        let kept = sub_window.committed();
        let used = sub_window.spans.granted_bytes();
        assert!(
            kept < used + KEEP + used / KEEP_OF_USED + 2 * AHEAD,
            "{kept}"
        );
        let mut calls = 0;
        for _ in 0..above.len() {
            let taken = sub_window.take(1184, Align::ONE).unwrap();
            if let Some(missing) = sub_window.missing(taken.span) {
                calls += 1;
                assert_eq!(sub_window.pages.bytes_in(missing.ahead), 0, "{missing:?}");
                sub_window.fetched(missing.own);
                sub_window.fetched_ahead(missing, true);
            }
        }
        assert!(calls <= 16 * MIB / AHEAD + 10, "{calls}");
    }

    /// Half of the spans go, every other one.
    #[test]
    fn free_pieces_go_back_from_64_kib_on_and_smaller_ones_make_no_call() {
        for (size, goes) in [(1184, false), (4096, false), (64 << 10, true)] {
            let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
            let mut kept = Vec::new();
            let mut gone = Vec::new();
            while sub_window.spans.granted_bytes() < 32 * MIB {
                let taken = sub_window.take(size, Align::ONE).unwrap();
                sub_window.fetched(sub_window.pages.around(taken.span));
                let list = if kept.len() > gone.len() {
                    &mut gone
                } else {
                    &mut kept
                };
                list.push(taken.grant);
            }
            let (before, used) = (sub_window.committed(), sub_window.spans.granted_bytes());
            drop_all(&mut sub_window, gone);
            let kept = sub_window.committed();
            if goes {
                assert!(kept <= used / 2 + KEEP + used / KEEP_OF_USED, "{kept}");
            } else {
                assert_eq!(kept, before);
            }
        }
    }

    #[test]
    fn free_memory_is_kept_up_to_a_mebibyte_and_an_eighth_of_what_is_in_use() {
        for used in [0, 8, 32] {
            let mut sub_window = SubWindow::new(64 * MIB, PageSize::new(4096).unwrap(), false);
            let mut take = |bytes| {
                let taken = sub_window.take(bytes, Align::ONE).unwrap();
                sub_window.fetched(sub_window.pages.around(taken.span));
                taken.grant
            };
            let _kept = (used > 0).then(|| take(used * MIB));
            let grants: Vec<Grant> = (0..64).map(|_| take(MIB / 8)).collect();
            // From above, so that it is all one piece.
            let mut grants = grants.into_iter().rev();
            let returning = grants.find_map(|grant| {
                let used = sub_window.spans.granted_bytes() - MIB / 8;
                let returning = sub_window.free(grant);
                let idle = sub_window.committed() - used;
                assert_eq!(returning.is_some(), idle > MIB + used / 8, "{idle:#x}");
                returning
            });
            let returning = returning.expect("eight mebibytes are more than is kept");
            sub_window.returned(returning, true);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What each thread was told to fetch comes later, in any order, or not at all.
        #[test]
        fn what_threads_fetch_in_advance_lies_apart_and_in_the_sub_window(
            steps in prop::collection::vec((1usize..40_000, any::<prop::sample::Index>(), any::<bool>()), 1..300),
            refusals in any::<bool>(),
        ) {
            let size = 2 * MIB - (64 << 10);
            let mut sub_window = SubWindow::new(size, PageSize::new(4096).unwrap(), false);
            let mut coming: Vec<Missing> = Vec::new();
            for (bytes, which, is_over) in steps {
                if is_over && !coming.is_empty() {
                    let missing = coming.swap_remove(which.index(coming.len()));
                    sub_window.fetched(missing.own);
                    sub_window.fetched_ahead(missing, !refusals || bytes % 2 == 0);
                    continue;
                }
                let Some(taken) = sub_window.take(bytes, Align::ONE) else { break };
                let Some(missing) = sub_window.missing(taken.span) else { continue };
                prop_assert!(missing.own.end() <= size && missing.ahead.end() <= size);
                for other in &coming {
                    let is_apart = missing.ahead.end() <= other.ahead.start() || other.ahead.end() <= missing.ahead.start();
                    prop_assert!(refusals || is_apart, "{:?} and {:?}", missing, other);
                }
                coming.push(missing);
            }
        }
    }
}
