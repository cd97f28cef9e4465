//! How a window behaves, whichever way it is written: a list of cases, for tests that run all of them in different worlds.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "window_frames.rs"]
mod frames;

use std::collections::BTreeMap;

use nearcode::{
    Align, AllocationSpace, Error, Extent, PerKind, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest, Writing,
};

use crate::child::is_emulated;
use crate::lives::*;
use crate::tools::{
    Random, assert_accounted, assert_empty, assert_published, assert_unchanged, function, is_fresh,
    poke, publish, range, reading, request, run, window,
};

pub type Case = fn(Writing);

/// Runs them all, and says which one it is about to run.
pub fn run_all(writing: Writing) {
    for (name, case) in ALL.iter().chain(FRAMES) {
        if writing == Writing::TwoAddresses && REWRITING.contains(name) && runs_stale_code() {
            println!("skipped: {name}: the emulator goes on with the old code");
            continue;
        }
        println!("{name} ({writing:?})");
        case(writing);
    }
}

/// Cases that run new code where they ran other code.
const REWRITING: &[&str] = &[
    "code_at_an_address_that_serves_again_is_the_new_code",
    "threads_that_unload_at_once_lose_no_byte",
];

/// qemu-riscv64 sees code that is rewritten where it runs, not through another view, and the call that says so does nothing
/// there (linux-user/riscv/cpu_loop.c). AArch64's instructions for it do.
fn runs_stale_code() -> bool {
    cfg!(target_arch = "riscv64") && is_emulated()
}

/// Those of unwind tables, where the unwinder can be asked.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use frames::CASES as FRAMES;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const FRAMES: &[(&str, Case)] = &[];

macro_rules! cases {
    ($list:ident $($name:ident)*) => {
        /// Cases with their names.
        pub const $list: &[(&str, $crate::cases::Case)] = &[$((stringify!($name), $name)),*];
    };
}
#[allow(unused_imports)] // Not all systems have the cases of unwind tables.
pub(crate) use cases;

cases! {
    ALL
    code_that_was_written_runs_and_reads_its_data
    sections_lie_in_the_window_as_aligned_as_they_were_asked_for
    an_alignment_beyond_two_mebibytes_is_refused_whatever_the_size
    sections_without_a_plan_and_beyond_one_come_from_the_window
    totals_serve_what_they_promise
    a_full_window_says_so_and_serves_again_what_was_given_back
    absurd_sizes_are_errors
    objects_of_many_managers_and_threads_do_not_overlap
    fresh_memory_is_zero_and_traps_when_it_is_used_again_as_well
    nothing_is_left_of_code_that_was_dropped
    code_that_makes_room_for_code_of_its_size_is_traps_to_its_last_byte
    code_at_an_address_that_serves_again_is_the_new_code
    dropped_code_waits_for_others_and_not_for_long
    threads_that_unload_at_once_lose_no_byte
    a_thread_is_not_refused_what_another_is_just_giving_back
    everything_dropped_is_everything_accounted_for
    abandoned_reservations_give_everything_back
    several_reservations_are_finalized_at_once
    what_is_finalized_cannot_be_written_through_the_manager
    sections_of_no_bytes_take_nothing
    the_farthest_addresses_reach_each_other
    the_books_agree_while_threads_publish
    leaked_code_stays_and_keeps_its_window
    images_are_split_joined_and_dropped_one_by_one
    a_window_lives_until_its_last_image
}

fn code_that_was_written_runs_and_reads_its_data(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let constants = manager
        .allocate_section(&request(SectionKind::ReadOnlyData, 4, 4))
        .unwrap();
    let variables = manager
        .allocate_section(&request(SectionKind::ReadWriteData, 4, 4))
        .unwrap();
    manager
        .section_mut(constants)
        .unwrap()
        .copy_from_slice(&0x1234_5678_i32.to_le_bytes());
    manager
        .section_mut(variables)
        .unwrap()
        .copy_from_slice(&7_i32.to_le_bytes());
    let mut functions = vec![function(&mut manager, 43).unwrap()];
    for data in [constants, variables] {
        let code = reading(manager.address(data).unwrap());
        let id = manager
            .allocate_section(&request(SectionKind::Code, code.len(), 4))
            .unwrap();
        manager.section_mut(id).unwrap().copy_from_slice(&code);
        functions.push(id);
    }
    let addresses: Vec<_> = functions
        .iter()
        .map(|&id| manager.address(id).unwrap())
        .collect();
    let image = manager.finalize_memory().unwrap();
    let results: Vec<i32> = functions.iter().map(|&id| run(&image, id)).collect();
    assert_eq!(results, [43, 0x1234_5678, 7]);
    for (id, address) in functions.iter().zip(addresses) {
        assert_eq!(
            image.address(*id).unwrap(),
            address,
            "as relocations were told"
        );
    }
    poke(image.pointer(variables).unwrap(), 8);
    assert_eq!(run(&image, functions[2]), 8);
}

