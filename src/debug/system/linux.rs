//! Files for perf, and its clock.
#![allow(unsafe_code)] // Maps a page of a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{geteuid, getpid};
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};

use crate::error::Error;

/// Where the marker's page lies in a jitdump: a tebibyte behind its beginning, where nothing is ever written.
const MARKER_OFFSET: u64 = 1 << 40;

/// What makes `perf record` note the file's name. Nobody reads or runs it.
#[derive(Debug)]
pub(super) struct Marker {
    _page: Mmap,
}

impl Marker {
    /// perf notes files that are mapped as executable, by name. Any page serves; the first one, which is the custom, would be
    /// code for this process that whoever writes to the file could change. There is no memory behind this one.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.offset(MARKER_OFFSET).len(region::page::size());
        // SAFETY: no reference is ever made to its bytes.
        let page = unsafe { options.map_exec(file) }?;
        Ok(Self { _page: page })
    }
}

/// This process, as perf names its files.
pub(super) fn process() -> Result<u32, Error> {
    Ok(getpid().as_raw_nonzero().get() as u32)
}

/// This thread.
pub(super) fn thread() -> u32 {
    gettid().as_raw_nonzero().get() as u32
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Opens a file for lines at its end, where anybody can make files: another user's, or a link, is refused.
pub(super) fn open_shared(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600); // To be mapped, it has to be read.
    let file = options
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it is there, and is not this user's file"));
    }
    Ok(file)
}

/// Opens a file as [`open_shared`] does, without what is in it, and for as long as it is open for nobody else who asks so.
pub(super) fn open_alone(path: &Path) -> io::Result<File> {
    let file = open_shared(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|code| match code {
        Errno::WOULDBLOCK => io::Error::other("somebody is writing to it"),
        other => other.into(),
    })?;
    file.set_len(0)?;
    Ok(file)
}
