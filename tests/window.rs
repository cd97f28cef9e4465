//! What a window is on Linux, and what becomes of one where the system grants less than was asked for.
#![cfg(target_os = "linux")]
#![cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]

#[path = "support/child.rs"]
mod child;
#[path = "support/window_tools.rs"]
mod tools;

use child::is_alone_natively;
use nearcode::{
    Align, AllocationSpace, BranchProtection, Error, Extent, PerKind, SectionKind,
    SectionMemoryManager, Window, WindowOptions, Writing,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tools::{WAYS, assert_empty, assert_published, publish};

#[test]
fn a_window_is_shared_between_threads() {
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    is_shared::<Window>();
}

#[test]
fn the_default_is_two_addresses_in_half_a_gigabyte() {
    let window = Window::new().unwrap();
    let found = window.capabilities();
    assert_eq!(found.writing(), Writing::TwoAddresses);
    assert!(found.kernel_forbids_writing());
    assert!(found.size() <= 512 << 20 && found.size() > 510 << 20);
    for writing in WAYS {
        let window = tools::window(writing);
        assert_eq!(window.capabilities().writing(), writing);
        let (stats, sizes) = (window.stats(), window.capabilities().sizes());
        assert_eq!((stats.free(), stats.largest_free()), (sizes, sizes));
        let forbids = window.capabilities().kernel_forbids_writing();
        assert_eq!(forbids, writing == Writing::TwoAddresses);
    }
}

#[test]
fn branches_are_said_to_reach_all_code_where_they_do() {
    let call = nearcode::reach::aarch64::range(283).unwrap(); // R_AARCH64_CALL26
    for mebibytes in [8, 126, 128, 130, 200] {
        let options = WindowOptions::new().with_code(mebibytes << 20);
        let window = Window::with_options(&options).unwrap();
        let first = window.address().get() + (64 << 10);
        let last = first + window.capabilities().sizes()[SectionKind::Code] as u64 - 4;
        let reach = [(first, last), (last, first)].map(|(from, to)| call.check(from, to).is_ok());
        let said = window.capabilities().branches_reach_all_code();
        assert_eq!(reach, [said; 2], "{mebibytes} MiB");
    }
}

#[test]
fn the_heap_that_a_window_keeps_grows_with_its_objects() {
    let window = tools::window(Writing::TwoAddresses);
    let mut manager = SectionMemoryManager::in_window(&window);
    let before = window.stats().bookkeeping();
    assert!((1..64 << 10).contains(&before), "{before}");
    let publish = |value| publish(&mut manager, value).unwrap();
    let images: Vec<_> = (0..5000).map(publish).collect();
    // Sixteen bytes for each span, a bit for each page, and room for 8192 more spans, of each kind at most once.
    let spans = 16 * 3 * images.len();
    let ahead = 16 * 3 * 8192;
    let kept = window.stats().bookkeeping() - before;
    assert!(
        (spans + ahead / 3..spans * 4 / 3 + ahead).contains(&kept),
        "{kept}"
    );
}

#[test]
fn a_window_without_room_for_all_kinds_is_refused() {
    for writing in WAYS {
        let least = (6 << 20) + (64 << 10);
        for size in [0, 1, least - 1] {
            let refused = Window::with_options(&tools::options(writing).with_size(size));
            assert!(
                matches!(refused, Err(Error::WindowTooSmall { size: s }) if s == size),
                "{refused:?}"
            );
        }
        let window = Window::with_options(&tools::options(writing).with_size(least)).unwrap();
        assert_works(&window);
    }
}

fn assert_works(window: &Window) {
    let mut manager = SectionMemoryManager::in_window(window);
    let (image, ids) = publish(&mut manager, 321).unwrap();
    assert_published(&image, &ids, 321);
    drop(image);
    assert_empty(window);
}

/// Bytes of the address space that this process takes.
fn taken() -> u64 {
    let maps = tools::KernelsMap::open().read().to_vec();
    let mappings = maps.iter().map(|mapping| mapping.end - mapping.start);
    mappings.sum::<usize>() as u64
}

fn limit(resource: Resource, bytes: u64) {
    let maximum = getrlimit(resource).maximum;
    let current = Some(bytes);
    setrlimit(resource, Rlimit { current, maximum }).unwrap();
}

#[test]
fn a_window_that_the_system_refuses_is_halved_down_to_its_floor() {
    if !is_alone_natively("a_window_that_the_system_refuses_is_halved_down_to_its_floor") {
        return;
    }
    let room = 150 << 20;
    limit(Resource::As, taken() + room);
    for writing in WAYS {
        let options = WindowOptions::new().with_writing(writing);
        let before = taken();
        let window = Window::with_options(&options).unwrap();
        let size = window.capabilities().size();
        assert!(
            (30 << 20..150 << 20).contains(&size),
            "{writing:?}: {size:#x}"
        );
        assert_eq!(window.capabilities().writing(), writing);
        let (reserved, more) = (window.stats().reserved() as u64, taken() - before);
        let heap = 1 << 20; // What else came meanwhile.
        assert!(
            (reserved..reserved + heap).contains(&more),
            "{writing:?}: {reserved:#x} of {more:#x}"
        );
        assert_works(&window);
        drop(window);
        let refused = Window::with_options(&options.with_floor(256 << 20));
        assert!(
            matches!(refused, Err(Error::System { .. })),
            "{writing:?}: {refused:?}"
        );
        assert!(
            taken() < (64 << 20) + room,
            "a refusal leaves nothing mapped"
        );
    }
}

#[test]
fn a_thread_with_descriptors_of_its_own_makes_a_window_at_two_addresses() {
    let window = std::thread::spawn(|| {
        // SAFETY: this thread alone gets a table of its own, a copy of the process's.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
        Window::with_options(&WindowOptions::new().with_writing(Writing::TwoAddresses))
    });
    assert_works(&window.join().unwrap().unwrap());
}

#[test]
fn memory_that_came_before_the_system_refused_the_rest_goes_back() {
    if child::is_emulated() {
        return println!("skipped: the emulator fetches no pages in advance");
    }
    for way in WAYS {
        let options = WindowOptions::new().with_size(64 << 20).with_code(16 << 20);
        let window = Window::with_options(&options.with_writing(way)).unwrap();
        let guards = 3 * (64 << 10);
        let sizes = window.capabilities().sizes();
        let in_front = guards + sizes[SectionKind::Code] + sizes[SectionKind::ReadOnlyData];
        let start = window.address().get() as usize + in_front;
        let (fetched, page) = (6 << 20, rustix::param::page_size());
        // A hole that nobody can fetch a page for.
        let hole = (start + fetched) as *mut libc::c_void;
        // SAFETY: of the window, in which nothing is yet.
        assert_eq!(unsafe { libc::munmap(hole, page) }, 0);
        let mut totals = PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY);
        totals[SectionKind::ReadWriteData] = Extent::new(8 << 20, Align::ONE);
        let refused = window.reserve(&AllocationSpace::Totals(totals));
        assert!(matches!(refused, Err(Error::System { .. })), "{refused:?}");
        let resident = tools::in_memory(&(start..start + fetched));
        assert!(resident <= 1 << 20, "{way:?}: {resident} bytes");
    }
}

