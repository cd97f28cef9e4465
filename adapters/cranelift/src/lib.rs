#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]
#![deny(unsafe_code)] // Opened file by file, with a reason; the core's tests/house_rules.rs knows the files.

#[cfg_attr(
    all(target_os = "linux", target_arch = "aarch64"),
    path = "bti/linux_aarch64.rs"
)]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "aarch64")),
    path = "bti/none.rs"
)]
mod bti;
mod error;
mod memory;
mod provider;

pub use nearcode;

pub use error::Error;
pub use memory::{Function, ModuleMemory};
pub use provider::WindowMemoryProvider;
