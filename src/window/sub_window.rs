//! One kind's part of a window: which spans are whose, and which pages have memory. Offsets count from its start.

use super::pages::Pages;
use super::recent::Recent;
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
    recent: Recent,
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
    /// Whether it holds traps in every byte, so that code needs no clearing.
    pub(super) holds_traps: bool,
}

impl Taken {
    fn new(grant: Grant, span: Span) -> Self {
        Self {
            grant,
            span,
            holds_traps: false,
        }
    }
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
            recent: Recent::default(),
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

    /// `None` may change once [recent](Self::has_recent) ones were joined.
    #[inline]
    pub(super) fn take(&mut self, size: usize, align: Align) -> Option<Taken> {
        let recent = self.recent.take(size, align);
        if recent.is_some() {
            return recent;
        }
        let (grant, span) = self.spans.allocate(size, align)?;
        Some(Taken::new(grant, span))
    }

    /// Whether a span can be written to as it is, and nothing is good to fetch.
    pub(super) fn is_ready(&self, span: Span) -> bool {
        self.pages.hold(span) && !self.is_near_the_top(span) && !self.is_sealed(span)
    }

    /// Whether memory comes a unit at a time.
    fn in_units(&self) -> bool {
        self.has_huge_pages && self.pages.bytes() >= HUGE_FROM
    }

    /// How much is fetched in advance otherwise, in bytes.
    fn pages_ahead(&self) -> usize {
        AHEAD.min(self.pages.bytes() / AHEAD_OF_USED)
    }

    /// Whether half of what was fetched in advance is used up.
    fn is_near_the_top(&self, span: Span) -> bool {
        let ahead = match self.in_units() {
            true => UNIT.bytes(),
            false => self.pages_ahead(),
        };
        span.end() + ahead / 2 >= self.fetched
    }

    /// What has to be fetched before a span can be written to, and what is good to fetch soon. Whoever asks has to do it.
    pub(super) fn missing(&mut self, span: Span) -> Option<Missing> {
        let holds = self.pages.hold(span);
        let is_near_the_top = self.is_near_the_top(span);
        if holds && !is_near_the_top {
            return None;
        }
        let (in_units, pages) = (self.in_units(), self.pages_ahead());
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
            let ahead = if is_huge { UNIT.bytes() } else { pages };
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

    /// A grant with its span again.
    #[inline]
    pub(super) fn taken(&self, grant: Grant) -> Taken {
        let span = self.spans.span(&grant);
        Taken::new(grant, span)
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
        let taken = in_front.map(|hole| {
            let grant = self.spans.take(hole, hole.span());
            Taken::new(grant, hole.span())
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

    /// Takes a span back. Pages that are to go back to the system for it go to `leaving`.
    #[inline]
    pub(super) fn free(&mut self, taken: Taken, mut leaving: impl FnMut(Returning)) {
        if taken.span.size() > Recent::LARGEST {
            self.join_one(taken.grant, leaving);
            return;
        }
        if self.recent.is_full() {
            self.join_recent(&mut leaving);
        }
        self.recent.put(taken);
    }

    #[cold]
    fn join_one(&mut self, grant: Grant, leaving: impl FnMut(Returning)) {
        self.join(grant).into_iter().for_each(leaving);
    }

    /// Whether spans were given back that still stand alone.
    pub(super) fn has_recent(&self) -> bool {
        !self.recent.is_empty()
    }

    /// Joins them with what is free beside them.
    #[cold]
    pub(super) fn join_recent(&mut self, mut leaving: impl FnMut(Returning)) {
        // From above, where what came last may be the topmost: the tail then takes one after the other.
        while let Some(taken) = self.recent.take_any() {
            self.join(taken.grant).into_iter().for_each(&mut leaving);
        }
    }

    /// Joins a span with what is free beside it. Where that leaves much free memory in one piece, its pages are to go back to
    /// the system.
    fn join(&mut self, grant: Grant) -> Option<Returning> {
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
        self.spans.bookkeeping() + self.pages.bookkeeping() + self.recent.bookkeeping()
    }

    pub(super) fn free_bytes(&self) -> usize {
        self.spans.free_bytes() + self.recent.bytes()
    }

    /// At least: what is recent may be a part of more.
    pub(super) fn largest_free(&self) -> usize {
        self.spans.largest_free()
    }
}

#[cfg(test)]
mod tests;
