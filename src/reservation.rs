//! A reservation: memory that one object fills, all of it in reach of all of it, before any of it can run.
//!
//! Law: what a reservation has left over is its own. It is never served to another object, so the bug of the stale free list (an
//! object's code in a new block, its GOT in the tail of an old one, gigabytes away) cannot be written down here.

use std::ptr::NonNull;

use smallvec::SmallVec;

use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::image::{FinalizeError, Image, Part};
use crate::kind::{PerKind, SectionKind};
use crate::layout::{AllocationSpace, Arena, Arenas, Extent, SectionRequest, Slots};
use crate::memory::{self, Memory, Section};
use crate::num::{Address, Span};
use crate::{icache, unwind};

/// Memory that is being filled: owned, writable, and not yet to be executed.
///
/// [`finalize`](Self::finalize) turns it into an [`Image`]; dropping it gives the memory back.
#[derive(Debug)]
pub struct Reservation {
    id: ReservationId,
    /// Invariant: not sealed, except while it is published.
    memory: Memory,
    /// Boxed, since reservations are moved about while they are filled.
    content: Box<Content>,
}

/// What lies where in a reservation's memory.
#[derive(Debug)]
pub(crate) struct Content {
    slots: Slots,
    pub(crate) arenas: Arenas,
    /// How many sections were announced.
    announced: usize,
    /// Indices of sections that hold unwind tables to register.
    eh_frames: SmallVec<[usize; 1]>,
    /// Where these tables are, and their entry points; empty until they were checked.
    pub(crate) tables: SmallVec<[(Span, unwind::EntryPoints); 1]>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            arenas: Arenas::EMPTY,
            announced: 0,
            eh_frames: SmallVec::new(),
            tables: SmallVec::new(),
        }
    }
}

impl Content {
    /// Plans it, which is empty, and says what each kind needs for that.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`].
    pub(crate) fn plan(&mut self, space: &AllocationSpace<'_>) -> Result<PerKind<Extent>, Error> {
        let extents = space.pack(&mut self.slots)?;
        self.announced = match space {
            AllocationSpace::Sections(list) => list.len(),
            AllocationSpace::Totals(_) => 0,
        };
        Ok(extents)
    }

    /// The same room without content, for the next reservation; `None` if it is more than most need.
    pub(crate) fn emptied(mut self: Box<Self>) -> Option<Box<Self>> {
        if self.slots.spilled() {
            return None;
        }
        self.slots.clear();
        self.eh_frames.clear();
        self.tables.clear();
        Some(self)
    }
}

