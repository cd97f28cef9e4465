//! What stands in a program's memory: contents, GOT, stubs, relocated values.
//!
//! Law: a value is written only if it was checked to fit. Nothing in here is unsafe: sections are slices, addresses numbers.

use super::error::{LoadError, Place as Position};
use super::item::{Content, Item};
use super::location::{Location, Unplaced};
use super::machine::{Machine, STUB_SIZE};
use super::memory::Map;
use super::object::{Object, Relocation};
use super::plan::{Plan, SLOT_SIZE, Sum};
use super::relocation::{Operand, Row};
use super::symbols::{Definition, SymbolId, Symbols, text};
use super::tls;
use crate::kind::SectionKind;
use crate::manager::ReservingMemoryManager;
use crate::num::{Address, Span};
use crate::reach::{RangeError, Value};

/// What is written, and what is known of where it goes.
pub(super) struct Linker<'l, 'data> {
    pub(super) machine: Machine,
    pub(super) objects: &'l [Object<'data>],
    pub(super) symbols: &'l Symbols,
    pub(super) plans: &'l [Plan<'data>],
    pub(super) map: &'l Map,
    /// By symbol number.
    pub(super) locations: Vec<Location>,
    pub(super) layout: &'l tls::Layout,
    pub(super) storage: Option<&'l tls::Storage>,
}

