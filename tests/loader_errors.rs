//! Files that are not what they should be end with one line that names them, and leave nothing behind. Nothing here is ever run,
//! so the objects of both CPUs are tested on each.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/objects.rs"]
mod objects;
mod support;

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use nearcode::loader::{LoadError, Loader, Machine, Placement, Program, Resolver};
use nearcode::{
    Address, Align, AllocationSpace, Extent, PerKind, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest, Window, WindowOptions,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use objects::File;

const QUICKSTARTS: [(Machine, &[u8]); 2] = [
    (
        Machine::X86_64,
        include_bytes!("../examples/objects/quickstart-x86_64.o"),
    ),
    (
        Machine::Aarch64,
        include_bytes!("../examples/objects/quickstart-aarch64.o"),
    ),
];

const NAME: &str = "victim.o";

/// Loads and links bytes. [`objects::finish`] sees to it that a failure leaves nothing behind.
fn attempt(machine: Machine, bytes: &[u8], resolver: &dyn Resolver) -> Result<Program, LoadError> {
    let mut loader = Loader::for_machine(machine);
    let result = loader.load(NAME, bytes);
    let result = result.and_then(|()| objects::finish(loader, resolver));
    if let Err(error) = &result {
        let message = error.to_string();
        assert!(message.contains(NAME), "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
    result
}

/// Knows every name.
fn anything(_: &str) -> Option<Address> {
    Some(Address::new(0x7000_0000_0000))
}

/// Like [`attempt`], but tells which case it was that panicked.
fn must_not_panic(machine: Machine, bytes: &[u8], case: &dyn Fn() -> String) -> bool {
    let attempt = || attempt(machine, bytes, &anything).is_ok();
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| panic!("{machine}: {}", case()))
}

#[test]
fn the_objects_that_these_tests_damage_are_fine() {
    for (machine, bytes) in QUICKSTARTS {
        attempt(machine, bytes, &anything).unwrap();
    }
}

#[test]
fn an_object_that_is_cut_off_anywhere_is_an_error() {
    for (machine, bytes) in QUICKSTARTS {
        for length in 0..bytes.len() {
            // The table of sections comes last, so that every byte is missed.
            let case = || format!("the first {length} bytes");
            assert!(
                !must_not_panic(machine, &bytes[..length], &case),
                "{}",
                case()
            );
        }
    }
}

/// Every how many places to try values: at each, but under an emulator, where that takes minutes, at some.
fn stride() -> usize {
    let emulated = std::env::var_os("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").is_some();
    if emulated && cfg!(target_arch = "aarch64") {
        7
    } else {
        1
    }
}

#[test]
fn no_byte_of_an_object_can_make_the_loader_panic() {
    let (mut fine, mut refused) = (0, 0);
    for (machine, original) in QUICKSTARTS {
        let mut bytes = original.to_vec();
        for at in (0..bytes.len()).step_by(stride()) {
            let old = original[at];
            for new in [0, 1, b'\n', 0x7f, 0x80, 0xff, old ^ 1, old ^ 0x10] {
                bytes[at] = new;
                let case = || format!("byte {at:#x} from {old:#x} to {new:#x}");
                let ok = must_not_panic(machine, &bytes, &case);
                *(if ok { &mut fine } else { &mut refused }) += 1;
            }
            bytes[at] = old;
        }
    }
    assert!(
        fine > 100 && refused > 100,
        "{fine} {refused}: this test has lost its sense"
    );
}

#[test]
fn no_number_in_an_object_can_make_the_loader_panic() {
    for (machine, original) in QUICKSTARTS {
        for size in [2, 4, 8] {
            for at in (0..original.len() - size).step_by(size * stride()) {
                for new in [
                    0,
                    1,
                    3,
                    1 << 16,
                    1 << 31,
                    1 << 33,
                    1 << 62,
                    1 << 63,
                    i64::MAX as u64,
                    u64::MAX,
                    !0 << 12,
                ] {
                    let mut bytes = original.to_vec();
                    bytes[at..at + size].copy_from_slice(&new.to_le_bytes()[..size]);
                    let case = || format!("{size} bytes at {at:#x} to {new:#x}");
                    must_not_panic(machine, &bytes, &case);
                }
            }
        }
    }
}

/// An object file to be damaged: the places of its tables.
struct Victim {
    bytes: Vec<u8>,
}

impl Victim {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Where the header of a section is. Fields: name 0, type 4, flags 8, offset 24, size 32, link 40, info 44, align 48.
    fn header(&self, section: &str) -> usize {
        let table = u64::from_le_bytes(self.bytes[0x28..0x30].try_into().unwrap()) as usize;
        let file = object::File::parse(&*self.bytes).unwrap();
        table + 64 * file.section_by_name(section).unwrap().index().0
    }

    /// Where the contents of a section are.
    fn contents(&self, section: &str) -> usize {
        let file = object::File::parse(&*self.bytes).unwrap();
        file.section_by_name(section)
            .unwrap()
            .file_range()
            .unwrap()
            .0 as usize
    }

    /// Where a symbol is. Fields: name 0, info 4, other 5, section 6, value 8, size 16.
    fn symbol(&self, name: &str) -> usize {
        let file = object::File::parse(&*self.bytes).unwrap();
        let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
        self.contents(".symtab") + 24 * symbol.unwrap().index().0
    }

    /// Where the first relocation of the code is. Fields: offset 0, kind 8, symbol 12, addend 16.
    fn relocation(&self) -> usize {
        self.contents(".rela.text")
    }

    /// Puts the end of a line into a symbol's name.
    fn break_strlen(&mut self) {
        let at = self.contents(".strtab");
        let found = self.bytes[at..]
            .windows(7)
            .position(|name| name == b"strlen\0")
            .unwrap();
        self.put(at + found + 1, b"\n");
    }

    fn index(&self, section: &str) -> u32 {
        let file = object::File::parse(&*self.bytes).unwrap();
        file.section_by_name(section).unwrap().index().0 as u32
    }
}

type Damage = fn(&mut Victim);

/// What is done to a file, and what is said of it.
const DAMAGES: [(&str, Damage); 29] = [
    ("not a 64-bit ELF file", |v| v.bytes.clear()),
    ("not a 64-bit ELF file", |v| {
        v.bytes = b"#!/bin/sh\nexit 0\n".repeat(9)
    }),
    ("not a 64-bit ELF file", |v| v.put(4, &[1])),
    ("is for an unknown machine", |v| v.put(5, &[2])),
    ("is for an unknown machine", |v| v.put(18, &[243, 0])),
    ("is not a relocatable object", |v| v.put(16, &[2])),
    ("is not a relocatable object", |v| v.put(16, &[3])),
    ("is not a relocatable object", |v| v.put(16, &[4])),
    ("relocation 30583 for", |v| {
        v.put(v.relocation() + 8, &0x7777_u32.to_le_bytes())
    }),
    ("refers to symbol 65535, which is missing", |v| {
        v.put(v.relocation() + 12, &0xffff_u32.to_le_bytes())
    }),
    (".text+0x10000000000 is outside of the section", |v| {
        v.put(v.relocation(), &(1_u64 << 40).to_le_bytes())
    }),
    (".text+0xffffffffffffffff is outside of the section", |v| {
        v.put(v.relocation(), &[0xff; 8])
    }),
    ("the relocations of .text refer to no symbol table", |v| {
        v.put(v.header(".rela.text") + 40, &[0; 4])
    }),
    ("relocations for a section that does not exist", |v| {
        v.put(v.header(".rela.text") + 44, &[0xff; 2])
    }),
    (".text has two sections of relocations", |v| {
        let text = v.index(".text");
        v.put(v.header(".rela.eh_frame") + 44, &text.to_le_bytes());
    }),
    ("another form than RELA", |v| {
        v.put(v.header(".rela.text") + 4, &9_u32.to_le_bytes())
    }),
    ("another form than RELA", |v| {
        v.put(v.header(".rela.text") + 4, &0x4000_0014_u32.to_le_bytes())
    }),
    ("the alignment of .text is no power of two", |v| {
        v.put(v.header(".text") + 48, &3_u64.to_le_bytes())
    }),
    (".text of ", |v| {
        v.put(v.header(".text") + 48, &(1_u64 << 62).to_le_bytes())
    }),
    (".text of ", |v| {
        v.put(v.header(".text") + 48, &(1_u64 << 63).to_le_bytes())
    }),
    (".text is code without contents", |v| {
        v.put(v.header(".text") + 4, &8_u32.to_le_bytes())
    }),
    ("Invalid ELF section size or offset", |v| {
        v.put(v.header(".text") + 24, &[0xff; 8])
    }),
    ("a section's name is not in the file", |v| {
        v.put(v.header(".text"), &[0xff; 4])
    }),
    ("a section's name is not text", |v| {
        let at = v.contents(".shstrtab");
        let found = v.bytes[at..]
            .windows(6)
            .position(|name| name == b".text\0")
            .unwrap();
        v.put(at + found, b".t\nxt");
    }),
    ("letters is in a section that does not exist", |v| {
        v.put(v.symbol("letters") + 6, &[0x00, 0xff])
    }),
    ("a symbol's name is not in the file", |v| {
        v.put(v.symbol("letters"), &[0xff; 4])
    }),
    ("s\u{fffd}rlen is in a section that does not exist", |v| {
        v.put(v.symbol("strlen") + 6, &[0x00, 0xff]);
        v.break_strlen();
    }),
    ("common symbol s\u{fffd}rlen is malformed", |v| {
        v.put(v.symbol("strlen") + 6, &[0xf2, 0xff, 3]);
        v.break_strlen();
    }),
    ("s\u{fffd}rlen", |v| v.break_strlen()),
];

/// Knows what the objects need as long as nobody damages its name.
fn strlen(name: &str) -> Option<Address> {
    anything(name).filter(|_| name == "strlen")
}

#[test]
fn each_damage_is_told_as_what_it_is() {
    for (machine, bytes) in QUICKSTARTS {
        for (expected, damage) in DAMAGES {
            let mut victim = Victim {
                bytes: bytes.to_vec(),
            };
            damage(&mut victim);
            match attempt(machine, &victim.bytes, &strlen) {
                Ok(_) => panic!("{machine}: not told: {expected}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.contains(expected),
                        "{machine}: {expected}: {message}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_object_for_the_other_cpu_is_refused() {
    for ((machine, _), (other, bytes)) in QUICKSTARTS.into_iter().zip(QUICKSTARTS.into_iter().rev())
    {
        let error = attempt(machine, bytes, &anything).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{NAME} is for {other}, not for {machine}")
        );
    }
}

#[test]
fn programs_and_libraries_are_no_objects() {
    let this = fs::read(std::env::current_exe().unwrap()).unwrap();
    let source = support::text_file("library.c", "int unused;\n");
    let library = fs::read(support::shared(&source)).unwrap();
    for bytes in [this, library] {
        let error = attempt(Machine::HOST.unwrap(), &bytes, &anything).unwrap_err();
        assert!(matches!(error, LoadError::NotRelocatable { .. }), "{error}");
    }
}

#[test]
fn an_object_larger_than_any_reach_is_refused_with_its_largest_section() {
    let table = [
        (".bss\n.zero 0xc0000000", ".bss of 3221225472 bytes"),
        (".comm big, 0xc0000000, 64", "COMMON of 3221225472 bytes"),
        (
            ".zero 64\n.bss\n.zero 0x7ffffffffffff000",
            ".bss of 9223372036854771712 bytes",
        ),
        (
            ".bss\n.zero 0x7fffffffffffff00\n.comm one, 0x7fffffffffffff00\n.comm two, 0x7fffffffffffff00",
            "of 9223372036854775552 bytes",
        ),
    ];
    for (text, expected) in table {
        let file = File::assemble("large.o", text);
        let small = File::assemble("small.o", ".quad 1");
        let files = [small, file];
        for limit in [1 << 30, usize::MAX] {
            let loader = objects::load(&files).unwrap().with_max_bytes(limit);
            let error = objects::finish(loader, &()).unwrap_err().to_string();
            assert!(
                error.contains("large.o") && error.contains(expected),
                "{error}"
            );
        }
    }
}

#[test]
fn a_program_larger_than_allowed_is_refused_before_anything_is_reserved() {
    let small = File::assemble("small.o", ".balign 64\n.zero 64");
    let large = File::assemble("large.o", ".bss\n.balign 64\n.zero 0xfff41");
    let stub = File::assemble("calls.o", ".text\n.zero 4000");
    let files = [small, large, stub];
    // The sections, each with what its alignment may take; the unwind tables and the GOT are empty.
    let limit = 64 + 0xfff80 + 4000;
    for placement in [Placement::Together, Placement::PerObject] {
        let loader = |limit| {
            let loader = objects::load(&files).unwrap();
            loader.with_placement(placement).with_max_bytes(limit)
        };
        let mut manager = SectionMemoryManager::new();
        let extent = Extent::new(8, Align::ONE);
        let space = AllocationSpace::Totals(PerKind::new(extent, extent, extent));
        manager.reserve_allocation_space(&space).unwrap();
        let error = loader(limit - 1).link(&mut manager, &()).unwrap_err();
        let LoadError::TooLarge {
            needed,
            limit: told,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((needed, told), (limit, limit - 1));
        let message = error.to_string();
        let parts = ["large.o: .bss of 1048385 bytes", "with_max_bytes"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        let code = SectionRequest::new("code", SectionKind::Code, 8, Align::ONE);
        let still_newest = manager.allocate_section(&code);
        still_newest.expect("nothing was reserved in between");
        loader(limit).link(&mut manager, &()).unwrap();
    }
}

#[test]
fn names_count_for_what_is_allowed() {
    // In a file they may share their bytes, so that a small one can have any number of long ones.
    let name = "n".repeat(200);
    let files = [File::assemble(
        "names.o",
        &format!(".globl {name}\n{name}: .byte 1"),
    )];
    let loader = |limit| objects::load(&files).unwrap().with_max_bytes(limit);
    let error = loader(199).link(&mut SectionMemoryManager::new(), &());
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("names.o: names of 2"), "{error}");
    loader(300)
        .link(&mut SectionMemoryManager::new(), &())
        .unwrap();
}

#[test]
fn names_of_all_objects_are_counted_in_32_bits() {
    let long = "n".repeat(50_000);
    let others = (0..30_000).map(|number| format!(".globl s{number}\ns{number}:\n"));
    let source = format!(".globl {long}\n{long}:\n{}", others.collect::<String>());
    let bytes = File::assemble("names.o", &source).bytes;
    let mut file = Victim { bytes };
    let name = file.bytes[file.symbol(&long)..].first_chunk::<4>().copied();
    for other in (file.symbol("s0")..=file.symbol("s29999")).step_by(24) {
        file.put(other, &name.unwrap());
    }
    let mut loader = Loader::new().unwrap().with_max_bytes(usize::MAX);
    loader.load("names.o", &file.bytes).unwrap();
    let error = loader.link(&mut SectionMemoryManager::new(), &());
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("names.o: names of 15"), "{error}");
}

#[test]
fn section_groups_that_share_their_members_are_refused() {
    let group = |name| format!(".section .{name}, \"aG\", %progbits, {name}, comdat\n.byte 1\n");
    let text = ["a", "b", "c", "d", "e", "f"].map(group).concat();
    let mut victim = Victim {
        bytes: File::assemble("groups.o", &text).bytes,
    };
    let file = object::File::parse(&*victim.bytes).unwrap();
    let groups: Vec<_> = file
        .sections()
        .filter(|section| section.name() == Ok(".group"))
        .map(|section| (section.index().0, section.file_range().unwrap()))
        .collect();
    let start = groups.iter().map(|(_, (offset, _))| *offset).min().unwrap();
    let end = groups.iter().map(|(_, (offset, size))| offset + size).max();
    let table = u64::from_le_bytes(victim.bytes[0x28..0x30].try_into().unwrap()) as usize;
    for (index, _) in groups {
        // Each has the members of all: the flag of each is the number of some section, too.
        victim.put(table + 64 * index + 24, &start.to_le_bytes());
        victim.put(
            table + 64 * index + 32,
            &(end.unwrap() - start).to_le_bytes(),
        );
    }
    let error = attempt(Machine::HOST.unwrap(), &victim.bytes, &anything).unwrap_err();
    let expected = "victim.o: a section is in more than one group";
    assert_eq!(error.to_string(), expected);
}

/// A small file could otherwise ask for any number of relocations.
#[test]
fn sections_of_relocations_that_share_their_bytes_are_refused() {
    let few = |name| format!(".section .{name}, \"aw\"\n.quad symbol\n");
    let text = ["a", "b", "c", "d", "e", "f"].map(few).concat();
    let many = ".data\n.rept 400\n.quad symbol\n.endr\n";
    let mut victim = Victim {
        bytes: File::assemble("shared.o", &format!("{many}{text}")).bytes,
    };
    let file = object::File::parse(&*victim.bytes).unwrap();
    let is_rela = |name: &str| name.starts_with(".rela.");
    let sections = file.sections().filter(|s| s.name().is_ok_and(is_rela));
    let sections: Vec<_> = sections
        .map(|section| (section.index().0, section.file_range().unwrap()))
        .collect();
    let &(_, (start, size)) = sections.iter().max_by_key(|(_, (_, size))| *size).unwrap();
    let table = u64::from_le_bytes(victim.bytes[0x28..0x30].try_into().unwrap()) as usize;
    for (index, _) in sections {
        victim.put(table + 64 * index + 24, &start.to_le_bytes());
        victim.put(table + 64 * index + 32, &size.to_le_bytes());
    }
    let error = attempt(Machine::HOST.unwrap(), &victim.bytes, &anything).unwrap_err();
    let expected = "victim.o: sections of relocations share their bytes";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_program_of_more_than_a_gibibyte_has_to_be_allowed() {
    let file = File::assemble("zeros.o", ".bss\n.zero 0x40000001");
    let error = objects::link(std::slice::from_ref(&file), &()).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
}

#[test]
fn zeros_take_no_memory_before_they_are_used() {
    let resident = || {
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
        pages * region::page::size()
    };
    let file = File::assemble("zeros.o", ".bss\n.globl zeros\nzeros: .zero 0x60000000");
    let before = resident();
    let files = [file];
    let loader = objects::load(&files).unwrap().with_max_bytes(usize::MAX);
    let program = objects::finish(loader, &()).unwrap();
    let after = resident();
    assert_eq!(objects::number(&program, "zeros"), 0);
    assert!(after < before + (256 << 20), "{before} {after}");
}

#[test]
fn failed_links_leave_no_mapping_behind() {
    // These fail after memory was mapped.
    let far = File::assemble("far.o", ".data\nhere: .long here");
    let outside = DAMAGES[10].1;
    let mappings = || {
        fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    };
    let before = mappings();
    for _ in 0..500 {
        objects::link(std::slice::from_ref(&far), &()).unwrap_err();
        for (machine, bytes) in QUICKSTARTS {
            let mut victim = Victim {
                bytes: bytes.to_vec(),
            };
            outside(&mut victim);
            attempt(machine, &victim.bytes, &anything).unwrap_err();
        }
    }
    let after = mappings();
    // Other tests run meanwhile, so that a few come and go.
    assert!(after < before + 250, "{before} {after}");
}

/// Panics at one of the calls that it counts.
struct Trap {
    at: usize,
    calls: Cell<usize>,
}

impl Trap {
    fn step(&self) {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.at {
            resume_unwind(Box::new("a trap")); // Nothing is printed.
        }
    }
}

#[test]
fn a_panic_in_a_closure_of_the_user_s_leaves_nothing_behind() {
    let window = Window::with_options(&WindowOptions::new().with_size(32 << 20)).unwrap();
    for mut manager in [
        SectionMemoryManager::new(),
        SectionMemoryManager::in_window(&window),
    ] {
        let (machine, bytes) = QUICKSTARTS[0];
        let mut calls = 0;
        loop {
            let trap = Trap {
                at: calls + 1,
                calls: Cell::new(0),
            };
            let link = || {
                let mut loader = Loader::for_machine(machine).map_section(|_, here| {
                    trap.step();
                    here
                });
                loader.load(NAME, bytes).unwrap();
                let resolver = |name: &str| {
                    trap.step();
                    anything(name)
                };
                loader.link(&mut manager, &resolver).unwrap()
            };
            let Err(panic) = catch_unwind(AssertUnwindSafe(link)) else {
                break; // No call is left to panic at.
            };
            assert_eq!(panic.downcast_ref(), Some(&"a trap"));
            calls += 1;
            let stats = manager.stats();
            let used = (stats.in_flight(), stats.objects(), stats.asked());
            assert_eq!((used, stats.granted()), ((0, 0, 0), 0), "{stats:?}");
        }
        assert!(
            calls > 3,
            "{calls} calls: a name, and a section of each kind"
        );
    }
}
