//! Linux on AArch64.

/// Whether indirect branches can be kept to landing pads.
pub(crate) fn is_supported() -> bool {
    std::arch::is_aarch64_feature_detected!("bti")
}
