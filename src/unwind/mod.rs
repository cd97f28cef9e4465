//! Unwind tables: checked, registered with the unwinder that this process has, and taken back when the code goes.
//!
//! Cost: up to libgcc 12 every registered table makes the first exception of the process, and every deregistration, slower in
//! proportion to their number. So tables are registered only where a host asks for it.
#![allow(unsafe_code)] // Hands memory to the unwinder's C interface.

mod table;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "libgcc.rs"]
mod unwinder;
#[cfg(all(unix, not(all(target_os = "linux", target_env = "gnu"))))]
#[path = "libunwind.rs"]
mod unwinder;
#[cfg(not(unix))]
#[path = "unsupported.rs"]
mod unwinder;

use std::ptr::NonNull;

use smallvec::SmallVec;

pub(crate) use unwinder::SUPPORTED;

use self::table::Malformed;

/// What the unwinder is told of a table, as offsets from the table's start.
pub(crate) type EntryPoints = SmallVec<[usize; 1]>;

/// What to tell the unwinder of a table, once all of the table was seen to be one.
pub(crate) fn entry_points(table: &[u8]) -> Result<EntryPoints, Malformed> {
    let mut entries = EntryPoints::new();
    table::read(table, |record| {
        entries.extend(unwinder::entry_point(record))
    })?;
    Ok(entries)
}

/// Tables that the unwinder knows. Dropping them takes them back.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    registered: SmallVec<[NonNull<u8>; 1]>,
}

// SAFETY: the addresses are only ever given back to the unwinder, whose interface takes locks of its own.
unsafe impl Send for Frames {}
// SAFETY: as above; through a shared reference nothing can be done with them.
unsafe impl Sync for Frames {}

impl Frames {
    /// Registers the table at `start`, which has these entry points.
    ///
    /// # Safety
    ///
    /// `start` points to a table that [has these](entry_points), whose contents describe the code as it is, and which stays
    /// readable and unchanged until this value is dropped.
    pub(crate) unsafe fn register(&mut self, start: NonNull<u8>, entries: &[usize]) {
        for &offset in entries {
            // SAFETY: the offset is that of a record of this table.
            let entry = unsafe { start.add(offset) };
            // SAFETY: by this function's contract, the unwinder may read the table until it is deregistered on drop.
            unsafe { unwinder::__register_frame(entry.as_ptr()) };
            self.registered.push(entry);
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for entry in self.registered.drain(..).rev() {
            // SAFETY: registered once and not deregistered since; the table is still there by `register`'s contract.
            unsafe { unwinder::__deregister_frame(entry.as_ptr()) };
        }
    }
}
