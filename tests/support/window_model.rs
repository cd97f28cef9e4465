//! Random operations on a window beside a naive model of what it has to hold.
#![allow(dead_code)] // Each test crate uses its own part.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;

use nearcode::{
    AllocationSpace, Error, Image, ReservationId, ReservingMemoryManager, SectionId, SectionKind,
    SectionMemoryManager, Window, Writing,
};
use rustix::io::Errno;
use rustix::mm::{MprotectFlags, mprotect};

use crate::tools::{
    self, KernelsMap, Mapping, Random, assert_unchanged, bytes, capacity, options, range, request,
    returning, run,
};

pub const MANAGERS: usize = 3;

/// What the test believes of one section.
pub struct Section {
    pub id: SectionId,
    pub kind: SectionKind,
    pub place: Range<usize>,
    /// What code of some size returns, and what fills everything else.
    pub value: u8,
}

/// What the test believes of one reservation.
pub struct Object {
    pub manager: usize,
    pub id: ReservationId,
    /// How many spans of pages that change their permission it may have.
    pub pieces: usize,
    pub sections: Vec<Section>,
}

pub struct Model {
    pub window: Window,
    pub random: Random,
    pub managers: Vec<SectionMemoryManager>,
    pub in_flight: Vec<Object>,
    pub alive: Vec<(Object, Image)>,
    /// Every section of some size: where it begins and ends.
    pub places: BTreeMap<usize, usize>,
    /// How often each operation was done.
    pub done: [usize; 7],
    pub most_mappings: usize,
}

impl Model {
    pub fn new(writing: Writing, seed: u64) -> Self {
        let window = Window::with_options(&options(writing).with_size(24 << 20)).unwrap();
        Self {
            random: Random(seed),
            managers: (0..MANAGERS)
                .map(|_| SectionMemoryManager::in_window(&window))
                .collect(),
            window,
            in_flight: Vec::with_capacity(64),
            alive: Vec::with_capacity(64),
            places: BTreeMap::new(),
            done: [0; 7],
            most_mappings: 0,
        }
    }

    fn a_request(&mut self) -> (SectionKind, usize, usize) {
        let random = &mut self.random;
        let size = match random.below(100) {
            0..10 => 0,
            10..80 => random.below(3000),
            80..98 => random.below(40_000),
            _ => random.below(600_000),
        };
        let align = match random.below(100) {
            0..90 => 1 << random.below(7),
            90..99 => 1 << random.below(17),
            _ => 2 << 20,
        };
        (SectionKind::ALL[random.below(3)], size, align)
    }

    /// Reserves with a list, with totals or with nothing, and allocates what was announced in another order.
    fn reserve(&mut self) {
        let manager = self.random.below(MANAGERS);
        let before = self.window.stats();
        let sections: Vec<_> = (0..self.random.below(6))
            .map(|_| self.a_request())
            .collect();
        let list: Vec<_> = sections
            .iter()
            .map(|&(kind, size, align)| request(kind, size, align))
            .collect();
        let totals = AllocationSpace::Sections(&list).totals().unwrap();
        let (space, announced) = match self.random.below(4) {
            0 => (AllocationSpace::EMPTY, false),
            1 => (AllocationSpace::Totals(totals), true),
            _ => (AllocationSpace::Sections(&list), true),
        };
        let id = match self.managers[manager].reserve_allocation_space(&space) {
            Ok(id) => id,
            Err(Error::WindowExhausted { .. }) => {
                self.done[6] += 1;
                return assert_unchanged(&before, &self.window.stats());
            }
            Err(error) => panic!("{error}"),
        };
        let kinds = [SectionKind::Code, SectionKind::ReadOnlyData];
        let pieces = kinds.iter().filter(|&&kind| totals[kind].size() > 0);
        self.in_flight.push(Object {
            manager,
            id,
            pieces: if announced { pieces.count() } else { 0 },
            sections: Vec::new(),
        });
        let granted = self.window.stats().granted();
        if announced {
            for &(kind, size, align) in sections.iter().rev() {
                assert!(
                    self.allocate(manager, kind, size, align),
                    "it was announced"
                );
            }
            assert_eq!(self.window.stats().granted(), granted, "{space:?}");
        }
        self.done[0] += 1;
    }

