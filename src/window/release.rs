//! How a window takes back what a lease had, and makes it free again.
//!
//! Law: freed code is traps before anybody else can have it, and no core remembers it.

use super::lease::{Grants, Phase};
use super::options::AfterFork;
use super::shared::Shared;
use super::state::{Leaving, State};
use crate::error::Error;
use crate::kind::SectionKind;
use crate::num::Span;
use crate::{icache, sys};

/// Freed code waits for a barrier, so that one serves for many: until there are this many spans, or this many bytes.
const RETIRED: usize = 128;
const RETIRED_BYTES: usize = 1 << 20;

impl Shared {
    /// Takes everything back that a lease had, which was published after so many forks.
    pub(super) fn release(&self, grants: Grants, phase: Phase, forks: u32) {
        if self.backing.is_inherited() {
            return; // The parent's. Its lock may be held for ever, and its writable view is not here.
        }
        let frozen = phase == Phase::Published && self.is_frozen(forks);
        if phase == Phase::Filling && self.seals() {
            self.settle(&grants);
        }
        let lost = match phase {
            Phase::Filling | Phase::Published if !frozen => self.disarm(&grants),
            _ => Vec::new(),
        };

        let mut leaving = Leaving::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.books.leases -= 1;
        state.books.gone += usize::from(phase != Phase::Filling);
        state.books.asked -= grants.asked();
        for pages in lost {
            state.sub_windows[SectionKind::Code].lost(pages);
        }
        grants.for_each(|kind, grant| {
            let taken = state.sub_windows[kind].taken(grant);
            let size = taken.span.size();
            state.books.granted -= size;
            match kind {
                SectionKind::Code | SectionKind::ReadOnlyData if frozen => {
                    state.books.frozen += size; // And the grant is forgotten.
                }
                SectionKind::Code => {
                    state.books.retired += size;
                    state.retired.push(taken);
                }
                _ => state.free(kind, taken, &mut leaving),
            }
        });
        let full = state.retired.len() >= RETIRED || state.books.retired >= RETIRED_BYTES;
        drop(guard);
        if !leaving.is_empty() {
            self.give_back(leaving);
        }
        if full {
            if let Err(error) = self.reclaim() {
                tracing::warn!(%error, "freed code cannot be used again yet");
            }
        }
    }

    /// Whether a child may be running code that was published after so many forks. What is private, a child has a copy of.
    fn is_frozen(&self, forks: u32) -> bool {
        let is_shared = !self.seals() && self.after_fork == AfterFork::Freeze;
        is_shared && forks != sys::fork_count()
    }

    /// Whether code that was published after so many forks can be overwritten as it is.
    pub(super) fn can_overwrite(&self, forks: u32) -> bool {
        !self.seals() && !self.backing.is_inherited() && !self.is_frozen(forks)
    }

    /// Puts traps in the place of code that was dropped, or gives its pages back, and says which.
    #[inline(never)] // Mostly there is nothing to do: a lease that became an object has done it.
    fn disarm(&self, grants: &Grants) -> Vec<Span> {
        let mut lost = Vec::new();
        for (kind, grant) in grants.all() {
            if kind != SectionKind::Code {
                continue;
            }
            let own = self.lock().sub_windows[kind].span(grant);
            let span = self.in_window(kind, own);
            if self.seals() {
                let returns_pages = self.capabilities.returns_pages;
                #[allow(unsafe_code)] // Gives pages back.
                // SAFETY: whole pages of a lease that is gone.
                let discarded = returns_pages && unsafe { self.backing.discard(span) }.is_ok();
                if discarded {
                    lost.push(own);
                    continue;
                }
                #[allow(unsafe_code)] // Changes permissions.
                // SAFETY: the same pages.
                if let Err(error) = unsafe { self.backing.unseal(span) } {
                    tracing::warn!(%error, "code that was dropped stays executable");
                    continue;
                }
            }
            self.overwrite(span);
        }
        lost
    }

    /// Puts traps in the place of code of a lease that is going, and which is writable.
    #[inline]
    pub(super) fn overwrite(&self, code: Span) {
        #[allow(unsafe_code)] // Writes to it.
        // SAFETY: its lease is going, and it is writable: where permissions change, it was just unsealed.
        unsafe {
            self.clear(SectionKind::Code, code);
        }
        let (write, run) = (self.backing.write_pointer(code), self.backing.pointer(code));
        #[allow(unsafe_code)] // Cache maintenance by address.
        // SAFETY: two addresses of one span, which nobody else has; readable in every state.
        unsafe {
            icache::make_coherent(write.as_ptr(), run.as_ptr(), code.size());
        }
    }

    /// What never became an object gets its final permission as well, without what was written: neighbours then are one
    /// mapping, whatever comes behind.
    #[inline(never)]
    fn settle(&self, grants: &Grants) {
        let mut own: Vec<(SectionKind, Span)> = {
            let state = self.lock();
            let span = |(kind, grant)| (kind, state.sub_windows[kind].span(grant));
            grants.all().map(span).collect()
        };
        // Where sealing failed and could not be undone, its code may still be executable: then `disarm` has to do without.
        own.retain_mut(|(kind, span)| {
            *span = self.in_window(*kind, *span);
            if *kind != SectionKind::Code {
                return true;
            }
            #[allow(unsafe_code)] // Changes permissions.
            // SAFETY: whole pages of a lease that is gone and never became an object.
            let is_writable = unsafe { self.backing.unseal(*span) }.is_ok();
            if is_writable {
                self.overwrite(*span);
            }
            is_writable
        });
        if let Err(error) = self.seal(own) {
            tracing::warn!(%error, "pages that were dropped stay writable");
        }
    }

    /// Makes freed code usable again.
    #[cold]
    pub(super) fn reclaim(&self) -> Result<(), Error> {
        let retired = std::mem::take(&mut self.lock().retired);
        // Where permissions change, code becomes writable before it is used again, and the system interrupts all cores for it.
        let forgotten = if self.seals() {
            Ok(())
        } else {
            icache::forget_freed_code()
        };
        let mut leaving = Leaving::new();
        let mut state = self.lock();
        if forgotten.is_ok() {
            for mut taken in retired {
                // It was overwritten when it was dropped. Where permissions change, pages may have gone back instead.
                taken.holds_traps = !self.seals();
                state.books.retired -= taken.span.size();
                state.free(SectionKind::Code, taken, &mut leaving);
            }
        } else {
            state.retired.extend(retired);
        }
        self.tell(&state);
        drop(state);
        self.give_back(leaving);
        forgotten.map_err(|source| Error::Barrier { source })
    }

    /// Gives pages back to the system.
    #[cold]
    pub(super) fn give_back(&self, leaving: Leaving) {
        for (kind, returning) in leaving {
            #[allow(unsafe_code)] // Gives pages back.
            // SAFETY: nobody has a byte on them: their spans were freed, and are held back meanwhile.
            let went = unsafe { self.backing.discard(self.in_window(kind, returning.pages)) };
            if let Err(error) = &went {
                tracing::debug!(%error, "free pages stay");
            }
            let mut state = self.lock();
            state.books.moving -= returning.pages.size();
            state.sub_windows[kind].returned(returning, went.is_ok());
            self.tell(&state);
        }
    }

    /// Tells who waits that memory became free.
    pub(super) fn tell(&self, state: &State) {
        if state.waiting > 0 {
            self.moved.notify_all(); // A system call, so not without need.
        }
    }
}
