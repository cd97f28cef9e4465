//! What one reservation is going to hold: its objects' sections, and the GOT, stubs and common symbols that they need.
//!
//! All of it is known before anything has an address, so that the memory manager can be asked for all of it at once.

use std::ops::Range;

use hashbrown::HashMap;

use super::error::{LoadError, Place};
use super::machine::{Machine, STUB_SIZE};
use super::object::{Object, Place as SymbolPlace, Relocation, Section};
use super::relocation::{Operand, Row};
use super::symbols::{Definition, SymbolId, Symbols, text};
use crate::error::Error;
use crate::kind::SectionKind;
use crate::layout::SectionRequest;
use crate::num::Align;

/// Of a GOT slot, in bytes.
pub(super) const SLOT_SIZE: usize = size_of::<u64>();

/// A symbol and what is added to it.
pub(super) type Sum = (SymbolId, i64);

/// Sums that are needed once each, in the order in which they were first asked for.
#[derive(Debug)]
pub(super) struct Once {
    order: Vec<Sum>,
    /// The symbols of the objects that ask, by number.
    symbols: Range<usize>,
    /// For each of these, where in `order` it is without an addend, counted from 1; 0 if it is not. Empty until one is needed.
    plain: Vec<usize>,
    /// The same of all others.
    others: HashMap<Sum, usize>,
}

impl Once {
    /// `symbols`: the numbers of those of the objects that ask.
    fn new(symbols: Range<usize>) -> Self {
        Self {
            order: Vec::new(),
            symbols,
            plain: Vec::new(),
            others: HashMap::new(),
        }
    }

    fn need(&mut self, sum: Sum) {
        if self.position(sum).is_some() {
            return;
        }
        self.order.push(sum);
        let count = self.order.len();
        match self.index(sum) {
            Some(at) => {
                if self.plain.is_empty() {
                    self.plain = vec![0; self.symbols.len()];
                }
                self.plain[at] = count;
            }
            None => {
                self.others.insert(sum, count);
            }
        }
    }

    /// Where the sum is, counted from 0, if it was asked for.
    pub(super) fn position(&self, sum: Sum) -> Option<usize> {
        let count = match self.index(sum) {
            Some(at) => self.plain.get(at),
            None => self.others.get(&sum),
        };
        count?.checked_sub(1)
    }

    /// Where it belongs in [`plain`](Self::plain), if it does.
    fn index(&self, (symbol, addend): Sum) -> Option<usize> {
        let is_plain = addend == 0 && self.symbols.contains(&symbol.number());
        is_plain.then(|| symbol.number() - self.symbols.start)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = Sum> + '_ {
        self.order.iter().copied()
    }
}

/// A section to ask the memory manager for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'data> {
    /// The object that it is part of or that first needs it; for what objects share, the first one of the plan.
    pub(super) object: usize,
    pub(super) content: Content,
    pub(super) request: SectionRequest<'data>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// By index.
    Section(usize),
    Common(SymbolId),
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
#[derive(Debug)]
pub(super) struct Plan {
    /// The objects in it.
    pub(super) objects: Range<usize>,
    /// The kinds of relocations that occur, by number; `None` for what asks for nothing.
    rows: Vec<Option<&'static Row>>,
    /// What each GOT slot holds.
    pub(super) slots: Once,
    /// Where each stub goes.
    pub(super) stubs: Once,
    /// Whether something refers to the GOT itself.
    got_is_named: bool,
    /// The unwind tables of the objects, one directly behind the other, so that one terminator ends them all.
    ///
    /// From version 13 on libgcc keeps one range of code for each table that is registered, and the ranges must not overlap.
    /// The code of objects in one block is mixed, so their tables are made one.
    pub(super) eh_frame: Vec<TablePart>,
}

impl Plan {
    /// Reads the relocations of some of the objects, and notes whom they need.
    pub(super) fn new(
        members: Range<usize>,
        objects: &[Object<'_>],
        symbols: &mut Symbols,
        machine: Machine,
    ) -> Result<Self, LoadError> {
        let (first, last) = (&objects[members.start], &objects[members.end - 1]);
        let of_members = first.first_symbol..last.first_symbol + last.symbols.len();
        let mut plan = Self {
            eh_frame: eh_frame(members.clone(), objects)?,
            objects: members,
            rows: Vec::new(),
            slots: Once::new(of_members.clone()),
            stubs: Once::new(of_members),
            got_is_named: false,
        };
        for object in &objects[plan.objects.clone()] {
            for section in object.sections.iter().flatten() {
                for relocation in section.relocations() {
                    let row = plan.learn(relocation.number, machine);
                    let row = row.ok_or_else(|| unknown(object, section, relocation, machine))?;
                    let Some(row) = row else {
                        continue;
                    };
                    if row.operand == Operand::Got {
                        plan.got_is_named = true;
                        continue; // The symbol is the GOT's own, `_GLOBAL_OFFSET_TABLE_`: nobody has to define it.
                    }
                    let id = symbols.id(object, relocation.symbol);
                    let definition = symbols.need(id).definition;
                    plan.note(row.operand, id, relocation.addend, definition);
                    let is_branch = matches!(row.operand, Operand::Branch | Operand::Plt);
                    if is_branch && !plan.is_near(definition, objects) {
                        let stub =
                            machine.through_stub(row.operand, section.kind, relocation.addend);
                        if let Some((beyond, _)) = stub {
                            plan.stubs.need((id, beyond));
                        }
                    }
                }
            }
        }
        Ok(plan)
    }

    /// What relocation `number` computes and writes; `None` in it if it asks for nothing, in its place if nobody knows.
    fn learn(&mut self, number: u32, machine: Machine) -> Option<Option<&'static Row>> {
        let known = self.row(number);
        if known.is_some() || machine.is_none(number) {
            return Some(known);
        }
        let row = machine.relocation(number)?;
        let at = number as usize;
        let more = self.rows.len().max((at + 1).next_multiple_of(64)); // Not one after the other.
        self.rows.resize(more, None);
        self.rows[at] = Some(row);
        Some(Some(row))
    }

