//! Real objects with bytes changed: whatever they are now, loading and linking them ends with a program that is what its objects
//! say, or with an error in one line, and leaves nothing behind. Nothing here is ever run.
#![allow(dead_code)] // The fuzz target that only parses uses a part.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use nearcode::loader::{LoadError, Loader, Machine, Placement, Program, ProgramSection, Sections};
use nearcode::{
    Address, DedicatedBlocks, PerKind, Reach, SectionMemoryManager, Window, WindowOptions, Writing,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolFlags};

use crate::choices::Choices;

/// By machine. Those of one machine refer to each other.
const ORIGINALS: [(Machine, [&[u8]; 5]); 2] = [
    (
        Machine::X86_64,
        [
            include_bytes!("../objects/one-x86_64.o"),
            include_bytes!("../objects/two-x86_64.o"),
            include_bytes!("../../examples/objects/quickstart-x86_64.o"),
            include_bytes!("../objects/three-x86_64.o"),
            include_bytes!("../objects/four-x86_64.o"),
        ],
    ),
    (
        Machine::Aarch64,
        [
            include_bytes!("../objects/one-aarch64.o"),
            include_bytes!("../objects/two-aarch64.o"),
            include_bytes!("../../examples/objects/quickstart-aarch64.o"),
            include_bytes!("../objects/three-aarch64.o"),
            include_bytes!("../objects/four-aarch64.o"),
        ],
    ),
];

/// Where the numbers of these stand.
static FIELDS: LazyLock<[[Vec<Field>; 5]; 2]> =
    LazyLock::new(|| ORIGINALS.map(|(_, originals)| originals.map(fields)));

/// A place, and how many bytes there are one number.
type Field = (usize, usize);

/// Objects, and how they are linked.
#[derive(Debug)]
pub(crate) struct TestCase {
    machine: Machine,
    placement: Placement,
    sections: Sections,
    source: Source,
    /// What every name that no object defines stands for.
    outside: Option<u64>,
    max_bytes: usize,
    /// How many of the files are linked first, to a program of their own.
    earlier: usize,
    files: Vec<Damaged>,
    /// How much further up everything is in the address space that it is linked for. This one, if it is not at all.
    further_up: u64,
}

/// Where the memory comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Blocks(Reach),
    Window(Writing),
}

/// An original, and what is different.
#[derive(Debug)]
struct Damaged {
    original: usize,
    changes: Vec<(usize, Vec<u8>)>,
    /// Where it is cut off, unless it is shorter.
    size: usize,
}

impl TestCase {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let number = choices.below(ORIGINALS.len());
        let (machine, originals) = ORIGINALS[number];
        let sources = [
            Source::Blocks(Reach::PREL32),
            Source::Blocks(Reach::ADRP),
            Source::Window(Writing::SameAddress),
            Source::Window(Writing::TwoAddresses),
        ];
        let mut case = Self {
            machine,
            placement: choices.pick(&[Placement::Together, Placement::PerObject]),
            sections: choices.pick(&[Sections::Joined, Sections::Apart]),
            source: choices.pick(&sources),
            outside: choices.pick(&[None, Some(0x7000_0000_0000), Some(0x1000), Some(u64::MAX)]),
            max_bytes: choices.pick(&[1 << 30, 1 << 30, 5000, 600]),
            earlier: choices.pick(&[0, 0, 1, 2]),
            files: Vec::new(),
            further_up: 0,
        };
        let together: &[usize] = choices.pick(&[
            &[0, 1],
            &[1, 0],
            &[0, 1, 2],
            &[2],
            &[2, 1, 0],
            &[0],
            &[1],
            &[2, 2],
            &[3],
            &[3, 0, 1],
            &[4],
            &[4, 2, 0, 1],
        ]);
        for &original in together {
            let mut file = Damaged::of(original);
            file.damage(&mut choices, originals[original], &FIELDS[number][original]);
            case.files.push(file);
        }
        case.further_up = choices.pick(&[0, 0, 1 << 33, 1 << 62, (1_u64 << 40).wrapping_neg(), 8]);
        case
    }

    /// Whether it is about code that could run here.
    pub(crate) fn runs_here(&self) -> bool {
        self.further_up == 0 && Some(self.machine) == Machine::HOST
    }

    fn originals(&self) -> &'static [&'static [u8]; 5] {
        let own = ORIGINALS
            .iter()
            .find(|(machine, _)| *machine == self.machine);
        &own.expect("a case is for one of them").1
    }
}

impl Damaged {
    fn of(original: usize) -> Self {
        Self {
            original,
            changes: Vec::new(),
            size: usize::MAX,
        }
    }

