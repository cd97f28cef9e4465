//! Objects, linked into the process of the test.
#![allow(dead_code)] // Each test crate uses its own part.

use std::fs;
use std::path::Path;

use nearcode::loader::{LoadError, Loader, Program, Resolver};
use nearcode::{SectionMemoryManager, Stats};

use crate::support;

/// An object file in memory.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    pub(crate) fn read(name: &str, path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            name: name.into(),
            bytes,
        }
    }

    /// What the assembler makes of `text`. It ends up in the section for data unless it says otherwise.
    pub(crate) fn assemble(name: &str, text: &str) -> Self {
        let stem = name.trim_end_matches(".o");
        let source = support::text_file(&format!("{stem}.s"), &format!(".data\n{text}\n"));
        Self::read(name, &support::compile(&source, &[]))
    }

    /// What the C compiler makes of `text`.
    pub(crate) fn compile(name: &str, text: &str, flags: &[&str]) -> Self {
        let stem = name.trim_end_matches(".o");
        let flags = [&["-O2", "-fPIC"], flags].concat();
        Self::read(name, &support::compile_text(stem, text, &flags))
    }
}

/// A loader with these objects in it.
pub(crate) fn load(files: &[File]) -> Result<Loader<'_>, LoadError> {
    let mut loader = Loader::new().expect("these tests run on machines that the loader knows");
    for file in files {
        loader.load(&file.name, &file.bytes)?;
    }
    Ok(loader)
}

/// Links; sees to it that a failure is told in one line and leaves nothing behind.
pub(crate) fn finish(loader: Loader<'_>, resolver: &dyn Resolver) -> Result<Program, LoadError> {
    let mut manager = SectionMemoryManager::new();
    let result = loader.link(&mut manager, resolver);
    if let Err(error) = &result {
        let message = error.to_string();
        assert_eq!(message.lines().count(), 1, "{message:?}");
        assert_eq!(manager.stats(), Stats::default(), "{message}");
    }
    result
}

/// The program that these objects make.
pub(crate) fn link(files: &[File], resolver: &dyn Resolver) -> Result<Program, LoadError> {
    finish(load(files)?, resolver)
}

/// The 8 bytes of data at a symbol.
pub(crate) fn number(program: &Program, symbol: &str) -> u64 {
    let address = program.address(symbol);
    let address = address.unwrap_or_else(|| panic!("no object defines {symbol}"));
    // SAFETY: the tests ask for symbols of 8 bytes or more of data, of a program that is alive.
    unsafe { (address.get() as usize as *const u64).read_unaligned() }
}

/// What the function at a symbol returns.
pub(crate) fn call(program: &Program, symbol: &str) -> i32 {
    // SAFETY: the tests name functions that take nothing, return an int, and do nothing else.
    let function: extern "C" fn() -> i32 = unsafe { program.function(symbol) }.unwrap();
    function()
}

/// Assembly that returns `number` from a function.
pub(crate) fn returns(number: i32) -> String {
    if cfg!(target_arch = "aarch64") {
        format!("mov w0, #{number}\nret")
    } else {
        format!("mov ${number}, %eax\nret")
    }
}

/// Assembly that goes on at `target` and does not come back.
pub(crate) fn jump(target: &str) -> String {
    if cfg!(target_arch = "aarch64") {
        format!("b {target}")
    } else {
        format!("jmp {target}")
    }
}

/// Assembly that loads the address of `symbol` from the GOT into the register for results.
pub(crate) fn load_from_got(symbol: &str) -> String {
    if cfg!(target_arch = "aarch64") {
        format!("adrp x0, :got:{symbol}\nldr x0, [x0, #:got_lo12:{symbol}]")
    } else {
        format!("movq {symbol}@GOTPCREL(%rip), %rax")
    }
}
