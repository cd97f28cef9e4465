//! The unwind tables of objects in a window, as the unwinder sees them. More of [`cases`](crate::cases).

use std::panic::{AssertUnwindSafe, catch_unwind};

use nearcode::{
    AllocationSpace, Error, ReservingMemoryManager, SectionId, SectionKind, SectionMemoryManager,
    Writing,
};

use crate::cases::cases;
use crate::tools::{assert_empty, function, is_known, request, returning, run, window};

cases! {
    CASES
    unwind_tables_are_known_until_their_image_goes
    a_malformed_unwind_table_leaves_everything_in_flight
}

/// DWARF's number of the register, or of the column, with the return address.
#[cfg(target_arch = "x86_64")]
const RETURN_ADDRESS: u8 = 16;
#[cfg(target_arch = "aarch64")]
const RETURN_ADDRESS: u8 = 30;
#[cfg(target_arch = "riscv64")]
const RETURN_ADDRESS: u8 = 1;

/// Unwind information of one function: a CIE, and an FDE that says where the function is and how long.
fn unwind_table(place: u64, code: u64, size: u32) -> Vec<u8> {
    let mut table = Vec::new();
    // Length, CIE, version, augmentation, alignments, return address, the encoding of addresses (pcrel, sdata4), padding.
    table.extend(20_u32.to_le_bytes());
    table.extend([0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78]);
    table.extend([RETURN_ADDRESS, 1, 0x1b]);
    table.resize(24, 0);
    // Length, distance to the CIE, where the code is from here, its size, no augmentation, padding.
    table.extend(20_u32.to_le_bytes());
    table.extend(28_u32.to_le_bytes());
    table.extend((code.wrapping_sub(place + 32) as u32).to_le_bytes());
    table.extend(size.to_le_bytes());
    table.resize(48, 0);
    table
}

/// A function with a registered unwind table, in flight.
fn with_unwind_table(manager: &mut SectionMemoryManager, value: u16) -> (SectionId, SectionId) {
    let table = request(SectionKind::ReadOnlyData, 48, 8).with_eh_frame_terminator();
    manager
        .reserve_allocation_space(&AllocationSpace::Sections(&[
            table,
            request(SectionKind::Code, returning(value).len(), 16),
        ]))
        .unwrap();
    let code = function(manager, value).unwrap();
    let frames = manager.allocate_section(&table).unwrap();
    let size = manager.section_mut(code).unwrap().len() as u32;
    let place = manager.address(frames).unwrap().get();
    let content = unwind_table(place, manager.address(code).unwrap().get(), size);
    manager
        .section_mut(frames)
        .unwrap()
        .copy_from_slice(&content);
    // SAFETY: the table is true of the function: where it begins, the return address is where the call has put it.
    unsafe { manager.register_eh_frames(frames) }.unwrap();
    (code, frames)
}

fn unwind_tables_are_known_until_their_image_goes(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let sections: Vec<_> = (0..3)
        .map(|value| with_unwind_table(&mut manager, value).0)
        .collect();
    let mut image = manager.finalize_memory().unwrap();
    let places: Vec<_> = sections
        .iter()
        .map(|&id| image.pointer(id).unwrap())
        .collect();
    let known = || {
        places
            .iter()
            .map(|&place| is_known(place))
            .collect::<Vec<_>>()
    };
    assert_eq!(known(), [true; 3]);
    drop(image.split(sections[1].reservation()).unwrap());
    assert_eq!(known(), [true, false, true]);
    drop(manager);
    drop(image);
    assert_eq!(known(), [false; 3]);
    // The unwinder works, and reads nothing that is gone.
    let caught = catch_unwind(AssertUnwindSafe(|| std::panic::resume_unwind(Box::new(1))));
    assert!(caught.is_err());
    assert_empty(&window);
}

fn a_malformed_unwind_table_leaves_everything_in_flight(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let sound = function(&mut manager, 11).unwrap();
    let (code, frames) = with_unwind_table(&mut manager, 12);
    let before = window.stats();
    manager.section_mut(frames).unwrap()[..4].fill(0xee);
    for _ in 0..2 {
        let refused = manager.finalize_memory();
        assert!(
            matches!(refused, Err(Error::InvalidEhFrame { section, offset: 0, .. }) if section == frames),
            "{refused:?}"
        );
        assert_eq!(window.stats(), before);
    }
    manager.section_mut(frames).unwrap().fill(0);
    let image = manager.finalize_memory().unwrap();
    assert_eq!((run(&image, sound), run(&image, code)), (11, 12));
    drop((image, manager));
    assert_empty(&window);
}
