//! An address space without luck: whatever is mapped next lands on one of many small islands, more than 4 GiB from the others.
//!
//! Every gap is filled with mappings that nobody can access, except the islands. No hint, no interposed library: raw system
//! calls see it, too. It cannot be undone, so it belongs into a process of its own.

use std::ffi::c_void;
use std::fs;
use std::ops::Range;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// The distance from one island to the next: more than any relocation spans.
const DISTANCE: usize = 5 << 30;
/// How Linux lays out address spaces of 47 bits (x86-64, emulators on it, aarch64 with pages of 16K) and of 48 (aarch64): their
/// end, short of what no page size divides, and the part that is free, above programs and their heap, below libraries and
/// stack. Islands lie there: addresses are given out from above, and what stays free behind the heap is lower.
const SPACES: [(usize, Range<usize>); 2] = [
    (0x7fff_ffff_0000, 0x6000_0000_0000..0x7000_0000_0000),
    (0xffff_ffff_0000, 0xd000_0000_0000..0xe000_0000_0000),
];
/// What stays free behind the heap and below the stack, for them to grow.
const GROWTH: usize = 64 << 20;
/// What stays free for an emulator's own heap. Addresses are given out from above: this is the last place to be used.
const EMULATOR: Range<usize> = 0x10_0000_0000..0x10_0400_0000;

/// Fills the address space of this process, except for islands of `pages` pages each. Returns how many islands there are.
pub fn scatter(pages: usize) -> usize {
    let size = pages * region::page::size();
    let is_stack = |(_, _, name): &(usize, _, String)| name == "[stack]";
    let stack = mappings().into_iter().find(is_stack).expect("a stack").0;
    let has_room = |(end, _): &(usize, _)| stack < *end;
    let (space, free) = SPACES
        .into_iter()
        .find(has_room)
        .expect("no more than 48 bits");
    let islands: Vec<usize> = free.step_by(DISTANCE).collect();
    let mut start = 0x1_0000; // Below it, vm.mmap_min_addr.
    for (mapped_start, mapped_end, name) in mappings() {
        let end = if name == "[stack]" {
            mapped_start.saturating_sub(GROWTH)
        } else {
            mapped_start
        };
        fill_around(start, end.min(space), &islands, size);
        start = if name == "[heap]" {
            mapped_end + GROWTH
        } else {
            mapped_end
        }
        .max(start);
    }
    fill_around(start, space, &islands, size);
    islands.len()
}

fn fill_around(start: usize, end: usize, islands: &[usize], size: usize) {
    let islands = islands.iter().map(|&island| island..island + size);
    let mut from = start;
    for free in [EMULATOR].into_iter().chain(islands) {
        if start <= free.start && free.end <= end {
            fill(from, free.start);
            from = free.end;
        }
    }
    fill(from, end);
}

/// Maps all of it that can be mapped. Under an emulator some of it is taken without being shown: what cannot be mapped in one
/// piece is mapped in two.
fn fill(start: usize, end: usize) {
    let page = region::page::size();
    if start >= end || end - start < page {
        return;
    }
    match map(start, end - start) {
        Err(Errno::EXIST) if end - start > page => {
            let middle = start + ((end - start) / 2).next_multiple_of(page);
            fill(start, middle);
            fill(middle, end);
        }
        Ok(()) | Err(Errno::EXIST) => {} // Taken, if not shown.
        Err(error) => panic!("{start:#x}..{end:#x} cannot be filled: {error}"),
    }
}

/// Maps just these bytes, which nobody can access.
fn map(start: usize, size: usize) -> Result<(), Errno> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    let hint = std::ptr::without_provenance_mut::<c_void>(start);
    // SAFETY: FIXED_NOREPLACE replaces no mapping, and nobody uses the pages.
    let mapped = unsafe { mmap_anonymous(hint, size, ProtFlags::empty(), flags) }?;
    assert_eq!(mapped, hint, "FIXED_NOREPLACE is not known here");
    Ok(())
}

/// The process's mappings as the kernel lists them: start, end, name.
pub fn mappings() -> Vec<(usize, usize, String)> {
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux shows a process its mappings");
    let mapping = |line: &str| {
        let (range, rest) = line.split_once(' ').expect("a range and the rest");
        let (start, end) = range.split_once('-').expect("a start and an end");
        let number = |text| usize::from_str_radix(text, 16).expect("addresses are hexadecimal");
        (
            number(start),
            number(end),
            rest.split_whitespace().nth(4).unwrap_or("").to_owned(),
        )
    };
    maps.lines().map(mapping).collect()
}
