//! From objects to a program: plans, symbols, memory, contents, finalization.

use smallvec::SmallVec;

use super::automatic::{Automatic, Indirect};
use super::error::LoadError;
use super::execute::{AT_THREAD_END, Life, TrueEhFrames, at_thread_end};
use super::fill::Linker;
use super::item::{Content, Item};
use super::location::locations;
use super::machine::Machine;
use super::memory::{Attempt, Map, check_names};
use super::object::Place;
use super::plan::Plan;
use super::program::{Needs, Program, Symbol};
use super::resolver::Resolver;
use super::symbols::{Definition, SymbolId, Symbols, discard_duplicate_groups};
use super::{Loader, Placement, tls};
use crate::error::Error;
use crate::kind::SectionKind;
use crate::manager::ReservingMemoryManager;
use crate::num::Address;

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
        sections,
        max_bytes,
        mut objects,
        earlier,
        elsewhere,
        listeners,
    } = loader;
    if elsewhere.is_some() && eh_frames.is_some() {
        return Err(Error::Unsupported("unwinding in another address space").into());
    }
    let runs_here = elsewhere.is_none() && Some(machine) == Machine::HOST;
    listeners.gdb.check(runs_here)?;
    listeners.perf.check(runs_here)?;
    discard_duplicate_groups(&mut objects);
    check_names(&objects, max_bytes)?;
    let mut symbols = Symbols::collect(&objects)?;
    let bounds = symbols.define_own(&objects);
    let layout = tls::Layout::new(&objects, max_bytes)?;
    let together = match placement {
        Placement::Together => objects.len(),
        Placement::PerObject => 1,
    };
    let starts = (0..objects.len()).step_by(together.max(1));
    let mut plans: SmallVec<[Plan<'_>; 1]> = SmallVec::with_capacity(starts.len());
    for start in starts {
        let members = start..start + together;
        let plan = Plan::new(members, &objects, &mut symbols, &bounds, &layout, machine)?;
        plans.push(plan);
    }
    let home = match elsewhere {
        None => tls::Home::Here(machine),
        Some(_) => tls::Home::Elsewhere,
    };
    let storage = tls::Storage::claim(home, &layout, &plans)?;
    symbols.resolve(&objects, |name| {
        let own = match name {
            tls::GET_ADDRESS => storage.as_ref().map(tls::Storage::get_address),
            AT_THREAD_END if runs_here => Some(at_thread_end()),
            _ => None,
        };
        let earlier = || earlier.iter().find_map(|program| program.exported(name));
        let known = own.or_else(earlier);
        known.or_else(|| resolver.resolve(name))
    })?;
    if let Some(first) = plans.iter_mut().find(|plan| plan.names_the_handle) {
        first.add_handle();
    }
    for common in symbols.globals().filter_map(common) {
        plans[common.object / together].items.push(common);
    }

    let mut attempt = Attempt::new(manager, elsewhere);
    let map = Map::allocate(
        &mut plans,
        &objects,
        bounds.len(),
        &mut attempt,
        sections,
        max_bytes,
    )?;
    let linker = Linker {
        machine,
        objects: &objects,
        symbols: &symbols,
        plans: &plans,
        map: &map,
        locations: locations(&objects, &symbols, &map),
        layout: &layout,
        storage: storage.as_ref(),
    };
    for plan in &plans {
        linker.fill(plan, attempt.manager)?;
        if let (Some(promise), Some(table)) = (eh_frames, plan.unwind_table()) {
            promise.register(attempt.manager, table.id)?;
        }
    }
    listeners.perf.write(&objects, &plans, attempt.manager)?;
    let image = attempt.finalize(&objects, &plans)?;
    let debuggers = (listeners.gdb).register(&objects, &map, &linker.locations)?;
    if let Some(storage) = &storage {
        storage.begin(&layout, &objects, &plans);
    }
    let known = linker.program_symbols();
    let mut program = Program::new(image, runs_here, &objects, &plans, known);
    program.debuggers = debuggers;
    if runs_here {
        program.life = Life::of(linker.automatic());
    }
    program.needs = Needs::of(storage, earlier);
    Ok(program)
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
        content: Content::Common(id),
        object,
        name: "COMMON",
        kind: SectionKind::ReadWriteData,
        size,
        align,
        bounds: None,
        piece: 0,
        offset: 0,
        address: Address::new(0),
    })
}

impl<'data> Linker<'_, 'data> {
    /// What runs by itself.
    fn automatic(&self) -> Automatic {
        let items = || self.plans.iter().flat_map(|plan| &plan.items);
        let indirect = items().filter_map(|item| match item.content {
            Content::IndirectSlot(symbol) => Some(Indirect {
                resolver: self.resolver(item.object, symbol)?,
                slot: item.address,
            }),
            _ => None,
        });
        Automatic {
            indirect: indirect.collect(),
            handle: self.map.handle(),
            ..Automatic::arrays(items())
        }
    }

    /// The function that says where an indirect function of an object is.
    fn resolver(&self, object: usize, symbol: SymbolId) -> Option<Address> {
        let object = &self.objects[object];
        match object.symbols[symbol.number() - object.first_symbol].place {
            Place::Indirect { index, offset } => {
                let section = self.map.section(object, index as usize)?;
                Some(section.wrapping_add(offset))
            }
            _ => None,
        }
    }

    /// The global symbols that the objects define, with their names.
    fn program_symbols(&self) -> impl Iterator<Item = (&'data [u8], Symbol)> {
        self.symbols.globals().filter_map(|(id, symbol)| {
            let kind = match symbol.definition {
                Definition::Object { object, symbol, .. } => {
                    let object = &self.objects[object];
                    match object.symbols[symbol].place {
                        Place::Section { index, .. } | Place::Indirect { index, .. } => {
                            let section = object.sections[index as usize].as_ref();
                            section.map(|section| section.kind)
                        }
                        _ => None,
                    }
                }
                Definition::Common { .. } => Some(SectionKind::ReadWriteData),
                _ => return None,
            };
            let symbol = Symbol {
                address: self.locations[id.number()].ok()?,
                kind,
                is_hidden: symbol.hidden,
            };
            Some((self.symbols.name(self.objects, id), symbol))
        })
    }
}
