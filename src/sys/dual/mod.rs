//! One memory at two addresses: where code runs and data is read, and where both are written.

#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "linux.rs")]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "unsupported.rs"
)]
mod system;

pub(crate) use system::DualView;
