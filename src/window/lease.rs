//! What one reservation, and the image that it becomes, has of a window.

use std::fmt;
use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;

use smallvec::SmallVec;

use super::shared::Shared;
use super::spans::{GRANULE, Grant};
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::layout::{Arena, Arenas, EH_FRAME_TERMINATOR, Extent, SectionRequest, check_alignment};
use crate::memory::Section;
use crate::num::{Address, Span};

/// Spans of a window, given back when dropped. There is one for each object of a million: it is small.
///
/// Spans in its methods count from the window's offset 0.
// In this order, since `phase` also tells what is no lease, as an `Err`: copies then are of whole words in front of it and one
// behind it. Else they come in pieces that overlap, and the CPU waits for each: 15 % of a load and unload.
#[repr(C)]
pub(crate) struct Lease {
    window: Arc<Shared>,
    grants: Grants,
    /// Its sections, in the order in which they were allocated.
    places: SmallVec<[Place; 4]>,
    phase: Phase,
    /// How many forks there were when it was published.
    forks: u32,
}

/// How far a lease has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Phase {
    Filling,
    Published,
    /// Published once, and its code is traps again.
    Disarmed,
}

/// A section in a window. It needs no kind: its place tells.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// From the window's offset 0, which is less than 2 GiB from its end.
    start: u32,
    /// In bytes, and [`TERMINATED`].
    size: u32,
}

/// Says that a terminator follows.
const TERMINATED: u32 = 1 << 31;

impl Place {
    fn new(start: usize, request: &SectionRequest<'_>) -> Self {
        let tag = if request.terminator() > 0 {
            TERMINATED
        } else {
            0
        };
        Self {
            start: start as u32,
            size: request.size() as u32 | tag,
        }
    }

    /// Zeros behind it, in bytes.
    fn terminator(self) -> u8 {
        match self.size & TERMINATED {
            0 => 0,
            _ => EH_FRAME_TERMINATOR,
        }
    }

    /// In bytes, with its terminator.
    fn asked(self) -> usize {
        self.span().size() + usize::from(self.terminator())
    }

    fn span(self) -> Span {
        let size = self.size & !TERMINATED;
        Span::sized(self.start as usize, size as usize).expect("a window is smaller than that")
    }

    /// With its terminator, from where an instruction can begin. What is in front has the same owner: spans are whole granules.
    fn instructions(self) -> Span {
        let start = self.start as usize;
        let rounded = start / GRANULE * GRANULE;
        Span::new(rounded, start + self.asked()).expect("rounded down")
    }
}

/// What a lease has.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// What was reserved, or else the first of its kind that was asked for.
    first: PerKind<Option<Grant>>,
    /// Bytes of sections, or while it is filled, those announced. Fits, as a window does.
    asked: u32,
    /// What else was asked for. Mostly nothing.
    #[allow(clippy::box_collection, reason = "a Vec of nothing is three words")]
    others: Option<Box<Vec<(SectionKind, Grant)>>>,
}

