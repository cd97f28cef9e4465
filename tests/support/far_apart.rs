//! A memory manager for which the system has bad luck: no block reaches another.

use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions};
use nearcode::{
    Address, Align, AllocationSpace, Error, Image, ReservationId, ReservingMemoryManager,
    SectionId, SectionKind, SectionMemoryManager, SectionRequest,
};

/// A memory manager whose blocks are out of every relocation's reach of each other.
#[derive(Default)]
pub(crate) struct FarApart {
    manager: SectionMemoryManager,
    bases: Vec<u64>,
    /// What keeps others out of the address space between blocks.
    gaps: Vec<MmapMut>,
}

/// In bytes; ADRP reaches 4 GiB.
const FAR: u64 = 5 << 30;

impl FarApart {
    /// Its blocks are out of reach of this address, too.
    pub(crate) fn from(address: Address) -> Self {
        Self {
            bases: vec![address.get()],
            ..Self::default()
        }
    }
}

fn untouched(size: usize) -> MmapMut {
    let mut gap = MmapOptions::new();
    let gap = gap.len(size).no_reserve_swap().map_anon();
    gap.expect("addresses cost nothing")
}

impl ReservingMemoryManager for FarApart {
    fn reserve_allocation_space(
        &mut self,
        space: &AllocationSpace<'_>,
    ) -> Result<ReservationId, Error> {
        let gap = FAR as usize + (4 << 10); // No multiple of a huge page, or the system aligns it and leaves a hole.
        self.gaps.push(untouched(gap));
        // The system fills holes first. What is in a hole stays there, so that it may take some tries to get past the gap.
        for _ in 0..100 {
            let id = self.manager.reserve_allocation_space(space)?;
            let probe = SectionRequest::new("probe", SectionKind::ReadWriteData, 0, Align::ONE);
            let probe = self.manager.allocate_section(&probe)?;
            let base = self.manager.address(probe)?.get();
            if self.bases.iter().all(|other| other.abs_diff(base) > FAR) {
                self.bases.push(base);
                return Ok(id);
            }
            // Of all sizes, since tests that run meanwhile leave holes as large as their gaps.
            self.gaps
                .extend((12..34).rev().map(|power| untouched(1 << power)));
        }
        panic!("no block comes to lie beyond a gap of 5 GiB");
    }

    fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        self.manager.allocate_section(request)
    }

    fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        self.manager.section_mut(id)
    }

    fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error> {
        self.manager.write_pointer(id)
    }

    fn address(&self, id: SectionId) -> Result<Address, Error> {
        self.manager.address(id)
    }

    unsafe fn register_eh_frames(&mut self, id: SectionId) -> Result<(), Error> {
        // SAFETY: the contract is the same.
        unsafe { self.manager.register_eh_frames(id) }
    }

    fn abandon(&mut self, reservation: ReservationId) -> Result<(), Error> {
        self.manager.abandon(reservation)
    }

    fn finalize_memory(&mut self) -> Result<Image, Error> {
        self.manager.finalize_memory()
    }
}
