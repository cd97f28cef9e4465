//! The rules by which objects become a program, each shown by what a linked program then contains or does.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/objects.rs"]
mod objects;
mod support;

use std::collections::HashMap;
use std::panic::{catch_unwind, resume_unwind};

use nearcode::Address;
use nearcode::SectionMemoryManager;
use nearcode::loader::{Library, Program};

use objects::{File, call, jump, link, load_from_got, number, returns};

/// Assembly that defines the 8-byte number `value` in one way or another; its value is that of the object.
fn definition(way: &str, value: usize) -> String {
    match way {
        "strong" => format!(".globl value\nvalue: .quad {value}"),
        "weak" => format!(".weak value\nvalue: .quad {value}"),
        "local" => format!("value: .quad {value}"),
        "common" => ".comm value, 8, 8".into(),
        way => panic!("{way} is no way to define a symbol"),
    }
}

#[test]
fn one_definition_of_a_symbol_counts_and_it_is_the_one_that_linkers_choose() {
    // How objects 1, 2, 3 define it, and which of them a fourth object sees; a common one is zero. GNU ld 2.40 agrees.
    let table = [
        (["weak", "weak", "weak"], 1),
        (["weak", "strong", "weak"], 2),
        (["weak", "weak", "strong"], 3),
        (["strong", "weak", "weak"], 1),
        (["local", "weak", "weak"], 2),
        (["local", "local", "strong"], 3),
        (["common", "strong", "common"], 2),
        (["strong", "common", "common"], 1),
        (["common", "weak", "weak"], 0),
        (["weak", "common", "local"], 0),
    ];
    for (ways, winner) in table {
        let mut files: Vec<File> = ways
            .iter()
            .enumerate()
            .map(|(index, way)| File::assemble(&format!("{way}.o"), &definition(way, index + 1)))
            .collect();
        files.push(File::assemble(
            "probe.o",
            ".globl probe\nprobe: .quad value",
        ));
        let program = link(&files, &()).unwrap();
        let address = Address::new(number(&program, "probe"));
        assert_eq!(program.address("value"), Some(address), "{ways:?}");
        assert_eq!(number(&program, "value"), winner, "{ways:?}");
    }
}

#[test]
fn a_local_symbol_is_its_own_objects_before_a_global_one() {
    let files = [
        File::assemble("global.o", ".globl value\nvalue: .quad 1"),
        File::assemble(
            "local.o",
            "value: .quad 2\n.globl probe\nprobe: .quad value",
        ),
    ];
    let program = link(&files, &()).unwrap();
    let probe = number(&program, "probe");
    assert_ne!(Some(Address::new(probe)), program.address("value"));
    // SAFETY: the relocated number is the address of the other object's 8 bytes, in a program that is alive.
    assert_eq!(unsafe { (probe as usize as *const u64).read() }, 2);
}

#[test]
fn two_strong_definitions_are_refused_with_the_names_of_both_objects() {
    let strong = |name| File::assemble(name, &definition("strong", 1));
    let files = [
        strong("one.o"),
        File::assemble("two.o", &definition("weak", 2)),
        strong("three.o"),
    ];
    let error = link(&files, &()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "value is defined twice: in one.o and in three.o"
    );
}

#[test]
fn common_symbols_become_one_of_the_largest_size_and_the_strictest_alignment() {
    let files = [
        File::assemble(
            "a.o",
            ".comm big, 24, 64\n.comm large, 24, 64\n.comm small, 8, 8",
        ),
        File::assemble(
            "b.o",
            ".comm big, 960, 16\n.comm large, 960, 16\n.comm odd, 3, 1",
        ),
        File::assemble(
            "c.o",
            ".comm big, 8, 128\n.comm large, 8, 128\n.comm small, 4, 4",
        ),
    ];
    let program = link(&files, &()).unwrap();
    let mut commons: Vec<(u64, usize)> = program
        .sections()
        .filter(|section| section.name() == "COMMON")
        .map(|section| (section.address().get(), section.size()))
        .collect();
    commons.sort_unstable();
    let mut sizes: Vec<usize> = commons.iter().map(|&(_, size)| size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [3, 8, 960, 960]);
    let address = |name| program.address(name).unwrap().get();
    // Of two, one would not be by accident: 960 is no multiple of 128.
    assert_eq!((address("big") % 128, address("large") % 128), (0, 0));
    assert_eq!(address("small") % 8, 0);
    for pair in commons.windows(2) {
        assert!(pair[0].0 + pair[0].1 as u64 <= pair[1].0, "{commons:x?}");
    }
}

/// An object with a function in a group called `pick` that returns `value`, and one outside of it called `name` that jumps there.
fn with_group(name: &str, value: i32) -> File {
    let pick = returns(value);
    let caller = jump("pick");
    File::assemble(
        &format!("{name}.o"),
        &format!(
            ".section .text.pick,\"axG\",%progbits,pick,comdat\n.weak pick\n.type pick, %function\n\
             pick: .cfi_startproc\n{pick}\n.cfi_endproc\n\
             .text\n.globl {name}\n.type {name}, %function\n\
             {name}: .cfi_startproc\n{caller}\n.cfi_endproc"
        ),
    )
}

