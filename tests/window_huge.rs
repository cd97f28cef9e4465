//! Memory of a window that comes in huge pages, as the kernel's map of this process has them.
#![cfg(target_os = "linux")]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/window_tools.rs"]
mod tools;

use std::fs;
use std::ptr::null_mut;

use nearcode::{AllocationSpace, Image, SectionKind, Window, Writing};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const HUGE: usize = 2 << 20;
const SIZE: usize = 60_000;

/// Bytes of a range that huge pages of files are mapped for, by `/proc/self/smaps`.
fn in_huge_pages(range: &std::ops::Range<usize>) -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut is_inside, mut bytes) = (false, 0);
    for line in smaps.lines() {
        let head = line.split([' ', '-']).next().unwrap();
        if let Ok(start) = usize::from_str_radix(head, 16) {
            is_inside = range.contains(&start);
        } else if let ("ShmemPmdMapped:", true) = (head, is_inside) {
            let kilobytes = line.split_whitespace().nth(1).unwrap();
            bytes += kilobytes.parse::<usize>().unwrap() << 10;
        }
    }
    bytes
}

/// Whether this kernel makes one huge page of a file's pages when it is asked to, and only then: tried without the crate. Where it
/// gives them unasked, a window declines them.
fn kernel_collapses() -> bool {
    let file = memfd_create("huge", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, HUGE as u64).unwrap();
    let (permission, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping takes nothing from anybody.
    let room = unsafe { mmap(null_mut(), 2 * HUGE, permission, flags, &file, 0) }.unwrap();
    let start = room.map_addr(|address| address.next_multiple_of(HUGE));
    let flags = flags | MapFlags::FIXED;
    // SAFETY: it lies in the mapping that was just made, which nobody uses.
    unsafe { mmap(start, HUGE, permission, flags, &file, 0) }.unwrap();
    // SAFETY: it is writable, and the file is as long.
    unsafe { start.cast::<u8>().write(1) };
    let range = start.addr()..start.addr() + HUGE;
    let is_asked = tools::in_memory(&range) == rustix::param::page_size();
    // SAFETY: the content stays. MADV_COLLAPSE is 25 (linux/mman.h).
    let collapsed = unsafe { libc::madvise(start, HUGE, 25) } == 0;
    let is_huge = is_asked && collapsed && in_huge_pages(&range) == HUGE;
    // SAFETY: the whole mapping, which nobody uses any more.
    unsafe { munmap(room, 2 * HUGE) }.unwrap();
    is_huge
}

fn publish(window: &Window, number: usize) -> Image {
    let plan = [SectionKind::Code, SectionKind::ReadOnlyData];
    let plan = plan.map(|kind| tools::request(kind, SIZE, 16));
    let mut reservation = window.reserve(&AllocationSpace::Sections(&plan)).unwrap();
    for request in &plan {
        let id = reservation.allocate_section(request).unwrap();
        reservation.section_mut(id).unwrap().fill(number as u8);
    }
    reservation.finalize().unwrap()
}

fn assert_intact(image: &Image, number: usize) {
    for section in image.sections() {
        // SAFETY: a section of an image that is alive, readable for as long, which nobody writes.
        let bytes = unsafe { std::slice::from_raw_parts(section.pointer().as_ptr(), SIZE) };
        assert!(bytes.iter().all(|&byte| byte == number as u8), "{number}");
    }
}

#[test]
fn much_memory_comes_in_huge_pages_and_goes_back_by_the_byte() {
    if child::is_emulated() {
        return println!("skipped: the emulator maps no huge pages");
    }
    let options = tools::options(Writing::TwoAddresses);
    let options = options.with_size(96 << 20).with_code(32 << 20);
    let window = Window::with_options(&options).unwrap();
    let range = tools::range(&window);
    let in_memory = || tools::in_memory(&range);

    let little: Vec<_> = (0..10).map(|number| publish(&window, number)).collect();
    assert!(
        window.stats().committed() < 2 * HUGE,
        "no huge page for little"
    );
    assert_eq!(window.stats().committed(), in_memory());
    let much: Vec<_> = (10..200).map(|number| publish(&window, number)).collect();
    let all: Vec<_> = little.into_iter().chain(much).collect();
    for (number, image) in all.iter().enumerate() {
        assert_intact(image, number);
    }
    assert_eq!(window.stats().committed(), in_memory());
    let used = 2 * 200 * SIZE;
    assert!(
        in_memory() <= used + 3 * HUGE,
        "at most one and a half each too much"
    );
    let huge = in_huge_pages(&range);
    println!("{huge} bytes of {} in huge pages", in_memory());
    match kernel_collapses() {
        true => assert!(huge >= 2 * 2 * HUGE, "{huge} bytes of {used} in huge pages"),
        false => println!("skipped: this kernel gives none, or gives them unasked"),
    }

    // Parts of huge pages go back, and what lies between them stays what it is.
    let mut kept = Vec::new();
    for (number, image) in all.into_iter().enumerate() {
        if number / 20 % 2 == 0 {
            kept.push((number, image));
        }
    }
    for (number, image) in &kept {
        assert_intact(image, *number);
    }
    assert_eq!(window.stats().committed(), in_memory());
    drop(kept);
    assert_eq!(window.stats().committed(), in_memory());
    assert!(in_memory() <= 3 << 20, "{} bytes stay", in_memory());
}
