//! What registered unwind tables cost a process: while they come and go, and whoever throws meanwhile.
//!
//! `cargo bench --bench frames -- COUNT` prints a line for each row: `MODE COUNT publish-ns/function first-throw-us later-throw-us
//! drop-ns/function`.
//!
//! | mode | what |
//! |---|---|
//! | `none` | COUNT functions, each an object of its own in a window, without tables |
//! | `merged` | the same in one object with one table, as the loader makes it of all that is linked together |
//! | `each` | each an object of its own with a table of its own |
//!
//! What throws is a panic of this program's that it catches itself, and has nothing to do with the functions. The later one is the
//! median of 15. Objects are dropped in the order in which they came.

mod process;

use std::panic::{catch_unwind, resume_unwind};
use std::time::Instant;

use nearcode::{
    Align, AllocationSpace, Error, Image, Reach, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest, Window, WindowOptions,
};

use self::process::{arguments, or_end};

/// Bytes of a function. Nobody calls it.
const FUNCTION: usize = 16;

/// Bytes of a table's first record, and of each function's.
const CIE: usize = 24;
const FDE: usize = 24;

/// DWARF's number of the register, or of the column, with the return address.
const RETURN_ADDRESS: u8 = if cfg!(target_arch = "x86_64") {
    16
} else if cfg!(target_arch = "aarch64") {
    30
} else {
    1 // riscv64, loongarch64
};

const THROWS: usize = 15;

/// What `functions` functions of one object are, from `code` on, in a table that lies at `place`.
fn table(place: u64, code: u64, functions: usize) -> Vec<u8> {
    let mut table = Vec::with_capacity(CIE + functions * FDE);
    // Length, CIE, version, augmentation, alignments, return address, the encoding of addresses (pcrel, sdata4), padding.
    table.extend(20_u32.to_ne_bytes());
    table.extend([0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78]);
    table.extend([RETURN_ADDRESS, 1, 0x1b]);
    table.resize(CIE, 0);
    for number in 0..functions {
        let own = table.len();
        let distance = (code + (number * FUNCTION) as u64).wrapping_sub(place + own as u64 + 8);
        // Length, distance to the CIE, where the code is from here, its size, no augmentation, padding.
        table.extend(20_u32.to_ne_bytes());
        table.extend((own as u32 + 4).to_ne_bytes());
        table.extend((distance as u32).to_ne_bytes());
        table.extend((FUNCTION as u32).to_ne_bytes());
        table.resize(own + FDE, 0);
    }
    table
}

/// Publishes an object of so many functions.
fn publish(
    manager: &mut SectionMemoryManager,
    functions: usize,
    is_registered: bool,
) -> Result<Image, Error> {
    let code = SectionRequest::new(
        ".text",
        SectionKind::Code,
        functions * FUNCTION,
        Align::new(16)?,
    );
    let frames = SectionRequest::new(
        ".eh_frame",
        SectionKind::ReadOnlyData,
        CIE + functions * FDE,
        Align::new(8)?,
    )
    .with_eh_frame_terminator();
    manager.reserve_allocation_space(&AllocationSpace::Sections(&[code, frames]))?;
    let code = manager.allocate_section(&code)?;
    let frames = manager.allocate_section(&frames)?;
    let (place, code) = (manager.address(frames)?.get(), manager.address(code)?.get());
    let table = table(place, code, functions);
    manager.section_mut(frames)?.copy_from_slice(&table);
    if is_registered {
        // SAFETY: the table says of the code where it lies, and where a return address is before anything is pushed. It is never
        // called.
        unsafe { manager.register_eh_frames(frames) }?;
    }
    manager.finalize_memory()
}

/// How long it takes to throw and catch, in microseconds.
fn throw() -> f64 {
    let start = Instant::now();
    // Without the hook, which would print.
    let thrown = catch_unwind(|| resume_unwind(Box::new(())));
    let time = start.elapsed().as_nanos() as f64 / 1000.0;
    assert!(thrown.is_err(), "what was thrown was not caught");
    time
}

fn measure(mode: &str, count: usize, functions: usize, is_registered: bool) -> Result<(), Error> {
    // Room for a million of them.
    let options = WindowOptions::new()
        .with_size(Reach::PREL32.bytes() as usize)
        .with_code(256 << 20);
    let mut manager = SectionMemoryManager::in_window(&Window::with_options(&options)?);
    let mut images = Vec::with_capacity(count / functions);
    let start = Instant::now();
    for _ in 0..count / functions {
        images.push(publish(&mut manager, functions, is_registered)?);
    }
    let published = start.elapsed().as_nanos() / count as u128;
    let first = throw();
    let mut later: Vec<f64> = (0..THROWS).map(|_| throw()).collect();
    later.sort_by(f64::total_cmp);
    let later = later[THROWS / 2];
    let start = Instant::now();
    drop(images);
    let dropped = start.elapsed().as_nanos() / count as u128;
    println!("{mode} {count} {published} {first:.1} {later:.1} {dropped}");
    Ok(())
}

fn main() {
    let arguments = arguments();
    let [count] = &arguments[..] else {
        eprintln!("usage: frames COUNT");
        std::process::exit(2);
    };
    let count: usize = or_end(count.parse(), 0);
    let count = count.max(1);
    throw(); // What the first one of a process costs has to do with its libraries.
    or_end(measure("none", count, 1, false), 0);
    or_end(measure("merged", count, count, true), 0);
    or_end(measure("each", count, 1, true), 0);
}
