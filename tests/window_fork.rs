//! Memory and `fork`: a child runs what was published before, and neither of the two can change what the other runs.
//!
//! `NEARCODE_FORKS=10000 cargo test --release --test window_fork random -- --nocapture` forks that often without threads, and as
//! often amid threads.
#![cfg(target_os = "linux")]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/window_model.rs"]
mod model;
#[path = "support/window_tools.rs"]
mod tools;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use child::is_alone_natively;
use model::{Model, assert_content};
use nearcode::{
    AfterFork, AllocationSpace, Error, Image, ReservingMemoryManager, SectionId, SectionKind,
    SectionMemoryManager, Stats, Window, Writing,
};
use tools::{
    KernelsMap, Random, WAYS, assert_accounted, assert_empty, assert_published, capacity, function,
    options, publish, request, run, window,
};

/// A process that was forked off.
struct Forked(libc::pid_t);

impl Forked {
    /// Forks, and does `work` in the child. It has to end within 30 seconds.
    fn to(work: impl FnOnce()) -> Self {
        // SAFETY: the child does what a child of a process with one thread may, or one whose C library keeps the heap usable.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            // SAFETY: ends this process by a signal if a lock is held for ever.
            unsafe { libc::alarm(30) };
            let is_fine = catch_unwind(AssertUnwindSafe(work)).is_ok();
            // SAFETY: the child ends here, without what the parent wants to do at its end.
            unsafe { libc::_exit(i32::from(!is_fine)) };
        }
        Self(pid)
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    fn join(self) {
        let mut status = 0;
        // SAFETY: waits for a child of this process and writes to a variable.
        let ended = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert_eq!((ended, status), (self.0, 0), "the child failed: see above");
    }
}

#[track_caller]
fn assert_inherited<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::InheritedWindow)), "{result:?}");
}

#[test]
fn a_child_can_run_the_code_and_do_nothing_else_with_the_window() {
    if !is_alone_natively("a_child_can_run_the_code_and_do_nothing_else_with_the_window") {
        return;
    }
    for writing in WAYS {
        let window = window(writing);
        let mut manager = SectionMemoryManager::in_window(&window);
        let (image, ids) = publish(&mut manager, 1).unwrap();
        let mut reserved = Some(window.reserve(&AllocationSpace::EMPTY).unwrap());
        let code = request(SectionKind::Code, 64, 16);
        let section = reserved.as_mut().unwrap().allocate_section(&code).unwrap();
        let in_flight = function(&mut manager, 2).unwrap();
        let before = window.stats();
        Forked::to(|| {
            assert_published(&image, &ids, 1);
            assert_inherited(window.reserve(&AllocationSpace::EMPTY));
            assert_inherited(window.reserve(&AllocationSpace::Sections(&[code])));
            let mut filling = reserved.take().unwrap();
            assert_inherited(filling.allocate_section(&code));
            assert_inherited(filling.section_mut(section).map(|_| ()));
            assert_inherited(filling.write_pointer(section));
            assert_inherited(filling.finalize().map_err(Error::from));
            assert_inherited(manager.reserve_allocation_space(&AllocationSpace::EMPTY));
            assert_inherited(manager.allocate_section(&code));
            assert_inherited(manager.section_mut(in_flight).map(|_| ()));
            assert_inherited(manager.write_pointer(in_flight));
            for _ in 0..2 {
                assert_inherited(manager.finalize_memory());
            }
            let fresh = SectionMemoryManager::in_window(&window).allocate_section(&code);
            assert_inherited(fresh);
            assert_eq!(window.stats(), Stats::default(), "they are the parent's");
            assert_published(&image, &ids, 1);
        })
        .join();
        assert_eq!(window.stats(), before);
        // The parent goes on as if nothing had been.
        assert_eq!(
            reserved
                .as_mut()
                .unwrap()
                .section_mut(section)
                .unwrap()
                .len(),
            64
        );
        let next = manager.finalize_memory().unwrap();
        assert_eq!(run(&next, in_flight), 2);
        drop((next, reserved));
        assert_published(&image, &ids, 1);
        assert_accounted(&window);
    }
}

