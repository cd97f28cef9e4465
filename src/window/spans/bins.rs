//! Which free spans are how large: a list for each size or range of sizes, and bits that say which lists have any.

use std::mem;

use super::nodes::ROOT;

/// The bin of free spans of `size` granules: exact below 128, then 64 bins from each power of two to the next.
pub(super) fn bin_of(size: u32) -> u32 {
    let shift = (size | 127).ilog2() - 6;
    shift * 64 + (size >> shift)
}

/// The lowest bin that has only spans of at least `size` granules.
pub(super) fn bin_for(size: u32) -> u32 {
    let shift = (size | 127).ilog2() - 6;
    bin_of(size + (1 << shift) - 1)
}

/// The first free span of each bin, and which bins have any.
pub(super) struct Bins {
    /// Invariant: bit r is set if a bin of row r is filled.
    filled: u32,
    /// Invariant: up to the row of the largest size.
    rows: Box<[Row]>,
}

#[derive(Clone)]
struct Row {
    /// Invariant: bit c is set if bin c has a span.
    filled: u64,
    firsts: [u32; 64],
}

impl Bins {
    pub(super) fn new(largest: u32) -> Self {
        let row = Row {
            filled: 0,
            firsts: [ROOT; 64],
        };
        Self {
            filled: 0,
            rows: vec![row; bin_of(largest) as usize / 64 + 1].into(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    pub(super) fn first(&self, bin: u32) -> u32 {
        self.rows[bin as usize / 64].firsts[bin as usize % 64]
    }

    /// Returns the one that was first.
    pub(super) fn set_first(&mut self, bin: u32, node: u32) -> u32 {
        let row = &mut self.rows[bin as usize / 64];
        let first = mem::replace(&mut row.firsts[bin as usize % 64], node);
        let (bit, row_bit) = (1 << (bin % 64), 1 << (bin / 64));
        if node != ROOT {
            row.filled |= bit;
            self.filled |= row_bit;
        } else {
            row.filled &= !bit;
            if row.filled == 0 {
                self.filled &= !row_bit;
            }
        }
        first
    }

    /// The lowest filled bin from `bin` up.
    pub(super) fn at_least(&self, bin: u32) -> Option<u32> {
        let row = bin / 64;
        let own = self.rows.get(row as usize)?.filled & (u64::MAX << (bin % 64));
        if own != 0 {
            return Some(row * 64 + own.trailing_zeros());
        }
        let higher = self.filled & (u32::MAX << row << 1);
        let row = (higher != 0).then(|| higher.trailing_zeros())?;
        Some(row * 64 + self.rows[row as usize].filled.trailing_zeros())
    }

    /// The highest filled bin.
    pub(super) fn last(&self) -> Option<u32> {
        let row = self.filled.checked_ilog2()?;
        Some(row * 64 + self.rows[row as usize].filled.ilog2())
    }

    pub(super) fn bookkeeping(&self) -> usize {
        size_of_val(&*self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_exact_below_128_and_a_64th_wide_from_there() {
        let mut least = vec![0];
        for size in 1..100_000 {
            let bin = bin_of(size) as usize;
            if bin == least.len() {
                least.push(size);
            }
            assert_eq!(bin, least.len() - 1, "sizes in order fill bins in order");
            assert!(size < 128 || (size - least[bin]) * 64 < least[bin]);
            assert!(size >= 128 || size == least[bin]);
        }
        for size in 1..50_000 {
            let lowest = least.partition_point(|least| *least < size);
            assert_eq!(bin_for(size) as usize, lowest, "{size}");
        }
    }

    #[test]
    fn the_largest_sub_window_takes_six_kilobytes_of_bins() {
        let largest = (1 << 28) - 1;
        assert_eq!(bin_of(largest), 23 * 64 - 1);
        assert_eq!(Bins::new(largest).bookkeeping(), 23 * (8 + 64 * 4));
    }

    #[test]
    fn the_nearest_filled_bin_is_found_across_rows() {
        let mut bins = Bins::new(100_000);
        assert_eq!((bins.at_least(0), bins.last()), (None, None));
        for (bin, node) in [(5, 1), (63, 2), (64, 3), (300, 4)] {
            assert_eq!(bins.set_first(bin, node), ROOT);
        }
        for (bin, found) in [(0, 5), (5, 5), (6, 63), (64, 64), (65, 300), (300, 300)] {
            assert_eq!(bins.at_least(bin), Some(found));
        }
        assert_eq!(bins.at_least(301), None);
        assert_eq!(bins.at_least(24 * 64), None, "of a row that is not there");
        assert_eq!(bins.set_first(300, ROOT), 4);
        assert_eq!((bins.at_least(65), bins.last()), (None, Some(64)));
    }
}
