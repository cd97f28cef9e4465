//! Random operations against a naive model, and after every one of them the kernel's own map of the process: what the model
//! says is there, with the permissions of its kind, and nothing else is.
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;

use std::collections::BTreeMap;
use std::ops::Range;

use nearcode::{
    Align, AllocationSpace, Image, ReservationId, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest,
};

/// What the kernel says: where pages begin and end, and their permissions.
type Found = BTreeMap<usize, (usize, String)>;

/// Pages, and what the kernel is to say of them.
type Map = BTreeMap<usize, (usize, &'static str)>;

/// What the test believes of one reservation: its pages by kind.
struct Block {
    id: ReservationId,
    kinds: Vec<(SectionKind, Range<usize>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Writable,
    Final,
}

impl Block {
    fn expect(&self, state: State, map: &mut Map) {
        for (kind, pages) in &self.kinds {
            let permissions = match (state, kind) {
                (State::Writable, _) | (_, SectionKind::ReadWriteData) => "rw-p",
                (State::Final, SectionKind::Code) => "r-xp",
                (State::Final, SectionKind::ReadOnlyData) => "r--p",
            };
            map.insert(pages.start, (pages.end, permissions));
        }
    }
}

/// What the kernel says of all pages outside of `ignored` and of the heap, which grows as it likes, after it was seen that
/// nothing at all is writable and executable.
fn kernels_map(ignored: &[Range<usize>]) -> Found {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut found = Found::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, permissions) = (words.next().unwrap(), words.next().unwrap());
        assert!(
            !(permissions.contains('w') && permissions.contains('x')),
            "{line}"
        );
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (
            usize::from_str_radix(start, 16).unwrap(),
            usize::from_str_radix(end, 16).unwrap(),
        );
        if words.nth(3) == Some("[heap]") {
            continue;
        }
        // A block may have been merged with its neighbour, under whatever name: what was ignored is cut off.
        let mut from = start;
        for known in ignored
            .iter()
            .filter(|known| known.start < end && start < known.end)
        {
            if from < known.start {
                found.insert(from, (known.start, permissions.to_owned()));
            }
            from = known.end;
        }
        if from < end {
            found.insert(from, (end, permissions.to_owned()));
        }
    }
    found
}

/// Neighbours with equal permissions are one mapping to the kernel, whoever they belong to.
fn merged(map: &Map) -> Found {
    let mut merged: Found = BTreeMap::new();
    for (&start, &(end, permissions)) in map {
        if let Some(mut last) = merged.last_entry() {
            let (last_end, last_permissions) = last.get_mut();
            if *last_end == start && last_permissions == permissions {
                *last_end = end;
                continue;
            }
        }
        merged.insert(start, (end, permissions.to_owned()));
    }
    merged
}

