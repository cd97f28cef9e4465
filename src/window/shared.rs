//! What all clones of a window share: its memory, and under one lock who has which of it.
//!
//! Law: the lock is held for numbers only. Bytes are written and the system is asked for pages without it, on spans that are
//! somebody's.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::backing::Backing;
use super::lease::Lease;
use super::options::{AfterFork, Capabilities, WindowOptions, Writing};
use super::spans::{GRANULE, Grant, Room};
use super::state::{Leaving, State};
use super::sub_window::{Missing, SubWindow, Taken};
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::layout::{Extent, WindowPlan};
use crate::memory::Memory;
use crate::num::{Align, Span};
use crate::reservation::{Content, Reservation};
use crate::stats::Stats;
use crate::sys;
use crate::{icache, trap};

/// Aligned to two lines of a cache, as [`Locked`] is: what changes with each object lies on no line with what does not.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shared {
    pub(super) backing: Backing,
    pub(super) plan: WindowPlan,
    pub(super) capabilities: Capabilities,
    pub(super) after_fork: AfterFork,
    /// Sizes and alignments of spans are multiples of it: a granule, or a page.
    grain: Align,
    state: Locked,
    published: Published,
    /// Rung when memory became free that [others were about to free](State::is_about_to_free), and somebody waits.
    pub(super) moved: Condvar,
}

#[derive(Debug)]
#[repr(align(128))]
struct Locked(Mutex<State>);

/// How many leases ever became objects. It grows without the lock, while they are leases: whoever has the lock sees no more
/// objects than leases.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Published(AtomicUsize);

impl Shared {
    /// # Errors
    ///
    /// [`Error::Unsupported`], [`Error::System`], [`Error::Barrier`].
    pub(super) fn map(options: &WindowOptions) -> Result<Self, Error> {
        icache::prepare().map_err(|source| Error::Barrier { source })?;
        match options.writing {
            Some(writing) => Self::halving(options, writing),
            None => Self::halving(options, Writing::TwoAddresses).or_else(|refused| {
                tracing::warn!(%refused, "no window at two addresses, so one at the same address");
                Self::halving(options, Writing::SameAddress)
            }),
        }
    }

    /// Tries the size that is asked for, and half of it, down to the floor.
    fn halving(options: &WindowOptions, writing: Writing) -> Result<Self, Error> {
        if writing == Writing::TwoAddresses {
            icache::prepare_reuse().map_err(|source| Error::Barrier { source })?;
        }
        let wanted = options.size.min(WindowPlan::LARGEST);
        let mut tried = *options;
        tried.size = wanted;
        let shared = loop {
            let refused = match Self::map_exactly(&tried, writing) {
                Err(error) if may_fit_if_smaller(&error) => error,
                other => break other?,
            };
            tried.size /= 2;
            tried.code /= 2;
            if tried.size < options.floor || WindowPlan::new(tried.size, tried.code).is_none() {
                return Err(refused);
            }
            tracing::debug!(%refused, size = tried.size, "a smaller window is tried");
        };
        if tried.size < wanted {
            let size = shared.capabilities.size;
            tracing::warn!(asked = wanted, size, "a smaller window than asked for");
        }
        Ok(shared)
    }

    fn map_exactly(options: &WindowOptions, writing: Writing) -> Result<Self, Error> {
        let too_small = Error::WindowTooSmall { size: options.size };
        let plan = WindowPlan::new(options.size, options.code).ok_or(too_small)?;
        let backing = Backing::map(&plan, writing, options.branch_protection)?;
        let page = sys::page_size();
        let sub_window = |kind: SectionKind| {
            SubWindow::new(plan.arenas[kind].size(), page, backing.has_huge_pages(kind))
        };
        let sub_windows = PerKind::new(
            sub_window(SectionKind::Code),
            sub_window(SectionKind::ReadOnlyData),
            sub_window(SectionKind::ReadWriteData),
        );
        let capabilities = Capabilities {
            writing,
            size: plan.size,
            sizes: plan.arenas.map(Span::size),
            branch_protection: options.branch_protection,
            returns_pages: backing.returns_pages(),
        };
        tracing::debug!(address = %backing.address(), ?writing, size = plan.size, "window");
        Ok(Self {
            backing,
            plan,
            capabilities,
            after_fork: options.after_fork,
            grain: match writing {
                Writing::TwoAddresses => Align::new(GRANULE)?,
                Writing::SameAddress => page.align(),
            },
            state: Locked(Mutex::new(State::new(sub_windows))),
            published: Published::default(),
            moved: Condvar::new(),
        })
    }

