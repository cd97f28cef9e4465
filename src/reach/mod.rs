//! How far each relocation reaches.
//!
//! A relocated field holds some bits of an address or of a distance. A loader that writes a value with
//! more bits than that has made code that jumps, or reads, elsewhere, and nothing tells it so.
//! These tables say what each field holds, exact at both ends, so that it can be checked first:
//!
//! ```text
//! let range = aarch64::range(283)?;     // R_AARCH64_CALL26
//! let x = range.check(place, target)?;  // the distance, or an error that names all of it
//! ```
//!
//! A [`RelocationRange`] accepts X exactly if `min <= X <= max` and X is a multiple of `multiple_of`; and two addresses within
//! [`Reach::PREL32`] of each other satisfy every 32-bit pc-relative row of every architecture. Addresses are numbers here, and
//! are never followed.
// What must not enter: pointers, instruction encodings, other rooms of this crate.

use std::fmt;

pub mod aarch64;
pub mod loongarch64;
pub mod riscv64;
pub mod x86_64;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The cap on the span of a block of memory, in bytes: from its first byte to the one past its last.
///
/// What lies inside one such span reaches whatever else lies inside it.
// Invariant: 1 <= the value <= 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reach(u64);

impl Reach {
    /// 2 GiB - 1 MiB, the default.
    ///
    /// Every signed 32-bit distance holds: `PREL32`, `PLT32` and `GOTPCREL32` of AArch64, `PC32` and
    /// its kin of x86-64. The last MiB is for what is not between the two addresses themselves:
    /// addends, and the 2 KiB by which an `auipc` or `pcalau12i` pair reaches less far up than down.
    pub const PREL32: Reach = Reach(2 * GIB - MIB);

    /// 4 GiB: for code all of whose references have the reach of AArch64's `ADRP`.
    ///
    /// The span has to start on a 4 KiB boundary, since `ADRP` counts 4 KiB pages on every kernel.
    /// Unwind tables (`PREL32`) and GOT references from data (`GOTPCREL32`) do not reach this far.
    pub const ADRP: Reach = Reach(4 * GIB);

    /// A cap of `bytes`; `None` for 0 and for more than 4 GiB, beyond which nothing reaches.
    pub const fn new(bytes: u64) -> Option<Reach> {
        if bytes == 0 || bytes > Reach::ADRP.0 {
            None
        } else {
            Some(Reach(bytes))
        }
    }

    /// The cap in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for Reach {
    /// [`Reach::PREL32`].
    fn default() -> Self {
        Reach::PREL32
    }
}

/// How a relocation computes X, the value that has to fit, from two addresses.
///
/// `target` is S + A, or the GOT entry's address plus A where the relocation goes through the GOT.
/// `place` is P, the address of the relocated field. Arithmetic is modulo 2^64, as the CPUs' is, and
/// the result is read as a signed number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Value {
    /// X = target.
    Absolute,
    /// X = target - place.
    Relative,
    /// X = Page(target) - Page(place), with pages of 4 KiB: AArch64's `ADRP`.
    PageRelative,
    /// X = target - Page(place), with pages of 4 KiB: LoongArch's `pcalau12i` pair.
    FromPage,
    /// X = target & 0xfff: the half of a pair that has nothing to overflow.
    LowBits,
}

impl Value {
    const fn of(self, place: u64, target: u64) -> i64 {
        let x = match self {
            Value::Absolute => target,
            Value::Relative => target.wrapping_sub(place),
            Value::PageRelative => page(target).wrapping_sub(page(place)),
            Value::FromPage => target.wrapping_sub(page(place)),
            Value::LowBits => target & 0xfff,
        };
        x as i64
    }

    const fn noun(self) -> &'static str {
        match self {
            Value::Absolute => "value",
            Value::Relative => "distance",
            Value::PageRelative => "distance between the 4 KiB pages",
            Value::FromPage => "distance from the 4 KiB page",
            Value::LowBits => "low part",
        }
    }
}

const fn page(address: u64) -> u64 {
    address & !0xfff
}

/// The inclusive ends of what a field takes.
#[derive(Clone, Copy)]
struct Bounds {
    min: i64,
    max: i64,
}

/// No check: all 64 bits are stored, or the ABI says that this half must not be checked.
const ANY: Bounds = Bounds {
    min: i64::MIN,
    max: i64::MAX,
};

/// -2^(bits-1) <= X < 2^(bits-1).
const fn signed(bits: u32) -> Bounds {
    Bounds {
        min: -(1 << (bits - 1)),
        max: (1 << (bits - 1)) - 1,
    }
}

/// 0 <= X < 2^bits.
const fn unsigned(bits: u32) -> Bounds {
    Bounds {
        min: 0,
        max: (1 << bits) - 1,
    }
}

/// -2^(bits-1) <= X < 2^bits: what a field holds under one reading or the other.
const fn signed_or_unsigned(bits: u32) -> Bounds {
    Bounds {
        min: signed(bits).min,
        max: unsigned(bits).max,
    }
}

/// What one relocation type can express.
///
/// # Examples
///
/// ```
/// use nearcode::reach::x86_64;
///
/// let range = x86_64::PC32;
/// assert_eq!(range.check(0x1000, 0x3000).unwrap(), 0x2000);
///
/// let error = range.check(0x1000, 0x8000_1000).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "R_X86_64_PC32 at 0x1000 cannot refer to 0x80001000: \
///      the distance 0x80000000 is above the limit 0x7fffffff",
/// );
/// ```
// Invariant: min <= 0 <= max, and multiple_of is a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelocationRange {
    name: &'static str,
    number: u32,
    value: Value,
    min: i64,
    max: i64,
    multiple_of: u64,
}

