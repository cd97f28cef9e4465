//! LLVM's libunwind (macOS, the BSDs, musl) takes the record of one function at a time.

use super::table::Record;

/// Whether `.eh_frame` tables can be registered here.
pub(crate) const SUPPORTED: bool = true;

/// What it is told of a record, as offset from the table's start.
pub(super) fn entry_point(record: Record) -> Option<usize> {
    match record {
        Record::Fde(offset) => Some(offset),
        Record::Cie(_) => None,
    }
}

unsafe extern "C" {
    pub(super) fn __register_frame(begin: *const u8);
    pub(super) fn __deregister_frame(begin: *const u8);
}
