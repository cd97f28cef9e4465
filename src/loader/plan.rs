//! What one reservation is going to hold: its objects' sections, and the GOT, stubs and common symbols that they need.
//!
//! All of it is known before anything has an address, so that the memory manager can be asked for all of it at once.

use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::error::{LoadError, Place};
use super::item::{Content, Item};
use super::machine::{INDIRECT_STUB_SIZE, Machine, STUB_SIZE};
use super::memory::Piece;
use super::object::{Object, Place as SymbolPlace, Relocation, Section};
use super::relocation::Operand;
use super::symbols::{Definition, SymbolId, Symbols, text};
use super::tls;
use crate::kind::SectionKind;
use crate::num::{Address, Align};

/// The records of an unwind table are multiples of it, in bytes.
const RECORD_SIZE: usize = size_of::<u32>();

/// Of a GOT slot, in bytes.
pub(super) const SLOT_SIZE: usize = size_of::<u64>();

/// A symbol and what is added to it.
pub(super) type Sum = (SymbolId, i64);

/// Sums that are needed once each, in the order in which they were first asked for.
#[derive(Debug)]
pub(super) struct Once {
    order: SmallVec<[Sum; 2]>,
    /// The symbols of the objects that ask, by number.
    symbols: Range<usize>,
    /// Where in `order` each is, once they are too many to look through.
    positions: Option<Box<Positions>>,
}

/// Places in a list, counted from 1; 0 is none.
#[derive(Debug, Default)]
struct Positions {
    /// By symbol, of those that have a number in a range, without an addend.
    plain: Vec<usize>,
    others: HashMap<Sum, usize>,
}

impl Once {
    /// Up to so many are looked through.
    const FEW: usize = 8;

    /// `symbols`: the numbers of those of the objects that ask.
    pub(super) fn new(symbols: Range<usize>) -> Self {
        Self {
            order: SmallVec::new(),
            symbols,
            positions: None,
        }
    }

    pub(super) fn need(&mut self, sum: Sum) {
        if self.position(sum).is_some() {
            return;
        }
        self.order.push(sum);
        match self.order.len() {
            ..=Self::FEW => {}
            count if self.positions.is_some() => self.enter(sum, count),
            _ => {
                for position in 0..self.order.len() {
                    self.enter(self.order[position], position + 1);
                }
            }
        }
    }

    fn enter(&mut self, sum: Sum, count: usize) {
        let index = self.index(sum);
        let positions = self.positions.get_or_insert_default();
        match index {
            Some(at) => {
                positions.plain.resize(self.symbols.len(), 0);
                positions.plain[at] = count;
            }
            None => {
                positions.others.insert(sum, count);
            }
        }
    }

    /// Where the sum is, counted from 0, if it was asked for.
    pub(super) fn position(&self, sum: Sum) -> Option<usize> {
        let Some(positions) = &self.positions else {
            return self.order.iter().position(|&known| known == sum);
        };
        let count = match self.index(sum) {
            Some(at) => positions.plain.get(at),
            None => positions.others.get(&sum),
        };
        count?.checked_sub(1)
    }

    /// Where it belongs among those without an addend, if it does.
    fn index(&self, (symbol, addend): Sum) -> Option<usize> {
        let is_plain = addend == 0 && self.symbols.contains(&symbol.number());
        is_plain.then(|| symbol.number() - self.symbols.start)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = Sum> + '_ {
        self.order.iter().copied()
    }
}

/// Names of sections that lie together, with their numbers.
type Bounds<'data> = std::collections::HashMap<&'data str, usize>;

/// The contents of one reservation.
#[derive(Debug)]
pub(super) struct Plan<'data> {
    /// The objects in it.
    pub(super) objects: Range<usize>,
    /// What each GOT slot holds.
    pub(super) slots: Once,
    /// Where each stub goes.
    pub(super) stubs: Once,
    /// Whether something refers to the GOT itself, and to the program's handle.
    got_is_named: bool,
    pub(super) names_the_handle: bool,
    /// What is needed of thread-local storage, if anything is.
    pub(super) thread_local: Option<Box<tls::Needs>>,
    /// Everything that needs memory.
    pub(super) items: Vec<Item<'data>>,
    /// What the memory manager gave for them, once it did.
    pub(super) pieces: SmallVec<[Piece; 4]>,
}

