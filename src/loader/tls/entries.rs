//! The GOT entries through which a reservation's code finds thread-local variables.

use std::ops::Range;

use super::super::error::{LoadError, Place};
use super::super::plan::{Once, Sum};
use super::super::relocation::Operand;
use super::storage::Storage;

/// A kind of entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::loader) enum Entry {
    /// Module and offset of a variable, for a function that is called with it.
    Pair,
    /// The same of the block's beginning.
    Module,
    /// A function that finds a variable, and what it needs for that.
    Descriptor,
    /// A variable's offset from the thread pointer.
    Offset,
}

impl Entry {
    /// In words.
    const fn words(self) -> usize {
        match self {
            Self::Pair | Self::Module => 2,
            Self::Descriptor => 3,
            Self::Offset => 1,
        }
    }
}

const WORD: usize = size_of::<u64>();

/// Where something refers to thread-local storage, and to which symbol, for messages.
pub(in crate::loader) type Reference = (Place, String);

/// What the code of one reservation needs of thread-local storage.
#[derive(Debug)]
pub(in crate::loader) struct Needs {
    /// The first reference of all, and the first one to a fixed offset from the thread pointer.
    pub(super) first: Reference,
    pub(super) first_static: Option<Reference>,
    module: bool,
    pairs: Once,
    descriptors: Once,
    offsets: Once,
}

impl Needs {
    /// `symbols`: the numbers of those of the objects that ask. `first` is the first reference.
    pub(in crate::loader) fn new(symbols: Range<usize>, first: Reference) -> Self {
        Self {
            first,
            first_static: None,
            module: false,
            pairs: Once::new(symbols.clone()),
            descriptors: Once::new(symbols.clone()),
            offsets: Once::new(symbols),
        }
    }

    /// Notes what a relocation asks for; `reference` says where it is.
    pub(in crate::loader) fn note(
        &mut self,
        operand: Operand,
        sum: Sum,
        reference: impl Fn() -> Reference,
    ) {
        let (symbol, addend) = sum;
        match operand {
            Operand::ThreadEntry(entry) => self.need(entry, (symbol, 0)),
            Operand::ThreadEntryOfSum(entry) | Operand::ThreadEntryOfSumFromGot(entry) => {
                self.need(entry, (symbol, addend));
            }
            _ => {}
        }
        if operand.is_static() {
            self.first_static.get_or_insert_with(reference);
        }
    }

    fn need(&mut self, entry: Entry, sum: Sum) {
        match entry {
            Entry::Module => self.module = true,
            Entry::Pair => self.pairs.need(sum),
            Entry::Descriptor => self.descriptors.need(sum),
            Entry::Offset => self.offsets.need(sum),
        }
    }

    /// Whether there is a descriptor.
    pub(super) fn has_descriptors(&self) -> bool {
        self.descriptors.iter().len() > 0
    }

    /// How many words all entries take up.
    pub(in crate::loader) fn words(&self) -> usize {
        self.start(Entry::Offset) + self.offsets.iter().len() * Entry::Offset.words()
    }

    /// Where the entries of a kind begin, in words.
    fn start(&self, entry: Entry) -> usize {
        let end = |before: Entry, count: usize| self.start(before) + count * before.words();
        match entry {
            Entry::Module => 0,
            Entry::Pair => end(Entry::Module, self.module.into()),
            Entry::Descriptor => end(Entry::Pair, self.pairs.iter().len()),
            Entry::Offset => end(Entry::Descriptor, self.descriptors.iter().len()),
        }
    }

    /// Where the entry for a sum is, in bytes from the first one, if it was asked for.
    pub(in crate::loader) fn position(&self, entry: Entry, sum: Sum) -> Option<usize> {
        let position = match entry {
            Entry::Module => self.module.then_some(0),
            Entry::Pair => self.pairs.position(sum),
            Entry::Descriptor => self.descriptors.position(sum),
            Entry::Offset => self.offsets.position(sum),
        };
        Some((self.start(entry) + position? * entry.words()) * WORD)
    }

    /// Writes all entries. `offset` says where in the block a sum is.
    pub(in crate::loader) fn write(
        &self,
        bytes: &mut [u8],
        storage: &Storage,
        offset: impl Fn(Sum) -> Result<u64, LoadError>,
    ) -> Result<(), LoadError> {
        let mut words: Vec<u64> = Vec::with_capacity(self.words());
        if self.module {
            words.extend(storage.pair(0));
        }
        for sum in self.pairs.iter() {
            words.extend(storage.pair(offset(sum)?));
        }
        for sum in self.descriptors.iter() {
            words.extend(storage.descriptor(offset(sum)?));
        }
        for sum in self.offsets.iter() {
            words.push(storage.thread_offset().wrapping_add(offset(sum)?));
        }
        for (place, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }
}
