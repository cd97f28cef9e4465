//! What is wrong with the memory managers of the field, one test for each defect. Every law is kept by ours and broken by two
//! managers that have the defects, in an address space without luck: a law that they keep would prove nothing.
#![cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]

#[path = "support/child.rs"]
mod child;
#[path = "support/scattered.rs"]
mod scattered;
#[path = "support/small_object.rs"]
mod small_object;
#[path = "support/wrong_managers.rs"]
mod wrong_managers;

use nearcode::{
    Align, AllocationSpace, DedicatedBlocks, Error, Extent, PerKind, Reach, ReservingMemoryManager,
    SectionId, SectionKind, SectionMemoryManager, SectionRequest,
};

type Law = fn(&mut dyn ReservingMemoryManager) -> Result<(), String>;

/// Tries the law with each manager in a process of its own, whose islands have `pages` pages.
fn only_ours_keeps(test: &str, pages: usize, law: Law) {
    if let Some(manager) = child::argument() {
        scattered::scatter(pages);
        let headroom = PerKind::new(0, 0, 2 * region::page::size());
        let verdict = match manager.as_str() {
            "ours" => law(&mut SectionMemoryManager::new()),
            "ours with headroom" => law(&mut SectionMemoryManager::with_blocks(
                DedicatedBlocks::new().with_headroom(headroom),
            )),
            "section by section" => law(&mut wrong_managers::section_by_section()),
            _ => law(&mut wrong_managers::stale_free_lists()),
        };
        println!(
            "verdict: {}",
            verdict.map_or_else(|reason| format!("broken: {reason}"), |()| "kept".into())
        );
        return;
    }
    for manager in [
        "ours",
        "ours with headroom",
        "section by section",
        "stale free lists",
    ] {
        let output = child::in_a_child(test, manager);
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let verdict = stdout.lines().find_map(|line| line.split_once("verdict: "));
        let Some((_, verdict)) = verdict else {
            panic!("{manager}: {}\n{stdout}\n{stderr}", output.status)
        };
        println!("{test}: {manager}: {verdict}");
        assert_eq!(
            verdict == "kept",
            manager.starts_with("ours"),
            "{manager}: {verdict}"
        );
    }
}

fn align(bytes: usize) -> Align {
    Align::new(bytes).expect("a power of two")
}

fn section(kind: SectionKind, size: usize, bytes: usize) -> SectionRequest<'static> {
    SectionRequest::new("s", kind, size, align(bytes))
}

fn text(error: Error) -> String {
    error.to_string()
}

/// All sections lie within one reach.
fn in_reach(manager: &dyn ReservingMemoryManager, sections: &[SectionId]) -> Result<(), String> {
    let addresses = sections
        .iter()
        .map(|&id| Ok(manager.address(id).map_err(text)?.get()));
    let addresses = addresses.collect::<Result<Vec<u64>, String>>()?;
    let (low, high) = (
        addresses.iter().min().expect("sections"),
        addresses.iter().max().expect("sections"),
    );
    let distance = high - low;
    if distance < Reach::PREL32.bytes() {
        Ok(())
    } else {
        Err(format!("{distance:#x} bytes apart"))
    }
}

/// Announces, allocates and finalizes the sections, again and again, and finds them within reach each time.
fn planned_objects_stay_in_reach(
    manager: &mut dyn ReservingMemoryManager,
    sections: &[SectionRequest<'_>],
    check: fn(&mut dyn ReservingMemoryManager, &[SectionId]) -> Result<(), String>,
) -> Result<(), String> {
    let mut alive = Vec::new();
    for _ in 0..3 {
        manager
            .reserve_allocation_space(&AllocationSpace::Sections(sections))
            .map_err(text)?;
        let ids = sections
            .iter()
            .map(|section| manager.allocate_section(section).map_err(text));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        in_reach(manager, &ids)?;
        check(manager, &ids)?;
        alive.push(manager.finalize_memory().map_err(text)?);
    }
    Ok(())
}

/// The pages that this process can access, but for its heap.
fn pages_in_use() -> usize {
    let maps =
        std::fs::read_to_string("/proc/self/maps").expect("Linux shows a process its mappings");
    let accessible = maps
        .lines()
        .filter(|line| !line.contains("---p") && !line.contains("[heap]"));
    let size = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some(usize::from_str_radix(end, 16).ok()? - usize::from_str_radix(start, 16).ok()?)
    };
    accessible.filter_map(size).sum::<usize>() / region::page::size()
}

