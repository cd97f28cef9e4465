//! Publishes objects of a typical size, one after the other, and calls each once after its own finalization.
//!
//! `cargo bench --bench publish -- MODE COUNT [SCALE]` prints one line: `MODE COUNT ns/object pss-bytes/object mappings`.
//!
//! | mode | what |
//! |---|---|
//! | `dedicated` | a block for each object, all of them alive at the end |
//! | `dedicated-churn` | a block for each object, gone before the next one: load and unload |
//!
//! Sizes are those of an object that Numba makes of a small function; SCALE multiplies them. Memory is the proportional set size
//! (PSS), so that pages that are mapped twice count once. A failure ends the run with the object's number.

use std::fmt::Display;
use std::fs;
use std::process::exit;
use std::time::Instant;

use nearcode::{
    Align, AllocationSpace, Error, Image, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest,
};

/// The sections of an object.
struct Object {
    sections: [SectionRequest<'static>; 4],
}

impl Object {
    fn new(scale: f64) -> Result<Self, Error> {
        let section = |name, kind, size: f64, align| {
            Ok::<_, Error>(SectionRequest::new(
                name,
                kind,
                (size * scale) as usize,
                Align::new(align)?,
            ))
        };
        let sections = [
            section(".text", SectionKind::Code, 1180.0, 16)?,
            section(".rodata", SectionKind::ReadOnlyData, 320.0, 8)?,
            section(".eh_frame", SectionKind::ReadOnlyData, 96.0, 8)?,
            section(".got", SectionKind::ReadWriteData, 40.0, 8)?,
        ];
        Ok(Self { sections })
    }

    fn publish(&self, manager: &mut impl ReservingMemoryManager) -> Result<Image, Error> {
        manager.reserve_allocation_space(&AllocationSpace::Sections(&self.sections))?;
        let [text, rodata, eh_frame, got] = &self.sections;
        let code = manager.allocate_section(text)?;
        fill_with_returns(manager.section_mut(code)?);
        for section in [rodata, eh_frame, got] {
            let data = manager.allocate_section(section)?;
            manager.section_mut(data)?.fill(1);
        }
        let image = manager.finalize_memory()?;
        let code = image.pointer(code)?.as_ptr();
        // SAFETY: the code is a function that returns at once, in memory that `image` keeps alive.
        let function: extern "C" fn() = unsafe { std::mem::transmute(code) };
        function();
        Ok(image)
    }
}

#[cfg(target_arch = "x86_64")]
fn fill_with_returns(code: &mut [u8]) {
    code.fill(0xc3); // ret
}

#[cfg(target_arch = "aarch64")]
fn fill_with_returns(code: &mut [u8]) {
    for instruction in code.chunks_exact_mut(4) {
        instruction.copy_from_slice(&0xd65f_03c0_u32.to_le_bytes()); // ret
    }
}

/// The proportional set size of this process, in bytes.
fn pss() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count())
}

fn or_end<T>(result: Result<T, impl Display>, object: usize) -> T {
    result.unwrap_or_else(|error| {
        println!("{error} at object {object}");
        exit(1)
    })
}

fn main() {
    // cargo bench adds an argument of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let (mode, count, scale) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [mode @ ("dedicated" | "dedicated-churn"), count] => (mode, count.parse(), Ok(1.0)),
        [mode @ ("dedicated" | "dedicated-churn"), count, scale] => {
            (mode, count.parse(), scale.parse())
        }
        _ => {
            eprintln!("usage: publish dedicated|dedicated-churn COUNT [SCALE]");
            exit(2);
        }
    };
    let (count, scale): (usize, f64) = (or_end(count, 0), or_end(scale, 0));
    let object = or_end(Object::new(scale), 0);
    let mut manager = SectionMemoryManager::new();
    let mut live = Vec::new();
    let before = pss();
    let start = Instant::now();
    for number in 0..count {
        let image = or_end(object.publish(&mut manager), number);
        if mode == "dedicated" {
            live.push(image);
        }
    }
    let time = start.elapsed().as_nanos() as f64 / count as f64;
    let memory = pss().saturating_sub(before) as f64 / count as f64;
    println!("{mode} {count} {time:.0} {memory:.0} {}", mappings());
    std::mem::forget(live); // The system is quicker at it, and nothing is measured any more.
}
