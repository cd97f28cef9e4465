//! An image: what reservations become when they are finalized. It owns the memory that code runs from.
//!
//! Law: an image is complete or does not exist. Whatever fails on the way to it leaves nothing executable.

use std::any::Any;
use std::num::NonZero;
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::{fmt, mem, slice};

use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::kind::SectionKind;
use crate::memory::{Memory, Section};
use crate::num::Address;
use crate::reservation::{Content, Reservation};
use crate::unwind::Frames;

/// Code that can run, and the data that it refers to: one or more finalized reservations.
///
/// Dropping it deregisters its unwind tables and gives the memory back. Whoever calls into it keeps it alive meanwhile.
#[derive(Default)]
pub struct Image {
    /// Invariant: sorted by reservation, each there once.
    parts: Parts,
}

/// Nearly always one, which needs no room of its own: there may be a million images.
enum Parts {
    One(Part),
    Many(Vec<Part>),
}

/// One finalized reservation. Fields drop in their order: nobody unwinds through memory that is gone.
pub(crate) struct Part {
    reservation: ReservationId,
    _frames: Option<Box<Frames>>,
    owner: Owner,
}

/// Who owns the memory of a part.
enum Owner {
    /// This crate.
    Memory(Memory),
    /// A foreign memory manager.
    Foreign(Box<Foreign>),
}

struct Foreign {
    sections: Vec<ForeignSection>,
    _owner: Box<dyn Any + Send + Sync>,
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
        let owner = Owner::Foreign(Box::new(Foreign {
            sections,
            _owner: owner,
        }));
        Self {
            parts: Parts::One(Part {
                reservation,
                _frames: None,
                owner,
            }),
        }
    }

    /// An image of one reservation.
    #[inline]
    pub(crate) fn one(part: Part) -> Self {
        Self {
            parts: Parts::One(part),
        }
    }

    /// An image of several, in the order in which they were made.
    pub(crate) fn many(parts: Vec<Part>) -> Self {
        Self {
            parts: Parts::Many(parts),
        }
    }

    /// The reservations that it is made of, in the order in which they were made.
    pub fn reservations(&self) -> impl ExactSizeIterator<Item = ReservationId> {
        self.parts.all().iter().map(|part| part.reservation)
    }

    /// All sections, reservation by reservation, in the order in which they were allocated.
    pub fn sections(&self) -> impl Iterator<Item = ImageSection> {
        self.parts
            .all()
            .iter()
            .flat_map(|part| (0..part.len()).filter_map(|index| part.section(index)))
    }

    /// A section.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    #[inline]
    pub fn section(&self, id: SectionId) -> Result<ImageSection, Error> {
        let part = self
            .find(id.reservation())
            .ok()
            .and_then(|at| self.parts.all()[at].section(id.index()));
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
        let mut parts = mem::take(&mut self.parts).into_vec();
        let part = parts.remove(at);
        self.parts = Parts::Many(parts);
        Ok(Self {
            parts: Parts::One(part),
        })
    }

    /// Adds all that `other` owns.
    pub fn join(&mut self, other: Self) {
        let mut parts = mem::take(&mut self.parts).into_vec();
        parts.extend(other.parts.into_vec());
        parts.sort_by_key(|part| part.reservation);
        self.parts = Parts::Many(parts);
    }

    /// Keeps the memory for as long as the process lives.
    pub fn leak(self) {
        for part in self.parts.into_vec() {
            tracing::debug!(reservation = ?part.reservation, "leaked");
            mem::forget(part);
        }
    }

    fn find(&self, reservation: ReservationId) -> Result<usize, usize> {
        self.parts
            .all()
            .binary_search_by_key(&reservation, |part| part.reservation)
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Parts {
    fn all(&self) -> &[Part] {
        match self {
            Self::One(part) => slice::from_ref(part),
            Self::Many(parts) => parts,
        }
    }

    fn into_vec(self) -> Vec<Part> {
        match self {
            Self::One(part) => vec![part],
            Self::Many(parts) => parts,
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sections()).finish()
    }
}

impl Part {
    /// What a reservation becomes that was published, and what it leaves behind.
    #[inline]
    pub(crate) fn new(published: Reservation) -> (Self, Box<Content>) {
        let (reservation, mut memory, content) = published.into_parts();
        tracing::debug!(?reservation, "finalized");
        let mut frames: Option<Box<Frames>> = None;
        for (table, entries) in &content.tables {
            let start = memory.pointer(*table);
            #[allow(unsafe_code)] // Hands the table to the unwinder.
            // SAFETY: the table is in this memory, checked to have these entry points, true of its code by the contract of
            // `register_eh_frames`, where nobody writes from here on; the part that owns both drops the frames first.
            unsafe {
                frames.get_or_insert_default().register(start, entries);
            }
        }
        memory.publish(&content.arenas);
        let part = Self {
            reservation,
            _frames: frames,
            owner: Owner::Memory(memory),
        };
        (part, content)
    }

    fn len(&self) -> usize {
        match &self.owner {
            Owner::Memory(memory) => memory.section_count(),
            Owner::Foreign(foreign) => foreign.sections.len(),
        }
    }

    #[inline]
    fn section(&self, index: usize) -> Option<ImageSection> {
        let (kind, start, size) = match &self.owner {
            Owner::Memory(memory) => {
                let Section { kind, span, .. } = memory.section(index)?;
                (kind, memory.pointer(span), span.size())
            }
            Owner::Foreign(foreign) => {
                let section = foreign.sections.get(index)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_an_object_in_a_window_is_small() {
        // There may be a million of them. Up to four sections are inside.
        assert_eq!(size_of::<Image>(), 96);
    }
}