#[test]
fn what_a_child_drops_is_still_there_for_its_parent() {
    if !is_alone_natively("what_a_child_drops_is_still_there_for_its_parent") {
        return;
    }
    let whatever_is_promised = [AfterFork::Freeze, AfterFork::Reuse];
    for (writing, after_fork) in WAYS
        .into_iter()
        .flat_map(|way| whatever_is_promised.map(|after| (way, after)))
    {
        let options = options(writing).with_after_fork(after_fork);
        let window = Window::with_options(&options).unwrap();
        let mut manager = SectionMemoryManager::in_window(&window);
        let mut images: Vec<_> = (0..300)
            .map(|value| Some(publish(&mut manager, value).unwrap()))
            .collect();
        let mut in_flight = Some(window.reserve(&AllocationSpace::EMPTY).unwrap());
        let section = request(SectionKind::Code, 64, 16);
        let section = in_flight
            .as_mut()
            .unwrap()
            .allocate_section(&section)
            .unwrap();
        let before = window.stats();
        let (mut window, mut manager) = (Some(window), Some(manager));
        Forked::to(|| {
            // The kernel may place the child's own window where the parent's writable view is.
            let own = tools::window(writing);
            let mut own_manager = SectionMemoryManager::in_window(&own);
            let (own_image, own_ids) = publish(&mut own_manager, 1000).unwrap();
            for (value, image) in images.iter_mut().enumerate() {
                let (image, ids) = image.take().unwrap();
                assert_published(&image, &ids, value as u16);
                drop(image);
            }
            in_flight = None;
            manager = None;
            window = None;
            assert_published(&own_image, &own_ids, 1000);
            drop(own_image);
            let (again, ids) = publish(&mut own_manager, 1001).unwrap();
            assert_published(&again, &ids, 1001);
            drop(again);
            assert_empty(&own);
        })
        .join();
        let window = window.unwrap();
        assert_eq!(window.stats(), before);
        for (value, image) in images.iter().enumerate() {
            let (image, ids) = image.as_ref().unwrap();
            assert_published(image, ids, value as u16);
        }
        let mut in_flight = in_flight.unwrap();
        let code = tools::returning(7);
        in_flight.section_mut(section).unwrap()[..code.len()].copy_from_slice(&code);
        assert_eq!(run(&in_flight.finalize().unwrap(), section), 7);
    }
}

#[test]
fn the_writable_view_is_not_in_a_child() {
    if !is_alone_natively("the_writable_view_is_not_in_a_child") {
        return;
    }
    let writable = || {
        let map = KernelsMap::open().read().to_vec();
        let views = map.into_iter().filter(|mapping| mapping.is_view);
        views.filter(|view| view.permissions[1] == b'w').count()
    };
    let window = window(Writing::TwoAddresses);
    let mut manager = SectionMemoryManager::in_window(&window);
    let (image, ids) = publish(&mut manager, 5).unwrap();
    assert_eq!(writable(), 1);
    Forked::to(|| {
        assert_eq!(writable(), 0);
        let views = KernelsMap::open().read().to_vec();
        let views = views.into_iter().filter(|mapping| mapping.is_view);
        assert_eq!(views.count(), 2, "code and constants");
        // No descriptor leads to the memory either.
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let target = std::fs::read_link(entry.unwrap().path());
            let target = target.unwrap_or_default();
            assert!(!target.to_string_lossy().contains("memfd"), "{target:?}");
        }
        assert_published(&image, &ids, 5);
        Forked::to(|| assert_published(&image, &ids, 5)).join();
    })
    .join();
}

