//! Room that every thread has from the beginning, for programs that want their variables at fixed offsets from the thread
//! pointer.
//!
//! It begins with zeros in each thread. A program leaves values behind in threads that nobody else can reach, so what it had is
//! given out again only when the process has no other thread than the one that asks.
#![allow(unsafe_code)] // Clears what programs have left behind.

use std::cell::UnsafeCell;
use std::fs;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::num::{Align, Span};

/// For all programs at once, in bytes. Every thread of the process pays for it, a page.
const SIZE: usize = 4096;

/// The strictest alignment that a block in it can have, in bytes.
const ALIGN: usize = 64;

#[repr(align(64))]
struct Room(UnsafeCell<[u8; SIZE]>);

const _: () = assert!(align_of::<Room>() == ALIGN);

thread_local! {
    static ROOM: Room = const { Room(UnsafeCell::new([0; SIZE])) };
}

/// Where this thread's room is.
pub(super) fn place() -> usize {
    ROOM.with(|room| room.0.get().expose_provenance())
}

/// What of the room is whose.
#[derive(Debug)]
pub(super) struct Pool {
    /// Where no program has ever been, or nobody remembers one.
    free: Vec<Span>,
    /// Where programs have been.
    left: Vec<Span>,
    is_new: bool,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    left: Vec::new(),
    is_new: true,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of the room. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Claim {
    /// In the room, in bytes.
    span: Span,
    /// Whether code may have stored something there.
    is_used: bool,
}

impl Pool {
    /// Room for a block.
    pub(super) fn claim(size: usize, align: Align) -> Result<Claim, &'static str> {
        if align.bytes() > ALIGN {
            return Err(
                "a fixed offset from the thread pointer with an alignment above 64 (compile with -fPIC and without \
                 -ftls-model)",
            );
        }
        let mut pool = pool();
        if std::mem::take(&mut pool.is_new) {
            pool.free.extend(Span::sized(0, SIZE));
        }
        let mut span = pool.take(size, align);
        if span.is_none() && is_only_thread() {
            pool.clean();
            span = pool.take(size, align);
        }
        let span = span.ok_or(
            "a fixed offset from the thread pointer, of which there are 4096 bytes for all programs together (compile with \
             -fPIC and without -ftls-model),",
        )?;
        Ok(Claim {
            span,
            is_used: false,
        })
    }

    fn take(&mut self, size: usize, align: Align) -> Option<Span> {
        let mut fits = self.free.iter().enumerate().filter_map(|(index, free)| {
            let span = Span::sized(align.up(free.start())?, size)?;
            free.contains(span).then_some((index, span))
        });
        let (index, span) = fits.next()?;
        let free = self.free.swap_remove(index);
        self.free.extend(Span::new(free.start(), span.start()));
        self.free.extend(Span::new(span.end(), free.end()));
        self.merge();
        Some(span)
    }

    /// Gives back all that programs have left. Only where there is no other thread.
    fn clean(&mut self) {
        for span in self.left.drain(..) {
            let start = ptr::with_exposed_provenance_mut::<u8>(place() + span.start());
            // SAFETY: a part of this thread's room, which belongs to no program now.
            unsafe { ptr::write_bytes(start, 0, span.size()) };
            self.free.push(span);
        }
        self.merge();
    }

    /// Makes one of neighbours.
    fn merge(&mut self) {
        self.free.retain(|free| !free.is_empty());
        self.free.sort_unstable_by_key(|free| free.start());
        self.free.dedup_by(|next, free| {
            let both = Span::new(free.start(), next.end());
            let both = both.filter(|_| free.end() == next.start());
            both.map(|both| *free = both).is_some()
        });
    }
}

/// Whether this is the only thread of the process, as far as the system says.
fn is_only_thread() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

impl Claim {
    /// In the room, in bytes.
    pub(super) fn offset(&self) -> usize {
        self.span.start()
    }

    /// Of this thread's part.
    pub(super) fn address(&self) -> usize {
        place() + self.offset()
    }

    /// From here on code may store something there.
    pub(super) fn begin_use(&mut self) {
        self.is_used = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut pool = pool();
        if self.is_used {
            pool.left.push(self.span);
        } else {
            pool.free.push(self.span);
            pool.merge();
        }
    }
}
