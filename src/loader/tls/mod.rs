//! Thread-local storage: one block of a program's variables for each thread.
//!
//! ```text
//! a program's block:  | .tdata of a.o | .tdata of b.o | .tbss of a.o | .tbss of b.o |
//! its template:         what the first two begin with: read-only data of the program, relocated as such
//! ```
//!
//! Code finds a variable in one of two ways. *Dynamic* models (general and local dynamic, descriptors) call a function with
//! a GOT entry, and the thread gets its block when it first asks: [`native`]. *Static* models (initial and local exec) add a
//! number to the thread pointer, the same in all threads, so that the block has to lie in memory that every thread has from
//! the beginning, and begins with zeros there: [`ThreadBlock`](crate::ThreadBlock).
//!
//! Law: no thread ever sees a value that is neither what the program says a variable begins with nor what was stored. What
//! cannot be had so is an error that says how to compile.

mod entries;
mod layout;
#[cfg_attr(
    all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ),
    path = "native/mod.rs"
)]
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )),
    path = "unsupported.rs"
)]
mod native;
mod storage;
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )),
    allow(dead_code) // Nobody makes blocks there.
)]
mod template;

pub(super) use self::entries::{Entry, Needs};
pub(super) use self::layout::Layout;
pub(super) use self::storage::{GET_ADDRESS, Home, Storage};
use self::template::{Piece, Template};
