//! What one reservation, and the image that it becomes, has of a window.

use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;

use smallvec::SmallVec;

use super::shared::{Released, Shared};
use super::spans::Grant;
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::layout::{Arena, Extent, SectionRequest, check_alignment};
use crate::num::{Address, Span};

/// Spans of a window, given back when dropped. There is one for each object of a million: it is small.
///
/// Spans in its methods count from the window's offset 0.
#[derive(Debug)]
pub(crate) struct Lease {
    window: Arc<Shared>,
    /// What was planned.
    grants: PerKind<Option<Grant>>,
    /// What was asked for beyond the plan. Mostly nothing.
    #[allow(clippy::box_collection, reason = "a Vec of nothing is three words")]
    beyond: Option<Box<Vec<Beyond>>>,
    /// Bytes of sections, or while it is filled, those announced. Fits, as a window does.
    asked: u32,
    /// How many forks there were when it was published.
    forks: u32,
    phase: Phase,
}

#[derive(Debug)]
struct Beyond {
    kind: SectionKind,
    grant: Grant,
    /// What rounding left over is usable.
    arena: Arena,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Filling,
    Published,
}

/// The arenas of the reservation that a lease belongs to.
type Arenas = PerKind<Arena>;

impl Lease {
    pub(super) fn new(
        window: Arc<Shared>,
        grants: PerKind<Option<Grant>>,
        announced: usize,
    ) -> Self {
        Self {
            window,
            grants,
            beyond: None,
            asked: announced as u32,
            forks: 0,
            phase: Phase::Filling,
        }
    }

    /// # Errors
    ///
    /// [`Error::InheritedWindow`] in a child of `fork`.
    pub(crate) fn check_own(&self) -> Result<(), Error> {
        self.window.check_own()
    }

    /// The address of the window's offset 0.
    pub(crate) fn address(&self) -> Address {
        self.window.backing.address()
    }

    /// Where to run or to read `span`.
    pub(crate) fn pointer(&self, span: Span) -> NonNull<u8> {
        self.window.backing.pointer(span)
    }

    /// Where to write `span`.
    pub(crate) fn write_pointer(&self, span: Span) -> NonNull<u8> {
        self.window.backing.write_pointer(span)
    }

    /// The kind of what lies at an offset.
    pub(crate) fn kind_at(&self, offset: usize) -> SectionKind {
        self.window.plan.kind_at(offset)
    }

    /// The bytes of `span`, to write.
    ///
    /// # Safety
    ///
    /// `span` is this lease's, which is not sealed.
    #[allow(unsafe_code)] // Lends the memory out.
    pub(crate) unsafe fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let start = self.write_pointer(span).as_ptr();
        // SAFETY: a lease's spans have memory that was initialized when they were granted, are writable until it is sealed
        // and nobody else's; they are borrowed from `self` mutably, so that no other reference to them exists.
        unsafe { std::slice::from_raw_parts_mut(start, span.size()) }
    }

    /// A place for a section: the announced one, or what is left over of its kind, or else a span of its own. See
    /// [`Memory::place`](crate::memory::Memory::place).
    pub(crate) fn place(
        &mut self,
        arena: &mut Arena,
        announced: Option<Span>,
        request: &SectionRequest<'_>,
        size: usize,
    ) -> Result<Span, Error> {
        self.window.check_own()?;
        check_alignment(request.align())?;
        if let Some(place) = announced {
            return Ok(arena.announced(place));
        }
        let origin = self.address().get() as usize;
        if let Ok(left_over) = arena.beyond_the_plan(size, request.align(), origin) {
            return Ok(left_over);
        }
        let mut of_kind = self.beyond.iter_mut().flat_map(|all| all.iter_mut().rev());
        if let Some(latest) = of_kind.find(|one| one.kind == request.kind()) {
            let left_over = latest.arena.beyond_the_plan(size, request.align(), origin);
            if let Ok(left_over) = left_over {
                return Ok(left_over);
            }
        }
        // At least a byte: what has none may want to be aligned as nothing here is.
        let extent = Extent::new(size.max(1), request.align());
        let (grant, span) = self.window.grant(request.kind(), extent)?;
        let mut arena = Arena::new(span, 0);
        let place = arena.beyond_the_plan(size, request.align(), origin);
        self.beyond.get_or_insert_default().push(Beyond {
            kind: request.kind(),
            grant,
            arena,
        });
        Ok(place.expect("a span is as large and as aligned as was asked for"))
    }

    /// Every span that it has.
    fn spans(&self, arenas: &Arenas) -> Vec<(SectionKind, Span)> {
        let planned = arenas.iter().map(|(kind, arena)| (kind, arena.span()));
        let beyond = self.beyond.iter().flat_map(|all| all.iter());
        planned
            .chain(beyond.map(|one| (one.kind, one.arena.span())))
            .collect()
    }

    /// Gives all spans of leases of one window their final permissions.
    ///
    /// # Errors
    ///
    /// [`Error::System`]. Some permissions may have changed.
    pub(crate) fn seal<'a>(
        leases: impl Iterator<Item = (&'a Self, &'a Arenas)>,
    ) -> Result<(), Error> {
        let mut window = None;
        let mut spans = Vec::new();
        for (lease, arenas) in leases {
            spans.extend(lease.spans(arenas));
            window = Some(&lease.window);
        }
        window.map_or(Ok(()), |window| window.seal(spans))
    }

    /// Whether sealing it does anything.
    pub(crate) fn seals(&self) -> bool {
        self.window.seals()
    }

    /// Makes all of it writable again.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub(crate) fn unseal(&self, arenas: &Arenas) -> Result<(), Error> {
        self.window.unseal(&self.spans(arenas))
    }

    /// Every span of code, to make the caches agree with it.
    pub(crate) fn code<'a>(&'a self, arenas: &'a Arenas) -> impl Iterator<Item = Span> + 'a {
        let beyond = self.beyond.iter().flat_map(|all| all.iter());
        let beyond = beyond.filter(|one| one.kind == SectionKind::Code);
        let planned = arenas[SectionKind::Code].reached();
        std::iter::once(planned).chain(beyond.map(|one| one.arena.reached()))
    }

    /// Enters into the books that it is an object now, with `asked` bytes in its sections.
    pub(crate) fn enter_object(&mut self, asked: usize) {
        self.forks = self.window.enter_object(self.asked as usize, asked);
        self.asked = asked as u32;
        self.phase = Phase::Published;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut grants = SmallVec::new();
        for (kind, grant) in mem::take(&mut self.grants) {
            if let Some(grant) = grant {
                grants.push((kind, grant));
            }
        }
        for one in self.beyond.take().into_iter().flat_map(|all| *all) {
            grants.push((one.kind, one.grant));
        }
        self.window.release(Released {
            grants,
            forks: (self.phase == Phase::Published).then_some(self.forks),
            asked: self.asked as usize,
        });
    }
}