#[test]
fn a_child_s_code_stays_whatever_its_parent_publishes() {
    if !is_alone_natively("a_child_s_code_stays_whatever_its_parent_publishes") {
        return;
    }
    for writing in WAYS {
        let window = window(writing);
        let mut manager = SectionMemoryManager::in_window(&window);
        let images: Vec<_> = (0..100)
            .map(|value| publish(&mut manager, value).unwrap())
            .collect();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let child = Forked::to(|| {
            let mut word = [0];
            there.read_exact(&mut word).unwrap();
            for (value, (image, ids)) in images.iter().enumerate() {
                assert_published(image, ids, value as u16);
            }
        });
        let granted = window.stats().granted();
        let rwdata = 100 * 32;
        drop(images);
        let is_shared = writing == Writing::TwoAddresses;
        let frozen = if is_shared { granted - rwdata } else { 0 };
        assert_eq!(
            window.stats().frozen(),
            frozen,
            "code and constants, not variables"
        );
        assert_accounted(&window);
        assert_eq!(window.stats().granted(), 0);
        // New code all over the place, and thrown away, so that it would be used again.
        for round in 0..30 {
            let new: Vec<_> = (0..300)
                .map(|value| publish(&mut manager, 1000 + round + value).unwrap())
                .collect();
            drop(new);
        }
        assert_eq!(
            window.stats().frozen(),
            frozen,
            "what came later is used again"
        );
        here.write_all(&[1]).unwrap();
        child.join();
        assert_accounted(&window);
        let free: usize = window.stats().free().iter().map(|(_, &free)| free).sum();
        assert_eq!(free + window.stats().retired(), capacity(&window) - frozen);
        let rwdata = SectionKind::ReadWriteData;
        let free = window.stats().free()[rwdata];
        assert_eq!(free, window.capabilities().sizes()[rwdata]);
    }
}

#[test]
fn who_says_that_children_run_nothing_freezes_nothing() {
    if !is_alone_natively("who_says_that_children_run_nothing_freezes_nothing") {
        return;
    }
    for writing in WAYS {
        let options = options(writing).with_after_fork(AfterFork::Reuse);
        let window = Window::with_options(&options).unwrap();
        let mut manager = SectionMemoryManager::in_window(&window);
        let (image, _) = publish(&mut manager, 1).unwrap();
        Forked::to(|| assert_inherited(window.reserve(&AllocationSpace::EMPTY))).join();
        drop(image);
        assert_eq!(window.stats().frozen(), 0);
        assert_empty(&window);
    }
}

#[test]
fn only_what_existed_before_a_fork_is_frozen() {
    if !is_alone_natively("only_what_existed_before_a_fork_is_frozen") {
        return;
    }
    let window = window(Writing::TwoAddresses);
    let mut manager = SectionMemoryManager::in_window(&window);
    let (before, _) = publish(&mut manager, 1).unwrap();
    // In flight at the fork: a child never knew it as code.
    let between = function(&mut manager, 2).unwrap();
    Forked::to(|| ()).join();
    let between = (manager.finalize_memory().unwrap(), between);
    assert_eq!(run(&between.0, between.1), 2);
    drop(between);
    let (after, _) = publish(&mut manager, 3).unwrap();
    drop(after);
    assert_eq!(window.stats().frozen(), 0);
    drop(before);
    assert!(window.stats().frozen() > 0);
    assert_accounted(&window);
    let (after, ids) = publish(&mut manager, 4).unwrap();
    assert_published(&after, &ids, 4);
}