impl Grants {
    /// Bytes, as they stand in the books.
    pub(super) fn asked(&self) -> usize {
        self.asked as usize
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (SectionKind, &Grant)> {
        let first = self.first.iter();
        let first = first.filter_map(|(kind, grant)| Some((kind, grant.as_ref()?)));
        let others = self.others.iter().flat_map(|all| all.iter());
        first.chain(others.map(|(kind, grant)| (*kind, grant)))
    }

    #[inline]
    pub(super) fn for_each(self, mut take: impl FnMut(SectionKind, Grant)) {
        for (kind, grant) in self.first {
            if let Some(grant) = grant {
                take(kind, grant);
            }
        }
        if let Some(others) = self.others {
            for (kind, grant) in *others {
                take(kind, grant);
            }
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the window, which has other leases.
        let (address, grants) = (self.address(), &self.grants);
        write!(f, "{:?} in the window at {address}: {grants:?}", self.phase)
    }
}

impl Lease {
    pub(super) fn new(
        window: Arc<Shared>,
        planned: PerKind<Option<Grant>>,
        announced: usize,
    ) -> Self {
        Self {
            window,
            grants: Grants {
                first: planned,
                asked: announced as u32,
                others: None,
            },
            places: SmallVec::new(),
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

    /// The bytes of `span`, to write.
    ///
    /// # Safety
    ///
    /// `span` is this lease's, which is not sealed.
    #[allow(unsafe_code)] // Lends the memory out.
    #[inline]
    pub(crate) unsafe fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let start = self.write_pointer(span).as_ptr();
        // SAFETY: a lease's spans have memory that was initialized when they were granted, are writable until it is sealed
        // and nobody else's; they are borrowed from `self` mutably, so that no other reference to them exists.
        unsafe { std::slice::from_raw_parts_mut(start, span.size()) }
    }

    /// A place for a section: the announced one, or what is left over of its kind, or else a span of its own. See
    /// [`Memory::place`](crate::memory::Memory::place).
    #[inline] // What was announced, which is quickly found.
    pub(crate) fn place(
        &mut self,
        arenas: &mut Arenas,
        announced: Option<Span>,
        request: &SectionRequest<'_>,
        size: usize,
    ) -> Result<Span, Error> {
        self.window.check_own()?;
        let place = match announced {
            Some(place) => arenas[request.kind()].announced(place),
            None => self.place_beyond(arenas, request, size)?,
        };
        self.places.push(Place::new(place.start(), request));
        Ok(place)
    }

    pub(crate) fn expect_sections(&mut self, count: usize) {
        self.places.reserve_exact(count);
    }

    pub(crate) fn section_count(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(crate) fn section(&self, index: usize) -> Option<Section> {
        let place = self.places.get(index)?;
        let kind = self.window.plan.kind_at(place.start as usize);
        Some(Section::new(kind, place.span(), place.terminator()))
    }

    fn place_beyond(
        &mut self,
        arenas: &mut Arenas,
        request: &SectionRequest<'_>,
        size: usize,
    ) -> Result<Span, Error> {
        check_alignment(request.align())?;
        let (kind, align) = (request.kind(), request.align());
        let origin = self.address().get() as usize;
        if let Ok(left_over) = arenas[kind].beyond_the_plan(size, align, origin) {
            return Ok(left_over);
        }
        if let Some(latest) = arenas.latest_beyond(kind) {
            if let Ok(left_over) = latest.beyond_the_plan(size, align, origin) {
                return Ok(left_over);
            }
        }
        // At least a byte: what has none may want to be aligned as nothing here is.
        let extent = Extent::new(size.max(1), align);
        let (grant, span) = self.window.grant(kind, extent)?;
        let mut arena = Arena::new(span, 0);
        let place = arena.beyond_the_plan(size, align, origin);
        if self.grants.first[kind].is_none() {
            self.grants.first[kind] = Some(grant);
            arenas[kind] = arena;
        } else {
            // Rarely more than one.
            let one = || Box::new(Vec::with_capacity(1));
            self.grants
                .others
                .get_or_insert_with(one)
                .push((kind, grant));
            arenas.add_beyond(kind, arena);
        }
        Ok(place.expect("a span is as large and as aligned as was asked for"))
    }

    /// Gives all spans of leases of one window their final permissions.
    ///
    /// # Errors
    ///
    /// [`Error::System`]. Some permissions may have changed.
    pub(crate) fn seal(leases: &[(&Self, &Arenas)]) -> Result<(), Error> {
        let Some((first, _)) = leases.first() else {
            return Ok(());
        };
        let spans = leases.iter().flat_map(|(_, arenas)| spans(arenas));
        first.window.seal(spans.collect())
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
        self.window.unseal(&spans(arenas).collect::<Vec<_>>())
    }

    /// Enters into the books that it is an object now.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.places.spilled() {
            self.places.shrink_to_fit();
        }
        let asked: usize = self.places.iter().map(|place| place.asked()).sum();
        let announced = mem::replace(&mut self.grants.asked, asked as u32);
        self.forks = self.window.enter_object(announced as usize, asked);
        self.phase = Phase::Published;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.phase == Phase::Published && self.window.can_overwrite(self.forks) {
            let ends = self.window.plan.arenas[SectionKind::Code].end();
            let is_code = |place: &&Place| (place.start as usize) < ends;
            for code in self.places.iter().filter(is_code) {
                self.window.overwrite(code.instructions());
            }
            self.phase = Phase::Disarmed;
        }
        let grants = mem::take(&mut self.grants);
        self.window.release(grants, self.phase, self.forks);
    }
}

/// Every span that a lease has.
fn spans(arenas: &Arenas) -> impl Iterator<Item = (SectionKind, Span)> {
    arenas.iter().map(|(kind, arena)| (kind, arena.span()))
}