    fn damage(&mut self, choices: &mut Choices<'_>, bytes: &[u8], fields: &[Field]) {
        for _ in 0..choices.pick(&[0, 1, 1, 1, 2, 2, 3, 6]) {
            let (at, size) = match choices.below(4) {
                0 => (choices.below(bytes.len()), 1),
                _ => choices.pick(fields),
            };
            let mut old = [0; 8];
            old[..size].copy_from_slice(&bytes[at..at + size]);
            let old = u64::from_le_bytes(old);
            let new = match choices.below(4) {
                0 => choices.number(size),
                1 => old.wrapping_add(choices.number(1)).wrapping_sub(128),
                2 => 1 << choices.below(64),
                _ => (1_u64 << choices.below(64)).wrapping_neg(),
            };
            self.changes.push((at, new.to_le_bytes()[..size].to_vec()));
        }
        if choices.below(16) == 1 {
            self.size = choices.below(bytes.len());
        }
    }

    fn bytes(&self, originals: &[&[u8]]) -> Vec<u8> {
        let mut bytes = originals[self.original].to_vec();
        for (at, new) in &self.changes {
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
        bytes.truncate(self.size);
        bytes
    }
}

/// Where the numbers of a good object stand, and their sizes: in its header, in the headers of sections, in symbols,
/// relocations and groups (System V ABI, chapters 4 and 5).
fn fields(bytes: &[u8]) -> Vec<Field> {
    let number = |at: usize, size: usize| {
        let mut number = [0; 8];
        number[..size].copy_from_slice(&bytes[at..at + size]);
        u64::from_le_bytes(number) as usize
    };
    let mut found = Vec::new();
    let mut record = |at: usize, sizes: &[usize]| {
        sizes.iter().fold(at, |at, &size| {
            found.push((at, size));
            at + size
        });
    };
    record(16, &[2, 2, 4, 8, 8, 8, 4, 2, 2, 2, 2, 2, 2]);
    let (table, count) = (number(40, 8), number(60, 2));
    for header in (0..count).map(|index| table + 64 * index) {
        record(header, &[4, 4, 8, 8, 8, 8, 4, 4, 8, 8]);
        let (start, size) = (number(header + 24, 8), number(header + 32, 8));
        let sizes: &[usize] = match number(header + 4, 4) {
            2 => &[4, 1, 1, 2, 8, 8],
            4 => &[8, 4, 4, 8],
            17 => &[4],
            _ => continue,
        };
        for at in (start..start + size).step_by(sizes.iter().sum()) {
            record(at, sizes);
        }
    }
    found
}

/// Reads each file of a case.
pub(crate) fn parse_all(case: &TestCase) {
    for file in &case.files {
        parse(&file.bytes(case.originals()));
    }
}

/// Reads bytes as an object for each machine.
pub(crate) fn parse(bytes: &[u8]) {
    for (machine, _) in ORIGINALS {
        if let Err(error) = Loader::for_machine(machine).load("0.o", bytes) {
            assert_told(&error);
        }
    }
}

/// Links what can be loaded.
pub(crate) fn check(case: &TestCase) {
    check_with(case, |loader| loader);
}

/// The same by loaders with another option.
pub(crate) fn check_with(case: &TestCase, option: fn(Loader<'_>) -> Loader<'_>) {
    let files: Vec<(String, Vec<u8>)> = case
        .files
        .iter()
        .enumerate()
        .map(|(number, file)| (format!("{number}.o"), file.bytes(case.originals())))
        .collect();
    let (mut manager, window) = match case.source {
        Source::Blocks(reach) => {
            let blocks = DedicatedBlocks::new().with_reach(reach);
            (SectionMemoryManager::with_blocks(blocks), None)
        }
        Source::Window(writing) => {
            let options = WindowOptions::new().with_size(24 << 20).with_code(8 << 20);
            let window = Window::with_options(&options.with_writing(writing));
            let window = window.expect("a small window can be had");
            (SectionMemoryManager::in_window(&window), Some(window))
        }
    };
    let (earlier, rest) = files.split_at(case.earlier.min(files.len()));
    let program = link(case, earlier, None, &mut manager, option);
    let program = program.map(Arc::new);
    drop(link(case, rest, program, &mut manager, option));
    let stats = manager.stats();
    let used = (stats.in_flight(), stats.objects(), stats.asked());
    assert_eq!((used, stats.granted()), ((0, 0, 0), 0), "{stats:?}");
    match window {
        Some(window) => {
            let sum = |sizes: &PerKind<usize>| sizes.iter().map(|(_, size)| size).sum::<usize>();
            let known = sum(stats.free()) + stats.retired() + stats.frozen();
            assert_eq!(known, sum(window.capabilities().sizes()), "{stats:?}");
        }
        None => assert_eq!(
            (stats.reserved(), stats.committed(), stats.mappings()),
            (0, 0, 0)
        ),
    }
}

/// A program of these files, unless they are refused.
fn link(
    case: &TestCase,
    files: &[(String, Vec<u8>)],
    earlier: Option<Arc<Program>>,
    manager: &mut SectionMemoryManager,
    option: fn(Loader<'_>) -> Loader<'_>,
) -> Option<Program> {
    let mut loader = option(Loader::for_machine(case.machine))
        .with_placement(case.placement)
        .with_sections(case.sections)
        .with_max_bytes(case.max_bytes);
    if let Some(earlier) = earlier {
        loader = loader.with_program(earlier);
    }
    if case.further_up > 0 {
        loader = loader.map_section(|_, here| here.wrapping_add(case.further_up));
    }
    let mut loaded = Vec::new();
    for (name, file) in files {
        match loader.load(name, file) {
            Ok(()) => loaded.push((name, file)),
            Err(error) => assert_told(&error),
        }
    }
    let resolver = |_: &str| case.outside.map(Address::new);
    let linked = loader.link(manager, &resolver);
    let program = linked.inspect_err(assert_told).ok()?;
    assert_apart(&program, case);
    for (name, file) in loaded {
        assert_faithful(&program, case, name, file);
    }
    Some(program)
}

/// One line, with the name of a file, unless it is nothing that a file says.
fn assert_told(error: &LoadError) {
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    let is_our_map = message.contains("is mapped to");
    assert!(message.contains(".o") || is_our_map, "{message}");
}

fn place(section: ProgramSection<'_>) -> Range<u64> {
    let start = section.address().get();
    start..start + section.size() as u64
}

/// No byte is two sections', all are as many as they may be, and what shares a reservation is in reach.
fn assert_apart(program: &Program, case: &TestCase) {
    let mut places: Vec<Range<u64>> = program.sections().map(place).collect();
    places.retain(|place| !place.is_empty());
    places.sort_by_key(|place| place.start);
    for pair in places.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{places:x?}");
    }
    let sizes = places.iter().map(|place| place.end - place.start);
    assert!(sizes.sum::<u64>() <= case.max_bytes as u64, "{places:x?}");
    let reach = match (case.source, case.placement) {
        (Source::Blocks(reach), Placement::Together) => reach,
        (Source::Window(_), _) => Reach::PREL32,
        _ => return,
    };
    if let (Some(first), Some(last)) = (places.first(), places.last()) {
        assert!(last.end - first.start <= reach.bytes(), "{places:x?}");
    }
}

/// What another reader finds in the file is in the program: sizes, alignments, contents, and where symbols are.
fn assert_faithful(program: &Program, case: &TestCase, name: &str, bytes: &[u8]) {
    let Ok(file) = object::File::parse(bytes) else {
        return; // It reads more than a program needs.
    };
    for section in file.sections() {
        let Ok(section_name) = section.name() else {
            continue;
        };
        let is_it =
            |known: &ProgramSection<'_>| known.object() == name && known.name() == section_name;
        let namesakes = file
            .sections()
            .filter(|other| other.name() == Ok(section_name));
        let mut placed = program.sections().filter(is_it);
        let (Some(known), None, 1) = (placed.next(), placed.next(), namesakes.count()) else {
            continue; // Not loaded, or not to be told apart.
        };
        if [".eh_frame", ".got", ".stubs", "COMMON"].contains(&section_name) {
            continue; // The linker's.
        }
        assert_eq!(known.size() as u64, section.size(), "{section_name}");
        let align = section.align().max(1);
        assert_eq!(known.address().get() % align, 0, "{section_name}");
        assert_contents(program, case, &known, &section);
        let index = section.index();
        for symbol in file
            .symbols()
            .filter(|symbol| symbol.section_index() == Some(index))
        {
            let is_strong = symbol.is_global() && !symbol.is_weak();
            // A function or an object: an indirect function is where its stub is.
            let is_plain = match symbol.flags() {
                SymbolFlags::Elf { st_info, .. } => matches!(st_info.0 & 15, 1 | 2),
                _ => false,
            };
            if let (Ok(symbol_name), true, true) = (symbol.name(), is_strong, is_plain) {
                let expected = known.address().wrapping_add(symbol.address());
                let found = program.address(symbol_name);
                assert!(found.is_none_or(|found| found == expected), "{symbol_name}");
            }
        }
    }
}

/// What no relocation writes is as in the file.
fn assert_contents(
    program: &Program,
    case: &TestCase,
    known: &ProgramSection<'_>,
    section: &object::Section<'_, '_>,
) {
    let mut expected = section.data().expect("it was loaded").to_vec();
    expected.resize(known.size().min(expected.len() + 64), 0);
    let whole = program.image().section(known.id()).expect("a part of it");
    let here = known.address().get().wrapping_sub(case.further_up);
    let offset = (here - whole.address().get()) as usize;
    assert!(offset + known.size() <= whole.size(), "{whole:?}");
    // SAFETY: sections are readable for as long as the program lives, and nobody runs or writes it.
    let all = unsafe { std::slice::from_raw_parts(whole.pointer().as_ptr(), whole.size()) };
    let mut found = all[offset..offset + expected.len()].to_vec();
    for (offset, _) in section.relocations() {
        // The longest field, and the instruction in front of it, which may change as well.
        let offset = usize::try_from(offset).expect("it was applied");
        let end = found.len().min(offset.saturating_add(8));
        let bytes = offset.saturating_sub(2).min(end)..end;
        found[bytes.clone()].copy_from_slice(&expected[bytes]);
    }
    assert!(found == expected, "{}", known.name());
}
