//! Whether this crate's own thread-local variables are at the same distance from the thread pointer in every thread.
//!
//! They are if the crate is part of the executable, or of a library that was there when the process started. In a library that
//! was opened later, each thread gets them anywhere.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{cpu, pool, table};

/// From the thread pointer, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Distances {
    pub(super) pool: isize,
    table: isize,
}

/// Where each thread keeps the address of its table; zero if that is not the same in all threads, or nobody has asked yet.
pub(super) static TABLE: AtomicUsize = AtomicUsize::new(0);

impl Distances {
    fn of_this_thread() -> Self {
        let thread = cpu::thread_pointer();
        let from_thread = |address: usize| address.wrapping_sub(thread) as isize;
        Self {
            pool: from_thread(pool::place()),
            table: from_thread(table::place()),
        }
    }
}

/// The distances, if they are the same in every thread: another one is asked, once.
pub(super) fn prepare() -> Option<Distances> {
    static DISTANCES: OnceLock<Option<Distances>> = OnceLock::new();
    *DISTANCES.get_or_init(|| {
        let own = Distances::of_this_thread();
        let other = thread::Builder::new().spawn(Distances::of_this_thread);
        let other = other.ok()?.join().ok()?;
        if own != other {
            return None;
        }
        TABLE.store(own.table as usize, Ordering::Relaxed);
        Some(own)
    })
}
