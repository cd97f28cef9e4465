//! What dense memory does for a program of many small functions: 5,000 of them, published one by one, each of which adds a number
//! and goes on to another, in an order that has nothing to do with where they lie.
//!
//! `cargo bench --bench locality -- MODE COUNT` runs the program COUNT times and prints one line:
//! `MODE COUNT ns/function pss-bytes/function mappings`.
//!
//! | mode | where the functions lie |
//! |---|---|
//! | `window` | side by side, a few cache lines each |
//! | `window-same-address` | each on a page of its own, all in one range |
//! | `dedicated` | each on a page of its own, in a block of its own |

mod process;

use std::mem;
use std::process::exit;
use std::ptr::null;
use std::time::Instant;

use nearcode::{
    Align, AllocationSpace, Error, Image, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest, Window, WindowOptions, Writing,
};

use self::process::{arguments, mappings, or_end, pss};

const FUNCTIONS: usize = 5000;

/// Bytes of a function: what it does, and as much behind it as small functions have.
const SIZE: usize = 128;

type Function = unsafe extern "C" fn(u32) -> u32;

/// Code that adds `number` to its argument, and goes on with the result to where the pointer at `next` leads.
#[cfg(target_arch = "x86_64")]
fn function(number: u32, next: *const *const u8) -> Vec<u8> {
    let mut code = vec![0x81, 0xc7]; // add edi, number
    code.extend(number.to_le_bytes());
    code.extend([0x48, 0xb8]); // mov rax, next
    code.extend((next.expose_provenance() as u64).to_le_bytes());
    code.extend([0xff, 0x20]); // jmp [rax]
    code
}

/// Code that returns its argument.
#[cfg(target_arch = "x86_64")]
fn last() -> Vec<u8> {
    vec![0x89, 0xf8, 0xc3] // mov eax, edi; ret
}

/// Code that adds `number`, below 2^12, to its argument, and goes on with the result to where the pointer at `next` leads.
#[cfg(target_arch = "aarch64")]
fn function(number: u32, next: *const *const u8) -> Vec<u8> {
    let next = next.expose_provenance() as u64;
    let part = |part: u32| ((next >> (16 * part)) as u32 & 0xffff) << 5;
    let instructions = [
        0x1100_0000 | number << 10, // add w0, w0, number
        0xd280_0010 | part(0),      // movz x16, next
        0xf2a0_0010 | part(1),      // movk x16, next, lsl 16
        0xf2c0_0010 | part(2),      // movk x16, next, lsl 32
        0xf2e0_0010 | part(3),      // movk x16, next, lsl 48
        0xf940_0210,                // ldr x16, [x16]
        0xd61f_0200,                // br x16
    ];
    instructions
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// Code that returns its argument.
#[cfg(target_arch = "aarch64")]
fn last() -> Vec<u8> {
    0xd65f_03c0_u32.to_le_bytes().to_vec() // ret
}

/// The program.
struct Chain {
    _images: Vec<Image>,
    /// Where each function goes on.
    _pointers: Box<[*const u8]>,
    first: Function,
}

impl Chain {
    fn new(manager: &mut SectionMemoryManager) -> Result<Self, Error> {
        let mut images = Vec::with_capacity(FUNCTIONS + 1);
        let mut publish = |code: &[u8]| {
            let request = SectionRequest::new(".text", SectionKind::Code, SIZE, Align::new(16)?);
            manager.reserve_allocation_space(&AllocationSpace::Sections(&[request]))?;
            let section = manager.allocate_section(&request)?;
            manager.section_mut(section)?[..code.len()].copy_from_slice(code);
            let image = manager.finalize_memory()?;
            let start = image.pointer(section)?.as_ptr().cast_const();
            images.push(image);
            Ok::<_, Error>(start)
        };
        let mut pointers = vec![null(); FUNCTIONS].into_boxed_slice();
        let end = publish(&last())?;
        let starts = pointers.iter().enumerate();
        let starts = starts.map(|(number, next)| publish(&function(addend(number), next)));
        let starts = starts.collect::<Result<Vec<_>, _>>()?;
        for (number, next) in pointers.iter_mut().enumerate() {
            // 2,003 has no factor in common with 5,000, so that every function is reached.
            *next = match (number + 2003) % FUNCTIONS {
                0 => end,
                other => starts[other],
            };
        }
        // SAFETY: the code is a function of this type as long as the images and the pointers are there.
        let first = unsafe { mem::transmute::<*const u8, Function>(starts[0]) };
        Ok(Self {
            _images: images,
            _pointers: pointers,
            first,
        })
    }

    fn run(&self, from: u32) -> u32 {
        // SAFETY: the images and the pointers are there.
        unsafe { (self.first)(from) }
    }
}

/// What a function adds.
fn addend(number: usize) -> u32 {
    number as u32 % 100
}

fn main() {
    let arguments = arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [mode, count] = arguments[..] else {
        eprintln!("usage: locality MODE COUNT");
        exit(2);
    };
    let count: usize = or_end(count.parse(), 0);
    let window = |writing| {
        let options = WindowOptions::new().with_writing(writing);
        SectionMemoryManager::in_window(&or_end(Window::with_options(&options), 0))
    };
    let mut manager = match mode {
        "window" => window(Writing::TwoAddresses),
        "window-same-address" => window(Writing::SameAddress),
        "dedicated" => SectionMemoryManager::new(),
        _ => or_end(Err("no such mode"), 0),
    };

    let before = pss();
    let chain = or_end(Chain::new(&mut manager), 0);
    let memory = pss().saturating_sub(before);
    let sum: u32 = (0..FUNCTIONS).map(addend).sum();
    assert_eq!(chain.run(7), sum + 7, "a function was left out");
    let start = Instant::now();
    let result = (0..count).fold(0, |result, _| chain.run(result));
    let time = start.elapsed();
    assert_eq!(result, sum.wrapping_mul(count as u32));
    println!(
        "{mode} {count} {:.2} {} {}",
        time.as_nanos() as f64 / (count * FUNCTIONS) as f64,
        memory / FUNCTIONS,
        mappings(),
    );
}
