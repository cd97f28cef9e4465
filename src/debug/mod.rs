//! What debuggers and profilers are told of code that was made at run time.
//!
//! They know code by the files that it was mapped from, and this code is from none: a backtrace ends in it, a profile shows bare
//! addresses. Each of them has a way to be told, and here are three:
//!
//! | for | feature | | told | taken back |
//! |---|---|---|---|---|
//! | gdb, lldb | `gdb` | `GdbImage` | names, unwind tables, lines: all that an object file says | when the `GdbRegistration` is dropped |
//! | `perf report`, of code in no file | `perf` | `PerfMap` | names | never |
//! | `perf report`, `perf annotate` | `perf` | `JitDump` | names and the code itself, each with its time | never |
//!
//! The loader does all of it by itself, where `loader::Loader` is asked to: `with_gdb`, `with_perf_map`,
//! `with_jit_dump`. A loader of one's own says what it made as [`Symbol`]s.
//!
//! There are two features, since one of them is not free for all: `gdb` adds two symbols to the program, of names that are the
//! same for everyone (see `GdbImage`). Neither costs anything where nobody asks for it.
//!
//! Law: nobody is told of memory that is gone without having been told that it is. What only grows, a profile's names, is read
//! when the program has ended.
//!
//! # Examples
//!
#![cfg_attr(
    all(feature = "gdb", feature = "perf", target_os = "linux"),
    doc = "```"
)]
#![cfg_attr(
    not(all(feature = "gdb", feature = "perf", target_os = "linux")),
    doc = "```ignore"
)] // It shows both.
//! use nearcode::debug::{GdbImage, PerfMap, Symbol};
//! # use nearcode::{AllocationSpace, ReservingMemoryManager, SectionKind, SectionMemoryManager, SectionRequest, Align};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut manager = SectionMemoryManager::new();
//! # let request = SectionRequest::new("f", SectionKind::Code, 64, Align::new(16)?);
//! # manager.reserve_allocation_space(&AllocationSpace::Sections(&[request]))?;
//! # let code = manager.allocate_section(&request)?;
//! let image = manager.finalize_memory()?;
//! let symbols = [Symbol::new("jit_add", image.address(code)?, 64)?];
//!
//! PerfMap::open()?.add(&symbols)?;
//! let registration = GdbImage::of_symbols(&symbols)?.register()?;
//! // Run it. Then, in this order:
//! drop(registration);
//! drop(image);
//! # std::fs::remove_file(format!("/tmp/perf-{}.map", std::process::id()))?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "gdb")]
mod elf;
#[cfg(feature = "gdb")]
mod gdb;
#[cfg(feature = "perf")]
mod jit_dump;
#[cfg(feature = "perf")]
mod perf_map;
mod symbol;
#[cfg(feature = "perf")]
#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    path = "system/linux.rs"
)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "system/others.rs"
)]
mod system;

#[cfg(all(feature = "gdb", feature = "loader"))]
pub(crate) use gdb::SUPPORTED as GDB_SUPPORTED;
#[cfg(feature = "gdb")]
pub use gdb::{GdbImage, GdbRegistration};
#[cfg(feature = "perf")]
pub use jit_dump::JitDump;
#[cfg(feature = "perf")]
pub use perf_map::PerfMap;
pub use symbol::Symbol;

/// This CPU's number in ELF files (`e_machine`, gABI chapter 4 and its registry); 0, for none, on those that nobody tried.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else if cfg!(target_arch = "riscv64") {
    243
} else if cfg!(target_arch = "loongarch64") {
    258
} else {
    0
};
