//! Who hears of what a loader makes: debuggers and profilers, each behind a feature. Without it its file here is another one,
//! of the same functions, which keeps nothing and does nothing.

#[cfg(feature = "perf")]
mod functions;
#[cfg_attr(not(feature = "gdb"), path = "no_gdb.rs")]
mod gdb;
#[cfg_attr(not(feature = "perf"), path = "no_perf.rs")]
mod perf;

pub(super) use gdb::{Gdb, Registered};
pub(super) use perf::Perf;

/// Those of one loader.
#[derive(Debug, Default)]
pub(super) struct Listeners<'data> {
    pub(super) gdb: Gdb<'data>,
    pub(super) perf: Perf,
}
