//! From plans to a program: memory, contents, GOT, stubs, relocations, finalization.
//!
//! Law: a value is written only if it was checked to fit. Nothing in here is unsafe: sections are slices, addresses numbers.

use super::error::{LoadError, Place as Position};
use super::execute::TrueEhFrames;
use super::location::{Location, Unplaced, locations};
use super::machine::{Machine, STUB_SIZE};
use super::memory::{Attempt, Map, Tables, check_names, check_size};
use super::object::{Object, Place, Relocation, Section};
use super::plan::{Content, Item, Plan, SLOT_SIZE, Sum, place};
use super::program::{Program, Symbol};
use super::relocation::{Operand, Row};
use super::resolver::Resolver;
use super::symbols::{Definition, SymbolId, Symbols, discard_duplicate_groups, text};
use super::{Loader, Placement};
use crate::kind::SectionKind;
use crate::layout::SectionRequest;
use crate::manager::ReservingMemoryManager;
use crate::num::Span;
use crate::reach::{RangeError, Value};

/// Makes a program of the loader's objects; with somebody's promise, one that can be unwound through.
pub(super) fn link(
    loader: Loader<'_>,
    manager: &mut dyn ReservingMemoryManager,
    resolver: &dyn Resolver,
    eh_frames: Option<TrueEhFrames>,
) -> Result<Program, LoadError> {
    let Loader {
        machine,
        placement,
        max_bytes,
        mut objects,
    } = loader;
    discard_duplicate_groups(&mut objects);
    warn_of_constructors(&objects);
    check_names(&objects, max_bytes)?;
    let mut symbols = Symbols::collect(&objects)?;
    let together = match placement {
        Placement::Together => objects.len(),
        Placement::PerObject => 1,
    };
    let starts = (0..objects.len()).step_by(together.max(1));
    let plans = starts.map(|start| {
        let members = start..start + together;
        Plan::new(members, &objects, &mut symbols, machine)
    });
    let plans = plans.collect::<Result<Vec<Plan>, LoadError>>()?;
    symbols.resolve(&objects, resolver)?;

    let items = plans.iter().map(|plan| plan.items(&objects));
    let mut items = items.collect::<Result<Vec<Vec<Item<'_>>>, LoadError>>()?;
    for common in symbols.globals().filter_map(common) {
        items[common.object / together].push(common);
    }
    check_size(&items, &objects, max_bytes)?;
    let mut attempt = Attempt::new(manager);
    let mut map = Map::new(&objects);
    for (plan, items) in plans.iter().zip(&items) {
        map.allocate(plan, items, &objects, &mut attempt)?;
    }
    let linker = Linker {
        machine,
        objects: &objects,
        symbols: &symbols,
        map: &map,
        locations: locations(&objects, &symbols, &map),
    };
    for (plan, tables) in plans.iter().zip(&map.tables) {
        linker.fill(plan, tables, attempt.manager)?;
        if let (Some(promise), Some(table)) = (eh_frames, tables.eh_frame) {
            promise.register(attempt.manager, table)?;
        }
    }
    let image = attempt.finalize(&objects, &map)?;
    let symbols = linker.program_symbols();
    Ok(Program::new(
        image,
        machine,
        &objects,
        &map.listing,
        &symbols,
    ))
}

/// The memory for a symbol, if it is a common one.
fn common<'data>((id, symbol): (SymbolId, &super::symbols::Symbol)) -> Option<Item<'data>> {
    let Definition::Common {
        object,
        size,
        align,
    } = symbol.definition
    else {
        return None;
    };
    Some(Item {
        object,
        content: Content::Common(id),
        request: SectionRequest::new("COMMON", SectionKind::ReadWriteData, size, align),
    })
}

/// Constructors are not run: whoever needs them has to know.
fn warn_of_constructors(objects: &[Object<'_>]) {
    for object in objects {
        let names = object.sections.iter().flatten().map(|section| section.name);
        let mut constructors =
            names.filter(|name| name.starts_with(".init_array") || name.starts_with(".ctors"));
        if let Some(section) = constructors.next() {
            tracing::warn!(object = object.name, section, "constructors do not run");
        }
    }
}

struct Linker<'l, 'data> {
    machine: Machine,
    objects: &'l [Object<'data>],
    symbols: &'l Symbols,
    map: &'l Map<'data>,
    /// By symbol number.
    locations: Vec<Location>,
}

