//! The memory manager's contract, through the public interface. The judge of permissions and of what is mapped is the system.

#[path = "support/answer.rs"]
mod answer;

use answer::{ANSWER, align, allocated, answer, call, code, constants, protection, variables};
use nearcode::{
    Address, AllocationSpace, DedicatedBlocks, Error, Extent, Image, PerKind, Reach, Reservation,
    ReservationId, ReservingMemoryManager, SectionId, SectionKind, SectionMemoryManager,
    SectionRequest,
};
use proptest::prelude::*;
use region::Protection;

#[test]
fn code_runs_and_the_system_confirms_every_permission() {
    let sections = [code(ANSWER.len()), constants(100), variables(100)];
    let (mut manager, _, ids) = allocated(&sections);
    manager.section_mut(ids[0]).unwrap().copy_from_slice(ANSWER);
    let written: Vec<Address> = ids.iter().map(|&id| manager.address(id).unwrap()).collect();
    for &address in &written {
        assert_eq!(protection(address), Some(Protection::READ_WRITE));
    }
    let image = manager.finalize_memory().unwrap();
    assert_eq!(call(&image, ids[0]), 42);
    let expected = [
        Protection::READ_EXECUTE,
        Protection::READ,
        Protection::READ_WRITE,
    ];
    for ((&id, expected), written) in ids.iter().zip(expected).zip(written) {
        let address = image.address(id).unwrap();
        assert_eq!(address, written);
        assert_eq!(protection(address), Some(expected));
    }
}

#[test]
fn data_is_zero_and_code_is_traps_before_anybody_writes() {
    let (mut manager, _, ids) = allocated(&[code(4096), constants(100), variables(100)]);
    let traps = manager.section_mut(ids[0]).unwrap().to_vec();
    let trap = if cfg!(target_arch = "x86_64") {
        vec![0xcc]
    } else {
        traps[..4].to_vec()
    };
    assert!(trap.iter().any(|&byte| byte != 0));
    assert!(traps.chunks(trap.len()).all(|place| place == trap));
    for &id in &ids[1..] {
        assert!(
            manager
                .section_mut(id)
                .unwrap()
                .iter()
                .all(|&byte| byte == 0)
        );
    }
}

#[test]
fn what_nobody_wrote_is_not_executable() {
    let page = region::page::size();
    let headroom = PerKind::new(4 * page, 0, 0);
    let mut manager =
        SectionMemoryManager::with_blocks(DedicatedBlocks::new().with_headroom(headroom));
    let plan = [code(ANSWER.len()), constants(1)];
    manager
        .reserve_allocation_space(&AllocationSpace::Sections(&plan))
        .unwrap();
    let id = answer(&mut manager);
    let image = manager.finalize_memory().unwrap();
    assert_eq!(call(&image, id), 42);
    let start = image.address(id).unwrap();
    assert_eq!(protection(start), Some(Protection::READ_EXECUTE));
    for unused in 1..=4 {
        assert_eq!(
            protection(start.wrapping_add((unused * page) as u64)),
            Some(Protection::READ),
            "page {unused}"
        );
    }
}

#[test]
#[cfg(windows)]
fn unwind_tables_are_refused_where_the_system_reads_none() {
    let (mut manager, _, ids) = allocated(&[code(8), constants(24)]);
    // SAFETY: four zero bytes are a table without records.
    let refused = unsafe { manager.register_eh_frames(ids[1]) };
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
}

#[test]
fn finalizing_with_nothing_in_flight_is_an_empty_image() {
    let mut manager = SectionMemoryManager::new();
    let image = manager.finalize_memory().unwrap();
    assert_eq!(image.reservations().len(), 0);
    assert_eq!(image.sections().count(), 0);
    assert_eq!(manager.stats(), SectionMemoryManager::new().stats());
}