#[test]
fn what_is_committed_is_what_is_in_memory_also_after_code_was_dropped() {
    if child::is_emulated() {
        return println!("skipped: the emulator gives no pages back");
    }
    for way in WAYS {
        let window = tools::window(way);
        let in_memory = || tools::in_memory(&tools::range(&window));
        for size in [300 << 10, 3 << 20] {
            let code = [tools::request(SectionKind::Code, size, 16)];
            let code = window.reserve(&AllocationSpace::Sections(&code)).unwrap();
            let image = code.finalize().unwrap();
            assert_eq!(window.stats().committed(), in_memory(), "{way:?}");
            let before = in_memory();
            drop(image);
            assert_eq!(window.stats().committed(), in_memory(), "{way:?}");
            // Where permissions change, code goes back at once; else what is beyond what is kept.
            let goes = way == Writing::SameAddress || size > 2 << 20;
            let went = goes && window.capabilities().returns_pages();
            assert_eq!(in_memory() < before, went, "{way:?}: {size:#x} bytes");
        }
    }
}

#[test]
#[cfg(not(target_arch = "aarch64"))]
fn landing_pads_that_the_cpu_does_not_have_are_refused() {
    for writing in WAYS {
        let options = tools::options(writing).with_branch_protection(BranchProtection::LandingPads);
        let refused = Window::with_options(&options);
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    }
}

/// A CPU without them refuses the window. On one with them (as qemu's is), a call that lands elsewhere ends the process.
#[test]
#[cfg(target_arch = "aarch64")]
fn an_indirect_call_lands_on_a_pad_or_traps() {
    use nearcode::ReservingMemoryManager;
    const BTI_C: u32 = 0xd503_245f; // Arm ARM, C6.2: HINT #34.
    let test = "an_indirect_call_lands_on_a_pad_or_traps";
    let publish_and_run = |writing, pad: bool| {
        let options = tools::options(writing).with_branch_protection(BranchProtection::LandingPads);
        let window = match Window::with_options(&options) {
            Err(Error::Unsupported(_)) => return None,
            window => window.unwrap(),
        };
        let protection = window.capabilities().branch_protection();
        assert_eq!(protection, BranchProtection::LandingPads);
        let mut code = if pad {
            BTI_C.to_le_bytes().to_vec()
        } else {
            Vec::new()
        };
        code.extend(tools::returning(42));
        let mut manager = SectionMemoryManager::in_window(&window);
        let request = tools::request(SectionKind::Code, code.len(), 16);
        let id = manager.allocate_section(&request).unwrap();
        manager.section_mut(id).unwrap().copy_from_slice(&code);
        Some(tools::run(&manager.finalize_memory().unwrap(), id))
    };
    if let Some(way) = child::argument() {
        let way = WAYS.into_iter().find(|known| format!("{known:?}") == way);
        println!("survived: {:?}", publish_and_run(way.unwrap(), false));
        return;
    }
    for writing in WAYS {
        match publish_and_run(writing, true) {
            Some(result) => assert_eq!(result, 42),
            None => return println!("skipped: {test}: this CPU has none"),
        }
        let output = child::in_a_child(test, &format!("{writing:?}"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && !text.contains("survived"),
            "{text}"
        );
    }
}
