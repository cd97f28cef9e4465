//! From plans to a program: memory, contents, GOT, stubs, relocations, finalization.
//!
//! Law: a value is written only if it was checked to fit. Nothing in here is unsafe: sections are slices, addresses numbers.

use std::collections::HashMap;

use super::error::{LoadError, Place as Position};
use super::execute::TrueEhFrames;
use super::machine::{Machine, STUB_SIZE};
use super::object::{Object, Place, Relocation, Section};
use super::plan::{Item, Plan, SLOT_SIZE, Sum, Target, place};
use super::program::{Program, ProgramSection};
use super::relocation::{Operand, Row};
use super::resolver::Resolver;
use super::symbols::{Definition, GlobalId, Symbols, discard_duplicate_groups, text};
use super::{Loader, Placement};
use crate::error::Error;
use crate::id::{ReservationId, SectionId};
use crate::image::Image;
use crate::layout::{AllocationSpace, SectionRequest};
use crate::manager::ReservingMemoryManager;
use crate::num::{Address, Span};
use crate::reach::{RangeError, Value};

/// Makes a program of the loader's objects.
pub(super) fn link(
    loader: Loader<'_>,
    manager: &mut dyn ReservingMemoryManager,
    resolver: &dyn Resolver,
) -> Result<Program, LoadError> {
    let Loader {
        machine,
        placement,
        eh_frames,
        mut objects,
    } = loader;
    discard_duplicate_groups(&mut objects);
    let mut symbols = Symbols::collect(&objects)?;
    let reservations: Vec<Vec<usize>> = match placement {
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

    let mut attempt = Attempt {
        manager,
        reservations: Vec::new(),
    };
    let mut linker = Linker {
        machine,
        objects: &objects,
        symbols: &symbols,
        map: Map::new(&objects),
    };
    let mut sections = Vec::new();
    for plan in &plans {
        let tables = linker.allocate(plan, &mut attempt, &mut sections)?;
        linker.map.tables.push(tables);
    }
    for (plan, tables) in plans.iter().zip(&linker.map.tables) {
        linker.fill(plan, tables, attempt.manager)?;
    }
    if let Some(promise) = eh_frames {
        linker.register_eh_frames(promise, attempt.manager)?;
    }
    let symbols = linker.program_symbols();
    let image = attempt
        .finalize()
        .map_err(|error| with_object(error, &sections))?;
    Ok(Program {
        image,
        symbols,
        sections,
    })
}

/// Reservations that are given up unless they are finalized.
struct Attempt<'m> {
    manager: &'m mut dyn ReservingMemoryManager,
    reservations: Vec<ReservationId>,
}

impl Attempt<'_> {
    fn finalize(mut self) -> Result<Image, Error> {
        let image = self.manager.finalize_memory()?;
        self.reservations.clear();
        Ok(image)
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
        if let Some(table) = sections.iter().find(|known| known.id == section) {
            return LoadError::Malformed {
                object: table.object.clone(),
                reason: format!("{}+{offset:#x}: {reason}", table.name),
            };
        }
    }
    error.into()
}

/// A section in memory.
#[derive(Clone, Copy, Debug)]
struct Placed {
    id: SectionId,
    address: Address,
}

/// What the linker makes for one reservation.
#[derive(Clone, Copy, Debug, Default)]
struct Tables {
    got: Option<Placed>,
    stubs: Option<Placed>,
}

impl Tables {
    /// Where the GOT is that something refers to.
    fn got(&self) -> Address {
        self.got.expect("the plan made a GOT").address
    }
}

/// Where everything is.
#[derive(Debug)]
struct Map {
    /// By object and section index; `None` for what is not loaded.
    sections: Vec<Vec<Option<Placed>>>,
    commons: HashMap<GlobalId, Placed>,
    /// By plan.
    tables: Vec<Tables>,
}

