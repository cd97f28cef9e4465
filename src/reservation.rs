//! A reservation: one contiguous block that one object fills, before any of it can run.
//!
//! Law: what a reservation has left over is its own. It is never served to another object, so the bug of the stale free list (an
//! object's code in a new block, its GOT in the tail of an old one, gigabytes away) cannot be written down here.

use std::ptr::NonNull;

use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::image::{FinalizeError, Image, finalize};
use crate::kind::{PerKind, SectionKind};
use crate::layout::{AllocationSpace, Arena, BlockPlan, SectionRequest};
use crate::num::{Address, Span};
use crate::reach::Reach;
use crate::stats::{Account, Ledger, Stats};
use crate::sys::{self, Block, Permission};
use crate::{icache, trap, unwind};

/// Where dedicated blocks come from: one mapping of its own for each reservation.
///
/// Clones share their [statistics](Self::stats).
#[derive(Clone, Debug, Default)]
pub struct DedicatedBlocks {
    reach: Reach,
    headroom: PerKind<usize>,
    ledger: Ledger,
}

impl DedicatedBlocks {
    /// Blocks of at most [`Reach::PREL32`], without headroom.
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks of at most `reach`.
    pub fn with_reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Blocks with `bytes` more of each kind than announced, for hosts that announce too little.
    ///
    /// LLVM's RuntimeDyld does so on x86-64, where it counts no GOT slot for calls through the PLT.
    pub fn with_headroom(mut self, bytes: PerKind<usize>) -> Self {
        self.headroom = bytes;
        self
    }

    /// Maps a block with room for all of `space`.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`], [`Error::SpanTooLarge`], [`Error::System`], [`Error::Barrier`]. Nothing is mapped then.
    pub fn reserve(&self, space: &AllocationSpace<'_>) -> Result<Reservation, Error> {
        let plan = BlockPlan::new(space, &self.headroom, sys::page_size(), self.reach)?;
        icache::prepare().map_err(|source| Error::Barrier { source })?;
        let block = Block::map(plan.size, plan.anchor, plan.align)?;
        let id = ReservationId::unique();
        tracing::debug!(reservation = ?id, address = %block.address(), size = block.size(), "reserved");
        let mappings = usize::from(block.mapped() > 0);
        let entry = Stats {
            in_flight: 1,
            reserved: block.mapped(),
            mappings,
            ..Stats::default()
        };
        let mut slots = plan.slots;
        let mut arena = |kind| Arena::new(plan.arenas[kind], std::mem::take(&mut slots[kind]));
        Ok(Reservation {
            id,
            arenas: PerKind::new(
                arena(SectionKind::Code),
                arena(SectionKind::ReadOnlyData),
                arena(SectionKind::ReadWriteData),
            ),
            block,
            sections: Vec::new(),
            eh_frames: Vec::new(),
            tables: Vec::new(),
            account: Account::open(&self.ledger, entry),
        })
    }

    /// What all reservations from here and from clones, and the images made of them, have in use.
    pub fn stats(&self) -> Stats {
        self.ledger.total()
    }
}

/// A section that has its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    /// In the block, without a terminator.
    pub(crate) span: Span,
    /// Bytes of zeros behind it.
    terminator: u8,
}

impl Section {
    /// With its terminator.
    fn footprint(self) -> Span {
        let size = self.span.size() + usize::from(self.terminator);
        Span::sized(self.span.start(), size).expect("a section lies inside its block")
    }
}

/// Memory that is being filled: owned, writable, not executable.
///
/// [`finalize`](Self::finalize) turns it into an [`Image`]; dropping it gives the memory back.
#[derive(Debug)]
pub struct Reservation {
    id: ReservationId,
    arenas: PerKind<Arena>,
    block: Block,
    /// Invariant: the spans lie in their kind's arena, apart from each other, on pages that are readable and writable.
    sections: Vec<Section>,
    /// Indices of sections that hold unwind tables to register.
    eh_frames: Vec<usize>,
    /// Where these tables are, and their records; empty until they were checked.
    tables: Vec<(Span, Vec<unwind::Record>)>,
    account: Account,
}

