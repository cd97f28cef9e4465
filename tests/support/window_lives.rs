//! The lives of objects in a window: many at once, on many threads, until the last of them goes. More of
//! [`cases`](crate::cases).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nearcode::{
    AllocationSpace, Error, Image, Reach, ReservingMemoryManager, SectionId, SectionKind,
    SectionMemoryManager, Window, Writing, reach,
};

use crate::tools::{
    assert_empty, assert_published, capacity, function, is_fresh, options, publish, range, request,
    run, window,
};

pub fn objects_of_many_managers_and_threads_do_not_overlap(writing: Writing) {
    let window = window(writing);
    let images: Vec<(Image, [SectionId; 3], u16)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let window = window.clone();
                scope.spawn(move || {
                    let mut managers = [0, 1].map(|_| SectionMemoryManager::in_window(&window));
                    let mut images = Vec::new();
                    for round in 0..50 {
                        let value = 1000 * number + round;
                        let (image, ids) =
                            publish(&mut managers[usize::from(round % 2)], value).unwrap();
                        assert_published(&image, &ids, value);
                        images.push((image, ids, value));
                    }
                    images
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut places = BTreeMap::new();
    for (image, ids, value) in &images {
        assert_published(image, ids, *value);
        for section in image.sections() {
            let start = section.address().get();
            places.insert(start, start + section.size() as u64);
        }
    }
    assert_eq!(places.len(), 3 * images.len());
    for (above, below) in places.iter().skip(1).zip(places.values()) {
        assert!(below <= above.0);
    }
    assert_eq!(window.stats().objects(), images.len());
    drop(images);
    assert_empty(&window);
}

pub fn threads_that_unload_at_once_lose_no_byte(writing: Writing) {
    let window = window(writing);
    thread::scope(|scope| {
        for number in 0..4 {
            let window = window.clone();
            scope.spawn(move || {
                let mut manager = SectionMemoryManager::in_window(&window);
                for round in 0..500 {
                    // Large enough that there often is a barrier.
                    let large = request(SectionKind::Code, 300 << 10, 16);
                    if round % 32 == 0 {
                        manager.allocate_section(&large).unwrap();
                    }
                    let value = number + 4 * round;
                    let (image, ids) = publish(&mut manager, value).unwrap();
                    assert_published(&image, &ids, value);
                }
            });
        }
    });
    assert_empty(&window);
}

pub fn a_thread_is_not_refused_what_another_is_just_giving_back(writing: Writing) {
    // Room for three objects, of which two are there at most.
    let options = options(writing).with_size(8 << 20).with_code(2 << 20);
    let window = Window::with_options(&options).unwrap();
    for kind in SectionKind::ALL {
        let room = window.capabilities().sizes()[kind];
        let third = request(kind, (room / 3) & !0xffff, 16);
        let rounds = if kind == SectionKind::Code { 20 } else { 150 }; // Traps are slow to write without optimization.
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for round in 0..rounds {
                        let mut reservation = window.reserve(&AllocationSpace::EMPTY).unwrap();
                        let allocated = reservation.allocate_section(&third);
                        assert!(allocated.is_ok(), "{kind}, {round}: {allocated:?}");
                    }
                });
            }
        });
    }
    assert_empty(&window);
}

pub fn abandoned_reservations_give_everything_back(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let plan = SectionKind::ALL.map(|kind| request(kind, 5000, 16));
    let mut kept = function(&mut manager, 3).unwrap();
    for _ in 0..300 {
        let first = manager
            .reserve_allocation_space(&AllocationSpace::Sections(&plan))
            .unwrap();
        let id = manager.allocate_section(&plan[0]).unwrap();
        manager.section_mut(id).unwrap().fill(0xc3);
        let beyond = manager.allocate_section(&plan[1]).unwrap();
        assert_eq!(beyond.reservation(), first);
        manager.abandon(first).unwrap();
        assert!(matches!(
            manager.section_mut(id),
            Err(Error::UnknownSection(_))
        ));
        assert!(matches!(
            manager.abandon(first),
            Err(Error::UnknownReservation(_))
        ));
        // There is none now, and without one the next allocation makes its own.
        let next = function(&mut manager, 4).unwrap();
        assert_ne!(next.reservation(), kept.reservation());
        manager.abandon(kept.reservation()).unwrap();
        kept = next;
    }
    assert_eq!(window.stats().in_flight(), 1);
    let image = manager.finalize_memory().unwrap();
    assert_eq!((image.sections().count(), run(&image, kept)), (1, 4));
    drop(image);
    assert_empty(&window);
}

