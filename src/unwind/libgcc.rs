//! libgcc takes a whole table and walks it up to its terminator.

use super::table::Record;

/// Whether `.eh_frame` tables can be registered here.
pub(crate) const SUPPORTED: bool = true;

/// What it is told of a record, as offset from the table's start: where the first one is.
pub(super) fn entry_point(record: Record) -> Option<usize> {
    match record {
        Record::Cie(0) => Some(0), // No function comes in front of what it shares.
        Record::Cie(_) | Record::Fde(_) => None,
    }
}

unsafe extern "C" {
    pub(super) fn __register_frame(begin: *const u8);
    pub(super) fn __deregister_frame(begin: *const u8);
}
