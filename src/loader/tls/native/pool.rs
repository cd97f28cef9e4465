//! Room that every thread has from the beginning, for programs that want their variables at fixed offsets from the thread
//! pointer.
//!
//! It begins with zeros in each thread. Who gives room back leaves values behind in threads that nobody else can reach, so
//! room is given out once.

use std::cell::UnsafeCell;
use std::sync::{Mutex, PoisonError};

use crate::num::Align;

/// For all programs at once, in bytes. Every thread of the process pays for it, a page.
const SIZE: usize = 4096;

/// The strictest alignment that a block in it can have, in bytes.
const ALIGN: usize = 64;

#[repr(align(64))]
struct Room(UnsafeCell<[u8; SIZE]>);

thread_local! {
    static ROOM: Room = const { Room(UnsafeCell::new([0; SIZE])) };
}

/// Where this thread's room is.
pub(super) fn place() -> usize {
    ROOM.with(|room| room.0.get().expose_provenance())
}

/// What has been given out.
#[derive(Debug)]
pub(super) struct Pool {
    /// In bytes.
    used: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { used: 0 });

/// A part of the room.
#[derive(Debug)]
pub(super) struct Claim {
    /// In bytes.
    offset: usize,
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
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = align.up(pool.used);
        let end = offset.and_then(|offset| offset.checked_add(size));
        let (Some(offset), Some(end)) = (offset, end.filter(|&end| end <= SIZE)) else {
            return Err(
                "a fixed offset from the thread pointer, of which there are 4096 bytes for all programs together \
                 (compile with -fPIC and without -ftls-model),",
            );
        };
        pool.used = end;
        Ok(Claim { offset })
    }
}

impl Claim {
    /// In the room, in bytes.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Of this thread's part.
    pub(super) fn address(&self) -> usize {
        place() + self.offset
    }
}