fn sections_lie_in_the_window_as_aligned_as_they_were_asked_for(writing: Writing) {
    let window = window(writing);
    let range = range(&window);
    let check = |kind, address: nearcode::Address, align: usize, size| {
        let address = address.get() as usize;
        assert_eq!(address % align, 0, "{kind}");
        assert!(
            range.start < address && address + size < range.end,
            "{kind}"
        );
    };
    for exponent in 0..=21 {
        let align = 1 << exponent;
        let plan: Vec<SectionRequest> = SectionKind::ALL
            .iter()
            .flat_map(|&kind| {
                [(5, 1), (33, align), (0, align), (7, 4)]
                    .map(|(size, align)| request(kind, size, align))
            })
            .collect();
        let mut manager = SectionMemoryManager::in_window(&window);
        manager
            .reserve_allocation_space(&AllocationSpace::Sections(&plan))
            .unwrap();
        // The second time they are beyond the plan.
        for section in plan.iter().chain(&plan) {
            let id = manager.allocate_section(section).unwrap();
            let (size, align) = (section.size(), section.align().bytes());
            check(section.kind(), manager.address(id).unwrap(), align, size);
            assert_eq!(manager.section_mut(id).unwrap().len(), size);
        }
        let image = manager.finalize_memory().unwrap();
        for (found, section) in image.sections().zip(plan.iter().chain(&plan)) {
            assert_eq!(found.kind(), section.kind());
            check(
                found.kind(),
                found.address(),
                section.align().bytes(),
                found.size(),
            );
        }
    }
    assert_empty(&window);
}

fn an_alignment_beyond_two_mebibytes_is_refused_whatever_the_size(writing: Writing) {
    let window = window(writing);
    let before = window.stats();
    for size in [1, 100_000, 0] {
        for kind in SectionKind::ALL {
            let mut manager = SectionMemoryManager::in_window(&window);
            let section = request(kind, size, 4 << 20);
            let plan = [request(SectionKind::ReadOnlyData, 8, 8), section];
            for space in [
                AllocationSpace::Sections(&plan),
                AllocationSpace::Totals(each(Extent::new(size, section.align()))),
            ] {
                let reserved = manager.reserve_allocation_space(&space);
                // Of no bytes, a plan may be as good as none; the section itself is not.
                let refused = reserved.and_then(|_| manager.allocate_section(&section));
                assert!(
                    matches!(refused, Err(Error::AlignmentTooLarge { align, limit }) if align.bytes() == 4 << 20 && limit.bytes() == 2 << 20),
                    "{size} bytes of {kind}: {refused:?}"
                );
            }
            let refused = manager.allocate_section(&section);
            assert!(
                matches!(refused, Err(Error::AlignmentTooLarge { .. })),
                "{size} bytes of {kind}: {refused:?}"
            );
        }
    }
    assert_unchanged(&before, &window.stats());
}

/// The same value for each kind.
fn each<T: Copy>(value: T) -> PerKind<T> {
    PerKind::new(value, value, value)
}

fn sections_without_a_plan_and_beyond_one_come_from_the_window(writing: Writing) {
    let window = window(writing);
    let range = range(&window);
    let mut manager = SectionMemoryManager::in_window(&window);
    let mut sections = vec![function(&mut manager, 0).unwrap()];
    assert_eq!(window.stats().in_flight(), 1);
    let plan = [request(SectionKind::Code, 16, 16)];
    manager
        .reserve_allocation_space(&AllocationSpace::Sections(&plan))
        .unwrap();
    for value in 1..200 {
        sections.push(function(&mut manager, value).unwrap());
    }
    manager
        .reserve_allocation_space(&AllocationSpace::EMPTY)
        .unwrap();
    sections.push(function(&mut manager, 200).unwrap());
    assert_eq!(window.stats().in_flight(), 3);
    let image = manager.finalize_memory().unwrap();
    for (value, id) in sections.into_iter().enumerate() {
        assert_eq!(run(&image, id), value as i32);
        assert!(range.contains(&(image.address(id).unwrap().get() as usize)));
    }
    assert_eq!(window.stats().objects(), 3);
    drop(image);
    assert_empty(&window);
}

