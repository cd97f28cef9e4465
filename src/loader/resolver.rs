//! Where symbols come from that no object defines.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::num::Address;

/// Knows addresses by name. Closures, maps and [`Library`](super::Library) do; a pair, a triple or a slice asks one after the
/// other.
///
/// # Examples
///
/// ```
/// use nearcode::Address;
/// use nearcode::loader::{Library, Resolver};
///
/// extern "C" fn twice(n: i32) -> i32 {
///     2 * n
/// }
///
/// # fn main() -> Result<(), nearcode::loader::LoadError> {
/// let own = |name: &str| match name {
///     "twice" => Some(Address::from(twice as *const ())),
///     _ => None,
/// };
/// let resolver = (own, Library::process()?); // Own functions first, then the process.
/// assert!(resolver.resolve("twice").is_some());
/// # Ok(())
/// # }
/// ```
pub trait Resolver {
    /// The address of symbol `name`, or `None` if it is not known here.
    ///
    /// What is at the address has to stay there for as long as code that was linked to it may run.
    fn resolve(&self, name: &str) -> Option<Address>;
}

impl<F: Fn(&str) -> Option<Address>> Resolver for F {
    fn resolve(&self, name: &str) -> Option<Address> {
        self(name)
    }
}

impl<S: BuildHasher> Resolver for HashMap<String, Address, S> {
    fn resolve(&self, name: &str) -> Option<Address> {
        self.get(name).copied()
    }
}

/// Knows nothing.
impl Resolver for () {
    fn resolve(&self, _name: &str) -> Option<Address> {
        None
    }
}

impl<A: Resolver, B: Resolver> Resolver for (A, B) {
    fn resolve(&self, name: &str) -> Option<Address> {
        self.0.resolve(name).or_else(|| self.1.resolve(name))
    }
}

impl<A: Resolver, B: Resolver, C: Resolver> Resolver for (A, B, C) {
    fn resolve(&self, name: &str) -> Option<Address> {
        self.0
            .resolve(name)
            .or_else(|| self.1.resolve(name))
            .or_else(|| self.2.resolve(name))
    }
}

impl<R: Resolver> Resolver for [R] {
    fn resolve(&self, name: &str) -> Option<Address> {
        self.iter().find_map(|resolver| resolver.resolve(name))
    }
}

impl<R: Resolver> Resolver for Vec<R> {
    fn resolve(&self, name: &str) -> Option<Address> {
        self.as_slice().resolve(name)
    }
}
