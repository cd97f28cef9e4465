//! What memory is good for where a system is hostile or poor: a short life of one source of it, in which every promise is looked
//! at. Nothing here starts a thread, which would map a stack.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use nearcode::{
    AllocationSpace, DedicatedBlocks, Error, Image, Reach, ReservingMemoryManager, SectionId,
    SectionKind, SectionMemoryManager, Stats, Window, WindowOptions, Writing,
};
use rustix::io::Errno;
use rustix::mm::{MprotectFlags, mprotect};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::tools::{
    KernelsMap, assert_accounted, assert_empty, assert_unchanged, bytes, cut, in_memory, mapped,
    poke, range, request, returning, run,
};

/// Where memory may come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    TwoAddresses,
    SameAddress,
    Whichever,
    Blocks,
}

pub const SOURCES: [Source; 4] = [
    Source::TwoAddresses,
    Source::SameAddress,
    Source::Whichever,
    Source::Blocks,
];

/// What has to become of it.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Works,
    /// By one of these operations.
    Refused(&'static [&'static str]),
    MayBeRefused(&'static [&'static str]),
}

/// What this process has.
#[derive(PartialEq, Debug)]
struct Possessions {
    descriptors: Vec<i32>,
    mapped: Vec<(usize, usize, [u8; 4])>,
}

impl Possessions {
    fn look(map: &mut KernelsMap) -> Self {
        // SAFETY: asks whether a descriptor is open.
        let is_open = |descriptor: &i32| unsafe { libc::fcntl(*descriptor, libc::F_GETFD) } >= 0;
        Self {
            descriptors: (0..1024).filter(is_open).collect(),
            mapped: mapped(map),
        }
    }

    /// In words. There may be very many mappings.
    fn differences(&self, before: &Self) -> String {
        let come = self.mapped.iter().filter(|m| !before.mapped.contains(m));
        let gone = before.mapped.iter().filter(|m| !self.mapped.contains(m));
        let [come, gone] = [come.collect::<Vec<_>>(), gone.collect()];
        let descriptors = (&before.descriptors, &self.descriptors);
        format!("descriptors {descriptors:?}, mappings gone {gone:x?}, come {come:x?}")
    }
}

/// Lives once with memory of a source, and says how it went.
pub fn check(source: Source, size: usize, outcome: Outcome, map: &mut KernelsMap) -> String {
    let before = Possessions::look(map);
    let result = live(source, size, map);
    let after = Possessions::look(map);
    assert!(
        before == after,
        "{source:?} leaves something behind: {}",
        after.differences(&before)
    );
    match (result, outcome) {
        (Ok(found), Outcome::Works | Outcome::MayBeRefused(_)) => found,
        (Err(refused), Outcome::Refused(by) | Outcome::MayBeRefused(by)) => {
            let operation = match &refused {
                Error::System { operation, .. } => operation,
                Error::Barrier { .. } => "membarrier",
                other => panic!("{source:?}: {other}"),
            };
            assert!(by.contains(&operation), "{source:?}: {refused}");
            // Of a window that never could publish anything there is none.
            let is_there = !matches!(source, Source::Blocks) && Memory::of(source, size).is_ok();
            let is_late = is_there && matches!(outcome, Outcome::Refused(_));
            assert!(!is_late, "{source:?} is there, and then {refused}");
            refused.to_string()
        }
        (result, outcome) => panic!("{source:?}: {result:?}, not {outcome:?}"),
    }
}

/// What only the first life leaves behind, as the C library does, is there after this.
pub fn warm_up(sources: &[Source], map: &mut KernelsMap) {
    for &source in sources {
        live(source, 64 << 20, map).unwrap();
    }
}

enum Memory {
    Window(Window),
    Blocks(DedicatedBlocks),
}

impl Memory {
    fn of(source: Source, size: usize) -> Result<Self, Error> {
        let writing = match source {
            Source::TwoAddresses => Some(Writing::TwoAddresses),
            Source::SameAddress => Some(Writing::SameAddress),
            Source::Whichever => None,
            Source::Blocks => return Ok(Self::Blocks(DedicatedBlocks::new())),
        };
        let options = WindowOptions::new().with_size(size);
        let options = writing.map_or(options, |writing| options.with_writing(writing));
        let window = Window::with_options(&options)?;
        let found = window.capabilities();
        assert!(writing.is_none_or(|writing| writing == found.writing()));
        assert!(found.size() <= size);
        Ok(Self::Window(window))
    }

    fn manager(&self) -> SectionMemoryManager {
        match self {
            Self::Window(window) => SectionMemoryManager::in_window(window),
            Self::Blocks(blocks) => SectionMemoryManager::with_blocks(blocks.clone()),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Window(window) => window.stats(),
            Self::Blocks(blocks) => blocks.stats(),
        }
    }

    /// What it turned out to be.
    fn says(&self) -> String {
        match self {
            Self::Window(window) => format!("{window:?}"),
            Self::Blocks(_) => String::from("blocks"),
        }
    }
}