impl RelocationRange {
    const fn new(name: &'static str, number: u32, value: Value, bounds: Bounds) -> Self {
        RelocationRange {
            name,
            number,
            value,
            min: bounds.min,
            max: bounds.max,
            multiple_of: 1,
        }
    }

    const fn aligned(self, multiple_of: u64) -> Self {
        assert!(multiple_of.is_power_of_two(), "fields drop whole bits");
        RelocationRange {
            multiple_of,
            ..self
        }
    }

    /// The ABI's full name, such as `"R_AARCH64_CALL26"`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The ABI's number: the type in an ELF relocation's `r_info`.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// How X is computed.
    pub const fn value(&self) -> Value {
        self.value
    }

    /// The smallest X that fits; `i64::MIN` if nothing is checked.
    pub const fn min(&self) -> i64 {
        self.min
    }

    /// The largest X that fits (inclusive); `i64::MAX` if nothing is checked.
    pub const fn max(&self) -> i64 {
        self.max
    }

    /// The power of two that X has to be a multiple of, since the field drops the bits below;
    /// 1 if any X will do.
    pub const fn multiple_of(&self) -> u64 {
        self.multiple_of
    }

    /// Returns X, the value to encode, if the field can hold it.
    ///
    /// `place` is the run address of the relocated field, `target` the run address that it refers to,
    /// addend included. For the rows that are relative to the GOT (their documentation says so),
    /// `place` is the GOT's address.
    ///
    /// # Errors
    ///
    /// [`RangeError`] if X is out of range or not aligned as the field needs it.
    pub fn check(&self, place: u64, target: u64) -> Result<i64, RangeError> {
        let x = self.value.of(place, target);
        // In two's complement a power of two divides X exactly if it divides the same bits unsigned.
        let aligned = (x as u64) & (self.multiple_of - 1) == 0;
        if self.min <= x && x <= self.max && aligned {
            Ok(x)
        } else {
            Err(RangeError {
                range: *self,
                place,
                target,
                x,
            })
        }
    }
}

const fn absolute(name: &'static str, number: u32, bounds: Bounds) -> RelocationRange {
    RelocationRange::new(name, number, Value::Absolute, bounds)
}

const fn relative(name: &'static str, number: u32, bounds: Bounds) -> RelocationRange {
    RelocationRange::new(name, number, Value::Relative, bounds)
}

const fn page_relative(name: &'static str, number: u32, bounds: Bounds) -> RelocationRange {
    RelocationRange::new(name, number, Value::PageRelative, bounds)
}

const fn from_page(name: &'static str, number: u32, bounds: Bounds) -> RelocationRange {
    RelocationRange::new(name, number, Value::FromPage, bounds)
}

const fn low_bits(name: &'static str, number: u32) -> RelocationRange {
    RelocationRange::new(name, number, Value::LowBits, ANY)
}

fn find(table: &'static [RelocationRange], number: u32) -> Option<&'static RelocationRange> {
    let index = table.binary_search_by_key(&number, |row| row.number).ok()?;
    table.get(index)
}

/// A relocation that its field cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} at {place:#x} cannot refer to {target:#x}: {}",
    .range.name,
    Broken::new(.range, .x)
)]
pub struct RangeError {
    range: RelocationRange,
    place: u64,
    target: u64,
    x: i64,
}

impl RangeError {
    /// The relocation's full name, such as `"R_AARCH64_CALL26"`.
    pub const fn relocation(&self) -> &'static str {
        self.range.name
    }

    /// The address of the relocated field, or of what the ABI measures from in its place.
    pub const fn place(&self) -> u64 {
        self.place
    }

    /// The address that the field refers to, addend included.
    pub const fn target(&self) -> u64 {
        self.target
    }

    /// X: the distance, or for an absolute relocation the value, that does not fit.
    pub const fn value(&self) -> i64 {
        self.x
    }

    /// The smallest X that would have fitted.
    pub const fn min(&self) -> i64 {
        self.range.min
    }

    /// The largest X that would have fitted (inclusive).
    pub const fn max(&self) -> i64 {
        self.range.max
    }

    /// The power of two that X has to be a multiple of.
    pub const fn multiple_of(&self) -> u64 {
        self.range.multiple_of
    }
}

/// Says which of the limits X breaks. Range comes first: who is out of reach has no use for alignment.
struct Broken<'a> {
    range: &'a RelocationRange,
    x: i64,
}

impl<'a> Broken<'a> {
    fn new(range: &'a RelocationRange, x: &i64) -> Self {
        Broken { range, x: *x }
    }
}

impl fmt::Display for Broken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (noun, x) = (self.range.value.noun(), SignedHex(self.x));
        if self.x < self.range.min {
            let limit = SignedHex(self.range.min);
            write!(f, "the {noun} {x} is below the limit {limit}")
        } else if self.x > self.range.max {
            let limit = SignedHex(self.range.max);
            write!(f, "the {noun} {x} is above the limit {limit}")
        } else {
            let step = self.range.multiple_of;
            write!(f, "the {noun} {x} is not a multiple of {step}")
        }
    }
}

/// `-0x10` where `{:#x}` would print two's complement.
struct SignedHex(i64);

impl fmt::Display for SignedHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

#[cfg(test)]
mod tests;
