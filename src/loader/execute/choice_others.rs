//! The resolver gets nothing, and asks the CPU itself.

/// The address that a resolver decides for.
///
/// # Safety
///
/// It is a resolver, which may be called now.
pub(super) unsafe fn choose(resolver: *const ()) -> u64 {
    // SAFETY: a resolver has this type, by this function's contract.
    let resolver =
        unsafe { std::mem::transmute::<*const (), unsafe extern "C" fn() -> u64>(resolver) };
    // SAFETY: by this function's contract.
    unsafe { resolver() }
}