/// An object that was published.
struct Object {
    image: Image,
    ids: [SectionId; 3],
    value: u16,
}

impl Object {
    #[track_caller]
    fn assert_there(&self) {
        assert_eq!(run(&self.image, self.ids[0]), i32::from(self.value));
        for (id, value) in self.ids[1..]
            .iter()
            .zip([self.value as u8, !self.value as u8])
        {
            let content = bytes(&self.image, *id);
            let pattern = [value; 4096];
            assert!(
                content
                    .chunks(4096)
                    .all(|part| *part == pattern[..part.len()])
            );
        }
    }

    /// The addresses of all its sections.
    fn places(&self) -> impl Iterator<Item = Range<u64>> {
        let sections = self.image.sections();
        sections.map(|section| {
            let start = section.address().get();
            start..start + section.size() as u64
        })
    }
}

/// Publishes an object of sections of these sizes. Refused, everything is as it was.
fn publish(
    memory: &Memory,
    manager: &mut SectionMemoryManager,
    value: u16,
    sizes: [usize; 3],
    map: &mut KernelsMap,
) -> Result<Object, Error> {
    let before = memory.stats();
    let plan: [_; 3] = std::array::from_fn(|i| request(SectionKind::ALL[i], sizes[i], 16));
    let reserved = manager.reserve_allocation_space(&AllocationSpace::Sections(&plan));
    if reserved.is_err() {
        assert_unchanged(&before, &memory.stats());
    }
    reserved?;
    let ids = plan.map(|section| manager.allocate_section(&section).unwrap());
    let code = returning(value);
    let fill = |manager: &mut SectionMemoryManager| -> Result<(), Error> {
        manager.section_mut(ids[0])?[..code.len()].copy_from_slice(&code);
        manager.section_mut(ids[1])?.fill(value as u8);
        manager.section_mut(ids[2])?.fill(!value as u8);
        Ok(())
    };
    fill(manager).unwrap();
    let place = manager.address(ids[0]).unwrap().get() as usize;
    let in_flight = memory.stats();
    match manager.finalize_memory() {
        Ok(image) => Ok(Object { image, ids, value }),
        Err(refused) => {
            let is_executable = |map: &mut KernelsMap| {
                map.inside(place..place + 1)
                    .iter()
                    .any(|m| m.permissions[2] == b'x')
            };
            // As documented it is in flight as before, or gone.
            match manager.address(ids[0]) {
                Ok(_) => {
                    assert_eq!(memory.stats(), in_flight);
                    assert_eq!(manager.section_mut(ids[0]).unwrap()[..code.len()], code);
                    fill(manager).unwrap();
                }
                Err(_) => assert_unchanged(&before, &memory.stats()),
            }
            let is_shared = matches!(memory, Memory::Window(window)
                if window.capabilities().writing() == Writing::TwoAddresses);
            assert!(is_shared || !is_executable(map), "{refused}");
            Err(refused)
        }
    }
}

/// Publishes and drops objects, small and large, and looks at everything that is promised.
fn live(source: Source, size: usize, map: &mut KernelsMap) -> Result<String, Error> {
    let memory = Memory::of(source, size)?;
    let empty = memory.stats();
    let result = publish_and_drop(&memory, map);
    assert_unchanged(&empty, &memory.stats());
    map.read();
    if let Memory::Window(window) = &memory {
        match result {
            Ok(()) => assert_empty(window),
            Err(_) => assert_accounted(window),
        }
    }
    result.map(|()| memory.says())
}

fn publish_and_drop(memory: &Memory, map: &mut KernelsMap) -> Result<(), Error> {
    const SMALL: [usize; 3] = [64, 100, 40];
    const LARGE: [usize; 3] = [300 << 10, 300 << 10, 1536 << 10];
    let mut manager = memory.manager();
    let mut objects = Vec::with_capacity(8);
    for value in 0..4 {
        let sizes = if value == 2 { LARGE } else { SMALL };
        match publish(memory, &mut manager, value, sizes, map) {
            Ok(object) => objects.push(object),
            Err(refused) => {
                // What was there before is there.
                objects.iter().for_each(Object::assert_there);
                return Err(refused);
            }
        }
        objects.iter().for_each(Object::assert_there);
    }
    assert_sealed(memory, &objects, map);
    assert_in_reach(memory, &objects);
    drop(objects.remove(2));
    if let Memory::Window(window) = memory {
        assert_returned(window);
    }
    drop(objects.remove(0));
    objects.push(publish(memory, &mut manager, 5, SMALL, map)?);
    objects.iter().for_each(Object::assert_there);
    assert_sealed(memory, &objects, map);
    Ok(())
}

