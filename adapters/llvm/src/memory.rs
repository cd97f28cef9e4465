//! Where the memory of an engine comes from, and what it refused.

#[cfg(feature = "cxx")]
use nearcode::{AllocationSpace, Reservation};
use nearcode::{DedicatedBlocks, Error, PerKind, SectionMemoryManager, Stats, Window, Writing};

use crate::failure::Failure;

/// The memory of one or more engines. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct Memory {
    source: Source,
    pub(crate) failure: Failure,
}

/// LLVM asks for memory on many threads.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Memory>();
};

#[derive(Clone, Debug)]
enum Source {
    Blocks(DedicatedBlocks),
    Window(Window),
}

/// What blocks have more of each kind than RuntimeDyld announces: on x86-64 it counts no GOT slots for calls through the PLT
/// and for indirect functions, and no stubs for these. Rounding to pages leaves about as much again.
const HEADROOM: PerKind<usize> = PerKind::new(1024, 1024, 2048);

impl Memory {
    /// All objects in a window: in reach of each other, also with sections that LLVM did not announce.
    pub fn in_window(window: &Window) -> Self {
        Self::from(Source::Window(window.clone()))
    }

    /// A block for each object, as LLVM has it, with headroom for what RuntimeDyld does not announce. For
    /// [`rtdyld`](crate::rtdyld) and [`jitlink`](crate::jitlink): the callbacks are not told what is to come.
    pub fn in_blocks() -> Self {
        Self::with_blocks(DedicatedBlocks::new().with_headroom(HEADROOM))
    }

    /// The same, with another reach or headroom.
    pub fn with_blocks(blocks: DedicatedBlocks) -> Self {
        Self::from(Source::Blocks(blocks))
    }

    fn from(source: Source) -> Self {
        let failure = Failure::default();
        Self { source, failure }
    }

    /// The first error since the last one was taken.
    ///
    /// LLVM gets errors as texts: ORC hands them on, MCJIT drops them. Look here after an MCJIT has finalized code, as
    /// `LLVMGetFunctionAddress` does, and before calling it.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure.take()
    }

    /// What is in use of the window or of all blocks.
    pub fn stats(&self) -> Stats {
        match &self.source {
            Source::Blocks(blocks) => blocks.stats(),
            Source::Window(window) => window.stats(),
        }
    }

    pub(crate) fn manager(&self) -> SectionMemoryManager {
        match &self.source {
            Source::Blocks(blocks) => SectionMemoryManager::with_blocks(blocks.clone()),
            Source::Window(window) => SectionMemoryManager::in_window(window),
        }
    }

    #[cfg(feature = "cxx")]
    pub(crate) fn reserve(&self, space: &AllocationSpace<'_>) -> Result<Reservation, Error> {
        match &self.source {
            Source::Blocks(blocks) => blocks.reserve(space),
            Source::Window(window) => window.reserve(space),
        }
    }

    /// Whether code is written where it runs and needs no plan, which is all that LLVM's C callbacks can do with.
    pub(crate) fn check_is_one_pointer_enough(&self) -> Result<(), Error> {
        match &self.source {
            Source::Blocks(_) => Err(Error::Unsupported(
                "blocks behind LLVM's C callbacks, which announce nothing: take a window",
            )),
            Source::Window(window) => match window.capabilities().writing() {
                Writing::SameAddress => Ok(()),
                Writing::TwoAddresses => Err(Error::Unsupported(
                    "a window at two addresses behind LLVM's C callbacks, which know one: ask for Writing::SameAddress",
                )),
            },
        }
    }
}
