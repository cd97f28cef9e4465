//! Eight threads that publish, run and drop, and one that looks at the kernel's map of the process meanwhile: no page is ever
//! writable and executable, and what is published has the permissions of its kind.
//!
//! `NEARCODE_SECONDS=60 cargo test --release --test window_threads -- --nocapture` does it for so long, each way.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "support/window_tools.rs"]
mod tools;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nearcode::{
    AllocationSpace, Error, Image, SectionId, SectionKind, SectionMemoryManager, Window, Writing,
};
use tools::{
    KernelsMap, Random, WAYS, assert_empty, assert_published, cut, function, options, publish,
    range, request,
};

const THREADS: usize = 8;

fn seconds() -> Duration {
    let asked = std::env::var("NEARCODE_SECONDS").ok();
    let asked = asked.map(|text| text.parse().expect("NEARCODE_SECONDS is a number"));
    asked.map_or(Duration::from_millis(500), Duration::from_secs_f64)
}

type Published = (Image, [SectionId; 3], u16);

/// Objects that stay for a while: the checker looks at them under this lock, their owner drops them under it.
type Shelf = Mutex<Vec<Published>>;

/// Publishes, runs and drops until time is over. How many objects that were.
fn work(window: &Window, number: usize, shelf: &Shelf, is_over: &AtomicBool) -> usize {
    let mut random = Random(0x7ead5 + number as u64);
    let mut manager = SectionMemoryManager::in_window(window);
    let (mut own, mut count): (Vec<Published>, usize) = (Vec::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let value = (number * 1000 + count % 1000) as u16;
        match random.below(20) {
            0 => {
                // Never published: no trace of it stays.
                function(&mut manager, value).unwrap();
                manager = SectionMemoryManager::in_window(window);
            }
            1 => {
                let kind = SectionKind::ALL[random.below(3)];
                let large = request(kind, 1 + random.below(200_000), 16);
                match window.reserve(&AllocationSpace::Sections(&[large])) {
                    Ok(reservation) => drop(reservation.finalize().unwrap()),
                    Err(Error::WindowExhausted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            _ => {
                let (image, ids) = publish(&mut manager, value).unwrap();
                assert_published(&image, &ids, value);
                own.push((image, ids, value));
                count += 1;
            }
        }
        if own.len() > 40 {
            let (image, ids, value) = own.swap_remove(random.below(own.len()));
            assert_published(&image, &ids, value);
            let mut shelf = shelf.lock().unwrap();
            shelf.push((image, ids, value));
            if shelf.len() > 64 {
                let at = random.below(shelf.len());
                drop(shelf.swap_remove(at));
            }
        }
        if random.below(50) == 0 {
            own.truncate(own.len() / 2);
        }
    }
    own.iter()
        .for_each(|(image, ids, value)| assert_published(image, ids, *value));
    count
}

/// Looks at the map until time is over. Whatever is on the shelf stays there meanwhile.
fn look(window: Range<usize>, shelf: &Shelf, is_over: &AtomicBool) -> usize {
    let mut looks = 0;
    while !is_over.load(Ordering::Relaxed) {
        let shelf = shelf.lock().unwrap();
        let mut map = KernelsMap::open(); // Each time: an emulator writes it when it is opened.
        // This alone sees whether a page is writable and executable.
        let found = cut(map.read(), window.clone());
        for (image, ids, value) in shelf.iter() {
            for (section, bits) in image.sections().zip([b"r-x", b"r--", b"rw-"]) {
                let start = section.address().get() as usize;
                for mapping in cut(&found, start..start + section.size()) {
                    assert_eq!(&mapping.permissions[..3], bits, "{section:?}");
                }
            }
            assert_published(image, ids, *value);
        }
        drop(shelf);
        looks += 1;
        thread::yield_now();
    }
    looks
}

fn publish_and_look(writing: Writing) {
    let window = Window::with_options(&options(writing).with_size(64 << 20)).unwrap();
    let (shelf, is_over, count) = (
        Shelf::default(),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    let looks = thread::scope(|scope| {
        for number in 0..THREADS {
            let (window, shelf, is_over, count) = (&window, &shelf, &is_over, &count);
            scope.spawn(move || {
                count.fetch_add(work(window, number, shelf, is_over), Ordering::Relaxed);
            });
        }
        let checker = scope.spawn(|| look(range(&window), &shelf, &is_over));
        let end = Instant::now() + seconds();
        while Instant::now() < end && !checker.is_finished() {
            thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        checker.join().unwrap()
    });
    println!("{writing:?}: {count:?} objects, looked at {looks} times");
    shelf.lock().unwrap().clear();
    assert_empty(&window);
}

#[test]
fn threads_publish_run_and_drop_while_another_reads_the_process_s_map() {
    WAYS.into_iter().for_each(publish_and_look);
}
