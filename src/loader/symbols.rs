//! The program's global symbols: who defines which, which definition counts, and which copy of a section group is kept.

use std::collections::{HashMap, HashSet};

use super::error::{LoadError, UndefinedSymbol};
use super::object::{Binding, Object, Place, Scope};
use super::resolver::Resolver;
use crate::num::{Address, Align};

/// What both ABIs call the GOT; a linker's to define.
const GOT: &[u8] = b"_GLOBAL_OFFSET_TABLE_";

/// A global symbol, as index into [`Symbols::globals`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct GlobalId(usize);

/// All global symbols of the objects of one program.
#[derive(Debug)]
pub(super) struct Symbols<'data> {
    globals: Vec<Global<'data>>,
    /// By object and symbol index; `None` for local symbols.
    of_objects: Vec<Vec<Option<GlobalId>>>,
}

/// A name that all objects share.
#[derive(Debug)]
pub(super) struct Global<'data> {
    pub(super) name: &'data [u8],
    pub(super) definition: Definition,
    /// The first object that names it.
    first: usize,
    /// Whether every object that needs it can do without it.
    weak: bool,
    /// Whether some object says that the program itself defines it.
    hidden: bool,
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
                for &section in &group.sections {
                    object.sections[section] = None;
                }
            }
        }
    }
}

impl<'data> Symbols<'data> {
    /// Collects the symbols of all objects.
    pub(super) fn collect(objects: &[Object<'data>]) -> Result<Self, LoadError> {
        let mut by_name: HashMap<&'data [u8], GlobalId> = HashMap::new();
        let mut globals: Vec<Global<'data>> = Vec::new();
        let mut of_objects = Vec::with_capacity(objects.len());
        for (number, object) in objects.iter().enumerate() {
            let mut of_object = Vec::with_capacity(object.symbols.len());
            for (index, symbol) in object.symbols.iter().enumerate() {
                if symbol.binding == Binding::Local {
                    of_object.push(None);
                    continue;
                }
                let id = *by_name.entry(symbol.name).or_insert_with(|| {
                    let definition = Definition::None;
                    globals.push(Global {
                        name: symbol.name,
                        definition,
                        first: number,
                        weak: true,
                        hidden: false,
                    });
                    GlobalId(globals.len() - 1)
                });
                of_object.push(Some(id));
                let global = &mut globals[id.0];
                global.hidden |= symbol.scope == Scope::Program;
                let weak = symbol.binding == Binding::Weak;
                let candidate = match symbol.place {
                    Place::Undefined => {
                        global.weak &= weak;
                        continue;
                    }
                    Place::Section { index, .. } if object.sections[index].is_none() => {
                        global.weak = false; // Discarded: the copy that was kept has to define it.
                        continue;
                    }
                    Place::Common { size, align } => Definition::Common {
                        object: number,
                        size,
                        align,
                    },
                    _ => Definition::Object {
                        object: number,
                        symbol: index,
                        weak,
                    },
                };
                global.definition = stronger(global.definition, candidate).ok_or_else(|| {
                    let first = match global.definition {
                        Definition::Object { object, .. } => &objects[object],
                        _ => object,
                    };
                    LoadError::DuplicateSymbol {
                        symbol: text(symbol.name),
                        first: first.name.clone(),
                        second: object.name.clone(),
                    }
                })?;
            }
            of_objects.push(of_object);
        }
        if let Some(&GlobalId(got)) = by_name.get(GOT) {
            let definition = &mut globals[got].definition;
            if *definition == Definition::None {
                *definition = Definition::Got;
            }
        }
        Ok(Self {
            globals,
            of_objects,
        })
    }

    /// The global symbol that an object's symbol stands for; `None` for a local one.
    pub(super) fn global(&self, object: usize, symbol: usize) -> Option<GlobalId> {
        self.of_objects[object][symbol]
    }

    pub(super) fn get(&self, id: GlobalId) -> &Global<'data> {
        &self.globals[id.0]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (GlobalId, &Global<'data>)> {
        self.globals
            .iter()
            .enumerate()
            .map(|(index, global)| (GlobalId(index), global))
    }

    /// Looks up what no object defines, of the symbols that something refers to.
    ///
    /// # Errors
    ///
    /// [`LoadError::UndefinedSymbols`], with all that are missing.
    pub(super) fn resolve(
        &mut self,
        referenced: &HashSet<GlobalId>,
        objects: &[Object<'_>],
        resolver: &dyn Resolver,
    ) -> Result<(), LoadError> {
        let mut missing = Vec::new();
        for (index, global) in self.globals.iter_mut().enumerate() {
            if global.definition != Definition::None || !referenced.contains(&GlobalId(index)) {
                continue;
            }
            let name = std::str::from_utf8(global.name)
                .ok()
                .filter(|_| !global.hidden);
            global.definition = match name.and_then(|name| resolver.resolve(name)) {
                Some(address) => Definition::Outside(address),
                None if global.weak => Definition::Absent,
                None => {
                    let object = objects[global.first].name.clone();
                    missing.push(UndefinedSymbol {
                        symbol: text(global.name),
                        object,
                        hidden: global.hidden,
                    });
                    continue;
                }
            };
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(LoadError::UndefinedSymbols(missing))
        }
    }
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