pub fn several_reservations_are_finalized_at_once(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let mut sections = Vec::new();
    for value in 0..20 {
        manager
            .reserve_allocation_space(&AllocationSpace::EMPTY)
            .unwrap();
        sections.push(function(&mut manager, value).unwrap());
        manager
            .allocate_section(&request(SectionKind::ReadOnlyData, 100, 8))
            .unwrap();
    }
    assert_eq!(window.stats().in_flight(), 20);
    let image = manager.finalize_memory().unwrap();
    assert_eq!(
        (window.stats().in_flight(), window.stats().objects()),
        (0, 20)
    );
    for (value, id) in sections.into_iter().enumerate() {
        assert_eq!(run(&image, id), value as i32);
    }
    let nothing = manager.finalize_memory().unwrap();
    assert_eq!(nothing.reservations().len(), 0);
    drop(image);
    assert_empty(&window);
}

pub fn the_farthest_addresses_reach_each_other(writing: Writing) {
    // The widest window there is, or the widest that this process may have.
    let options = options(writing).with_size(usize::MAX).with_code(1 << 30);
    let window = Window::with_options(&options).unwrap();
    let size = window.capabilities().size();
    assert!(size as u64 <= Reach::PREL32.bytes());
    assert!(size as u64 > Reach::PREL32.bytes() / 2, "{size:#x}");
    let first = window.reserve(&AllocationSpace::EMPTY).unwrap();
    let mut manager = SectionMemoryManager::in_window(&window);
    let mut sections = Vec::new();
    for kind in SectionKind::ALL {
        // Sections at both ends of each kind: between them lies what is never touched.
        let size = window.capabilities().sizes()[kind];
        let mut cut = 2 << 20;
        for _ in 0..2 {
            let section = request(kind, 16, cut);
            sections.push(manager.allocate_section(&section).unwrap());
            cut = 16;
        }
        assert!(size >= 2 << 20, "{kind}");
    }
    let range = range(&window);
    let mut addresses = vec![range.start as u64, range.end as u64 - 1];
    for id in sections {
        addresses.push(manager.address(id).unwrap().get());
    }
    for (kind, largest) in window.stats().largest_free().iter() {
        // The last byte that the window can give.
        assert!(*largest > 0, "{kind}");
    }
    let tables = [
        reach::aarch64::range(261), // R_AARCH64_PREL32
        reach::aarch64::range(314), // R_AARCH64_PLT32
        reach::x86_64::range(2),    // R_X86_64_PC32
        reach::x86_64::range(4),    // R_X86_64_PLT32
        reach::x86_64::range(9),    // R_X86_64_GOTPCREL
    ];
    for table in tables {
        let table = table.expect("a relocation of these architectures");
        for place in &addresses {
            for target in &addresses {
                table.check(*place, *target).unwrap();
            }
        }
    }
    drop(first);
}

