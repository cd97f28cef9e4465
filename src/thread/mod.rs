//! Room that every thread has at the same distance from its thread pointer.
//!
//! Code that takes a thread-local variable to be at a fixed offset (initial and local exec) finds it in any thread, whether that
//! came before the code or after it. So such room cannot be made when it is asked for: this crate has some of its own, in the
//! thread-local storage that the process started with, and gives out parts of it.
//!
//! Law: whoever gets a part finds zeros there in every thread.

mod block;
#[cfg_attr(
    all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ),
    path = "room.rs"
)]
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )),
    path = "unsupported.rs"
)]
mod room;

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod distance;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "x86_64.rs"]
mod pointer;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[path = "aarch64.rs"]
mod pointer;

pub use block::ThreadBlock;
#[cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub(crate) use distance::distance;
