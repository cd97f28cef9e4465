//! Where symbols are, once everything has its place.

use super::error::{LoadError, Place as Position};
use super::memory::Map;
use super::object::{Binding, Object, Place};
use super::symbols::{Definition, SymbolId, Symbols};
use crate::num::Address;

/// Where a symbol is, or why that cannot be said.
pub(super) type Location = Result<Address, Unplaced>;

/// Why a symbol has no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unplaced {
    /// It is the GOT of whoever refers to it.
    Got,
    /// Nobody defines it, and nobody has to. Its address is zero.
    Absent,
    /// Its section belongs to a group of which another copy was kept.
    Discarded,
    Unloaded,
    ThreadLocal,
    /// It is not, but is taken for it.
    NotThreadLocal,
    /// In a block that no object of this program is part of.
    OtherThreadBlock,
    /// No object says how large it is.
    Unsized,
    /// The object does not say where it is.
    Nowhere,
}

impl Unplaced {
    /// The error that it is for a relocation.
    pub(super) fn at(self, place: Position, symbol: String) -> LoadError {
        let what = match self {
            Self::Discarded => return LoadError::Discarded { place, symbol },
            Self::Unloaded => "a reference to a section that is not loaded",
            Self::ThreadLocal => "the address of a thread-local variable, which differs by thread,",
            Self::NotThreadLocal => "thread-local access to a symbol that is not thread-local,",
            Self::OtherThreadBlock => {
                "a thread-local variable that no object of the program defines,"
            }
            Self::Unsized => "the size of a symbol that no object defines",
            Self::Got | Self::Absent | Self::Nowhere => "a local symbol without a place",
        };
        LoadError::Unsupported {
            place,
            symbol,
            what: what.into(),
        }
    }
}

/// Where all symbols are, by number.
pub(super) fn locations(objects: &[Object<'_>], symbols: &Symbols, map: &Map) -> Vec<Location> {
    let count = objects.iter().map(|object| object.symbols.len()).sum();
    let mut locations = Vec::with_capacity(count);
    for object in objects {
        for (index, symbol) in object.symbols.iter().enumerate() {
            let location = match symbol.binding {
                Binding::Local => place(object, index, map),
                Binding::Global | Binding::Weak => {
                    let id = symbols.id(object, index);
                    match locations.get(id.number()) {
                        Some(&location) => location, // A symbol stands only for those that come after it.
                        None => location(id, objects, symbols, map),
                    }
                }
            };
            locations.push(location);
        }
    }
    locations
}

/// Where a global symbol is that stands for itself.
fn location(id: SymbolId, objects: &[Object<'_>], symbols: &Symbols, map: &Map) -> Location {
    match symbols.get(id).definition {
        Definition::Object { object, symbol, .. } => place(&objects[object], symbol, map),
        Definition::Common { .. } => Ok(map.common(id)),
        Definition::Got => Err(Unplaced::Got),
        Definition::Handle => map.handle().ok_or(Unplaced::Nowhere),
        Definition::Bound { name, is_end } => map.bound(name, is_end).ok_or(Unplaced::Nowhere),
        Definition::ThreadBlock => Err(Unplaced::ThreadLocal),
        Definition::Outside(address) => Ok(address),
        Definition::Absent => Err(Unplaced::Absent),
        Definition::None => Err(Unplaced::Nowhere), // Nobody refers to it.
    }
}

/// Where an object says that symbol `index` is.
fn place(object: &Object<'_>, index: usize, map: &Map) -> Location {
    match object.symbols[index].place {
        Place::Absolute(value) => Ok(Address::new(value)),
        Place::Section { index, offset } => {
            let section = map.section(object, index as usize);
            let section = section.ok_or(Unplaced::Discarded)?;
            Ok(section.wrapping_add(offset))
        }
        Place::Unloaded => Err(Unplaced::Unloaded),
        Place::ThreadLocal { .. } => Err(Unplaced::ThreadLocal),
        Place::Indirect { .. } => Ok(map.indirect_stub(SymbolId::of(object, index))),
        Place::Common { .. } | Place::Undefined => Err(Unplaced::Nowhere),
    }
}