fn totals_serve_what_they_promise(writing: Writing) {
    let window = window(writing);
    let align = Align::new(64).unwrap();
    let totals = each(Extent::new(640, align));
    let mut manager = SectionMemoryManager::in_window(&window);
    manager
        .reserve_allocation_space(&AllocationSpace::Totals(totals))
        .unwrap();
    let granted = window.stats().granted();
    assert_eq!(window.stats().asked(), 3 * 640);
    for _ in 0..10 {
        for kind in SectionKind::ALL {
            manager.allocate_section(&request(kind, 50, 32)).unwrap();
        }
    }
    assert_eq!(window.stats().granted(), granted, "from what was reserved");
    let image = manager.finalize_memory().unwrap();
    assert_eq!(window.stats().asked(), 30 * 50);
    drop(image);
    assert_empty(&window);
}

fn a_full_window_says_so_and_serves_again_what_was_given_back(writing: Writing) {
    let window = window(writing);
    for kind in SectionKind::ALL {
        let piece = request(kind, 256 << 10, 16);
        let mut images = Vec::new();
        let mut manager = SectionMemoryManager::in_window(&window);
        let full = loop {
            let before = window.stats();
            match manager.allocate_section(&piece) {
                Ok(id) => {
                    manager.section_mut(id).unwrap().fill(0xee);
                    images.push(manager.finalize_memory().unwrap());
                }
                Err(error) => {
                    assert_unchanged(&before, &window.stats());
                    break error;
                }
            }
        };
        let largest = window.stats().largest_free()[kind];
        assert!(
            matches!(full, Error::WindowExhausted { kind: k, requested, align, largest_free }
                if (k, requested, align.bytes(), largest_free) == (kind, 256 << 10, 16, largest)),
            "{full}"
        );
        assert!(largest < 256 << 10);
        // A plan of which one kind does not fit changes nothing either.
        let plan = SectionKind::ALL.map(|other| request(other, 256 << 10, 16));
        let before = window.stats();
        let refused = window.reserve(&AllocationSpace::Sections(&plan));
        assert!(
            matches!(refused, Err(Error::WindowExhausted { .. })),
            "{refused:?}"
        );
        assert_unchanged(&before, &window.stats());
        // What is free in one piece can be had, and nothing more.
        let last = request(kind, largest, 16);
        drop(window.reserve(&AllocationSpace::Sections(&[last])).unwrap());
        // Two neighbours make room for one of twice the size.
        let count = images.len();
        drop(images.drain(3..5));
        let both = request(kind, 512 << 10, 16);
        let mut again = window.reserve(&AllocationSpace::Sections(&[both])).unwrap();
        let id = again.allocate_section(&both).unwrap();
        assert!(is_fresh(kind, again.section_mut(id).unwrap()));
        drop(again);
        images.clear();
        for _ in 0..count {
            let id = manager.allocate_section(&piece).unwrap();
            assert!(is_fresh(kind, manager.section_mut(id).unwrap()), "{kind}");
        }
        drop(manager);
        assert_empty(&window);
    }
}

