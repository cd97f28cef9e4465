//! Where each thread keeps its table, for those who ask without a function call.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::table;
use crate::thread::distance;

/// From the thread pointer, in bytes; zero if that is not the same in all threads, or nobody has asked yet.
pub(super) static TABLE: AtomicUsize = AtomicUsize::new(0);

/// Finds it out.
pub(super) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(distance) = distance(table::place) {
            TABLE.store(distance as usize, Ordering::Relaxed);
        }
    });
}
