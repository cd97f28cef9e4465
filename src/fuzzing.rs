//! Doors for the fuzz targets to rooms that nobody else enters. Not there unless a fuzzer builds the crate.

use crate::layout::Packing;
use crate::window::History;

/// Any plan of a block, and any sections in it.
pub fn layout(bytes: &[u8]) {
    Packing::read(bytes).check();
}

/// Any history of the spans of a sub-window.
pub fn spans(bytes: &[u8]) {
    History::read(bytes).check();
}
