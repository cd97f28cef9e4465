//! The plan of a window: three sub-windows one after the other, with a guard in front of each and behind the last.
//!
//! ```text
//! | guard | code          | guard | read-only data | guard | read-write data | guard |
//! 0       ^ unit                  ^ unit                   ^ unit                    size
//! ```

use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::num::{Align, Span};
use crate::reach::Reach;

/// In what a window is measured, and to what a sub-window's start is aligned: 2 MiB, the strictest alignment of a section.
pub(crate) const UNIT: Align = Align::from_exponent(21);

/// # Errors
///
/// [`Error::AlignmentTooLarge`] for what a window does not keep to, though some places in it are that aligned by luck.
pub(crate) fn check_alignment(align: Align) -> Result<(), Error> {
    if align > UNIT {
        return Err(Error::AlignmentTooLarge { align, limit: UNIT });
    }
    Ok(())
}

/// Bytes of a guard: no access past the end of one sub-window lands in the next. One page, of the largest size there is
/// (64 KiB on AArch64).
pub(crate) const GUARD: usize = 64 << 10;

/// Where in a window everything is going to lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowPlan {
    /// Page-aligned, ascending, apart by guards. The address of offset [`GUARD`] must be a multiple of [`UNIT`].
    pub(crate) arenas: PerKind<Span>,
    /// Of the whole window with its guards, in bytes.
    pub(crate) size: usize,
}

impl WindowPlan {
    /// The largest window of at most `size` bytes, of which at most `code` are for code and guards behind it, and the rest is
    /// one half for each kind of data. `None` where not even one unit for each kind fits.
    pub(crate) fn new(size: usize, code: usize) -> Option<Self> {
        let unit = UNIT.bytes();
        let units = size.min(Self::LARGEST).checked_sub(GUARD)? / unit;
        let code = (code / unit).clamp(1, units.checked_sub(2)?.max(1));
        let rodata = units.checked_sub(code)?.div_ceil(2);
        let rwdata = units
            .checked_sub(code + rodata)
            .filter(|&units| units > 0)?;
        let mut end = GUARD;
        let mut arena = |units: usize| {
            let start = end;
            end += units * unit;
            Span::new(start, end - GUARD).expect("a unit is larger than a guard")
        };
        let arenas = PerKind::new(arena(code), arena(rodata), arena(rwdata));
        Some(Self { arenas, size: end })
    }

    /// The widest window in which every pair of addresses is in reach of every 32-bit relocation.
    pub(crate) const LARGEST: usize = Reach::PREL32.bytes() as usize;

    /// The kind of memory at an offset that lies in a sub-window.
    pub(crate) fn kind_at(&self, offset: usize) -> SectionKind {
        let is_behind = |kind: SectionKind| offset >= self.arenas[kind].start();
        if is_behind(SectionKind::ReadWriteData) {
            SectionKind::ReadWriteData
        } else if is_behind(SectionKind::ReadOnlyData) {
            SectionKind::ReadOnlyData
        } else {
            SectionKind::Code
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    fn check(size: usize, code: usize) -> Option<WindowPlan> {
        let plan = WindowPlan::new(size, code)?;
        assert!(plan.size <= size && plan.size <= WindowPlan::LARGEST);
        assert!(plan.size + UNIT.bytes() > size.min(WindowPlan::LARGEST));
        let mut end = 0;
        for (kind, arena) in plan.arenas.iter() {
            assert_eq!(arena.start(), end + GUARD, "a guard in front of {kind}");
            assert!(UNIT.divides(arena.start() - GUARD));
            assert!(arena.size() >= UNIT.bytes() - GUARD);
            assert_eq!(plan.kind_at(arena.start()), kind);
            assert_eq!(plan.kind_at(arena.end() - 1), kind);
            end = arena.end();
        }
        assert_eq!(end + GUARD, plan.size);
        let code = code.max(UNIT.bytes());
        assert!(plan.arenas[SectionKind::Code].size() < code);
        Some(plan)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sub_windows_are_aligned_and_apart(size in 7 * MIB..5000 * MIB, code in 0..5000 * MIB) {
            prop_assert!(check(size, code).is_some());
        }
    }

    #[test]
    fn the_smallest_window_is_a_unit_for_each_kind_and_a_guard() {
        let least = 3 * UNIT.bytes() + GUARD;
        assert_eq!(check(least, 1).unwrap().size, least);
        for size in [0, 1, GUARD, least - 1] {
            assert_eq!(WindowPlan::new(size, 1), None, "{size}");
        }
    }

    #[test]
    fn a_million_standard_objects_fit_into_the_largest_window() {
        let plan = check(usize::MAX, 1146 * MIB).unwrap();
        let needed = [1184, 416, 48]; // Sections of 1180, 320 + 96 and 40 bytes, in granules.
        for ((_, arena), bytes) in plan.arenas.iter().zip(needed) {
            assert!(arena.size() >= bytes * 1_000_000);
        }
    }
}
