//! What LLVM's own unit tests ask of its memory manager (`MCJITMemoryManagerTest.cpp`), asked of ours as behaviour. The four
//! that allocate without reserving run inside a plan of totals. The test of reuse waits for a source that reuses memory.

#[path = "support/answer.rs"]
mod answer;

use answer::align;
use nearcode::{
    AllocationSpace, Extent, Image, PerKind, ReservingMemoryManager, SectionId, SectionKind,
    SectionMemoryManager, SectionRequest,
};

/// LLVM's alignment zero means the default of 16.
const DEFAULT: usize = 16;
/// All sections of the large tests lie within a GiB.
const FAR: u64 = 1 << 30;

/// A manager with sections, each filled with bytes of its own.
struct Filled {
    manager: SectionMemoryManager,
    sections: Vec<(SectionId, SectionRequest<'static>)>,
}

impl Filled {
    fn new() -> Self {
        Self {
            manager: SectionMemoryManager::new(),
            sections: Vec::new(),
        }
    }

    fn reserve(&mut self, totals: PerKind<Extent>) {
        self.manager
            .reserve_allocation_space(&AllocationSpace::Totals(totals))
            .unwrap();
    }

    fn allocate(&mut self, kind: SectionKind, size: usize, bytes: usize) {
        let request = SectionRequest::new("s", kind, size, align(bytes));
        let id = self.manager.allocate_section(&request).unwrap();
        let pattern = pattern(self.sections.len());
        self.manager.section_mut(id).unwrap().fill(pattern);
        self.sections.push((id, request));
    }

