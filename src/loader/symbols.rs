//! The program's global symbols: who defines which, which definition counts, and which copy of a section group is kept.

use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;

use super::by_name::ByName;
use super::error::{LoadError, UndefinedSymbol};
use super::object::{Binding, Object, Place, Scope};
use crate::num::{Address, Align};

/// What is a linker's to define: the GOT and the beginning of each thread's block, as both ABIs call them, and the program's handle,
/// as the Itanium C++ ABI does.
const OWN: [(&[u8], Definition); 3] = [
    (b"_GLOBAL_OFFSET_TABLE_", Definition::Got),
    (b"_TLS_MODULE_BASE_", Definition::ThreadBlock),
    (b"__dso_handle", Definition::Handle),
];

/// A symbol, by number: counted object by object. Of global symbols of one name, the first one's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct SymbolId(u32);

impl SymbolId {
    /// Symbol `index` of an object, whoever stands for it.
    pub(super) fn of(object: &Object<'_>, index: usize) -> Self {
        Self((object.first_symbol + index) as u32) // No object is read whose symbols have larger numbers.
    }

    pub(super) fn number(self) -> usize {
        self.0 as usize
    }
}

/// All symbols of the objects of one program.
#[derive(Debug)]
pub(super) struct Symbols {
    /// By number. Only those count that stand for themselves.
    all: Vec<Symbol>,
    /// The global ones that stand for themselves: one for each name.
    globals: SmallVec<[SymbolId; 8]>,
}

