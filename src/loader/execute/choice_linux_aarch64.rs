//! Linux on AArch64: the resolver gets the kernel's list of features (GNU C library, `sysdeps/aarch64/sys/ifunc.h`).

/// What a resolver's second argument points to.
#[repr(C)]
struct Features {
    /// Of this structure, in bytes.
    size: u64,
    hwcap: u64,
    hwcap2: u64,
}

/// In the first argument: that there is a second one.
const HAS_FEATURES: u64 = 1 << 62;

/// The address that a resolver decides for.
///
/// # Safety
///
/// It is a resolver, which may be called now.
pub(super) unsafe fn choose(resolver: *const ()) -> u64 {
    type Resolver = unsafe extern "C" fn(u64, *const Features) -> u64;
    // SAFETY: only reads what the kernel told the process at its start.
    let [hwcap, hwcap2] =
        [libc::AT_HWCAP, libc::AT_HWCAP2].map(|of| unsafe { libc::getauxval(of) });
    let features = Features {
        size: size_of::<Features>() as u64,
        hwcap,
        hwcap2,
    };
    // SAFETY: a resolver has this type, by this function's contract.
    let resolver = unsafe { std::mem::transmute::<*const (), Resolver>(resolver) };
    // SAFETY: by this function's contract; the features live as long as the call.
    unsafe { resolver(hwcap | HAS_FEATURES, &features) }
}
