//! Names for reservations and for sections in them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A reservation, told from every other one that this process ever made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(u64);

impl ReservationId {
    /// A number that no reservation of this process had before.
    ///
    /// For memory managers outside this crate as well: one manager's identifiers are then foreign to all others.
    pub fn unique() -> Self {
        // 2^64 reservations, one each nanosecond, take 584 years: the counter does not come round.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reservation {}", self.0)
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A section of a reservation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionId {
    reservation: ReservationId,
    index: usize,
}

impl SectionId {
    /// The section that was allocated as number `index`, counted from 0, in `reservation`.
    pub const fn new(reservation: ReservationId, index: usize) -> Self {
        Self { reservation, index }
    }

    /// The reservation that it was allocated from.
    pub const fn reservation(self) -> ReservationId {
        self.reservation
    }

    /// Its number there, counted from 0.
    pub const fn index(self) -> usize {
        self.index
    }
}

impl fmt::Debug for SectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "section {} of {}", self.index, self.reservation)
    }
}

impl fmt::Display for SectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
