//! perf is Linux's.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::error::Error;

/// Never made.
#[derive(Debug)]
pub(super) struct Marker;

impl Marker {
    pub(super) fn new(_file: &File) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// No process here has files for perf.
pub(super) fn process() -> Result<u32, Error> {
    Err(Error::Unsupported("files for perf"))
}

pub(super) fn thread() -> u32 {
    0
}

pub(super) fn now() -> u64 {
    0
}

pub(super) fn open_shared(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn open_alone(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