    /// Every section is aligned, keeps its bytes before and after finalization, and overlaps no other one.
    fn check(mut self) -> (Image, Vec<SectionId>) {
        for (number, &(id, _)) in self.sections.iter().enumerate() {
            let intact = self
                .manager
                .section_mut(id)
                .unwrap()
                .iter()
                .all(|&byte| byte == pattern(number));
            assert!(intact, "section {number} before finalization");
        }
        let image = self.manager.finalize_memory().unwrap();
        let mut places = Vec::new();
        for (number, &(id, request)) in self.sections.iter().enumerate() {
            let section = image.section(id).unwrap();
            let start = section.address().get();
            assert!(request.align().divides(start as usize), "section {number}");
            // SAFETY: a section of an image that is alive, and which nobody writes.
            let bytes =
                unsafe { std::slice::from_raw_parts(section.pointer().as_ptr(), section.size()) };
            assert!(
                bytes.iter().all(|&byte| byte == pattern(number)),
                "section {number}"
            );
            places.push((start, start + section.size() as u64));
        }
        places.sort_unstable();
        assert!(
            places.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "sections overlap"
        );
        (image, self.sections.into_iter().map(|(id, _)| id).collect())
    }
}

fn pattern(number: usize) -> u8 {
    (number % 251) as u8 + 1
}

fn totals(code: usize, rodata: usize, rwdata: usize, bytes: usize) -> PerKind<Extent> {
    PerKind::new(code, rodata, rwdata).map(|size| Extent::new(size, align(bytes)))
}

/// Two code sections, one of constants and one of variables, of the same size.
fn two_one_one(size: usize) -> Filled {
    let mut filled = Filled::new();
    filled.reserve(totals(2 * size, size, size, DEFAULT));
    filled.allocate(SectionKind::Code, size, DEFAULT);
    filled.allocate(SectionKind::ReadOnlyData, size, DEFAULT);
    filled.allocate(SectionKind::Code, size, DEFAULT);
    filled.allocate(SectionKind::ReadWriteData, size, DEFAULT);
    filled
}

#[test]
fn basic_allocations() {
    two_one_one(256).check();
}

#[test]
fn large_allocations() {
    two_one_one(0x10_0000).check();
}

#[test]
fn many_allocations() {
    let mut filled = Filled::new();
    filled.reserve(totals(10_000 * 32, 5_000 * 32, 5_000 * 32, DEFAULT));
    for number in 0..10_000 {
        filled.allocate(SectionKind::Code, 32, DEFAULT);
        let constant = number % 2 == 0;
        filled.allocate(
            if constant {
                SectionKind::ReadOnlyData
            } else {
                SectionKind::ReadWriteData
            },
            32,
            DEFAULT,
        );
    }
    filled.check();
}

/// Ten thousand code sections of 1 to 16 bytes and as many of data of 1 to 8, aligned to 8, 16, 32 and 64 in turn.
fn many_varied() -> Filled {
    let mut filled = Filled::new();
    filled.reserve(totals(10_000 * 64, 10_000 * 64, 10_000 * 64, 64));
    for number in 0..10_000 {
        let bytes = 8 << (number % 4);
        filled.allocate(SectionKind::Code, number % 16 + 1, bytes);
        let constant = number % 3 == 0;
        let kind = if constant {
            SectionKind::ReadOnlyData
        } else {
            SectionKind::ReadWriteData
        };
        filled.allocate(kind, number % 8 + 1, bytes);
    }
    filled
}

#[test]
fn many_varied_allocations() {
    many_varied().check();
}

#[test]
fn preallocation_gives_each_object_a_block_of_its_own() {
    let mut manager = SectionMemoryManager::new();
    let mut spans = Vec::new();
    let mut images = Vec::new();
    for _ in 0..2 {
        manager
            .reserve_allocation_space(&AllocationSpace::Totals(totals(512, 256, 256, 16)))
            .unwrap();
        for (kind, size) in [
            (SectionKind::Code, 256),
            (SectionKind::ReadOnlyData, 256),
            (SectionKind::Code, 256),
            (SectionKind::ReadWriteData, 256),
        ] {
            manager
                .allocate_section(&SectionRequest::new("s", kind, size, align(DEFAULT)))
                .unwrap();
        }
        let image = manager.finalize_memory().unwrap();
        let places: Vec<u64> = image
            .sections()
            .map(|section| section.address().get())
            .collect();
        let (low, high) = (*places.iter().min().unwrap(), *places.iter().max().unwrap());
        assert!(
            high - low < 3 * region::page::size() as u64,
            "one block, three sub-arenas of a page"
        );
        spans.push((low, high));
        images.push(image);
    }
    assert!(
        spans[0].1 < spans[1].0 || spans[1].1 < spans[0].0,
        "a new block after finalization: {spans:x?}"
    );
}

#[test]
fn many_preallocated_sections_lie_within_a_gib() {
    // LLVM announces an alignment of 8 and then asks for up to 64; an honest plan announces 64.
    let (image, ids) = many_varied().check();
    let places: Vec<u64> = ids
        .iter()
        .map(|&id| image.address(id).unwrap().get())
        .collect();
    assert!(places.iter().max().unwrap() - places.iter().min().unwrap() < FAR);
}

#[test]
fn an_alignment_that_was_not_announced_is_met_or_refused() {
    // The dishonest plan: each section is aligned all the same, until what rounding left over is used up.
    let mut manager = SectionMemoryManager::new();
    manager
        .reserve_allocation_space(&AllocationSpace::Totals(totals(100, 100, 100, 8)))
        .unwrap();
    let strict = SectionRequest::new("s", SectionKind::ReadWriteData, 8, align(64));
    let mut allocated = 0;
    let refused = loop {
        match manager.allocate_section(&strict) {
            Ok(id) => assert!(
                strict
                    .align()
                    .divides(manager.address(id).unwrap().get() as usize)
            ),
            Err(error) => break error,
        }
        allocated += 1;
    };
    assert_eq!(allocated, region::page::size() / 64);
    assert!(
        matches!(
            refused,
            nearcode::Error::ReservationExhausted { available: 0, .. }
        ),
        "{refused}"
    );
}
