//! What has a name, found by it.

use std::hash::BuildHasher;

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
            hashbrown::hash_table::Entry::Occupied(known) => Some(*known.get()),
            hashbrown::hash_table::Entry::Vacant(place) => {
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
