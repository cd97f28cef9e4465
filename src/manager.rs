//! The protocol between a loader and its memory: LLVM's `RTDyldMemoryManager`, in Rust.
//!
//! The trait says what a loader may rely on; [`SectionMemoryManager`] is a thin shell over [`Reservation`] and [`Image`], which
//! are the policy.

use std::ptr::NonNull;

use crate::dedicated::DedicatedBlocks;
use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::image::{Image, Part};
use crate::layout::{AllocationSpace, SectionRequest};
use crate::num::Address;
use crate::reservation::{Content, Reservation, publish};
use crate::stats::Stats;
use crate::window::Window;

/// A memory manager that is told what an object needs before the first section is allocated.
///
/// A loader goes through these steps, for each object or for several at once:
///
/// | step | method |
/// |---|---|
/// | plan | [`reserve_allocation_space`](Self::reserve_allocation_space) |
/// | allocate | [`allocate_section`](Self::allocate_section) |
/// | fill | [`section_mut`](Self::section_mut) or [`write_pointer`](Self::write_pointer), and [`address`](Self::address) to relocate |
/// | unwind | [`register_eh_frames`](Self::register_eh_frames) |
/// | finish | [`finalize_memory`](Self::finalize_memory), or [`abandon`](Self::abandon) |
/// | unload | drop the [`Image`] |
///
/// A method that fails leaves the manager as it was, except where it says otherwise.
pub trait ReservingMemoryManager: Send {
    /// Reserves contiguous memory for everything in `space`, and makes it the reservation that sections are allocated from.
    ///
    /// What older reservations in flight have left over is never served again; their sections stay writable until they are
    /// finalized. An empty plan has the same effect.
    ///
    /// # Errors
    ///
    /// [`Error::SpanTooLarge`], [`Error::SizeOverflow`], [`Error::System`], [`Error::Barrier`]; in a window, what
    /// [`Window::reserve`] says.
    fn reserve_allocation_space(
        &mut self,
        space: &AllocationSpace<'_>,
    ) -> Result<ReservationId, Error>;

    /// Allocates a section from the newest reservation. Data is zero at first, code is filled with traps.
    ///
    /// What was announced succeeds, as [`AllocationSpace`] says. What was not is served from what rounding and headroom left
    /// over, then in a window from the window, or refused.
    ///
    /// # Errors
    ///
    /// [`Error::NotReserved`], [`Error::ReservationExhausted`], [`Error::SizeOverflow`]; in a window, what [`Window::reserve`]
    /// says.
    fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error>;

    /// The bytes of a section, to fill.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`], also once it is finalized: running code may be using it. [`Error::InheritedWindow`] in a
    /// child of `fork`.
    fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error>;

    /// Where to write a section from foreign code. Valid until its reservation is finalized, abandoned or dropped; not to be
    /// written through while a slice of the section is borrowed.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`], [`Error::InheritedWindow`].
    fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error>;

    /// Where a section will be when its code runs: what relocations compute with. It may differ from where it is written.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`].
    fn address(&self, id: SectionId) -> Result<Address, Error>;

    /// Asks for the unwind table in section `id` to be registered by the next finalization, and deregistered with the image.
    ///
    /// From version 13 on, libgcc wants the ranges of code of registered tables not to overlap. Where several objects share a
    /// reservation their functions lie mixed: make one table of theirs, as [`loader`](crate::loader) does.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`], [`Error::Unsupported`].
    ///
    /// # Safety
    ///
    /// At the next finalization the section holds unwind information that is true of the code it speaks of.
    #[allow(unsafe_code)] // Declares what the caller promises.
    unsafe fn register_eh_frames(&mut self, id: SectionId) -> Result<(), Error>;

    /// Gives up a reservation in flight. Nothing of it ever becomes executable. If it was the newest, there is none until
    /// the next is made.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownReservation`].
    fn abandon(&mut self, reservation: ReservationId) -> Result<(), Error>;

    /// Finalizes all reservations in flight: code becomes executable, read-only data read-only, caches coherent on every core.
    ///
    /// With nothing in flight the image is empty.
    ///
    /// # Errors
    ///
    /// [`Error::System`], [`Error::Barrier`], [`Error::InvalidEhFrame`], [`Error::InheritedWindow`]. Nothing is executable then,
    /// and all reservations are in flight as before, except those whose pages the system refused to make writable again: they are gone.
    fn finalize_memory(&mut self) -> Result<Image, Error>;
}

/// The memory manager: a dedicated block for each reservation, or spans of a window.
#[derive(Debug)]
pub struct SectionMemoryManager {
    source: Source,
    /// Invariant: in the order in which they were made.
    in_flight: Vec<Reservation>,
    /// Invariant: if any, the last one in flight.
    newest: Option<ReservationId>,
    /// Of a reservation that is no more, and empty: the next one takes it.
    spare: Option<Box<Content>>,
}

