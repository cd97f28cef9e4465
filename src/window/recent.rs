//! Spans that were given back lately, as they were: an object that goes often makes room for one of its size, which then has it
//! without a search, and where the CPU still remembers it.

use super::sub_window::Taken;
use crate::num::Align;

/// Little memory, not joined with what is free beside it yet: 1 MiB at most.
#[derive(Debug, Default)]
pub(super) struct Recent(Vec<Taken>);

impl Recent {
    /// How many there are at most.
    pub(super) const MOST: usize = 128;

    /// How large each is at most, in bytes.
    pub(super) const LARGEST: usize = 8 << 10;

    pub(super) fn is_full(&self) -> bool {
        self.0.len() == Self::MOST
    }

    /// Invariant: not into a full one, and none that is larger than [`LARGEST`](Self::LARGEST).
    #[inline]
    pub(super) fn put(&mut self, taken: Taken) {
        self.0.push(taken);
    }

    /// The latest, if it is exactly what is asked for: others would have to be looked for.
    #[inline]
    pub(super) fn take(&mut self, size: usize, align: Align) -> Option<Taken> {
        let latest = self.0.last()?.span;
        let fits = latest.size() == size && align.divides(latest.start());
        if fits { self.0.pop() } else { None }
    }

    /// The latest.
    pub(super) fn take_any(&mut self) -> Option<Taken> {
        self.0.pop()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In all.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|taken| taken.span.size()).sum()
    }

    /// Bytes of the heap.
    pub(super) fn bookkeeping(&self) -> usize {
        self.0.capacity() * size_of::<Taken>()
    }
}
