//! Sections to ask for, code to put into them, and what the system says of their pages.
#![allow(dead_code)] // No test file needs all of it.

use std::mem::transmute;

use nearcode::{
    Address, Align, AllocationSpace, Image, ReservationId, ReservingMemoryManager, SectionId,
    SectionKind, SectionMemoryManager, SectionRequest,
};
use region::Protection;

/// A function that returns 42.
#[cfg(target_arch = "x86_64")]
pub const ANSWER: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3]; // mov $42, %eax; ret
#[cfg(target_arch = "aarch64")]
pub const ANSWER: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6]; // mov w0, #42; ret
#[cfg(target_arch = "riscv64")]
pub const ANSWER: &[u8] = &[0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0x00, 0x00]; // li a0, 42; ret

pub fn align(bytes: usize) -> Align {
    Align::new(bytes).unwrap()
}

pub fn code(size: usize) -> SectionRequest<'static> {
    SectionRequest::new(".text", SectionKind::Code, size, align(16))
}

pub fn constants(size: usize) -> SectionRequest<'static> {
    SectionRequest::new(".rodata", SectionKind::ReadOnlyData, size, align(16))
}

pub fn variables(size: usize) -> SectionRequest<'static> {
    SectionRequest::new(".data", SectionKind::ReadWriteData, size, align(16))
}

/// A manager with one reservation for these sections, and the sections allocated.
pub fn allocated(
    sections: &[SectionRequest<'_>],
) -> (SectionMemoryManager, ReservationId, Vec<SectionId>) {
    let mut manager = SectionMemoryManager::new();
    let reservation = manager
        .reserve_allocation_space(&AllocationSpace::Sections(sections))
        .unwrap();
    let ids = sections
        .iter()
        .map(|section| manager.allocate_section(section).unwrap())
        .collect();
    (manager, reservation, ids)
}

pub fn answer(manager: &mut impl ReservingMemoryManager) -> SectionId {
    let id = manager.allocate_section(&code(ANSWER.len())).unwrap();
    manager.section_mut(id).unwrap().copy_from_slice(ANSWER);
    id
}

pub fn call(image: &Image, id: SectionId) -> i32 {
    let code = image.pointer(id).unwrap().as_ptr();
    // SAFETY: the tests only call sections that hold ANSWER, in images that are alive.
    let function: extern "C" fn() -> i32 = unsafe { transmute(code) };
    function()
}

/// What the system says of the page at an address; `None` if nothing is mapped there.
pub fn protection(address: Address) -> Option<Protection> {
    let region = region::query(address.get() as usize as *const u8).ok()?;
    Some(region.protection())
}

pub fn is_mapped(address: Address) -> bool {
    protection(address).is_some()
}
