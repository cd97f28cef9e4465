//! One range of addresses, reserved once, in which everything reaches everything.
//!
//! ```text
//! | guard | code                | guard | read-only data    | guard | read-write data   | guard |
//! |       | r-x                 |       | r--               |       | rw-               |       |
//! |       | f g h ...           |       | f g h ...         |       | f g h ...         |       |
//! |<--------------- any two addresses: at most 2 GiB - 1 MiB ------------------------------->|
//! ```
//!
//! [`options`] says what a window may be; [`backing`] is its memory, written at two addresses or at one; [`sub_window`] knows
//! which bytes of one kind are whose ([`spans`]), whose they were lately ([`recent`]), and which pages have memory ([`pages`]);
//! [`state`] is all that under one lock, and [`shared`] acts on it, in [`release`] where memory comes back; a [`lease`](Lease) is
//! what one object has of it.
//!
//! What must not enter: how sections are laid out, and what a loader does with them.

mod backing;
mod lease;
mod options;
mod pages;
mod recent;
mod release;
mod shared;
mod spans;
mod state;
mod sub_window;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub(crate) use lease::Lease;
pub use options::{AfterFork, BranchProtection, Capabilities, WindowOptions, Writing};
#[cfg(fuzzing)]
pub(crate) use spans::history::History;

use self::shared::Shared;
use crate::error::Error;
use crate::layout::AllocationSpace;
use crate::num::Address;
use crate::reservation::{Content, Reservation};
use crate::stats::Stats;

/// One range of addresses, shared by all memory managers and threads of an engine, in which everything reaches everything.
///
/// Objects lie side by side in it, so that a million of them take a handful of kernel mappings. Clones are the same window. It
/// lives until the last clone, reservation and image is gone.
///
/// ```
/// use nearcode::{Align, ReservingMemoryManager, SectionKind, SectionMemoryManager, SectionRequest, Window};
///
/// # fn main() -> Result<(), nearcode::Error> {
/// let window = Window::new()?;
/// let mut manager = SectionMemoryManager::in_window(&window);
/// let request = SectionRequest::new(".text", SectionKind::Code, 64, Align::new(16)?);
/// let section = manager.allocate_section(&request)?; // A plan is welcome, and not needed.
/// manager.section_mut(section)?.fill(0xc3); // On x86-64: return.
/// let image = manager.finalize_memory()?;
/// assert_eq!(window.stats().objects(), 1);
/// drop(image);
/// assert_eq!(window.stats().objects(), 0);
/// # Ok(())
/// # }
/// ```
///
/// # After `fork`
///
/// In a child the window is there to run what was published before: reserving, writing and finalizing are
/// [`Error::InheritedWindow`], its [statistics](Self::stats) are zero, and dropping what was inherited gives nothing back. See [`AfterFork`] for the parent.
#[derive(Clone)]
pub struct Window(Arc<Shared>);

impl Window {
    /// A window as [`WindowOptions::new`] says.
    ///
    /// # Errors
    ///
    /// As [`with_options`](Self::with_options).
    pub fn new() -> Result<Self, Error> {
        Self::with_options(&WindowOptions::new())
    }

    /// Reserves a window.
    ///
    /// # Errors
    ///
    /// [`Error::System`] where the system refuses even the floor, or [at the same address](Writing::SameAddress) lets nothing
    /// writable become executable; [`Error::Unsupported`], [`Error::Barrier`];
    /// [`Error::WindowTooSmall`].
    pub fn with_options(options: &WindowOptions) -> Result<Self, Error> {
        Ok(Self(Arc::new(Shared::map(options)?)))
    }

    /// What it turned out to be.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// Where it begins. It ends [`Capabilities::size`] bytes above.
    pub fn address(&self) -> Address {
        self.0.backing.address()
    }

    /// What is in use of it, at one moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Spans for all of `space`. What is asked for beyond it comes from the window as well.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`], [`Error::WindowExhausted`], [`Error::AlignmentTooLarge`], [`Error::System`],
    /// [`Error::Barrier`], [`Error::InheritedWindow`]. Nothing changed.
    pub fn reserve(&self, space: &AllocationSpace<'_>) -> Result<Reservation, Error> {
        self.reserve_with(Box::default(), space)
    }

    /// The same, with room for the reservation's content, which is empty.
    #[inline]
    pub(crate) fn reserve_with(
        &self,
        mut content: Box<Content>,
        space: &AllocationSpace<'_>,
    ) -> Result<Reservation, Error> {
        let extents = content.plan(space)?;
        self.0.reserve(content, &extents)
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities = self.capabilities();
        let start = self.address();
        let end = start.wrapping_add(capabilities.size() as u64);
        write!(f, "{start}..{end} {:?}", capabilities.writing())
    }
}
