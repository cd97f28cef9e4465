//! How a window behaves, whichever way it is written, and what becomes of one where the system grants less than was asked for.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "support/window_cases.rs"]
mod cases;
#[path = "support/child.rs"]
mod child;
#[path = "support/window_lives.rs"]
mod lives;
#[path = "support/window_tools.rs"]
mod tools;

use nearcode::{
    Align, AllocationSpace, Error, Extent, PerKind, SectionKind, SectionMemoryManager, Window,
    WindowOptions, Writing,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tools::{WAYS, assert_empty, assert_published, publish};

#[test]
fn every_case_holds_where_code_is_written_at_another_address() {
    cases::run_all(Writing::TwoAddresses);
}

#[test]
fn every_case_holds_where_code_is_written_where_it_runs() {
    cases::run_all(Writing::SameAddress);
}

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
        let forbids = window.capabilities().kernel_forbids_writing();
        assert_eq!(forbids, writing == Writing::TwoAddresses);
    }
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

/// Runs a test again in a process of its own. Whether this is that process.
fn is_alone(test: &str) -> bool {
    if child::argument().is_some() {
        return true;
    }
    if child::is_emulated() {
        println!("skipped: {test}: an emulator keeps to limits of its own");
        return false;
    }
    let output = child::in_a_child(test, "child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    false
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
    if !is_alone("a_window_that_the_system_refuses_is_halved_down_to_its_floor") {
        return;
    }
    let room = 150 << 20;
    limit(Resource::As, taken() + room);
    for writing in WAYS {
        let options = WindowOptions::new().with_writing(writing);
        let window = Window::with_options(&options).unwrap();
        let size = window.capabilities().size();
        assert!(
            (30 << 20..150 << 20).contains(&size),
            "{writing:?}: {size:#x}"
        );
        assert_eq!(window.capabilities().writing(), writing);
        assert_eq!(
            window.stats().reserved(),
            size,
            "what was got is what is reported"
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
fn where_two_addresses_cannot_be_had_only_who_left_it_open_gets_one() {
    if !is_alone("where_two_addresses_cannot_be_had_only_who_left_it_open_gets_one") {
        return;
    }
    // A memory file counts as one.
    limit(Resource::Fsize, 1 << 20);
    let options = WindowOptions::new();
    let refused = Window::with_options(&options.with_writing(Writing::TwoAddresses));
    assert!(matches!(refused, Err(Error::System { .. })), "{refused:?}");
    let window = Window::with_options(&options).unwrap();
    assert_eq!(window.capabilities().writing(), Writing::SameAddress);
    assert!(!window.capabilities().kernel_forbids_writing());
    assert_works(&window);
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
        let mut resident = vec![0; fetched / page];
        // SAFETY: still mapped, and one byte for each page.
        let asked = unsafe { libc::mincore(start as *mut _, fetched, resident.as_mut_ptr()) };
        assert_eq!(asked, 0);
        let resident = resident.iter().filter(|&&page| page & 1 != 0).count() * page;
        assert!(resident <= 1 << 20, "{way:?}: {resident} bytes");
    }
}
