//! A system without `fork`.

use std::io;

/// Never moves.
pub(crate) fn fork_count() -> u32 {
    0
}

/// Nothing to do.
pub(crate) fn count_forks() -> io::Result<()> {
    Ok(())
}
