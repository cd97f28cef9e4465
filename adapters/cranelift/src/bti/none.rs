//! Where windows have no landing pads.

/// Whether indirect branches can be kept to landing pads.
pub(crate) fn is_supported() -> bool {
    false
}
