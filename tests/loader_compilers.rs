//! What compilers emit, compiled in many ways, computes in a loaded program what it computes in a linked one.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/objects.rs"]
mod objects;
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use nearcode::loader::{Library, LoadError};
use object::{Object as _, ObjectSection as _, RelocationFlags, SectionFlags, elf};

use objects::File;

/// What is to become of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Runs,
    /// It needs addresses below 2 GiB.
    WantsPic,
}
use Fate::{Runs, WantsPic};

/// What gcc and clang both understand.
const EVERYWHERE: [(&str, Fate); 10] = [
    ("-O0 -fPIC", Runs),
    ("-O2 -fPIC", Runs),
    ("-O3 -fPIC", Runs),
    ("-Os -fPIC -g", Runs),
    ("-O2 -fPIC -fno-plt", Runs),
    ("-O2 -fPIC -ffunction-sections -fdata-sections", Runs),
    ("-O2 -fpic", Runs),
    ("-O0 -fpic", Runs),
    ("-O2 -fPIE", Runs),
    ("-O0 -fPIE", Runs),
];

const ON_AARCH64: [(&str, Fate); 6] = [
    ("-O0 -fno-pic", Runs),
    ("-O2 -fno-pic", Runs),
    ("-O3 -fno-pic", Runs),
    ("-O2 -fno-pic -mcmodel=large", Runs),
    ("-O2 -fPIC -mcmodel=tiny", Runs),
    ("-O2 -fno-pic -mcmodel=tiny", Runs),
];

const ON_X86_64: [(&str, Fate); 6] = [
    ("-O0 -fno-pic", WantsPic),
    ("-O2 -fno-pic", WantsPic),
    ("-O2 -fPIC -mcmodel=medium", Runs),
    ("-O0 -fPIC -mcmodel=large", Runs),
    ("-O2 -fPIC -mcmodel=large", Runs),
    ("-O2 -fno-pic -mcmodel=large", Runs),
];

fn ways() -> impl Iterator<Item = (&'static str, Fate)> {
    let here = if cfg!(target_arch = "aarch64") {
        ON_AARCH64
    } else {
        ON_X86_64
    };
    EVERYWHERE.into_iter().chain(here)
}

/// Another compiler than the C compiler, where it is installed.
type Compiler = Option<fn() -> Option<Command>>;

/// The two objects, from `compiler` or from the C compiler.
fn compile(compiler: Compiler, flags: &str) -> [PathBuf; 2] {
    let flags: Vec<&str> = flags.split(' ').chain(["-fcommon"]).collect();
    ["shapes.c", "shapes_data.c"].map(|file| {
        let compiler = compiler.map_or_else(|| Some(Command::new(support::cc())), |other| other());
        support::compile_by(
            compiler.expect("it was there"),
            &support::source(file),
            &flags,
        )
    })
}

/// What the same source says when the system's linker links it.
fn linked() -> String {
    let mut inputs = compile(None, "-O1 -fPIC").to_vec();
    inputs.push(support::compile(&support::source("shapes_main.c"), &[]));
    let executable = support::link("shapes", &inputs);
    let outcome = support::run(&mut support::program(&executable, None));
    assert_eq!(outcome.status, "exit status: 0", "{outcome:?}");
    assert!(outcome.stdout.lines().count() > 30, "{outcome:?}");
    outcome.stdout
}

fn loaded(paths: &[PathBuf]) -> Result<String, LoadError> {
    let files = [
        File::read("shapes.o", &paths[0]),
        File::read("shapes_data.o", &paths[1]),
    ];
    let program = objects::link(&files, &Library::process()?)?;
    // SAFETY: shapes.c defines it so, and the program is alive until the end of this function.
    let describe: extern "C" fn(*mut u8, usize) -> i32 = unsafe { program.function("describe")? };
    let mut text = vec![0; 1 << 14];
    let length = describe(text.as_mut_ptr(), text.len());
    text.truncate(usize::try_from(length).expect("a length"));
    Ok(String::from_utf8(text).expect("shapes.c writes ASCII"))
}

