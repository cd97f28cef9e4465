//! libgcc takes a whole table and walks it up to its terminator.

use super::Record;

/// Whether `.eh_frame` tables can be registered here.
pub(crate) const SUPPORTED: bool = true;

/// The offsets to register, of a table with these records.
pub(super) fn entry_points(records: &[Record]) -> impl Iterator<Item = usize> {
    (!records.is_empty()).then_some(0).into_iter()
}

unsafe extern "C" {
    pub(super) fn __register_frame(begin: *const u8);
    pub(super) fn __deregister_frame(begin: *const u8);
}