fn absurd_sizes_are_errors(writing: Writing) {
    let window = window(writing);
    let before = window.stats();
    let one = Align::ONE;
    for size in [
        usize::MAX,
        usize::MAX - 15,
        usize::MAX / 2 + 1,
        1 << 40,
        1 << 32,
        64 << 20,
    ] {
        let totals = each(Extent::new(size, one));
        let refused = window.reserve(&AllocationSpace::Totals(totals));
        assert!(
            matches!(
                refused,
                Err(Error::WindowExhausted { .. } | Error::SizeOverflow { .. })
            ),
            "{size:#x}: {refused:?}"
        );
        for kind in SectionKind::ALL {
            let section = request(kind, size, 1);
            for section in [section, section.with_eh_frame_terminator()] {
                let mut manager = SectionMemoryManager::in_window(&window);
                for refused in [
                    manager.allocate_section(&section).map(drop),
                    window
                        .reserve(&AllocationSpace::Sections(&[section]))
                        .map(drop),
                    window
                        .reserve(&AllocationSpace::Sections(&[section; 3]))
                        .map(drop),
                ] {
                    assert!(
                        matches!(
                            refused,
                            Err(Error::WindowExhausted { .. } | Error::SizeOverflow { .. })
                        ),
                        "{size:#x}: {refused:?}"
                    );
                }
            }
        }
    }
    assert_eq!(window.stats(), before);
}

fn fresh_memory_is_zero_and_traps_when_it_is_used_again_as_well(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let mut random = Random(0x5eed);
    for round in 0..60 {
        for kind in SectionKind::ALL {
            for _ in 0..4 {
                let section = request(kind, 1 + random.below(40_000), 1 << random.below(14));
                let id = manager.allocate_section(&section).unwrap();
                assert!(
                    is_fresh(kind, manager.section_mut(id).unwrap()),
                    "{kind}, {round}"
                );
                manager.section_mut(id).unwrap().fill(0xab);
            }
        }
        // Thrown away while it is filled, or once it was executable.
        if round % 3 == 0 {
            manager = SectionMemoryManager::in_window(&window);
        } else {
            drop(manager.finalize_memory().unwrap());
        }
    }
    drop(manager);
    assert_empty(&window);
}

fn nothing_is_left_of_code_that_was_dropped(writing: Writing) {
    let window = window(writing);
    let announced = [
        request(SectionKind::Code, 1000, 16),
        // Ends with zeros, which are no traps on x86-64, in the middle of a granule.
        request(SectionKind::Code, 30, 1).with_eh_frame_terminator(),
        request(SectionKind::Code, 7, 1), // Where no instruction of AArch64 can begin.
        request(SectionKind::ReadOnlyData, 50, 8),
    ];
    let beyond = request(SectionKind::Code, 2000, 16).with_eh_frame_terminator();
    for finalized in [true, false] {
        let mut manager = SectionMemoryManager::in_window(&window);
        let space = AllocationSpace::Sections(&announced);
        manager.reserve_allocation_space(&space).unwrap();
        let (mut code, mut asked) = (Vec::new(), 0);
        for section in announced.iter().chain([&beyond]) {
            let id = manager.allocate_section(section).unwrap();
            manager.section_mut(id).unwrap().fill(0xab);
            asked += section.footprint().unwrap();
            if section.kind() == SectionKind::Code {
                let start = manager.address(id).unwrap().get() as usize;
                code.push((start as *const u8, section.footprint().unwrap()));
            }
        }
        match finalized {
            true => {
                let image = manager.finalize_memory().unwrap();
                assert_eq!(window.stats().asked(), asked, "with terminators");
                drop(image);
            }
            false => drop(manager),
        }
        for (start, size) in code {
            // SAFETY: the window is alive, where code lies is always readable, and nobody writes to it meanwhile.
            let left = unsafe { std::slice::from_raw_parts(start, size) };
            let is_gone = left.iter().all(|&byte| byte == 0); // The pages went back.
            let is_trapped = is_fresh(SectionKind::Code, left);
            let may_go_back = writing == Writing::SameAddress;
            assert!(
                is_trapped || (is_gone && may_go_back),
                "{finalized}: {left:x?}"
            );
        }
    }
    assert_empty(&window);
}

fn code_at_an_address_that_serves_again_is_the_new_code(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let mut seen = BTreeMap::new();
    for value in 0..2000 {
        let (image, ids) = publish(&mut manager, value).unwrap();
        assert_published(&image, &ids, value);
        *seen.entry(image.address(ids[0]).unwrap()).or_insert(0) += 1;
    }
    assert!(seen.len() < 1000, "addresses are used again");
    assert_empty(&window);
}

