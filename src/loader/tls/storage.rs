//! What a program has of thread-local storage: its place in every thread.

use super::super::error::LoadError;
use super::super::machine::Machine;
use super::super::object::Object;
use super::super::plan::Plan;
use super::entries::Reference;
use super::layout::Layout;
use super::{Piece, Template, native};
use crate::num::{Address, Align};

/// What code of both ABIs calls with a pair of module and offset.
pub(in crate::loader) const GET_ADDRESS: &str = "__tls_get_addr";

/// Where a program is going to run.
#[derive(Clone, Copy, Debug)]
pub(in crate::loader) enum Home {
    /// In this process, if it is for this machine.
    Here(Machine),
    /// In another address space.
    Elsewhere,
}

/// A program's claim to a block in every thread. Dropping it frees the blocks of all threads.
#[derive(Debug)]
pub(in crate::loader) struct Storage {
    module: Option<native::Module>,
    /// Of the block, from the thread pointer; zero if it is not the same in all threads.
    thread_offset: u64,
    /// Whether it is.
    is_static: bool,
}

impl Storage {
    /// Claims what these plans need; `None` if it is nothing.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unsupported`], with the reference that asks for what is not to be had.
    pub(in crate::loader) fn claim(
        home: Home,
        layout: &Layout,
        plans: &[Plan<'_>],
    ) -> Result<Option<Self>, LoadError> {
        let needs = || plans.iter().filter_map(|plan| plan.thread_local.as_ref());
        let Some(first) = needs().next().map(|needs| &needs.first) else {
            return Ok(None); // As for most.
        };
        let first_static = needs().find_map(|needs| needs.first_static.as_ref());
        match home {
            Home::Here(machine) if Some(machine) == Machine::HOST => {}
            Home::Here(machine) => return Ok(Some(Self::nowhere(machine, layout))),
            // Whoever loads it there would have to find blocks for this program's entries.
            Home::Elsewhere => {
                let reason = "a thread-local variable in another address space,";
                return Err(refused(first, reason));
            }
        }
        let has_descriptors = needs().any(|needs| needs.has_descriptors());
        let template = Template {
            size: layout.size(),
            align: layout.align(),
            pieces: Vec::new(),
        };
        let Some(reference) = first_static else {
            let module = native::Module::dynamic(template, has_descriptors);
            return Ok(Some(Self {
                module: Some(module.map_err(|reason| refused(first, reason))?),
                thread_offset: 0,
                is_static: false,
            }));
        };
        if !layout.is_zero() {
            let reason = "a fixed offset from the thread pointer, in a program whose thread-local variables do not all \
                          begin with zero (compile with -fPIC and without -ftls-model),";
            return Err(refused(reference, reason));
        }
        let module = native::Module::fixed(template);
        let (module, offset) = module.map_err(|reason| refused(reference, reason))?;
        Ok(Some(Self {
            module: Some(module),
            thread_offset: offset as u64,
            is_static: true,
        }))
    }

    /// For another CPU than this one, where nothing will run: as in an executable whose only block this is.
    fn nowhere(machine: Machine, layout: &Layout) -> Self {
        let up = |size: usize, align: Align| align.up(size).unwrap_or(0) as u64;
        let thread_offset = match machine {
            // The thread pointer is at two words that are the system's; blocks follow.
            Machine::Aarch64 => up(2 * size_of::<u64>(), layout.align()),
            // Blocks end at the thread pointer.
            Machine::X86_64 => up(layout.size(), layout.align()).wrapping_neg(),
        };
        Self {
            module: None,
            thread_offset,
            is_static: true,
        }
    }

    /// The function to call with a pair.
    pub(in crate::loader) fn get_address(&self) -> Address {
        Address::new(native::get_address() as u64)
    }

    /// The program is complete, and its code may run: a block begins with what is in the sections that these plans have placed.
    pub(in crate::loader) fn begin(
        &self,
        layout: &Layout,
        objects: &[Object<'_>],
        plans: &[Plan<'_>],
    ) {
        let items = plans.iter().flat_map(|plan| &plan.items);
        let pieces = items.filter_map(|item| {
            let offset = layout.section(&objects[item.object], item.section()?)?;
            Some(Piece {
                offset,
                address: item.address,
                size: item.size,
            })
        });
        if let Some(module) = &self.module {
            module.begin(pieces.collect());
        }
    }

    /// The entry for what is at `offset` in the block, for the function to be called with it.
    pub(super) fn pair(&self, offset: u64) -> [u64; 2] {
        let module = self.module.as_ref();
        [module.map_or(0, |module| module.word() as u64), offset]
    }

    /// The same with the function in it.
    pub(super) fn descriptor(&self, offset: u64) -> [u64; 3] {
        if self.is_static {
            let offset = self.thread_offset.wrapping_add(offset);
            [native::fixed_descriptor() as u64, offset, 0]
        } else {
            let [module, offset] = self.pair(offset);
            [native::dynamic_descriptor() as u64, module, offset]
        }
    }

    /// Where the block is, from the thread pointer.
    pub(in crate::loader) fn thread_offset(&self) -> u64 {
        self.thread_offset
    }

    /// How many threads have a block that was made for them.
    pub(in crate::loader) fn blocks(&self) -> usize {
        self.module.as_ref().map_or(0, native::Module::blocks)
    }
}

fn refused((place, symbol): &Reference, reason: &str) -> LoadError {
    LoadError::Unsupported {
        place: place.clone(),
        symbol: symbol.clone(),
        what: reason.into(),
    }
}