#[derive(Debug)]
pub(super) struct Symbol {
    /// Itself, or the first global symbol of the same name.
    stands_for: SymbolId,
    /// The object that it is a symbol of.
    object: usize,
    pub(super) definition: Definition,
    /// Whether something refers to it.
    is_needed: bool,
    /// Whether every object that needs it can do without it.
    weak: bool,
    /// Whether some object says that the program itself defines it.
    pub(super) hidden: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Definition {
    /// By nobody yet.
    None,
    /// By symbol `symbol` of object `object`.
    Object {
        object: usize,
        symbol: usize,
        weak: bool,
    },
    /// Memory that the linker makes, in the reservation of object `object`.
    Common {
        object: usize,
        size: usize,
        align: Align,
    },
    /// The GOT of whichever reservation refers to it.
    Got,
    /// The program's handle.
    Handle,
    /// Where the sections begin that have the name with this number, or where they end.
    Bound { name: usize, is_end: bool },
    /// The program's block of thread-local storage.
    ThreadBlock,
    /// By the resolver.
    Outside(Address),
    /// By nobody, and nobody insists: its address is zero.
    Absent,
}

/// Keeps one copy of each section group: the first. The others' sections are not loaded.
pub(super) fn discard_duplicate_groups(objects: &mut [Object<'_>]) {
    let mut kept = HashSet::new();
    for object in objects {
        for group in &object.groups {
            if !kept.insert(group.signature) {
                for section in group.sections() {
                    object.sections[section] = None;
                }
            }
        }
    }
}

impl Symbols {
    /// Collects the symbols of all objects.
    pub(super) fn collect(objects: &[Object<'_>]) -> Result<Self, LoadError> {
        let symbols = objects.iter().map(|object| object.symbols.len()).sum();
        let globals = objects.iter().map(|object| object.globals).sum();
        let mut all: Vec<Symbol> = Vec::with_capacity(symbols);
        let mut by_name = ByName::with_capacity(globals);
        let mut globals: SmallVec<[SymbolId; 8]> = SmallVec::new();
        for (number, object) in objects.iter().enumerate() {
            for (index, symbol) in object.symbols.iter().enumerate() {
                let own = SymbolId::of(object, index);
                let own_definition = Definition::Object {
                    object: number,
                    symbol: index,
                    weak: symbol.binding == Binding::Weak,
                };
                if symbol.binding == Binding::Local {
                    all.push(Symbol::new(own, number, own_definition));
                    continue;
                }
                all.push(Symbol::new(own, number, Definition::None));
                let next = globals.len() as u32;
                let name_of = |number| name(objects, &all, globals[number as usize]);
                let id = match by_name.find_or_insert(symbol.name(), next, name_of) {
                    Some(first) => globals[first as usize],
                    None => {
                        globals.push(own);
                        own
                    }
                };
                all[own.number()].stands_for = id;
                let global = &mut all[id.number()];
                global.hidden |= symbol.scope == Scope::Program;
                let candidate = match symbol.place {
                    Place::Undefined => {
                        global.weak &= symbol.binding == Binding::Weak;
                        continue;
                    }
                    Place::Section { index, .. } | Place::ThreadLocal { index, .. }
                        if object.sections[index as usize].is_none() =>
                    {
                        global.weak = false; // Discarded: the copy that was kept has to define it.
                        continue;
                    }
                    Place::Common { size, align } => Definition::Common {
                        object: number,
                        size,
                        align,
                    },
                    _ => own_definition,
                };
                global.definition = stronger(global.definition, candidate).ok_or_else(|| {
                    let first = match global.definition {
                        Definition::Object { object, .. } => &objects[object],
                        _ => object,
                    };
                    LoadError::DuplicateSymbol {
                        symbol: text(symbol.name()),
                        first: first.name.clone(),
                        second: object.name.clone(),
                    }
                })?;
            }
        }
        Ok(Self { all, globals })
    }

    /// Defines what no object does and linkers do: their own symbols, and `__start_` and `__stop_` before a name as C has them for where
    /// all sections of that name begin and end. The result is the numbers of these names.
    pub(super) fn define_own<'data>(
        &mut self,
        objects: &[Object<'data>],
    ) -> HashMap<&'data str, usize> {
        let mut names = HashMap::new();
        let mut sections: Option<HashSet<&str>> = None;
        for &id in &self.globals {
            if self.get(id).definition != Definition::None {
                continue;
            }
            let name = self.name(objects, id);
            let definition = &mut self.all[id.number()].definition;
            if let Some((_, own)) = OWN.iter().find(|(own, _)| *own == name) {
                *definition = *own;
                continue;
            }
            let Some((section, is_end)) = bound(name) else {
                continue;
            };
            let sections = sections.get_or_insert_with(|| {
                let sections = objects.iter().flat_map(|object| &object.sections);
                sections.flatten().map(|section| section.name).collect()
            });
            if sections.contains(section) {
                let next = names.len();
                let name = *names.entry(section).or_insert(next);
                *definition = Definition::Bound { name, is_end };
            }
        }
        names
    }

    /// The symbol that stands for symbol `index` of an object.
    pub(super) fn id(&self, object: &Object<'_>, index: usize) -> SymbolId {
        self.all[SymbolId::of(object, index).number()].stands_for
    }

    pub(super) fn get(&self, id: SymbolId) -> &Symbol {
        &self.all[id.number()]
    }

    /// Something refers to it: somebody has to define it.
    pub(super) fn need(&mut self, id: SymbolId) -> &Symbol {
        let symbol = &mut self.all[id.number()];
        symbol.is_needed = true;
        symbol
    }

    /// All global symbols, each once.
    pub(super) fn globals(&self) -> impl Iterator<Item = (SymbolId, &Symbol)> {
        self.globals.iter().map(|&id| (id, self.get(id)))
    }

    /// The name of a symbol.
    pub(super) fn name<'data>(&self, objects: &[Object<'data>], id: SymbolId) -> &'data [u8] {
        name(objects, &self.all, id)
    }

    /// Looks up what no object defines, of the symbols that something refers to.
    ///
    /// # Errors
    ///
    /// [`LoadError::UndefinedSymbols`], with all that are missing.
    pub(super) fn resolve(
        &mut self,
        objects: &[Object<'_>],
        resolve: impl Fn(&str) -> Option<Address>,
    ) -> Result<(), LoadError> {
        let mut missing = Vec::new();
        for &id in &self.globals {
            let symbol = self.get(id);
            if !symbol.is_needed || symbol.definition != Definition::None {
                continue;
            }
            let name = self.name(objects, id);
            let asked = std::str::from_utf8(name).ok().filter(|_| !symbol.hidden);
            let definition = match asked.and_then(&resolve) {
                Some(address) => Definition::Outside(address),
                None if symbol.weak => Definition::Absent,
                None => {
                    missing.push(UndefinedSymbol {
                        symbol: text(name),
                        object: objects[symbol.object].name.clone(),
                        hidden: symbol.hidden,
                    });
                    continue;
                }
            };
            self.all[id.number()].definition = definition;
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(LoadError::UndefinedSymbols(missing))
        }
    }
}