#[test]
fn allocating_without_a_reservation_is_refused() {
    let refused = |manager: &mut SectionMemoryManager| {
        let error = manager.allocate_section(&code(1)).unwrap_err();
        assert!(matches!(error, Error::NotReserved { .. }), "{error}");
    };
    let mut manager = SectionMemoryManager::new();
    refused(&mut manager);
    let reservation = manager
        .reserve_allocation_space(&AllocationSpace::Sections(&[code(8)]))
        .unwrap();
    answer(&mut manager);
    let image = manager.finalize_memory().unwrap();
    refused(&mut manager); // The block's tail belongs to the image.
    drop(image);
    refused(&mut manager);
    let second = manager
        .reserve_allocation_space(&AllocationSpace::Sections(&[code(8)]))
        .unwrap();
    assert_ne!(reservation, second);
    manager.abandon(second).unwrap();
    refused(&mut manager);
}

#[test]
fn an_empty_plan_ends_what_older_reservations_had_left() {
    let (mut manager, _, ids) = allocated(&[code(ANSWER.len())]);
    manager.section_mut(ids[0]).unwrap().copy_from_slice(ANSWER);
    manager
        .reserve_allocation_space(&AllocationSpace::EMPTY)
        .unwrap();
    let error = manager.allocate_section(&code(1)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ReservationExhausted {
                requested: 1,
                available: 0,
                ..
            }
        ),
        "{error}"
    );
    manager.allocate_section(&variables(0)).unwrap(); // Nothing fits into nothing.
    let image = manager.finalize_memory().unwrap();
    assert_eq!(
        call(&image, ids[0]),
        42,
        "the older reservation was still in flight"
    );
}

#[test]
fn foreign_sections_and_reservations_are_unknown() {
    let (mut manager, reservation, ids) = allocated(&[code(8)]);
    let (mut other, other_reservation, other_ids) = allocated(&[code(8)]);
    for id in [
        other_ids[0],
        SectionId::new(reservation, 1),
        SectionId::new(ReservationId::unique(), 0),
    ] {
        assert!(
            matches!(manager.section_mut(id), Err(Error::UnknownSection(unknown)) if unknown == id)
        );
        assert!(matches!(manager.address(id), Err(Error::UnknownSection(_))));
        assert!(matches!(
            manager.write_pointer(id),
            Err(Error::UnknownSection(_))
        ));
        // SAFETY: there is no such table.
        let registered = unsafe { manager.register_eh_frames(id) };
        assert!(matches!(registered, Err(Error::UnknownSection(_))));
    }
    assert!(matches!(
        manager.abandon(other_reservation),
        Err(Error::UnknownReservation(_))
    ));
    manager.section_mut(ids[0]).unwrap()[..ANSWER.len()].copy_from_slice(ANSWER);
    let mut image = manager.finalize_memory().unwrap();
    assert!(matches!(
        image.pointer(other_ids[0]),
        Err(Error::UnknownSection(_))
    ));
    assert!(matches!(
        image.split(other_reservation),
        Err(Error::UnknownReservation(_))
    ));
    assert_eq!(call(&image, ids[0]), 42, "a refused split changed nothing");
    other.abandon(other_reservation).unwrap();
    assert!(matches!(
        other.abandon(other_reservation),
        Err(Error::UnknownReservation(_))
    ));
}

#[test]
fn access_after_finalization_is_refused_for_every_kind() {
    let (mut manager, reservation, ids) = allocated(&[code(8), constants(8), variables(8)]);
    let image = manager.finalize_memory().unwrap();
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
        image.pointer(id).unwrap();
    }
    assert!(matches!(
        manager.abandon(reservation),
        Err(Error::UnknownReservation(_))
    ));
}

