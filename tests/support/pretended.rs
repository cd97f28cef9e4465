//! A memory manager whose sections lie where the test says, and nowhere at all: their bytes are in vectors, and nothing runs.
//!
//! So every distance there is can be tested, for each CPU on each.

use std::collections::HashMap;
use std::ptr::NonNull;

use nearcode::{
    Address, AllocationSpace, Error, Image, ReservationId, ReservingMemoryManager, SectionId,
    SectionRequest,
};

#[derive(Debug, Default)]
pub(crate) struct Pretended {
    /// Where to put what, by the section's name.
    addresses: HashMap<String, u64>,
    reservation: Option<ReservationId>,
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    name: String,
    address: u64,
    bytes: Vec<u8>,
}

impl Pretended {
    pub(crate) fn new(addresses: HashMap<String, u64>) -> Self {
        Self {
            addresses,
            ..Self::default()
        }
    }

    /// What the loader has written.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let mut sections = self.sections.iter();
        let section = sections.find(|section| section.name == name)?;
        Some(&section.bytes)
    }

    fn get(&self, id: SectionId) -> Result<&Section, Error> {
        let section = self.sections.get(id.index());
        section.ok_or(Error::UnknownSection(id))
    }
}

impl ReservingMemoryManager for Pretended {
    fn reserve_allocation_space(
        &mut self,
        _: &AllocationSpace<'_>,
    ) -> Result<ReservationId, Error> {
        assert_eq!(self.reservation, None, "one reservation for all objects");
        Ok(*self.reservation.insert(ReservationId::unique()))
    }

    fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        let name = request.name();
        let address = self.addresses.get(name).copied();
        let address = address.unwrap_or_else(|| panic!("nobody said where {name} lies"));
        assert_eq!(address % request.align().bytes() as u64, 0, "{name}");
        let id = SectionId::new(
            self.reservation.expect("a reservation"),
            self.sections.len(),
        );
        self.sections.push(Section {
            name: name.into(),
            address,
            bytes: vec![0; request.size()],
        });
        Ok(id)
    }

    fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        let section = self.sections.get_mut(id.index());
        Ok(&mut section.ok_or(Error::UnknownSection(id))?.bytes)
    }

    fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error> {
        Ok(NonNull::from(self.section_mut(id)?).cast())
    }

    fn address(&self, id: SectionId) -> Result<Address, Error> {
        Ok(Address::new(self.get(id)?.address))
    }

    unsafe fn register_eh_frames(&mut self, _: SectionId) -> Result<(), Error> {
        Err(Error::Unsupported("nothing runs here"))
    }

    fn abandon(&mut self, _: ReservationId) -> Result<(), Error> {
        self.reservation = None;
        self.sections.clear();
        Ok(())
    }

    fn finalize_memory(&mut self) -> Result<Image, Error> {
        Ok(Image::default())
    }
}
