//! The memory of a program: asks a memory manager for all that the plans need, and remembers where everything is.

use std::collections::HashMap;

use super::error::LoadError;
use super::object::Object;
use super::plan::{Item, Plan};
use super::program::ProgramSection;
use super::symbols::{Definition, GlobalId, Symbols};
use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::image::Image;
use crate::layout::{AllocationSpace, SectionRequest};
use crate::manager::ReservingMemoryManager;
use crate::num::{Address, Span};

/// Reservations that are given up unless they are finalized.
pub(super) struct Attempt<'m> {
    pub(super) manager: &'m mut dyn ReservingMemoryManager,
    reservations: Vec<ReservationId>,
}

impl<'m> Attempt<'m> {
    pub(super) fn new(manager: &'m mut dyn ReservingMemoryManager) -> Self {
        Self {
            manager,
            reservations: Vec::new(),
        }
    }

    pub(super) fn finalize(mut self, sections: &[ProgramSection]) -> Result<Image, LoadError> {
        let image = self
            .manager
            .finalize_memory()
            .map_err(|error| with_object(error, sections))?;
        self.reservations.clear();
        Ok(image)
    }

    /// Allocates what was announced, and holds a foreign manager to its contract.
    fn allocate(&mut self, request: &SectionRequest<'_>) -> Result<Placed, LoadError> {
        let id = self.manager.allocate_section(request)?;
        let all = Span::sized(0, request.size()).expect("a size is a span");
        if self.manager.section_mut(id)?.len() != all.size() {
            let reason = format!(
                "the memory manager gave {} another size than it was asked for",
                request.name()
            );
            return Err(Error::Other(reason.into()).into());
        }
        Ok(Placed {
            id,
            address: self.manager.address(id)?,
            bytes: all,
        })
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        for &reservation in &self.reservations {
            // A finalization that failed may have lost some of them; then there is nothing left to give up.
            let _ = self.manager.abandon(reservation);
        }
    }
}

/// Why finalization failed: names the object where it is one's fault.
fn with_object(error: Error, sections: &[ProgramSection]) -> LoadError {
    if let Error::InvalidEhFrame {
        section,
        offset,
        reason,
    } = error
    {
        let parts = || sections.iter().filter(|known| known.id == section);
        let start = parts().map(|part| part.address).min().unwrap_or_default();
        let bad = start.wrapping_add(offset as u64);
        if let Some(part) = parts()
            .filter(|part| part.address <= bad)
            .max_by_key(|part| part.address)
        {
            let offset = bad.get() - part.address.get();
            let reason = format!("{}+{offset:#x}: {reason}", part.name);
            return LoadError::Malformed {
                object: part.object.clone(),
                reason,
            };
        }
    }
    error.into()
}

/// Bytes in memory: a section, or an object's part of a section that several share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) id: SectionId,
    /// Of the first byte.
    pub(super) address: Address,
    /// In the section.
    pub(super) bytes: Span,
}

impl Placed {
    /// The bytes, to write.
    pub(super) fn bytes_mut<'m>(
        &self,
        manager: &'m mut dyn ReservingMemoryManager,
    ) -> Result<&'m mut [u8], Error> {
        let section = manager.section_mut(self.id)?;
        Ok(&mut section[self.bytes.start()..self.bytes.end()])
    }
}

/// What the linker makes for one reservation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tables {
    pub(super) got: Option<Placed>,
    pub(super) stubs: Option<Placed>,
    pub(super) eh_frame: Option<SectionId>,
}

impl Tables {
    /// Where the GOT is that something refers to.
    pub(super) fn got(&self) -> Address {
        self.got.expect("the plan made a GOT").address
    }
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Map {
    /// By object and section index; `None` for what is not loaded.
    pub(super) sections: Vec<Vec<Option<Placed>>>,
    pub(super) commons: HashMap<GlobalId, Placed>,
    /// By plan.
    pub(super) tables: Vec<Tables>,
    /// The same for those who come after: object by object, in the order of allocation.
    pub(super) listing: Vec<ProgramSection>,
}

impl Map {
    pub(super) fn new(objects: &[Object<'_>]) -> Self {
        let sections = objects
            .iter()
            .map(|object| vec![None; object.sections.len()])
            .collect();
        Self {
            sections,
            commons: HashMap::new(),
            tables: Vec::new(),
            listing: Vec::new(),
        }
    }

    /// Reserves what the plan needs, and allocates all of it.
    pub(super) fn allocate(
        &mut self,
        plan: &Plan,
        objects: &[Object<'_>],
        symbols: &Symbols<'_>,
        attempt: &mut Attempt<'_>,
    ) -> Result<(), LoadError> {
        let requests = plan.requests(objects, symbols)?;
        let list: Vec<SectionRequest<'_>> = requests.iter().map(|(_, request)| *request).collect();
        let owner = |item| &objects[owner(plan, symbols, item)].name;
        let reserved = attempt
            .manager
            .reserve_allocation_space(&AllocationSpace::Sections(&list));
        let reservation = reserved.map_err(|source| {
            let demand = |request: &SectionRequest<'_>| request.size().max(request.align().bytes());
            match requests.iter().max_by_key(|(_, request)| demand(request)) {
                Some((item, request)) => not_reserved(owner(*item), request, source),
                None => source.into(),
            }
        })?;
        attempt.reservations.push(reservation);
        let mut tables = Tables::default();
        for (item, request) in requests {
            let placed = attempt.allocate(&request)?;
            let section = ProgramSection {
                object: owner(item).clone(),
                name: request.name().into(),
                kind: request.kind(),
                id: placed.id,
                address: placed.address,
                size: request.size(),
            };
            match item {
                Item::Section { object, section } => self.sections[object][section] = Some(placed),
                Item::Common(global) => {
                    self.commons.insert(global, placed);
                }
                Item::Got => tables.got = Some(placed),
                Item::Stubs => tables.stubs = Some(placed),
                Item::EhFrame => {
                    tables.eh_frame = Some(placed.id);
                    for part in plan.eh_frame(objects)? {
                        let address = placed.address.wrapping_add(part.offset as u64);
                        let bytes =
                            Span::sized(part.offset, part.size).expect("a part of the table");
                        self.sections[part.object][part.section] = Some(Placed {
                            id: placed.id,
                            address,
                            bytes,
                        });
                        let object = objects[part.object].name.clone();
                        self.listing.push(ProgramSection {
                            object,
                            address,
                            size: part.size,
                            ..section.clone()
                        });
                    }
                    continue;
                }
            }
            self.listing.push(section);
        }
        self.tables.push(tables);
        Ok(())
    }
}

/// The object that an item is part of or that first needs it; for what objects share, the first one of the plan.
fn owner(plan: &Plan, symbols: &Symbols<'_>, item: Item) -> usize {
    match item {
        Item::Section { object, .. } => object,
        Item::Common(global) => match symbols.get(global).definition {
            Definition::Common { object, .. } => object,
            _ => plan.objects[0],
        },
        Item::Got | Item::Stubs | Item::EhFrame => plan.objects[0],
    }
}

fn not_reserved(object: &str, request: &SectionRequest<'_>, source: Error) -> LoadError {
    LoadError::NotReserved {
        object: object.into(),
        section: request.name().into(),
        size: request.size(),
        align: request.align(),
        source: Box::new(source),
    }
}