#[test]
fn a_block_serves_nothing_beyond_its_plan_rounding_and_headroom() {
    let page = region::page::size();
    for headroom in [0, 1, page, 3 * page + 1] {
        let blocks = DedicatedBlocks::new().with_headroom(PerKind::new(0, headroom, 0));
        let mut manager = SectionMemoryManager::with_blocks(blocks);
        let plan = [code(8), constants(page)];
        manager
            .reserve_allocation_space(&AllocationSpace::Sections(&plan))
            .unwrap();
        let before = manager.stats();
        let spare = headroom.next_multiple_of(page);
        let error = manager.allocate_section(&constants(spare + 1)).unwrap_err();
        let Error::ReservationExhausted {
            kind,
            requested,
            available,
            section,
            align: _,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(
            (kind, requested, available),
            (SectionKind::ReadOnlyData, spare + 1, spare)
        );
        assert_eq!(section, ".rodata");
        assert_eq!(manager.stats(), before, "a refusal changes nothing");
        manager.allocate_section(&constants(spare)).unwrap();
        manager.allocate_section(&constants(page)).unwrap(); // The announced one still has its place.
        let error = manager.allocate_section(&variables(1)).unwrap_err();
        assert!(
            matches!(error, Error::ReservationExhausted { available: 0, .. }),
            "{error}"
        );
    }
}

#[test]
fn a_got_that_was_not_announced_needs_headroom() {
    // What RuntimeDyld announces for two calls through the PLT on x86-64: code 88 at 4, and no GOT.
    let totals = PerKind::new(Extent::new(88, align(4)), Extent::EMPTY, Extent::EMPTY);
    let got = SectionRequest::new(".got", SectionKind::ReadWriteData, 16, align(8));
    let mut without = SectionMemoryManager::new();
    without
        .reserve_allocation_space(&AllocationSpace::Totals(totals))
        .unwrap();
    assert!(matches!(
        without.allocate_section(&got),
        Err(Error::ReservationExhausted { .. })
    ));
    let blocks = DedicatedBlocks::new().with_headroom(PerKind::new(64, 64, 64));
    let mut with = SectionMemoryManager::with_blocks(blocks);
    with.reserve_allocation_space(&AllocationSpace::Totals(totals))
        .unwrap();
    let got = with.allocate_section(&got).unwrap();
    let code = with.allocate_section(&code(23)).unwrap();
    let distance = with
        .address(got)
        .unwrap()
        .get()
        .abs_diff(with.address(code).unwrap().get());
    assert!(distance < 1 << 20);
}

#[test]
fn several_reservations_are_in_flight_and_only_the_newest_serves() {
    let mut manager = SectionMemoryManager::new();
    let plan = [code(ANSWER.len()), variables(8)];
    let mut made = Vec::new();
    for _ in 0..3 {
        let reservation = manager
            .reserve_allocation_space(&AllocationSpace::Sections(&plan))
            .unwrap();
        let id = answer(&mut manager);
        assert_eq!(id.reservation(), reservation);
        made.push((reservation, id));
    }
    assert_eq!(manager.stats().in_flight(), 3);
    manager.section_mut(made[0].1).unwrap()[0] = ANSWER[0]; // Older ones stay writable.
    manager.abandon(made[1].0).unwrap();
    assert!(manager.section_mut(made[1].1).is_err());
    assert_eq!(
        manager
            .allocate_section(&variables(8))
            .unwrap()
            .reservation(),
        made[2].0
    );

    let image = manager.finalize_memory().unwrap();
    assert_eq!(
        image.reservations().collect::<Vec<_>>(),
        [made[0].0, made[2].0]
    );
    assert_eq!((call(&image, made[0].1), call(&image, made[2].1)), (42, 42));
    assert!(image.pointer(made[1].1).is_err());
    assert_eq!(
        (manager.stats().in_flight(), manager.stats().objects()),
        (0, 2)
    );
}

#[test]
fn a_refused_reservation_changes_nothing() {
    let (mut manager, reservation, _) = allocated(&[code(8)]);
    let before = manager.stats();
    let too_large = [variables(3 << 30)];
    let error = manager
        .reserve_allocation_space(&AllocationSpace::Sections(&too_large))
        .unwrap_err();
    assert!(
        matches!(error, Error::SpanTooLarge { span: Some(_), .. }),
        "{error}"
    );
    let overflowing = [code(8), variables(usize::MAX)];
    let error = manager
        .reserve_allocation_space(&AllocationSpace::Sections(&overflowing))
        .unwrap_err();
    assert!(
        matches!(&error, Error::SizeOverflow { section, .. } if section == ".data"),
        "{error}"
    );
    assert_eq!(manager.stats(), before);
    assert_eq!(
        manager.allocate_section(&code(1)).unwrap().reservation(),
        reservation,
        "it is still the newest"
    );
}

#[test]
fn a_wider_reach_is_opt_in() {
    let plan = [code(8), variables(2 << 30)];
    let space = AllocationSpace::Sections(&plan);
    assert!(matches!(
        DedicatedBlocks::new().reserve(&space),
        Err(Error::SpanTooLarge { .. })
    ));
    // The pages are never touched, but a system that never overcommits may refuse this much.
    match DedicatedBlocks::new()
        .with_reach(Reach::ADRP)
        .reserve(&space)
    {
        Ok(_) | Err(Error::System { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn images_outlive_their_manager_and_go_to_other_threads() {
    let (mut manager, _, ids) = allocated(&[code(ANSWER.len())]);
    manager.section_mut(ids[0]).unwrap().copy_from_slice(ANSWER);
    let image = manager.finalize_memory().unwrap();
    drop(manager);
    let results: Vec<i32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| call(&image, ids[0])))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(results, [42; 4]);
    std::thread::spawn(move || drop(image)).join().unwrap();
}

#[test]
#[cfg(unix)] // A malformed unwind table is what fails.
fn the_typed_layer_hands_a_reservation_back_when_finalization_fails() {
    let table = SectionRequest::new(".eh_frame", SectionKind::ReadOnlyData, 8, align(8))
        .with_eh_frame_terminator();
    let plan = [code(ANSWER.len()), table];
    let blocks = DedicatedBlocks::new();
    let mut reservation: Reservation = blocks.reserve(&AllocationSpace::Sections(&plan)).unwrap();
    let code = reservation.allocate_section(&plan[0]).unwrap();
    let table = reservation.allocate_section(&plan[1]).unwrap();
    reservation
        .section_mut(code)
        .unwrap()
        .copy_from_slice(ANSWER);
    reservation.section_mut(table).unwrap().fill(0xee);
    // SAFETY: the table is malformed, so it is never registered.
    unsafe { reservation.register_eh_frames(table) }.unwrap();
    let failed = reservation.finalize().unwrap_err();
    let (error, reservation) = failed.into_parts();
    assert!(
        matches!(error, Error::InvalidEhFrame { section, offset: 0, .. } if section == table),
        "{error}"
    );

    let mut reservation = reservation.expect("its pages are still writable");
    assert_eq!(reservation.section_mut(code).unwrap(), ANSWER);
    assert_eq!(
        protection(reservation.address(code).unwrap()),
        Some(Protection::READ_WRITE)
    );
    reservation.section_mut(table).unwrap().fill(0); // A table of no records.
    let image = reservation.finalize().unwrap();
    assert_eq!(call(&image, code), 42);
    drop(image);
    assert_eq!(blocks.stats(), DedicatedBlocks::new().stats());
}

#[test]
#[cfg(unix)] // A malformed unwind table is what fails.
fn a_failed_finalization_leaves_a_manager_as_it_was() {
    let (mut manager, reservation, ids) = allocated(&[code(ANSWER.len()), constants(8)]);
    manager.section_mut(ids[0]).unwrap().copy_from_slice(ANSWER);
    manager.section_mut(ids[1]).unwrap().fill(0xff);
    let before = manager.stats();
    // SAFETY: the table is malformed, so it is never registered.
    unsafe { manager.register_eh_frames(ids[1]) }.unwrap();
    assert!(matches!(
        manager.finalize_memory(),
        Err(Error::InvalidEhFrame { .. })
    ));
    assert_eq!(manager.stats(), before);
    assert_eq!(
        manager
            .allocate_section(&constants(8))
            .unwrap()
            .reservation(),
        reservation,
        "still the newest"
    );
    manager.section_mut(ids[1]).unwrap().fill(0);
    assert_eq!(call(&manager.finalize_memory().unwrap(), ids[0]), 42);
}

#[test]
fn the_terminator_is_behind_the_table_and_out_of_reach() {
    // Tables of odd sizes, one directly behind the other: four zero bytes are kept between them.
    let table = |size| SectionRequest::new(".eh_frame", SectionKind::ReadOnlyData, size, align(1));
    let plan = [1, 7, 8, 13].map(|size| table(size).with_eh_frame_terminator());
    let (mut manager, _, ids) = allocated(&plan);
    for &id in &ids {
        manager.section_mut(id).unwrap().fill(0xee);
    }
    let image = manager.finalize_memory().unwrap();
    for id in ids {
        let section = image.section(id).unwrap();
        // SAFETY: the section and its terminator are readable, and nobody writes them any more.
        let bytes =
            unsafe { std::slice::from_raw_parts(section.pointer().as_ptr(), section.size() + 4) };
        assert!(bytes[..section.size()].iter().all(|&byte| byte == 0xee));
        assert_eq!(bytes[section.size()..], [0; 4]);
    }
}

#[test]
fn the_books_agree_with_the_kernel() {
    let page = region::page::size();
    let (mut manager, _, ids) = allocated(&[code(100), constants(page + 1), variables(1)]);
    let stats = manager.stats();
    assert_eq!(
        (stats.asked(), stats.committed(), stats.reserved()),
        (page + 102, 4 * page, 4 * page)
    );
    assert_eq!((stats.wasted(), stats.mappings()), (3 * page - 102, 1));
    let start = manager.address(ids[0]).unwrap().get() as usize as *const u8;
    let image = manager.finalize_memory().unwrap();
    let regions = region::query_range(start, stats.reserved())
        .unwrap()
        .map(|region| region.unwrap().protection());
    let regions: Vec<Protection> = regions.collect();
    assert_eq!(
        regions,
        [
            Protection::READ_EXECUTE,
            Protection::READ,
            Protection::READ_WRITE
        ]
    );
    assert_eq!(manager.stats().mappings(), regions.len());
    drop(image);
    assert_eq!(manager.stats(), SectionMemoryManager::new().stats());
}

#[test]
fn alignments_beyond_the_page_hold_at_run_time() {
    for exponent in [12, 14, 16, 18, 21] {
        let strict = align(1 << exponent);
        for kind in SectionKind::ALL {
            let plan = [
                code(8),
                constants(8),
                variables(8),
                SectionRequest::new("strict", kind, 5000, strict),
            ];
            let (manager, _, ids) = allocated(&plan);
            assert!(
                strict.divides(manager.address(ids[3]).unwrap().get() as usize),
                "{strict:?} {kind}"
            );
        }
    }
}

#[test]
fn handles_cross_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<SectionMemoryManager>();
    is_send::<Reservation>();
    is_send::<Image>();
    is_sync::<Image>();
    is_send::<Error>();
    is_sync::<Error>();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The law of the list, in real memory: every section succeeds in any order, and keeps its bytes.
    #[test]
    fn announced_sections_succeed_in_any_order_and_stay_intact(
        sizes in prop::collection::vec((0usize..3, 0usize..20_000, 0u32..=16), 1..20).prop_shuffle(),
        order in any::<u64>(),
    ) {
        let kinds = SectionKind::ALL;
        let plan: Vec<_> = sizes.iter()
            .map(|&(kind, size, exponent)| SectionRequest::new("s", kinds[kind], size, align(1 << exponent)))
            .collect();
        let mut manager = SectionMemoryManager::new();
        manager.reserve_allocation_space(&AllocationSpace::Sections(&plan)).unwrap();
        let mut turns: Vec<usize> = (0..plan.len()).collect();
        turns.sort_by_key(|&turn| (turn as u64 + 1).wrapping_mul(order | 1));
        let mut placed = Vec::new();
        for turn in turns {
            let id = manager.allocate_section(&plan[turn]).unwrap();
            prop_assert!(plan[turn].align().divides(manager.address(id).unwrap().get() as usize));
            manager.section_mut(id).unwrap().fill(turn as u8 + 1);
            placed.push((turn, id));
        }
        let image = manager.finalize_memory().unwrap();
        for (turn, id) in placed {
            let section = image.section(id).unwrap();
            prop_assert_eq!((section.kind(), section.size()), (plan[turn].kind(), plan[turn].size()));
            // SAFETY: the image is alive, and nobody writes to it.
            let bytes = unsafe { std::slice::from_raw_parts(section.pointer().as_ptr(), section.size()) };
            prop_assert!(bytes.iter().all(|&byte| byte == turn as u8 + 1));
        }
    }
}
