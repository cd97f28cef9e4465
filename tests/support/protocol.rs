//! Any history of two managers that share a source, against a naive model: what was promised is given, nobody has a byte of
//! another's, what was written stays, and every byte and every count of the statistics is accounted for.
#![allow(dead_code)] // Of the tools, this needs a part.

#[path = "protocol_case.rs"]
mod case;
#[path = "window_tools.rs"]
mod tools;

use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) use case::TestCase;
use case::{Shape, Source, Step, up};
use nearcode::{
    AllocationSpace, DedicatedBlocks, Error, Extent, Image, PerKind, ReservationId,
    ReservingMemoryManager, SectionId, SectionMemoryManager, Stats, Window,
};
use tools::{assert_accounted, assert_unchanged, is_fresh, options, range};

/// What the model believes of a section.
#[derive(Debug)]
struct Section {
    id: SectionId,
    shape: Shape,
    place: Range<u64>,
    value: u8,
}

/// What it believes of a reservation.
#[derive(Debug)]
struct Object {
    id: ReservationId,
    manager: usize,
    sections: Vec<Section>,
    /// What was announced in a list and not asked for yet.
    promised: Vec<Shape>,
    /// What is left of announced totals; nothing of a kind of which more was had than the law of totals has in view.
    totals: PerKind<Extent>,
    /// The least and the most that the books can say was asked for while it is in flight.
    asked: Range<u128>,
}

struct Model {
    source: Source,
    window: Option<Window>,
    managers: [SectionMemoryManager; 2],
    newest: [Option<ReservationId>; 2],
    in_flight: Vec<Object>,
    alive: Vec<(Vec<Object>, Image)>,
    /// Where every byte in use is: start and end.
    places: BTreeMap<u64, u64>,
    gone: Vec<SectionId>,
}

/// Goes through a case.
pub(crate) fn check(case: &TestCase) {
    let mut model = Model::new(case.source);
    for (manager, step) in &case.steps {
        model.step(*manager, step);
        model.assert_books();
    }
    for manager in [0, 1] {
        model.finalize(manager);
    }
    while !model.alive.is_empty() {
        model.drop_image(0);
        model.assert_books();
    }
    assert!(model.places.is_empty());
    if model.window.is_none() {
        assert_eq!(model.stats(), Stats::default());
    }
}

impl Model {
    fn new(source: Source) -> Self {
        let mut window = None;
        let managers = match source {
            Source::Blocks(reach, headroom) => {
                let blocks = DedicatedBlocks::new()
                    .with_reach(reach)
                    .with_headroom(headroom);
                [(); 2].map(|()| SectionMemoryManager::with_blocks(blocks.clone()))
            }
            Source::Window(writing) => {
                let options = options(writing).with_size(24 << 20);
                let shared = window.insert(Window::with_options(&options).expect("a small window"));
                [(); 2].map(|()| SectionMemoryManager::in_window(shared))
            }
        };
        Self {
            source,
            window,
            managers,
            newest: [None; 2],
            in_flight: Vec::new(),
            alive: Vec::new(),
            places: BTreeMap::new(),
            gone: Vec::new(),
        }
    }

    fn stats(&self) -> Stats {
        self.managers[0].stats()
    }

    fn step(&mut self, manager: usize, step: &Step) {
        let chosen = |number: usize, among: usize| (among > 0).then(|| number % among);
        match *step {
            Step::Reserve(ref list) => self.reserve(manager, list, false),
            Step::ReserveTotals(ref list) => self.reserve(manager, list, true),
            Step::Allocate(shape) => self.allocate(manager, shape, 7),
            Step::AllocatePromised(number) => {
                let newest = self.newest(manager);
                let promised = newest.map_or(Vec::new(), |at| self.in_flight[at].promised.clone());
                if let Some(at) = chosen(number, promised.len()) {
                    self.allocate(manager, promised[at], number as u8);
                }
            }
            Step::Write(number, value) => {
                if let Some(at) = chosen(number, self.in_flight.len()) {
                    self.write(at, value);
                }
            }
            Step::Abandon(number) => {
                if let Some(at) = chosen(number, self.in_flight.len()) {
                    self.abandon(manager, at);
                }
            }
            Step::Finalize => self.finalize(manager),
            Step::Split(image, part) => {
                if let Some(at) = chosen(image, self.alive.len()) {
                    self.split(at, part);
                }
            }
            Step::Join(one, other) => {
                if let (2.., Some(at)) = (self.alive.len(), chosen(one, self.alive.len())) {
                    self.join(at, other);
                }
            }
            Step::Drop(number) => {
                if let Some(at) = chosen(number, self.alive.len()) {
                    self.drop_image(at);
                }
            }
            Step::Misuse(number) => {
                let others = self.in_flight.iter().filter(|o| o.manager != manager);
                let others = others.flat_map(|object| object.sections.iter().map(|s| s.id));
                let all: Vec<SectionId> = others.chain(self.gone.iter().copied()).collect();
                if let Some(at) = chosen(number, all.len()) {
                    self.misuse(manager, all[at]);
                }
            }
        }
    }

