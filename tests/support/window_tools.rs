//! What the tests of windows share: small windows, machine code, and the kernel's map of this process.
#![allow(dead_code)] // Each test crate uses its own part.

use std::fs::File;
use std::io::{Read, Seek};
use std::mem::transmute;
use std::ops::Range;
use std::ptr::NonNull;

use nearcode::{
    Address, Align, AllocationSpace, Error, Image, ReservingMemoryManager, SectionId, SectionKind,
    SectionMemoryManager, SectionRequest, Stats, Window, WindowOptions, Writing,
};

/// Both ways.
#[cfg(target_os = "linux")]
pub const WAYS: [Writing; 2] = [Writing::TwoAddresses, Writing::SameAddress];
/// The way that every system has.
#[cfg(not(target_os = "linux"))]
pub const WAYS: [Writing; 1] = [Writing::SameAddress];

/// 32 MiB, 8 MiB of them for code.
pub fn options(writing: Writing) -> WindowOptions {
    let options = WindowOptions::new().with_writing(writing);
    options.with_size(32 << 20).with_code(8 << 20)
}

pub fn window(writing: Writing) -> Window {
    Window::with_options(&options(writing)).unwrap()
}

pub fn request(kind: SectionKind, size: usize, align: usize) -> SectionRequest<'static> {
    SectionRequest::new("s", kind, size, Align::new(align).unwrap())
}

/// Where the window lies.
pub fn range(window: &Window) -> Range<usize> {
    let start = window.address().get() as usize;
    start..start + window.capabilities().size()
}

/// What all kinds have together.
pub fn capacity(window: &Window) -> usize {
    let sizes = window.capabilities().sizes();
    sizes.iter().map(|(_, &size)| size).sum()
}

/// Every byte is somebody's, or free, or on its way. To be asked while nothing happens.
#[track_caller]
pub fn assert_accounted(window: &Window) {
    let stats = window.stats();
    let free: usize = stats.free().iter().map(|(_, &free)| free).sum();
    let known = stats.granted() + free + stats.retired() + stats.frozen();
    assert_eq!(known, capacity(window), "{stats:?}");
    let asked = (stats.asked(), stats.granted(), stats.committed());
    assert!(asked.0 <= asked.1 && asked.1 <= asked.2, "{stats:?}");
    for (kind, &free) in stats.free().iter() {
        let largest = stats.largest_free()[kind];
        let size = window.capabilities().sizes()[kind];
        assert!(largest <= free && free <= size, "{kind}: {stats:?}");
    }
}

/// Nothing is in use, and every byte accounted for.
#[track_caller]
pub fn assert_empty(window: &Window) {
    let stats = window.stats();
    let used = (stats.asked(), stats.granted());
    assert_eq!(used, (0, 0), "{stats:?}");
    assert_eq!((stats.in_flight(), stats.objects()), (0, 0), "{stats:?}");
    assert_accounted(window);
}

/// A refusal changed nothing, except that freed code that was waiting may be free now.
#[track_caller]
pub fn assert_unchanged(before: &Stats, after: &Stats) {
    let numbers = |stats: &Stats| {
        let free: usize = stats.free().iter().map(|(_, &free)| free).sum();
        let used = (stats.asked(), stats.granted(), stats.frozen());
        let count = (stats.in_flight(), stats.objects());
        (used, count, free + stats.retired())
    };
    assert_eq!(numbers(before), numbers(after));
}

/// A function that returns a number.
#[cfg(target_arch = "x86_64")]
pub fn returning(value: u16) -> Vec<u8> {
    let [low, high] = value.to_le_bytes();
    vec![0xb8, low, high, 0, 0, 0xc3] // mov $value, %eax; ret
}

/// A function that returns a number.
#[cfg(target_arch = "aarch64")]
pub fn returning(value: u16) -> Vec<u8> {
    let words = [0x5280_0000 | u32::from(value) << 5, 0xd65f_03c0]; // mov w0, #value; ret
    words
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect()
}

/// A function that returns a number.
#[cfg(target_arch = "riscv64")]
pub fn returning(value: u16) -> Vec<u8> {
    let [high, low] = high_and_low(value.into());
    // lui a0, high; addiw a0, a0, low; ret
    [0x537 | high << 12, 0x5051b | low << 20, 0x8067]
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect()
}

/// What LUI or AUIPC adds, and what an instruction with 12 bits of its own adds to that: it counts them as signed.
#[cfg(target_arch = "riscv64")]
fn high_and_low(value: u32) -> [u32; 2] {
    let high = value.wrapping_add(0x800) >> 12;
    [high, value.wrapping_sub(high << 12) & 0xfff]
}