    /// Whether finalizing changes permissions.
    pub(super) fn seals(&self) -> bool {
        self.backing.writing() == Writing::SameAddress
    }

    /// # Errors
    ///
    /// [`Error::InheritedWindow`] in a child of `fork`.
    pub(super) fn check_own(&self) -> Result<(), Error> {
        if self.backing.is_inherited() {
            return Err(Error::InheritedWindow);
        }
        Ok(())
    }

    /// A reservation for `content`, which needs `extents`: its spans are writable, zero or filled with traps.
    ///
    /// # Errors
    ///
    /// [`Error::WindowExhausted`], [`Error::AlignmentTooLarge`], [`Error::System`], [`Error::Barrier`],
    /// [`Error::InheritedWindow`]. Nothing changed.
    pub(super) fn reserve(
        self: &Arc<Self>,
        content: Box<Content>,
        extents: &PerKind<Extent>,
    ) -> Result<Reservation, Error> {
        self.check_own()?;
        // Where the sum does not fit into a number, the spans do not fit into a window.
        let sizes = SectionKind::ALL.map(|kind| extents[kind].size());
        let asked = sizes.into_iter().fold(0, usize::saturating_add);
        let mut taken = PerKind::default();
        let mut state = self.take(extents, &mut taken)?;
        state.books.leases += 1;
        state.books.asked += asked;
        drop(state);
        let mut spans = self.plan.arenas.map(|arena| Span::empty(arena.start()));
        for kind in SectionKind::ALL {
            if let Some(taken) = &taken[kind] {
                spans[kind] = self.in_window(kind, taken.span);
            }
        }
        let code = &taken[SectionKind::Code];
        let holds_traps = code.as_ref().is_some_and(|code| code.holds_traps);
        let grants = taken.map(|taken| taken.map(|taken| taken.grant));
        let lease = Memory::Lease(Lease::new(Arc::clone(self), grants, asked));
        let reservation = Reservation::new(content, spans, lease);
        // Last: the CPU has much to write then, into memory that no cache has, and what needs to know that it is done would wait.
        for (kind, span) in spans.iter() {
            if kind == SectionKind::Code && holds_traps {
                continue; // Nobody has written to it since.
            }
            #[allow(unsafe_code)] // Writes to it.
            // SAFETY: it is empty, or was just taken and made writable.
            unsafe {
                self.clear(kind, *span);
            }
        }
        Ok(reservation)
    }

