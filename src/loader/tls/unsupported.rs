//! Where nobody knows how threads find their variables.

use super::{Piece, Template};

const REASON: &str = "thread-local storage on this system";

/// There is none.
#[derive(Debug)]
pub(super) enum Module {}

impl Module {
    pub(super) fn dynamic(
        _template: Template,
        _has_descriptors: bool,
    ) -> Result<Self, &'static str> {
        Err(REASON)
    }

    pub(super) fn fixed(_template: Template) -> Result<(Self, isize), &'static str> {
        Err(REASON)
    }

    pub(super) fn begin(&self, _pieces: Vec<Piece>) {
        match *self {}
    }

    pub(super) fn word(&self) -> usize {
        match *self {}
    }

    pub(super) fn blocks(&self) -> usize {
        match *self {}
    }
}

/// Nobody calls it.
pub(super) fn get_address() -> usize {
    0
}

/// Nobody calls it.
pub(super) fn dynamic_descriptor() -> usize {
    0
}

/// Nobody calls it.
pub(super) fn fixed_descriptor() -> usize {
    0
}