impl Symbol {
    /// One that stands for itself.
    fn new(own: SymbolId, object: usize, definition: Definition) -> Self {
        Self {
            stands_for: own,
            object,
            definition,
            is_needed: false,
            weak: true,
            hidden: false,
        }
    }
}

fn name<'data>(objects: &[Object<'data>], all: &[Symbol], id: SymbolId) -> &'data [u8] {
    let object = &objects[all[id.number()].object];
    object.symbols[id.number() - object.first_symbol].name()
}

/// Of which sections a symbol is the begin, or the end; then this is true.
fn bound(symbol: &[u8]) -> Option<(&str, bool)> {
    let begin = symbol.strip_prefix(b"__start_").map(|name| (name, false));
    let (name, is_end) = begin.or_else(|| Some((symbol.strip_prefix(b"__stop_")?, true)))?;
    let name = std::str::from_utf8(name).ok()?;
    let is_of_c = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.chars().all(is_of_c) && !name.starts_with(|c: char| c.is_ascii_digit());
    (is_name && !name.is_empty()).then_some((name, is_end))
}

/// The definition that counts of two, as linkers agree: a strong one over a common one over a weak one, the first of two
/// equals, the larger of two common ones. `None` for two strong ones.
fn stronger(old: Definition, new: Definition) -> Option<Definition> {
    use Definition::{Common, Object};
    Some(match (old, new) {
        (Object { weak: false, .. }, Object { weak: false, .. }) => return None,
        (
            Common {
                object,
                size,
                align,
            },
            Common {
                size: other_size,
                align: other_align,
                ..
            },
        ) => Common {
            object,
            size: size.max(other_size),
            align: align.max(other_align),
        },
        (Object { weak: true, .. }, Common { .. } | Object { weak: false, .. }) => new,
        (Common { .. }, Object { weak: false, .. }) | (Definition::None, _) => new,
        _ => old,
    })
}

/// A symbol's name for messages, which are one line whatever is in it.
pub(super) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_that_counts() {
        let strong = Definition::Object {
            object: 1,
            symbol: 1,
            weak: false,
        };
        let weak = Definition::Object {
            object: 2,
            symbol: 1,
            weak: true,
        };
        let other_weak = Definition::Object {
            object: 3,
            symbol: 1,
            weak: true,
        };
        let align = |bytes| Align::new(bytes).unwrap();
        let common = |object, size, bytes| Definition::Common {
            object,
            size,
            align: align(bytes),
        };
        for (old, new, expected) in [
            (Definition::None, weak, Some(weak)),
            (strong, strong, None),
            (strong, weak, Some(strong)),
            (weak, strong, Some(strong)),
            (weak, other_weak, Some(weak)),
            (weak, common(4, 8, 8), Some(common(4, 8, 8))),
            (common(4, 8, 8), weak, Some(common(4, 8, 8))),
            (common(4, 8, 8), strong, Some(strong)),
            (strong, common(4, 8, 8), Some(strong)),
            (
                common(4, 8, 64),
                common(5, 100, 4),
                Some(common(4, 100, 64)),
            ),
        ] {
            assert_eq!(stronger(old, new), expected, "{old:?} {new:?}");
        }
    }
}
