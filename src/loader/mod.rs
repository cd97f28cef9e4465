//! A reference loader for ELF relocatable objects: what `llvm-rtdyld` is to LLVM, in safe code over the public interface.
//!
//! [`Loader::load`] reads objects, [`Loader::link`] asks a memory manager for everything that they need at once, relocates, and
//! finalizes. Memory decides nothing about correctness: a reference that does not reach its target is an error that names
//! relocation, symbol, object, section and distance.
//!
//! Files are untrusted as files: whatever is in them, loading and linking end with a program or an error. Running the code is
//! `unsafe`, as is taking its word for how to unwind it.
//!
//! # Thread-local variables
//!
//! Each thread has a block of a program's variables. With `-fPIC` code asks for it, and the first time a thread asks, it is
//! made, on the heap; it goes when the thread ends or the program is dropped. There is no way to report that no memory is left
//! for it: the process is aborted, as the C library does.
//!
//! Without `-fPIC`, or with `-ftls-model=initial-exec`, code takes a variable to be at a fixed offset from the thread pointer. For
//! such programs every thread of the process has 4 KiB from its beginning, of this crate's own thread-local storage
//! ([`ThreadBlock`](crate::ThreadBlock)). It begins with zeros, so that a program with another initial value is refused; alignment goes up to 64. What a dropped program had is given
//! out again when the process has no other thread. In a library that was opened after the start of the process, fixed offsets
//! are refused.
//!
//! Variables of other libraries are refused, also of [earlier programs](Loader::with_program), unless code asks a function
//! for their address, as it does for `errno`. A child of `fork` has the variables of the thread that forked; as for all that
//! takes locks, another thread must not just be making a block. Linux only.

mod aarch64;
mod automatic;
mod by_name;
mod error;
mod execute;
mod fill;
mod item;
mod library;
mod link;
mod listeners;
mod location;
mod machine;
mod memory;
mod object;
mod plan;
mod program;
mod relocation;
mod resolver;
mod symbols;
mod texts;
mod tls;
mod x86_64;

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

pub use error::{LoadError, Place, UndefinedSymbol};
pub use library::Library;
pub use machine::Machine;
pub use program::{Program, ProgramSection};
pub use resolver::Resolver;

use self::execute::TrueEhFrames;
use self::listeners::Listeners;
use self::object::Object;
use crate::error::Error;
use crate::layout::SectionRequest;
use crate::manager::ReservingMemoryManager;
use crate::num::Address;

/// Which objects share a reservation, and so a GOT, and are in reach of each other whatever memory manager there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Placement {
    /// All of them.
    #[default]
    Together,
    /// None: each has its own. Calls from one to another go through stubs where they must; references to another's data
    /// may be out of reach of dedicated blocks, and are in reach in a [`Window`](crate::Window).
    PerObject,
}

/// What a memory manager is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Sections {
    /// One piece of memory for each kind, in which all sections of that kind lie, and one for the unwind table: little to do
    /// for the manager, and little to keep.
    #[default]
    Joined,
    /// Each section by its own name: for a manager that decides by name where a section lies.
    Apart,
}

/// Objects on their way to become a program.
#[derive(Debug)]
pub struct Loader<'data> {
    machine: Machine,
    placement: Placement,
    sections: Sections,
    max_bytes: usize,
    objects: SmallVec<[Object<'data>; 1]>,
    earlier: Vec<Arc<Program>>,
    elsewhere: Option<Elsewhere<'data>>,
    listeners: Listeners<'data>,
}

/// Says where sections are in another address space.
struct Elsewhere<'data>(Box<SectionMap<'data>>);

type SectionMap<'data> = dyn Fn(&SectionRequest<'_>, Address) -> Address + 'data;

impl fmt::Debug for Elsewhere<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another address space")
    }
}

impl<'data> Loader<'data> {
    /// What a link may reserve unless it is decided otherwise, in bytes: 1 GiB. A few bytes of a file can ask for any size, in
    /// zeros or in sections that share their contents.
    const MAX_BYTES: usize = 1 << 30;

    /// A loader for objects that run on this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] on a CPU that it does not know.
    pub fn new() -> Result<Self, Error> {
        Machine::HOST
            .map(Self::for_machine)
            .ok_or(Error::Unsupported(
                "the loader knows aarch64 and x86-64 only",
            ))
    }

    /// A loader for objects that run on `machine`, which need not be this one.
    pub fn for_machine(machine: Machine) -> Self {
        Self {
            machine,
            placement: Placement::default(),
            sections: Sections::default(),
            max_bytes: Self::MAX_BYTES,
            objects: SmallVec::new(),
            earlier: Vec::new(),
            elsewhere: None,
            listeners: Listeners::default(),
        }
    }