#[test]
fn starting_a_program_is_no_fork() {
    let test = "starting_a_program_is_no_fork";
    if child::argument().as_deref() == Some("executed") {
        let map = std::fs::read_to_string("/proc/self/maps").unwrap();
        return assert!(!map.contains("memfd:"), "{map}");
    }
    if !is_alone_natively(test) {
        return;
    }
    let window = window(Writing::TwoAddresses);
    let mut manager = SectionMemoryManager::in_window(&window);
    let (image, ids) = publish(&mut manager, 1).unwrap();
    let output = child::in_a_child(test, "executed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_published(&image, &ids, 1);
    drop(image);
    assert_eq!(window.stats().frozen(), 0);
    assert_empty(&window);
}

/// How often the random tests fork.
fn forks() -> usize {
    let asked = std::env::var("NEARCODE_FORKS").ok();
    asked.map_or(200, |forks| {
        forks.parse().expect("NEARCODE_FORKS is a number")
    })
}

/// A child that waits for its parent to do something.
struct Waiting {
    child: Forked,
    parent: UnixStream,
}

impl Waiting {
    /// The child gets a function that waits.
    fn to(work: impl FnOnce(&mut dyn FnMut())) -> Self {
        let (parent, mut here) = UnixStream::pair().unwrap();
        let child = Forked::to(|| {
            work(&mut || here.read_exact(&mut [0]).unwrap());
        });
        Self { child, parent }
    }

    #[track_caller]
    fn go_on_and_join(mut self) {
        self.parent.write_all(&[1]).unwrap();
        self.child.join();
    }
}

fn assert_alive(model: &Model) {
    for (object, image) in &model.alive {
        assert_content(object, image);
    }
}

/// What a child can do with whatever its parent just had, in whatever phase that was.
fn use_up(model: &mut Model, writing: Writing, wait: &mut dyn FnMut()) {
    assert_alive(model);
    for object in &model.in_flight {
        let manager = &mut model.managers[object.manager];
        for section in &object.sections {
            assert_inherited(manager.section_mut(section.id).map(drop));
        }
        assert_inherited(manager.finalize_memory());
    }
    assert_inherited(model.window.reserve(&AllocationSpace::EMPTY));
    // Some of it goes, in flight and alive.
    let (random, alive) = (&mut model.random, &mut model.alive);
    alive.retain(|_| random.below(3) > 0);
    model.in_flight.retain(|object| {
        let goes = random.below(2) == 0;
        if goes {
            model.managers[object.manager].abandon(object.id).unwrap();
        }
        !goes
    });
    if random.below(4) == 0 {
        let own = tools::window(writing);
        let (image, ids) = publish(&mut SectionMemoryManager::in_window(&own), 44).unwrap();
        assert_published(&image, &ids, 44);
    }
    wait();
    assert_alive(model);
    model.managers.clear();
    model.alive.clear();
    assert_eq!(model.window.stats(), Stats::default());
}

#[test]
fn random_forks_leave_parent_and_child_what_they_had() {
    if !is_alone_natively("random_forks_leave_parent_and_child_what_they_had") {
        return;
    }
    // What was frozen is never used again: no window lives to see many.
    const FORKS_OF_ONE: usize = 20;
    for writing in WAYS {
        let mut phases = [0; 4];
        for seed in 0..forks().div_ceil(2 * FORKS_OF_ONE) {
            let mut model = Model::new(writing, 0x9e37_79b9_7f4a_7c15 ^ seed as u64);
            let mut children = Vec::new();
            for _ in 0..FORKS_OF_ONE {
                (0..model.random.below(8)).for_each(|_| model.step());
                let has = [
                    model
                        .in_flight
                        .iter()
                        .any(|object| object.sections.is_empty()),
                    model
                        .in_flight
                        .iter()
                        .any(|object| !object.sections.is_empty()),
                    !model.alive.is_empty(),
                    model.done[5] > 0,
                ];
                phases
                    .iter_mut()
                    .zip(has)
                    .for_each(|(count, has)| *count += usize::from(has));
                children.push(Waiting::to(|wait| use_up(&mut model, writing, wait)));
                (0..model.random.below(8)).for_each(|_| model.step());
                if model.random.below(2) == 0 {
                    children.drain(..).for_each(Waiting::go_on_and_join);
                }
            }
            children.drain(..).for_each(Waiting::go_on_and_join);
            assert_alive(&model);
            let window = model.window.clone();
            drop(model);
            assert_empty(&window);
        }
        println!("{writing:?}: reserved, filled, finalized, freed: {phases:?}");
        assert!(phases.iter().all(|&count| count > 0), "{phases:?}");
    }
}

#[test]
fn random_forks_amid_threads_that_publish_leave_no_lock_behind() {
    if !is_alone_natively("random_forks_amid_threads_that_publish_leave_no_lock_behind") {
        return;
    }
    for writing in WAYS {
        let mut left = forks().div_ceil(2);
        while left > 0 {
            // What was frozen is never used again.
            let of_one = left.min(100);
            left -= of_one;
            fork_amid_threads(writing, of_one, 0x51ed ^ left as u64);
        }
    }
}

fn fork_amid_threads(writing: Writing, count: usize, seed: u64) {
    let window = window(writing);
    let mut manager = SectionMemoryManager::in_window(&window);
    let (image, ids) = publish(&mut manager, 42).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut manager = SectionMemoryManager::in_window(&window);
                while !is_over.load(Ordering::Relaxed) {
                    let (image, ids) = publish(&mut manager, 43).unwrap();
                    assert_published(&image, &ids, 43);
                }
            });
        }
        let mut random = Random(seed);
        let mut own: Vec<(Image, [SectionId; 3], u16)> = Vec::new();
        for value in 0..count as u16 {
            // The threads are wherever they are by now.
            (0..random.below(2000)).for_each(|_| std::hint::spin_loop());
            let (image, ids) = publish(&mut manager, value).unwrap();
            own.push((image, ids, value));
            let in_flight = function(&mut manager, value).unwrap();
            let child = Waiting::to(|wait| {
                assert_inherited(manager.section_mut(in_flight).map(drop));
                assert_inherited(window.reserve(&AllocationSpace::EMPTY));
                wait();
                for (image, ids, value) in own.drain(..) {
                    assert_published(&image, &ids, value);
                }
                let new = tools::window(writing);
                let mut manager = SectionMemoryManager::in_window(&new);
                let (image, ids) = publish(&mut manager, 44).unwrap();
                assert_published(&image, &ids, 44);
            });
            let finalized = manager.finalize_memory().unwrap();
            assert_eq!(run(&finalized, in_flight), i32::from(value));
            if random.below(3) == 0 {
                own.swap_remove(random.below(own.len()));
            }
            child.go_on_and_join();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_published(&image, &ids, 42);
    drop(image);
    drop(manager);
    assert_empty(&window);
}