/// One barrier serves for many functions, or for a mebibyte.
fn dropped_code_waits_for_others_and_not_for_long(writing: Writing) {
    let window = window(writing);
    for (size, count, fewest) in [(64, 1000, 32), (100 << 10, 60, 4)] {
        let mut manager = SectionMemoryManager::in_window(&window);
        let section = request(SectionKind::Code, size, 16);
        let mut images = Vec::new();
        for _ in 0..count {
            manager.allocate_section(&section).unwrap();
            images.push(manager.finalize_memory().unwrap());
        }
        let each = window.stats().granted() / count;
        let (mut waiting, mut barriers) = (window.stats().retired(), 0);
        for image in images {
            let before = waiting;
            drop(image);
            waiting = window.stats().retired();
            assert!(waiting <= 1 << 20, "{waiting:#x} bytes wait");
            assert!(waiting == 0 || waiting == before + each, "{waiting:#x}");
            barriers += usize::from(waiting == 0);
        }
        assert!(barriers > 0 && barriers <= count / fewest, "{barriers}");
    }
    // Nothing is worth a barrier for what the window never has; for what it has once all of it is free, one is.
    drop(publish(&mut SectionMemoryManager::in_window(&window), 1).unwrap());
    let before = window.stats();
    assert!(before.retired() > 0);
    let all = window.capabilities().sizes()[SectionKind::Code];
    let reserve = |size| {
        let code = [request(SectionKind::Code, size, 16)];
        window.reserve(&AllocationSpace::Sections(&code))
    };
    let refused = reserve(all + 1);
    assert!(
        matches!(refused, Err(Error::WindowExhausted { .. })),
        "{refused:?}"
    );
    assert_eq!(window.stats(), before);
    drop(reserve(all).unwrap());
    assert_empty(&window);
}

fn everything_dropped_is_everything_accounted_for(writing: Writing) {
    let window = window(writing);
    assert_empty(&window);
    let mut manager = SectionMemoryManager::in_window(&window);
    let mut random = Random(0xacc0);
    let mut images = Vec::new();
    for round in 0..300 {
        for _ in 0..random.below(4) {
            let kind = SectionKind::ALL[random.below(3)];
            let section = request(kind, random.below(20_000), 1 << random.below(13));
            manager.allocate_section(&section).unwrap();
        }
        images.push(manager.finalize_memory().unwrap());
        assert_eq!(window.stats().in_flight(), 0);
        assert_accounted(&window);
        if round % 2 == 1 {
            images.swap_remove(random.below(images.len()));
            assert_accounted(&window);
        }
    }
    images.clear();
    assert_empty(&window);
}

fn what_is_finalized_cannot_be_written_through_the_manager(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let (image, ids) = publish(&mut manager, 9).unwrap();
    for id in ids {
        assert!(matches!(
            manager.section_mut(id),
            Err(Error::UnknownSection(_))
        ));
        assert!(matches!(
            manager.write_pointer(id),
            Err(Error::UnknownSection(_))
        ));
        assert!(matches!(manager.address(id), Err(Error::UnknownSection(_))));
    }
    let mut other = window.reserve(&AllocationSpace::EMPTY).unwrap();
    assert!(matches!(
        other.section_mut(ids[0]),
        Err(Error::UnknownSection(_))
    ));
    assert_published(&image, &ids, 9);
}

fn sections_of_no_bytes_take_nothing(writing: Writing) {
    let window = window(writing);
    let range = range(&window);
    let mut manager = SectionMemoryManager::in_window(&window);
    let empty = SectionKind::ALL.map(|kind| request(kind, 0, 4096));
    manager
        .reserve_allocation_space(&AllocationSpace::Sections(&empty))
        .unwrap();
    let mut ids = Vec::new();
    for section in empty.iter().chain(&empty) {
        let id = manager.allocate_section(section).unwrap();
        assert!(manager.section_mut(id).unwrap().is_empty());
        let address = manager.address(id).unwrap().get() as usize;
        assert!(range.contains(&address) && address % 4096 == 0);
        ids.push(id);
    }
    assert_eq!((window.stats().asked(), window.stats().granted()), (0, 0));
    let image = manager.finalize_memory().unwrap();
    for (index, id) in ids.into_iter().enumerate() {
        let section = image.section(id).unwrap();
        assert_eq!(
            (section.size(), section.kind()),
            (0, SectionKind::ALL[index % 3])
        );
    }
    assert_eq!(window.stats().objects(), 1);
    drop(image);
    assert_empty(&window);
}
