//! What has a name, found by it.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Numbers by name, counted from 0. While they are few, all names are looked at: that takes no memory, and no more time.
#[derive(Debug)]
pub(super) struct ByName(Option<Box<Table>>);

#[derive(Debug)]
struct Table {
    numbers: HashTable<u32>,
    hashes: DefaultHashBuilder,
}

impl ByName {
    /// Up to so many are few.
    const FEW: usize = 8;

    /// For up to `capacity` names.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let table = || {
            Box::new(Table {
                numbers: HashTable::with_capacity(capacity),
                hashes: DefaultHashBuilder::default(),
            })
        };
        Self((capacity > Self::FEW).then(table))
    }

    /// Gives `name` the number `next`, unless one of the numbers up to there has it, whose names `name_of` knows: then that is
    /// the result.
    pub(super) fn find_or_insert<'n>(
        &mut self,
        name: &[u8],
        next: u32,
        name_of: impl Fn(u32) -> &'n [u8],
    ) -> Option<u32> {
        let Some(table) = &mut self.0 else {
            return (0..next).find(|&number| name_of(number) == name);
        };
        let hashes = &table.hashes;
        let entry = table.numbers.entry(
            hashes.hash_one(name),
            |&number| name_of(number) == name,
            |&number| hashes.hash_one(name_of(number)),
        );
        match entry {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(place) => {
                place.insert(next);
                None
            }
        }
    }

    /// The one of `count` numbers that has `name`.
    pub(super) fn find<'n>(
        &self,
        name: &[u8],
        count: u32,
        name_of: impl Fn(u32) -> &'n [u8],
    ) -> Option<u32> {
        let is_it = |number: &u32| name_of(*number) == name;
        match &self.0 {
            None => (0..count).find(is_it),
            Some(table) => {
                let hash = table.hashes.hash_one(name);
                table.numbers.find(hash, is_it).copied()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_found_alike() {
        for count in [1, 8, 9, 1000] {
            let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
            let name_of = |number: u32| names[number as usize].as_bytes();
            let mut by_name = ByName::with_capacity(names.len());
            for (number, name) in (0..).zip(&names) {
                let name = name.as_bytes();
                assert_eq!(by_name.find(name, number, name_of), None);
                assert_eq!(by_name.find_or_insert(name, number, name_of), None);
                assert_eq!(by_name.find(name, number + 1, name_of), Some(number));
                let again = by_name.find_or_insert(name, number + 1, name_of);
                assert_eq!(again, Some(number));
            }
            assert_eq!(by_name.find(b"n", count, name_of), None);
        }
    }
}