    /// What a relocation of these objects computes and writes; `None` if it asks for nothing.
    pub(super) fn row(&self, number: u32) -> Option<&'static Row> {
        self.rows.get(number as usize).copied().flatten()
    }

    fn note(&mut self, operand: Operand, symbol: SymbolId, addend: i64, definition: Definition) {
        self.got_is_named |= definition == Definition::Got;
        match operand {
            Operand::Symbol | Operand::Branch | Operand::Plt | Operand::Size => {}
            Operand::SymbolFromGot | Operand::Got => self.got_is_named = true,
            Operand::SlotPlusAddend | Operand::SlotOrSymbol | Operand::SlotFromGot => {
                self.slots.need((symbol, 0));
            }
            Operand::SlotOfSum | Operand::SlotOfSumFromGot => self.slots.need((symbol, addend)),
        }
    }

    /// Whether a branch from here reaches what is so defined whatever happens. One to an absolute address may not.
    fn is_near(&self, definition: Definition, objects: &[Object<'_>]) -> bool {
        let is_absolute = match definition {
            Definition::Object { object, symbol, .. } => {
                matches!(
                    objects[object].symbols[symbol].place,
                    SymbolPlace::Absolute(_)
                )
            }
            _ => false,
        };
        !is_absolute && self.contains(definition)
    }

    /// Whether a symbol so defined is part of this reservation.
    pub(super) fn contains(&self, definition: Definition) -> bool {
        match definition {
            Definition::Object { object, .. } | Definition::Common { object, .. } => {
                self.objects.contains(&object)
            }
            Definition::Got => true,
            Definition::None | Definition::Outside(_) | Definition::Absent => false,
        }
    }

    /// Everything to ask the memory manager for, but for common symbols.
    pub(super) fn items<'data>(
        &self,
        objects: &[Object<'data>],
    ) -> Result<Vec<Item<'data>>, LoadError> {
        let members = || self.objects.clone().zip(&objects[self.objects.clone()]);
        let sections = members().map(|(_, member)| member.sections.len());
        let mut items = Vec::with_capacity(sections.sum::<usize>() + 3);
        for (object, member) in members() {
            for (index, section) in member.sections.iter().enumerate() {
                if let Some(section) = section.as_ref().filter(|section| !section.is_eh_frame()) {
                    items.push(Item {
                        object,
                        content: Content::Section(index),
                        request: section.request(),
                    });
                }
            }
        }
        let mut add = |content, request| {
            items.push(Item {
                object: self.objects.start,
                content,
                request,
            });
        };
        let table = |name, kind, count: usize, size: usize| {
            let align = Align::of::<u64>();
            let size = count.checked_mul(size).ok_or_else(|| Error::SizeOverflow {
                section: String::from(name),
                size: usize::MAX,
                align,
            })?;
            Ok::<_, Error>(SectionRequest::new(name, kind, size, align))
        };
        if let Some(last) = self.eh_frame.last() {
            let size = last.offset + last.size;
            let request = table(".eh_frame", SectionKind::ReadOnlyData, size, 1)?;
            add(Content::EhFrame, request.with_eh_frame_terminator());
        }
        let slots = self.slots.iter().len();
        if slots > 0 || self.got_is_named {
            let request = table(".got", SectionKind::ReadOnlyData, slots, SLOT_SIZE)?;
            add(Content::Got, request);
        }
        let stubs = self.stubs.iter().len();
        if stubs > 0 {
            let request = table(".stubs", SectionKind::Code, stubs, STUB_SIZE)?;
            add(Content::Stubs, request);
        }
        Ok(items)
    }
}

fn eh_frame(members: Range<usize>, objects: &[Object<'_>]) -> Result<Vec<TablePart>, LoadError> {
    let mut parts = Vec::new();
    let mut offset = 0;
    for object in members {
        let sections = objects[object].sections.iter().enumerate();
        for (index, section) in sections {
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
