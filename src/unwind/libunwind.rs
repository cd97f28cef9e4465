//! LLVM's libunwind (macOS, the BSDs, musl) takes the record of one function at a time.

use super::Record;

/// Whether `.eh_frame` tables can be registered here.
pub(crate) const SUPPORTED: bool = true;

/// The offsets to register, of a table with these records.
pub(super) fn entry_points(records: &[Record]) -> impl Iterator<Item = usize> {
    records.iter().filter_map(|record| match record {
        Record::Fde(offset) => Some(*offset),
        Record::Cie(_) => None,
    })
}

unsafe extern "C" {
    pub(super) fn __register_frame(begin: *const u8);
    pub(super) fn __deregister_frame(begin: *const u8);
}
