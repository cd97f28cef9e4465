#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]
#![deny(unsafe_code)] // Opened file by file, with a reason; the core's tests/house_rules.rs knows the files.

pub mod callbacks;
mod failure;
#[cfg(feature = "cxx")]
mod graph;
#[cfg(feature = "cxx")]
pub mod jitlink;
mod memory;
#[cfg(any(orc_callbacks, feature = "cxx"))]
mod orc;
mod place;
#[cfg(feature = "cxx")]
pub mod rtdyld;
mod scratch;
mod sections;
#[cfg_attr(not(feature = "cxx"), allow(dead_code))] // The callbacks have no say.
mod variables;

pub use nearcode;

pub use memory::Memory;