    /// Decides which objects share a reservation.
    pub fn with_placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Decides what a memory manager is asked for.
    pub fn with_sections(mut self, sections: Sections) -> Self {
        self.sections = sections;
        self
    }

    /// Decides how much a link may reserve, in bytes: the sum of what its sections, GOTs and stubs take up, each rounded up to its
    /// alignment. 1 GiB if nobody decides. As much may the names in each object come to, which a program keeps, but 1.3 GiB in all.
    pub fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Links against an earlier program: what no object defines is first looked for there, among the symbols that are not
    /// hidden. Of several programs the first one that has a symbol counts.
    ///
    /// The new program keeps the earlier one alive.
    pub fn with_program(mut self, earlier: Arc<Program>) -> Self {
        self.earlier.push(earlier);
        self
    }

    /// Links for another address space, as `mapSectionAddress` does in LLVM: `map` says where a section with this request and
    /// this address here is going to be there, aligned as it asks. It hears of what the memory manager is asked for: of each section
    /// by its name with [`Sections::Apart`].
    ///
    /// The program is then to be copied there: its addresses are those of the other space, the bytes to copy are at
    /// [`Image::pointer`](crate::Image::pointer). Here nothing of it runs.
    pub fn map_section(
        mut self,
        map: impl Fn(&SectionRequest<'_>, Address) -> Address + 'data,
    ) -> Self {
        self.elsewhere = Some(Elsewhere(Box::new(map)));
        self
    }

    /// Lets gdb and lldb know of the program, with all that its objects say of names, unwinding and lines, until it is dropped.
    /// [`GdbImage`](crate::debug::GdbImage) says what that takes.
    ///
    /// Linking is then [`Error::Unsupported`] for another address space or another CPU, and where programs are no ELF files.
    #[cfg(feature = "gdb")]
    pub fn with_gdb(mut self) -> Self {
        self.listeners.gdb.turn_on();
        self
    }

    /// Adds the program's functions to this process's perf map, from before they can run. Nobody takes them out. perf reads it for
    /// some kinds of memory: [`PerfMap`](crate::debug::PerfMap) says for which.
    ///
    /// Linking is then [`Error::Unsupported`] for another address space or another CPU, and fails where the file cannot be written.
    #[cfg(feature = "perf")]
    pub fn with_perf_map(mut self, map: &crate::debug::PerfMap) -> Self {
        self.listeners.perf.map = Some(map.clone());
        self
    }

    /// Adds the program's functions and their code to a jitdump, from before they can run.
    ///
    /// Linking fails as for [`with_perf_map`](Self::with_perf_map).
    #[cfg(feature = "perf")]
    pub fn with_jit_dump(mut self, dump: &crate::debug::JitDump) -> Self {
        self.listeners.perf.dump = Some(dump.clone());
        self
    }

    /// Reads an object file. `name` is for messages.
    ///
    /// # Errors
    ///
    /// [`LoadError::Malformed`], [`LoadError::WrongMachine`], [`LoadError::NotRelocatable`]. The objects that were loaded
    /// before stay.
    pub fn load(&mut self, name: &str, bytes: &'data [u8]) -> Result<(), LoadError> {
        let object = Object::parse(name, bytes, self.machine, &self.objects)?;
        self.objects.push(object);
        self.listeners.gdb.load(bytes);
        Ok(())
    }

    /// Makes a program of all objects: plans, allocates, resolves, relocates, checks, and finalizes.
    ///
    /// `resolver` is asked for what neither an object nor an earlier program defines. Finalization is `manager`'s, so it includes whatever else is in flight
    /// there.
    ///
    /// # Errors
    ///
    /// A [`LoadError`] that names the object, the symbol and the relocation. What was reserved is given back.
    /// [`LoadError::TooLarge`] comes before anything is.
    pub fn link(
        self,
        manager: &mut dyn ReservingMemoryManager,
        resolver: &dyn Resolver,
    ) -> Result<Program, LoadError> {
        link::link(self, manager, resolver, None)
    }

    /// The same, and the program's unwind table is registered, so that exceptions and panics can pass through it. It is
    /// deregistered when the program is dropped.
    ///
    /// Up to libgcc 12 each registered table makes throwing slower everywhere in the process.
    ///
    /// # Errors
    ///
    /// As for [`link`](Self::link); [`Error::Unsupported`] where the system has no such tables, and for another address space.
    ///
    /// # Safety
    ///
    /// The `.eh_frame` sections of all objects are true of the code that they speak of, with the addresses that `resolver`
    /// gives, as a compiler's are.
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub unsafe fn link_with_eh_frames(
        self,
        manager: &mut dyn ReservingMemoryManager,
        resolver: &dyn Resolver,
    ) -> Result<Program, LoadError> {
        // SAFETY: the contract is the same.
        let promise = unsafe { TrueEhFrames::promise() };
        link::link(self, manager, resolver, Some(promise))
    }
}
