//! Branch target identification: pages on which an indirect branch must land on a `BTI` instruction, or it traps.

#[cfg_attr(
    all(target_os = "linux", target_arch = "aarch64"),
    path = "linux_aarch64.rs"
)]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "aarch64")),
    path = "none.rs"
)]
mod system;

pub(crate) use system::{protect_executable, protection};
