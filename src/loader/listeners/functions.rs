//! Where the functions of an object's sections are, and how large.

use std::ops::Range;

use crate::loader::object::{Binding, Object, Place};

/// A function, or what goes for one.
#[derive(Debug)]
struct Function<'data> {
    section: usize,
    /// In the section, in bytes.
    offset: u64,
    /// In bytes; 0 for one that goes on until the next one begins.
    size: u64,
    name: &'data [u8],
}

/// The functions of an object, by section and offset, one at each place.
#[derive(Debug)]
pub(super) struct Functions<'data>(Vec<Function<'data>>);

impl<'data> Functions<'data> {
    /// Symbols with a size, and global ones without: what assembly defines. Not labels, and not the marks of the ABI ("$x").
    /// Of several names for one place a global one is taken.
    pub(super) fn new(object: &Object<'data>) -> Self {
        let mut all = Vec::new();
        for symbol in &object.symbols {
            let (Place::Section { index, offset } | Place::Indirect { index, offset }) =
                symbol.place
            else {
                continue;
            };
            let is_local = symbol.binding == Binding::Local;
            if symbol.name().is_empty() || (is_local && symbol.size == 0) {
                continue;
            }
            let function = Function {
                section: index as usize,
                offset,
                size: symbol.size,
                name: symbol.name(),
            };
            all.push((function, is_local));
        }
        all.sort_by_key(|(function, is_local)| (function.section, function.offset, *is_local));
        all.dedup_by_key(|(function, _)| (function.section, function.offset));
        Self(all.into_iter().map(|(function, _)| function).collect())
    }

    /// Those of a section of `size` bytes: names, and where in the section they begin and end. Nothing in what is no section.
    pub(super) fn of_section(
        &self,
        section: Option<usize>,
        size: u64,
    ) -> impl Iterator<Item = (&'data [u8], Range<u64>)> {
        let section = section.unwrap_or(usize::MAX);
        let start = self
            .0
            .partition_point(|function| function.section < section);
        let end = self
            .0
            .partition_point(|function| function.section <= section);
        let all = &self.0[start..end];
        let nexts = all.iter().skip(1).map(|next| next.offset);
        let ends = nexts.chain([size]);
        all.iter().zip(ends).filter_map(move |(function, next)| {
            let end = match function.size {
                0 => next,
                own => function.offset.saturating_add(own),
            };
            let span = function.offset..end.min(size);
            (!span.is_empty()).then_some((function.name, span))
        })
    }
}