    /// A span for a section that was not announced.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    pub(super) fn grant(&self, kind: SectionKind, extent: Extent) -> Result<(Grant, Span), Error> {
        self.check_own()?;
        let mut extents = PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY);
        extents[kind] = extent;
        let mut all = PerKind::default();
        drop(self.take(&extents, &mut all)?);
        let taken = all[kind].take().expect("as it was asked for");
        let span = self.in_window(kind, taken.span);
        #[allow(unsafe_code)] // Writes to it.
        // SAFETY: it was just taken, and made writable.
        unsafe {
            self.clear(kind, span);
        }
        Ok((taken.grant, span))
    }

    /// Takes a span for each kind, into `all`, and makes it writable. The books are still open, to enter what it is for.
    ///
    /// Not as a result: in one with an [`Error`] they would be copied in pieces, and the CPU wait for each.
    fn take(
        &self,
        extents: &PerKind<Extent>,
        all: &mut PerKind<Option<Taken>>,
    ) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock();
        while let Err(refused) = state.take(extents, self.grain, all) {
            state = self.await_room(extents, refused, state)?;
        }
        let mut granted = 0;
        let mut is_ready = true;
        for kind in SectionKind::ALL {
            if let Some(Taken { span, .. }) = all[kind] {
                granted += span.size();
                is_ready &= state.sub_windows[kind].is_ready(span);
            }
        }
        if !is_ready {
            state = self.make_all_ready(all, state)?;
        }
        state.books.granted += granted;
        Ok(state)
    }

    /// Makes memory free, or waits for another thread to do it, where what was `refused` may be granted then.
    #[cold]
    fn await_room<'a>(
        &'a self,
        extents: &PerKind<Extent>,
        refused: Error,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, Error> {
        let mut needs = extents.iter();
        let is_hopeless = needs.any(|(kind, extent)| extent.size() > self.plan.arenas[kind].size());
        if is_hopeless || !matches!(refused, Error::WindowExhausted { .. }) {
            return Err(refused);
        }
        if !state.retired.is_empty() {
            drop(state);
            self.reclaim()?;
        } else if state.has_recent() {
            let mut leaving = Leaving::new();
            state.join_recent(&mut leaving);
            drop(state);
            self.give_back(leaving);
        } else if state.is_about_to_free() {
            state.waiting += 1;
            let waited = self.moved.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
            return Ok(state);
        } else {
            return Err(refused);
        }
        Ok(self.lock())
    }

    /// Makes spans that were just taken writable, or gives them back.
    #[cold]
    fn make_all_ready<'a>(
        &'a self,
        all: &mut PerKind<Option<Taken>>,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, Error> {
        let mut unready: SmallVec<[Unready; 3]> = SmallVec::new();
        for (kind, taken) in all.iter() {
            if let Some(Taken { span, .. }) = *taken {
                let sub_window = &mut state.sub_windows[kind];
                unready.push(Unready {
                    kind,
                    span,
                    is_sealed: sub_window.is_sealed(span),
                    missing: sub_window.missing(span),
                });
            }
        }
        drop(state);
        let mut left = unready.iter();
        let made_ready = left.try_for_each(|unready| self.make_ready(unready));
        let mut state = self.lock();
        let Err(error) = made_ready else {
            return Ok(state);
        };
        for Unready { kind, missing, .. } in left {
            if let Some(missing) = *missing {
                state.sub_windows[*kind].fetched_ahead(missing, false);
            }
        }
        // Not just put back: some may have their memory already, which nobody needs now.
        let mut leaving = Leaving::new();
        for kind in SectionKind::ALL {
            if let Some(taken) = all[kind].take() {
                state.free(kind, taken, &mut leaving);
            }
        }
        state.join_recent(&mut leaving);
        drop(state);
        self.give_back(leaving);
        Err(error)
    }

    /// Makes a span that was just taken writable.
    fn make_ready(&self, unready: &Unready) -> Result<(), Error> {
        let (kind, span) = (unready.kind, unready.span);
        if unready.is_sealed {
            #[allow(unsafe_code)] // Changes permissions.
            // SAFETY: the span is nobody else's, and where permissions change it is whole pages.
            unsafe {
                self.backing.unseal(self.in_window(kind, span))?;
            }
        }
        let Some(missing) = unready.missing else {
            return Ok(());
        };
        if missing.wants_room {
            let room = Room::fetch();
            self.lock().sub_windows[kind].bring_room(room);
        }
        let ahead = self.in_window(kind, missing.ahead);
        let came = match missing.is_huge {
            true => self.backing.commit_huge(ahead),
            false if ahead.is_empty() => Ok(()),
            false => self.backing.commit(ahead),
        };
        let came = came.inspect_err(|error| tracing::debug!(%error, "no memory in advance"));
        let came = came.is_ok();
        self.lock().sub_windows[kind].fetched_ahead(missing, came);
        if !missing.own.is_empty() {
            let fetched = self.backing.commit(self.in_window(kind, missing.own));
            fetched.inspect_err(|_| self.discard_all(kind, span))?;
            self.lock().sub_windows[kind].fetched(missing.own);
        }
        Ok(())
    }

    /// Gives back what a span had got when the system refused the rest: nobody would know of it.
    fn discard_all(&self, kind: SectionKind, span: Span) {
        let pages = self.lock().sub_windows[kind].pages_inside(span);
        #[allow(unsafe_code)] // Gives pages back.
        // SAFETY: whole pages of a span that was just taken, on which nobody has written yet.
        let went = unsafe { self.backing.discard(self.in_window(kind, pages)) };
        if went.is_ok() {
            self.lock().sub_windows[kind].lost(pages);
        }
    }

    /// Leaves nothing behind of who had a span before: traps in code, zeros in data.
    ///
    /// # Safety
    ///
    /// The span is in use, so that it has memory, and writable, and no reference leads into it.
    #[allow(unsafe_code)] // Declares what the caller promises.
    pub(super) unsafe fn clear(&self, kind: SectionKind, span: Span) {
        let start = self.backing.write_pointer(span);
        // SAFETY: by this function's contract; memory of a window is initialized from birth.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), span.size()) };
        match kind {
            SectionKind::Code => trap::fill(bytes),
            SectionKind::ReadOnlyData | SectionKind::ReadWriteData => bytes.fill(0),
        }
    }

    /// A span of a sub-window, from the window's offset 0.
    pub(super) fn in_window(&self, kind: SectionKind, span: Span) -> Span {
        let start = self.plan.arenas[kind].start() + span.start();
        Span::sized(start, span.size()).expect("a sub-window lies in its window")
    }

    /// Gives the spans of leases their final permissions: one system call for each run of neighbours of one kind.
    ///
    /// # Errors
    ///
    /// [`Error::System`]. Some permissions may have changed.
    pub(super) fn seal(&self, mut spans: Vec<(SectionKind, Span)>) -> Result<(), Error> {
        spans.retain(|&(kind, span)| kind != SectionKind::ReadWriteData && !span.is_empty());
        spans.sort();
        let mut between = Vec::new();
        {
            let mut state = self.lock();
            for &(kind, span) in &spans {
                let taken = state.sub_windows[kind].seal(self.in_sub_window(kind, span));
                between.extend(taken.into_iter().map(|taken| (kind, taken)));
            }
            state.books.moving += between
                .iter()
                .map(|(_, taken)| taken.span.size())
                .sum::<usize>();
        }
        spans.extend(
            between
                .iter()
                .map(|(kind, taken)| (*kind, self.in_window(*kind, taken.span))),
        );
        spans.sort();
        spans.dedup_by(|(kind, span), (previous_kind, previous)| {
            let joined = Span::new(previous.start(), span.end());
            let is_next = kind == previous_kind && previous.end() == span.start();
            if is_next {
                *previous = joined.expect("in order");
            }
            is_next
        });
        // Code last, so that nothing is ever executable that is not also complete.
        let sealed = spans.into_iter().rev().try_for_each(|(kind, span)| {
            #[allow(unsafe_code)] // Changes permissions.
            // SAFETY: whole pages of leases whose owners gave up writing to them, or of nobody.
            unsafe {
                self.backing.seal(span, kind)
            }
        });
        if !between.is_empty() {
            let mut state = self.lock();
            for (kind, taken) in between {
                state.books.moving -= taken.span.size();
                state.sub_windows[kind].cancel(taken.grant);
            }
            self.tell(&state);
        }
        sealed
    }

    /// Makes spans of a lease writable again.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub(super) fn unseal(&self, spans: &[(SectionKind, Span)]) -> Result<(), Error> {
        for &(kind, span) in spans {
            if kind != SectionKind::ReadWriteData && !span.is_empty() {
                #[allow(unsafe_code)] // Changes permissions.
                // SAFETY: whole pages of a lease that never became an object.
                unsafe {
                    self.backing.unseal(span)?;
                }
            }
        }
        Ok(())
    }

    /// A lease becomes an object whose sections have `asked` bytes, not those that were announced. Says how many forks
    /// there were before.
    pub(super) fn enter_object(&self, announced: usize, asked: usize) -> u32 {
        // Both change at one moment, and mostly there is one.
        let _books = (asked != announced).then(|| {
            let mut state = self.lock();
            state.books.asked = state.books.asked - announced + asked;
            state
        });
        self.published.0.fetch_add(1, Ordering::Relaxed);
        sys::fork_count()
    }

    /// All of it, at one moment. Zero in a child, whose books they are not.
    pub(super) fn stats(&self) -> Stats {
        if self.backing.is_inherited() {
            return Stats::default();
        }
        let state = self.lock();
        Stats {
            reserved: self.backing.reserved(),
            mappings: self.backing.mappings(),
            ..state.stats(self.published.0.load(Ordering::Relaxed))
        }
    }

    fn in_sub_window(&self, kind: SectionKind, span: Span) -> Span {
        let start = span.start() - self.plan.arenas[kind].start();
        Span::sized(start, span.size()).expect("a sub-window lies in its window")
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two numbers that belong together, except on a broken law, which a test would have to show.
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the system may grant less where it refused this. What it forbids, or does not have, it does not have in small either.
fn may_fit_if_smaller(refused: &Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied};
    match refused {
        Error::System { source, .. } => ![NotFound, PermissionDenied].contains(&source.kind()),
        _ => false,
    }
}

/// A span that was taken and may not be written to yet.
struct Unready {
    kind: SectionKind,
    span: Span,
    /// Whether permissions have to change first.
    is_sealed: bool,
    missing: Option<Missing>,
}
