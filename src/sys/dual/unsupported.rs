//! Where no second view is known to be allowed.

use std::ptr::NonNull;

use crate::error::Error;
use crate::kind::SectionKind;
use crate::layout::WindowPlan;
use crate::num::{Address, Span};

/// Cannot exist.
#[derive(Debug)]
pub(crate) enum DualView {}

impl DualView {
    pub(crate) fn map(_plan: &WindowPlan, _executable: Option<u32>) -> Result<Self, Error> {
        Err(Error::Unsupported("code at two addresses"))
    }

    pub(crate) fn address(&self) -> Address {
        match *self {}
    }

    pub(crate) fn reserved(&self) -> usize {
        match *self {}
    }

    pub(crate) fn is_inherited(&self) -> bool {
        match *self {}
    }

    pub(crate) fn returns_pages(&self) -> bool {
        match *self {}
    }

    pub(crate) fn has_huge_pages(&self, _kind: SectionKind) -> bool {
        match *self {}
    }

    pub(crate) fn pointer(&self, _span: Span) -> NonNull<u8> {
        match *self {}
    }

    pub(crate) fn write_pointer(&self, _span: Span) -> NonNull<u8> {
        match *self {}
    }

    pub(crate) fn commit(&self, _pages: Span) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn commit_huge(&self, _unit: Span) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) unsafe fn discard(&self, _pages: Span) -> Result<(), Error> {
        match *self {}
    }
}
