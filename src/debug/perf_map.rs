//! perf maps: a text file of names, which `perf report` looks for (linux/tools/perf/Documentation/jit-interface.txt).

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::symbol::Symbol;
use super::system;
use crate::error::Error;

/// The names of this process's code, for `perf report`. Clones write to the same file.
///
/// The file is `/tmp/perf-PID.map`, and stays there: perf reads it after the process has ended.
///
/// perf asks it of memory only that is no file's: of dedicated blocks, and of windows at one address. A window at
/// [two addresses](crate::Writing::TwoAddresses) is a memory file, for which perf takes a [`JitDump`](super::JitDump). So
/// does a program that unloads code: names are never taken out of a map, and of two for one address perf shows one.
#[derive(Clone, Debug)]
pub struct PerfMap {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    process: u32,
    file: File,
}

impl PerfMap {
    /// Opens this process's file, and makes it first if it is not there. What is in it stays: other JITs of the process write
    /// to it, too.
    ///
    /// # Errors
    ///
    /// [`Error::File`], also for a file of another user and for a link, since anybody can put one there; [`Error::Unsupported`]
    /// outside of Linux.
    pub fn open() -> Result<Self, Error> {
        let process = system::process()?;
        // perf looks nowhere else, whatever TMPDIR says.
        let path = PathBuf::from(format!("/tmp/perf-{process}.map"));
        let file = system::open_shared(&path).map_err(|source| Error::File {
            operation: "open",
            path: path.clone(),
            source,
        })?;
        let shared = Arc::new(Shared {
            path,
            process,
            file,
        });
        Ok(Self { shared })
    }

    /// Adds these names: one write for all of them.
    ///
    /// # Errors
    ///
    /// [`Error::File`]; [`Error::InheritedFile`] in a child of `fork`, whose names are not this file's.
    pub fn add(&self, symbols: &[Symbol<'_>]) -> Result<(), Error> {
        let Shared {
            path,
            process,
            file,
        } = &*self.shared;
        if system::process()? != *process {
            return Err(Error::InheritedFile { path: path.clone() });
        }
        let mut lines = String::new();
        for symbol in symbols {
            let (start, size) = (symbol.address().get(), symbol.size());
            writeln!(lines, "{start:x} {size:x} {}", symbol.name()).expect("a string grows");
        }
        // At the end of the file, whoever else writes there; a line is whole in it unless the disk is full.
        (&mut &*file)
            .write_all(lines.as_bytes())
            .map_err(|source| Error::File {
                operation: "write to",
                path: path.clone(),
                source,
            })
    }
}
