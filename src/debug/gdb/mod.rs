//! GDB's interface for code that is made at run time, which lldb has, too (*Debugging with GDB*, "JIT Compilation Interface").
//!
//! A list of files in memory, of ELF's form, starts at a variable of the process; a debugger has a breakpoint in a function that
//! does nothing, and looks at the list whenever that is called. So debuggers learn of code both while they are there and when
//! they come later.
#![allow(unsafe_code)] // Links files into the list, and out again.

#[cfg(all(
    any(target_os = "linux", target_os = "android", target_os = "freebsd"),
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64"
    )
))]
mod list;
#[cfg(not(all(
    any(target_os = "linux", target_os = "android", target_os = "freebsd"),
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64"
    )
)))]
#[path = "unsupported.rs"]
mod list;

use std::ptr::NonNull;

use super::elf;
use super::symbol::Symbol;
use crate::error::Error;
use crate::num::Address;
use list::Entry;

pub(crate) use list::SUPPORTED;

/// What debuggers are going to be told: a file, or some.
///
/// They look for the symbols `__jit_debug_register_code` and `__jit_debug_descriptor`, which the feature `gdb` adds to the
/// program. These are weak and hidden: a program that has LLVM, or another JIT, linked into it gets one pair, whoever defines it,
/// and one in a library beside it keeps its own; gdb looks at all of them from version 11 on. A pair that LLVM shares is locked
/// by each for itself: programs that register code through both do so on one thread at a time. A program that is
/// stripped of its symbols has none of them.
///
/// gdb stops the process and reads each file when it is registered: 1 ms each up to the thousandth, then longer the more there
/// are. One registration of many functions is better than many of one. Without a debugger it takes the memory for the file, and a
/// few microseconds to make it.
///
/// Breakpoints are written into code. A window at [two addresses](crate::Writing::TwoAddresses) lets nobody write it where it
/// runs; gdb says no word of that, and the breakpoint is never met. There `hbreak` works, which uses the CPU's own.
#[derive(Clone, Debug)]
pub struct GdbImage {
    files: Vec<Box<[u8]>>,
}

impl GdbImage {
    /// These pieces of code and their names: enough for a backtrace to show them, if they keep frame pointers.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSymbol`] if the names are more than 4 GiB.
    pub fn of_symbols(symbols: &[Symbol<'_>]) -> Result<Self, Error> {
        Self::new(symbols, None)
    }

    /// The same with their unwind table, for code without frame pointers: `table` are the bytes of an `.eh_frame`, relocated,
    /// that is at `address` in memory.
    ///
    /// # Errors
    ///
    /// As for [`of_symbols`](Self::of_symbols).
    pub fn of_symbols_and_eh_frame(
        symbols: &[Symbol<'_>],
        address: Address,
        table: &[u8],
    ) -> Result<Self, Error> {
        Self::new(symbols, Some((address, table)))
    }

    /// An ELF file that says where it is: `sh_addr` of each section that is in memory is where that begins, and zero in all
    /// others. A relocatable object may have its relocations as they were: debuggers apply those of the sections that they read.
    ///
    /// Here nobody looks into it.
    pub fn from_elf(file: Vec<u8>) -> Self {
        Self {
            files: vec![file.into()],
        }
    }

    fn new(symbols: &[Symbol<'_>], mut table: Option<(Address, &[u8])>) -> Result<Self, Error> {
        let mut files = Vec::new();
        let mut rest = symbols;
        while !rest.is_empty() || table.is_some() {
            let (now, later) = rest.split_at(rest.len().min(elf::MAX_SYMBOLS));
            files.push(elf::file(now, table.take())?.into());
            rest = later;
        }
        Ok(Self { files })
    }

    /// Tells debuggers, until what it returns is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where programs are no ELF files.
    pub fn register(self) -> Result<GdbRegistration, Error> {
        if !SUPPORTED {
            return Err(Error::Unsupported("telling debuggers of code"));
        }
        let registered = self.files.into_iter().map(Registered::new);
        Ok(GdbRegistration {
            _registered: registered.collect(),
        })
    }
}

/// Code that debuggers know of. Dropping it tells them that the code is gone, so it goes before the memory does.
#[derive(Debug)]
#[must_use = "debuggers forget the code when it is dropped"]
pub struct GdbRegistration {
    _registered: Vec<Registered>,
}

/// A file in the list.
#[derive(Debug)]
struct Registered {
    /// From a box of its own, and in the list from the beginning to the end.
    entry: NonNull<Entry>,
    /// What the entry points to.
    _file: Box<[u8]>,
}

// SAFETY: the entry is only touched under the list's lock, and by debuggers, which stop all threads.
unsafe impl Send for Registered {}
// SAFETY: as above; through a shared reference nothing can be done with it.
unsafe impl Sync for Registered {}

impl Registered {
    fn new(file: Box<[u8]>) -> Self {
        let entry = NonNull::from(Box::leak(Box::new(Entry::new(&file))));
        // SAFETY: the entry is new, and it and the file stay where they are until it has left the list, on drop.
        unsafe { list::enter(entry) };
        Self { entry, _file: file }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: it was entered when this was made, and leaves only here.
        unsafe { list::leave(self.entry) };
        // SAFETY: it came from a box, and nobody has it any more.
        drop(unsafe { Box::from_raw(self.entry.as_ptr()) });
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_what_is_registered_and_nothing_else() {
        let image = |name| {
            let symbols = [Symbol::new(name, Address::new(0x1000), 16).unwrap()];
            GdbImage::of_symbols(&symbols).unwrap()
        };
        let all = |names: &[&str]| {
            let files: Vec<Vec<u8>> = list::files();
            let has = |name: &&str| {
                let name = name.as_bytes();
                files
                    .iter()
                    .any(|file| file.windows(name.len()).any(|part| part == name))
            };
            names.iter().map(has).collect::<Vec<_>>()
        };
        let names = ["the_first_one", "the_second_one", "the_third_one"];
        let [first, second, third] = names.map(|name| image(name).register().unwrap());
        assert_eq!(all(&names), [true, true, true]);
        drop(second);
        assert_eq!(all(&names), [true, false, true]);
        drop(third);
        assert_eq!(all(&names), [true, false, false]);
        let again = image(names[2]).register().unwrap();
        drop(first);
        assert_eq!(all(&names), [false, false, true]);
        drop(again);
        assert_eq!(all(&names), [false, false, false]);
    }

    #[test]
    fn many_threads_may_register() {
        let thread = |number: usize| {
            move || {
                for round in 0..200 {
                    let name = format!("thread_{number}_{round}");
                    let symbols = [Symbol::new(&name, Address::new(0x1000), 16).unwrap()];
                    let registration = GdbImage::of_symbols(&symbols).unwrap().register();
                    assert!(registration.is_ok());
                }
            }
        };
        let threads: Vec<_> = (0..4)
            .map(|number| std::thread::spawn(thread(number)))
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let left = list::files();
        assert!(
            left.iter()
                .all(|file| !file.windows(7).any(|part| part == b"thread_"))
        );
    }

    #[test]
    fn more_symbols_than_a_file_has_are_more_files() {
        let symbols: Vec<_> = (0..elf::MAX_SYMBOLS as u64 + 1)
            .map(|i| Symbol::new("s", Address::new(0x1000 + i * 0x100), 8).unwrap())
            .collect();
        assert_eq!(GdbImage::of_symbols(&symbols).unwrap().files.len(), 2);
        assert_eq!(GdbImage::of_symbols(&[]).unwrap().files.len(), 0);
    }
}
