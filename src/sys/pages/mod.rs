//! Pages before and after their use: fetched from the system in advance, and given back.

#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "linux.rs")]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "others.rs"
)]
mod system;

pub(crate) use system::{RETURNS_PAGES, avoid_huge_pages, populate, release};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use system::{collapse, huge, is_resident};
