//! Debuggers: they get each object as it came, with the addresses of its sections in it. What they read of it they relocate
//! themselves: names, unwind tables, lines.

use crate::debug::GdbImage;
use crate::error::Error;
use crate::loader::location::Location;
use crate::loader::memory::Map;
use crate::loader::object::{Object, Place};
use crate::num::Span;

/// In memory for as long as debuggers know of it.
pub(in crate::loader) type Registered = Vec<crate::debug::GdbRegistration>;

/// Offsets of fields in an ELF file (gABI, chapter 4): in its header, a section's header, and a symbol; and sizes of these two.
const SECTION_HEADERS: usize = 40;
const SECTION_SIZE: usize = 64;
const KIND: usize = 4;
const FLAGS: usize = 8;
const ADDRESS: usize = 16;
const OFFSET: usize = 24;
const SYMBOL_SIZE: usize = 24;
const SYMBOL_SECTION: usize = 6;
const SYMBOL_VALUE: usize = 8;

/// `SHT_SYMTAB`; `SHF_ALLOC` and `SHF_EXECINSTR`; `SHN_ABS`.
const SYMTAB: u32 = 2;
const ALLOC: u64 = 2;
const EXECINSTR: u64 = 4;
const ABS: u16 = 0xfff1;

/// What debuggers are told of.
#[derive(Debug, Default)]
pub(in crate::loader) struct Gdb<'data> {
    is_on: bool,
    /// By object.
    files: Vec<&'data [u8]>,
}

impl<'data> Gdb<'data> {
    pub(in crate::loader) fn turn_on(&mut self) {
        self.is_on = true;
    }

    /// Keeps the bytes of an object.
    pub(in crate::loader) fn load(&mut self, file: &'data [u8]) {
        self.files.push(file);
    }

    /// Whether it can do what is asked of it.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`].
    pub(in crate::loader) fn check(&self, runs_here: bool) -> Result<(), Error> {
        match (self.is_on, crate::debug::GDB_SUPPORTED, runs_here) {
            (false, ..) | (true, true, true) => Ok(()),
            (true, false, _) => Err(Error::Unsupported("telling debuggers of code")),
            (true, true, false) => Err(Error::Unsupported(
                "telling debuggers of code that does not run here",
            )),
        }
    }

    /// Tells debuggers of all objects.
    pub(in crate::loader) fn register(
        &self,
        objects: &[Object<'_>],
        map: &Map,
        locations: &[Location],
    ) -> Result<Registered, Error> {
        let mut registered = Vec::new();
        for (object, &file) in objects.iter().zip(&self.files).filter(|_| self.is_on) {
            let file = placed(file, object, map, &locations[object.first_symbol..]);
            registered.push(GdbImage::from_elf(file).register()?);
        }
        Ok(registered)
    }
}

/// An object file that was read before, with where its sections are, and its common symbols.
fn placed(file: &[u8], object: &Object<'_>, map: &Map, locations: &[Location]) -> Vec<u8> {
    let mut file = file.to_vec();
    let headers = number(&file, SECTION_HEADERS);
    for index in 0..object.sections.len() {
        let header = headers + index * SECTION_SIZE;
        match map.section(object, index) {
            Some(address) => write(&mut file, header + ADDRESS, &address.get().to_le_bytes()),
            None => {
                // It has no place in memory, or another copy of it was kept: nothing of it is at address 0.
                let flags = number(&file, header + FLAGS) as u64 & !(ALLOC | EXECINSTR);
                write(&mut file, header + FLAGS, &flags.to_le_bytes());
            }
        }
    }
    let kind = |index: &usize| bytes(&file, headers + index * SECTION_SIZE + KIND);
    let is_table = |index: &usize| u32::from_le_bytes(kind(index)) == SYMTAB;
    let Some(table) = (0..object.sections.len()).find(is_table) else {
        return file;
    };
    let table = number(&file, headers + table * SECTION_SIZE + OFFSET);
    for (index, symbol) in object.symbols.iter().enumerate() {
        if let (Place::Common { .. }, Ok(address)) = (symbol.place, locations[index]) {
            let at = table + index * SYMBOL_SIZE;
            write(&mut file, at + SYMBOL_SECTION, &ABS.to_le_bytes());
            write(&mut file, at + SYMBOL_VALUE, &address.get().to_le_bytes());
        }
    }
    file
}

fn field(at: usize, size: usize) -> std::ops::Range<usize> {
    let field = Span::sized(at, size).expect("the file was read before");
    field.start()..field.end()
}

fn bytes<const SIZE: usize>(file: &[u8], at: usize) -> [u8; SIZE] {
    file[field(at, SIZE)]
        .try_into()
        .expect("as many as asked for")
}

fn number(file: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes(file, at)) as usize
}

fn write(file: &mut [u8], at: usize, value: &[u8]) {
    file[field(at, value.len())].copy_from_slice(value);
}
