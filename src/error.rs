//! Everything that can go wrong, as one type whose values carry the numbers and names that a user needs.

use std::io;
use std::path::PathBuf;

use crate::id::{ReservationId, SectionId};
use crate::kind::SectionKind;
use crate::num::Align;
use crate::reach::{RangeError, Reach};

/// Why an operation was refused. Whatever returned it left everything as it was, unless its documentation says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An alignment that is no power of two.
    #[error("{value} is no alignment: not a power of two")]
    InvalidAlignment {
        /// In bytes.
        value: usize,
    },
    /// A section whose size, or whose object's total, does not fit into the number range.
    #[error("section {section} of {size} bytes, aligned to {}, does not fit into any address space", align.bytes())]
    SizeOverflow {
        /// The section with which the sum overflowed.
        section: String,
        /// In bytes.
        size: usize,
        /// As asked for.
        align: Align,
    },
    /// An object that needs a wider block than its relocations reach across.
    #[error("a block of {} bytes is wider than the reach of {limit} bytes", Bytes(*span))]
    SpanTooLarge {
        /// What the block would have needed, in bytes; `None` if that does not even fit into a number.
        span: Option<usize>,
        /// The widest block allowed, in bytes.
        limit: u64,
    },
    /// A section was asked for with no reservation to serve it from.
    #[error("section {section} of {size} bytes: nothing is reserved")]
    NotReserved {
        /// The section asked for.
        section: String,
        /// In bytes.
        size: usize,
    },
    /// The newest reservation has no room for a section that was not announced.
    #[error(
        "section {section} of {requested} bytes of {kind}: {available} bytes are left of the reservation"
    )]
    ReservationExhausted {
        /// The section asked for.
        section: String,
        /// What it was to hold.
        kind: SectionKind,
        /// In bytes, with terminator.
        requested: usize,
        /// As asked for.
        align: Align,
        /// The largest size that would still succeed at this alignment, in bytes.
        available: usize,
    },
    /// A window has no room of this kind.
    #[error(
        "a window has no room for {requested} bytes of {kind}, aligned to {}: its largest free piece has {largest_free}",
        align.bytes()
    )]
    WindowExhausted {
        /// What it was to hold.
        kind: SectionKind,
        /// In bytes: a section, or all of this kind that an object announced.
        requested: usize,
        /// The strictest alignment in it.
        align: Align,
        /// What could still be had in one piece at an alignment of 16, in bytes.
        largest_free: usize,
    },
    /// An alignment beyond what a window keeps to, or the room of each thread.
    #[error("no memory of this kind is aligned to {} bytes: {} at most", align.bytes(), limit.bytes())]
    AlignmentTooLarge {
        /// As asked for.
        align: Align,
        /// The strictest there is.
        limit: Align,
    },
    /// The room that every thread has at fixed offsets from its thread pointer is in use.
    #[error(
        "threads have no room for {requested} bytes at a fixed offset, aligned to {}: the largest free piece has {largest_free}",
        align.bytes()
    )]
    ThreadRoomExhausted {
        /// In bytes.
        requested: usize,
        /// As asked for.
        align: Align,
        /// In bytes. What was dropped is not free as long as there are other threads.
        largest_free: usize,
    },
    /// A window that would have no room for all three kinds of memory.
    #[error("a window of {size} bytes is too small: it takes 2 MiB for each kind, and 64 KiB")]
    WindowTooSmall {
        /// As asked for, in bytes.
        size: usize,
    },
    /// A window that this process has by `fork`: it can run what was published in it, and nothing else.
    #[error("the window belongs to the process that this one was forked from")]
    InheritedWindow,
    /// A reservation that is not in flight here: finalized, abandoned, or another manager's.
    #[error("{0} is not in flight here")]
    UnknownReservation(ReservationId),
    /// A section that is not there: its reservation was finalized, abandoned or dropped, or is another manager's.
    #[error("{0} is not here")]
    UnknownSection(SectionId),
    /// An unwind table whose records do not end with a terminator inside its section.
    #[error("the unwind table in {section} is malformed at offset {offset:#x}: {reason}")]
    InvalidEhFrame {
        /// The section that was to be registered.
        section: SectionId,
        /// Of the record, in bytes from the start of the section.
        offset: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value that a relocation cannot hold.
    #[error(transparent)]
    OutOfRange(#[from] RangeError),
    /// The system refused.
    #[error("{operation} of {size} bytes failed: {source}")]
    System {
        /// The call, by its usual name, and for permissions the wanted ones. Some systems refuse executable memory to some
        /// processes: SELinux without `execmem`, `PR_SET_MDWE`, seccomp filters.
        operation: &'static str,
        /// In bytes.
        size: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// The system cannot make all cores fetch code anew, without which none can be published: on Linux no `membarrier`.
    #[error("instruction caches cannot be synchronized: {source}")]
    Barrier {
        /// The system's answer.
        source: io::Error,
    },
    /// A piece of code that debuggers and profilers cannot be told of.
    #[error("{name:?} is no symbol: {reason}")]
    InvalidSymbol {
        /// What it was to be called.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file for profilers that cannot be made, or not be written.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file for profilers that this process has from its parent: each process has its own.
    #[error("{} is another process's, which forked: open one here", path.display())]
    InheritedFile {
        /// The file.
        path: PathBuf,
    },
    /// Something that this platform does not have.
    #[error("not supported on this platform: {0}")]
    Unsupported(&'static str),
    /// A failure of a memory manager outside this crate.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A size beyond the number range is wider than any reach.
    pub(crate) const fn too_large(reach: Reach) -> Self {
        Self::SpanTooLarge {
            span: None,
            limit: reach.bytes(),
        }
    }
}

/// A size that may not even fit into a number.
struct Bytes(Option<usize>);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => write!(f, "more than {}", usize::MAX),
        }
    }
}