#[test]
fn defect_1_allocation_beyond_the_reservation_is_refused() {
    only_ours_keeps(
        "defect_1_allocation_beyond_the_reservation_is_refused",
        5,
        |manager| {
            let code = section(SectionKind::Code, 100, 16);
            manager
                .reserve_allocation_space(&AllocationSpace::Sections(&[code]))
                .map_err(text)?;
            manager.allocate_section(&code).map_err(text)?;
            match manager.allocate_section(&section(
                SectionKind::ReadWriteData,
                3 * region::page::size(),
                8,
            )) {
                Err(Error::ReservationExhausted { .. }) => Ok(()),
                Err(error) => Err(text(error)),
                Ok(_) => Err("served from elsewhere".into()),
            }
        },
    );
}

#[test]
fn defect_2_a_failed_reservation_is_reported() {
    only_ours_keeps("defect_2_a_failed_reservation_is_reported", 5, |manager| {
        // More than any relocation spans, and more than there is in one piece.
        for size in [3usize << 30, 1 << 30] {
            let plan = [
                section(SectionKind::Code, 100, 16),
                section(SectionKind::ReadWriteData, size, 16),
            ];
            match manager.reserve_allocation_space(&AllocationSpace::Sections(&plan)) {
                Err(Error::SpanTooLarge { .. } | Error::System { .. }) => {}
                Err(error) => return Err(text(error)),
                Ok(_) => return Err(format!("{size} bytes were reported as reserved")),
            }
        }
        Ok(())
    });
}

#[test]
fn defect_3_what_one_object_leaves_over_never_serves_the_next() {
    only_ours_keeps(
        "defect_3_what_one_object_leaves_over_never_serves_the_next",
        5,
        |manager| {
            // The first object asks for more than it announced: what it gets, if anything, must not become the next one's.
            manager
                .reserve_allocation_space(&AllocationSpace::Sections(&small_object::sections()))
                .map_err(text)?;
            let _ = manager.allocate_section(&section(SectionKind::ReadWriteData, 5000, 8));
            planned_objects_stay_in_reach(manager, &small_object::sections(), |_, _| Ok(()))
        },
    );
}

#[test]
fn defect_4_a_kind_without_bytes_costs_no_page() {
    only_ours_keeps(
        "defect_4_a_kind_without_bytes_costs_no_page",
        5,
        |manager| {
            let code = section(SectionKind::Code, 100, 16);
            let mut images = Vec::with_capacity(100);
            let before = pages_in_use();
            for _ in 0..100 {
                manager
                    .reserve_allocation_space(&AllocationSpace::Sections(&[code, code]))
                    .map_err(text)?;
                manager.allocate_section(&code).map_err(text)?;
                manager.allocate_section(&code).map_err(text)?;
                images.push(manager.finalize_memory().map_err(text)?);
            }
            let pages = pages_in_use() - before;
            // With headroom in another kind: the two pages of it, and nothing else.
            if matches!(pages, 100 | 300)
                && images.iter().all(|image| image.sections().count() == 2)
            {
                Ok(())
            } else {
                Err(format!(
                    "100 objects of 200 bytes of code took {pages} pages"
                ))
            }
        },
    );
}