    /// Allocates and fills a section from whatever is there. Whether there was room.
    fn allocate(&mut self, manager: usize, kind: SectionKind, size: usize, align: usize) -> bool {
        let before = self.window.stats();
        let request = request(kind, size, align);
        let id = match self.managers[manager].allocate_section(&request) {
            Ok(id) => id,
            Err(Error::WindowExhausted { .. }) => {
                self.done[6] += 1;
                assert_unchanged(&before, &self.window.stats());
                return false;
            }
            Err(error) => panic!("{error}"),
        };
        let start = self.managers[manager].address(id).unwrap().get() as usize;
        let place = start..start + size;
        let inside = range(&self.window);
        assert!(start % align == 0 && inside.start < start && place.end < inside.end);
        if size > 0 {
            let below = self.places.range(..place.end).next_back();
            assert!(
                below.is_none_or(|(_, &end)| end <= start),
                "{below:x?} {place:x?}"
            );
            self.places.insert(start, place.end);
        }
        let value = self.random.below(256) as u8;
        let content = self.managers[manager].section_mut(id).unwrap();
        assert!(tools::is_fresh(kind, content));
        content.fill(value);
        if kind == SectionKind::Code {
            let code = returning(u16::from(value));
            let fits = code.len().min(size);
            content[..fits].copy_from_slice(&code[..fits]);
        }
        let section = Section {
            id,
            kind,
            place,
            value,
        };
        let takes_pages = self.window.stats().granted() > before.granted();
        let pieces = usize::from(takes_pages && kind != SectionKind::ReadWriteData);
        let known = |object: &&mut Object| object.id == id.reservation();
        match self.in_flight.iter_mut().find(known) {
            Some(object) => {
                object.pieces += pieces;
                object.sections.push(section);
            }
            None => self.in_flight.push(Object {
                manager,
                id: id.reservation(),
                pieces,
                sections: vec![section],
            }),
        }
        true
    }

    fn forget(&mut self, object: &Object) {
        for section in object
            .sections
            .iter()
            .filter(|section| !section.place.is_empty())
        {
            assert_eq!(
                self.places.remove(&section.place.start),
                Some(section.place.end)
            );
        }
    }

    pub fn finalize(&mut self, manager: usize) {
        let mut image = self.managers[manager].finalize_memory().unwrap();
        let (ready, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|object| object.manager == manager);
        self.in_flight = rest;
        for object in ready {
            let part = image.split(object.id).unwrap();
            self.alive.push((object, part));
        }
        assert_eq!(image.reservations().len(), 0);
    }

    pub fn step(&mut self) {
        let is_full = self.in_flight.len() + self.alive.len() >= 40;
        match self.random.below(100) {
            0..30 if !is_full => self.reserve(),
            30..45 if !is_full => {
                let manager = self.random.below(MANAGERS);
                let (kind, size, align) = self.a_request();
                self.allocate(manager, kind, size, align);
                self.done[1] += 1;
            }
            45..55 if !self.in_flight.is_empty() => {
                let object = self.random.below(self.in_flight.len());
                let object = self.in_flight.swap_remove(object);
                self.managers[object.manager].abandon(object.id).unwrap();
                self.forget(&object);
                self.done[2] += 1;
            }
            55..68 => {
                let manager = self.random.below(MANAGERS);
                self.finalize(manager);
                self.done[3] += 1;
            }
            68..69 => {
                (0..MANAGERS).for_each(|manager| self.finalize(manager));
                self.done[4] += 1;
            }
            _ if !self.alive.is_empty() => {
                let object = self.random.below(self.alive.len());
                let (object, image) = self.alive.swap_remove(object);
                assert_content(&object, &image);
                drop(image);
                self.forget(&object);
                self.done[5] += 1;
            }
            _ => {}
        }
        if !self.alive.is_empty() {
            let (object, image) = &self.alive[self.random.below(self.alive.len())];
            assert_content(object, image);
        }
        let stats = self.window.stats();
        assert_eq!(stats.in_flight(), self.in_flight.len());
        assert_eq!(stats.objects(), self.alive.len());
        let free: usize = stats.free().iter().map(|(_, &free)| free).sum();
        let known = stats.granted() + free + stats.retired() + stats.frozen();
        assert_eq!(known, capacity(&self.window), "{stats:?}");
    }

