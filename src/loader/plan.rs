//! What one reservation is going to hold: its objects' sections, and the GOT, stubs and common symbols that they need.
//!
//! All of it is known before anything has an address, so that the memory manager can be asked for all of it at once.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::error::{LoadError, Place};
use super::machine::{Machine, STUB_SIZE};
use super::object::{Object, Place as SymbolPlace, Relocation, Section};
use super::relocation::Operand;
use super::symbols::{Definition, GlobalId, Symbols, text};
use crate::error::Error;
use crate::kind::SectionKind;
use crate::layout::SectionRequest;
use crate::num::Align;

/// Of a GOT slot, in bytes.
pub(super) const SLOT_SIZE: usize = size_of::<u64>();

/// What a relocation refers to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Target {
    Global(GlobalId),
    Local { object: usize, symbol: usize },
}

/// A target and what is added to it.
pub(super) type Sum = (Target, i64);

/// Things that are needed once each, in the order in which they were first asked for.
#[derive(Debug)]
pub(super) struct Once<T> {
    order: Vec<T>,
    index: HashMap<T, usize>,
}

impl<T: Copy + Eq + Hash> Once<T> {
    fn need(&mut self, item: T) {
        self.index.entry(item).or_insert_with(|| {
            self.order.push(item);
            self.order.len() - 1
        });
    }

    /// Where the item is, counted from 0, if it was asked for.
    pub(super) fn position(&self, item: T) -> Option<usize> {
        self.index.get(&item).copied()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.order.iter().copied()
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            index: HashMap::new(),
        }
    }
}

/// A section to ask the memory manager for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    Section {
        object: usize,
        section: usize,
    },
    Common(GlobalId),
    Got,
    Stubs,
    /// The unwind tables of all objects, one behind the other.
    EhFrame,
}

/// An object's part of the reservation's unwind table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TablePart {
    pub(super) object: usize,
    pub(super) section: usize,
    /// In the reservation's table, in bytes.
    pub(super) offset: usize,
    /// In bytes, without a terminator of its own.
    pub(super) size: usize,
}

/// The contents of one reservation.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The objects in it, ascending.
    pub(super) objects: Vec<usize>,
    /// What each GOT slot holds.
    pub(super) slots: Once<Sum>,
    /// Where each stub goes.
    pub(super) stubs: Once<Sum>,
    /// Whether something refers to the GOT itself.
    got_is_named: bool,
    /// The global symbols that something refers to.
    pub(super) referenced: HashSet<GlobalId>,
}

