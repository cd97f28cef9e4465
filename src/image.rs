//! An image: what reservations become when they are finalized. It owns the memory that code runs from.
//!
//! Law: an image is complete or does not exist. Whatever fails on the way to it leaves nothing executable.

use std::any::Any;
use std::fmt;
use std::num::NonZero;
use std::ptr::{NonNull, with_exposed_provenance_mut};

use smallvec::{SmallVec, smallvec};

use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::kind::SectionKind;
use crate::memory::Memory;
use crate::num::Address;
use crate::reservation::{Published, Reservation, Section};
use crate::unwind::Frames;

/// Code that can run, and the data that it refers to: one or more finalized reservations.
///
/// Dropping it deregisters its unwind tables and gives the memory back. Whoever calls into it keeps it alive meanwhile.
#[derive(Default)]
pub struct Image {
    /// Invariant: sorted by reservation, each there once.
    parts: SmallVec<[Part; 1]>,
}

/// One finalized reservation. Fields drop in their order: nobody unwinds through memory that is gone.
struct Part {
    reservation: ReservationId,
    _frames: Frames,
    owner: Owner,
}

/// Who owns the memory of a part.
enum Owner {
    /// This crate.
    Own(Box<Own>),
    /// A foreign memory manager.
    Foreign {
        sections: Vec<ForeignSection>,
        _owner: Box<dyn Any + Send + Sync>,
    },
}

struct Own {
    memory: Memory,
    sections: SmallVec<[Section; 4]>,
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
        let owner = Owner::Foreign {
            sections,
            _owner: owner,
        };
        Self {
            parts: smallvec![Part {
                reservation,
                _frames: Frames::default(),
                owner,
            }],
        }
    }

    /// An image of one reservation.
    pub(crate) fn of(published: Published) -> Self {
        Self {
            parts: smallvec![Part::new(published)],
        }
    }

    /// An image of reservations, in the order in which they were made.
    pub(crate) fn of_all(published: impl Iterator<Item = Published>) -> Self {
        Self {
            parts: published.map(Part::new).collect(),
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
            parts: smallvec![self.parts.remove(at)],
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
    fn new(published: Published) -> Self {
        let Published {
            id,
            memory,
            sections,
            tables,
        } = published;
        let mut frames = Frames::default();
        for (table, records) in tables {
            #[allow(unsafe_code)] // Hands the table to the unwinder.
            // SAFETY: the table is in this memory, checked to consist of these records, true of its code by the contract of
            // `register_eh_frames`, where nobody writes from here on; the part that owns both drops the frames first.
            unsafe {
                frames.register(memory.pointer(table), &records);
            }
        }
        Self {
            reservation: id,
            _frames: frames,
            owner: Owner::Own(Box::new(Own { memory, sections })),
        }
    }

    fn len(&self) -> usize {
        match &self.owner {
            Owner::Own(own) => own.sections.len(),
            Owner::Foreign { sections, .. } => sections.len(),
        }
    }

    fn section(&self, index: usize) -> Option<ImageSection> {
        let (kind, start, size) = match &self.owner {
            Owner::Own(own) => {
                let Section { kind, span, .. } = *own.sections.get(index)?;
                (kind, own.memory.pointer(span), span.size())
            }
            Owner::Foreign { sections, .. } => {
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
    reservation: Option<Reservation>,
}

impl FinalizeError {
    pub(crate) fn new(error: Error, reservation: Option<Reservation>) -> Self {
        Self { error, reservation }
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The reason, and the reservation as it was before: writable and filled. `None` where the system even refused to make
    /// its pages writable again; its memory was then given back.
    pub fn into_parts(self) -> (Error, Option<Reservation>) {
        (self.error, self.reservation)
    }
}

impl From<FinalizeError> for Error {
    fn from(failed: FinalizeError) -> Self {
        failed.error
    }
}
