//! The books: what all reservations and images of one source take together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kind::PerKind;

/// What the memory managers that share a source have in use. All sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub(crate) in_flight: usize,
    pub(crate) objects: usize,
    pub(crate) asked: usize,
    pub(crate) granted: usize,
    pub(crate) committed: usize,
    pub(crate) reserved: usize,
    pub(crate) mappings: usize,
    pub(crate) retired: usize,
    pub(crate) frozen: usize,
    pub(crate) free: PerKind<usize>,
    pub(crate) largest_free: PerKind<usize>,
    pub(crate) bookkeeping: usize,
}

impl Stats {
    /// Reservations that are being filled.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Reservations that were finalized and are alive.
    pub const fn objects(&self) -> usize {
        self.objects
    }

    /// The sizes of all sections, with their terminators; of what is in flight, as announced.
    pub const fn asked(&self) -> usize {
        self.asked
    }

    /// What was handed out to hold them: whole blocks, or spans of a window.
    pub const fn granted(&self) -> usize {
        self.granted
    }

    /// The pages that they reach into; of what is in flight, as announced. In a window: all pages that have memory, also free
    /// ones that are kept for what comes.
    pub const fn committed(&self) -> usize {
        self.committed
    }

    /// What is taken of the address space; of a window at two addresses, for both.
    pub const fn reserved(&self) -> usize {
        self.reserved
    }

    /// Committed and not asked for: padding, rounding, headroom in use, and in a window what is free and kept.
    pub const fn wasted(&self) -> usize {
        self.committed.saturating_sub(self.asked)
    }

    /// In a window: code that was dropped and waits until no core remembers it.
    pub const fn retired(&self) -> usize {
        self.retired
    }

    /// In a window: code and read-only data that was dropped and is not used again, since a child of `fork` may run it.
    pub const fn frozen(&self) -> usize {
        self.frozen
    }

    /// In a window: what it keeps on the heap to know all this, outside of the memory that it manages.
    pub const fn bookkeeping(&self) -> usize {
        self.bookkeeping
    }

    /// In a window: what can still be granted, by kind.
    pub const fn free(&self) -> &PerKind<usize> {
        &self.free
    }

    /// In a window: what can still be granted in one piece, by kind; at most a 64th more could.
    pub const fn largest_free(&self) -> &PerKind<usize> {
        &self.largest_free
    }

    /// Kernel mappings, counted as if none merged with a neighbour.
    pub const fn mappings(&self) -> usize {
        self.mappings
    }

    /// The same change, counted by count, made to `self` as from `old` to `new`.
    fn replace(&mut self, old: &Self, new: &Self) {
        let change = |total: &mut usize, old: usize, new: usize| *total = *total - old + new;
        change(&mut self.in_flight, old.in_flight, new.in_flight);
        change(&mut self.objects, old.objects, new.objects);
        change(&mut self.asked, old.asked, new.asked);
        change(&mut self.granted, old.granted, new.granted);
        change(&mut self.committed, old.committed, new.committed);
        change(&mut self.reserved, old.reserved, new.reserved);
        change(&mut self.mappings, old.mappings, new.mappings);
    }
}

/// The sum of all open accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Stats>>);

impl Ledger {
    /// All accounts together, at one moment.
    pub(crate) fn total(&self) -> Stats {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        // A panic elsewhere cannot leave a sum half made: nothing panics between two counts.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one reservation contributes to the ledger, from its first mapping until its memory is gone.
///
/// Invariant: the ledger contains `entry`.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Ledger,
    entry: Stats,
}

impl Account {
    pub(crate) fn open(ledger: &Ledger, entry: Stats) -> Self {
        ledger.lock().replace(&Stats::default(), &entry);
        Self {
            ledger: ledger.clone(),
            entry,
        }
    }

    /// Changes what the account contributes.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Stats)) {
        let old = self.entry;
        change(&mut self.entry);
        self.ledger.lock().replace(&old, &self.entry);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.ledger.lock().replace(&self.entry, &Stats::default());
    }
}
