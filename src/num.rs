//! Alignments, page sizes, spans and addresses: the numbers that every other room computes with.
//!
//! Law: nothing here wraps around. What does not fit into the machine's numbers is `None` or an [`Error`].

use std::fmt;

use crate::error::Error;

/// A power of two in bytes, from 1 up.
///
/// Kept as its exponent, so an alignment that is no power of two cannot exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Align {
    /// Invariant: below `usize::BITS`, so that the alignment fits into a `usize`.
    exponent: u8,
}

impl Align {
    /// One byte: no constraint.
    pub const ONE: Self = Self { exponent: 0 };

    /// The alignment of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidAlignment`] unless `bytes` is a power of two. Zero is none: a host in whose interface zero means
    /// "no constraint" or "the default" translates it.
    pub const fn new(bytes: usize) -> Result<Self, Error> {
        if bytes.is_power_of_two() {
            Ok(Self {
                exponent: bytes.trailing_zeros() as u8,
            })
        } else {
            Err(Error::InvalidAlignment { value: bytes })
        }
    }

    /// The alignment of a Rust type.
    pub const fn of<T>() -> Self {
        Self {
            exponent: align_of::<T>().trailing_zeros() as u8,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> usize {
        1 << self.exponent
    }

    /// The alignment of 2 to the power `exponent` bytes.
    pub(crate) const fn from_exponent(exponent: u32) -> Self {
        assert!(exponent < usize::BITS, "an alignment fits into a number");
        Self {
            exponent: exponent as u8,
        }
    }

    /// Its logarithm to the base 2.
    pub(crate) const fn exponent(self) -> u32 {
        self.exponent as u32
    }

    /// The smallest multiple that is at least `value`; `None` past the end of the number range.
    pub const fn up(self, value: usize) -> Option<usize> {
        let mask = self.bytes() - 1;
        match value.checked_add(mask) {
            Some(sum) => Some(sum & !mask),
            None => None,
        }
    }

    /// Whether `value` is a multiple.
    pub const fn divides(self, value: usize) -> bool {
        value & (self.bytes() - 1) == 0
    }
}

impl fmt::Debug for Align {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.bytes())
    }
}

/// The size of a page of memory, in bytes: what one permission covers at least.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PageSize(Align);

impl PageSize {
    /// 4 KiB, the smallest page of every supported CPU.
    pub(crate) const MIN: Self = Self(Align { exponent: 12 });

    /// A page of `bytes` bytes; `None` unless that is a power of two of at least 4096.
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let align = Align::new(bytes).ok()?;
        (align >= Self::MIN.0).then_some(Self(align))
    }

    /// In bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.0.bytes()
    }

    /// The same as an alignment.
    pub(crate) const fn align(self) -> Align {
        self.0
    }
}

/// A half-open range of offsets, in bytes. Every range check of the crate is one of its methods.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    /// Invariant: `start <= end`.
    start: usize,
    end: usize,
}