impl<'data> Linker<'_, 'data> {
    /// Writes contents, GOT and stubs, and applies all relocations.
    fn fill(
        &self,
        plan: &Plan,
        tables: &Tables,
        manager: &mut dyn ReservingMemoryManager,
    ) -> Result<(), LoadError> {
        if let Some(got) = tables.got {
            let bytes = got.bytes_mut(manager)?;
            for (slot, sum) in bytes.chunks_exact_mut(SLOT_SIZE).zip(plan.slots.iter()) {
                slot.copy_from_slice(&self.sum(plan, tables, sum, ".got")?.to_le_bytes());
            }
        }
        if let Some(stubs) = tables.stubs {
            let bytes = stubs.bytes_mut(manager)?;
            for (stub, sum) in bytes.chunks_exact_mut(STUB_SIZE).zip(plan.stubs.iter()) {
                stub.copy_from_slice(&self.machine.stub(self.sum(plan, tables, sum, ".stubs")?));
            }
        }
        for object in &self.objects[plan.objects.clone()] {
            let locations = &self.locations[object.first_symbol..];
            for (index, section) in object.sections.iter().enumerate() {
                let (Some(section), Some(placed)) = (section, self.map.section(object, index))
                else {
                    continue;
                };
                let bytes = placed.bytes_mut(manager)?;
                // The rest is zero as it comes, and stays untouched: a large .bss costs no memory until it is used.
                let contents = &section.contents[..bytes.len().min(section.contents.len())];
                bytes[..contents.len()].copy_from_slice(contents);
                let site = Site {
                    plan,
                    tables,
                    object,
                    section,
                    locations,
                    address: placed.address.get(),
                };
                for relocation in section.relocations() {
                    if let Some(row) = plan.row(relocation.number) {
                        self.relocate(&site, row, relocation, bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn relocate(
        &self,
        site: &Site<'_>,
        row: &Row,
        relocation: Relocation,
        bytes: &mut [u8],
    ) -> Result<(), LoadError> {
        let field = usize::try_from(relocation.offset)
            .ok()
            .and_then(|offset| Span::sized(offset, row.field.size()));
        let code = field.and_then(|field| bytes.get_mut(..field.end()));
        let code = code.ok_or_else(|| LoadError::Malformed {
            object: site.object.name.clone(),
            reason: format!(
                "a relocation at {}+{:#x} is outside of the section",
                site.section.name, relocation.offset
            ),
        })?;
        if row.operand == Operand::SlotOrSymbol && self.relax(site, relocation, code) {
            return Ok(());
        }
        let start = code.len() - row.field.size();
        let field = &mut code[start..];
        match self.value(site, row, relocation) {
            Ok(value) => row.field.write(field, value),
            // The record of a function whose copy was not kept: unwinders pass over records that begin at zero.
            Err(Misfit::Unplaced(Unplaced::Discarded)) if site.section.is_eh_frame() => {
                row.field.write(field, 0);
            }
            Err(misfit) => return Err(self.refused(site, row, relocation, misfit)),
        }
        Ok(())
    }

    /// Whether the instruction that `code` ends with could be changed into one that needs no GOT slot.
    fn relax(&self, site: &Site<'_>, relocation: Relocation, code: &mut [u8]) -> bool {
        // With another addend the field is not the end of an instruction, or it is not the slot that is read.
        let is_whole = site.section.kind == SectionKind::Code && relocation.addend == -4;
        let symbol = match site.locations[relocation.symbol] {
            Ok(address) if is_whole => address.get(),
            _ => return false,
        };
        let place = site.address.wrapping_add(relocation.offset);
        self.machine.relax(code, place, symbol)
    }

    /// What a relocation comes to, if its range holds it.
    fn value(&self, site: &Site<'_>, row: &Row, relocation: Relocation) -> Result<i64, Misfit> {
        let Relocation { symbol, addend, .. } = relocation;
        let place = site.address.wrapping_add(relocation.offset);
        let plus = |base: u64| base.wrapping_add_signed(addend);
        let got = || site.tables.got().get();
        let slot = |addend| {
            let id = self.symbols.id(site.object, symbol);
            let position = site.plan.slots.position((id, addend));
            let position = position.expect("the plan made a slot");
            got().wrapping_add((position * SLOT_SIZE) as u64)
        };
        let symbol_at = || match site.locations[symbol] {
            Ok(address) => Ok(address.get()),
            Err(Unplaced::Got) => Ok(got()),
            Err(Unplaced::Absent) if is_from_place(row) => {
                Ok(self.machine.nowhere(place, row.operand))
            }
            Err(Unplaced::Absent) => Ok(0),
            Err(reason) => Err(Misfit::Unplaced(reason)),
        };
        let (from, to) = match row.operand {
            Operand::Symbol | Operand::Branch | Operand::Plt => (place, plus(symbol_at()?)),
            Operand::SymbolFromGot => (got(), plus(symbol_at()?)),
            Operand::SlotPlusAddend | Operand::SlotOrSymbol => (place, plus(slot(0))),
            Operand::SlotOfSum => (place, slot(addend)),
            Operand::SlotOfSumFromGot => (got(), slot(addend)),
            Operand::SlotFromGot => (place, plus(slot(0).wrapping_sub(got()))),
            Operand::Got => (place, plus(got())),
            Operand::Size => (place, plus(self.size(site, symbol)?)),
        };
        let direct = row.range.check(from, to);
        direct.or_else(|range| {
            let stub = self.stub(site, row, relocation);
            let through = stub.map_or(Err(range), |stub| row.range.check(place, stub));
            through.map_err(Misfit::Range)
        })
    }

    /// What a branch refers to that goes through a stub, if the plan made one for it.
    fn stub(&self, site: &Site<'_>, row: &Row, relocation: Relocation) -> Option<u64> {
        let kind = site.section.kind;
        let through = self
            .machine
            .through_stub(row.operand, kind, relocation.addend);
        let (beyond, distance) = through?;
        let id = self.symbols.id(site.object, relocation.symbol);
        let position = site.plan.stubs.position((id, beyond))?;
        let stubs = site.tables.stubs?.address;
        let stub = stubs.wrapping_add((position * STUB_SIZE) as u64);
        Some(stub.get().wrapping_add_signed(distance))
    }

    /// What stands in a table for a symbol and its addend.
    fn sum(
        &self,
        plan: &Plan,
        tables: &Tables,
        (symbol, addend): Sum,
        table: &str,
    ) -> Result<u64, LoadError> {
        let address = match self.locations[symbol.number()] {
            Ok(address) => address.get(),
            Err(Unplaced::Got) => tables.got().get(),
            Err(Unplaced::Absent) => 0,
            Err(reason) => {
                let place = Position {
                    object: self.objects[plan.objects.start].name.clone(),
                    section: table.into(),
                    offset: 0,
                };
                return Err(reason.at(place, text(self.symbols.name(self.objects, symbol))));
            }
        };
        Ok(address.wrapping_add_signed(addend))
    }

    /// How large a symbol is, in bytes, by the object that defines it.
    fn size(&self, site: &Site<'_>, symbol: usize) -> Result<u64, Misfit> {
        let id = self.symbols.id(site.object, symbol);
        match self.symbols.get(id).definition {
            Definition::Object { object, symbol, .. } => {
                Ok(self.objects[object].symbols[symbol].size)
            }
            Definition::Common { size, .. } => Ok(size as u64),
            Definition::Absent => Ok(0),
            Definition::Got | Definition::Outside(_) | Definition::None => {
                Err(Misfit::Unplaced(Unplaced::Unsized))
            }
        }
    }

    #[cold]
    fn refused(
        &self,
        site: &Site<'_>,
        row: &Row,
        relocation: Relocation,
        misfit: Misfit,
    ) -> LoadError {
        let place = place(site.object, site.section, relocation);
        let symbol = text(site.object.symbols[relocation.symbol].name);
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

    /// The global symbols that the objects define.
    fn program_symbols(&self) -> Vec<(&'data [u8], Symbol)> {
        let symbol = |(id, symbol): (SymbolId, &super::symbols::Symbol)| {
            let kind = match symbol.definition {
                Definition::Object { object, symbol, .. } => {
                    let object = &self.objects[object];
                    match object.symbols[symbol].place {
                        Place::Section { index, .. } => {
                            let section = object.sections[index as usize].as_ref();
                            section.map(|section| section.kind)
                        }
                        _ => None,
                    }
                }
                Definition::Common { .. } => Some(SectionKind::ReadWriteData),
                _ => return None,
            };
            let address = self.locations[id.number()].ok()?;
            let name = self.symbols.name(self.objects, id);
            Some((name, Symbol { address, kind }))
        };
        self.symbols.globals().filter_map(symbol).collect()
    }
}

/// Whether a relocation is the distance from its place to its symbol.
fn is_from_place(row: &Row) -> bool {
    !matches!(row.range.value(), Value::Absolute | Value::LowBits)
        && row.operand != Operand::SymbolFromGot
}

/// The section that relocations are being applied to.
struct Site<'s> {
    plan: &'s Plan,
    tables: &'s Tables,
    object: &'s Object<'s>,
    section: &'s Section<'s>,
    /// By symbol index.
    locations: &'s [Location],
    address: u64,
}

/// Why a value cannot be written.
enum Misfit {
    Unplaced(Unplaced),
    Range(RangeError),
}