/// Not under an emulator, which ends where its memory does.
#[test]
#[cfg(target_arch = "x86_64")]
fn defect_5_where_memory_ends_nothing_is_lost_and_what_is_given_back_serves_again() {
    let test = "defect_5_where_memory_ends_nothing_is_lost_and_what_is_given_back_serves_again";
    only_ours_keeps(test, 5, |manager| {
        let mut alive = Vec::new();
        let full = loop {
            match small_object::load(manager, alive.len() as i32) {
                Ok(loaded) => alive.push(loaded),
                Err(error) => break error,
            }
        };
        let Error::System { .. } = full else {
            return Err(text(full));
        };
        let before = alive.len();
        for (number, loaded) in alive.iter().enumerate() {
            assert_eq!(small_object::call(loaded), number as i32);
        }
        alive.truncate(before / 2);
        for number in alive.len()..before {
            alive.push(small_object::load(manager, number as i32).map_err(text)?);
        }
        Ok(())
    });
}

/// Three mappings for each object are what separate permissions cost in a dedicated block; at the kernel's limit it is an
/// error like others. Not under an emulator, which needs mappings of its own to go on.
#[test]
#[cfg(target_arch = "x86_64")]
fn defect_5_the_kernels_limit_of_mappings_is_an_error_like_others() {
    if child::argument().is_none() {
        let test = "defect_5_the_kernels_limit_of_mappings_is_an_error_like_others";
        let output = child::in_a_child(test, "child");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("the limit");
    let limit: usize = limit.trim().parse().expect("a number");
    let mut manager = SectionMemoryManager::new();
    let mut alive = Vec::with_capacity(limit);
    let full = loop {
        match small_object::load(&mut manager, alive.len() as i32) {
            Ok(loaded) => alive.push(loaded),
            Err(error) => break error,
        }
    };
    let Error::System { .. } = full else {
        panic!("{full}")
    };
    assert!(
        alive.len() > limit / 3 - 100 && alive.len() <= limit / 3,
        "{} objects of {limit} mappings",
        alive.len()
    );
    assert_eq!(manager.stats().objects(), alive.len());
    alive.truncate(alive.len() - 10);
    let again = small_object::load(&mut manager, -1).expect("ten objects went");
    assert_eq!(small_object::call(&again), -1);
    for (number, loaded) in alive.iter().enumerate() {
        assert_eq!(small_object::call(loaded), number as i32);
    }
}

#[test]
fn defect_6_memory_goes_back_with_the_object_and_not_with_the_manager() {
    only_ours_keeps(
        "defect_6_memory_goes_back_with_the_object_and_not_with_the_manager",
        5,
        |manager| {
            let loaded = small_object::load(manager, 7).map_err(text)?;
            let places: Vec<usize> = loaded
                .image
                .sections()
                .map(|section| section.address().get() as usize)
                .collect();
            let is_mapped = |place: &usize| {
                let mappings = scattered::mappings();
                mappings
                    .iter()
                    .any(|(start, end, _)| (*start..*end).contains(place))
            };
            assert!(places.iter().all(is_mapped));
            drop(loaded);
            if places.iter().any(is_mapped) {
                Err("still mapped".into())
            } else {
                Ok(())
            }
        },
    );
}

#[test]
fn defect_6_alignment_beyond_the_page_holds() {
    only_ours_keeps("defect_6_alignment_beyond_the_page_holds", 100, |manager| {
        let strict = section(SectionKind::ReadOnlyData, 100, 1 << 16);
        for _ in 0..8 {
            let plan = [section(SectionKind::Code, 100, 16), strict];
            manager
                .reserve_allocation_space(&AllocationSpace::Sections(&plan))
                .map_err(text)?;
            manager.allocate_section(&plan[0]).map_err(text)?;
            let id = manager.allocate_section(&strict).map_err(text)?;
            let address = manager.address(id).map_err(text)?;
            if !strict.align().divides(address.get() as usize) {
                return Err(format!("{address} is no multiple of 64 KiB"));
            }
        }
        Ok(())
    });
}

#[test]
fn defect_7_an_object_that_was_planned_is_never_out_of_range() {
    only_ours_keeps(
        "defect_7_an_object_that_was_planned_is_never_out_of_range",
        5,
        |manager| {
            for number in 0..100 {
                // Where the manager is wrong, this is the typed error in place of a truncated address.
                let loaded = small_object::load(manager, number).map_err(|error| match error {
                    Error::OutOfRange(range) => format!("{}: {range}", range.relocation()),
                    error => panic!("{error}"),
                })?;
                assert_eq!(small_object::call(&loaded), number);
                std::mem::forget(loaded);
            }
            Ok(())
        },
    );
}

#[test]
fn numbas_plan_on_an_apple_m2_is_met() {
    // 16380 bytes aligned to 4 announced, 16379 aligned to 8 asked for, where pages have 4 KiB.
    only_ours_keeps("numbas_plan_on_an_apple_m2_is_met", 9, |manager| {
        let pages = 4 * region::page::size();
        for _ in 0..3 {
            let totals = PerKind::new(
                Extent::new(100, align(4)),
                Extent::EMPTY,
                Extent::new(pages - 4, align(4)),
            );
            manager
                .reserve_allocation_space(&AllocationSpace::Totals(totals))
                .map_err(text)?;
            let code = manager
                .allocate_section(&section(SectionKind::Code, 100, 4))
                .map_err(text)?;
            let data = manager
                .allocate_section(&section(SectionKind::ReadWriteData, pages - 5, 8))
                .map_err(text)?;
            in_reach(manager, &[code, data])?;
        }
        Ok(())
    });
}

#[test]
fn a_got_without_a_plan_is_in_reach_or_refused() {
    // What 600 calls through the PLT need on x86-64, where RuntimeDyld announces nothing for them: more than a page.
    only_ours_keeps(
        "a_got_without_a_plan_is_in_reach_or_refused",
        5,
        |manager| {
            let got = region::page::size() + 704;
            for _ in 0..3 {
                let totals = PerKind::new(Extent::new(88, align(4)), Extent::EMPTY, Extent::EMPTY);
                manager
                    .reserve_allocation_space(&AllocationSpace::Totals(totals))
                    .map_err(text)?;
                let code = manager
                    .allocate_section(&section(SectionKind::Code, 23, 4))
                    .map_err(text)?;
                match manager.allocate_section(&section(SectionKind::ReadWriteData, got, 8)) {
                    Ok(got) => in_reach(manager, &[code, got])?,
                    Err(Error::ReservationExhausted { .. }) => {}
                    Err(error) => return Err(text(error)),
                }
            }
            Ok(())
        },
    );
}

#[test]
fn common_symbols_of_rising_alignment_are_aligned_and_in_reach() {
    only_ours_keeps(
        "common_symbols_of_rising_alignment_are_aligned_and_in_reach",
        5,
        |manager| {
            let mut object = small_object::sections().to_vec();
            object.extend([4, 64, 128].map(|bytes| section(SectionKind::ReadWriteData, 4, bytes)));
            planned_objects_stay_in_reach(manager, &object, |manager, ids| {
                for (id, bytes) in ids[4..].iter().zip([4, 64, 128]) {
                    let address = manager.address(*id).map_err(text)?.get();
                    assert_eq!(address % bytes, 0, "{address:#x}");
                }
                Ok(())
            })
        },
    );
}

#[test]
fn an_unwind_table_without_terminator_gets_one() {
    only_ours_keeps(
        "an_unwind_table_without_terminator_gets_one",
        5,
        |manager| {
            let table = section(SectionKind::ReadOnlyData, 60, 4).with_eh_frame_terminator();
            let behind = section(SectionKind::ReadOnlyData, 64, 4);
            let object = [
                section(SectionKind::Code, 100, 16),
                table,
                behind,
                section(SectionKind::ReadWriteData, 8, 8),
            ];
            planned_objects_stay_in_reach(manager, &object, |manager, ids| {
                manager.section_mut(ids[2]).map_err(text)?.fill(0xff);
                let end = manager
                    .section_mut(ids[1])
                    .map_err(text)?
                    .as_ptr_range()
                    .end;
                // SAFETY: where there is a terminator it is part of the same block, and elsewhere at least of the same page.
                let terminator = unsafe { std::slice::from_raw_parts(end, 4) };
                if terminator == [0; 4] {
                    Ok(())
                } else {
                    Err(format!("{terminator:x?} follows the table"))
                }
            })
        },
    );
}
