//! Dedicated blocks: one mapping of its own for each reservation, as LLVM's `SectionMemoryManager` has it.

use std::ptr::NonNull;

use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::layout::{AllocationSpace, Arena, Arenas, BlockPlan, SectionRequest};
use crate::memory::{Memory, Section};
use crate::num::{Address, PageSize, Span};
use crate::reach::Reach;
use crate::reservation::{Content, Reservation};
use crate::stats::{Account, Ledger, Stats};
use crate::sys::{self, Block, Permission};
use crate::{icache, trap};

/// Where dedicated blocks come from.
///
/// Clones share their [statistics](Self::stats).
#[derive(Clone, Debug, Default)]
pub struct DedicatedBlocks {
    reach: Reach,
    headroom: PerKind<usize>,
    ledger: Ledger,
}

impl DedicatedBlocks {
    /// Blocks of at most [`Reach::PREL32`], without headroom.
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks of at most `reach`.
    pub fn with_reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Blocks with `bytes` more of each kind than announced, for hosts that announce too little.
    ///
    /// LLVM's RuntimeDyld does so on x86-64, where it counts no GOT slot for calls through the PLT.
    pub fn with_headroom(mut self, bytes: PerKind<usize>) -> Self {
        self.headroom = bytes;
        self
    }

    /// Maps a block with room for all of `space`.
    ///
    /// # Errors
    ///
    /// [`Error::SizeOverflow`], [`Error::SpanTooLarge`], [`Error::System`], [`Error::Barrier`]. Nothing is mapped then.
    pub fn reserve(&self, space: &AllocationSpace<'_>) -> Result<Reservation, Error> {
        self.reserve_with(Box::default(), space)
    }

    /// The same, with room for the reservation's content, which is empty.
    pub(crate) fn reserve_with(
        &self,
        mut content: Box<Content>,
        space: &AllocationSpace<'_>,
    ) -> Result<Reservation, Error> {
        let extents = content.plan(space)?;
        let page = sys::page_size();
        let plan = BlockPlan::new(&extents, &self.headroom, page, self.reach)?;
        icache::prepare().map_err(|source| Error::Barrier { source })?;
        let block = Block::map(plan.size, plan.anchor, plan.align)?;
        let entry = Stats {
            in_flight: 1,
            asked: extents.iter().map(|(_, extent)| extent.size()).sum(),
            granted: block.size(),
            committed: block.size(),
            reserved: block.mapped(),
            mappings: usize::from(block.mapped() > 0),
            ..Stats::default()
        };
        let memory = DedicatedBlock {
            block,
            page,
            account: Account::open(&self.ledger, entry),
            sections: Vec::new(),
        };
        let memory = Memory::Block(Box::new(memory));
        Ok(Reservation::new(content, plan.arenas, memory))
    }

    /// What all reservations from here and from clones, and the images made of them, have in use.
    pub fn stats(&self) -> Stats {
        self.ledger.total()
    }
}

/// The memory of one reservation, and of the image that it becomes.
#[derive(Debug)]
pub(crate) struct DedicatedBlock {
    block: Block,
    page: PageSize,
    account: Account,
    /// In the order in which they were allocated.
    sections: Vec<Section>,
}

impl DedicatedBlock {
    /// The address of offset 0.
    pub(crate) fn address(&self) -> Address {
        self.block.address()
    }

    pub(crate) fn pointer(&self, span: Span) -> NonNull<u8> {
        self.block.pointer(span)
    }

