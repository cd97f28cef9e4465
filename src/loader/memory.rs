//! The memory of a program: asks a memory manager for all that the plans need, and remembers where everything is.

use hashbrown::HashMap;

use super::error::LoadError;
use super::object::Object;
use super::plan::{Content, Item, Plan};
use super::symbols::SymbolId;
use crate::error::Error;
use crate::id::{ReservationId, SectionId};
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
pub(super) fn check_size(
    items: &[Vec<Item<'_>>],
    objects: &[Object<'_>],
    limit: usize,
) -> Result<(), LoadError> {
    let sizes = items.iter().flatten().map(|Item { request, .. }| {
        let size = request.footprint().ok();
        size.and_then(|size| request.align().up(size))
            .unwrap_or(usize::MAX)
    });
    let needed = sizes.fold(0, usize::saturating_add);
    match most_demanding(items.iter().flatten()) {
        Some(Item {
            object, request, ..
        }) if needed > limit => Err(LoadError::TooLarge {
            object: objects[*object].name.clone(),
            section: request.name().into(),
            size: request.size(),
            align: request.align(),
            needed,
            limit,
        }),
        _ => Ok(()),
    }
}

fn most_demanding<'i, 'data>(
    items: impl Iterator<Item = &'i Item<'data>>,
) -> Option<&'i Item<'data>> {
    items.max_by_key(|item| item.request.size().max(item.request.align().bytes()))
}

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

    pub(super) fn finalize(
        mut self,
        objects: &[Object<'_>],
        map: &Map<'_>,
    ) -> Result<Image, LoadError> {
        let image = self
            .manager
            .finalize_memory()
            .map_err(|error| with_object(error, objects, &map.listing))?;
        self.reservations.clear();
        Ok(image)
    }

    /// Allocates what was announced.
    fn allocate(&mut self, request: &SectionRequest<'_>) -> Result<Placed, LoadError> {
        let id = self.manager.allocate_section(request)?;
        Ok(Placed {
            id,
            address: self.manager.address(id)?,
            bytes: Span::sized(0, request.size()).expect("a size is a span"),
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
fn with_object(error: Error, objects: &[Object<'_>], listing: &[Listed<'_>]) -> LoadError {
    if let Error::InvalidEhFrame {
        section,
        offset,
        reason,
    } = error
    {
        let parts = listing.iter().filter(|part| part.placed.id == section);
        let part = parts
            .filter(|part| part.placed.bytes.start() <= offset)
            .max_by_key(|part| part.placed.bytes.start());
        if let Some(part) = part {
            let offset = offset - part.placed.bytes.start();
            return LoadError::Malformed {
                object: objects[part.object].name.clone(),
                reason: format!("{}+{offset:#x}: {reason}", part.name),
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
    /// The bytes, to write. Holds a foreign manager to its contract.
    pub(super) fn bytes_mut<'m>(
        &self,
        manager: &'m mut dyn ReservingMemoryManager,
    ) -> Result<&'m mut [u8], Error> {
        let bytes = manager.section_mut(self.id)?;
        let own = bytes.get_mut(self.bytes.start()..self.bytes.end());
        own.ok_or_else(|| {
            let reason = format!("the memory manager gave {} too few bytes", self.id);
            Error::Other(reason.into())
        })
    }
}

/// A section of the program, for those who come after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'data> {
    pub(super) object: usize,
    pub(super) name: &'data str,
    pub(super) kind: SectionKind,
    pub(super) placed: Placed,
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
pub(super) struct Map<'data> {
    /// By number, counted object by object; `None` for what is not loaded.
    sections: Vec<Option<Placed>>,
    commons: HashMap<SymbolId, Address>,
    /// By plan.
    pub(super) tables: Vec<Tables>,
    /// Object by object, in the order of allocation.
    pub(super) listing: Vec<Listed<'data>>,
}

impl<'data> Map<'data> {
    pub(super) fn new(objects: &[Object<'_>]) -> Self {
        let sections = objects.iter().map(|object| object.sections.len()).sum();
        Self {
            sections: vec![None; sections],
            commons: HashMap::new(),
            tables: Vec::new(),
            listing: Vec::with_capacity(sections),
        }
    }

    /// Where section `index` of an object is.
    pub(super) fn section(&self, object: &Object<'_>, index: usize) -> Option<Placed> {
        self.sections[object.first_section + index]
    }

    /// Where the memory of a common symbol is.
    pub(super) fn common(&self, symbol: SymbolId) -> Address {
        self.commons[&symbol]
    }

    /// Reserves what the plan needs, and allocates all of it.
    pub(super) fn allocate(
        &mut self,
        plan: &Plan,
        items: &[Item<'data>],
        objects: &[Object<'_>],
        attempt: &mut Attempt<'_>,
    ) -> Result<(), LoadError> {
        let requests: Vec<SectionRequest<'_>> = items.iter().map(|item| item.request).collect();
        let reserved = attempt
            .manager
            .reserve_allocation_space(&AllocationSpace::Sections(&requests));
        let reservation = reserved.map_err(|source| match most_demanding(items.iter()) {
            Some(item) => not_reserved(&objects[item.object].name, &item.request, source),
            None => source.into(),
        })?;
        attempt.reservations.push(reservation);
        let mut tables = Tables::default();
        for item in items {
            let placed = attempt.allocate(&item.request)?;
            let listed = Listed {
                object: item.object,
                name: item.request.name(),
                kind: item.request.kind(),
                placed,
            };
            match item.content {
                Content::Section(index) => {
                    let number = objects[item.object].first_section + index;
                    self.sections[number] = Some(placed);
                }
                Content::Common(symbol) => {
                    self.commons.insert(symbol, placed.address);
                }
                Content::Got => tables.got = Some(placed),
                Content::Stubs => tables.stubs = Some(placed),
                Content::EhFrame => {
                    tables.eh_frame = Some(placed.id);
                    for part in &plan.eh_frame {
                        let bytes = Span::sized(part.offset, part.size);
                        let placed = Placed {
                            id: placed.id,
                            address: placed.address.wrapping_add(part.offset as u64),
                            bytes: bytes.expect("a part of the table"),
                        };
                        let number = objects[part.object].first_section + part.section;
                        self.sections[number] = Some(placed);
                        self.listing.push(Listed {
                            object: part.object,
                            placed,
                            ..listed
                        });
                    }
                    continue;
                }
            }
            self.listing.push(listed);
        }
        self.tables.push(tables);
        Ok(())
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
