//! Whether this crate's own thread-local variables are at the same distance from the thread pointer in every thread.
//!
//! They are if the crate is part of the executable, or of a library that was there when the process started. In a library that
//! was opened later, each thread gets them anywhere.

use std::thread;

use super::pointer::thread_pointer;

/// From the thread pointer to what `place` says, in bytes, if it is the same in every thread: another one is asked.
pub(crate) fn distance(place: fn() -> usize) -> Option<isize> {
    let of_this_thread = move || place().wrapping_sub(thread_pointer()) as isize;
    let own = of_this_thread();
    let other = thread::Builder::new().spawn(of_this_thread);
    let other = other.ok()?.join().ok()?;
    (own == other).then_some(own)
}
