//! An image: what reservations become when they are finalized. It owns the memory that code runs from.
//!
//! Law: an image is complete or does not exist. Whatever fails on the way to it leaves nothing executable.

use std::any::Any;
use std::fmt;
use std::num::NonZero;
use std::ptr::{NonNull, with_exposed_provenance_mut};

use crate::error::Error;
use crate::icache;
use crate::id::{ReservationId, SectionId};
use crate::kind::SectionKind;
use crate::num::Address;
use crate::reservation::{Reservation, Sealed, Section};
use crate::stats::Account;
use crate::sys::Block;
use crate::unwind::Frames;

/// Code that can run, and the data that it refers to: one or more finalized reservations.
///
/// Dropping it deregisters its unwind tables and gives the memory back. Whoever calls into it keeps it alive meanwhile.
#[derive(Default)]
pub struct Image {
    /// Invariant: sorted by reservation, each there once.
    parts: Vec<Part>,
}

/// One finalized reservation. Fields drop in their order: nobody unwinds through memory that is gone.
struct Part {
    reservation: ReservationId,
    _frames: Frames,
    memory: Memory,
}

enum Memory {
    /// A block of this crate's.
    Block {
        block: Block,
        sections: Box<[Section]>,
        _account: Account,
    },
    /// A foreign memory manager's.
    Foreign {
        sections: Vec<ForeignSection>,
        _owner: Box<dyn Any + Send + Sync>,
    },
}

/// Where a memory manager outside of this crate has placed a section.
#[derive(Clone, Copy, Debug)]
pub struct ForeignSection {
    kind: SectionKind,
    /// A pointer with its provenance exposed: this room hands it on and never reads through it.
    start: NonZero<usize>,
    size: usize,
}

impl ForeignSection {
    /// `size` bytes from `start`.
    pub fn new(kind: SectionKind, start: NonNull<u8>, size: usize) -> Self {
        let start = NonZero::new(start.as_ptr().expose_provenance());
        Self {
            kind,
            start: start.expect("the pointer is not null"),
            size,
        }
    }

    fn start(&self) -> NonNull<u8> {
        NonNull::new(with_exposed_provenance_mut(self.start.get()))
            .expect("the address is not zero")
    }
}

/// A section of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageSection {
    id: SectionId,
    kind: SectionKind,
    start: NonNull<u8>,
    size: usize,
}

impl ImageSection {
    /// As it was allocated.
    pub const fn id(&self) -> SectionId {
        self.id
    }

    /// What it holds.
    pub const fn kind(&self) -> SectionKind {
        self.kind
    }

    /// Where it lies.
    pub fn address(&self) -> Address {
        Address::new(self.start.as_ptr() as u64)
    }

    /// Where it lies, to call or to read as its kind allows while the image is alive.
    pub const fn pointer(&self) -> NonNull<u8> {
        self.start
    }

    /// In bytes.
    pub const fn size(&self) -> usize {
        self.size
    }
}

impl Image {
    /// An image over memory that a foreign memory manager has finalized: section number `i` of `reservation` is
    /// `sections[i]`, and `owner` gives the memory back when it is dropped.
    ///
    /// # Safety
    ///
    /// The sections stay where they are, with the permissions of their kinds, until `owner` is dropped.
    #[allow(unsafe_code)] // Declares what the caller promises.
    pub unsafe fn from_foreign(
        reservation: ReservationId,
        sections: Vec<ForeignSection>,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Self {
        let memory = Memory::Foreign {
            sections,
            _owner: owner,
        };
        Self {
            parts: vec![Part {
                reservation,
                _frames: Frames::default(),
                memory,
            }],
        }
    }

    /// The reservations that it is made of, in the order in which they were made.
    pub fn reservations(&self) -> impl ExactSizeIterator<Item = ReservationId> {
        self.parts.iter().map(|part| part.reservation)
    }

    /// All sections, reservation by reservation, in the order in which they were allocated.
    pub fn sections(&self) -> impl Iterator<Item = ImageSection> {
        self.parts
            .iter()
            .flat_map(|part| (0..part.len()).filter_map(|index| part.section(index)))
    }

    /// A section.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    pub fn section(&self, id: SectionId) -> Result<ImageSection, Error> {
        let part = self
            .find(id.reservation())
            .ok()
            .and_then(|at| self.parts[at].section(id.index()));
        part.ok_or_else(|| Error::UnknownSection(id))
    }

