//! Who has which of a window's memory: numbers only, for whoever holds the lock.

use smallvec::SmallVec;

use super::sub_window::{Returning, SubWindow, Taken};
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::layout::{Extent, check_alignment};
use crate::num::Align;
use crate::stats::Stats;

#[derive(Debug)]
pub(super) struct State {
    pub(super) sub_windows: PerKind<SubWindow>,
    /// Freed code that some core may still remember.
    pub(super) retired: Vec<Taken>,
    /// How many threads wait for a full window to get memory back.
    pub(super) waiting: usize,
    pub(super) books: Books,
}

/// What is in use, and in bytes, what nobody has and nobody can have. A span that is just being taken is in neither.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Books {
    /// Objects, and what is to become one.
    pub(super) leases: usize,
    /// Objects that ever were, and are not any more.
    pub(super) gone: usize,
    pub(super) asked: usize,
    pub(super) granted: usize,
    pub(super) frozen: usize,
    /// Freed code, also while a thread waits for the barrier.
    pub(super) retired: usize,
    /// Free memory that a thread holds back for a moment.
    pub(super) moving: usize,
}

/// Pages on their way to the system. Mostly none.
pub(super) type Leaving = SmallVec<[(SectionKind, Returning); 1]>;

impl State {
    /// Nothing in use of these sub-windows.
    pub(super) fn new(sub_windows: PerKind<SubWindow>) -> Self {
        Self {
            sub_windows,
            retired: Vec::new(),
            waiting: 0,
            books: Books::default(),
        }
    }

    /// All but what the memory as a whole takes, where so many leases ever became objects.
    pub(super) fn stats(&self, published: usize) -> Stats {
        let Self {
            books, sub_windows, ..
        } = self;
        let objects = published - books.gone;
        Stats {
            in_flight: books.leases - objects,
            objects,
            asked: books.asked,
            granted: books.granted,
            committed: sum(sub_windows, SubWindow::committed),
            retired: books.retired,
            frozen: books.frozen,
            free: each(sub_windows, SubWindow::free_bytes),
            largest_free: each(sub_windows, SubWindow::largest_free),
            bookkeeping: sum(sub_windows, SubWindow::bookkeeping),
            ..Stats::default()
        }
    }

    /// Takes a span for each kind that has bytes, into `all`, where nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::WindowExhausted`], [`Error::AlignmentTooLarge`]. Nothing changed.
    #[inline]
    pub(super) fn take(
        &mut self,
        extents: &PerKind<Extent>,
        grain: Align,
        all: &mut PerKind<Option<Taken>>,
    ) -> Result<(), Error> {
        for kind in SectionKind::ALL {
            // Also where there are no bytes: what was announced has to succeed later.
            check_alignment(extents[kind].align())?;
        }
        for kind in SectionKind::ALL {
            let extent = &extents[kind];
            if extent.size() > 0 {
                let taken = self.take_one(kind, extent, grain);
                if taken.is_none() {
                    self.put_back(all);
                    return Err(self.exhausted(kind, extent));
                }
                all[kind] = taken;
            }
        }
        Ok(())
    }

    fn take_one(&mut self, kind: SectionKind, extent: &Extent, grain: Align) -> Option<Taken> {
        let size = grain.up(extent.size())?;
        self.sub_windows[kind].take(size, extent.align().max(grain))
    }

    #[cold]
    fn exhausted(&self, kind: SectionKind, extent: &Extent) -> Error {
        Error::WindowExhausted {
            kind,
            requested: extent.size(),
            align: extent.align(),
            largest_free: self.sub_windows[kind].largest_free(),
        }
    }

    #[cold]
    /// Undoes [`take`](Self::take). Nothing was written to the spans.
    fn put_back(&mut self, all: &mut PerKind<Option<Taken>>) {
        for kind in SectionKind::ALL.into_iter().rev() {
            if let Some(taken) = all[kind].take() {
                self.sub_windows[kind].cancel(taken.grant);
            }
        }
    }

    /// Whether other threads are about to free memory.
    pub(super) fn is_about_to_free(&self) -> bool {
        self.books.moving > 0 || (self.retired.is_empty() && self.books.retired > 0)
    }

    pub(super) fn free(&mut self, kind: SectionKind, taken: Taken, leaving: &mut Leaving) {
        let moving = &mut self.books.moving;
        self.sub_windows[kind].free(taken, |returning| {
            *moving += returning.pages.size();
            leaving.push((kind, returning));
        });
    }

    /// Whether spans that were freed lately stand alone.
    pub(super) fn has_recent(&self) -> bool {
        (self.sub_windows.iter()).any(|(_, sub_window)| sub_window.has_recent())
    }

    /// Joins them with what is free beside them.
    pub(super) fn join_recent(&mut self, leaving: &mut Leaving) {
        let moving = &mut self.books.moving;
        for kind in SectionKind::ALL {
            self.sub_windows[kind].join_recent(|returning| {
                *moving += returning.pages.size();
                leaving.push((kind, returning));
            });
        }
    }
}

fn each(sub_windows: &PerKind<SubWindow>, of: impl Fn(&SubWindow) -> usize) -> PerKind<usize> {
    let of = |kind| of(&sub_windows[kind]);
    PerKind::new(
        of(SectionKind::Code),
        of(SectionKind::ReadOnlyData),
        of(SectionKind::ReadWriteData),
    )
}

fn sum(sub_windows: &PerKind<SubWindow>, of: impl Fn(&SubWindow) -> usize) -> usize {
    sub_windows
        .iter()
        .map(|(_, sub_window)| of(sub_window))
        .sum()
}