impl Reservation {
    /// Its name, which is part of its sections' names.
    pub fn id(&self) -> ReservationId {
        self.id
    }

    /// A section, in the place announced for it, or else in what the plan, rounding and headroom leave over.
    ///
    /// Data is zero at first, code is filled with traps.
    ///
    /// # Errors
    ///
    /// [`Error::ReservationExhausted`], [`Error::SizeOverflow`]. Nothing changed.
    pub fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        let size = request.footprint()?;
        let arena = &mut self.arenas[request.kind()];
        let before = arena.pages_in_use();
        let origin = self.block.address().get() as usize;
        let page = sys::page_size();
        let footprint = arena
            .allocate(size, request.align(), origin, page)
            .map_err(|available| Error::ReservationExhausted {
                section: request.name().into(),
                kind: request.kind(),
                requested: size,
                align: request.align(),
                available,
            })?;
        let after = arena.pages_in_use();
        let (_, fresh) = after
            .split_at(before.end())
            .expect("pages in use only become more");
        if request.kind() == SectionKind::Code {
            trap::fill(self.bytes_mut(fresh));
        }
        let span = Span::sized(footprint.start(), request.size())
            .expect("a section is smaller than its footprint");
        let (_, terminator) = footprint
            .split_at(span.end())
            .expect("it ends the footprint");
        self.bytes_mut(terminator).fill(0);

