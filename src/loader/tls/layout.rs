//! Where each thread-local section is in a program's block.

use super::super::error::LoadError;
use super::super::location::Unplaced;
use super::super::object::{Object, Place, Section};
use super::super::symbols::{Definition, SymbolId, Symbols};
use crate::num::{Align, Span};

/// The block of a program, as each of its threads has it.
#[derive(Debug)]
pub(in crate::loader) struct Layout {
    /// By number, counted object by object; `None` for what is not thread-local. Empty if nothing is.
    offsets: Vec<Option<usize>>,
    /// In bytes.
    size: usize,
    align: Align,
    /// Whether every variable begins with zero.
    is_zero: bool,
}

impl Layout {
    /// Lays out the thread-local sections of all objects: what has contents first, so that the rest is one stretch of zeros.
    ///
    /// # Errors
    ///
    /// [`LoadError::TooLarge`] if it takes up more than `limit` bytes.
    pub(in crate::loader) fn new(objects: &[Object<'_>], limit: usize) -> Result<Self, LoadError> {
        let mut layout = Self {
            offsets: Vec::new(),
            size: 0,
            align: Align::ONE,
            is_zero: true,
        };
        let sections = objects.iter().flat_map(|object| &object.sections);
        if !sections.flatten().any(|section| section.is_thread_local) {
            return Ok(layout); // As most are.
        }
        for is_empty in [false, true] {
            // As linkers do, which make one section of each: aligned as its strictest part.
            let mut align = Align::ONE;
            for (.., section) in thread_local(objects, is_empty) {
                align = align.max(section.align);
            }
            let aligned = align.up(layout.size).filter(|&size| size <= limit);
            layout.size = aligned.unwrap_or(layout.size); // Else there is one that does not fit.
            for (object, index, section) in thread_local(objects, is_empty) {
                let number = object.first_section + index;
                layout.place(number, section, object, limit)?;
            }
        }
        Ok(layout)
    }

    fn place(
        &mut self,
        number: usize,
        section: &Section<'_>,
        object: &Object<'_>,
        limit: usize,
    ) -> Result<(), LoadError> {
        let offset = section.align.up(self.size);
        let span = offset.and_then(|offset| Span::sized(offset, section.size));
        let span = span.filter(|span| span.end() <= limit);
        let span = span.ok_or_else(|| LoadError::TooLarge {
            object: object.name.clone(),
            section: section.name.into(),
            size: section.size,
            align: section.align,
            needed: self.size.saturating_add(section.size),
            limit,
        })?;
        if self.offsets.len() <= number {
            self.offsets.resize(number + 1, None);
        }
        self.offsets[number] = Some(span.start());
        self.size = span.end();
        self.align = self.align.max(section.align);
        let is_zero = section.contents.iter().all(|&byte| byte == 0);
        self.is_zero &= is_zero && section.relocations().len() == 0;
        Ok(())
    }

    /// In bytes.
    pub(in crate::loader) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn align(&self) -> Align {
        self.align
    }

    pub(super) fn is_zero(&self) -> bool {
        self.is_zero
    }

    /// Where section `index` of an object is in the block, if it is thread-local.
    pub(in crate::loader) fn section(&self, object: &Object<'_>, index: usize) -> Option<usize> {
        let number = object.first_section + index;
        self.offsets.get(number).copied().flatten()
    }

    /// Where a symbol is in the block.
    pub(in crate::loader) fn symbol(
        &self,
        id: SymbolId,
        objects: &[Object<'_>],
        symbols: &Symbols,
    ) -> Result<u64, Unplaced> {
        match symbols.get(id).definition {
            Definition::ThreadBlock => Ok(0),
            Definition::Object { object, symbol, .. } => {
                let object = &objects[object];
                let Place::ThreadLocal { index, offset } = object.symbols[symbol].place else {
                    return Err(Unplaced::NotThreadLocal);
                };
                let section = self.section(object, index as usize);
                let section = section.ok_or(Unplaced::Discarded)?;
                Ok((section as u64).wrapping_add(offset))
            }
            _ => Err(Unplaced::OtherThreadBlock),
        }
    }
}

/// All thread-local sections with contents, or all without: object, index, section.
fn thread_local<'o, 'data>(
    objects: &'o [Object<'data>],
    is_empty: bool,
) -> impl Iterator<Item = (&'o Object<'data>, usize, &'o Section<'data>)> {
    let sections = objects.iter().flat_map(|object| {
        let numbered = object.sections.iter().enumerate();
        numbered.filter_map(move |(index, section)| Some((object, index, section.as_ref()?)))
    });
    sections.filter(move |(.., section)| {
        section.is_thread_local && section.contents.is_empty() == is_empty
    })
}
