//! Loads one object file again and again, each load from its bytes to the address of a function: reads, relocates, registers the
//! unwind table, publishes, looks a symbol up. Nothing is kept from one load to the next but the programs, which all stay alive.
//!
//! `cargo bench --bench load -- MODE COUNT OBJECT SYMBOL` prints one line: `MODE COUNT ns/object pss-bytes/object`.
//!
//! | mode | what |
//! |---|---|
//! | `dedicated` | a block for each object |
//! | `window` | all objects in one window, written at two addresses |
//! | `write` | loads nothing: writes an object with COUNT relocations, a symbol for every fifth, to the file OBJECT |
//!
//! What no object defines comes from the process. Memory is the proportional set size (PSS), so that pages that are mapped twice
//! count once. A failure ends the run with the object's number.

mod process;

use std::fs;
use std::hint::black_box;
use std::process::exit;
use std::time::Instant;

use nearcode::loader::{Library, LoadError, Loader, Program};
use nearcode::{Reach, SectionMemoryManager, Window, WindowOptions, Writing};
use object::write::{Object, Relocation, StandardSection, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope,
    elf,
};

use self::process::{arguments, or_end, pss};

/// From the bytes of an object to a program that has `symbol`.
fn load(
    bytes: &[u8],
    symbol: &str,
    manager: &mut SectionMemoryManager,
    process: &Library,
) -> Result<Program, LoadError> {
    let mut loader = Loader::new()?;
    loader.load("object", bytes)?;
    // SAFETY: the objects that are measured are a compiler's, or have no unwind table.
    let program = unsafe { loader.link_with_eh_frames(manager, process) }?;
    match program.address(symbol) {
        Some(_) => Ok(program),
        None => Err(LoadError::NoSuchSymbol(symbol.into())),
    }
}

/// An object whose data refers to all of its functions: by relocations as compilers use them most, with a symbol for every fifth.
fn large(relocations: usize) -> object::write::Result<Vec<u8>> {
    let (architecture, distance, address, nop) = if cfg!(target_arch = "aarch64") {
        let [distance, address] = [elf::R_AARCH64_PREL32, elf::R_AARCH64_ABS64];
        (
            Architecture::Aarch64,
            distance,
            address,
            [0x1f, 0x20, 0x03, 0xd5],
        )
    } else {
        let [distance, address] = [elf::R_X86_64_PC32, elf::R_X86_64_64];
        (Architecture::X86_64, distance, address, [0x90; 4])
    };
    let mut file = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    let text = file.section_id(StandardSection::Text);
    let data = file.section_id(StandardSection::Data);
    let mut symbols = Vec::new();
    for number in 0..relocations.div_ceil(5) {
        let value = file.append_section_data(text, &nop.repeat(4), 16);
        symbols.push(file.add_symbol(Symbol {
            name: format!("function_{number}").into(),
            value,
            size: 16,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        }));
    }
    for number in 0..relocations {
        let offset = file.append_section_data(data, &[0; 8], 8);
        let r_type = if number % 2 == 0 { distance } else { address };
        let relocation = Relocation {
            offset,
            symbol: symbols[number * 7 % symbols.len()],
            addend: 4,
            flags: RelocationFlags::Elf { r_type },
        };
        file.add_relocation(data, relocation)?;
    }
    file.write()
}

fn main() {
    let arguments = arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mode, count, path, symbol) = match arguments[..] {
        ["write", count, path] => {
            let file = or_end(large(or_end(count.parse(), 0)), 0);
            return or_end(fs::write(path, file), 0);
        }
        [mode, count, path, symbol] => (mode, count, path, symbol),
        _ => {
            eprintln!("usage: load MODE COUNT OBJECT SYMBOL | write COUNT OBJECT");
            exit(2);
        }
    };
    let count: usize = or_end(count.parse(), 0);
    let bytes = or_end(fs::read(path), 0);
    // The linker puts libm into the process only if it is used. Objects look there, too.
    black_box(black_box(1.0_f64).sin());
    let process = or_end(Library::process(), 0);
    let window = match mode {
        "dedicated" => None,
        "window" => {
            let options = WindowOptions::new()
                .with_size(Reach::PREL32.bytes() as usize)
                .with_code(1 << 30)
                .with_writing(Writing::TwoAddresses);
            Some(or_end(Window::with_options(&options), 0))
        }
        _ => or_end(Err("no such mode"), 0),
    };
    let mut manager = match &window {
        Some(window) => SectionMemoryManager::in_window(window),
        None => SectionMemoryManager::new(),
    };
    let mut programs = Vec::new();
    let before = pss();
    let start = Instant::now();
    for number in 0..count {
        programs.push(or_end(load(&bytes, symbol, &mut manager, &process), number));
    }
    let time = start.elapsed().as_nanos() as f64 / count as f64;
    let memory = pss().saturating_sub(before) as f64 / count as f64;
    println!("{mode} {count} {time:.0} {memory:.0}");
    std::mem::forget((programs, manager)); // The system is quicker at it, and nothing is measured any more.
}
