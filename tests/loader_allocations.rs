//! What linking takes from the heap, counted by the allocator of this process.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/objects.rs"]
mod objects;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use nearcode::loader::Loader;
use nearcode::{SectionMemoryManager, Window};
use object::{Object, ObjectSection};

use objects::{File, call, load_from_got, returns};

/// The system's allocator, and a count of what each thread asks it for.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does everything.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the contract is the same.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the contract is the same.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

const CALL: &str = if cfg!(target_arch = "aarch64") {
    "bl f"
} else {
    "call f@PLT"
};

/// Two symbols, and some `relocations` that refer to them, in code and in data.
fn object(relocations: usize) -> File {
    let (function, by_got) = (returns(42), load_from_got("f"));
    let text = format!(
        ".text\n.global f, g\nf: g: {function}\n\
         .rept {relocations} / 6\n{CALL}\n{by_got}\n.endr\n\
         .data\n.rept {relocations} / 6\n.quad f, g + 8, f\n.long g - .\n.endr\n"
    );
    File::assemble(&format!("relocations_{relocations}.o"), &text)
}

fn relocations(file: &File) -> usize {
    let parsed = object::File::parse(&*file.bytes).unwrap();
    let sections = parsed.sections();
    sections.map(|section| section.relocations().count()).sum()
}

/// How often the heap is asked while the file becomes a program that runs.
fn asked(file: &File, manager: &mut SectionMemoryManager) -> usize {
    let before = ASKED.get();
    let mut loader = Loader::new().unwrap();
    loader.load(&file.name, &file.bytes).unwrap();
    let program = loader.link(manager, &()).unwrap();
    let asked = ASKED.get() - before;
    assert_eq!(call(&program, "f"), 42);
    asked
}

#[test]
fn ten_times_the_relocations_take_as_many_allocations() {
    let (few, many) = (object(6_000), object(60_000));
    let more = relocations(&many) - relocations(&few);
    assert!(more >= 50_000, "{more}");
    let window = Window::new().unwrap();
    let managers = [
        SectionMemoryManager::new(),
        SectionMemoryManager::in_window(&window),
    ];
    for mut manager in managers {
        asked(&few, &mut manager); // What is kept for all programs is there then.
        let few = asked(&few, &mut manager);
        let many = asked(&many, &mut manager);
        println!("{few} allocations, and {many} for {more} relocations more");
        assert!(few > 0, "it counts");
        assert_eq!(few, many);
    }
}
