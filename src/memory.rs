//! What a reservation and its image are made of, wherever it comes from.

use std::ptr::NonNull;

use crate::dedicated::DedicatedBlock;
use crate::error::Error;
use crate::icache;
use crate::kind::SectionKind;
use crate::layout::{Arenas, SectionRequest};
use crate::num::{Address, Span};
use crate::window::Lease;

/// A section that has its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    /// From the memory's offset 0, without a terminator.
    pub(crate) span: Span,
    /// Bytes of zeros behind it.
    terminator: u8,
}

impl Section {
    pub(crate) fn new(kind: SectionKind, span: Span, terminator: u8) -> Self {
        Self {
            kind,
            span,
            terminator,
        }
    }

    /// In bytes, with its terminator.
    pub(crate) fn asked(self) -> usize {
        self.span.size() + usize::from(self.terminator)
    }

    /// With its terminator.
    pub(crate) fn footprint(self) -> Span {
        Span::sized(self.span.start(), self.asked()).expect("a section lies inside its memory")
    }
}

/// The memory of one reservation, and what sections lie in it. Spans count from its offset 0.
#[derive(Debug)]
pub(crate) enum Memory {
    /// A mapping of its own.
    Block(Box<DedicatedBlock>),
    /// Spans of a window.
    Lease(Lease),
}

impl Memory {
    /// Where offset 0 is when the code runs.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Block(block) => block.address(),
            Self::Lease(lease) => lease.address(),
        }
    }

    /// Where to run and to read `span` once it is finalized.
    pub(crate) fn pointer(&self, span: Span) -> NonNull<u8> {
        match self {
            Self::Block(block) => block.pointer(span),
            Self::Lease(lease) => lease.pointer(span),
        }
    }

    /// Where to write `span` until it is finalized.
    pub(crate) fn write_pointer(&self, span: Span) -> NonNull<u8> {
        match self {
            Self::Block(block) => block.pointer(span),
            Self::Lease(lease) => lease.write_pointer(span),
        }
    }

    /// The bytes of `span`.
    ///
    /// # Safety
    ///
    /// The memory is not sealed.
    #[inline]
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub(crate) unsafe fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        match self {
            // SAFETY: the contract is the same.
            Self::Block(block) => unsafe { block.bytes_mut(span) },
            // SAFETY: the contract is the same.
            Self::Lease(lease) => unsafe { lease.bytes_mut(span) },
        }
    }

    /// Fetches room to remember so many sections.
    pub(crate) fn expect_sections(&mut self, count: usize) {
        match self {
            Self::Block(block) => block.expect_sections(count),
            Self::Lease(lease) => lease.expect_sections(count),
        }
    }

    /// How many there are.
    pub(crate) fn section_count(&self) -> usize {
        match self {
            Self::Block(block) => block.section_count(),
            Self::Lease(lease) => lease.section_count(),
        }
    }

    /// The section that was allocated as number `index`.
    #[inline]
    pub(crate) fn section(&self, index: usize) -> Option<Section> {
        match self {
            Self::Block(block) => block.section(index),
            Self::Lease(lease) => lease.section(index),
        }
    }

    /// Gives the next section its place: the one that was `announced` for it, as counted from the start of its kind's arena,
    /// or else one from what the arenas have left over.
    ///
    /// # Errors
    ///
    /// [`Error::ReservationExhausted`]; of a window, what [`Window::reserve`](crate::Window::reserve) says. Nothing changed.
    ///
    /// # Safety
    ///
    /// The memory is not sealed.
    #[inline]
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub(crate) unsafe fn place(
        &mut self,
        arenas: &mut Arenas,
        announced: Option<Span>,
        request: &SectionRequest<'_>,
        size: usize,
    ) -> Result<Span, Error> {
        match self {
            // SAFETY: the contract is the same.
            Self::Block(block) => unsafe { block.place(arenas, announced, request, size) },
            Self::Lease(lease) => lease.place(arenas, announced, request, size),
        }
    }

    /// # Errors
    ///
    /// [`Error::InheritedWindow`] where this process cannot write to it.
    pub(crate) fn check_own(&self) -> Result<(), Error> {
        match self {
            Self::Block(_) => Ok(()),
            Self::Lease(lease) => lease.check_own(),
        }
    }

    /// Makes all of it writable again. Memory for which this fails must be dropped, so that nothing of it stays executable.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub(crate) fn unseal(&mut self, arenas: &Arenas) -> Result<(), Error> {
        match self {
            Self::Block(block) => block.unseal(arenas),
            Self::Lease(lease) => lease.unseal(arenas),
        }
    }

    /// Enters into the books that it is an object now.
    #[inline]
    pub(crate) fn publish(&mut self, arenas: &Arenas) {
        match self {
            Self::Block(block) => block.enter_object(arenas),
            Self::Lease(lease) => lease.publish(),
        }
    }

    /// Makes the caches agree with what was written to code. The memory is sealed.
    pub(crate) fn make_coherent(&self, code: Span) {
        let (write, run) = (self.write_pointer(code), self.pointer(code));
        #[allow(unsafe_code)] // Cache maintenance by address.
        // SAFETY: both are addresses of the same span, mapped for as long as `self` lives, and readable once sealed.
        unsafe {
            icache::make_coherent(write.as_ptr(), run.as_ptr(), code.size());
        }
    }
}

/// Gives memory its final permissions. It all has one source.
///
/// # Errors
///
/// [`Error::System`]. Some permissions may have changed: [`Memory::unseal`] comes next, on all of it.
#[inline]
pub(crate) fn seal<'a>(
    all: impl Iterator<Item = (&'a mut Memory, &'a Arenas)>,
) -> Result<(), Error> {
    let mut leases = Vec::new();
    for (memory, arenas) in all {
        match memory {
            Memory::Block(block) => block.seal(arenas)?,
            Memory::Lease(lease) if lease.seals() => leases.push((&*lease, arenas)),
            Memory::Lease(_) => {}
        }
    }
    Lease::seal(&leases)
}
