//! The memory manager that RuntimeDyld sees: sections of one object after another, finalized together, for one engine (MCJIT) or
//! for one object (ORC).
//!
//! RuntimeDyld ends the process when a section is refused. So it gets memory that never runs in place of it, and the error where
//! there is room for one, at finalization.

use std::mem;
use std::ptr::NonNull;

#[cfg(feature = "cxx")]
use nearcode::{AllocationSpace, Extent, PerKind};
use nearcode::{
    Error, Image, ReservingMemoryManager, SectionId, SectionKind, SectionMemoryManager,
    SectionRequest,
};

use crate::memory::Memory;
use crate::place::{DEFAULT_ALIGNMENT, Place};
use crate::scratch::Scratch;
use crate::variables::Variables;

/// What RuntimeDyld calls the section of all common symbols (`RuntimeDyldImpl::emitCommonSymbols`).
const COMMON_SYMBOLS: &str = "<common symbols>";

/// The strictest alignment that common symbols get, in bytes.
const PAGE: usize = 4096;

/// One of LLVM's memory managers.
#[derive(Debug)]
pub(crate) struct Sections {
    memory: Memory,
    manager: SectionMemoryManager,
    /// What was allocated since the last finalization.
    in_flight: Vec<(NonNull<u8>, SectionId)>,
    images: Vec<Image>,
    /// Something since the last finalization was refused, for this reason.
    refused: Option<String>,
    /// What was handed out in place of what was refused.
    scratch: Vec<Scratch>,
    /// The thread-local variables of what was loaded since the last finalization, and of what is alive.
    variables_in_flight: Vec<Variables>,
    variables: Vec<Variables>,
    /// What finalizations that failed were about to finalize.
    never_to_run: Vec<SectionMemoryManager>,
}