/// Each way of compiling has the fate that its row tells; a program that runs says what the linked one says.
fn check(name: &str, compiler: Compiler) {
    let expected = linked();
    for (flags, fate) in ways() {
        match (fate, loaded(&compile(compiler, flags))) {
            (Runs, Ok(text)) => assert_eq!(text, expected, "{name} {flags}"),
            (WantsPic, Err(LoadError::OutOfReach { advice, .. })) => {
                assert!(advice.contains("-fPIC"), "{name} {flags}: {advice}");
            }
            (_, result) => panic!("{name} {flags}: {fate:?}, but {result:?}"),
        }
    }
}

#[test]
fn what_gcc_makes_of_a_program_computes_what_it_computes_when_linked() {
    check("cc", None);
}

#[test]
fn what_clang_makes_of_a_program_computes_what_it_computes_when_linked() {
    if support::clang().is_none() {
        println!("clang is not installed: its objects are not tested");
        return;
    }
    check("clang", Some(support::clang));
}

#[test]
fn rust_objects_without_std_compute_what_they_compute_when_linked_in_debug_and_release() {
    for optimization in ["opt-level=0", "opt-level=3"] {
        let flags = ["--emit=obj", "--crate-type=lib", "-C", "panic=abort", "-C"];
        let flags = [&flags[..], &[optimization]].concat();
        let object = support::rust(&support::source("rust_sums.rs"), "o", &flags);
        let archives = ["core", "compiler_builtins"].map(support::rust_archive);
        let object = support::merge("rust_sums", &[vec![object], archives.to_vec()].concat());
        let main = support::compile_text(
            "rust_sums_main",
            "#include <stdio.h>\n\
             unsigned long sums(unsigned long);\n\
             void rust_eh_personality(void) {} /* core's own objects name it */\n\
             int main(void) { printf(\"%lu %lu\", sums(1), sums(1)); return 0; }\n",
            &["-O1", "-fPIC"],
        );
        let executable = support::link("rust_sums", &[object.clone(), main.clone()]);
        let linked = support::run(&mut support::program(&executable, None)).stdout;

        let files = [
            File::read("rust_sums.o", &object),
            File::read("rust_sums_main.o", &main),
        ];
        let program = objects::link(&files, &Library::process().unwrap()).unwrap();
        // SAFETY: rust_sums.rs defines it so, and the program is alive until the end of this round.
        let sums: extern "C" fn(u64) -> u64 = unsafe { program.function("sums") }.unwrap();
        // C leaves the order of the linked program's calls open; the two differ.
        let (first, second) = (sums(1), sums(1));
        assert_ne!(first, second, "{optimization}");
        let either = [format!("{first} {second}"), format!("{second} {first}")];
        assert!(
            either.contains(&linked),
            "{optimization}: {either:?} {linked}"
        );
    }
}

/// How often each relocation occurs in what is loaded of these objects, by number.
fn census(paths: impl IntoIterator<Item = PathBuf>) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let sections = file.sections().filter(|section| {
            matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(elf::SHF_ALLOC))
        });
        for (_, relocation) in
            sections.flat_map(|section| section.relocations().collect::<Vec<_>>())
        {
            let RelocationFlags::Elf { r_type } = relocation.flags() else {
                unreachable!("these are ELF objects")
            };
            *counts.entry(r_type.0).or_default() += 1;
        }
    }
    counts
}

/// What gcc 12 and clang 14 make of these programs. Without this the tests above could pass because a compiler has become too
/// clever for the source.
#[test]
fn these_programs_contain_the_relocations_that_matter() {
    let (cc, clang): (&[u32], &[u32]) = if cfg!(target_arch = "aarch64") {
        (
            &[
                257, 261, 274, 275, 277, 278, 282, 283, 284, 285, 286, 299, 309, 311, 312, 313,
            ],
            &[260, 264, 266, 268, 269, 273],
        )
    } else {
        (&[1, 2, 4, 9, 10, 11, 25, 27, 29, 31, 41, 42], &[24, 26])
    };
    let compilers: [(Compiler, &[u32]); 2] = [(None, cc), (Some(support::clang), clang)];
    for (compiler, expected) in compilers {
        if compiler.is_some_and(|compiler| compiler().is_none()) {
            println!("clang is not installed: its objects are not counted");
            continue;
        }
        let counts = census(ways().flat_map(|(flags, _)| compile(compiler, flags)));
        println!("{counts:?}");
        for number in expected {
            assert!(counts.contains_key(number), "{number} is not in {counts:?}");
        }
    }
}
