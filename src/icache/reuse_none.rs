//! Where each publication makes every core fetch anew: that covers what was freed before it. And where code has only one
//! address: pages that were executable become writable first, for which the system interrupts all cores.

use std::io;

/// Nothing to register.
pub(crate) fn prepare_reuse() -> io::Result<()> {
    Ok(())
}

/// Nothing to do.
pub(crate) fn forget_freed_code() -> io::Result<()> {
    Ok(())
}