impl<'data> Linker<'_, 'data> {
    /// Writes contents, GOT and stubs of a plan, and applies all relocations.
    pub(super) fn fill(
        &self,
        plan: &Plan<'data>,
        manager: &mut dyn ReservingMemoryManager,
    ) -> Result<(), LoadError> {
        let (got, stubs) = (plan.table(Content::Got), plan.table(Content::Stubs));
        let needs = plan.thread_local.as_ref();
        let thread_entries = needs.and_then(|_| plan.table(Content::ThreadEntries));
        for item in &plan.items {
            let site = Site {
                plan,
                got,
                stubs,
                thread_entries,
                object: &self.objects[item.object],
                item,
                address: item.address.get(),
            };
            let bytes = plan.piece(item).bytes_mut(item, manager)?;
            self.fill_item(&site, bytes)?;
        }
        Ok(())
    }

    fn fill_item(&self, site: &Site<'_, 'data>, bytes: &mut [u8]) -> Result<(), LoadError> {
        match site.item.content {
            Content::Section(index) | Content::Unwind(index) => {
                let section = site.object.sections[index].as_ref();
                let section = section.expect("what is not loaded has no room");
                // The rest is zero as it comes, and stays untouched: a large .bss costs no memory until it is used.
                let contents = &section.contents[..bytes.len().min(section.contents.len())];
                bytes[..contents.len()].copy_from_slice(contents);
                let locations = &self.locations[site.object.first_symbol..];
                for relocation in section.relocations() {
                    if let Some(row) = self.machine.relocation(relocation.number) {
                        self.relocate(site, row, relocation, locations, bytes)?;
                    }
                }
            }
            Content::Got => {
                let slots = bytes.chunks_exact_mut(SLOT_SIZE);
                for (slot, sum) in slots.zip(site.plan.slots.iter()) {
                    slot.copy_from_slice(&self.sum(site, sum)?.to_le_bytes());
                }
            }
            Content::Stubs => {
                let stubs = bytes.chunks_exact_mut(STUB_SIZE);
                for (stub, sum) in stubs.zip(site.plan.stubs.iter()) {
                    stub.copy_from_slice(&self.machine.stub(self.sum(site, sum)?));
                }
            }
            Content::IndirectStub(symbol) => {
                let slot = self.map.indirect_slot(symbol).get();
                let stub = self.machine.indirect_stub(site.address, slot);
                let stub = stub.map_err(|range| self.too_far(site, symbol, range))?;
                bytes.copy_from_slice(&stub);
            }
            Content::Handle => bytes.copy_from_slice(&site.address.to_le_bytes()),
            Content::IndirectSlot(_) | Content::Common(_) => {}
            Content::ThreadEntries => {
                let storage = self.storage.expect("the plan asked for it");
                let offset = |sum| self.thread_local(site, sum);
                let needs = site.plan.thread_local.as_ref();
                needs
                    .expect("they are for it")
                    .write(bytes, storage, offset)?;
            }
        }
        Ok(())
    }

    fn relocate(
        &self,
        site: &Site<'_, 'data>,
        row: &Row,
        relocation: Relocation,
        locations: &[Location],
        bytes: &mut [u8],
    ) -> Result<(), LoadError> {
        let field = usize::try_from(relocation.offset)
            .ok()
            .and_then(|offset| Span::sized(offset, row.size));
        let field = field.filter(|field| field.end() <= bytes.len());
        let field = field.ok_or_else(|| outside(site, relocation))?;
        let location = locations[relocation.symbol];
        if row.operand == Operand::SlotOrSymbol {
            let code = &mut bytes[..field.end()];
            if self.relax(site, relocation, location, code) {
                return Ok(());
            }
        }
        let field = &mut bytes[field.start()..field.end()];
        match self.value(site, row, relocation, location) {
            Ok(value) => row.field.write(field, value),
            // The record of a function whose copy was not kept: unwinders pass over records that begin at zero.
            Err(Misfit::Unplaced(Unplaced::Discarded)) if site.item.is_unwind() => {
                row.field.write(field, 0);
            }
            Err(misfit) => return Err(self.refused(site, row, relocation, misfit)),
        }
        Ok(())
    }

    /// Whether the instruction that `code` ends with could be changed into one that needs no GOT slot.
    fn relax(
        &self,
        site: &Site<'_, 'data>,
        relocation: Relocation,
        location: Location,
        code: &mut [u8],
    ) -> bool {
        // With another addend the field is not the end of an instruction, or it is not the slot that is read.
        let is_whole = site.item.kind == SectionKind::Code && relocation.addend == -4;
        let symbol = match location {
            Ok(address) if is_whole => address.get(),
            _ => return false,
        };
        let place = site.address.wrapping_add(relocation.offset);
        self.machine.relax(code, place, symbol)
    }

    /// What a relocation comes to, if its range holds it.
    fn value(
        &self,
        site: &Site<'_, 'data>,
        row: &Row,
        relocation: Relocation,
        location: Location,
    ) -> Result<i64, Misfit> {
        let place = site.address.wrapping_add(relocation.offset);
        let (from, to) = match (row.operand, location) {
            // As most are.
            (Operand::Symbol | Operand::Branch | Operand::Plt, Ok(symbol)) => {
                (place, symbol.get().wrapping_add_signed(relocation.addend))
            }
            _ => self.ends(site, row, relocation, location)?,
        };
        let direct = row.range.check(from, to);
        direct.or_else(|range| {
            let stub = self.stub(site, row, relocation);
            let through = stub.map_or(Err(range), |stub| row.range.check(place, stub));
            through.map_err(Misfit::Range)
        })
    }

    /// What a relocation's value is the distance between: from where, and to where.
    #[inline(never)] // It is the long way, of which the short one is not to know.
    fn ends(
        &self,
        site: &Site<'_, 'data>,
        row: &Row,
        relocation: Relocation,
        location: Location,
    ) -> Result<(u64, u64), Misfit> {
        let Relocation { symbol, addend, .. } = relocation;
        let place = site.address.wrapping_add(relocation.offset);
        let plus = |base: u64| base.wrapping_add_signed(addend);
        let got = || site.got();
        let slot = |addend| {
            let id = self.symbols.id(site.object, symbol);
            let position = site.plan.slots.position((id, addend));
            let position = position.expect("the plan made a slot");
            got().wrapping_add((position * SLOT_SIZE) as u64)
        };
        let symbol_at = || match location {
            Ok(address) => Ok(address.get()),
            Err(Unplaced::Got) => Ok(got()),
            Err(Unplaced::Absent) if is_from_place(row) => {
                Ok(self.machine.nowhere(place, row.operand))
            }
            Err(Unplaced::Absent) => Ok(0),
            Err(reason) => Err(Misfit::Unplaced(reason)),
        };
        let thread_entry = |entry, addend| {
            let id = self.symbols.id(site.object, symbol);
            let needs = site.plan.thread_local.as_ref();
            let position = needs.and_then(|needs| needs.position(entry, (id, addend)));
            let entries = site.thread_entries.expect("the plan made entries");
            entries.wrapping_add(position.expect("the plan made one") as u64)
        };
        let block_offset = || {
            let id = self.symbols.id(site.object, symbol);
            let offset = self.layout.symbol(id, self.objects, self.symbols);
            offset.map_err(Misfit::Unplaced)
        };
        Ok(match row.operand {
            Operand::Symbol | Operand::Branch | Operand::Plt => (place, plus(symbol_at()?)),
            Operand::SymbolFromGot => (got(), plus(symbol_at()?)),
            Operand::SlotPlusAddend | Operand::SlotOrSymbol => (place, plus(slot(0))),
            Operand::SlotOfSum => (place, slot(addend)),
            Operand::SlotOfSumFromGot => (got(), slot(addend)),
            Operand::SlotFromGot => (place, plus(slot(0).wrapping_sub(got()))),
            Operand::Got => (place, plus(got())),
            Operand::Size => (place, plus(self.size(site, symbol)?)),
            Operand::ThreadEntry(entry) => (place, plus(thread_entry(entry, 0).get())),
            Operand::ThreadEntryOfSum(entry) => (place, thread_entry(entry, addend).get()),
            Operand::ThreadEntryOfSumFromGot(entry) => (got(), thread_entry(entry, addend).get()),
            Operand::BlockOffset => (place, plus(block_offset()?)),
            Operand::ThreadOffset => {
                let storage = self.storage.expect("the plan asked for it");
                (
                    place,
                    plus(block_offset()?).wrapping_add(storage.thread_offset()),
                )
            }
        })
    }

    /// What a branch refers to that goes through a stub, if the plan made one for it.
    fn stub(&self, site: &Site<'_, 'data>, row: &Row, relocation: Relocation) -> Option<u64> {
        let kind = site.item.kind;
        let through = self
            .machine
            .through_stub(row.operand, kind, relocation.addend);
        let (beyond, distance) = through?;
        let id = self.symbols.id(site.object, relocation.symbol);
        let position = site.plan.stubs.position((id, beyond))?;
        let stub = site.stubs?.wrapping_add((position * STUB_SIZE) as u64);
        Some(stub.get().wrapping_add_signed(distance))
    }

    /// What stands in a table for a symbol and its addend.
    fn sum(&self, site: &Site<'_, 'data>, (symbol, addend): Sum) -> Result<u64, LoadError> {
        let address = match self.locations[symbol.number()] {
            Ok(address) => address.get(),
            Err(Unplaced::Got) => site.got(),
            Err(Unplaced::Absent) => 0,
            Err(reason) => {
                let name = text(self.symbols.name(self.objects, symbol));
                return Err(reason.at(site.place(0), name));
            }
        };
        Ok(address.wrapping_add_signed(addend))
    }

    /// Where in the program's block of each thread a sum is, for a table.
    fn thread_local(
        &self,
        site: &Site<'_, 'data>,
        (symbol, addend): Sum,
    ) -> Result<u64, LoadError> {
        let offset = self.layout.symbol(symbol, self.objects, self.symbols);
        let offset = offset.map_err(|reason| {
            let name = text(self.symbols.name(self.objects, symbol));
            reason.at(site.place(0), name)
        })?;
        Ok(offset.wrapping_add_signed(addend))
    }

    /// How large a symbol is, in bytes, by the object that defines it.
    fn size(&self, site: &Site<'_, 'data>, symbol: usize) -> Result<u64, Misfit> {
        let id = self.symbols.id(site.object, symbol);
        match self.symbols.get(id).definition {
            Definition::Object { object, symbol, .. } => {
                Ok(self.objects[object].symbols[symbol].size)
            }
            Definition::Common { size, .. } => Ok(size as u64),
            Definition::Absent => Ok(0),
            Definition::Got
            | Definition::ThreadBlock
            | Definition::Handle
            | Definition::Bound { .. }
            | Definition::Outside(_)
            | Definition::None => Err(Misfit::Unplaced(Unplaced::Unsized)),
        }
    }

    #[cold]
    fn too_far(&self, site: &Site<'_, 'data>, symbol: SymbolId, range: RangeError) -> LoadError {
        LoadError::OutOfReach {
            place: site.place(0),
            symbol: text(self.symbols.name(self.objects, symbol)),
            source: Box::new(range),
            advice: "the program is too large for its code model",
        }
    }

    #[cold]
    fn refused(
        &self,
        site: &Site<'_, 'data>,
        row: &Row,
        relocation: Relocation,
        misfit: Misfit,
    ) -> LoadError {
        let place = site.place(relocation.offset);
        let symbol = text(site.object.symbols[relocation.symbol].name());
        let source = match misfit {
            Misfit::Unplaced(reason) => return reason.at(place, symbol),
            Misfit::Range(source) => Box::new(source),
        };
        let id = self.symbols.id(site.object, relocation.symbol);
        let definition = self.symbols.get(id).definition;
        let in_range = (source.min()..=source.max()).contains(&source.value());
        let advice = if in_range {
            "the target is less aligned than the instruction needs"
        } else if row.operand == Operand::Size {
            "the symbol is too large for this field"
        } else if row.range.value() == Value::Absolute {
            "addresses do not fit into this field here: compile with -fPIC"
        } else if matches!(definition, Definition::Outside(_) | Definition::Absent) {
            "the symbol is not in the program: compile with -fPIC, so that it is reached through the GOT"
        } else if !site.plan.contains(definition) {
            "the symbol is in another reservation: give both objects one, or a window"
        } else {
            "the program is too large for its code model"
        };
        LoadError::OutOfReach {
            place,
            symbol,
            source,
            advice,
        }
    }
}

