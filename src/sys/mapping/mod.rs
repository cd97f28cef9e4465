//! Memory from the system: zero, readable and writable, and given back when dropped.

#[cfg_attr(windows, path = "windows.rs")]
#[cfg_attr(not(windows), path = "others.rs")]
mod system;

pub(super) use system::Mapping;