/// The kernel's permissions are those of each kind, and a window has them from end to end.
fn assert_sealed(memory: &Memory, objects: &[Object], map: &mut KernelsMap) {
    let mut sharing = [b'p'; 3];
    let found = map.read();
    if let Memory::Window(window) = memory {
        let inside = range(window);
        let mut reached = inside.start;
        for mapping in cut(found, inside.clone()) {
            assert_eq!(mapping.start, reached, "a hole");
            reached = mapping.end;
        }
        assert_eq!(reached, inside.end);
        if window.capabilities().writing() == Writing::TwoAddresses {
            sharing = *b"ssp";
        }
    }
    let bits = [*b"r-x", *b"r--", *b"rw-"];
    for object in objects {
        for (index, place) in object.places().enumerate() {
            let place = place.start as usize..place.end as usize;
            for mapping in cut(found, place.clone()) {
                assert_eq!(mapping.permissions[..3], bits[index], "{place:x?}");
                assert_eq!(mapping.permissions[3], sharing[index], "{place:x?}");
            }
        }
        // What the kernel is said to forbid, it does.
        if let Memory::Window(window) = memory {
            if window.capabilities().kernel_forbids_writing() {
                let page =
                    region::page::floor(object.image.pointer(object.ids[0]).unwrap().as_ptr());
                let writable = MprotectFlags::READ | MprotectFlags::WRITE;
                // SAFETY: refused, and nothing is written.
                let refused =
                    unsafe { mprotect(page.cast_mut().cast(), region::page::size(), writable) };
                assert!(matches!(refused, Err(Errno::ACCESS)), "{refused:?}");
            }
        }
        poke(
            object.image.pointer(object.ids[2]).unwrap(),
            !object.value as u8,
        );
    }
}

/// Any two addresses of a window, or of a block, are as near as is promised.
fn assert_in_reach(memory: &Memory, objects: &[Object]) {
    let span = |places: &mut dyn Iterator<Item = Range<u64>>| {
        let (mut first, mut last) = (u64::MAX, 0);
        for place in places {
            (first, last) = (first.min(place.start), last.max(place.end));
        }
        last - first
    };
    match memory {
        Memory::Window(window) => {
            let all = &mut objects.iter().flat_map(Object::places);
            let (span, size) = (span(all), window.capabilities().size() as u64);
            assert!(span <= size && size <= Reach::PREL32.bytes());
        }
        Memory::Blocks(_) => {
            for object in objects {
                assert!(span(&mut object.places()) <= Reach::PREL32.bytes());
            }
        }
    }
}

/// Whether pages of what was dropped are still in memory is as the window says.
fn assert_returned(window: &Window) {
    let inside = range(window);
    let sizes = window.capabilities().sizes();
    let end = inside.end - (64 << 10); // The last guard.
    let start = end - sizes[SectionKind::ReadWriteData];
    let resident = in_memory(&(start..end));
    let goes_back = resident <= 1280 << 10;
    assert_eq!(
        goes_back,
        window.capabilities().returns_pages(),
        "{resident}"
    );
}

/// Where the system likes huge pages, a window still has small ones.
pub fn a_byte_costs_a_small_page() {
    for source in [Source::TwoAddresses, Source::SameAddress] {
        let memory = Memory::of(source, 64 << 20).unwrap();
        let mut map = KernelsMap::open();
        let mut manager = memory.manager();
        let object = publish(&memory, &mut manager, 7, [64, 100, 40], &mut map).unwrap();
        object.assert_there();
        let Memory::Window(window) = &memory else {
            unreachable!("of a window")
        };
        let inside = range(window);
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut is_inside, mut resident) = (false, 0);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap();
            if let Some((start, _)) = first.split_once('-') {
                let start = usize::from_str_radix(start, 16).unwrap();
                is_inside = inside.contains(&start);
            } else if is_inside && first == "Rss:" {
                resident += words.next().unwrap().parse::<usize>().unwrap() << 10;
            }
        }
        assert!(
            resident < 1 << 20,
            "{source:?}: {resident} bytes for one object"
        );
    }
}

/// What would be refused of any size is refused at once: the error is of the size that was asked for.
pub fn nothing_smaller_is_tried() {
    let options = WindowOptions::new().with_writing(Writing::TwoAddresses);
    let refused = Window::with_options(&options).unwrap_err();
    assert!(
        matches!(refused, Error::System { size, .. } if size > 256 << 20),
        "{refused}"
    );
}

/// A window that became smaller than it was to be says so, and how small.
pub fn a_smaller_window_is_told() {
    let told = Told::default();
    tracing::subscriber::set_global_default(told.clone()).unwrap();
    for writing in [Writing::TwoAddresses, Writing::SameAddress] {
        let window = Window::with_options(&WindowOptions::new().with_writing(writing)).unwrap();
        let size = window.capabilities().size();
        assert!(size < 128 << 20);
        let expected = BTreeMap::from([("asked", 512 << 20), ("size", size as u64)]);
        let warnings = std::mem::take(&mut *told.0.lock().unwrap());
        assert_eq!(warnings, [expected]);
    }
}

/// The numbers in warnings of this crate.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<BTreeMap<&'static str, u64>>>>);

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut numbers = Numbers::default();
        event.record(&mut numbers);
        self.0.lock().unwrap().push(numbers.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Numbers(BTreeMap<&'static str, u64>);

impl Visit for Numbers {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