#[test]
fn a_dedicated_block_is_its_parent_s_and_its_child_s_each_for_itself() {
    if !is_alone_natively("a_dedicated_block_is_its_parent_s_and_its_child_s_each_for_itself") {
        return;
    }
    let mut manager = SectionMemoryManager::new();
    let (image, ids) = publish(&mut manager, 1).unwrap();
    let plan = [request(SectionKind::Code, 64, 16)];
    manager
        .reserve_allocation_space(&AllocationSpace::Sections(&plan))
        .unwrap();
    let section = manager.allocate_section(&plan[0]).unwrap();
    let mut finish = |value: u16| {
        let code = tools::returning(value);
        manager.section_mut(section).unwrap()[..code.len()].copy_from_slice(&code);
        let image = manager.finalize_memory().unwrap();
        assert_eq!(run(&image, section), i32::from(value));
        image
    };
    let child = Waiting::to(|wait| {
        let own = finish(2);
        wait();
        assert_eq!(run(&own, section), 2);
        assert_published(&image, &ids, 1);
    });
    let own = finish(3);
    drop(image);
    child.go_on_and_join();
    assert_eq!(run(&own, section), 3);
    drop(own);
    let stats = manager.stats();
    assert_eq!(
        (stats.objects(), stats.in_flight(), stats.mappings()),
        (0, 0, 0)
    );
}

#[test]
fn a_fork_with_many_objects_alive_costs_what_its_mappings_do() {
    if !is_alone_natively("a_fork_with_many_objects_alive_costs_what_its_mappings_do") {
        return;
    }
    let window =
        Window::with_options(&options(Writing::TwoAddresses).with_size(128 << 20)).unwrap();
    let mut manager = SectionMemoryManager::in_window(&window);
    let lines = KernelsMap::open().read().len();
    let images: Vec<_> = (0..20_000)
        .map(|value| publish(&mut manager, value).unwrap())
        .collect();
    let mapped = KernelsMap::open().read().len();
    assert!(mapped <= lines + 8, "{lines} mappings became {mapped}");
    for _ in 0..3 {
        let started = Instant::now();
        let child = Forked::to(|| {
            let (image, ids) = &images[12_345];
            assert_published(image, ids, 12_345);
        });
        println!(
            "fork with {} objects: {:?}",
            images.len(),
            started.elapsed()
        );
        child.join();
    }
}