    /// What the kernel may say at most: guards, kinds, and of code and read-only data a part that never was in use. What is in
    /// flight is writable where it will run, in the midst of what is not.
    fn most_mappings(&self) -> usize {
        let in_flight = self.in_flight.iter().map(|object| object.pieces);
        match self.window.capabilities().writing() {
            Writing::TwoAddresses => 7,
            Writing::SameAddress => 9 + 2 * in_flight.sum::<usize>(),
        }
    }

    /// Looks at the kernel's map.
    pub fn check(&mut self, map: &mut KernelsMap) {
        let window = range(&self.window);
        let found = map.inside(window.clone());
        let most = self.most_mappings();
        assert!(found.len() <= most, "{} of {most}: {found:x?}", found.len());
        self.most_mappings = self.most_mappings.max(found.len());
        let is_dual = self.window.capabilities().writing() == Writing::TwoAddresses;
        let sharing = if is_dual { b's' } else { b'p' };
        let mut reached = window.start;
        for mapping in &found {
            assert_eq!(mapping.start, reached, "no hole: {found:x?}");
            reached = mapping.end;
        }
        assert_eq!(reached, window.end);
        let expect = |object: &Object, is_final: bool| {
            for section in object
                .sections
                .iter()
                .filter(|section| !section.place.is_empty())
            {
                let expected = match (section.kind, is_final || is_dual) {
                    (SectionKind::Code, true) => [b'r', b'-', b'x', sharing],
                    (SectionKind::ReadOnlyData, true) => [b'r', b'-', b'-', sharing],
                    _ => *b"rw-p",
                };
                let covers = |mapping: &&Mapping| {
                    mapping.start < section.place.end && section.place.start < mapping.end
                };
                for mapping in found.iter().filter(covers) {
                    assert_eq!(mapping.permissions, expected, "{:x?}", section.place);
                }
            }
        };
        self.in_flight
            .iter()
            .for_each(|object| expect(object, false));
        self.alive
            .iter()
            .for_each(|(object, _)| expect(object, true));
    }

    /// Asks the kernel to let published memory be written after all.
    pub fn assert_refused(&self) {
        for (_, image) in &self.alive {
            for section in image.sections() {
                if section.size() == 0 || section.kind() == SectionKind::ReadWriteData {
                    continue;
                }
                let page = section.address().get() as usize & !(region::page::size() - 1);
                let page = page as *mut c_void;
                for flags in [
                    MprotectFlags::READ | MprotectFlags::WRITE,
                    MprotectFlags::READ | MprotectFlags::WRITE | MprotectFlags::EXEC,
                ] {
                    // SAFETY: more permissions on a page that stays readable and executable; nothing is written.
                    let refused = unsafe { mprotect(page, region::page::size(), flags) };
                    assert_eq!(refused, Err(Errno::ACCESS));
                }
            }
        }
    }
}

/// The image has what was written: read back by the CPU, and run.
pub fn assert_content(object: &Object, image: &Image) {
    for section in &object.sections {
        let content = bytes(image, section.id);
        assert_eq!(content.len(), section.place.len());
        let mut skip = 0;
        if section.kind == SectionKind::Code {
            let code = returning(u16::from(section.value));
            skip = code.len().min(content.len());
            assert_eq!(content[..skip], code[..skip]);
            if skip == code.len() && section.place.start % 4 == 0 {
                assert_eq!(run(image, section.id), i32::from(section.value));
            }
        }
        let rest = &content[skip..];
        let pattern = [section.value; 4096];
        assert!(rest.chunks(4096).all(|part| *part == pattern[..part.len()]));
    }
}
