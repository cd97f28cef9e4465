//! The functions of TLS descriptors, which are in assembly: each CPU's file has them.
#![allow(unsafe_code)] // Declares them.

unsafe extern "C" {
    #[link_name = symbol!("dynamic_descriptor")]
    fn dynamic();
    #[link_name = symbol!("fixed_descriptor")]
    fn fixed();
}

/// The function of a descriptor with module and offset.
pub(in crate::loader::tls) fn dynamic_descriptor() -> usize {
    dynamic as unsafe extern "C" fn() as usize
}

/// The function of a descriptor with the offset from the thread pointer.
pub(in crate::loader::tls) fn fixed_descriptor() -> usize {
    fixed as unsafe extern "C" fn() as usize
}
