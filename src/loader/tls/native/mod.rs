//! The blocks of all programs in all threads of this process.
//!
//! A module is a program's number. Each thread has a table with one word for each module: the address of its block, or zero.
//! Only its own thread reads a table without the registry's lock, or replaces it; whoever holds the lock may change its words.
//! A thread's first access to a module makes the block, from the module's template.
//!
//! ```text
//! GOT entry | module: 8 * number | offset |
//! table     | bytes | block of module 1 | block of module 2 | ...
//! ```

/// The name of a function in assembly, which another version of this crate in the same program does not have.
macro_rules! symbol {
    ($name:literal) => {
        concat!("nearcode_", env!("CARGO_PKG_VERSION"), "_", $name)
    };
}

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod cpu;
mod descriptor;
mod distance;
mod registry;
mod table;

pub(super) use self::descriptor::{dynamic_descriptor, fixed_descriptor};
pub(super) use self::registry::Module;
pub(super) use self::table::get_address;
