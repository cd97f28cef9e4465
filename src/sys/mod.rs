//! The only room that maps and protects memory.
//!
//! Three types own memory and lend out parts of it by span: [`Block`], one mapping for one object; [`Pool`], one mapping for
//! many; [`DualView`], one memory at two addresses. Nothing here decides who gets which span, or when it becomes executable.
//!
//! What differs between systems is in folders with a file for each and the same functions in each: [`bti`], [`dual`],
//! [`forks`], [`mapping`], [`pages`].
//!
//! macOS has `MAP_JIT` for memory that every thread may write or run, one after the other. It is not used: such memory cannot be
//! placed (the kernel refuses it with `MAP_FIXED`), so it cannot share a block with data, and its permission is the thread's
//! (`pthread_jit_write_protect_np`), not the page's: a slice that is writable on one thread would not be so on another. Memory that
//! is writable first and executable then needs neither, except under the hardened runtime, whose entitlement
//! `com.apple.security.cs.allow-unsigned-executable-memory` allows it.
#![allow(unsafe_code)] // Maps memory, turns it into slices and pointers, changes its permissions.

mod block;
mod bti;
mod dual;
#[cfg(test)]
pub(crate) mod fault;
#[cfg(not(test))]
#[path = "no_fault.rs"]
pub(crate) mod fault;
mod forks;
mod mapping;
mod pages;
mod pool;

use std::io;
use std::ptr::NonNull;

use region::Protection;

pub(crate) use block::Block;
pub(crate) use bti::protection as bti_protection;
pub(crate) use dual::DualView;
use forks::ForkMark;
pub(crate) use forks::fork_count;
use pages::RETURNS_PAGES;
pub(crate) use pool::Pool;

use crate::error::Error;
use crate::kind::SectionKind;
use crate::num::PageSize;

/// The page size of this process.
pub(crate) fn page_size() -> PageSize {
    PageSize::new(region::page::size())
        .expect("the system's page is a power of two of at least 4096 bytes")
}

/// What loaded code may do with memory. There is no variant for writable and executable at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Permission {
    None,
    ReadWrite,
    Read,
    ReadExecute,
}

/// The permission of finalized memory.
impl From<SectionKind> for Permission {
    fn from(kind: SectionKind) -> Self {
        match kind {
            SectionKind::Code => Self::ReadExecute,
            SectionKind::ReadOnlyData => Self::Read,
            SectionKind::ReadWriteData => Self::ReadWrite,
        }
    }
}

/// Gives `size` bytes of whole pages another permission: one system call.
///
/// # Safety
///
/// The pages are a mapping of the caller's, and no reference leads into them.
pub(crate) unsafe fn protect(
    start: NonNull<u8>,
    size: usize,
    permission: Permission,
) -> Result<(), Error> {
    let start = start.as_ptr();
    let page = page_size().align();
    // region rounds outwards without a word, into what belongs to others.
    assert!(
        page.divides(start as usize) && page.divides(size),
        "{size:#x} bytes at {start:p} are not made of pages"
    );
    let (protection, operation) = match permission {
        Permission::None => (Protection::NONE, "mprotect to ---"),
        Permission::ReadWrite => (Protection::READ_WRITE, "mprotect to rw-"),
        Permission::Read => (Protection::READ, "mprotect to r--"),
        Permission::ReadExecute => (Protection::READ_EXECUTE, "mprotect to r-x"),
    };
    let changed = fault::check().and_then(|()| {
        // SAFETY: the contract is the same, and nothing is rounded.
        unsafe { region::protect(start, size, protection) }.map_err(|error| match error {
            region::Error::SystemCall(code) => io::Error::from_raw_os_error(code),
            other => io::Error::other(other),
        })
    });
    changed.map_err(failed(operation, size))
}

/// Whether the system took pages back. Those that are locked in memory (`mlockall`) it does not: EINVAL.
fn took_back(discarded: Result<(), Error>) -> Result<bool, Error> {
    match discarded {
        Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::InvalidInput => {
            Ok(false)
        }
        other => other.map(|()| RETURNS_PAGES),
    }
}

/// The error of a system call.
fn failed<E: Into<io::Error>>(operation: &'static str, size: usize) -> impl FnOnce(E) -> Error {
    move |source| Error::System {
        operation,
        size,
        source: source.into(),
    }
}
