//! What all clones of a window share: its memory, and under one lock who has which of it.
//!
//! Law: the lock is held for numbers only. Bytes are written and the system is asked for pages without it, on spans that are
//! somebody's.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::backing::Backing;
use super::lease::Lease;
use super::options::{AfterFork, Capabilities, WindowOptions, Writing};
use super::spans::{GRANULE, Grant};
use super::state::{Books, Leaving, State};
use super::sub_window::{Missing, Taken};
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::layout::{Extent, WindowPlan};
use crate::num::{Align, Span};
use crate::stats::Stats;
use crate::sys;
use crate::{icache, trap};

/// Freed code waits for a barrier, so that one serves for many: until there are this many spans, or this many bytes.
const RETIRED: usize = 128;
const RETIRED_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) backing: Backing,
    pub(super) plan: WindowPlan,
    pub(super) capabilities: Capabilities,
    after_fork: AfterFork,
    /// Sizes and alignments of spans are multiples of it: a granule, or a page.
    grain: Align,
    state: Mutex<State>,
    /// Rung when [`State::moving`] becomes less and somebody waits.
    moved: Condvar,
}

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
        let mut asked = *options;
        asked.size = asked.size.min(WindowPlan::LARGEST);
        loop {
            let refused = match Self::map_exactly(&asked, writing) {
                Err(error @ Error::System { .. }) => error,
                other => return other,
            };
            asked.size /= 2;
            asked.code /= 2;
            if asked.size < options.floor || WindowPlan::new(asked.size, asked.code).is_none() {
                return Err(refused);
            }
            tracing::warn!(%refused, size = asked.size, "a smaller window is tried");
        }
    }

    fn map_exactly(options: &WindowOptions, writing: Writing) -> Result<Self, Error> {
        let too_small = Error::WindowTooSmall { size: options.size };
        let plan = WindowPlan::new(options.size, options.code).ok_or(too_small)?;
        let backing = Backing::map(&plan, writing, options.branch_protection)?;
        let page = sys::page_size();
        let capabilities = Capabilities {
            writing,
            size: plan.size,
            sizes: plan.arenas.map(Span::size),
            branch_protection: options.branch_protection,
            returns_pages: sys::RETURNS_PAGES,
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
            state: Mutex::new(State::new(capabilities.sizes, page)),
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

    /// Spans for `extents`, each zero or filled with traps, and writable. `asked` bytes of them were asked for.
    ///
    /// # Errors
    ///
    /// [`Error::WindowExhausted`], [`Error::AlignmentTooLarge`], [`Error::System`], [`Error::Barrier`],
    /// [`Error::InheritedWindow`]. Nothing changed.
    pub(super) fn lease(
        self: &Arc<Self>,
        extents: &PerKind<Extent>,
    ) -> Result<(Lease, PerKind<Span>), Error> {
        self.check_own()?;
        // Where the sum does not fit into a number, the spans do not fit into a window.
        let sizes = extents.iter().map(|(_, extent)| extent.size());
        let asked = sizes.fold(0, usize::saturating_add);
        let taken = self.take(extents, |books, granted| {
            books.in_flight += 1;
            books.asked += asked;
            books.granted += granted;
        })?;
        let mut spans = self.plan.arenas.map(|arena| Span::empty(arena.start()));
        for (kind, taken) in taken.iter() {
            if let Some(taken) = taken {
                spans[kind] = self.in_window(kind, taken.span);
                #[allow(unsafe_code)] // Writes to it.
                // SAFETY: it was just taken, and made writable.
                unsafe {
                    self.clear(kind, spans[kind]);
                }
            }
        }
        let grants = taken.map(|taken| taken.map(|taken| taken.grant));
        Ok((Lease::new(Arc::clone(self), grants, asked), spans))
    }

    /// A span for a section that was not announced.
    ///
    /// # Errors
    ///
    /// As [`lease`](Self::lease).
    pub(super) fn grant(&self, kind: SectionKind, extent: Extent) -> Result<(Grant, Span), Error> {
        self.check_own()?;
        let mut extents = PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY);
        extents[kind] = extent;
        let mut all = self.take(&extents, |books, granted| books.granted += granted)?;
        let taken = all[kind].take().expect("as it was asked for");
        let span = self.in_window(kind, taken.span);
        #[allow(unsafe_code)] // Writes to it.
        // SAFETY: it was just taken, and made writable.
        unsafe {
            self.clear(kind, span);
        }
        Ok((taken.grant, span))
    }

    /// Takes a span for each kind and makes it writable; then enters into the books how many bytes that is.
    fn take(
        &self,
        extents: &PerKind<Extent>,
        enter: impl FnOnce(&mut Books, usize),
    ) -> Result<PerKind<Option<Taken>>, Error> {
        let mut state = self.lock();
        let hopeless = (extents.iter()).any(|(kind, e)| e.size() > self.plan.arenas[kind].size());
        let taken = loop {
            match state.take(extents, self.grain) {
                Err(error) if hopeless => return Err(error),
                Err(Error::WindowExhausted { .. }) if !state.retired.is_empty() => {
                    drop(state);
                    self.reclaim()?;
                    state = self.lock();
                }
                Err(Error::WindowExhausted { .. }) if state.moving > 0 => {
                    state.waiting += 1;
                    let waited = self.moved.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                    state.waiting -= 1;
                }
                taken => break taken?,
            }
        };
        let mut granted = 0;
        let mut unready: SmallVec<[Unready; 3]> = SmallVec::new();
        for (kind, taken) in taken.iter() {
            if let Some(Taken { span, .. }) = *taken {
                granted += span.size();
                let sub_window = &mut state.sub_windows[kind];
                let (is_sealed, missing) = (sub_window.is_sealed(span), sub_window.missing(span));
                if is_sealed || missing.is_some() {
                    unready.push(Unready {
                        kind,
                        span,
                        is_sealed,
                        missing,
                    });
                }
            }
        }
        if !unready.is_empty() {
            drop(state);
            let mut left = unready.iter();
            let made_ready = left.try_for_each(|unready| self.make_ready(unready));
            state = self.lock();
            if let Err(error) = made_ready {
                for Unready { kind, missing, .. } in left {
                    if let Some(missing) = *missing {
                        state.sub_windows[*kind].fetched_ahead(missing, false);
                    }
                }
                // Not just put back: some may have their memory already, which nobody needs now.
                let mut leaving = Leaving::new();
                for (kind, taken) in taken {
                    if let Some(Taken { grant, .. }) = taken {
                        state.free(kind, grant, &mut leaving);
                    }
                }
                drop(state);
                self.give_back(leaving);
                return Err(error);
            }
        }
        enter(&mut state.books, granted);
        Ok(taken)
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
        let came = missing.ahead.is_empty()
            || (self.backing.commit(self.in_window(kind, missing.ahead)))
                .inspect_err(|error| tracing::debug!(%error, "no memory in advance"))
                .is_ok();
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
    unsafe fn clear(&self, kind: SectionKind, span: Span) {
        let start = self.backing.write_pointer(span);
        // SAFETY: by this function's contract; memory of a window is initialized from birth.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), span.size()) };
        match kind {
            SectionKind::Code => trap::fill(bytes),
            SectionKind::ReadOnlyData | SectionKind::ReadWriteData => bytes.fill(0),
        }
    }

    /// A span of a sub-window, from the window's offset 0.
    fn in_window(&self, kind: SectionKind, span: Span) -> Span {
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
            state.moving += between.len();
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
            let pieces = between.len();
            for (kind, taken) in between {
                state.sub_windows[kind].cancel(taken.grant);
            }
            self.has_moved(&mut state, pieces);
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
        let mut state = self.lock();
        state.books.in_flight -= 1;
        state.books.objects += 1;
        state.books.asked = state.books.asked - announced + asked;
        sys::fork_count()
    }

    /// Takes everything back that a lease had.
    pub(super) fn release(&self, lease: Released) {
        if self.backing.is_inherited() {
            return; // The parent's. Its lock may be held for ever, and its writable view is not here.
        }
        if self.seals() && lease.forks.is_none() {
            self.settle(&lease.grants);
        }
        let may_run_in_child = lease.forks.is_some_and(|forks| forks != sys::fork_count());
        // What is private, a child has a copy of.
        let frozen = may_run_in_child && !self.seals() && self.after_fork == AfterFork::Freeze;
        let mut code: SmallVec<[Taken; 1]> = SmallVec::new();
        let mut leaving = Leaving::new();

        let mut guard = self.lock();
        let state = &mut *guard;
        match lease.forks {
            None => state.books.in_flight -= 1,
            Some(_) => state.books.objects -= 1,
        }
        state.books.asked -= lease.asked;
        for (kind, grant) in lease.grants {
            let span = state.sub_windows[kind].span(&grant);
            state.books.granted -= span.size();
            match kind {
                SectionKind::Code | SectionKind::ReadOnlyData if frozen => {
                    state.books.frozen += span.size(); // And the grant is forgotten.
                }
                SectionKind::Code => {
                    state.books.retired += span.size();
                    code.push(Taken { grant, span });
                }
                _ => state.free(kind, grant, &mut leaving),
            }
        }
        state.moving += code.len();
        drop(guard);

        let mut lost: SmallVec<[bool; 1]> = SmallVec::new();
        for taken in &code {
            lost.push(self.disarm(self.in_window(SectionKind::Code, taken.span)));
        }
        let mut state = self.lock();
        self.has_moved(&mut state, code.len());
        for (taken, lost) in code.into_iter().zip(lost) {
            if lost {
                state.sub_windows[SectionKind::Code].lost(taken.span);
            }
            state.retired.push(taken.grant);
        }
        let full = state.retired.len() >= RETIRED || state.books.retired >= RETIRED_BYTES;
        drop(state);
        if !leaving.is_empty() {
            self.give_back(leaving);
        }
        if full {
            if let Err(error) = self.reclaim() {
                tracing::warn!(%error, "freed code cannot be used again yet");
            }
        }
    }

    /// Puts traps in the place of code that was dropped, or gives its pages back; then the result is true.
    fn disarm(&self, span: Span) -> bool {
        if self.seals() {
            #[allow(unsafe_code)] // Gives pages back.
            // SAFETY: whole pages of a lease that is gone.
            let discarded = sys::RETURNS_PAGES && unsafe { self.backing.discard(span) }.is_ok();
            if discarded {
                return true;
            }
            #[allow(unsafe_code)] // Changes permissions.
            // SAFETY: the same pages.
            if let Err(error) = unsafe { self.backing.unseal(span) } {
                tracing::warn!(%error, "code that was dropped stays executable");
                return false;
            }
        }
        #[allow(unsafe_code)] // Writes to it.
        // SAFETY: its lease is gone, and it is writable: where permissions change, it was just unsealed.
        unsafe {
            self.clear(SectionKind::Code, span);
        }
        let (write, run) = (self.backing.write_pointer(span), self.backing.pointer(span));
        #[allow(unsafe_code)] // Cache maintenance by address.
        // SAFETY: two addresses of one span, which nobody else has; readable in every state.
        unsafe {
            icache::make_coherent(write.as_ptr(), run.as_ptr(), span.size());
        }
        false
    }

    /// What never became an object gets its final permission as well, without what was written: neighbours then are one
    /// mapping, whatever comes behind.
    fn settle(&self, grants: &[(SectionKind, Grant)]) {
        let mut own = Vec::new();
        for (kind, grant) in grants {
            let span = self.lock().sub_windows[*kind].span(grant);
            own.push((*kind, self.in_window(*kind, span)));
        }
        // Where sealing failed and could not be undone, its code may still be executable: then `disarm` has to do without.
        own.retain(|&(kind, span)| {
            if kind != SectionKind::Code {
                return true;
            }
            #[allow(unsafe_code)] // Changes permissions.
            // SAFETY: whole pages of a lease that is gone and never became an object.
            let is_writable = unsafe { self.backing.unseal(span) }.is_ok();
            if is_writable {
                #[allow(unsafe_code)] // Writes to it.
                // SAFETY: its lease is gone, and it was just unsealed.
                unsafe {
                    self.clear(kind, span);
                }
            }
            is_writable
        });
        if let Err(error) = self.seal(own) {
            tracing::warn!(%error, "pages that were dropped stay writable");
        }
    }

    /// Makes freed code usable again.
    fn reclaim(&self) -> Result<(), Error> {
        let retired = {
            let mut state = self.lock();
            state.moving += 1;
            std::mem::take(&mut state.retired)
        };
        // Where permissions change, code becomes writable before it is used again, and the system interrupts all cores for it.
        let forgotten = if self.seals() {
            Ok(())
        } else {
            icache::forget_freed_code()
        };
        let mut leaving = Leaving::new();
        let mut state = self.lock();
        if forgotten.is_ok() {
            for grant in retired {
                let size = state.sub_windows[SectionKind::Code].span(&grant).size();
                state.books.retired -= size;
                state.free(SectionKind::Code, grant, &mut leaving);
            }
        } else {
            state.retired.extend(retired);
        }
        self.has_moved(&mut state, 1);
        drop(state);
        self.give_back(leaving);
        forgotten.map_err(|source| Error::Barrier { source })
    }

    /// Pieces of free memory are free for all again.
    fn has_moved(&self, state: &mut State, pieces: usize) {
        state.moving -= pieces;
        if state.waiting > 0 {
            self.moved.notify_all(); // A system call, so not without need.
        }
    }

    /// Gives pages back to the system.
    fn give_back(&self, leaving: Leaving) {
        for (kind, returning) in leaving {
            #[allow(unsafe_code)] // Gives pages back.
            // SAFETY: nobody has a byte on them: their spans were freed, and are held back meanwhile.
            let went = unsafe { self.backing.discard(self.in_window(kind, returning.pages)) };
            if let Err(error) = &went {
                tracing::debug!(%error, "free pages stay");
            }
            let mut state = self.lock();
            state.sub_windows[kind].returned(returning, went.is_ok());
            self.has_moved(&mut state, 1);
        }
    }

    /// All of it, at one moment. Zero in a child, whose books they are not.
    pub(super) fn stats(&self) -> Stats {
        if self.backing.is_inherited() {
            return Stats::default();
        }
        Stats {
            reserved: self.plan.size,
            mappings: self.backing.mappings(),
            ..self.lock().stats()
        }
    }

    fn in_sub_window(&self, kind: SectionKind, span: Span) -> Span {
        let start = span.start() - self.plan.arenas[kind].start();
        Span::sized(start, span.size()).expect("a sub-window lies in its window")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two numbers that belong together, except on a broken law, which a test would have to show.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A span that was taken and cannot be written to yet.
struct Unready {
    kind: SectionKind,
    span: Span,
    /// Whether permissions have to change first.
    is_sealed: bool,
    missing: Option<Missing>,
}

/// What a lease gives back.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) grants: SmallVec<[(SectionKind, Grant); 3]>,
    /// How many forks there were when it was published; `None` where it never was.
    pub(super) forks: Option<u32>,
    /// As it stands in the books.
    pub(super) asked: usize,
}