#[derive(Debug)]
enum Source {
    Blocks(DedicatedBlocks),
    Window(Window),
}

impl SectionMemoryManager {
    /// A manager that maps a dedicated block for each reservation, without headroom, in [`Reach::PREL32`](crate::Reach::PREL32).
    pub fn new() -> Self {
        Self::with_blocks(DedicatedBlocks::new())
    }

    /// A manager over dedicated blocks of another reach or with headroom.
    pub fn with_blocks(blocks: DedicatedBlocks) -> Self {
        Self::with_source(Source::Blocks(blocks))
    }

    /// A manager that takes its memory from a window: sections that were not announced succeed as well, and so does
    /// allocation without a reservation.
    pub fn in_window(window: &Window) -> Self {
        Self::with_source(Source::Window(window.clone()))
    }

    fn with_source(source: Source) -> Self {
        Self {
            source,
            in_flight: Vec::new(),
            newest: None,
            spare: None,
        }
    }

    /// What this manager, all others of the same source, and the images made by them have in use.
    pub fn stats(&self) -> Stats {
        match &self.source {
            Source::Blocks(blocks) => blocks.stats(),
            Source::Window(window) => window.stats(),
        }
    }

    /// A section that nothing was reserved for.
    #[cold]
    fn allocate_unreserved(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        match &self.source {
            Source::Blocks(_) => Err(Error::NotReserved {
                section: request.name().into(),
                size: request.size(),
            }),
            Source::Window(window) => {
                let mut reservation = window.reserve(&AllocationSpace::EMPTY)?;
                let section = reservation.allocate_section(request)?;
                self.newest = Some(reservation.id());
                self.in_flight.push(reservation);
                Ok(section)
            }
        }
    }

    fn of(&self, id: SectionId) -> Result<usize, Error> {
        let found = self
            .in_flight
            .binary_search_by_key(&id.reservation(), Reservation::id);
        found.map_err(|_| Error::UnknownSection(id))
    }
}

impl Default for SectionMemoryManager {
    fn default() -> Self {
        Self::new()
    }
}

impl ReservingMemoryManager for SectionMemoryManager {
    fn reserve_allocation_space(
        &mut self,
        space: &AllocationSpace<'_>,
    ) -> Result<ReservationId, Error> {
        let content = self.spare.take().unwrap_or_default();
        let reservation = match &self.source {
            Source::Blocks(blocks) => blocks.reserve_with(content, space)?,
            Source::Window(window) => window.reserve_with(content, space)?,
        };
        let id = reservation.id();
        self.in_flight.push(reservation);
        self.newest = Some(id);
        Ok(id)
    }

    fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        if self.newest.is_none() {
            return self.allocate_unreserved(request);
        }
        let newest = self.in_flight.last_mut();
        newest
            .expect("the newest is in flight")
            .allocate_section(request)
    }

    fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        let at = self.of(id)?;
        self.in_flight[at].section_mut(id)
    }

    fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error> {
        let at = self.of(id)?;
        self.in_flight[at].write_pointer(id)
    }

    fn address(&self, id: SectionId) -> Result<Address, Error> {
        self.in_flight[self.of(id)?].address(id)
    }

    #[allow(unsafe_code)] // Passes on what the caller promises.
    unsafe fn register_eh_frames(&mut self, id: SectionId) -> Result<(), Error> {
        let at = self.of(id)?;
        // SAFETY: the contract is the same.
        unsafe { self.in_flight[at].register_eh_frames(id) }
    }

    fn abandon(&mut self, reservation: ReservationId) -> Result<(), Error> {
        let at = self
            .in_flight
            .binary_search_by_key(&reservation, Reservation::id);
        let at = at.map_err(|_| Error::UnknownReservation(reservation))?;
        tracing::debug!(?reservation, "abandoned");
        self.in_flight.remove(at);
        self.newest = self.newest.filter(|&newest| newest != reservation);
        Ok(())
    }

    fn finalize_memory(&mut self) -> Result<Image, Error> {
        let published = publish(&mut self.in_flight);
        if published.is_err() {
            self.in_flight
                .retain_mut(|reservation| reservation.unseal().is_ok());
            let last = self.in_flight.last().map(Reservation::id);
            self.newest = self.newest.filter(|&newest| Some(newest) == last);
        }
        published?;
        self.newest = None;
        let spare = &mut self.spare;
        let mut part_of = |reservation| {
            let (part, content) = Part::new(reservation);
            *spare = content.emptied();
            part
        };
        if let [_] = self.in_flight[..] {
            let only = self.in_flight.pop().expect("there is one");
            return Ok(Image::one(part_of(only)));
        }
        Ok(Image::many(self.in_flight.drain(..).map(part_of).collect()))
    }
}

#[cfg(test)]
mod tests {
    use region::Protection;

    use super::*;
    use crate::kind::SectionKind;
    use crate::num::Align;
    use crate::sys::fault;