impl<'data> Plan<'data> {
    /// Reads the relocations of some of the objects, and notes whom they need. Common symbols are still to come.
    pub(super) fn new(
        members: Range<usize>,
        objects: &[Object<'data>],
        symbols: &mut Symbols,
        bounds: &Bounds<'_>,
        layout: &tls::Layout,
        machine: Machine,
    ) -> Result<Self, LoadError> {
        let (first, last) = (&objects[members.start], &objects[members.end - 1]);
        let of_members = first.first_symbol..last.first_symbol + last.symbols.len();
        let mut plan = Self {
            items: sections(members.clone(), objects, bounds)?,
            objects: members,
            slots: Once::new(of_members.clone()),
            stubs: Once::new(of_members.clone()),
            got_is_named: false,
            names_the_handle: false,
            pieces: SmallVec::new(),
            thread_local: None,
        };
        for object in &objects[plan.objects.clone()] {
            for section in object.sections.iter().flatten() {
                for relocation in section.relocations() {
                    let Some(row) = machine.relocation(relocation.number) else {
                        if machine.is_none(relocation.number) {
                            continue;
                        }
                        return Err(unknown(object, section, relocation, machine));
                    };
                    if row.operand == Operand::Got {
                        plan.got_is_named = true;
                        continue; // The symbol is the GOT's own, `_GLOBAL_OFFSET_TABLE_`: nobody has to define it.
                    }
                    let id = symbols.id(object, relocation.symbol);
                    let definition = symbols.need(id).definition;
                    if row.operand.is_thread_local() {
                        let reference = || refers(object, section, relocation);
                        if let Err(reason) = layout.symbol(id, objects, symbols) {
                            let (place, symbol) = reference();
                            return Err(reason.at(place, symbol));
                        }
                        let needs = || Box::new(tls::Needs::new(of_members.clone(), reference()));
                        let needs = plan.thread_local.get_or_insert_with(needs);
                        needs.note(row.operand, (id, relocation.addend), reference);
                    }
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
        plan.add_tables(objects);
        Ok(plan)
    }

    fn note(&mut self, operand: Operand, symbol: SymbolId, addend: i64, definition: Definition) {
        self.got_is_named |= definition == Definition::Got;
        self.names_the_handle |= definition == Definition::Handle;
        match operand {
            Operand::Symbol | Operand::Branch | Operand::Plt | Operand::Size => {}
            Operand::ThreadEntry(_) | Operand::ThreadEntryOfSum(_) => {}
            Operand::BlockOffset | Operand::ThreadOffset => {}
            Operand::SymbolFromGot | Operand::Got | Operand::ThreadEntryOfSumFromGot(_) => {
                self.got_is_named = true;
            }
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
            Definition::Got | Definition::ThreadBlock => true,
            Definition::Handle
            | Definition::Bound { .. }
            | Definition::None
            | Definition::Outside(_)
            | Definition::Absent => false,
        }
    }

    /// The memory that has an item in it.
    pub(super) fn piece(&self, item: &Item<'_>) -> Piece {
        self.pieces[item.piece]
    }

    /// Where GOT or stubs are, if there are any.
    pub(super) fn table(&self, content: Content) -> Option<Address> {
        // The objects' sections come first.
        let item = self.items.iter().rev().find(|item| item.content == content);
        item.map(|item| item.address)
    }

    /// The memory of the unwind table, if there is one.
    pub(super) fn unwind_table(&self) -> Option<Piece> {
        let part = self.items.iter().find(|item| item.is_unwind());
        part.map(|part| self.piece(part))
    }

    /// Makes room for what the linker makes.
    fn add_tables(&mut self, objects: &[Object<'_>]) {
        for number in self.objects.clone() {
            let symbols = objects[number].symbols.iter().enumerate();
            let indirect = symbols.filter(|(_, s)| matches!(s.place, SymbolPlace::Indirect { .. }));
            for (index, _) in indirect {
                let id = SymbolId::of(&objects[number], index);
                let stub = (Content::IndirectStub(id), ".iplt", SectionKind::Code);
                self.add(number, stub, 1, INDIRECT_STUB_SIZE);
                let slot = (
                    Content::IndirectSlot(id),
                    ".igot",
                    SectionKind::ReadWriteData,
                );
                self.add(number, slot, 1, SLOT_SIZE);
            }
        }
        let first = self.objects.start;
        let slots = self.slots.iter().len();
        if slots > 0 || self.got_is_named {
            let got = (Content::Got, ".got", SectionKind::ReadOnlyData);
            self.add(first, got, slots, SLOT_SIZE);
        }
        let words = self.thread_local.as_ref().map_or(0, |needs| needs.words());
        if words > 0 {
            let kind = SectionKind::ReadOnlyData;
            let entries = (Content::ThreadEntries, ".got.tls", kind);
            self.add(first, entries, words, SLOT_SIZE);
        }
        let stubs = self.stubs.iter().len();
        if stubs > 0 {
            let table = (Content::Stubs, ".stubs", SectionKind::Code);
            self.add(first, table, stubs, STUB_SIZE);
        }
    }

    /// Makes room for the program's handle.
    pub(super) fn add_handle(&mut self) {
        let handle = (Content::Handle, ".dso_handle", SectionKind::ReadOnlyData);
        self.add(self.objects.start, handle, 1, size_of::<u64>());
    }

    fn add(
        &mut self,
        object: usize,
        (content, name, kind): (Content, &'static str, SectionKind),
        count: usize,
        size: usize,
    ) {
        self.items.push(Item {
            content,
            object,
            name,
            kind,
            size: count.saturating_mul(size), // Nobody has so much, which will be said when it is asked for.
            align: Align::of::<u64>(),
            bounds: None,
            piece: 0,
            offset: 0,
            address: Address::new(0),
        });
    }
}

/// The sections of some of the objects.
fn sections<'data>(
    members: Range<usize>,
    objects: &[Object<'data>],
    bounds: &Bounds<'_>,
) -> Result<Vec<Item<'data>>, LoadError> {
    let loaded = objects[members.clone()].iter().map(|object| object.loaded);
    let mut items = Vec::with_capacity(loaded.sum::<usize>() + 2);
    for number in members {
        let object = &objects[number];
        for (index, section) in object.sections.iter().enumerate() {
            let Some(section) = section else {
                continue;
            };
            let mut item = Item {
                content: Content::Section(index),
                object: number,
                name: section.name,
                kind: section.kind,
                size: section.size,
                align: section.align,
                bounds: bounds.get(section.name).copied(),
                piece: 0,
                offset: 0,
                address: Address::new(0),
            };
            if section.is_thread_local {
                if section.contents.is_empty() {
                    continue; // What begins with zero needs no memory before there is a thread.
                }
                item.size = section.contents.len();
            }
            if section.is_eh_frame() {
                item.content = Content::Unwind(index);
                item.kind = SectionKind::ReadOnlyData;
                item.size = table_size(section.contents);
                if section.size != section.contents.len() || item.size % RECORD_SIZE != 0 {
                    return Err(LoadError::Malformed {
                        object: object.name.clone(),
                        reason: format!("{} is not made of whole records", section.name),
                    });
                }
            }
            items.push(item);
        }
    }
    if !bounds.is_empty() {
        join_kinds(&mut items, objects, bounds.len())?;
    }
    Ok(items)
}

/// Makes sections that lie together, which have one of these names, of one kind: variables if any of them are.
fn join_kinds(
    items: &mut [Item<'_>],
    objects: &[Object<'_>],
    names: usize,
) -> Result<(), LoadError> {
    let mut kinds = vec![SectionKind::Code; names];
    for (item, name) in items.iter().filter_map(|item| Some((item, item.bounds?))) {
        kinds[name] = kinds[name].max(item.kind);
    }
    for item in items {
        let Some(kind) = item.bounds.map(|name| kinds[name]) else {
            continue;
        };
        if item.kind == SectionKind::Code && kind != SectionKind::Code {
            return Err(LoadError::Malformed {
                object: objects[item.object].name.clone(),
                reason: format!("{} is code here, and data elsewhere", item.name),
            });
        }
        item.kind = kind;
    }
    Ok(())
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

/// Where a relocation is, and the symbol that it refers to, for messages.
fn refers(object: &Object<'_>, section: &Section<'_>, relocation: Relocation) -> (Place, String) {
    let place = Place {
        object: object.name.clone(),
        section: section.name.into(),
        offset: relocation.offset,
    };
    (place, text(object.symbols[relocation.symbol].name()))
}

fn unknown(
    object: &Object<'_>,
    section: &Section<'_>,
    relocation: Relocation,
    machine: Machine,
) -> LoadError {
    let (place, symbol) = refers(object, section, relocation);
    LoadError::Unsupported {
        place,
        symbol,
        what: machine.relocation_name(relocation.number),
    }
}