impl Map {
    fn new(objects: &[Object<'_>]) -> Self {
        let sections = objects
            .iter()
            .map(|object| vec![None; object.sections.len()])
            .collect();
        Self {
            sections,
            commons: HashMap::new(),
            tables: Vec::new(),
        }
    }
}

struct Linker<'l, 'data> {
    machine: Machine,
    objects: &'l [Object<'data>],
    symbols: &'l Symbols<'data>,
    map: Map,
}

impl Linker<'_, '_> {
    /// Reserves what the plan needs, and allocates all of it.
    fn allocate(
        &mut self,
        plan: &Plan,
        attempt: &mut Attempt<'_>,
        sections: &mut Vec<ProgramSection>,
    ) -> Result<Tables, LoadError> {
        let requests = plan.requests(self.objects, self.symbols)?;
        let list: Vec<SectionRequest<'_>> = requests.iter().map(|(_, request)| *request).collect();
        let reservation = attempt
            .manager
            .reserve_allocation_space(&AllocationSpace::Sections(&list))
            .map_err(|source| self.not_reserved(plan, &requests, source))?;
        attempt.reservations.push(reservation);
        let mut tables = Tables::default();
        for (item, request) in requests {
            let id = attempt.manager.allocate_section(&request)?;
            let placed = Placed {
                id,
                address: attempt.manager.address(id)?,
            };
            match item {
                Item::Section { object, section } => {
                    self.map.sections[object][section] = Some(placed);
                }
                Item::Common(global) => {
                    self.map.commons.insert(global, placed);
                }
                Item::Got => tables.got = Some(placed),
                Item::Stubs => tables.stubs = Some(placed),
            }
            sections.push(ProgramSection {
                object: self.owner(plan, item).into(),
                name: request.name().into(),
                kind: request.kind(),
                id,
                address: placed.address,
                size: request.size(),
            });
        }
        Ok(tables)
    }

    /// The object that an item is part of or that first needs it; for tables, the first one of the plan.
    fn owner(&self, plan: &Plan, item: Item) -> &str {
        let owner = match item {
            Item::Section { object, .. } => object,
            Item::Common(global) => match self.symbols.get(global).definition {
                Definition::Common { object, .. } => object,
                _ => plan.objects[0],
            },
            Item::Got | Item::Stubs => plan.objects[0],
        };
        &self.objects[owner].name
    }

