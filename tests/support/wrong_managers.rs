//! Memory managers that are wrong in the ways of the field. A test that they pass proves nothing.

use std::any::Any;
use std::ptr::NonNull;

use memmap2::MmapMut;
use nearcode::{
    Address, AllocationSpace, Error, ForeignSection, Image, PerKind, ReservationId,
    ReservingMemoryManager, SectionId, SectionKind, SectionRequest,
};
use region::Protection;

/// Maps every section by itself, wherever the system puts it: what llvm-rtdyld did before it asked for totals.
pub fn section_by_section() -> Wrong {
    Wrong::new(Policy::SectionBySection)
}

/// Reserves one block for an object, but serves it from whatever older blocks have left, maps what does not fit elsewhere,
/// and keeps a refused reservation to itself: LLVM's `SectionMemoryManager` with `ReserveAlloc`.
pub fn stale_free_lists() -> Wrong {
    Wrong::new(Policy::StaleFreeLists)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    SectionBySection,
    StaleFreeLists,
}

/// Both of them. Memory is only given back when the last image and the manager are gone.
pub struct Wrong {
    policy: Policy,
    reservation: ReservationId,
    blocks: Vec<MmapMut>,
    free: PerKind<Vec<Piece>>,
    sections: Vec<(SectionKind, Piece)>,
    /// Sections before this one are finalized.
    finalized: usize,
}

/// Bytes of some block.
#[derive(Clone, Copy)]
struct Piece {
    start: usize,
    size: usize,
}

impl Wrong {
    fn new(policy: Policy) -> Self {
        let reservation = ReservationId::unique();
        Self {
            policy,
            reservation,
            blocks: Vec::new(),
            free: PerKind::default(),
            sections: Vec::new(),
            finalized: 0,
        }
    }

    fn map(&mut self, size: usize) -> Result<Piece, Error> {
        let size = size
            .max(1)
            .checked_next_multiple_of(region::page::size())
            .ok_or_else(|| other("too large"))?;
        let mut block = MmapMut::map_anon(size).map_err(|error| Error::Other(Box::new(error)))?;
        let piece = Piece {
            start: block.as_mut_ptr().expose_provenance(),
            size,
        };
        self.blocks.push(block);
        Ok(piece)
    }

    fn piece(&self, id: SectionId) -> Result<Piece, Error> {
        let unfinished =
            |&index: &usize| index >= self.finalized && id.reservation() == self.reservation;
        let index = Some(id.index())
            .filter(unfinished)
            .ok_or(Error::UnknownSection(id))?;
        self.sections
            .get(index)
            .map(|section| section.1)
            .ok_or(Error::UnknownSection(id))
    }

    /// The first piece of free space that is large enough, oldest first, with room for alignment to spare.
    fn take(&mut self, kind: SectionKind, size: usize, align: usize) -> Option<Piece> {
        let align = align.min(region::page::size()); // As for blocks; more is only asserted.
        let needed = size.next_multiple_of(align) + align;
        let piece = self.free[kind]
            .iter_mut()
            .find(|piece| piece.size >= needed)?;
        let start = piece.start.next_multiple_of(align);
        let end = piece.start + piece.size;
        *piece = Piece {
            start: start + size,
            size: end - start - size,
        };
        Some(Piece { start, size })
    }
}

impl ReservingMemoryManager for Wrong {
    fn reserve_allocation_space(
        &mut self,
        space: &AllocationSpace<'_>,
    ) -> Result<ReservationId, Error> {
        if self.policy == Policy::StaleFreeLists {
            let page = region::page::size();
            let sizes = space
                .totals()?
                .map(|total| total.size().max(1).saturating_add(total.align().bytes()));
            let sizes = sizes.map(|size| size.checked_next_multiple_of(page).unwrap_or(usize::MAX));
            let total = sizes
                .iter()
                .fold(0usize, |sum, (_, &size)| sum.saturating_add(size));
            if let Ok(block) = self.map(total) {
                let mut start = block.start;
                for (kind, &size) in sizes.iter() {
                    self.free[kind].push(Piece { start, size });
                    start += size;
                }
            }
        }
        Ok(self.reservation)
    }

    fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        let (size, align) = (request.size(), request.align().bytes()); // Whoever needs a terminator counts it himself.
        let piece = match self.take(request.kind(), size, align) {
            Some(piece) => piece,
            None => {
                let block = self.map(size)?;
                let rest = Piece {
                    start: block.start + size,
                    size: block.size - size,
                };
                if self.policy == Policy::StaleFreeLists {
                    self.free[request.kind()].push(rest);
                }
                Piece {
                    start: block.start,
                    size,
                }
            }
        };
        self.sections.push((
            request.kind(),
            Piece {
                start: piece.start,
                size: request.size(),
            },
        ));
        Ok(SectionId::new(self.reservation, self.sections.len() - 1))
    }

    fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        let Piece { start, size } = self.piece(id)?;
        // SAFETY: the piece is part of a block that is writable until it is finalized, and of one section only.
        Ok(unsafe {
            std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(start), size)
        })
    }

    fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error> {
        let start = std::ptr::with_exposed_provenance_mut(self.piece(id)?.start);
        Ok(NonNull::new(start).expect("blocks are not at address zero"))
    }

    fn address(&self, id: SectionId) -> Result<Address, Error> {
        Ok(Address::new(self.piece(id)?.start as u64))
    }

    unsafe fn register_eh_frames(&mut self, id: SectionId) -> Result<(), Error> {
        self.piece(id).map(|_| ()) // Whoever calls it has to know how long the table is.
    }

    fn abandon(&mut self, _: ReservationId) -> Result<(), Error> {
        Ok(())
    }

    fn finalize_memory(&mut self) -> Result<Image, Error> {
        let page = region::page::size();
        for (kind, piece) in &self.sections[self.finalized..] {
            let protection = match kind {
                SectionKind::Code => Protection::READ_EXECUTE,
                SectionKind::ReadOnlyData => Protection::READ,
                SectionKind::ReadWriteData => continue,
            };
            // SAFETY: pages of this manager's blocks that hold finished sections of one kind only.
            unsafe { region::protect(piece.start as *const u8, piece.size.max(1), protection) }
                .map_err(|error| Error::Other(Box::new(error)))?;
            // What shares a page with them can no longer be written.
            for free in self.free[*kind].iter_mut() {
                let start = free.start.next_multiple_of(page);
                *free = Piece {
                    start,
                    size: (free.start + free.size).saturating_sub(start),
                };
            }
        }
        self.finalized = self.sections.len();
        let sections = self.sections.iter().map(|&(kind, piece)| {
            let start = NonNull::new(std::ptr::with_exposed_provenance_mut(piece.start));
            ForeignSection::new(
                kind,
                start.expect("blocks are not at address zero"),
                piece.size,
            )
        });
        let owner: Box<dyn Any + Send + Sync> = Box::new(());
        // SAFETY: this manager keeps its blocks, and the tests drop it last.
        Ok(unsafe { Image::from_foreign(self.reservation, sections.collect(), owner) })
    }
}

fn other(reason: &'static str) -> Error {
    Error::Other(reason.into())
}
