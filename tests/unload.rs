//! What is given up is gone, as the system sees it. Each test has the process to itself: nobody else may map the same place anew.

#[path = "support/answer.rs"]
mod answer;
#[path = "support/child.rs"]
mod child;

use answer::{ANSWER, allocated, answer, call, code, is_mapped};
use nearcode::{
    Address, AllocationSpace, Error, ForeignSection, Image, ReservationId, ReservingMemoryManager,
    SectionId, SectionKind, SectionMemoryManager, SectionRequest,
};

#[test]
fn abandoning_the_newest_reservation_does_not_bring_an_older_one_back() {
    if !child::is_alone("abandoning_the_newest_reservation_does_not_bring_an_older_one_back") {
        return;
    }
    let (mut manager, _, ids) = allocated(&[code(ANSWER.len())]);
    let newest = manager
        .reserve_allocation_space(&AllocationSpace::Sections(&[code(8)]))
        .unwrap();
    let id = answer(&mut manager);
    let address = manager.address(id).unwrap();
    manager.abandon(newest).unwrap();
    assert!(!is_mapped(address));
    assert!(matches!(
        manager.allocate_section(&code(1)),
        Err(Error::NotReserved { .. })
    ));
    manager.section_mut(ids[0]).unwrap().copy_from_slice(ANSWER);
    assert_eq!(call(&manager.finalize_memory().unwrap(), ids[0]), 42);
}

#[test]
fn images_are_split_joined_dropped_and_leaked_by_reservation() {
    if !child::is_alone("images_are_split_joined_dropped_and_leaked_by_reservation") {
        return;
    }
    let mut manager = SectionMemoryManager::new();
    let mut ids = Vec::new();
    for _ in 0..4 {
        manager
            .reserve_allocation_space(&AllocationSpace::Sections(&[code(ANSWER.len())]))
            .unwrap();
        ids.push(answer(&mut manager));
    }
    let mut image = manager.finalize_memory().unwrap();
    let places: Vec<Address> = ids.iter().map(|&id| image.address(id).unwrap()).collect();

    let second = image.split(ids[1].reservation()).unwrap();
    let third = image.split(ids[2].reservation()).unwrap();
    assert!(image.pointer(ids[1]).is_err());
    assert_eq!((call(&second, ids[1]), call(&image, ids[0])), (42, 42));
    drop(second);
    assert!(!is_mapped(places[1]));
    image.join(third);
    assert_eq!(
        image.reservations().collect::<Vec<_>>(),
        [0, 2, 3].map(|i| ids[i].reservation())
    );
    assert_eq!(call(&image, ids[2]), 42);

    image.split(ids[3].reservation()).unwrap().leak();
    drop(image);
    assert!(!is_mapped(places[0]) && !is_mapped(places[2]));
    assert!(is_mapped(places[3]), "leaked");
    assert_eq!(
        manager.stats().objects(),
        1,
        "leaked memory stays in the books"
    );
}

/// A manager that implements the trait outside of the crate, on memory of its own.
#[derive(Default)]
struct Foreign(SectionMemoryManager);

impl ReservingMemoryManager for Foreign {
    fn reserve_allocation_space(
        &mut self,
        space: &AllocationSpace<'_>,
    ) -> Result<ReservationId, Error> {
        self.0.reserve_allocation_space(space)
    }
    fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        self.0.allocate_section(request)
    }
    fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        self.0.section_mut(id)
    }
    fn write_pointer(&mut self, id: SectionId) -> Result<std::ptr::NonNull<u8>, Error> {
        self.0.write_pointer(id)
    }
    fn address(&self, id: SectionId) -> Result<Address, Error> {
        self.0.address(id)
    }
    unsafe fn register_eh_frames(&mut self, id: SectionId) -> Result<(), Error> {
        // SAFETY: the contract is the same.
        unsafe { self.0.register_eh_frames(id) }
    }
    fn abandon(&mut self, reservation: ReservationId) -> Result<(), Error> {
        self.0.abandon(reservation)
    }
    fn finalize_memory(&mut self) -> Result<Image, Error> {
        let owner = self.0.finalize_memory()?;
        let sections = owner.sections();
        let sections = sections
            .map(|section| ForeignSection::new(section.kind(), section.pointer(), section.size()));
        let (sections, reservation) = (sections.collect(), owner.reservations().next().unwrap());
        // SAFETY: the inner image keeps the sections as they are.
        Ok(unsafe { Image::from_foreign(reservation, sections, Box::new(owner)) })
    }
}

#[test]
fn a_memory_manager_can_be_written_outside_of_the_crate() {
    if !child::is_alone("a_memory_manager_can_be_written_outside_of_the_crate") {
        return;
    }
    let mut manager: Box<dyn ReservingMemoryManager> = Box::new(Foreign::default());
    manager
        .reserve_allocation_space(&AllocationSpace::Sections(&[code(ANSWER.len())]))
        .unwrap();
    let id = manager.allocate_section(&code(ANSWER.len())).unwrap();
    let pointer = manager.write_pointer(id).unwrap().as_ptr();
    // SAFETY: a section of this size that nobody else refers to.
    unsafe { std::ptr::copy_nonoverlapping(ANSWER.as_ptr(), pointer, ANSWER.len()) };
    let image = manager.finalize_memory().unwrap();
    assert_eq!(call(&image, id), 42);
    assert_eq!(image.section(id).unwrap().kind(), SectionKind::Code);
    let place = image.address(id).unwrap();
    drop(image);
    assert!(!is_mapped(place));
}
