//! The object of the bug report: a function, its constants and unwind table, and a GOT of 40 bytes; with the machine code for
//! this CPU, the checks of its relocations, and a call.

use std::mem::transmute;

use nearcode::reach::RelocationRange;
#[cfg(target_arch = "aarch64")]
use nearcode::reach::aarch64 as isa;
#[cfg(target_arch = "riscv64")]
use nearcode::reach::riscv64 as isa;
#[cfg(target_arch = "x86_64")]
use nearcode::reach::x86_64 as isa;
use nearcode::{
    Align, AllocationSpace, Error, Image, ReservingMemoryManager, SectionId, SectionKind,
    SectionRequest,
};

/// `int answer(void) { return *got[0]; }`, and how its reference to the GOT is checked and written.
#[cfg(target_arch = "x86_64")]
mod code {
    pub const BYTES: &[u8] = &[
        0x48, 0x8b, 0x05, 0, 0, 0, 0, // mov got(%rip), %rax
        0x8b, 0x00, // mov (%rax), %eax
        0xc3, // ret
    ];
    pub const GOT_PLACE: u64 = 3;
    pub const GOT_ADDEND: u64 = (-4i64) as u64;
    pub const GOT_RANGE: super::RelocationRange = super::isa::GOTPCREL;

    pub fn write(code: &mut [u8], distance: i64, _got: u64) {
        code[3..7].copy_from_slice(&(distance as i32).to_le_bytes());
    }
}

/// The same.
#[cfg(target_arch = "aarch64")]
mod code {
    pub const BYTES: &[u8] = &[
        0x00, 0x00, 0x00, 0x90, // adrp x0, got
        0x00, 0x00, 0x40, 0xf9, // ldr x0, [x0, :lo12:got]
        0x00, 0x00, 0x40, 0xb9, // ldr w0, [x0]
        0xc0, 0x03, 0x5f, 0xd6, // ret
    ];
    pub const GOT_PLACE: u64 = 0;
    pub const GOT_ADDEND: u64 = 0;
    pub const GOT_RANGE: super::RelocationRange = super::isa::ADR_GOT_PAGE;

    pub fn write(code: &mut [u8], distance: i64, got: u64) {
        let pages = (distance >> 12) as u32;
        let adrp = 0x9000_0000 | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
        let ldr = 0xf940_0000 | ((got as u32 & 0xfff) >> 3) << 10;
        code[..4].copy_from_slice(&adrp.to_le_bytes());
        code[4..8].copy_from_slice(&ldr.to_le_bytes());
    }
}

/// The same.
#[cfg(target_arch = "riscv64")]
mod code {
    pub const BYTES: &[u8] = &[
        0x17, 0x05, 0x00, 0x00, // auipc a0, got
        0x03, 0x35, 0x05, 0x00, // ld a0, got(a0)
        0x03, 0x25, 0x05, 0x00, // lw a0, (a0)
        0x67, 0x80, 0x00, 0x00, // ret
    ];
    pub const GOT_PLACE: u64 = 0;
    pub const GOT_ADDEND: u64 = 0;
    pub const GOT_RANGE: super::RelocationRange = super::isa::GOT_HI20;

    pub fn write(code: &mut [u8], distance: i64, _got: u64) {
        // The load adds its 12 bits as a signed number.
        let distance = distance as u32;
        let auipc = 0x517 | (distance.wrapping_add(0x800) & 0xffff_f000);
        let load = 0x5_3503 | distance << 20;
        code[..4].copy_from_slice(&auipc.to_le_bytes());
        code[4..8].copy_from_slice(&load.to_le_bytes());
    }
}

#[cfg(target_arch = "x86_64")]
const PREL32: RelocationRange = isa::PC32;
#[cfg(target_arch = "aarch64")]
const PREL32: RelocationRange = isa::PREL32;
#[cfg(target_arch = "riscv64")]
const PREL32: RelocationRange = isa::PCREL32;

/// The sizes of the report: code, constants, unwind table, GOT.
pub fn sections() -> [SectionRequest<'static>; 4] {
    let section = |name, kind, size, align| {
        SectionRequest::new(name, kind, size, Align::new(align).expect("a power"))
    };
    [
        section(".text", SectionKind::Code, 0x49c, 16),
        section(".rodata", SectionKind::ReadOnlyData, 0x140, 8),
        section(".eh_frame", SectionKind::ReadOnlyData, 0x60, 8),
        section(".got", SectionKind::ReadWriteData, 0x28, 8),
    ]
}

/// An object that is loaded and runs.
pub struct Loaded {
    pub image: Image,
    code: SectionId,
}

/// Loads the object as every loader does, so that it returns `answer`.
pub fn load(manager: &mut dyn ReservingMemoryManager, answer: i32) -> Result<Loaded, Error> {
    let sections = sections();
    manager.reserve_allocation_space(&AllocationSpace::Sections(&sections))?;
    let mut ids = Vec::new();
    for section in &sections {
        ids.push(manager.allocate_section(section)?);
    }
    let [code, rodata, eh_frame, got] = ids[..] else {
        unreachable!("four were allocated")
    };
    let (code_at, got_at) = (manager.address(code)?.get(), manager.address(got)?.get());
    let (rodata_at, eh_frame_at) = (
        manager.address(rodata)?.get(),
        manager.address(eh_frame)?.get(),
    );

    let place = code_at + code::GOT_PLACE;
    let distance = code::GOT_RANGE.check(place, got_at.wrapping_add(code::GOT_ADDEND))?;
    let unwind = PREL32.check(eh_frame_at + 28, code_at)?;

    let bytes = manager.section_mut(code)?;
    bytes[..code::BYTES.len()].copy_from_slice(code::BYTES);
    code::write(bytes, distance, got_at);
    manager.section_mut(rodata)?[..4].copy_from_slice(&answer.to_le_bytes());
    manager.section_mut(eh_frame)?[28..32].copy_from_slice(&(unwind as i32).to_le_bytes());
    manager.section_mut(got)?[..8].copy_from_slice(&rodata_at.to_le_bytes());
    let image = manager.finalize_memory()?;
    Ok(Loaded { image, code })
}

/// Calls it.
pub fn call(loaded: &Loaded) -> i32 {
    let code = loaded
        .image
        .pointer(loaded.code)
        .expect("it is there")
        .as_ptr();
    // SAFETY: an `int (void)`, complete, in an image that is alive.
    let function: extern "C" fn() -> i32 = unsafe { transmute(code) };
    function()
}