    /// Where a section is.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    pub fn address(&self, id: SectionId) -> Result<Address, Error> {
        Ok(self.section(id)?.address())
    }

    /// Where a section is, to call or to read as its kind allows while the image is alive. There is no safe way to its bytes:
    /// running code may be using them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    pub fn pointer(&self, id: SectionId) -> Result<NonNull<u8>, Error> {
        Ok(self.section(id)?.pointer())
    }

    /// Takes one reservation out, so that it can be dropped by itself.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownReservation`]. Nothing changed.
    pub fn split(&mut self, reservation: ReservationId) -> Result<Self, Error> {
        let at = self
            .find(reservation)
            .map_err(|_| Error::UnknownReservation(reservation))?;
        Ok(Self {
            parts: vec![self.parts.remove(at)],
        })
    }

    /// Adds all that `other` owns.
    pub fn join(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.parts.sort_by_key(|part| part.reservation);
    }

    /// Keeps the memory for as long as the process lives.
    pub fn leak(self) {
        for part in self.parts {
            tracing::debug!(reservation = ?part.reservation, "leaked");
            std::mem::forget(part);
        }
    }

    fn find(&self, reservation: ReservationId) -> Result<usize, usize> {
        self.parts
            .binary_search_by_key(&reservation, |part| part.reservation)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sections()).finish()
    }
}

impl Part {
    fn len(&self) -> usize {
        match &self.memory {
            Memory::Block { sections, .. } => sections.len(),
            Memory::Foreign { sections, .. } => sections.len(),
        }
    }

    fn section(&self, index: usize) -> Option<ImageSection> {
        let (kind, start, size) = match &self.memory {
            Memory::Block {
                block, sections, ..
            } => {
                let section = sections.get(index)?;
                (
                    section.kind,
                    block.pointer(section.span),
                    section.span.size(),
                )
            }
            Memory::Foreign { sections, .. } => {
                let section = sections.get(index)?;
                (section.kind, section.start(), section.size)
            }
        };
        Some(ImageSection {
            id: SectionId::new(self.reservation, index),
            kind,
            start,
            size,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        tracing::debug!(reservation = ?self.reservation, "unloaded");
    }
}

/// A finalization that failed, and what it was about to finalize.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct FinalizeError {
    #[source]
    error: Error,
    reservation: Option<Box<Reservation>>,
}

impl FinalizeError {
    pub(crate) fn new(error: Error, reservation: Option<Reservation>) -> Self {
        Self {
            error,
            reservation: reservation.map(Box::new),
        }
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The reason, and the reservation as it was before: writable and filled. `None` where the system even refused to make
    /// its pages writable again; its memory was then given back.
    pub fn into_parts(self) -> (Error, Option<Reservation>) {
        (self.error, self.reservation.map(|reservation| *reservation))
    }
}

impl From<FinalizeError> for Error {
    fn from(failed: FinalizeError) -> Self {
        failed.error
    }
}

/// Turns reservations into one image: permissions first, then caches, then unwind tables.
///
/// With no reservation it makes no system call. On failure nothing is executable, and `reservations` are as they were, except
/// those that could not be made writable again: they are gone.
pub(crate) fn finalize(reservations: &mut Vec<Reservation>) -> Result<Image, Error> {
    if reservations.is_empty() {
        return Ok(Image::default());
    }
    for reservation in reservations.iter_mut() {
        reservation.check_unwind_tables()?;
    }
    if let Err(error) = publish(reservations) {
        reservations.retain_mut(|reservation| reservation.unseal().is_ok());
        return Err(error);
    }
    let mut parts = Vec::with_capacity(reservations.len());
    for reservation in reservations.drain(..) {
        let Sealed {
            id,
            block,
            sections,
            tables,
            account,
        } = reservation.into_sealed();
        let mut frames = Frames::default();
        for (table, records) in tables {
            #[allow(unsafe_code)] // Hands the table to the unwinder.
            // SAFETY: the table is in this block, checked to consist of these records, true of its code by the contract of
            // `register_eh_frames`, on pages that nobody writes from here on; the part that owns both drops the frames first.
            unsafe {
                frames.register(block.pointer(table), &records);
            }
        }
        tracing::debug!(reservation = ?id, "finalized");
        let memory = Memory::Block {
            block,
            sections,
            _account: account,
        };
        parts.push(Part {
            reservation: id,
            _frames: frames,
            memory,
        });
    }
    Ok(Image { parts })
}

/// Makes the code of all reservations executable, on every core.
fn publish(reservations: &mut [Reservation]) -> Result<(), Error> {
    for reservation in reservations.iter_mut() {
        reservation.seal()?;
    }
    for reservation in reservations.iter() {
        let code = reservation.code();
        let start = reservation.block().pointer(code).as_ptr();
        #[allow(unsafe_code)] // Cache maintenance by address.
        // SAFETY: the pages of `code` are mapped and readable, since their reservation was just sealed.
        unsafe {
            icache::make_coherent(start, start, code.size());
        }
    }
    icache::synchronize_cores().map_err(|source| Error::Barrier { source })
}
