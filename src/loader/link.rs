//! From plans to a program: memory, contents, GOT, stubs, relocations, finalization.
//!
//! Law: a value is written only if it was checked to fit. Nothing in here is unsafe: sections are slices, addresses numbers.

use std::collections::HashMap;

use super::error::{LoadError, Place as Position};
use super::execute::TrueEhFrames;
use super::machine::{Machine, STUB_SIZE};
use super::memory::{Attempt, Map, Tables};
use super::object::{Object, Place, Relocation, Section};
use super::plan::{Plan, SLOT_SIZE, Sum, Target, place};
use super::program::Program;
use super::relocation::{Operand, Row};
use super::resolver::Resolver;
use super::symbols::{Definition, Global, GlobalId, Symbols, discard_duplicate_groups, text};
use super::{Loader, Placement};
use crate::kind::SectionKind;
use crate::manager::ReservingMemoryManager;
use crate::num::{Address, Span};
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
        mut objects,
    } = loader;
    discard_duplicate_groups(&mut objects);
    warn_of_constructors(&objects);
    let mut symbols = Symbols::collect(&objects)?;
    let reservations: Vec<Vec<usize>> = match placement {
        Placement::Together if objects.is_empty() => Vec::new(),
        Placement::Together => vec![(0..objects.len()).collect()],
        Placement::PerObject => (0..objects.len()).map(|object| vec![object]).collect(),
    };
    let plans = reservations
        .into_iter()
        .map(|members| Plan::new(members, &objects, &symbols, machine));
    let plans = plans.collect::<Result<Vec<Plan>, LoadError>>()?;
    let referenced = plans
        .iter()
        .flat_map(|plan| plan.referenced.iter().copied())
        .collect();
    symbols.resolve(&referenced, &objects, resolver)?;

    let mut attempt = Attempt::new(manager);
    let mut map = Map::new(&objects);
    for plan in &plans {
        map.allocate(plan, &objects, &symbols, &mut attempt)?;
    }
    let linker = Linker {
        machine,
        objects: &objects,
        symbols: &symbols,
        map: &map,
    };
    for (plan, tables) in plans.iter().zip(&map.tables) {
        linker.fill(plan, tables, attempt.manager)?;
        if let (Some(promise), Some(table)) = (eh_frames, tables.eh_frame) {
            promise.register(attempt.manager, table)?;
        }
    }
    let symbols = linker.program_symbols();
    let image = attempt.finalize(&map.listing)?;
    Ok(Program {
        image,
        symbols,
        machine,
        sections: map.listing,
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
    symbols: &'l Symbols<'data>,
    map: &'l Map,
}

impl Linker<'_, '_> {
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
        for &number in &plan.objects {
            let object = &self.objects[number];
            for (section, placed) in object.sections.iter().zip(&self.map.sections[number]) {
                let (Some(section), Some(placed)) = (section, placed) else {
                    continue;
                };
                let bytes = placed.bytes_mut(manager)?;
                // The rest is zero as it comes, and stays untouched: a large .bss costs no memory until it is used.
                let contents = &section.contents[..bytes.len().min(section.contents.len())];
                bytes[..contents.len()].copy_from_slice(contents);
                let site = Site {
                    plan,
                    tables,
                    number,
                    object,
                    section,
                    address: placed.address,
                };
                for relocation in section.relocations() {
                    self.relocate(&site, relocation, bytes)?;
                }
            }
        }
        Ok(())
    }

    fn relocate(
        &self,
        site: &Site<'_>,
        relocation: Relocation,
        bytes: &mut [u8],
    ) -> Result<(), LoadError> {
        if self.machine.is_none(relocation.number) {
            return Ok(());
        }
        let row = self
            .machine
            .relocation(relocation.number)
            .expect("the plan knew every relocation");
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
        let target = match self.symbols.global(site.number, relocation.symbol) {
            Some(id) => Target::Global(id),
            None => Target::Local {
                object: site.number,
                symbol: relocation.symbol,
            },
        };
        let place = site.address.wrapping_add(relocation.offset).get();
        if row.operand == Operand::SlotOrSymbol && self.relax(site, relocation, target, code, place)
        {
            return Ok(());
        }
        let start = code.len() - row.field.size();
        let field = &mut code[start..];
        match self.value(site, row, target, relocation.addend, place) {
            Ok(Ok(value)) => row.field.write(field, value),
            Ok(Err(range)) => {
                return Err(self.out_of_reach(site, relocation, target, row, range));
            }
            // The record of a function whose copy was not kept: unwinders pass over records that begin at zero.
            Err(Unplaced::Discarded) if site.section.is_eh_frame() => row.field.write(field, 0),
            Err(reason) => {
                return Err(reason.at(self.position(site, relocation), self.name(target)));
            }
        }
        Ok(())
    }

    /// Whether the instruction that `code` ends with could be changed into one that needs no GOT slot.
    fn relax(
        &self,
        site: &Site<'_>,
        relocation: Relocation,
        target: Target,
        code: &mut [u8],
        place: u64,
    ) -> bool {
        // With another addend the field is not the end of an instruction, or it is not the slot that is read.
        let is_whole = site.section.kind == SectionKind::Code && relocation.addend == -4;
        is_whole
            && self
                .address(target, site.tables)
                .is_ok_and(|symbol| self.machine.relax(code, place, symbol.get()))
    }

    /// What a relocation at `place` comes to, if its range holds it.
    fn value(
        &self,
        site: &Site<'_>,
        row: &Row,
        target: Target,
        addend: i64,
        place: u64,
    ) -> Result<Result<i64, RangeError>, Unplaced> {
        let plus = |base: u64| base.wrapping_add_signed(addend);
        let got = || site.tables.got().get();
        let slot = |sum| {
            let position = site.plan.slots.position(sum).expect("the plan made a slot");
            got().wrapping_add((position * SLOT_SIZE) as u64)
        };
        let symbol = || Ok(self.address(target, site.tables)?.get());
        let (from, to) = match row.operand {
            Operand::Symbol | Operand::Branch | Operand::Plt if self.is_nowhere(row, target) => {
                (place, plus(self.machine.nowhere(place, row.operand)))
            }
            Operand::Symbol | Operand::Branch | Operand::Plt => (place, plus(symbol()?)),
            Operand::SymbolFromGot => (got(), plus(symbol()?)),
            Operand::SlotPlusAddend | Operand::SlotOrSymbol => (place, plus(slot((target, 0)))),
            Operand::SlotOfSum => (place, slot((target, addend))),
            Operand::SlotOfSumFromGot => (got(), slot((target, addend))),
            Operand::SlotFromGot => (place, plus(slot((target, 0)).wrapping_sub(got()))),
            Operand::Got => (place, plus(got())),
            Operand::Size => (place, plus(self.size(target)?)),
        };
        let direct = row.range.check(from, to);
        let stub = match direct {
            Ok(_) => None,
            Err(_) => self
                .machine
                .through_stub(row.operand, site.section.kind, addend),
        };
        let stub =
            stub.and_then(|(beyond, distance)| Some((site.stub((target, beyond))?, distance)));
        Ok(stub.map_or(direct, |(stub, distance)| {
            row.range.check(place, stub.wrapping_add_signed(distance))
        }))
    }

    /// Whether a relative reference is to a weak symbol that nobody defines.
    fn is_nowhere(&self, row: &Row, target: Target) -> bool {
        let is_absent = |id| self.symbols.get(id).definition == Definition::Absent;
        row.range.value() != Value::Absolute
            && row.range.value() != Value::LowBits
            && matches!(target, Target::Global(id) if is_absent(id))
    }

    fn sum(
        &self,
        plan: &Plan,
        tables: &Tables,
        (target, addend): Sum,
        table: &str,
    ) -> Result<u64, LoadError> {
        let address = self.address(target, tables).map_err(|reason| {
            let object = self.objects[plan.objects[0]].name.clone();
            reason.at(
                Position {
                    object,
                    section: table.into(),
                    offset: 0,
                },
                self.name(target),
            )
        })?;
        Ok(address.wrapping_add(addend as u64).get())
    }

    /// Where a target is, seen from the reservation that `tables` belong to.
    fn address(&self, target: Target, tables: &Tables) -> Result<Address, Unplaced> {
        let (object, symbol) = match target {
            Target::Local { object, symbol } => (object, symbol),
            Target::Global(id) => match self.symbols.get(id).definition {
                Definition::Object { object, symbol, .. } => (object, symbol),
                Definition::Common { .. } => return Ok(self.map.commons[&id].address),
                Definition::Got => return Ok(tables.got()),
                Definition::Outside(address) => return Ok(address),
                Definition::Absent => return Ok(Address::new(0)),
                Definition::None => unreachable!("what is referred to was resolved"),
            },
        };
        match self.objects[object].symbols[symbol].place {
            Place::Absolute(value) => Ok(Address::new(value)),
            Place::Section { index, offset } => match self.map.sections[object][index] {
                Some(placed) => Ok(placed.address.wrapping_add(offset)),
                None => Err(Unplaced::Discarded),
            },
            Place::Unloaded => Err(Unplaced::Unsupported(
                "a reference to a section that is not loaded",
            )),
            Place::Unsupported(what) => Err(Unplaced::Unsupported(what)),
            Place::Common { .. } | Place::Undefined => {
                Err(Unplaced::Unsupported("a local symbol without a place"))
            }
        }
    }

    /// How large a target is, in bytes, by the object that defines it.
    fn size(&self, target: Target) -> Result<u64, Unplaced> {
        let (object, symbol) = match target {
            Target::Local { object, symbol } => (object, symbol),
            Target::Global(id) => match self.symbols.get(id).definition {
                Definition::Object { object, symbol, .. } => (object, symbol),
                Definition::Common { size, .. } => return Ok(size as u64),
                Definition::Absent => return Ok(0),
                Definition::Got | Definition::Outside(_) | Definition::None => {
                    return Err(Unplaced::Unsupported(
                        "the size of a symbol that no object defines",
                    ));
                }
            },
        };
        Ok(self.objects[object].symbols[symbol].size)
    }

    fn name(&self, target: Target) -> String {
        match target {
            Target::Global(id) => text(self.symbols.get(id).name),
            Target::Local { object, symbol } => text(self.objects[object].symbols[symbol].name),
        }
    }

    fn position(&self, site: &Site<'_>, relocation: Relocation) -> Position {
        place(site.object, site.section, relocation)
    }

    fn out_of_reach(
        &self,
        site: &Site<'_>,
        relocation: Relocation,
        target: Target,
        row: &Row,
        source: RangeError,
    ) -> LoadError {
        let definition = match target {
            Target::Global(id) => self.symbols.get(id).definition,
            Target::Local { object, symbol } => Definition::Object {
                object,
                symbol,
                weak: false,
            },
        };
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
            place: self.position(site, relocation),
            symbol: self.name(target),
            source: Box::new(source),
            advice,
        }
    }

    fn program_symbols(&self) -> HashMap<String, (Address, Option<SectionKind>)> {
        let entry = |(id, global): (GlobalId, &Global<'_>)| {
            let kind = match global.definition {
                Definition::Object { object, symbol, .. } => {
                    let object = &self.objects[object];
                    match object.symbols[symbol].place {
                        Place::Section { index, .. } => {
                            object.sections[index].as_ref().map(|section| section.kind)
                        }
                        _ => None,
                    }
                }
                Definition::Common { .. } => Some(SectionKind::ReadWriteData),
                _ => return None,
            };
            let address = self.address(Target::Global(id), &Tables::default()).ok()?;
            Some((
                String::from_utf8_lossy(global.name).into_owned(),
                (address, kind),
            ))
        };
        self.symbols.iter().filter_map(entry).collect()
    }
}

/// The section that relocations are being applied to.
struct Site<'s> {
    plan: &'s Plan,
    tables: &'s Tables,
    number: usize,
    object: &'s Object<'s>,
    section: &'s Section<'s>,
    address: Address,
}

impl Site<'_> {
    /// The stub that goes on at a target, if the plan made one.
    fn stub(&self, sum: Sum) -> Option<u64> {
        let position = self.plan.stubs.position(sum)?;
        Some(
            self.tables
                .stubs?
                .address
                .wrapping_add((position * STUB_SIZE) as u64)
                .get(),
        )
    }
}

/// Why a symbol has no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unplaced {
    /// Its section belongs to a group of which another copy was kept.
    Discarded,
    Unsupported(&'static str),
}

impl Unplaced {
    fn at(self, place: Position, symbol: String) -> LoadError {
        match self {
            Self::Discarded => LoadError::Discarded { place, symbol },
            Self::Unsupported(what) => LoadError::Unsupported {
                place,
                symbol,
                what: what.into(),
            },
        }
    }
}