impl Reservation {
    /// `arenas` lie in `memory`, with room for what was planned.
    #[inline]
    pub(crate) fn new(
        mut content: Box<Content>,
        arenas: PerKind<Span>,
        mut memory: Memory,
    ) -> Self {
        let id = ReservationId::unique();
        tracing::debug!(reservation = ?id, address = %memory.address(), ?arenas, "reserved");
        let arena = |kind| Arena::new(arenas[kind], content.slots.end(kind));
        let arenas = PerKind::new(
            arena(SectionKind::Code),
            arena(SectionKind::ReadOnlyData),
            arena(SectionKind::ReadWriteData),
        );
        content.arenas.set(arenas);
        memory.expect_sections(content.announced);
        Self {
            id,
            memory,
            content,
        }
    }

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
    /// [`Error::ReservationExhausted`], [`Error::SizeOverflow`]; in a window, what [`Window::reserve`](crate::Window::reserve)
    /// says. Nothing changed.
    #[inline]
    pub fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        let size = request.footprint()?;
        let content = &mut *self.content;
        let announced = content.slots.claim(request.kind(), size, request.align());
        let arenas = &mut content.arenas;
        #[allow(unsafe_code)] // Fills fresh code with traps.
        // SAFETY: not sealed, by the invariant of `memory`.
        let place = unsafe { self.memory.place(arenas, announced, request, size)? };
        if request.terminator() > 0 {
            let terminator = Span::new(place.start() + request.size(), place.end());
            let terminator = terminator.expect("the rest of it");
            self.bytes_mut(terminator).fill(0);
        }
        Ok(SectionId::new(self.id, self.memory.section_count() - 1))
    }

    /// The bytes of a section, to fill.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`]; [`Error::InheritedWindow`] in a child of `fork`.
    #[inline]
    pub fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        let span = self.section(id)?.span;
        self.memory.check_own()?;
        Ok(self.bytes_mut(span))
    }

    /// Where to write a section from foreign code. Valid until the reservation is finalized or dropped.
    ///
    /// Whoever writes through it must not do so while a slice from [`section_mut`](Self::section_mut) is borrowed.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`]; [`Error::InheritedWindow`] in a child of `fork`.
    pub fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error> {
        let span = self.section(id)?.span;
        self.memory.check_own()?;
        Ok(self.memory.write_pointer(span))
    }

    /// Where a section will be when its code runs: what relocations compute with.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    pub fn address(&self, id: SectionId) -> Result<Address, Error> {
        let start = self.section(id)?.span.start();
        Ok(self.memory.address().wrapping_add(start as u64))
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
        if !self.content.eh_frames.contains(&id.index()) {
            self.content.eh_frames.push(id.index());
        }
        Ok(())
    }

    /// Makes code executable and read-only data read-only, and the caches coherent on every core.
    ///
    /// # Errors
    ///
    /// [`Error::System`], [`Error::Barrier`], [`Error::InvalidEhFrame`], [`Error::InheritedWindow`], with the reservation inside: nothing is executable,
    /// and what was written is still there.
    pub fn finalize(mut self) -> Result<Image, FinalizeError> {
        match publish(std::slice::from_mut(&mut self)) {
            Ok(()) => Ok(Image::one(Part::new(self).0)),
            Err(error) => {
                let kept = self.unseal().is_ok().then_some(self);
                Err(FinalizeError::new(error, kept))
            }
        }
    }

    fn section(&self, id: SectionId) -> Result<Section, Error> {
        let known = self.memory.section(id.index());
        known
            .filter(|_| id.reservation() == self.id)
            .ok_or_else(|| Error::UnknownSection(id))
    }

    /// `span` lies in a section.
    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        #[allow(unsafe_code)] // Reads and writes the memory.
        // SAFETY: not sealed, by the invariant of `memory`.
        unsafe {
            self.memory.bytes_mut(span)
        }
    }

    /// Reads the unwind tables that are to be registered, while that can still be refused.
    fn check_unwind_tables(&mut self) -> Result<(), Error> {
        self.content.tables.clear();
        for index in 0..self.content.eh_frames.len() {
            let index = self.content.eh_frames[index];
            let table = self.memory.section(index).expect("it was asked for");
            let table = table.footprint();
            let entries = unwind::entry_points(self.bytes_mut(table)).map_err(|malformed| {
                let section = SectionId::new(self.id, index);
                Error::InvalidEhFrame {
                    section,
                    offset: malformed.offset,
                    reason: malformed.reason,
                }
            })?;
            self.content.tables.push((table, entries));
        }
        Ok(())
    }

    /// Makes all of it writable again, after a publication that failed. Where the system refuses, the reservation must be
    /// dropped, so that nothing of it stays executable.
    pub(crate) fn unseal(&mut self) -> Result<(), Error> {
        self.memory.unseal(&self.content.arenas)
    }

    /// What an image is made of.
    pub(crate) fn into_parts(self) -> (ReservationId, Memory, Box<Content>) {
        (self.id, self.memory, self.content)
    }
}

/// Makes the code of reservations executable on every core, or of none: permissions first, then caches.
///
/// On failure each of them must be [unsealed](Reservation::unseal) or dropped.
pub(crate) fn publish(reservations: &mut [Reservation]) -> Result<(), Error> {
    if reservations.is_empty() {
        return Ok(());
    }
    for reservation in reservations.iter_mut() {
        reservation.memory.check_own()?;
        reservation.check_unwind_tables()?;
    }
    let memories = reservations.iter_mut();
    memory::seal(
        memories.map(|reservation| (&mut reservation.memory, &reservation.content.arenas)),
    )?;
    for reservation in reservations.iter() {
        let code = reservation.content.arenas.code();
        code.for_each(|code| reservation.memory.make_coherent(code));
    }
    icache::synchronize_cores().map_err(|source| Error::Barrier { source })
}
