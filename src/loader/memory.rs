//! The memory of a program: asks a memory manager for all that the plans need, and remembers where everything is.

use hashbrown::HashMap;

use super::Elsewhere;
use super::error::LoadError;
use super::item::{Content, Item, Place};
use super::object::Object;
use super::plan::Plan;
use super::symbols::SymbolId;
use crate::error::Error;
use crate::id::ReservationId;
use crate::image::Image;
use crate::kind::SectionKind;
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
    for object in objects {
        let sections = object.sections.iter().flatten();
        let symbols = object.globals().map(|symbol| symbol.name.len());
        let needed = sections.map(|section| section.name.len()).chain(symbols);
        let needed = needed.fold(0, usize::saturating_add);
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
    requests: &[Vec<SectionRequest<'_>>],
    objects: &[Object<'_>],
    limit: usize,
) -> Result<(), LoadError> {
    let sizes = requests.iter().flatten().map(|request| {
        let size = request.footprint().ok();
        let size = size.and_then(|size| request.align().up(size));
        size.unwrap_or(usize::MAX)
    });
    let needed = sizes.fold(0, usize::saturating_add);
    let items = plans.iter().flat_map(|plan| &plan.items);
    match items.max_by_key(|item| item.demand()) {
        Some(item) if needed > limit => Err(LoadError::TooLarge {
            object: objects[item.object].name.clone(),
            section: item.name.into(),
            size: item.size,
            align: item.align,
            needed,
            limit,
        }),
        _ => Ok(()),
    }
}

/// Reservations that are given up unless they are finalized.
pub(super) struct Attempt<'m, 'data> {
    pub(super) manager: &'m mut dyn ReservingMemoryManager,
    elsewhere: Option<Elsewhere<'data>>,
    reservations: Vec<ReservationId>,
}

impl<'m, 'data> Attempt<'m, 'data> {
    pub(super) fn new(
        manager: &'m mut dyn ReservingMemoryManager,
        elsewhere: Option<Elsewhere<'data>>,
    ) -> Self {
        Self {
            manager,
            elsewhere,
            reservations: Vec::new(),
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
    fn allocate(&mut self, request: &SectionRequest<'_>) -> Result<Place, Error> {
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
        Ok(Place {
            id,
            offset: 0,
            address,
        })
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
    let parts = plans.iter().flat_map(|plan| &plan.items).filter(|item| {
        let place = item.place();
        place.id == section && place.offset <= offset
    });
    match parts.max_by_key(|part| part.place().offset) {
        Some(part) => LoadError::Malformed {
            object: objects[part.object].name.clone(),
            reason: format!(
                "{}+{:#x}: {reason}",
                part.name,
                offset - part.place().offset
            ),
        },
        None => error.into(),
    }
}

impl Item<'_> {
    /// The bytes, to write. Holds a foreign manager to its contract.
    pub(super) fn bytes_mut<'m>(
        &self,
        manager: &'m mut dyn ReservingMemoryManager,
    ) -> Result<&'m mut [u8], Error> {
        let Place { id, offset, .. } = self.place();
        let bytes = manager.section_mut(id)?;
        let own = Span::sized(offset, self.size);
        let own = own.and_then(|own| bytes.get_mut(own.start()..own.end()));
        own.ok_or_else(|| {
            let reason = format!(
                "the memory manager gave {} fewer bytes than it was asked for",
                self.name
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
    commons: HashMap<SymbolId, Address>,
    indirect_stubs: HashMap<SymbolId, Address>,
    indirect_slots: HashMap<SymbolId, Address>,
    handle: Option<Address>,
    /// By the number of their name, where sections begin and end that lie together.
    bounds: Vec<Option<(Address, Address)>>,
}

impl Map {
    /// Reserves what the plans need, and allocates all of it.
    pub(super) fn allocate(
        plans: &mut [Plan<'_>],
        objects: &[Object<'_>],
        bounds: usize,
        attempt: &mut Attempt<'_, '_>,
        limit: usize,
    ) -> Result<Self, LoadError> {
        let requests: Vec<_> = plans.iter().map(requests).collect();
        check_size(plans, &requests, objects, limit)?;
        let sections = objects.iter().map(|object| object.sections.len());
        let mut map = Self {
            sections: vec![None; sections.sum()],
            commons: HashMap::new(),
            indirect_stubs: HashMap::new(),
            indirect_slots: HashMap::new(),
            handle: None,
            bounds: vec![None; bounds],
        };
        for (plan, requests) in plans.iter_mut().zip(&requests) {
            let space = AllocationSpace::Sections(requests);
            let reserved = attempt.manager.reserve_allocation_space(&space);
            let reserved = reserved.map_err(|error| not_reserved(plan, objects, error))?;
            attempt.reservations.push(reserved);
            map.place(plan, requests, objects, attempt)?;
        }
        Ok(map)
    }

    /// Allocates all that was announced for a plan.
    fn place(
        &mut self,
        plan: &mut Plan<'_>,
        requests: &[SectionRequest<'_>],
        objects: &[Object<'_>],
        attempt: &mut Attempt<'_, '_>,
    ) -> Result<(), LoadError> {
        let mut requests = requests.iter();
        let mut table = None;
        let mut rests: Vec<Option<Place>> = vec![None; self.bounds.len()];
        for item in &mut plan.items {
            let mut allocate = || attempt.allocate(requests.next().expect("all were announced"));
            let place = match (table, item.bounds) {
                (Some(rest), _) if item.is_unwind() => rest,
                (_, Some(name)) => match rests[name] {
                    Some(rest) => rest.aligned(item.align),
                    None if self.bounds[name].is_some() => {
                        return Err(LoadError::Malformed {
                            object: objects[item.object].name.clone(),
                            reason: format!(
                                "something refers to where all sections {} begin or end, and they are not in one \
                                 reservation",
                                item.name
                            ),
                        });
                    }
                    None => allocate()?,
                },
                _ => allocate()?,
            };
            let rest = place.behind(item.size);
            if item.is_unwind() {
                plan.unwind_table = Some(place.id);
                table = Some(rest);
            }
            if let Some(name) = item.bounds {
                rests[name] = Some(rest);
                let (start, end) = self.bounds[name].get_or_insert((place.address, rest.address));
                (*start, *end) = (*start, rest.address);
            }
            item.place = Some(place);
            match item.content {
                Content::Section(index) | Content::Unwind(index) => {
                    let number = objects[item.object].first_section + index;
                    self.sections[number] = Some(place.address);
                }
                Content::Common(symbol) => {
                    self.commons.insert(symbol, place.address);
                }
                Content::IndirectStub(symbol) => {
                    self.indirect_stubs.insert(symbol, place.address);
                }
                Content::IndirectSlot(symbol) => {
                    self.indirect_slots.insert(symbol, place.address);
                }
                Content::Got => plan.got = Some(place.address),
                Content::Handle => self.handle = Some(place.address),
                Content::Stubs => plan.stubs_start = Some(place.address),
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
        self.indirect_stubs[&symbol]
    }

    /// Where that stub reads where to go.
    pub(super) fn indirect_slot(&self, symbol: SymbolId) -> Address {
        self.indirect_slots[&symbol]
    }

    /// Where the sections of a name begin, or where they end.
    pub(super) fn bound(&self, name: usize, is_end: bool) -> Option<Address> {
        let (start, end) = self.bounds[name]?;
        Some(if is_end { end } else { start })
    }

    /// Where the program's handle is, if it has one.
    pub(super) fn handle(&self) -> Option<Address> {
        self.handle
    }

    /// Where the memory of a common symbol is.
    pub(super) fn common(&self, symbol: SymbolId) -> Address {
        self.commons[&symbol]
    }
}

/// What to announce for a plan: each item, but of the parts of the unwind table the table, in place of the first of them, and of
/// sections that lie together what holds them all.
fn requests<'data>(plan: &Plan<'data>) -> Vec<SectionRequest<'data>> {
    let parts = || plan.items.iter().filter(|item| item.is_unwind());
    let size = parts().map(|part| part.size).sum(); // Files are in memory: their sum is a number.
    let kind = SectionKind::ReadOnlyData;
    let table = SectionRequest::new(".eh_frame", kind, size, Align::of::<u64>());
    let mut table = Some(table.with_eh_frame_terminator());
    let mut requests = Vec::with_capacity(plan.items.len());
    let mut bounds = Vec::new();
    for item in &plan.items {
        match item.bounds {
            _ if item.is_unwind() => requests.extend(table.take()),
            Some(name) if bounds.contains(&name) => {}
            Some(name) => {
                bounds.push(name);
                requests.push(together(plan, name, item));
            }
            None => requests.push(item.request()),
        }
    }
    requests
}

/// What to announce for all sections of one name, of which `first` is the first.
fn together<'data>(plan: &Plan<'data>, name: usize, first: &Item<'data>) -> SectionRequest<'data> {
    let items = || plan.items.iter().filter(|item| item.bounds == Some(name));
    let size = items().try_fold(0, |end: usize, item| {
        item.align.up(end)?.checked_add(item.size)
    });
    let align = items().map(|item| item.align).max().unwrap_or(Align::ONE);
    // Nobody has so much, which will be said when it is asked for.
    SectionRequest::new(first.name, first.kind, size.unwrap_or(usize::MAX), align)
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