#[test]
fn one_copy_of_a_section_group_is_kept_and_all_objects_use_it() {
    let files = [with_group("first", 11), with_group("second", 22)];
    let program = link(&files, &()).unwrap();
    assert_eq!(
        (call(&program, "first"), call(&program, "second")),
        (11, 11)
    );
    let copies = program
        .sections()
        .filter(|section| section.name() == ".text.pick");
    assert_eq!(
        copies.map(|section| section.object()).collect::<Vec<_>>(),
        ["first.o"]
    );
}

/// The functions that the records of a section of unwind tables speak of: zero for none.
fn unwound(program: &Program, object: &str) -> Vec<u64> {
    let section = program
        .sections()
        .find(|section| section.name() == ".eh_frame" && section.object() == object)
        .expect("the assembler makes one");
    let start = section.address().get();
    // SAFETY: the section is readable for as long as the program is alive.
    let table = unsafe { std::slice::from_raw_parts(start as usize as *const u8, section.size()) };
    let word = |at: usize| i32::from_le_bytes(table[at..at + 4].try_into().unwrap());
    let (mut at, mut functions) = (0, Vec::new());
    while at + 8 < table.len() && word(at) != 0 {
        if word(at + 4) != 0 {
            // Behind length and CIE: the function, as distance from here.
            let distance = i64::from(word(at + 8));
            let place = start + at as u64 + 8;
            functions.push(if distance == 0 {
                0
            } else {
                place.wrapping_add_signed(distance)
            });
        }
        at += 4 + word(at) as usize;
    }
    functions
}

#[test]
fn unwind_tables_say_nothing_of_functions_whose_copy_was_not_kept() {
    let files = [with_group("first", 11), with_group("second", 22)];
    let program = link(&files, &()).unwrap();
    let address = |name| program.address(name).unwrap().get();
    let sorted = |mut functions: Vec<u64>| {
        functions.sort_unstable();
        functions
    };
    assert_eq!(
        sorted(unwound(&program, "first.o")),
        sorted(vec![address("pick"), address("first")])
    );
    assert_eq!(
        sorted(unwound(&program, "second.o")),
        [0, address("second")]
    );
}

#[test]
fn what_only_a_discarded_section_defines_is_an_error_and_not_null() {
    let member =
        |symbols: &str| format!(".section .data.g,\"awG\",%progbits,g,comdat\n{symbols}\n.data\n");
    let first = member(".weak shared\nshared: .quad 1");
    let second = member(".weak shared\n.globl only\nshared: .quad 1\nonly: .quad 2")
        + ".globl probe\nprobe: .quad only";
    let files = [
        File::assemble("first.o", &first),
        File::assemble("second.o", &second),
    ];
    let error = link(&files, &()).unwrap_err();
    assert_eq!(error.to_string(), "undefined: only (in second.o)");
}

#[test]
fn inline_functions_and_their_variables_exist_once_in_a_cplusplus_program() {
    let Some(compiler) = support::cxx().map(|command| command.get_program().to_owned()) else {
        println!("no C++ compiler is installed: its objects are not tested");
        return;
    };
    let source = |name: &str| {
        format!(
            "template <typename T> inline T &kept() {{ static T value = 5; return value; }}\n\
             struct Base {{ virtual int id() {{ return 40 + kept<int>(); }} }};\n\
             inline int step() {{ return kept<int>()++; }}\n\
             extern \"C\" int {name}() {{ Base base; Base *volatile any = &base; return step() + any->id(); }}\n"
        )
    };
    for flags in [["-O0", "-fPIC"], ["-O2", "-fPIC"]] {
        let files = ["first", "second"].map(|name| {
            let path = support::text_file(&format!("{name}.cpp"), &source(name));
            let flags = [
                &flags[..],
                &["-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"],
            ]
            .concat();
            let command = std::process::Command::new(&compiler);
            File::read(
                &format!("{name}.o"),
                &support::compile_by(command, &path, &flags),
            )
        });
        let program = link(&files, &Library::process().unwrap()).unwrap();
        assert_eq!(call(&program, "first"), 5 + 46, "{flags:?}");
        assert_eq!(call(&program, "second"), 6 + 47, "{flags:?}");
        let mut names: Vec<&str> = program
            .sections()
            .map(|section| section.name())
            .filter(|name| name.contains("._Z"))
            .collect();
        assert!(!names.is_empty(), "{flags:?}");
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
    }
}

#[test]
fn a_hidden_symbol_is_never_the_processes() {
    let process = Library::process().unwrap();
    for visibility in ["hidden", "internal", "protected"] {
        // One object that says so is enough.
        let files = [
            File::assemble("open.o", ".globl p\np: .quad strlen"),
            File::assemble(
                "closed.o",
                &format!(".{visibility} strlen\n.globl q\nq: .quad strlen"),
            ),
        ];
        link(&files[..1], &process).unwrap();
        let error = link(&files, &process).unwrap_err();
        assert_eq!(
            error.to_string(),
            "undefined: strlen (in open.o, hidden: an object has to define it)",
            "{visibility}"
        );
    }
}