impl Span {
    /// From `start` to `end`; `None` if `end` lies before `start`.
    pub(crate) const fn new(start: usize, end: usize) -> Option<Self> {
        if start <= end {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// `size` bytes from `start`; `None` if their end does not fit into the number range.
    pub(crate) const fn sized(start: usize, size: usize) -> Option<Self> {
        match start.checked_add(size) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// Nothing, at `offset`.
    pub(crate) const fn empty(offset: usize) -> Self {
        Self {
            start: offset,
            end: offset,
        }
    }

    /// The first offset.
    pub(crate) const fn start(self) -> usize {
        self.start
    }

    /// The offset behind the last one.
    pub(crate) const fn end(self) -> usize {
        self.end
    }

    /// In bytes.
    pub(crate) const fn size(self) -> usize {
        self.end - self.start
    }

    /// Whether there is no byte in it.
    pub(crate) const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether all of `other` lies inside.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether a byte lies in both.
    #[cfg(any(test, fuzzing))]
    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end && !self.is_empty() && !other.is_empty()
    }

    /// The first `size` bytes inside whose address is a multiple of `align`, when offset 0 lies at address `origin`.
    pub(crate) fn first_fit(self, size: usize, align: Align, origin: usize) -> Option<Self> {
        let address = align.up(origin.checked_add(self.start)?)?;
        let found = Self::sized(address - origin, size)?;
        self.contains(found).then_some(found)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// Where something lies when the code runs: a number to compute with, not a pointer to read through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(u64);

impl Address {
    /// The address with this number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// As a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// `bytes` further up, modulo 2^64, as the CPU computes.
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl From<u64> for Address {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl<T> From<*const T> for Address {
    /// Where the pointer points to, as for a resolver: `Address::from(function as *const ())`.
    fn from(pointer: *const T) -> Self {
        Self(pointer.addr() as u64)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_are_alignments() {
        for bytes in [0, 3, 6, 12, usize::MAX] {
            assert!(Align::new(bytes).is_err(), "{bytes}");
        }
        for exponent in 0..usize::BITS {
            assert_eq!(Align::new(1 << exponent).unwrap().bytes(), 1 << exponent);
        }
    }

    #[test]
    fn multiples_are_told_from_the_rest() {
        let align = Align::new(8).unwrap();
        for value in 0..64 {
            assert_eq!(align.divides(value), value % 8 == 0, "{value}");
        }
        assert_eq!(format!("{align:?}"), "0x8");
    }

    #[test]
    fn rounding_up_never_wraps() {
        let page = PageSize::MIN.align();
        assert_eq!(page.up(0), Some(0));
        assert_eq!(page.up(1), Some(4096));
        assert_eq!(page.up(4096), Some(4096));
        assert_eq!(page.up(usize::MAX - 4095), Some(usize::MAX - 4095));
        assert_eq!(page.up(usize::MAX - 4094), None);
    }

    #[test]
    fn pages_are_powers_of_two_from_4_kib() {
        for bytes in [0, 1, 2048, 4097, 12288] {
            assert_eq!(PageSize::new(bytes), None, "{bytes}");
        }
        for bytes in [4096, 16384, 65536] {
            assert_eq!(PageSize::new(bytes).unwrap().bytes(), bytes);
        }
    }

    #[test]
    fn numbers_are_shown_in_hexadecimal() {
        let span = Span::new(0x1000, 0x3000).unwrap();
        let address = Address::new(0xabc);
        assert_eq!(
            format!("{span:?} {address:?} {address}"),
            "0x1000..0x3000 0xabc 0xabc"
        );
        assert_eq!(Address::from(0xabc_u64), address);
        assert_eq!(
            Address::from(std::ptr::without_provenance::<u8>(0xabc)),
            address
        );
    }

    #[test]
    fn spans_that_touch_do_not_overlap() {
        let (low, high) = (Span::new(0, 4).unwrap(), Span::new(4, 10).unwrap());
        assert!(!low.overlaps(high));
        assert!(low.overlaps(Span::new(3, 5).unwrap()));
        assert!(
            !low.overlaps(Span::empty(2)),
            "nothing overlaps with nothing"
        );
    }

    #[test]
    fn first_fit_aligns_the_address_and_not_the_offset() {
        let free = Span::new(0x10, 0x100).unwrap();
        let align = Align::new(0x40).unwrap();
        assert_eq!(free.first_fit(8, align, 0x1000), Span::sized(0x40, 8));
        assert_eq!(free.first_fit(8, align, 0x1030), Span::sized(0x10, 8));
        assert_eq!(free.first_fit(0xc1, align, 0x1000), None);
        assert_eq!(free.first_fit(0xc0, align, 0x1000), Span::sized(0x40, 0xc0));
        assert_eq!(free.first_fit(usize::MAX, Align::ONE, 0), None);
        assert_eq!(free.first_fit(1, align, usize::MAX - 0x20), None);
    }
}