    fn plan() -> [SectionRequest<'static>; 3] {
        SectionKind::ALL.map(|kind| SectionRequest::new("s", kind, 100, Align::ONE))
    }

    /// A manager with reservations in flight, each with a section of each kind.
    fn manager(reservations: u8) -> (SectionMemoryManager, Vec<SectionId>) {
        let mut manager = SectionMemoryManager::new();
        let mut sections = Vec::new();
        for number in 0..reservations {
            manager
                .reserve_allocation_space(&AllocationSpace::Sections(&plan()))
                .unwrap();
            for request in plan() {
                let id = manager.allocate_section(&request).unwrap();
                manager.section_mut(id).unwrap().fill(number);
                sections.push(id);
            }
        }
        (manager, sections)
    }

    fn protection(address: Address) -> Protection {
        region::query(address.get() as usize as *const u8)
            .unwrap()
            .protection()
    }

    fn check_untouched(manager: &mut SectionMemoryManager, sections: &[SectionId]) {
        for (index, &id) in sections.iter().enumerate() {
            assert_eq!(
                protection(manager.address(id).unwrap()),
                Protection::READ_WRITE
            );
            assert!(
                manager
                    .section_mut(id)
                    .unwrap()
                    .iter()
                    .all(|&byte| usize::from(byte) == index / 3)
            );
        }
    }

    fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>) {
        let Err(Error::System { source, .. } | Error::Barrier { source }) = result else {
            panic!("{result:?}")
        };
        assert_eq!(source.kind(), fault::ANSWER);
    }

    #[test]
    fn a_reservation_that_the_system_refuses_changes_nothing_whichever_call_it_refuses() {
        for n in 0.. {
            let (mut manager, sections) = manager(2);
            let before = manager.stats();
            let plan = plan();
            let space = AllocationSpace::Sections(&plan);
            let (result, failed) =
                fault::failing(n..n + 1, || manager.reserve_allocation_space(&space));
            if !failed {
                assert!(result.is_ok() && n > 0);
                break;
            }
            assert_refused(result);
            assert_eq!(manager.stats(), before);
            check_untouched(&mut manager, &sections);
            let newest = manager
                .allocate_section(&plan[0])
                .map(SectionId::reservation);
            assert_eq!(
                newest.unwrap(),
                sections[3].reservation(),
                "the newest is still the newest"
            );
            manager
                .reserve_allocation_space(&space)
                .expect("the next attempt works");
        }
    }

    #[test]
    fn a_finalization_that_the_system_refuses_leaves_nothing_executable_whichever_call_it_refuses()
    {
        for n in 0.. {
            let (mut manager, sections) = manager(3);
            let before = manager.stats();
            let (result, failed) = fault::failing(n..n + 1, || manager.finalize_memory());
            if !failed {
                assert_eq!(result.unwrap().sections().count(), sections.len());
                assert!(n >= 6, "each of the three is protected twice");
                break;
            }
            assert_refused(result);
            assert_eq!(manager.stats(), before);
            check_untouched(&mut manager, &sections);
            let image = manager.finalize_memory().expect("the next attempt works");
            for section in image.sections() {
                assert_eq!(
                    protection(section.address()) == Protection::READ_EXECUTE,
                    section.kind() == SectionKind::Code
                );
            }
        }
    }

    #[test]
    fn a_reservation_that_cannot_be_made_writable_again_is_gone() {
        for n in 0.. {
            let (mut manager, sections) = manager(3);
            let addresses: Vec<Address> = sections
                .iter()
                .map(|&id| manager.address(id).unwrap())
                .collect();
            let (result, failed) = fault::failing(n..usize::MAX, || manager.finalize_memory());
            if !failed {
                break;
            }
            assert_refused(result);
            // Every unsealing was refused as well.
            assert_eq!(manager.stats(), SectionMemoryManager::new().stats());
            for (&id, address) in sections.iter().zip(addresses) {
                assert!(
                    matches!(manager.section_mut(id), Err(Error::UnknownSection(_))),
                    "{address}"
                );
            }
            assert!(matches!(
                manager.allocate_section(&plan()[0]),
                Err(Error::NotReserved { .. })
            ));
        }
    }

    #[test]
    fn operations_without_a_system_call_cannot_be_refused() {
        let (mut manager, sections) = manager(2);
        let ((), failed) = fault::failing(0..1, || {
            manager
                .allocate_section(&SectionRequest::new("s", SectionKind::Code, 8, Align::ONE))
                .unwrap();
            manager.section_mut(sections[0]).unwrap();
            manager.write_pointer(sections[0]).unwrap();
            manager.address(sections[0]).unwrap();
            manager.abandon(sections[0].reservation()).unwrap();
            manager.stats();
        });
        assert!(!failed);
        let mut empty = SectionMemoryManager::new();
        let (image, failed) = fault::failing(0..1, || empty.finalize_memory());
        assert_eq!(image.unwrap().reservations().len(), 0);
        assert!(!failed, "nothing in flight, no system call");
    }
}