impl Sections {
    pub(crate) fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            manager: memory.manager(),
            in_flight: Vec::new(),
            images: Vec::new(),
            refused: None,
            scratch: Vec::new(),
            variables_in_flight: Vec::new(),
            variables: Vec::new(),
            never_to_run: Vec::new(),
        }
    }

    /// The totals of the object to come: sizes and alignments in bytes.
    #[cfg(feature = "cxx")]
    pub(crate) fn reserve(&mut self, totals: PerKind<(usize, usize)>) {
        let failure = self.memory.failure.clone();
        let reserved = failure.guard(|| {
            let [code, rodata, rwdata] = SectionKind::ALL.map(|kind| totals[kind]);
            let extent = |(size, align)| alignment(align).map(|align| Extent::new(size, align));
            let totals = PerKind::new(extent(code)?, extent(rodata)?, extent(rwdata)?);
            let space = AllocationSpace::Totals(totals);
            self.manager.reserve_allocation_space(&space)
        });
        self.refused = self.refused.take().or(reserved.err());
    }

    /// A section, or memory that never runs; `None` if there is not even that.
    pub(crate) fn allocate(
        &mut self,
        kind: SectionKind,
        size: usize,
        align: usize,
        name: &str,
    ) -> Option<Place> {
        if self.refused.is_none() {
            let failure = self.memory.failure.clone();
            match failure.guard(|| self.place(kind, size, align, name)) {
                Ok(place) => return Some(place),
                Err(message) => self.refused = Some(message),
            }
        }
        self.place_that_never_runs(size, align)
    }

    fn place(
        &mut self,
        kind: SectionKind,
        size: usize,
        align: usize,
        name: &str,
    ) -> Result<Place, Error> {
        let mut align = alignment(align)?;
        if name == COMMON_SYMBOLS {
            // Its size has room for each symbol's alignment, counted from 0, but its alignment is only that of the first. No
            // symbol is aligned to more than the power of two above the size.
            let strictest = size.checked_next_power_of_two().unwrap_or(PAGE).min(PAGE);
            align = align.max(alignment(strictest)?);
        }
        let request = SectionRequest::new(name, kind, size, align);
        let id = self.manager.allocate_section(&request)?;
        let write = self.manager.write_pointer(id)?;
        let address = self.manager.address(id)?.get();
        self.in_flight.push((write, id));
        Ok(Place { write, address })
    }

    /// Where to write what thread-local variables begin with, and as address their offset from the thread pointer.
    #[cfg(feature = "cxx")]
    pub(crate) fn allocate_thread_local(&mut self, size: usize, align: usize) -> Option<Place> {
        if self.refused.is_none() {
            let failure = self.memory.failure.clone();
            match failure.guard(|| Variables::new(size, alignment(align)?)) {
                Ok(mut variables) => {
                    let place = variables.place();
                    self.variables_in_flight.push(variables);
                    return place;
                }
                Err(message) => self.refused = Some(message),
            }
        }
        let place = self.place_that_never_runs(size, align)?;
        // An LLVM with assertions checks that it fits into an instruction.
        Some(Place {
            address: 0,
            ..place
        })
    }

    fn place_that_never_runs(&mut self, size: usize, align: usize) -> Option<Place> {
        let mut scratch = Scratch::new(size, align)?;
        let place = scratch.place();
        self.scratch.push(scratch);
        place
    }

    /// The unwind table that is written at `write` is registered with the next finalization.
    #[cfg(feature = "cxx")]
    #[allow(unsafe_code)] // Passes on LLVM's word.
    pub(crate) fn register_eh_frames(&mut self, write: NonNull<u8>) {
        let known = self.in_flight.iter().rev().find(|entry| entry.0 == write);
        let Some(&(_, id)) = known else {
            return; // It is scratch.
        };
        let failure = self.memory.failure.clone();
        let registered = failure.guard(|| {
            // SAFETY: LLVM made the table for the code that it made, and relocates it before it finalizes.
            unsafe { self.manager.register_eh_frames(id) }
        });
        self.refused = self.refused.take().or(registered.err());
    }

    /// # Errors
    ///
    /// A text for LLVM. Nothing that was in flight will ever run.
    pub(crate) fn finalize(&mut self) -> Result<(), String> {
        let failure = self.memory.failure.clone();
        let published = match self.refused.take() {
            Some(message) => Err(message),
            None => failure.guard(|| {
                let mut variables = self.variables_in_flight.iter();
                variables.try_for_each(Variables::check)?;
                self.manager.finalize_memory()
            }),
        };
        self.in_flight.clear();
        match published {
            Ok(image) => {
                self.images.push(image);
                self.variables.append(&mut self.variables_in_flight);
            }
            Err(message) => {
                // MCJIT forgets the message and hands out the addresses: nobody else's code may come to lie there.
                let refused = mem::replace(&mut self.manager, self.memory.manager());
                self.never_to_run.push(refused);
                self.abandon_variables();
                return Err(message);
            }
        }
        Ok(())
    }

    /// Those of code that was not finalized, and never will be.
    #[allow(unsafe_code)] // Knows that it did not run.
    fn abandon_variables(&mut self) {
        for variables in self.variables_in_flight.drain(..) {
            // SAFETY: code that is not finalized is not executable.
            self.scratch.push(unsafe { variables.abandon() });
        }
    }
}

impl Sections {
    /// Ends it as [`drop`] does, but for what failed and what LLVM's own tables of unwinders may still speak of: ORC registers
    /// unwind tables before it finalizes, and forgets them when that fails.
    #[cfg(orc_callbacks)]
    pub(crate) fn end_behind_orc(mut self) {
        mem::forget(mem::take(&mut self.never_to_run));
        mem::forget(mem::take(&mut self.scratch));
    }
}

impl Drop for Sections {
    fn drop(&mut self) {
        self.abandon_variables();
        // The newest first: up to version 12, libgcc walks past all tables that are newer than the one it deregisters.
        while let Some(image) = self.images.pop() {
            drop(image);
        }
    }
}

fn alignment(bytes: usize) -> Result<nearcode::Align, Error> {
    nearcode::Align::new(if bytes == 0 { DEFAULT_ALIGNMENT } else { bytes })
}
