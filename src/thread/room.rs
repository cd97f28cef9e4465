//! The room itself: a thread-local variable of this crate, and who has which part of it.
//!
//! It begins with zeros in each thread. An owner leaves values behind in threads that nobody else can reach, so what it had is
//! given out again only when the process has no other thread than the one that asks.
#![allow(unsafe_code)] // Clears what owners have left behind.

use std::cell::UnsafeCell;
use std::fs;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::distance::distance;
use crate::error::Error;
use crate::num::{Align, Span};

/// For all owners at once, in bytes. Every thread of the process pays for it, a page.
const SIZE: usize = 4096;

/// The strictest alignment that a part of it can have: that of a cache line, for variables that are to have one of their own.
const ALIGN: Align = Align::from_exponent(6);

#[repr(align(64))]
struct Room(UnsafeCell<[u8; SIZE]>);

const _: () = assert!(align_of::<Room>() == ALIGN.bytes());

thread_local! {
    static ROOM: Room = const { Room(UnsafeCell::new([0; SIZE])) };
}

/// Where this thread's room is.
fn place() -> usize {
    ROOM.with(|room| room.0.get().expose_provenance())
}

/// From the thread pointer to the room, in bytes, if it is the same in every thread.
fn room_distance() -> Option<isize> {
    static DISTANCE: OnceLock<Option<isize>> = OnceLock::new();
    *DISTANCE.get_or_init(|| distance(place))
}

/// What of the room is nobody's.
#[derive(Debug)]
struct Parts {
    /// Zero in all threads.
    free: Vec<Span>,
    /// Where owners have been.
    left: Vec<Span>,
    is_new: bool,
}

static PARTS: Mutex<Parts> = Mutex::new(Parts {
    free: Vec::new(),
    left: Vec::new(),
    is_new: true,
});

fn parts() -> MutexGuard<'static, Parts> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of the room. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Part {
    /// In the room, in bytes.
    span: Span,
    /// Of the room, from the thread pointer.
    distance: isize,
    /// Whether somebody may have stored something there.
    is_used: bool,
}

impl Parts {
    fn take(&mut self, size: usize, align: Align) -> Option<Span> {
        if size == 0 {
            return Some(Span::empty(0));
        }
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

    /// In bytes.
    fn largest_free(&self) -> usize {
        let sizes = self.free.iter().map(|free| free.size());
        sizes.max().unwrap_or(0)
    }

    /// Gives back all that owners have left. Only where there is no other thread.
    fn clean(&mut self) {
        for span in self.left.drain(..) {
            let start = ptr::with_exposed_provenance_mut::<u8>(place() + span.start());
            // SAFETY: a part of this thread's room, which belongs to nobody now.
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

impl Part {
    pub(super) fn new(size: usize, align: Align) -> Result<Self, Error> {
        if align > ALIGN {
            let limit = ALIGN;
            return Err(Error::AlignmentTooLarge { align, limit });
        }
        let distance = room_distance().ok_or(Error::Unsupported(
            "a fixed offset from the thread pointer, in a library that was loaded after the start of the process",
        ))?;
        let mut parts = parts();
        if std::mem::take(&mut parts.is_new) {
            parts.free.extend(Span::sized(0, SIZE));
        }
        let mut span = parts.take(size, align);
        if span.is_none() && is_only_thread() {
            parts.clean();
            span = parts.take(size, align);
        }
        let span = span.ok_or_else(|| Error::ThreadRoomExhausted {
            requested: size,
            align,
            largest_free: parts.largest_free(),
        })?;
        Ok(Self {
            span,
            distance,
            is_used: true,
        })
    }

    pub(super) fn thread_offset(&self) -> isize {
        self.distance + self.span.start() as isize
    }

    pub(super) fn size(&self) -> usize {
        self.span.size()
    }

    pub(super) fn pointer(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(place() + self.span.start())
    }

    /// It is as it was given out.
    pub(super) fn forget_use(&mut self) {
        self.is_used = false;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.span.is_empty() {
            return; // Neither list knows it.
        }
        let mut parts = parts();
        if self.is_used {
            parts.left.push(self.span);
        } else {
            parts.free.push(self.span);
            parts.merge();
        }
    }
}