        let section = Section {
            kind: request.kind(),
            span,
            terminator: request.terminator(),
        };
        self.sections.push(section);
        self.account.update(|entry| {
            entry.asked += size;
            entry.committed += fresh.size();
        });
        Ok(SectionId::new(self.id, self.sections.len() - 1))
    }

    /// The bytes of a section, to fill.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    pub fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        let span = self.section(id)?.span;
        Ok(self.bytes_mut(span))
    }

    /// Where to write a section from foreign code. Valid until the reservation is finalized or dropped.
    ///
    /// Whoever writes through it must not do so while a slice from [`section_mut`](Self::section_mut) is borrowed.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    pub fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error> {
        Ok(self.block.pointer(self.section(id)?.span))
    }

    /// Where a section will be when its code runs: what relocations compute with.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    pub fn address(&self, id: SectionId) -> Result<Address, Error> {
        Ok(self
            .block
            .address()
            .wrapping_add(self.section(id)?.span.start() as u64))
    }

    /// Asks for the unwind table in section `id` to be registered when the reservation is finalized, and deregistered when
    /// the image goes. Asking twice is asking once.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`]; [`Error::Unsupported`] where the system has no such tables.
    ///
    /// # Safety
    ///
    /// When the reservation is finalized, the section holds unwind information that is true of the code it speaks of. Its
    /// structure is checked then, the meaning of its records cannot be.
    #[allow(unsafe_code)] // Declares what the caller promises.
    pub unsafe fn register_eh_frames(&mut self, id: SectionId) -> Result<(), Error> {
        self.section(id)?;
        if !unwind::SUPPORTED {
            return Err(Error::Unsupported("registration of .eh_frame tables"));
        }
        if !self.eh_frames.contains(&id.index()) {
            self.eh_frames.push(id.index());
        }
        Ok(())
    }

    /// Makes code executable and read-only data read-only, and the caches coherent on every core.
    ///
    /// # Errors
    ///
    /// [`Error::System`], [`Error::InvalidEhFrame`], with the reservation inside: nothing is executable, and what was written
    /// is still there.
    pub fn finalize(self) -> Result<Image, FinalizeError> {
        let mut reservations = vec![self];
        finalize(&mut reservations).map_err(|error| FinalizeError::new(error, reservations.pop()))
    }

    fn section(&self, id: SectionId) -> Result<Section, Error> {
        let known = self
            .sections
            .get(id.index())
            .filter(|_| id.reservation() == self.id);
        known.copied().ok_or_else(|| Error::UnknownSection(id))
    }

    /// `span` lies in a section or on fresh pages of an arena.
    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        #[allow(unsafe_code)] // Reads and writes the block.
        // SAFETY: a reservation's pages are readable and writable; only `seal` changes that, and it is undone or the
        // reservation is consumed before anybody else can get here.
        unsafe {
            self.block.bytes_mut(span)
        }
    }

    /// Reads the unwind tables that are to be registered, while that can still be refused.
    pub(crate) fn check_unwind_tables(&mut self) -> Result<(), Error> {
        self.tables.clear();
        for index in 0..self.eh_frames.len() {
            let index = self.eh_frames[index];
            let table = self.sections[index].footprint();
            let records = unwind::records(self.bytes_mut(table)).map_err(|malformed| {
                let section = SectionId::new(self.id, index);
                Error::InvalidEhFrame {
                    section,
                    offset: malformed.offset,
                    reason: malformed.reason,
                }
            })?;
            self.tables.push((table, records));
        }
        Ok(())
    }

    /// The pages that hold code.
    pub(crate) fn code(&self) -> Span {
        self.arenas[SectionKind::Code].pages_in_use()
    }

    /// The pages from the end of the code to the end of the read-only data. Where a plan left whole pages of code unused,
    /// they become readable only: nothing that was never written can run.
    fn constants(&self) -> Span {
        let end = self.arenas[SectionKind::ReadOnlyData].span().end();
        Span::new(self.code().end(), end).expect("read-only data comes after code")
    }

    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// Gives the pages their final permissions: two system calls at most.
    ///
    /// On failure some may have changed: [`unseal`](Self::unseal) comes next.
    pub(crate) fn seal(&mut self) -> Result<(), Error> {
        self.block.protect(self.constants(), Permission::Read)?;
        // Last, so that nothing is ever executable that is not also complete.
        self.block.protect(self.code(), Permission::ReadExecute)
    }

    /// Makes all pages writable again. A reservation for which this fails must be dropped, so that nothing of it stays
    /// executable.
    pub(crate) fn unseal(&mut self) -> Result<(), Error> {
        let pages = Span::new(
            self.arenas[SectionKind::Code].span().start(),
            self.constants().end(),
        );
        self.block.protect(
            pages.expect("read-only data comes after code"),
            Permission::ReadWrite,
        )
    }

    /// What an image keeps of a sealed reservation.
    pub(crate) fn into_sealed(self) -> Sealed {
        let Self {
            id,
            arenas,
            block,
            sections,
            eh_frames: _,
            tables,
            mut account,
        } = self;
        let code = arenas[SectionKind::Code].pages_in_use();
        let constants = arenas[SectionKind::ReadOnlyData].span().end() > code.end();
        let variables = block.size() > arenas[SectionKind::ReadOnlyData].span().end();
        account.update(|entry| {
            entry.in_flight = 0;
            entry.objects = 1;
            // What alignment left over in front stays writable, and so does what is behind, one mapping with the variables.
            let (before, behind) = block.slack();
            entry.mappings = [
                before > 0,
                !code.is_empty(),
                constants,
                variables || behind > 0,
            ]
            .into_iter()
            .map(usize::from)
            .sum();
        });
        Sealed {
            id,
            block,
            sections: sections.into_boxed_slice(),
            tables,
            account,
        }
    }
}

/// A reservation whose pages have their final permissions.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) id: ReservationId,
    pub(crate) block: Block,
    pub(crate) sections: Box<[Section]>,
    /// Unwind tables to register: where they are, and their records.
    pub(crate) tables: Vec<(Span, Vec<unwind::Record>)>,
    pub(crate) account: Account,
}
