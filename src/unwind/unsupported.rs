//! Windows unwinds by tables of another form; none can be registered here.

use super::table::Record;

/// Whether `.eh_frame` tables can be registered here.
pub(crate) const SUPPORTED: bool = false;

/// Nothing to register.
pub(super) fn entry_point(_record: Record) -> Option<usize> {
    None
}

/// Never called, since there is no entry point.
pub(super) unsafe fn __register_frame(_begin: *const u8) {}

/// Never called, since there is no entry point.
pub(super) unsafe fn __deregister_frame(_begin: *const u8) {}
