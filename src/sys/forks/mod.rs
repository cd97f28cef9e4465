//! What `fork` did: whether this process is a child, and how often it was a parent.

#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    path = "linux_count.rs"
)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "other_count.rs"
)]
mod count;

#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    path = "linux_mark.rs"
)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "other_mark.rs"
)]
mod mark;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use count::count_forks;
pub(crate) use count::fork_count;
pub(crate) use mark::ForkMark;
