//! The memory of a program: asks a memory manager for all that the plans need, and remembers where everything is.

use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::error::LoadError;
use super::item::{Content, Item, Requests, requests};
use super::object::Object;
use super::plan::Plan;
use super::program::MAX_NAMES;
use super::symbols::SymbolId;
use super::{Elsewhere, Sections};
use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::image::Image;
use crate::layout::{AllocationSpace, SectionRequest};
use crate::manager::ReservingMemoryManager;
use crate::num::{Address, Align, Span};

/// Sees to it that the names that a program keeps, or that an error tells, take up at most `limit` bytes in each object. In a file
/// they may share their bytes.
///
/// # Errors
///
/// [`LoadError::TooLarge`].
pub(super) fn check_names(objects: &[Object<'_>], limit: usize) -> Result<(), LoadError> {
    let mut all = 0usize;
    for object in objects {
        let needed = object.names;
        // The linker makes at most two sections for a symbol, with names of five bytes, and few others.
        let made = object.symbols.len().saturating_add(2).saturating_mul(16);
        let own = object.name.len().saturating_add(needed);
        all = all.saturating_add(own).saturating_add(made);
        let (needed, limit) = match needed > limit {
            true => (needed, limit),
            false => (all, MAX_NAMES),
        };
        if needed > limit {
            return Err(LoadError::TooLarge {
                object: object.name.clone(),
                section: "names".into(),
                size: needed,
                align: Align::ONE,
                needed,
                limit,
            });
        }
    }
    Ok(())
}

/// Sees to it that all that is going to be reserved takes up at most `limit` bytes.
///
/// # Errors
///
/// [`LoadError::TooLarge`].
fn check_size(
    plans: &[Plan<'_>],
    requests: &[Requests<'_>],
    objects: &[Object<'_>],
    limit: usize,
) -> Result<(), LoadError> {
    let sizes = requests.iter().flatten().map(|request| {
        let size = request.footprint().ok();
        let size = size.and_then(|size| request.align().up(size));
        size.unwrap_or(usize::MAX)
    });
    let needed = sizes.fold(0, usize::saturating_add);
    if needed <= limit {
        return Ok(());
    }
    let items = plans.iter().flat_map(|plan| &plan.items);
    match items.max_by_key(|item| item.demand()) {
        Some(item) => Err(LoadError::TooLarge {
            object: objects[item.object].name.clone(),
            section: item.name.into(),
            size: item.size,
            align: item.align,
            needed,
            limit,
        }),
        None => Ok(()),
    }
}

/// Reservations that are given up unless they are finalized.
pub(super) struct Attempt<'m, 'data> {
    pub(super) manager: &'m mut dyn ReservingMemoryManager,
    elsewhere: Option<Elsewhere<'data>>,
    reservations: SmallVec<[ReservationId; 1]>,
}

impl<'m, 'data> Attempt<'m, 'data> {
    pub(super) fn new(
        manager: &'m mut dyn ReservingMemoryManager,
        elsewhere: Option<Elsewhere<'data>>,
    ) -> Self {
        Self {
            manager,
            elsewhere,
            reservations: SmallVec::new(),
        }
    }

    pub(super) fn finalize(
        mut self,
        objects: &[Object<'_>],
        plans: &[Plan<'_>],
    ) -> Result<Image, LoadError> {
        let image = self
            .manager
            .finalize_memory()
            .map_err(|error| with_object(error, objects, plans))?;
        self.reservations.clear();
        Ok(image)
    }

    /// Allocates what was announced.
    fn allocate(&mut self, request: &SectionRequest<'_>) -> Result<Piece, Error> {
        let id = self.manager.allocate_section(request)?;
        let mut address = self.manager.address(id)?;
        if let Some(Elsewhere(map)) = &self.elsewhere {
            address = map(request, address);
            if address.get() % request.align().bytes() as u64 != 0 {
                let (name, align) = (request.name(), request.align().bytes());
                let reason =
                    format!("{name} is mapped to {address}, which is not aligned to {align}");
                return Err(Error::Other(reason.into()));
            }
        }
        Ok(Piece { id, address })
    }
}

impl Drop for Attempt<'_, '_> {
    fn drop(&mut self) {
        for &reservation in &self.reservations {
            // A finalization that failed may have lost some of them; then there is nothing left to give up.
            let _ = self.manager.abandon(reservation);
        }
    }
}

/// Why finalization failed: names the object where it is one's fault.
fn with_object(error: Error, objects: &[Object<'_>], plans: &[Plan<'_>]) -> LoadError {
    let Error::InvalidEhFrame {
        section,
        offset,
        reason,
    } = error
    else {
        return error.into();
    };
    let in_table = |plan: &&Plan<'_>| plan.unwind_table().is_some_and(|table| table.id == section);
    let parts = plans.iter().filter(in_table).flat_map(|plan| &plan.items);
    let parts = parts.filter(|item| item.is_unwind() && item.offset <= offset);
    match parts.max_by_key(|part| part.offset) {
        Some(part) => LoadError::Malformed {
            object: objects[part.object].name.clone(),
            reason: format!("{}+{:#x}: {reason}", part.name, offset - part.offset),
        },
        None => error.into(),
    }
}

/// What a memory manager gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) id: SectionId,
    /// Of the first byte.
    pub(super) address: Address,
}

impl Piece {
    /// The bytes of an item that lies in it, to write. Holds a foreign manager to its contract.
    pub(super) fn bytes_mut<'m>(
        self,
        item: &Item<'_>,
        manager: &'m mut dyn ReservingMemoryManager,
    ) -> Result<&'m mut [u8], Error> {
        let bytes = manager.section_mut(self.id)?;
        let own = Span::sized(item.offset, item.size);
        let own = own.and_then(|own| bytes.get_mut(own.start()..own.end()));
        own.ok_or_else(|| {
            let reason = format!(
                "the memory manager gave {} fewer bytes than it was asked for",
                item.name
            );
            Error::Other(reason.into())
        })
    }
}

/// Where sections and common symbols are.
#[derive(Debug)]
pub(super) struct Map {
    /// By number, counted object by object; `None` for what is not loaded.
    sections: Vec<Option<Address>>,
    /// What the linker makes once for a program, or once for a symbol.
    made: HashMap<Content, Address>,
    /// By the number of their name, where sections begin and end that lie together, and in which piece.
    bounds: Vec<Option<(SectionId, Range<Address>)>>,
}

impl Map {
    /// Reserves what the plans need, and allocates all of it.
    pub(super) fn allocate(
        plans: &mut [Plan<'_>],
        objects: &[Object<'_>],
        bounds: usize,
        attempt: &mut Attempt<'_, '_>,
        sections: Sections,
        limit: usize,
    ) -> Result<Self, LoadError> {
        let mut all = SmallVec::<[_; 1]>::with_capacity(plans.len());
        for plan in plans.iter_mut() {
            let requests = requests(&mut plan.items, sections);
            all.push(requests.ok_or_else(|| too_large(plan, objects))?);
        }
        check_size(plans, &all, objects, limit)?;
        let sections = objects.iter().map(|object| object.sections.len());
        let mut map = Self {
            sections: vec![None; sections.sum()],
            made: HashMap::new(),
            bounds: vec![None; bounds],
        };
        for (plan, requests) in plans.iter_mut().zip(&all) {
            let space = AllocationSpace::Sections(requests);
            let reserved = attempt.manager.reserve_allocation_space(&space);
            let reserved = reserved.map_err(|error| not_reserved(plan, objects, error))?;
            attempt.reservations.push(reserved);
            plan.pieces.reserve_exact(requests.len());
            for request in requests {
                plan.pieces.push(attempt.allocate(request)?);
            }
            map.enter(plan, objects)?;
        }
        Ok(map)
    }

    fn enter(&mut self, plan: &mut Plan<'_>, objects: &[Object<'_>]) -> Result<(), LoadError> {
        for item in &mut plan.items {
            let Piece { id, address } = plan.pieces[item.piece];
            let address = address.wrapping_add(item.offset as u64);
            item.address = address;
            if let Some(name) = item.bounds {
                let end = address.wrapping_add(item.size as u64);
                let bounds = self.bounds[name].get_or_insert((id, address..end));
                if bounds.0 != id {
                    return Err(LoadError::Malformed {
                        object: objects[item.object].name.clone(),
                        reason: format!(
                            "something refers to where all sections {} begin or end, and they are not in one \
                             reservation",
                            item.name
                        ),
                    });
                }
                bounds.1.end = end;
            }
            match item.content {
                Content::Section(index) | Content::Unwind(index) => {
                    let number = objects[item.object].first_section + index;
                    self.sections[number] = Some(address);
                }
                Content::Common(_)
                | Content::IndirectStub(_)
                | Content::IndirectSlot(_)
                | Content::Handle => {
                    self.made.insert(item.content, address);
                }
                Content::Got | Content::Stubs | Content::ThreadEntries => {}
            }
        }
        Ok(())
    }

    /// Where section `index` of an object is.
    pub(super) fn section(&self, object: &Object<'_>, index: usize) -> Option<Address> {
        self.sections[object.first_section + index]
    }

    /// Where the stub of an indirect function is.
    pub(super) fn indirect_stub(&self, symbol: SymbolId) -> Address {
        self.made[&Content::IndirectStub(symbol)]
    }

    /// Where that stub reads where to go.
    pub(super) fn indirect_slot(&self, symbol: SymbolId) -> Address {
        self.made[&Content::IndirectSlot(symbol)]
    }

    /// Where the sections of a name begin, or where they end.
    pub(super) fn bound(&self, name: usize, is_end: bool) -> Option<Address> {
        let (_, Range { start, end }) = self.bounds[name].as_ref()?;
        Some(if is_end { *end } else { *start })
    }

    /// Where the program's handle is, if it has one.
    pub(super) fn handle(&self) -> Option<Address> {
        self.made.get(&Content::Handle).copied()
    }

    /// Where the memory of a common symbol is.
    pub(super) fn common(&self, symbol: SymbolId) -> Address {
        self.made[&Content::Common(symbol)]
    }
}

/// The memory manager refused.
fn not_reserved(plan: &Plan<'_>, objects: &[Object<'_>], source: Error) -> LoadError {
    match plan.items.iter().max_by_key(|item| item.demand()) {
        Some(item) => LoadError::NotReserved {
            object: objects[item.object].name.clone(),
            section: item.name.into(),
            size: item.size,
            align: item.align,
            source: Box::new(source),
        },
        None => source.into(),
    }
}

/// What a plan needs is no number.
fn too_large(plan: &Plan<'_>, objects: &[Object<'_>]) -> LoadError {
    let item = plan.items.iter().max_by_key(|item| item.demand());
    let item = item.expect("nothing is not too large");
    let overflow = Error::SizeOverflow {
        section: item.name.into(),
        size: item.size,
        align: item.align,
    };
    not_reserved(plan, objects, overflow)
}