#[test]
fn undefined_symbols_are_told_all_at_once() {
    let files = [
        File::assemble("a.o", ".quad missing_one, strlen, missing_two"),
        File::assemble(
            "b.o",
            ".quad missing_two, missing_three\n.weak optional\n.quad optional",
        ),
    ];
    let error = link(&files, &Library::process().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "undefined: missing_one (in a.o), missing_two (in a.o), missing_three (in b.o)"
    );
}

#[test]
fn a_weak_symbol_that_nobody_defines_is_null() {
    let got = load_from_got("optional");
    let text = format!(
        ".weak optional\n.globl probe\nprobe: .quad optional\n\
         .text\n.globl function\nfunction:\n{got}\nret"
    );
    let files = [File::assemble("weak.o", &text)];
    let program = link(&files, &()).unwrap();
    assert_eq!(
        (number(&program, "probe"), call(&program, "function")),
        (0, 0)
    );
    // Somebody who insists on it makes it an error; somebody who defines it gives it a value.
    let insists = File::assemble("insists.o", ".globl q\nq: .quad optional");
    link(&[files[0].clone(), insists], &()).unwrap_err();
    let resolver = HashMap::from([(String::from("optional"), Address::new(77))]);
    let program = link(&files, &resolver).unwrap();
    assert_eq!(
        (number(&program, "probe"), call(&program, "function")),
        (77, 77)
    );
}

/// A panic without the message.
extern "C-unwind" fn give_up() {
    resume_unwind(Box::new("gave up"));
}

/// What a panic carries that passes through the function `through`, which calls its argument.
fn panic_passing(program: &Program, through: &str) -> &'static str {
    type Through = unsafe extern "C-unwind" fn(extern "C-unwind" fn()) -> i32;
    // SAFETY: the caller names a function of this type, and the program is alive meanwhile.
    let function: Through = unsafe { program.function(through) }.unwrap();
    // SAFETY: as above; it calls its argument and returns.
    let caught = catch_unwind(|| unsafe { function(give_up) });
    let payload = caught.expect_err("it cannot return");
    payload
        .downcast_ref::<&str>()
        .copied()
        .expect("the panic of `give_up`")
}

#[test]
fn a_panic_passes_through_loaded_code_whose_unwind_tables_are_registered() {
    // Frames of two objects, a group of which one copy is kept, and a function of a section of its own.
    let inner = "int inner(void (*f)(void)) { volatile int kept[9] = {1}; f(); return kept[0]; }";
    let outer = "int inner(void (*)(void));\n\
        __attribute__((noinline, cold)) static int cold(void (*f)(void)) { return inner(f) + 1; }\n\
        int outer(void (*f)(void)) { volatile char kept[999] = {2}; return cold(f) + kept[0]; }";
    let flags = ["-fexceptions", "-ffunction-sections"];
    let files = [
        with_group("first", 11),
        with_group("second", 22),
        File::compile("inner.o", inner, &flags),
        File::compile("outer.o", outer, &flags),
    ];
    for _ in 0..3 {
        let loader = objects::load(&files).unwrap();
        let mut manager = SectionMemoryManager::new();
        // SAFETY: compilers made these tables.
        let program =
            unsafe { loader.link_with_eh_frames(&mut manager, &Library::process().unwrap()) }
                .unwrap();
        // libgcc 13 and later want one table where the code of several objects is mixed.
        let tables: Vec<_> = program
            .sections()
            .filter(|section| section.name() == ".eh_frame")
            .collect();
        assert!(tables.len() > 1);
        for pair in tables.windows(2) {
            let end = pair[0].address().get() + pair[0].size() as u64;
            assert_eq!((end, pair[0].id()), (pair[1].address().get(), pair[1].id()));
        }
        assert_eq!(panic_passing(&program, "inner"), "gave up");
        assert_eq!(panic_passing(&program, "outer"), "gave up");
        assert_eq!(panic_passing(&program, "outer"), "gave up");
        drop(program);
        // The unwinder has forgotten the tables, or it would read memory that is gone.
        let elsewhere = catch_unwind(|| give_up()).unwrap_err();
        assert_eq!(elsewhere.downcast_ref::<&str>(), Some(&"gave up"));
    }
}

#[test]
fn an_object_with_broken_unwind_tables_is_refused_by_name_when_they_are_to_be_registered() {
    let text = ".section .eh_frame, \"a\"\n.long 1000, 0";
    let files = [with_group("fine", 1), File::assemble("broken.o", text)];
    link(&files, &()).unwrap();
    let loader = objects::load(&files).unwrap();
    let mut manager = SectionMemoryManager::new();
    // SAFETY: the tables never come to be used.
    let linked = unsafe { loader.link_with_eh_frames(&mut manager, &()) };
    let error = linked.unwrap_err().to_string();
    assert!(error.starts_with("broken.o: .eh_frame+0x0: "), "{error}");
}
