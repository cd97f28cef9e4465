//! The process and its shared libraries, by name.
#![allow(unsafe_code)] // Opens libraries and looks symbols up through the system's C interface.

use std::ffi::c_void;

use libloading::os;
use smallvec::SmallVec;

use super::error::LoadError;
use super::resolver::Resolver;
use crate::num::Address;

/// A library of the process, or all that were there when the process started.
///
/// It stays open for as long as the process lives, since code that was linked to it may run that long.
#[derive(Debug)]
pub struct Library(std::mem::ManuallyDrop<imp::Library>);

#[cfg(unix)]
use os::unix as imp;
#[cfg(windows)]
use os::windows as imp;

impl Library {
    /// The process: its program and all libraries that it was started with.
    ///
    /// Of a program's own functions the system knows those that it exports (on Linux linked with `-rdynamic`); a closure in
    /// front of this resolver can name the others. Of C, what is only in libm or in a static part of libc is not there.
    ///
    /// # Errors
    ///
    /// [`LoadError::Library`] if the system does not give access to it.
    pub fn process() -> Result<Self, LoadError> {
        let this = process::open().map_err(|reason| failed("of the process itself", reason))?;
        Ok(Self(std::mem::ManuallyDrop::new(this)))
    }

    /// The library called `name`, found as the system finds libraries.
    ///
    /// # Errors
    ///
    /// [`LoadError::Library`].
    ///
    /// # Safety
    ///
    /// Opening a library runs its initialization, which may do anything.
    pub unsafe fn open(name: &str) -> Result<Self, LoadError> {
        // SAFETY: what the library's initialization does is the caller's promise.
        let library = unsafe { imp::Library::new(name) }.map_err(|reason| failed(name, reason))?;
        Ok(Self(std::mem::ManuallyDrop::new(library)))
    }
}

fn failed(name: &str, reason: impl ToString) -> LoadError {
    // The system's reason may span lines, and may begin with the name.
    let reason = reason
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let reason = reason
        .strip_prefix(name)
        .map_or(reason.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    LoadError::Library {
        name: name.into(),
        reason: reason.into(),
    }
}

impl Resolver for Library {
    fn resolve(&self, name: &str) -> Option<Address> {
        // With a zero behind it a name need not be copied to the heap.
        let mut symbol: SmallVec<[u8; 64]> = SmallVec::from_slice(name.as_bytes());
        symbol.push(0);
        // SAFETY: the symbol is only used as an address, never as a value of some type.
        let symbol = unsafe { self.0.get::<*const c_void>(&symbol) }.ok()?;
        let address = *symbol as usize as u64;
        Some(Address::new(address)).filter(|address| address.get() != 0)
    }
}

#[cfg(unix)]
mod process {
    //! On Unix the process is a library like others.
    pub(super) fn open() -> Result<super::imp::Library, std::convert::Infallible> {
        Ok(super::imp::Library::this())
    }
}

#[cfg(windows)]
mod process {
    //! On Windows the process is its executable.
    pub(super) fn open() -> Result<super::imp::Library, libloading::Error> {
        super::imp::Library::this()
    }
}
