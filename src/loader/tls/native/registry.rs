//! Who has which blocks: modules and threads, and what becomes of blocks when one of them ends.
#![allow(unsafe_code)] // Makes, fills and frees memory that loaded code uses.

use std::alloc::{self, Layout};
use std::collections::BTreeMap;
use std::ptr::{self, with_exposed_provenance};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Piece, Template};
use super::table::{self, Table, ThreadNumber};
use super::{cpu, distance};
use crate::error::Error;
use crate::thread::ThreadBlock;

/// In bytes. The words of a table are this far apart, and so are the numbers of modules.
const WORD: usize = size_of::<usize>();

/// A program's place in the tables. Dropping it frees its blocks in all threads: nobody runs the program's code any more.
#[derive(Debug)]
pub(in crate::loader::tls) struct Module {
    /// From 1.
    number: usize,
}

/// What a module's blocks are made of.
#[derive(Debug)]
struct Made {
    layout: Layout,
    pieces: Vec<Piece>,
    home: Home,
}

/// Where blocks are.
#[derive(Debug)]
enum Home {
    /// Each by itself.
    Heap,
    /// Where every thread has room from the beginning.
    Room(ThreadBlock, Use),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// The program's code has never run.
    Never,
    /// It may have stored something.
    Begun,
}

#[derive(Debug)]
struct Registry {
    /// Number `i + 1` at `i`; `None` for a number that is free.
    modules: Vec<Option<Made>>,
    /// Numbers that are free.
    free: Vec<usize>,
    threads: BTreeMap<ThreadNumber, Table>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    modules: Vec::new(),
    free: Vec::new(),
    threads: BTreeMap::new(),
});

fn registry() -> MutexGuard<'static, Registry> {
    // Whoever panicked with it, of the tests: each change is complete in itself.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Module {
    /// One whose blocks are made when a thread first asks.
    ///
    /// # Errors
    ///
    /// What is not supported.
    pub(in crate::loader::tls) fn dynamic(
        template: Template,
        has_descriptors: bool,
    ) -> Result<Self, &'static str> {
        if has_descriptors {
            cpu::prepare();
            distance::prepare(); // Without it descriptors are slow, and right.
        }
        Self::new(template, Home::Heap)
    }

    /// One whose blocks are where every thread has room from the beginning, and their offset from the thread pointer.
    ///
    /// # Errors
    ///
    /// What is not supported.
    pub(in crate::loader::tls) fn fixed(template: Template) -> Result<(Self, isize), &'static str> {
        let block = ThreadBlock::new(template.size, template.align).map_err(|error| match error {
            Error::AlignmentTooLarge { .. } => {
                "a fixed offset from the thread pointer with an alignment above 64 (compile with -fPIC and without \
                 -ftls-model)"
            }
            Error::ThreadRoomExhausted { .. } => {
                "a fixed offset from the thread pointer, of which there are 4096 bytes for all programs together (compile with \
                 -fPIC and without -ftls-model),"
            }
            _ => {
                "a fixed offset from the thread pointer, in a library that was loaded after the start of the process \
                 (compile with -fPIC and without -ftls-model),"
            }
        })?;
        let offset = block.thread_offset();
        Ok((Self::new(template, Home::Room(block, Use::Never))?, offset))
    }

    fn new(template: Template, home: Home) -> Result<Self, &'static str> {
        table::prepare()?;
        // A block of no bytes has an address, too.
        let layout = Layout::from_size_align(template.size.max(1), template.align.bytes());
        let made = Made {
            layout: layout.map_err(|_| "a block that does not fit into memory")?,
            pieces: template.pieces,
            home,
        };
        let Registry { modules, free, .. } = &mut *registry();
        let number = free.pop().unwrap_or_else(|| {
            modules.push(None);
            modules.len()
        });
        modules[number - 1] = Some(made);
        Ok(Self { number })
    }

    /// The program's code may run. Says what a block begins with: memory that is readable for as long as it does.
    pub(in crate::loader::tls) fn begin(&self, pieces: Vec<Piece>) {
        let made = &mut registry().modules[self.number - 1];
        let made = made
            .as_mut()
            .expect("it is in there for as long as it lives");
        made.pieces = pieces;
        if let Home::Room(_, begun) = &mut made.home {
            *begun = Use::Begun;
        }
    }

    /// What stands for it in a GOT entry.
    pub(in crate::loader::tls) fn word(&self) -> usize {
        self.number * WORD
    }

    /// How many threads have a block of their own.
    pub(in crate::loader::tls) fn blocks(&self) -> usize {
        let registry = registry();
        let made = registry.modules[self.number - 1].as_ref();
        if !made.is_some_and(|made| matches!(made.home, Home::Heap)) {
            return 0;
        }
        let tables = registry.threads.values();
        tables.filter(|table| table.get(self.number) != 0).count()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let mut registry = registry();
        let made = registry.modules[self.number - 1].take();
        let made = made.expect("it is in there for as long as it lives");
        for table in registry.threads.values() {
            made.free(table.take(self.number));
        }
        if let Home::Room(block, Use::Never) = made.home {
            // SAFETY: only the program's code knows of it.
            unsafe { block.abandon() };
        }
        registry.free.push(self.number);
    }
}

impl Made {
    /// A block for this thread.
    fn make(&self) -> usize {
        let block = match &self.home {
            // Begins with zeros, and all that the program begins with is zero.
            Home::Room(block, _) => return block.pointer().expose_provenance(),
            // SAFETY: the layout is of one byte at least.
            Home::Heap => unsafe { alloc::alloc_zeroed(self.layout) },
        };
        if block.is_null() {
            alloc::handle_alloc_error(self.layout);
        }
        for piece in &self.pieces {
            let from = with_exposed_provenance::<u8>(piece.address.get() as usize);
            // SAFETY: the layout of the program put the piece inside of the block.
            let to = unsafe { block.add(piece.offset) };
            // SAFETY: the program's read-only data, which is alive because its code is running. The block is nobody else's yet.
            unsafe { ptr::copy_nonoverlapping(from, to, piece.size) };
        }
        block.expose_provenance()
    }

    /// Gives back what [`make`](Self::make) has made, if it has.
    fn free(&self, block: usize) {
        if block != 0 && matches!(self.home, Home::Heap) {
            let block = ptr::with_exposed_provenance_mut::<u8>(block);
            // SAFETY: made with this layout, and no longer in a table.
            unsafe { alloc::dealloc(block, self.layout) };
        }
    }
}

/// This thread's block of a module whose code is running, made now if there is none yet.
pub(super) fn block(module: usize) -> usize {
    let thread = table::this_thread();
    let Registry {
        modules, threads, ..
    } = &mut *registry();
    let number = module / WORD;
    let made = number.checked_sub(1).and_then(|at| modules.get(at));
    let made = made.and_then(Option::as_ref);
    let made = made.expect("the code of a program runs that was dropped");
    let table = threads.entry(thread).or_default();
    if table.get(number) == 0 {
        let block = made.make();
        table.put(number, block, modules.len());
    }
    table.get(number)
}

/// A thread ends.
pub(super) fn forget(thread: ThreadNumber) {
    let Registry {
        modules, threads, ..
    } = &mut *registry();
    let Some(table) = threads.remove(&thread) else {
        return;
    };
    for (number, made) in (1..table.len()).zip(modules) {
        if let Some(made) = made {
            made.free(table.take(number));
        }
    }
}
