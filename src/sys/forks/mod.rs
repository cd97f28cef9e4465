//! What `fork` did: whether this process is a child, and how often it was a parent.

#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "linux.rs")]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "others.rs"
)]
mod mark;

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(not(unix), path = "none.rs")]
mod count;

pub(crate) use count::{count_forks, fork_count};
pub(crate) use mark::ForkMark;