    fn newest(&self, manager: usize) -> Option<usize> {
        let id = self.newest[manager]?;
        self.in_flight.iter().position(|object| object.id == id)
    }

    fn reserve(&mut self, manager: usize, list: &[Shape], as_totals: bool) {
        let requests: Vec<_> = list.iter().map(|shape| shape.request()).collect();
        let in_list = AllocationSpace::Sections(&requests);
        let totals = match in_list.totals() {
            Ok(totals) => totals,
            Err(error) => {
                let footprints = list.iter().map(|shape| up(shape.footprint(), shape.align));
                let sum: u128 = footprints.sum();
                let strictest = list.iter().map(|shape| shape.align).max();
                let slack = strictest.map_or(0, |align| align.bytes() as u128) * list.len() as u128;
                assert!(sum + slack > usize::MAX as u128, "{error}");
                return;
            }
        };
        let space = match as_totals {
            true => AllocationSpace::Totals(totals),
            false => in_list,
        };
        let before = self.stats();
        let reserved = self.managers[manager].reserve_allocation_space(&space);
        let least: u128 = list.iter().map(|shape| shape.footprint()).sum();
        let most: u128 = totals.iter().map(|(_, total)| total.size() as u128).sum();
        let id = match reserved {
            Ok(id) => id,
            Err(error) => {
                self.assert_reason(&error, &totals, &before);
                assert_unchanged(&before, &self.stats());
                return;
            }
        };
        if let Source::Blocks(reach, _) = self.source {
            assert!(least <= u128::from(reach.bytes()));
        }
        let nothing = PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY);
        self.newest[manager] = Some(id);
        self.in_flight.push(Object {
            id,
            manager,
            sections: Vec::new(),
            promised: if as_totals { Vec::new() } else { list.to_vec() },
            totals: if as_totals { totals } else { nothing },
            asked: if as_totals { most } else { least }..most + 1,
        });
    }

    /// A reservation was refused for a reason that the model sees.
    fn assert_reason(&self, error: &Error, totals: &PerKind<Extent>, before: &Stats) {
        match (self.source, error) {
            (Source::Blocks(reach, headroom), Error::SpanTooLarge { limit, .. }) => {
                // With pages of up to 64 KiB, and everything moved up by the strictest alignment.
                let most = totals.iter().map(|(kind, total)| {
                    let size = total.size() as u128 + headroom[kind] as u128;
                    size + (64 << 10) + total.align().bytes() as u128
                });
                assert_eq!(*limit, reach.bytes());
                assert!(most.sum::<u128>() > u128::from(*limit), "{error}");
            }
            (Source::Blocks(..), Error::System { .. }) => {
                let strictest = totals.iter().map(|(_, total)| total.align()).max();
                assert!(
                    strictest.is_some_and(|align| align.bytes() > 1 << 30),
                    "{error}"
                );
            }
            (_, Error::SizeOverflow { .. }) => {
                assert!(
                    totals.iter().any(|(_, total)| total.size() >= 1 << 55),
                    "{error}"
                );
            }
            (Source::Window(_), _) => self.assert_full(error, before),
            _ => panic!("{error}"),
        }
    }

    /// A window refused what it said it did not have.
    fn assert_full(&self, error: &Error, before: &Stats) {
        match *error {
            Error::WindowExhausted {
                kind,
                requested,
                align,
                ..
            } => {
                // Whole pages, and what may be lost in front; a 64th is how exactly the largest piece is known.
                let page = region::page::size() as u128;
                let needed = (requested as u128).next_multiple_of(page) + align.bytes() as u128;
                let largest = before.largest_free()[kind] as u128;
                assert!(
                    needed + needed / 64 + page > largest,
                    "{error}, of {largest}"
                );
            }
            Error::AlignmentTooLarge { align, limit } => assert!(align > limit),
            _ => panic!("{error}"),
        }
    }

    fn allocate(&mut self, manager: usize, shape: Shape, value: u8) {
        let before = self.stats();
        let newest = self.newest(manager);
        let promised = newest.and_then(|at| {
            let mut promised = self.in_flight[at].promised.iter();
            promised.position(|other| other.looks_like(shape))
        });
        let total = newest.map_or(Extent::EMPTY, |at| self.in_flight[at].totals[shape.kind]);
        let rounded = up(shape.footprint(), total.align());
        let is_in_total = shape.align <= total.align() && rounded <= total.size() as u128;
        let id = match self.managers[manager].allocate_section(&shape.request()) {
            Ok(id) => id,
            Err(error) => {
                let is_promised = promised.is_some() || (is_in_total && total != Extent::EMPTY);
                assert!(!is_promised, "{shape:?} was promised: {error}");
                assert_unchanged(&before, &self.stats());
                match (self.source, &error) {
                    (Source::Blocks(..), Error::NotReserved { .. }) => assert_eq!(newest, None),
                    (Source::Blocks(..), &Error::ReservationExhausted { available, .. }) => {
                        assert!((available as u128) < shape.footprint() || shape.size == 0);
                        if available > 0 {
                            let (size, is_terminated) = (available, false);
                            let less = Shape {
                                size,
                                is_terminated,
                                ..shape
                            };
                            self.allocate(manager, less, value);
                            assert!(
                                newest.is_some_and(|at| !self.in_flight[at].sections.is_empty())
                            );
                        }
                    }
                    (_, Error::SizeOverflow { .. }) => assert!(shape.footprint() > 1 << 55),
                    _ => self.assert_full(&error, &before),
                }
                return;
            }
        };
        let newest = newest.unwrap_or_else(|| {
            assert!(self.window.is_some(), "a block that nobody reserved");
            self.newest[manager] = Some(id.reservation());
            self.in_flight.push(Object {
                id: id.reservation(),
                manager,
                sections: Vec::new(),
                promised: Vec::new(),
                totals: PerKind::new(Extent::EMPTY, Extent::EMPTY, Extent::EMPTY),
                asked: 0..1,
            });
            self.in_flight.len() - 1
        });
        let object = &mut self.in_flight[newest];
        assert_eq!(
            (id.reservation(), id.index()),
            (object.id, object.sections.len())
        );
        if let Some(at) = promised {
            object.promised.swap_remove(at);
        }
        let left = total
            .size()
            .checked_sub(rounded as usize)
            .filter(|_| is_in_total);
        if shape.footprint() > 0 {
            let left = left.map_or(Extent::EMPTY, |left| Extent::new(left, total.align()));
            object.totals[shape.kind] = left;
        }
        let start = self.managers[manager]
            .address(id)
            .expect("it is there")
            .get();
        assert_eq!(start % shape.align.bytes() as u64, 0, "{shape:?}");
        let content = self.managers[manager].section_mut(id).expect("it is there");
        assert_eq!(content.len(), shape.size);
        assert!(is_fresh(shape.kind, content), "{shape:?}");
        content.fill(value);
        let section = Section {
            id,
            shape,
            place: start..start + shape.footprint() as u64,
            value,
        };
        self.settle(newest, section);
    }

    /// Nobody else has a byte of a new section, and it is in reach of its neighbours.
    fn settle(&mut self, object: usize, section: Section) {
        let place = section.place.clone();
        if !place.is_empty() {
            let below = self.places.range(..place.end).next_back();
            assert!(
                below.is_none_or(|(_, &end)| end <= place.start),
                "{place:x?}"
            );
            self.places.insert(place.start, place.end);
        }
        let object = &mut self.in_flight[object];
        object.sections.push(section);
        let places = || object.sections.iter().map(|section| &section.place);
        let first = places()
            .map(|place| place.start)
            .min()
            .expect("one is there");
        let last = places().map(|place| place.end).max().expect("one is there");
        match (self.source, &self.window) {
            (Source::Blocks(reach, _), _) => assert!(last - first <= reach.bytes()),
            (_, Some(window)) => {
                let inside = range(window);
                assert!(inside.start as u64 <= first && last <= inside.end as u64);
            }
            _ => unreachable!("a window has one"),
        }
    }

    fn write(&mut self, object: usize, value: u8) {
        let object = &mut self.in_flight[object];
        let manager = &mut self.managers[object.manager];
        for section in &mut object.sections {
            let content = manager.section_mut(section.id).expect("it is in flight");
            assert!(content.iter().all(|&byte| byte == section.value));
            section.value = value;
            let start = manager.write_pointer(section.id).expect("it is in flight");
            // SAFETY: so many bytes can be written there, and no slice of them is borrowed.
            unsafe { start.write_bytes(value, section.shape.size) };
        }
    }

    fn abandon(&mut self, manager: usize, object: usize) {
        let abandoned = self.managers[manager].abandon(self.in_flight[object].id);
        if self.in_flight[object].manager != manager {
            let error = abandoned.expect_err("it is the other manager's");
            assert!(matches!(error, Error::UnknownReservation(_)), "{error}");
            return;
        }
        abandoned.expect("it is in flight");
        let object = self.in_flight.remove(object);
        self.newest[manager] = self.newest[manager].filter(|&newest| newest != object.id);
        self.forget(&object);
    }

    fn finalize(&mut self, manager: usize) {
        let image = self.managers[manager]
            .finalize_memory()
            .expect("nothing refuses it");
        let all = std::mem::take(&mut self.in_flight);
        let (ready, rest) = all
            .into_iter()
            .partition(|object| object.manager == manager);
        self.in_flight = rest;
        self.newest[manager] = None;
        self.gone.clear();
        for object in &ready {
            self.gone
                .extend(object.sections.iter().map(|section| section.id));
        }
        self.alive.push((ready, image));
        assert_content(self.alive.last().expect("just put there"));
    }

    fn split(&mut self, image: usize, part: usize) {
        let (objects, image) = &mut self.alive[image];
        if objects.is_empty() {
            return;
        }
        let object = objects.remove(part % objects.len());
        let part = image.split(object.id).expect("a part of it");
        let again = image.split(object.id).expect_err("no longer a part of it");
        assert!(matches!(again, Error::UnknownReservation(_)), "{again}");
        self.alive.push((vec![object], part));
        assert_content(self.alive.last().expect("just put there"));
    }

    fn join(&mut self, one: usize, other: usize) {
        let (objects, image) = self.alive.swap_remove(one);
        let other = other % self.alive.len();
        let (joined, whole) = &mut self.alive[other];
        whole.join(image);
        joined.extend(objects);
        joined.sort_by_key(|object| object.id);
        assert_content(&self.alive[other]);
    }

    fn drop_image(&mut self, image: usize) {
        let all = self.alive.swap_remove(image);
        assert_content(&all);
        drop(all.1);
        all.0.iter().for_each(|object| self.forget(object));
    }

    fn forget(&mut self, object: &Object) {
        for section in object.sections.iter().filter(|s| !s.place.is_empty()) {
            let end = self.places.remove(&section.place.start);
            assert_eq!(end, Some(section.place.end));
        }
    }

    fn misuse(&mut self, manager: usize, id: SectionId) {
        let manager = &mut self.managers[manager];
        let errors = [
            manager.section_mut(id).err(),
            manager.write_pointer(id).err(),
            manager.address(id).err(),
        ];
        for error in errors {
            assert!(matches!(error, Some(Error::UnknownSection(_))), "{error:?}");
        }
    }

    fn assert_books(&self) {
        let stats = self.stats();
        let alive = || self.alive.iter().flat_map(|(objects, _)| objects);
        let counts = (stats.in_flight(), stats.objects());
        assert_eq!(counts, (self.in_flight.len(), alive().count()));
        let sections = alive().flat_map(|object| &object.sections);
        let published: u128 = sections.map(|section| section.shape.footprint()).sum();
        let in_flight = self.in_flight.iter().map(|object| &object.asked);
        let (least, most) = in_flight.fold((published, published), |(least, most), asked| {
            (least + asked.start, most + asked.end - 1)
        });
        let asked = stats.asked() as u128;
        assert!((least..=most).contains(&asked), "{least} {most} {stats:?}");
        match &self.window {
            Some(window) => assert_accounted(window),
            None => {
                assert!(stats.asked() <= stats.committed(), "{stats:?}");
                assert!(stats.committed() <= stats.granted(), "{stats:?}");
                assert!(stats.granted() <= stats.reserved(), "{stats:?}");
                let used: u64 = self.places.iter().map(|(start, end)| end - start).sum();
                assert!(used <= stats.committed() as u64, "{used} {stats:?}");
            }
        }
    }
}

/// An image has what was written, where it was said to be, and nothing else; behind unwind tables are their terminators.
fn assert_content((objects, image): &(Vec<Object>, Image)) {
    let ids = objects.iter().map(|object| object.id);
    assert!(image.reservations().eq(ids));
    let sections = || objects.iter().flat_map(|object| &object.sections);
    assert!(
        image
            .sections()
            .map(|found| found.id())
            .eq(sections().map(|section| section.id))
    );
    for (section, found) in sections().zip(image.sections()) {
        let Section { shape, place, .. } = section;
        assert_eq!((found.kind(), found.size()), (shape.kind, shape.size));
        assert_eq!(found.address().get(), place.start);
        let size = shape.footprint() as usize;
        // SAFETY: it and its terminator are readable for as long as the image lives; nobody writes meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(found.pointer().as_ptr(), size) };
        let (own, terminator) = bytes.split_at(shape.size);
        assert!(own.iter().all(|&byte| byte == section.value), "{section:?}");
        assert!(terminator.iter().all(|&byte| byte == 0), "{section:?}");
    }
}