/// The kernel merges where it can, not always: adjacent entries of equal permissions count as one.
fn normalized(map: Found) -> Found {
    let mut all: Found = BTreeMap::new();
    for (start, (end, permissions)) in map {
        match all.last_entry() {
            Some(mut last) if last.get().0 == start && last.get().1 == permissions => {
                last.get_mut().0 = end
            }
            _ => {
                all.insert(start, (end, permissions));
            }
        }
    }
    all
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Reserves sections of random kinds, allocates them in another order, and fills them.
fn reserve(manager: &mut SectionMemoryManager, random: &mut Random) -> Block {
    let page = region::page::size();
    let align = Align::new(16).unwrap();
    let count = random.below(6);
    let sections: Vec<SectionRequest<'_>> = (0..count)
        .map(|_| {
            SectionRequest::new(
                "s",
                SectionKind::ALL[random.below(3)],
                16 * random.below(600),
                align,
            )
        })
        .collect();
    let id = manager
        .reserve_allocation_space(&AllocationSpace::Sections(&sections))
        .unwrap();
    let mut lowest = usize::MAX;
    for section in sections.iter().rev() {
        let section = manager.allocate_section(section).unwrap();
        manager.section_mut(section).unwrap().fill(0xab);
        lowest = lowest.min(manager.address(section).unwrap().get() as usize);
    }
    // Sizes are multiples of the one alignment: each kind takes their sum, in whole pages, one kind after the other.
    let mut start = lowest / page * page;
    let mut kinds = Vec::new();
    for kind in SectionKind::ALL {
        let of_kind = sections.iter().filter(|section| section.kind() == kind);
        let size = of_kind
            .map(SectionRequest::size)
            .sum::<usize>()
            .next_multiple_of(page);
        if size > 0 {
            kinds.push((kind, start..start + size));
            start += size;
        }
    }
    Block { id, kinds }
}

fn steps(default: usize) -> usize {
    let asked = std::env::var("NEARCODE_STEPS").ok();
    asked.map_or(default, |steps| {
        steps.parse().expect("NEARCODE_STEPS is a number")
    })
}

fn operations(count: usize, seed: u64) {
    let mut random = Random(seed);
    let mut manager = SectionMemoryManager::new();
    let mut in_flight: Vec<Block> = Vec::with_capacity(64);
    let mut alive: Vec<(Block, Image)> = Vec::with_capacity(64);
    // What was there before, among it the memory that the test itself works with.
    let before = kernels_map(&[]);
    let ignored: Vec<Range<usize>> = before
        .iter()
        .map(|(&start, (end, _))| start..*end)
        .collect();
    let mut done = [0usize; 5];
    for step in 0..count {
        let choice = random.below(100);
        let action = match choice {
            0..40 if in_flight.len() + alive.len() < 24 => {
                in_flight.push(reserve(&mut manager, &mut random));
                0
            }
            40..55 if !in_flight.is_empty() => {
                let block = in_flight.remove(random.below(in_flight.len()));
                manager.abandon(block.id).unwrap();
                1
            }
            55..75 => {
                let mut image = manager.finalize_memory().unwrap();
                for block in in_flight.drain(..) {
                    let part = image.split(block.id).unwrap();
                    alive.push((block, part));
                }
                assert_eq!(image.reservations().len(), 0);
                2
            }
            75..80 if alive.len() > 1 => {
                // Joined and split again, nothing has moved.
                let (second, image) = alive.pop().unwrap();
                let (_, first) = alive.last_mut().unwrap();
                first.join(image);
                let image = first.split(second.id).unwrap();
                alive.push((second, image));
                3
            }
            _ if !alive.is_empty() => {
                alive.swap_remove(random.below(alive.len()));
                4
            }
            _ => continue,
        };
        done[action] += 1;
        let mut model = Map::new();
        in_flight
            .iter()
            .for_each(|block| block.expect(State::Writable, &mut model));
        alive
            .iter()
            .for_each(|(block, _)| block.expect(State::Final, &mut model));
        let (expected, found) = (merged(&model), normalized(kernels_map(&ignored)));
        assert_eq!(found, expected, "after step {step}");
        let stats = manager.stats();
        assert_eq!(
            (stats.in_flight(), stats.objects()),
            (in_flight.len(), alive.len())
        );
    }
    assert!(
        done.iter().all(|&times| times > count / 100),
        "every operation occurred: {done:?}"
    );
    drop((manager, in_flight, alive));
    assert_eq!(
        normalized(kernels_map(&ignored)),
        BTreeMap::new(),
        "nothing is left over"
    );
}

#[test]
fn the_kernels_map_agrees_with_the_model_after_every_step() {
    if child::argument().is_some() {
        return operations(steps(100_000), 0x9e37_79b9_7f4a_7c15);
    }
    if child::is_emulated() {
        println!("skipped: an emulator makes the map up by itself");
        return;
    }
    // In a process of its own: nobody else maps anything meanwhile.
    let output = child::in_a_child(
        "the_kernels_map_agrees_with_the_model_after_every_step",
        "child",
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
