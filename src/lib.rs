//! The memory manager of a JIT loader.

#![deny(unsafe_code)] // Opened file by file, with a reason; tests/house_rules.rs knows the files.

mod error;
mod icache;
mod id;
mod image;
mod kind;
mod layout;
#[cfg(feature = "loader")]
pub mod loader;
mod manager;
mod num;
pub mod reach;
mod reservation;
mod stats;
mod sys;
mod trap;
mod unwind;

pub use error::Error;
pub use id::{ReservationId, SectionId};
pub use image::{FinalizeError, ForeignSection, Image, ImageSection};
pub use kind::{PerKind, SectionKind};
pub use layout::{AllocationSpace, Extent, SectionRequest};
pub use manager::{ReservingMemoryManager, SectionMemoryManager};
pub use num::{Address, Align, PageSize, Span};
pub use reach::Reach;
pub use reservation::{DedicatedBlocks, Reservation};
pub use stats::Stats;
