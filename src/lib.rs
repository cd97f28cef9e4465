//! The memory manager of a JIT loader: it keeps everything that a loaded object refers to within relocation reach, and says so,
//! with a typed error, whenever that cannot be.
//!
#![cfg_attr(feature = "loader", doc = "```")]
#![cfg_attr(not(feature = "loader"), doc = "```ignore")] // There is no loader to run it with.
//! use nearcode::SectionMemoryManager;
//! use nearcode::loader::{Library, Loader};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) { return Ok(()); }
//! # let path = format!("examples/objects/quickstart-{}.o", std::env::consts::ARCH);
//! let object = std::fs::read(path)?; // What `cc -O2 -fPIC -c` makes.
//!
//! let mut manager = SectionMemoryManager::new();
//! let mut loader = Loader::new()?;
//! loader.load("quickstart.o", &object)?;
//! let program = loader.link(&mut manager, &Library::process()?)?;
//!
//! // SAFETY: the object defines `int letters(void)`, and `program` is alive.
//! let letters: extern "C" fn() -> i32 = unsafe { program.function("letters")? };
//! assert_eq!(letters(), 6);
//! # Ok(())
//! # }
//! ```
//!
//! # The memory
//!
//! A loader that maps section by section gets each of them from anywhere. On a machine with much memory, code and its GOT are
//! then easily further apart than an instruction reaches, and the relocation between them is truncated. Here an object says
//! first what it is going to need, and gets one block:
//!
//! ```text
//! | .text .text.hot .stubs   | .rodata .eh_frame .got   | .data .bss COMMON        |
//! | r-x                      | r--                      | rw-                      |
//! ^ page                     ^ page                     ^ page                     ^ page
//! |<---------------------- at most Reach: 2 GiB - 1 MiB by default --------------->|
//! ```
//!
//! What is left over in a block is never served to another object, so no object is ever spread over two blocks.
//!
//! Where objects are many and small, or refer to each other, they share a [`Window`]: one range of addresses, reserved once, in
//! which everything reaches everything and objects of each kind lie side by side.
//!
//! # The life of a piece of code
//!
//! | | a loader of your own | typed, for one object |
//! |---|---|---|
//! | choose | [`SectionMemoryManager::new`] or [`in_window`](SectionMemoryManager::in_window) | [`DedicatedBlocks`] or [`Window`] |
//! | plan | [`reserve_allocation_space`](ReservingMemoryManager::reserve_allocation_space) | [`DedicatedBlocks::reserve`] or [`Window::reserve`] |
//! | allocate | [`allocate_section`](ReservingMemoryManager::allocate_section) | [`Reservation::allocate_section`] |
//! | fill, relocate | [`section_mut`](ReservingMemoryManager::section_mut), [`address`](ReservingMemoryManager::address), [`reach`] | the same on [`Reservation`] |
//! | finish | [`finalize_memory`](ReservingMemoryManager::finalize_memory) | [`Reservation::finalize`] |
//! | run | [`Image::pointer`] | [`Image::pointer`] |
//! | unload | drop the [`Image`] | drop the [`Image`] |
//!
//! Who has no loader hands object files to [`loader`]. `examples/custom_loader.rs` goes through the first column,
//! `examples/window.rs` does so in a window.
//!
//! # What it does not do
//!
//! It does not compile, it does not load shared libraries, and it does not make memory writable and executable at once at
//! one address. Outside of a window each object takes whole pages of its own. Thread-local variables of
//! other libraries are refused by the loader.
//!
//! # Features
//!
//! `loader` (default): the loader for ELF objects of aarch64 and x86-64. Without it neither `object` nor `libloading` is built.
//! `gdb` and `perf`: tell debuggers and profilers of code (module `debug`).
//!
//! # Platforms
//!
//! Tested: Linux on x86-64, and on aarch64 under qemu-user and with a kernel of its own, pages of 4K and 16K; all but the loader,
//! Linux on riscv64 under qemu-user and Windows on x86-64 under Wine. Type-checked and never run: macOS and FreeBSD.
//!
//! macOS makes code executable by `mprotect`, in memory without `MAP_JIT`. A program with the hardened runtime needs the entitlement
//! `com.apple.security.cs.allow-unsigned-executable-memory` for that.
//!
//! # Safety
//!
//! Safe functions take whatever bytes they are given and return a value or an error. What runs code, or takes a caller's word
//! for what code does, is `unsafe`: [`loader::Program::function`], [`loader::Loader::link_with_eh_frames`],
//! [`Reservation::register_eh_frames`], [`Image::from_foreign`], [`loader::Library::open`].
//!
//! # Minimum supported Rust version
//!
//! 1.85.
#![warn(unreachable_pub)]
#![deny(unsafe_code)] // Opened file by file, with a reason; tests/house_rules.rs knows the files.

#[cfg(any(test, fuzzing))]
mod choices;
#[cfg(any(feature = "gdb", feature = "perf"))]
pub mod debug;
mod dedicated;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)] // For the targets of fuzz/, which is what sets this cfg.
pub mod fuzzing;
mod icache;
mod id;
mod image;
mod kind;
mod layout;
#[cfg(feature = "loader")]
pub mod loader;
mod manager;
mod memory;
mod num;
pub mod reach;
mod reservation;
mod stats;
mod sys;
mod thread;
mod trap;
mod unwind;
mod window;

pub use dedicated::DedicatedBlocks;
pub use error::Error;
pub use id::{ReservationId, SectionId};
pub use image::{FinalizeError, ForeignSection, Image, ImageSection};
pub use kind::{PerKind, SectionKind};
pub use layout::{AllocationSpace, Extent, SectionRequest};
pub use manager::{ReservingMemoryManager, SectionMemoryManager};
pub use num::{Address, Align};
pub use reach::Reach;
pub use reservation::Reservation;
pub use stats::Stats;
pub use thread::ThreadBlock;
pub use window::{AfterFork, BranchProtection, Capabilities, Window, WindowOptions, Writing};

/// README's examples run as tests.
#[cfg(all(
    doctest,
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#[doc = include_str!("../README.md")]
struct Readme;
