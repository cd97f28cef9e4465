//! The three kinds of memory that an object has, and tables with one entry for each.

use std::array::IntoIter;
use std::fmt;
use std::iter::Zip;
use std::ops::{Index, IndexMut};

/// What a section holds, and so which permission its memory ends up with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SectionKind {
    /// Instructions: readable and executable once finalized.
    Code,
    /// Constants, unwind tables, and what is constant once relocated (GOT, `.data.rel.ro`): readable once finalized.
    ReadOnlyData,
    /// Variables: readable and writable, always.
    ReadWriteData,
}

impl SectionKind {
    /// All kinds, in the order in which a block holds them. COFF needs the code to come first.
    pub const ALL: [Self; 3] = [Self::Code, Self::ReadOnlyData, Self::ReadWriteData];
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code => "code",
            Self::ReadOnlyData => "read-only data",
            Self::ReadWriteData => "read-write data",
        })
    }
}

/// One value for each [`SectionKind`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PerKind<T>([T; 3]);

impl<T> PerKind<T> {
    /// The three values, in the order of [`SectionKind::ALL`].
    pub const fn new(code: T, rodata: T, rwdata: T) -> Self {
        Self([code, rodata, rwdata])
    }

    /// Each value turned into another.
    pub fn map<U>(self, turn: impl FnMut(T) -> U) -> PerKind<U> {
        PerKind(self.0.map(turn))
    }

    /// The kinds and their values, in the order of [`SectionKind::ALL`].
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (SectionKind, &T)> {
        SectionKind::ALL.into_iter().zip(&self.0)
    }
}

impl<T> IntoIterator for PerKind<T> {
    type Item = (SectionKind, T);
    type IntoIter = Zip<IntoIter<SectionKind, 3>, IntoIter<T, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        SectionKind::ALL.into_iter().zip(self.0)
    }
}

impl<T> Index<SectionKind> for PerKind<T> {
    type Output = T;

    fn index(&self, kind: SectionKind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> IndexMut<SectionKind> for PerKind<T> {
    fn index_mut(&mut self, kind: SectionKind) -> &mut T {
        &mut self.0[kind as usize]
    }
}