pub fn the_books_agree_while_threads_publish(writing: Writing) {
    let window = window(writing);
    let is_over = AtomicBool::new(false);
    let capacity = capacity(&window);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let window = window.clone();
                scope.spawn(move || {
                    let mut manager = SectionMemoryManager::in_window(&window);
                    let mut images = Vec::new();
                    for round in 0..400 {
                        let published = publish(&mut manager, number * 400 + round);
                        images.push(published.unwrap().0);
                        if round % 3 != 0 {
                            images.swap_remove(usize::from(round) % images.len());
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let stats = window.stats();
                assert!(stats.asked() <= stats.granted(), "{stats:?}");
                assert!(stats.granted() <= stats.committed(), "{stats:?}");
                assert!(stats.committed() <= stats.reserved(), "{stats:?}");
                let free: usize = stats.free().iter().map(|(_, &free)| free).sum();
                let known = stats.granted() + free + stats.retired() + stats.frozen();
                // What is just being taken or given back is in nobody's books.
                assert!(known <= capacity, "{stats:?}");
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_empty(&window);
}

pub fn leaked_code_stays_and_keeps_its_window(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let (image, ids) = publish(&mut manager, 77).unwrap();
    let code = image.pointer(ids[0]).unwrap().as_ptr();
    let granted = window.stats().granted();
    image.leak();
    let stats = window.stats();
    assert_eq!((stats.objects(), stats.granted()), (1, granted));
    let (other, ids) = publish(&mut manager, 78).unwrap();
    drop((manager, window));
    assert_published(&other, &ids, 78);
    drop(other);
    // SAFETY: the function is still there, since its image was leaked.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(code) };
    assert_eq!(function(), 77);
}

pub fn images_are_split_joined_and_dropped_one_by_one(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let mut sections = Vec::new();
    for value in 0..6 {
        manager
            .reserve_allocation_space(&AllocationSpace::EMPTY)
            .unwrap();
        sections.push(function(&mut manager, value).unwrap());
    }
    let mut image = manager.finalize_memory().unwrap();
    let second = image.split(sections[1].reservation()).unwrap();
    let fifth = image.split(sections[4].reservation()).unwrap();
    assert!(image.pointer(sections[1]).is_err());
    assert_eq!(
        (run(&second, sections[1]), run(&fifth, sections[4])),
        (1, 4)
    );
    let granted = window.stats().granted();
    drop(second);
    assert_eq!(window.stats().objects(), 5);
    assert!(window.stats().granted() < granted);
    image.join(fifth);
    for value in [0, 2, 3, 4, 5] {
        assert_eq!(run(&image, sections[value]), value as i32);
    }
    // Images of two windows can be one.
    let other = crate::tools::window(writing);
    let mut manager = SectionMemoryManager::in_window(&other);
    let (stranger, ids) = publish(&mut manager, 9).unwrap();
    image.join(stranger);
    assert_published(&image, &ids, 9);
    drop(image);
    assert_empty(&window);
    assert_empty(&other);
}

pub fn a_window_lives_until_its_last_image(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let (image, ids) = publish(&mut manager, 5).unwrap();
    let mut late = window.reserve(&AllocationSpace::EMPTY).unwrap();
    drop((window, manager));
    let (value, id) = (
        6,
        late.allocate_section(&request(SectionKind::Code, 64, 16)),
    );
    let (code, id) = (crate::tools::returning(value), id.unwrap());
    late.section_mut(id).unwrap()[..code.len()].copy_from_slice(&code);
    thread::spawn(move || assert_published(&image, &ids, 5))
        .join()
        .unwrap();
    let late = late.finalize().unwrap();
    assert_eq!(run(&late, id), 6);
}

pub fn code_that_makes_room_for_code_of_its_size_is_traps_to_its_last_byte(writing: Writing) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let code = |size, align| request(SectionKind::Code, size, align);
    // 28 bytes of 32: what is between sections and behind them is nobody's.
    let ragged = [
        code(5, 16),
        code(7, 8),
        code(9, 1).with_eh_frame_terminator(),
    ];
    let whole = [code(32, 16)];
    let mut starts = BTreeSet::new();
    const ROUNDS: usize = 700;
    for round in 0..ROUNDS {
        let sections = [&ragged[..], &whole[..]][round % 2];
        let space = AllocationSpace::Sections(sections);
        manager.reserve_allocation_space(&space).unwrap();
        for section in sections {
            let id = manager.allocate_section(section).unwrap();
            let bytes = manager.section_mut(id).unwrap();
            assert!(is_fresh(SectionKind::Code, bytes), "{round}: {bytes:x?}");
            bytes.fill(0xab);
            starts.insert(manager.address(id).unwrap());
        }
        drop(manager.finalize_memory().unwrap());
    }
    assert!(starts.len() < ROUNDS, "every place is used many times");
    assert_empty(&window);
}
