//! Where no page is cleared by `fork`: the process number.

use crate::error::Error;

/// Tells whether the process that looks is the one that made it.
#[derive(Debug)]
pub(crate) struct ForkMark(u32);

impl ForkMark {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self(std::process::id()))
    }

    /// Whether this process inherited the mark by `fork`.
    pub(crate) fn is_inherited(&self) -> bool {
        std::process::id() != self.0
    }
}
