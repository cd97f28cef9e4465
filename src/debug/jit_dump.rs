//! jitdumps: names and code with their times, which `perf inject` makes files of that `perf report` and `perf annotate` read.
//! Numbers and layout are of linux/tools/perf/Documentation/jitdump-specification.txt, version 1 of the format.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::symbol::Symbol;
use super::{MACHINE, system};
use crate::error::Error;

/// `JiTD`, in the order of this CPU, which tells readers what that is.
const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;

/// Of the file's header, a record's header, and a record of code in front of its name, in bytes.
const HEADER_SIZE: u32 = 40;
const RECORD_SIZE: usize = 16;
const LOAD_SIZE: usize = RECORD_SIZE + 40;

/// `JIT_CODE_LOAD` and `JIT_CODE_CLOSE`.
const LOAD: u32 = 0;
const CLOSE: u32 = 3;

/// The code of this process and its names, for `perf inject --jit`. Clones write to the same file, which is closed when the last
/// one is dropped.
///
/// Each piece of code is in it with the time from which on it was there, so that profiles are right where an address is used
/// again. `perf record` has to use the same clock: `-k mono`. It notes the file because this process has a page of it mapped as
/// executable, a page with nothing in it: no rule against code that was written (`PR_SET_MDWE`, seccomp filters) minds, but a
/// file system that is mounted `noexec` refuses.
///
/// There are neither lines nor unwind tables in it: call graphs need frame pointers.
#[derive(Clone, Debug)]
pub struct JitDump {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    process: u32,
    written: Mutex<Written>,
    _marker: system::Marker,
}

#[derive(Debug)]
struct Written {
    file: File,
    /// What is in it, in bytes: whole records.
    size: u64,
    /// How many pieces of code: each has a number.
    count: u64,
}

impl JitDump {
    /// Makes the file `jit-PID.dump` in a folder, which is where `perf inject` puts its files, too. One that an earlier process of
    /// this number left there is gone.
    ///
    /// # Errors
    ///
    /// [`Error::File`], also where this process has one in that folder already. On a file system that is mounted `noexec`
    /// the file cannot be mapped as executable, and nothing is left of it. [`Error::Unsupported`] outside of Linux, and on CPUs
    /// that nobody tried.
    pub fn create_in(folder: &Path) -> Result<Self, Error> {
        let process = system::process()?;
        if MACHINE == 0 {
            return Err(Error::Unsupported("jitdumps for this CPU"));
        }
        let path = folder.join(format!("jit-{process}.dump"));
        let failed = |operation| {
            let path = path.clone();
            move |source| Error::File {
                operation,
                path,
                source,
            }
        };
        let file = system::open_alone(&path).map_err(failed("create"))?;
        let marker = system::Marker::new(&file).map_err(failed("map as executable"));
        let marker = marker.inspect_err(|_| {
            let _ = std::fs::remove_file(&path); // There is nothing in it.
        })?;
        let mut written = Written {
            file,
            size: 0,
            count: 0,
        };
        written.add(&header(process)).map_err(failed("write to"))?;
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                process,
                written: Mutex::new(written),
                _marker: marker,
            }),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Adds these pieces of code, each with its bytes, as they are from now on: one write for all of them. Before they run, or
    /// samples from the meantime have no names.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSymbol`] for one whose bytes are not as many as its size says, or whose record would have 4 GiB; nothing
    /// was added. [`Error::File`]; [`Error::InheritedFile`] in a child of `fork`.
    pub fn add(&self, symbols: &[(Symbol<'_>, &[u8])]) -> Result<(), Error> {
        let Shared { path, process, .. } = &*self.shared;
        if system::process()? != *process {
            return Err(Error::InheritedFile { path: path.clone() });
        }
        let mut written = self.shared.lock();
        let mut records = Vec::new();
        for (count, (symbol, code)) in (written.count..).zip(symbols) {
            add_load(&mut records, *process, count, symbol, code)?;
        }
        written.add(&records).map_err(|source| Error::File {
            operation: "write to",
            path: path.clone(),
            source,
        })?;
        written.count += symbols.len() as u64;
        Ok(())
    }
}

impl Written {
    /// Adds all of `bytes`, or nothing: behind half a record nobody would find the next one.
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => self.size += bytes.len() as u64,
            Err(failed) => {
                self.file.set_len(self.size)?;
                return Err(failed);
            }
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if system::process().ok() == Some(self.process) {
            let mut close = Vec::new();
            add_record(&mut close, CLOSE, RECORD_SIZE as u32);
            let _ = self.lock().add(&close); // The end of the file says the same.
        }
    }
}

fn header(process: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_SIZE as usize);
    let order = [MAGIC, VERSION, HEADER_SIZE, MACHINE.into(), 0, process];
    bytes.extend(order.iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(system::now().to_ne_bytes());
    bytes.extend(0_u64.to_ne_bytes()); // No flags: the clock is CLOCK_MONOTONIC.
    bytes
}

fn add_record(bytes: &mut Vec<u8>, kind: u32, size: u32) {
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(size.to_ne_bytes());
    bytes.extend(system::now().to_ne_bytes());
}

fn add_load(
    bytes: &mut Vec<u8>,
    process: u32,
    count: u64,
    symbol: &Symbol<'_>,
    code: &[u8],
) -> Result<(), Error> {
    let invalid = |reason| Error::InvalidSymbol {
        name: symbol.name().into(),
        reason,
    };
    if symbol.size() != code.len() as u64 {
        return Err(invalid("its code has another size than it says"));
    }
    let size = LOAD_SIZE + symbol.name().len() + 1;
    let size = size.checked_add(code.len()).map(u32::try_from);
    let Some(Ok(size)) = size else {
        return Err(invalid("its record would have 4 GiB"));
    };
    add_record(bytes, LOAD, size);
    bytes.extend(process.to_ne_bytes());
    bytes.extend(system::thread().to_ne_bytes());
    let address = symbol.address().get();
    let order = [address, address, symbol.size(), count];
    bytes.extend(order.iter().flat_map(|number| number.to_ne_bytes()));
    bytes.extend(symbol.name().as_bytes());
    bytes.push(0);
    bytes.extend(code);
    Ok(())
}