#[cold]
fn outside(site: &Site<'_, '_>, relocation: Relocation) -> LoadError {
    LoadError::Malformed {
        object: site.object.name.clone(),
        reason: format!(
            "a relocation at {}+{:#x} is outside of the section",
            site.item.name, relocation.offset
        ),
    }
}

/// Whether a relocation is the distance from its place to its symbol.
fn is_from_place(row: &Row) -> bool {
    !matches!(row.range.value(), Value::Absolute | Value::LowBits)
        && row.operand != Operand::SymbolFromGot
}

/// What is being written.
struct Site<'s, 'data> {
    plan: &'s Plan<'data>,
    /// Where GOT, stubs and entries of thread-local variables of the plan are, if it has them.
    got: Option<Address>,
    stubs: Option<Address>,
    thread_entries: Option<Address>,
    object: &'s Object<'data>,
    item: &'s Item<'data>,
    address: u64,
}

impl Site<'_, '_> {
    /// Where the GOT is that something refers to.
    fn got(&self) -> u64 {
        self.got.expect("the plan made a GOT").get()
    }

    /// For messages.
    fn place(&self, offset: u64) -> Position {
        Position {
            object: self.object.name.clone(),
            section: self.item.name.into(),
            offset,
        }
    }
}

/// Why a value cannot be written.
enum Misfit {
    Unplaced(Unplaced),
    Range(RangeError),
}