/// A function that returns the 32 bits at an address.
#[cfg(target_arch = "x86_64")]
pub fn reading(address: Address) -> Vec<u8> {
    let mut code = vec![0x48, 0xb8]; // movabs $address, %rax
    code.extend(address.get().to_le_bytes());
    code.extend([0x8b, 0x00, 0xc3]); // mov (%rax), %eax; ret
    code
}

/// A function that returns the 32 bits at an address.
#[cfg(target_arch = "aarch64")]
pub fn reading(address: Address) -> Vec<u8> {
    let part = |at: u32| u32::from((address.get() >> (16 * at)) as u16) << 5;
    let words = [
        0xd280_0000 | part(0), // movz x0, #part
        0xf2a0_0000 | part(1), // movk x0, #part, lsl #16
        0xf2c0_0000 | part(2),
        0xf2e0_0000 | part(3),
        0xb940_0000, // ldr w0, [x0]
        0xd65f_03c0, // ret
    ];
    words
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect()
}

/// A function that returns the 32 bits at an address, which it has behind it.
#[cfg(target_arch = "riscv64")]
pub fn reading(address: Address) -> Vec<u8> {
    let words: [u32; 7] = [
        0x0000_0297, // auipc t0, 0
        0x01c2_e303, // lwu t1, 28(t0)
        0x0202_a383, // lw t2, 32(t0)
        0x0203_9393, // slli t2, t2, 32
        0x0073_62b3, // or t0, t1, t2
        0x0002_a503, // lw a0, (t0)
        0x0000_8067, // ret
    ];
    let mut code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    code.extend(address.get().to_le_bytes());
    code
}

/// One trapping instruction: INT3, BRK #0, C.EBREAK.
#[cfg(target_arch = "x86_64")]
const TRAP: &[u8] = &[0xcc];
#[cfg(target_arch = "aarch64")]
const TRAP: &[u8] = &[0, 0, 0x20, 0xd4];
#[cfg(target_arch = "riscv64")]
const TRAP: &[u8] = &[0x02, 0x90];

/// Whether a section is as a fresh one has to be: where an instruction can begin, code begins with a trap.
pub fn is_fresh(kind: SectionKind, bytes: &[u8]) -> bool {
    let unit = if kind == SectionKind::Code {
        TRAP
    } else {
        &[0]
    };
    let expected = unit.repeat(4096);
    let phase = bytes.as_ptr().addr() % unit.len();
    bytes
        .chunks(expected.len() - unit.len())
        .all(|part| *part == expected[phase..][..part.len()])
}

/// Calls a function without arguments.
pub fn run(image: &Image, id: SectionId) -> i32 {
    let code = image.pointer(id).unwrap().as_ptr();
    // SAFETY: the tests only call sections that hold such a function, in images that are alive.
    let function: extern "C" fn() -> i32 = unsafe { transmute(code) };
    function()
}

/// The bytes of a section where it runs.
pub fn bytes(image: &Image, id: SectionId) -> &[u8] {
    let section = image.section(id).unwrap();
    // SAFETY: it is readable for as long as the image lives, and the tests write nothing meanwhile.
    unsafe { std::slice::from_raw_parts(section.pointer().as_ptr(), section.size()) }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    /// The unwinder's own way to find the record of a function (libgcc, unwind-dw2-fde.h).
    fn _Unwind_Find_FDE(code: *const u8, bases: &mut [usize; 3]) -> *const u8;
}

/// Whether the unwinder of this process knows the function at an address.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn is_known(code: NonNull<u8>) -> bool {
    let mut bases = [0; 3];
    // SAFETY: it looks the address up and does not follow it, and `bases` is as its `struct dwarf_eh_bases`.
    let found = unsafe { _Unwind_Find_FDE(code.as_ptr(), &mut bases) };
    !found.is_null()
}

/// Writes one byte of a section of variables where it runs.
pub fn poke(pointer: NonNull<u8>, value: u8) {
    // SAFETY: read-write data is writable for as long as its image lives, and nobody else refers to it.
    unsafe { pointer.write_volatile(value) };
}

/// Allocates a function that returns `value`, from whatever is there.
pub fn function(manager: &mut impl ReservingMemoryManager, value: u16) -> Result<SectionId, Error> {
    let code = returning(value);
    let id = manager.allocate_section(&request(SectionKind::Code, code.len(), 16))?;
    manager.section_mut(id)?.copy_from_slice(&code);
    Ok(id)
}

/// Publishes one function with a plan, and constants and variables beside it that hold its value.
pub fn publish(
    manager: &mut SectionMemoryManager,
    value: u16,
) -> Result<(Image, [SectionId; 3]), Error> {
    let code = returning(value);
    let sizes = [code.len(), 40, 24];
    let plan: [_; 3] = std::array::from_fn(|i| request(SectionKind::ALL[i], sizes[i], 16));
    manager.reserve_allocation_space(&AllocationSpace::Sections(&plan))?;
    let mut ids = Vec::new();
    for section in &plan {
        ids.push(manager.allocate_section(section)?);
    }
    manager.section_mut(ids[0])?.copy_from_slice(&code);
    manager.section_mut(ids[1])?.fill(value as u8);
    manager.section_mut(ids[2])?.fill(!value as u8);
    let image = manager.finalize_memory()?;
    Ok((image, [ids[0], ids[1], ids[2]]))
}

