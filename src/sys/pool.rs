//! One memory at one address, whose pages change their permission: the portable way.
//!
//! To Linux neighbouring mappings are one if they agree in everything, also in where it keeps their anonymous pages. So one page
//! is touched while the whole pool is one mapping: its parts then agree for ever (`mm/vma.c`, `anon_vma`), and flipping pages
//! in any order leaves a few mappings behind and not thousands.

use std::io;
use std::ptr::NonNull;

use super::{
    Block, ForkMark, Permission, bti, failed, fault, page_size, pages, protect, took_back,
};
use crate::error::Error;
use crate::layout::{GUARD, UNIT, WindowPlan};
use crate::num::{Address, Span};

/// See the head of this file. Spans count from the window's offset 0.
#[derive(Debug)]
pub(crate) struct Pool {
    block: Block,
    landing_pads: bool,
    /// Whether pages can be fetched in advance. Else they come at the first touch, as private memory may: it never raises
    /// SIGBUS.
    populates: bool,
    returns_pages: bool,
    mark: ForkMark,
}

impl Pool {
    /// Maps what `plan` says, readable and writable but for the guards. What becomes executable also gets `executable`, the
    /// protection bits of landing pads.
    ///
    /// # Errors
    ///
    /// [`Error::System`]. Nothing is mapped then.
    pub(crate) fn map(plan: &WindowPlan, executable: Option<u32>) -> Result<Self, Error> {
        let mut pool = Self {
            block: Block::map(plan.size, GUARD, UNIT)?,
            landing_pads: executable.is_some(),
            populates: true,
            returns_pages: true,
            mark: ForkMark::new()?,
        };
        let all = Span::sized(0, plan.size).expect("a window's size is a number");
        let start = pool.pointer(all);
        // SAFETY: whole pages of our own.
        unsafe { pages::avoid_huge_pages(start, plan.size) };
        // SAFETY: readable and writable from birth, and nobody else knows of it.
        unsafe { start.write_volatile(0) };
        let first_page = Span::sized(0, page_size().bytes()).expect("a number");
        pool.populates = match pool.commit(first_page) {
            Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::Unsupported => {
                false
            }
            other => other.map(|()| true)?,
        };
        pool.execute_once(first_page)?;
        // SAFETY: nobody knows of the page yet. What it was touched for stays.
        let discarded = unsafe { pool.discard(first_page) };
        pool.returns_pages = took_back(discarded)?;
        let mut guards_from = 0;
        for (_, arena) in plan.arenas.iter() {
            let guard = Span::new(guards_from, arena.start()).expect("ascending");
            // SAFETY: nothing is in a guard.
            unsafe { pool.protect(guard, Permission::None)? };
            guards_from = arena.end();
        }
        let last = Span::new(guards_from, plan.size).expect("ascending");
        // SAFETY: as above.
        unsafe { pool.protect(last, Permission::None)? };
        Ok(pool)
    }

    /// Makes pages executable for a moment: a system that lets nothing writable become so is found out before anybody writes.
    fn execute_once(&self, pages: Span) -> Result<(), Error> {
        for permission in [Permission::ReadExecute, Permission::ReadWrite] {
            // SAFETY: nobody knows of them yet.
            unsafe { self.protect(pages, permission)? };
        }
        Ok(())
    }

    /// Where the window's offset 0 is.
    pub(crate) fn address(&self) -> Address {
        self.block.address()
    }

    /// Addresses that it takes, in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.block.mapped()
    }

    /// Whether this process has it by `fork` only.
    pub(crate) fn is_inherited(&self) -> bool {
        self.mark.is_inherited()
    }

    /// Whether [`discard`](Self::discard) does anything.
    pub(crate) fn returns_pages(&self) -> bool {
        self.returns_pages
    }

    /// Where `span` is.
    pub(crate) fn pointer(&self, span: Span) -> NonNull<u8> {
        self.block.pointer(span)
    }

    /// Gives whole pages another permission.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    ///
    /// # Safety
    ///
    /// No reference leads into them, and nobody uses them in a way that the new permission forbids.
    pub(crate) unsafe fn protect(&self, pages: Span, permission: Permission) -> Result<(), Error> {
        let start = self.pointer(pages);
        if permission == Permission::ReadExecute && self.landing_pads {
            return fault::check()
                // SAFETY: whole pages of our own, and the contract is the same.
                .and_then(|()| unsafe { bti::protect_executable(start, pages.size()) })
                .map_err(failed("mprotect to r-x with BTI", pages.size()));
        }
        // SAFETY: as above.
        unsafe { protect(start, pages.size(), permission) }
    }

    /// Fetches the memory of whole writable pages, where the system can be asked to.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub(crate) fn commit(&self, pages: Span) -> Result<(), Error> {
        if !self.populates {
            return Ok(());
        }
        fault::check()
            // SAFETY: whole pages of our own.
            .and_then(|()| unsafe { pages::populate(self.pointer(pages), pages.size()) })
            .map_err(failed("madvise(MADV_POPULATE_WRITE)", pages.size()))
    }

    /// Gives the memory of whole pages back, whatever their permission, where the system takes it. They read as zero then.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    ///
    /// # Safety
    ///
    /// Nobody needs what is on them any more.
    pub(crate) unsafe fn discard(&self, pages: Span) -> Result<(), Error> {
        fault::check()
            // SAFETY: whole pages of our own, that nobody needs.
            .and_then(|()| unsafe { pages::release(self.pointer(pages), pages.size()) })
            .map_err(failed("madvise(MADV_DONTNEED)", pages.size()))
    }
}
