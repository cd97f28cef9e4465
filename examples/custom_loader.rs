//! A loader of one's own on the memory manager: `cargo run --example custom_loader --no-default-features`
//!
//! Its object is a function in machine code, `int next(void) { return ++counter * step; }`, a variable and a constant. It goes
//! through the steps of every loader: plan, allocate, fill, relocate with checks, finalize, call, unload.

use std::error::Error;

use nearcode::reach::RelocationRange;
use nearcode::{
    Align, AllocationSpace, ReservingMemoryManager, SectionKind, SectionMemoryManager,
    SectionRequest,
};

/// A place in the code that depends on where data lies.
struct Relocation {
    offset: usize,
    target: Target,
    addend: u64,
    /// Which distances its field holds.
    range: RelocationRange,
    /// Writes a distance into the field.
    write: fn(&mut [u8], i64),
}

enum Target {
    Counter,
    Step,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut manager = SectionMemoryManager::new();

    // Plan: one block for everything that the object refers to.
    let plan = [
        SectionRequest::new("next", SectionKind::Code, cpu::CODE.len(), Align::new(16)?),
        SectionRequest::new("step", SectionKind::ReadOnlyData, 4, Align::of::<i32>()),
        SectionRequest::new("counter", SectionKind::ReadWriteData, 4, Align::of::<i32>()),
    ];
    manager.reserve_allocation_space(&AllocationSpace::Sections(&plan))?;

    // Allocate and fill. Data is zero until it is written, and so is the counter.
    let next = manager.allocate_section(&plan[0])?;
    let step = manager.allocate_section(&plan[1])?;
    let counter = manager.allocate_section(&plan[2])?;
    manager.section_mut(next)?.copy_from_slice(&cpu::CODE);
    manager
        .section_mut(step)?
        .copy_from_slice(&3i32.to_le_bytes());

    // Relocate: compute with addresses, write into slices, and let the table say whether the distance fits.
    for relocation in cpu::RELOCATIONS {
        let place = manager.address(next)?.get() + relocation.offset as u64;
        let target = match relocation.target {
            Target::Counter => manager.address(counter)?,
            Target::Step => manager.address(step)?,
        };
        let distance = relocation
            .range
            .check(place, target.get().wrapping_add(relocation.addend))?;
        println!(
            "{} at {place:#x}: {target} is {distance} bytes away",
            relocation.range.name()
        );
        (relocation.write)(
            &mut manager.section_mut(next)?[relocation.offset..],
            distance,
        );
    }

    // Finish and call.
    let image = manager.finalize_memory()?;
    let code = image.pointer(next)?.as_ptr();
    // SAFETY: the code is an `int (void)`, complete and executable, and the image is alive until after the last call.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(code) };
    println!("next() = {}, {}, {}", function(), function(), function());

    drop(image); // Unload: the memory goes back.
    println!("{:?}", manager.stats());
    Ok(())
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    use nearcode::reach::x86_64::PC32;

    use super::{Relocation, Target};

    pub(super) const CODE: [u8; 22] = [
        0x8b, 0x05, 0, 0, 0, 0, // mov counter(%rip), %eax
        0xff, 0xc0, // inc %eax
        0x89, 0x05, 0, 0, 0, 0, // mov %eax, counter(%rip)
        0x0f, 0xaf, 0x05, 0, 0, 0, 0,    // imul step(%rip), %eax
        0xc3, // ret
    ];

    pub(super) const RELOCATIONS: [Relocation; 3] = [
        distance(2, Target::Counter),
        distance(10, Target::Counter),
        distance(17, Target::Step),
    ];

    /// The CPU counts from the end of the field.
    const fn distance(offset: usize, target: Target) -> Relocation {
        Relocation {
            offset,
            target,
            addend: (-4i64) as u64,
            range: PC32,
            write,
        }
    }

    fn write(field: &mut [u8], value: i64) {
        field[..4].copy_from_slice(&(value as i32).to_le_bytes());
    }
}

#[cfg(target_arch = "aarch64")]
mod cpu {
    use nearcode::reach::aarch64::{ADR_PREL_LO21, LD_PREL_LO19};

    use super::{Relocation, Target};

    pub(super) const CODE: [u8; 28] = [
        0x01, 0x00, 0x00, 0x10, // adr x1, counter
        0x20, 0x00, 0x40, 0xb9, // ldr w0, [x1]
        0x00, 0x04, 0x00, 0x11, // add w0, w0, #1
        0x20, 0x00, 0x00, 0xb9, // str w0, [x1]
        0x02, 0x00, 0x00, 0x18, // ldr w2, step
        0x00, 0x7c, 0x02, 0x1b, // mul w0, w0, w2
        0xc0, 0x03, 0x5f, 0xd6, // ret
    ];

    pub(super) const RELOCATIONS: [Relocation; 2] = [
        Relocation {
            offset: 0,
            target: Target::Counter,
            addend: 0,
            range: ADR_PREL_LO21,
            write: write_adr,
        },
        Relocation {
            offset: 16,
            target: Target::Step,
            addend: 0,
            range: LD_PREL_LO19,
            write: write_literal,
        },
    ];

    fn write_adr(field: &mut [u8], value: i64) {
        let value = value as u32;
        insert(field, (value & 3) << 29 | (value >> 2 & 0x7_ffff) << 5);
    }

    fn write_literal(field: &mut [u8], value: i64) {
        insert(field, (value as u32 >> 2 & 0x7_ffff) << 5);
    }

    fn insert(field: &mut [u8], bits: u32) {
        let instruction = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
        field[..4].copy_from_slice(&(instruction | bits).to_le_bytes());
    }
}

#[cfg(target_arch = "riscv64")]
mod cpu {
    use nearcode::reach::riscv64::PCREL_HI20;

    use super::{Relocation, Target};

    pub(super) const CODE: [u8; 36] = [
        0x97, 0x05, 0x00, 0x00, // auipc a1, counter
        0x93, 0x85, 0x05, 0x00, // addi a1, a1, counter
        0x03, 0xa5, 0x05, 0x00, // lw a0, (a1)
        0x1b, 0x05, 0x15, 0x00, // addiw a0, a0, 1
        0x23, 0xa0, 0xa5, 0x00, // sw a0, (a1)
        0x17, 0x06, 0x00, 0x00, // auipc a2, step
        0x03, 0x26, 0x06, 0x00, // lw a2, step(a2)
        0x3b, 0x05, 0xc5, 0x02, // mulw a0, a0, a2
        0x67, 0x80, 0x00, 0x00, // ret
    ];

    pub(super) const RELOCATIONS: [Relocation; 2] =
        [distance(0, Target::Counter), distance(20, Target::Step)];

    const fn distance(offset: usize, target: Target) -> Relocation {
        Relocation {
            offset,
            target,
            addend: 0,
            range: PCREL_HI20,
            write,
        }
    }

    /// AUIPC, and behind it the instruction that adds the low 12 bits, as a signed number.
    fn write(pair: &mut [u8], value: i64) {
        let value = value as u32;
        insert(&mut pair[..4], value.wrapping_add(0x800) & 0xffff_f000);
        insert(&mut pair[4..8], value << 20);
    }

    fn insert(field: &mut [u8], bits: u32) {
        let instruction = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
        field.copy_from_slice(&(instruction | bits).to_le_bytes());
    }
}