impl Plan {
    /// Reads the relocations of the objects numbered `members`.
    pub(super) fn new(
        members: Vec<usize>,
        objects: &[Object<'_>],
        symbols: &Symbols<'_>,
        machine: Machine,
    ) -> Result<Self, LoadError> {
        let mut plan = Self {
            objects: members,
            ..Self::default()
        };
        for number in plan.objects.clone() {
            let object = &objects[number];
            for section in object.sections.iter().flatten() {
                for relocation in section
                    .relocations()
                    .filter(|relocation| !machine.is_none(relocation.number))
                {
                    let target = match symbols.global(number, relocation.symbol) {
                        Some(id) => Target::Global(id),
                        None => Target::Local {
                            object: number,
                            symbol: relocation.symbol,
                        },
                    };
                    let row = machine.relocation(relocation.number);
                    let row = row.ok_or_else(|| unknown(object, section, relocation, machine))?;
                    let stub = machine.through_stub(row.operand, section.kind, relocation.addend);
                    if let Some((beyond, _)) =
                        stub.filter(|_| !plan.is_near(target, objects, symbols))
                    {
                        plan.stubs.need((target, beyond));
                    }
                    plan.note(row.operand, target, relocation.addend, symbols);
                }
            }
        }
        Ok(plan)
    }

    fn note(&mut self, operand: Operand, target: Target, addend: i64, symbols: &Symbols<'_>) {
        if operand == Operand::Got {
            self.got_is_named = true;
            return; // The symbol is the GOT's own, `_GLOBAL_OFFSET_TABLE_`: nobody has to define it.
        }
        if let Target::Global(id) = target {
            self.referenced.insert(id);
            self.got_is_named |= symbols.get(id).definition == Definition::Got;
        }
        match operand {
            Operand::Symbol | Operand::Branch | Operand::Plt | Operand::Got | Operand::Size => {}
            Operand::SymbolFromGot => self.got_is_named = true,
            Operand::SlotPlusAddend | Operand::SlotOrSymbol | Operand::SlotFromGot => {
                self.slots.need((target, 0));
            }
            Operand::SlotOfSum | Operand::SlotOfSumFromGot => self.slots.need((target, addend)),
        }
    }

    /// Whether a branch from here reaches the target whatever happens. One to an absolute address may not.
    fn is_near(&self, target: Target, objects: &[Object<'_>], symbols: &Symbols<'_>) -> bool {
        let (object, symbol) = match target {
            Target::Local { object, symbol } => (object, symbol),
            Target::Global(id) => match symbols.get(id).definition {
                Definition::Object { object, symbol, .. } => (object, symbol),
                definition => return self.contains(definition),
            },
        };
        let is_absolute = matches!(
            objects[object].symbols[symbol].place,
            SymbolPlace::Absolute(_)
        );
        !is_absolute && self.objects.binary_search(&object).is_ok()
    }

    /// Whether a symbol so defined is part of this reservation.
    pub(super) fn contains(&self, definition: Definition) -> bool {
        match definition {
            Definition::Object { object, .. } | Definition::Common { object, .. } => {
                self.objects.binary_search(&object).is_ok()
            }
            Definition::Got => true,
            Definition::None | Definition::Outside(_) | Definition::Absent => false,
        }
    }

    /// The unwind tables of the objects, one directly behind the other, so that one terminator ends them all.
    ///
    /// From version 13 on libgcc keeps one range of code for each table that is registered, and the ranges must not overlap.
    /// The code of objects in one block is mixed, so their tables are made one.
    pub(super) fn eh_frame(&self, objects: &[Object<'_>]) -> Result<Vec<TablePart>, LoadError> {
        let mut parts = Vec::new();
        let mut offset = 0;
        for &object in &self.objects {
            for (index, section) in objects[object].sections.iter().enumerate() {
                let Some(section) = section.as_ref().filter(|section| section.is_eh_frame()) else {
                    continue;
                };
                let size = table_size(section.contents);
                if section.size != section.contents.len() || size % 4 != 0 {
                    let reason = format!("{} is not made of whole records", section.name);
                    let object = objects[object].name.clone();
                    return Err(LoadError::Malformed { object, reason });
                }
                parts.push(TablePart {
                    object,
                    section: index,
                    offset,
                    size,
                });
                offset += size; // Files are in memory: their sum is a number.
            }
        }
        Ok(parts)
    }

    /// Everything to ask the memory manager for.
    pub(super) fn requests<'data>(
        &self,
        objects: &[Object<'data>],
        symbols: &Symbols<'_>,
    ) -> Result<Vec<(Item, SectionRequest<'data>)>, LoadError> {
        let mut requests = Vec::new();
        for &object in &self.objects {
            for (index, section) in objects[object].sections.iter().enumerate() {
                let Some(section) = section.as_ref().filter(|section| !section.is_eh_frame())
                else {
                    continue;
                };
                let request =
                    SectionRequest::new(section.name, section.kind, section.size, section.align);
                requests.push((
                    Item::Section {
                        object,
                        section: index,
                    },
                    request,
                ));
            }
        }
        if let Some(last) = self.eh_frame(objects)?.last() {
            let (kind, size) = (SectionKind::ReadOnlyData, last.offset + last.size);
            let request = SectionRequest::new(".eh_frame", kind, size, Align::of::<u64>());
            requests.push((Item::EhFrame, request.with_eh_frame_terminator()));
        }
        for (id, global) in symbols
            .iter()
            .filter(|(_, global)| self.contains(global.definition))
        {
            if let Definition::Common { size, align, .. } = global.definition {
                let request =
                    SectionRequest::new("COMMON", SectionKind::ReadWriteData, size, align);
                requests.push((Item::Common(id), request));
            }
        }
        let table = |name, kind, count: usize, size: usize| {
            let align = Align::of::<u64>();
            let overflow = || Error::SizeOverflow {
                section: String::from(name),
                size: usize::MAX,
                align,
            };
            Ok::<_, Error>(SectionRequest::new(
                name,
                kind,
                count.checked_mul(size).ok_or_else(overflow)?,
                align,
            ))
        };
        let slots = self.slots.iter().len();
        if slots > 0 || self.got_is_named {
            requests.push((
                Item::Got,
                table(".got", SectionKind::ReadOnlyData, slots, SLOT_SIZE)?,
            ));
        }
        let stubs = self.stubs.iter().len();
        if stubs > 0 {
            requests.push((
                Item::Stubs,
                table(".stubs", SectionKind::Code, stubs, STUB_SIZE)?,
            ));
        }
        Ok(requests)
    }
}

/// The bytes of an unwind table in front of its terminator; all, if it has none.
fn table_size(table: &[u8]) -> usize {
    let mut offset = 0;
    while let Some(length) = table.get(offset..).and_then(|rest| rest.first_chunk()) {
        match u32::from_le_bytes(*length) {
            0 => return offset,
            // A length of 64 bits, or nonsense: both are for the check at finalization to read.
            u32::MAX => break,
            length => offset = offset.saturating_add(4).saturating_add(length as usize),
        }
    }
    table.len()
}

fn unknown(
    object: &Object<'_>,
    section: &Section<'_>,
    relocation: Relocation,
    machine: Machine,
) -> LoadError {
    LoadError::Unsupported {
        place: place(object, section, relocation),
        symbol: text(object.symbols[relocation.symbol].name),
        what: machine.relocation_name(relocation.number),
    }
}

/// Where a relocation is applied, for messages.
pub(super) fn place(object: &Object<'_>, section: &Section<'_>, relocation: Relocation) -> Place {
    Place {
        object: object.name.clone(),
        section: section.name.into(),
        offset: relocation.offset,
    }
}