    /// # Safety
    ///
    /// The block is not sealed.
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub(crate) unsafe fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        // SAFETY: a block's pages are readable and writable from birth, and only sealing changes that.
        unsafe { self.block.bytes_mut(span) }
    }

    /// A place for a section; see [`Memory::place`].
    ///
    /// # Safety
    ///
    /// The block is not sealed.
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub(crate) unsafe fn place(
        &mut self,
        arenas: &mut Arenas,
        announced: Option<Span>,
        request: &SectionRequest<'_>,
        size: usize,
    ) -> Result<Span, Error> {
        let arena = &mut arenas[request.kind()];
        let before = self.pages(arena);
        let found = match announced {
            Some(place) => arena.announced(place),
            None => {
                let origin = self.address().get() as usize;
                let found = arena.beyond_the_plan(size, request.align(), origin);
                found.map_err(|available| Error::ReservationExhausted {
                    section: request.name().into(),
                    kind: request.kind(),
                    requested: size,
                    align: request.align(),
                    available,
                })?
            }
        };
        if request.kind() == SectionKind::Code {
            let fresh = Span::new(before.end(), self.pages(arena).end());
            let fresh = fresh.expect("what is reached stays reached");
            // SAFETY: the contract is the same.
            trap::fill(unsafe { self.bytes_mut(fresh) });
        }
        let span = Span::sized(found.start(), request.size()).expect("a part of it");
        self.sections
            .push(Section::new(request.kind(), span, request.terminator()));
        Ok(found)
    }

    pub(crate) fn expect_sections(&mut self, count: usize) {
        self.sections.reserve_exact(count);
    }

    pub(crate) fn section_count(&self) -> usize {
        self.sections.len()
    }

    pub(crate) fn section(&self, index: usize) -> Option<Section> {
        self.sections.get(index).copied()
    }

    /// The pages that an arena's sections reach into.
    fn pages(&self, arena: &Arena) -> Span {
        let reached = arena.reached();
        let end = self.page.align().up(reached.end());
        let pages = end.and_then(|end| Span::new(reached.start(), end));
        pages.expect("a block ends on a page boundary")
    }

    /// The pages from the end of the code to the end of the read-only data. Where a plan left whole pages of code unused,
    /// they become readable only: nothing that was never written can run.
    fn constants(&self, arenas: &Arenas) -> Span {
        let code = self.pages(&arenas[SectionKind::Code]);
        let end = arenas[SectionKind::ReadOnlyData].span().end();
        Span::new(code.end(), end).expect("read-only data comes after code")
    }

    /// Gives the pages their final permissions: two system calls at most.
    ///
    /// On failure some may have changed: [`unseal`](Self::unseal) comes next.
    pub(crate) fn seal(&mut self, arenas: &Arenas) -> Result<(), Error> {
        let constants = self.constants(arenas);
        self.block.protect(constants, Permission::Read)?;
        // Last, so that nothing is ever executable that is not also complete.
        let code = self.pages(&arenas[SectionKind::Code]);
        self.block.protect(code, Permission::ReadExecute)
    }

    /// Makes all pages writable again.
    pub(crate) fn unseal(&mut self, arenas: &Arenas) -> Result<(), Error> {
        let start = arenas[SectionKind::Code].span().start();
        let pages = Span::new(start, self.constants(arenas).end());
        let pages = pages.expect("read-only data comes after code");
        self.block.protect(pages, Permission::ReadWrite)
    }

    /// Enters into the books that it is an object now.
    pub(crate) fn enter_object(&mut self, arenas: &Arenas) {
        self.sections.shrink_to_fit();
        let asked = self.sections.iter().map(|section| section.asked()).sum();
        let code = self.pages(&arenas[SectionKind::Code]);
        let constants = self.constants(arenas);
        let variables = self.block.size() - constants.end();
        // What alignment left over in front stays writable, and so does what is behind, one mapping with the variables.
        let (before, behind) = self.block.slack();
        let mappings = [before, code.size(), constants.size(), variables + behind];
        let committed = arenas.iter().map(|(_, arena)| self.pages(arena).size());
        let committed = committed.sum();
        self.account.update(|entry| {
            entry.in_flight = 0;
            entry.objects = 1;
            entry.asked = asked;
            entry.committed = committed;
            entry.mappings = mappings.into_iter().filter(|&size| size > 0).count();
        });
    }
}