/// What [`publish`] published is there as it was written.
#[track_caller]
pub fn assert_published(image: &Image, ids: &[SectionId; 3], value: u16) {
    assert_eq!(run(image, ids[0]), i32::from(value));
    assert!(bytes(image, ids[1]).iter().all(|&byte| byte == value as u8));
    assert!(
        bytes(image, ids[2])
            .iter()
            .all(|&byte| byte == !value as u8)
    );
}

/// A line of the kernel's map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub start: usize,
    pub end: usize,
    /// Such as `r-xp`.
    pub permissions: [u8; 4],
    /// Whether it grows by itself: the heap and the stack.
    pub grows: bool,
    /// Whether it is a view of a window's memory file.
    pub is_view: bool,
}

/// The kernel's map of this process, read again and again.
pub struct KernelsMap {
    file: File,
    text: Vec<u8>,
    mappings: Vec<Mapping>,
}

impl KernelsMap {
    pub fn open() -> Self {
        Self {
            file: File::open("/proc/self/maps").unwrap(),
            text: Vec::with_capacity(1 << 16),
            mappings: Vec::with_capacity(1 << 10),
        }
    }

    /// What it says now, after it was seen that nothing at all is writable and executable.
    pub fn read(&mut self) -> &[Mapping] {
        self.text.clear();
        self.file.rewind().unwrap();
        self.file.read_to_end(&mut self.text).unwrap();
        self.mappings.clear();
        // Of the standard library's own making, and so fast without optimization, too: there may be 65,000 lines.
        let text = std::str::from_utf8(&self.text).unwrap();
        for line in text.lines() {
            let (start, rest) = line.split_once('-').unwrap();
            let (end, rest) = rest.split_once(' ').unwrap();
            let number = |digits| usize::from_str_radix(digits, 16).unwrap();
            let permissions: [u8; 4] = rest.as_bytes()[..4].try_into().unwrap();
            let is_both = permissions[1] == b'w' && permissions[2] == b'x';
            assert!(!is_both, "{line}");
            self.mappings.push(Mapping {
                start: number(start),
                end: number(end),
                permissions,
                grows: rest.ends_with("[heap]") || rest.ends_with("[stack]"),
                is_view: rest.ends_with("/memfd:nearcode (deleted)"),
            });
        }
        &self.mappings
    }

    /// The same, of this range only, cut off at its ends.
    pub fn inside(&mut self, range: Range<usize>) -> Vec<Mapping> {
        cut(self.read(), range)
    }
}

/// What lies in a range, cut off at its ends.
pub fn cut(mappings: &[Mapping], range: Range<usize>) -> Vec<Mapping> {
    let touches = |mapping: &&Mapping| mapping.start < range.end && range.start < mapping.end;
    let inside = mappings.iter().filter(touches);
    inside
        .map(|&mapping| Mapping {
            start: mapping.start.max(range.start),
            end: mapping.end.min(range.end),
            ..mapping
        })
        .collect()
}

#[cfg(target_os = "linux")]
unsafe extern "C" {
    /// The C library's (`mincore(2)`). The fuzz targets, which have this file as well, do without libc's declarations.
    fn mincore(start: *mut u8, len: usize, resident: *mut u8) -> i32;
}

/// Bytes of a range that have memory, in this process or another.
#[cfg(target_os = "linux")]
pub fn in_memory(range: &Range<usize>) -> usize {
    let page = region::page::size();
    let mut resident = vec![0; range.len() / page];
    // SAFETY: there is one byte for each page; where nothing is mapped it is an error.
    let asked = unsafe { mincore(range.start as *mut u8, range.len(), resident.as_mut_ptr()) };
    assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
    resident.iter().filter(|&&page| page & 1 != 0).count() * page
}

/// What is mapped, apart from what grows by itself, in pieces that touch.
pub fn mapped(map: &mut KernelsMap) -> Vec<(usize, usize, [u8; 4])> {
    let mut pieces: Vec<(usize, usize, [u8; 4])> = Vec::new();
    for mapping in map.read().iter().filter(|mapping| !mapping.grows) {
        match pieces.last_mut() {
            Some(last) if last.1 == mapping.start && last.2 == mapping.permissions => {
                last.1 = mapping.end;
            }
            _ => pieces.push((mapping.start, mapping.end, mapping.permissions)),
        }
    }
    pieces
}

/// Random numbers, the same ones in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % limit as u64) as usize
    }
}