    fn not_reserved(
        &self,
        plan: &Plan,
        requests: &[(Item, SectionRequest<'_>)],
        source: Error,
    ) -> LoadError {
        let demand = |request: &SectionRequest<'_>| request.size().max(request.align().bytes());
        let most = requests.iter().max_by_key(|(_, request)| demand(request));
        let Some((item, request)) = most else {
            return source.into();
        };
        LoadError::NotReserved {
            object: self.owner(plan, *item).into(),
            section: request.name().into(),
            size: request.size(),
            align: request.align(),
            source: Box::new(source),
        }
    }

    /// Writes contents, GOT and stubs, and applies all relocations.
    fn fill(
        &self,
        plan: &Plan,
        tables: &Tables,
        manager: &mut dyn ReservingMemoryManager,
    ) -> Result<(), LoadError> {
        if let Some(got) = tables.got {
            let bytes = manager.section_mut(got.id)?;
            for (slot, sum) in bytes.chunks_exact_mut(SLOT_SIZE).zip(plan.slots.iter()) {
                slot.copy_from_slice(&self.sum(plan, tables, sum, ".got")?.to_le_bytes());
            }
        }
        if let Some(stubs) = tables.stubs {
            let bytes = manager.section_mut(stubs.id)?;
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
                let bytes = manager.section_mut(placed.id)?;
                // The rest is zero as it comes, and stays untouched: a large .bss costs no memory until it is used.
                bytes[..section.contents.len()].copy_from_slice(section.contents);
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
        let field = field.and_then(|field| bytes.get_mut(field.start()..field.end()));
        let field = field.ok_or_else(|| LoadError::Malformed {
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
        match self.value(site, row, target, relocation.addend, place) {
            Ok(Ok(value)) => row.field.write(field, value),
            Ok(Err(range)) => {
                return Err(self.out_of_reach(site, relocation, target, row.range.value(), range));
            }
            // The record of a function whose copy was not kept: unwinders pass over records that begin at zero.
            Err(Unplaced::Discarded) if site.section.is_eh_frame() => row.field.write(field, 0),
            Err(reason) => {
                return Err(reason.at(self.position(site, relocation), self.name(target)));
            }
        }
        Ok(())
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
            Operand::Symbol | Operand::Branch if self.is_nowhere(row, target) => {
                (place, plus(self.machine.nowhere(place, row.operand)))
            }
            Operand::Symbol | Operand::Branch => (place, plus(symbol()?)),
            Operand::SymbolFromGot => (got(), plus(symbol()?)),
            Operand::SlotPlusAddend => (place, plus(slot((target, 0)))),
            Operand::SlotOfSum => (place, slot((target, addend))),
            Operand::SlotOfSumFromGot => (got(), slot((target, addend))),
            Operand::SlotFromGot => (place, plus(slot((target, 0)).wrapping_sub(got()))),
            Operand::Got => (place, plus(got())),
        };
        let direct = row.range.check(from, to);
        let stub = match (row.operand, direct) {
            (Operand::Branch, Err(_)) => self.stub(site, target, addend),
            _ => None,
        };
        Ok(stub.map_or(direct, |stub| row.range.check(place, stub)))
    }

    /// Whether a relative reference is to a weak symbol that nobody defines.
    fn is_nowhere(&self, row: &Row, target: Target) -> bool {
        let is_absent = |id| self.symbols.get(id).definition == Definition::Absent;
        row.range.value() != Value::Absolute
            && row.range.value() != Value::LowBits
            && matches!(target, Target::Global(id) if is_absent(id))
    }

    /// The stub through which a branch gets to its target, if the plan made one.
    fn stub(&self, site: &Site<'_>, target: Target, addend: i64) -> Option<u64> {
        let usual = self.machine.branch_addend();
        let position = site
            .plan
            .stubs
            .position((target, addend.wrapping_sub(usual)))?;
        let stub = site
            .tables
            .stubs?
            .address
            .wrapping_add((position * STUB_SIZE) as u64);
        Some(stub.wrapping_add(usual as u64).get())
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
        value: Value,
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
        } else if value == Value::Absolute {
            "addresses do not fit into this field here: compile with -fPIC"
        } else if matches!(definition, Definition::Outside(_) | Definition::Absent) {
            "the symbol is not in the program: compile with -fPIC, so that it is reached through the GOT"
        } else if !site.plan.contains(definition) {
            "the symbol is in another reservation: load both objects into one, or into a window"
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

    /// Asks for each object's unwind tables to be registered.
    fn register_eh_frames(
        &self,
        promise: TrueEhFrames,
        manager: &mut dyn ReservingMemoryManager,
    ) -> Result<(), LoadError> {
        for (object, placed) in self.objects.iter().zip(&self.map.sections) {
            for (section, placed) in object.sections.iter().zip(placed) {
                match (section, placed) {
                    (Some(section), Some(placed)) if section.is_eh_frame() => {
                        promise.register(manager, placed.id)?
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn program_symbols(&self) -> HashMap<String, Address> {
        let defined = self.symbols.iter().filter(|(_, global)| {
            matches!(
                global.definition,
                Definition::Object { .. } | Definition::Common { .. }
            )
        });
        let placed = defined.filter_map(|(id, global)| {
            let address = self.address(Target::Global(id), &Tables::default()).ok()?;
            Some((String::from_utf8_lossy(global.name).into_owned(), address))
        });
        placed.collect()
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
