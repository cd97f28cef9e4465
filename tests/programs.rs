//! Real programs, loaded from their object files by `rtdyld` and compared with the same objects linked by the system's linker:
//! Lua (33 objects that refer to each other's internal symbols), zstd (31 objects, weak symbols that nobody defines), SQLite
//! (one object of a megabyte), and Rust objects with and without a standard library. "Scattered" is the address space of
//! `programs/scatter.c`, in which any two mappings are out of each other's reach.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use support::{Outcome, run};

/// Objects, the arguments to run them with, and what the linked program does.
struct Program {
    objects: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
    arguments: Vec<String>,
    linked: Outcome,
}

impl Program {
    fn new(name: &str, objects: Vec<PathBuf>, libraries: Vec<PathBuf>, arguments: &[&str]) -> Self {
        let executable = support::link(name, &[objects.clone(), libraries.clone()].concat());
        Self::linked(name, &executable, objects, libraries, arguments)
    }

    /// One that was linked already.
    fn linked(
        name: &str,
        executable: &Path,
        objects: Vec<PathBuf>,
        libraries: Vec<PathBuf>,
        arguments: &[&str],
    ) -> Self {
        let linked = run(support::program(executable, None).args(arguments));
        assert!(
            linked.stdout.lines().count() > 3,
            "the linked {name} says too little: {linked:?}"
        );
        let arguments = arguments
            .iter()
            .map(|argument| argument.to_string())
            .collect();
        Self {
            objects,
            libraries,
            arguments,
            linked,
        }
    }

    /// The rest of a command line that loads the program.
    fn load(&self, mut rtdyld: Command) -> Outcome {
        rtdyld.args(["--execute", "--entry=main", "--dylib=libm.so.6"]);
        for library in &self.libraries {
            rtdyld.arg(format!("--dylib={}", library.display()));
        }
        run(rtdyld
            .args(&self.objects)
            .arg("--args")
            .args(&self.arguments))
    }
}

/// One object for each C file, and one for the driver of our own; as many at once as the support allows.
fn objects(files: Vec<PathBuf>, driver: &str, flags: &[&str]) -> Vec<PathBuf> {
    let flags = &[&["-O2", "-fPIC"], flags].concat();
    let files = files.into_iter().chain([support::source(driver)]);
    thread::scope(|scope| {
        let started: Vec<_> = files
            .map(|file| scope.spawn(move || support::compile(&file, flags)))
            .collect();
        started
            .into_iter()
            .map(|object| object.join().expect("a compiler failed"))
            .collect()
    })
}

fn lua() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = support::package("lua-src").join("lua-5.4.9");
        let include = format!("-I{}", folder.display());
        let objects = objects(
            support::c_files(&folder),
            "lua_main.c",
            &["-DLUA_USE_POSIX", &include],
        );
        assert!(
            objects.len() > 30,
            "{} objects are not all of Lua",
            objects.len()
        );
        let script = support::source("exercise.lua");
        Program::new(
            "lua",
            objects,
            vec![],
            &[script.to_str().expect("UTF-8"), "10"],
        )
    })
}

fn zstd() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = support::package("zstd-sys").join("zstd/lib");
        let include = format!("-I{}", folder.display());
        let parts = ["common", "compress", "decompress", "dictBuilder"];
        let files = parts
            .iter()
            .flat_map(|part| support::c_files(&folder.join(part)))
            .collect();
        let objects = objects(files, "zstd_main.c", &["-DZSTD_DISABLE_ASM", &include]);
        assert!(
            objects.len() > 25,
            "{} objects are not all of zstd",
            objects.len()
        );
        Program::new("zstd", objects, vec![], &["300000"])
    })
}

fn sqlite() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = support::package("libsqlite3-sys").join("sqlite3");
        let include = format!("-I{}", folder.display());
        let flags = [
            "-DSQLITE_ENABLE_FTS5",
            "-DSQLITE_ENABLE_MATH_FUNCTIONS",
            "-DSQLITE_ENABLE_RTREE",
            "-DSQLITE_OMIT_LOAD_EXTENSION",
            &include,
        ];
        let objects = objects(vec![folder.join("sqlite3.c")], "sqlite_main.c", &flags);
        Program::new("sqlite", objects, vec![], &["20000"])
    })
}

/// A C program over Rust objects, with the part of `core` that they need: 1,600 sections, thousands of relocations.
fn without_std() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let flags = ["--emit=obj", "--crate-type=lib", "-C", "panic=abort"];
        let mut parts = ["no_std_shapes.rs", "no_std_sort.rs"]
            .map(|file| support::rust(&support::source(file), "o", &flags))
            .to_vec();
        parts.extend(["core", "compiler_builtins"].map(support::rust_archive));
        let objects = objects(vec![], "no_std_main.c", &[]);
        let objects = [objects, vec![support::merge("no_std", &parts)]].concat();
        Program::new("no_std", objects, vec![], &[])
    })
}

/// A Rust program whose standard library is a shared object. On aarch64 rustc calls small atomic functions of its own runtime
/// library, which no shared object exports, so they are merged into the object as a static linker would.
fn with_std(arguments: &[&str]) -> Program {
    let library = support::rust(
        &support::source("whole_std.rs"),
        "so",
        &["--crate-type=dylib"],
    );
    let whole_std = format!("whole_std={}", library.display());
    let flags = [
        "--emit=obj",
        "-C",
        "prefer-dynamic",
        "-C",
        "panic=unwind",
        "--extern",
        &whole_std,
    ];
    let object = support::rust(&support::source("std_main.rs"), "o", &flags);
    let object = support::merge(
        "std_main",
        &[object, support::rust_archive("compiler_builtins")],
    );
    Program::new("std_main", vec![object], vec![library], arguments)
}

/// Constructors, destructors and indirect functions, in two objects of one source.
fn life() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = support::source("life.c");
        let part = |flags: &[&str]| {
            let flags = [&["-O1", "-fPIC", "-Wno-attribute-alias"], flags].concat();
            support::compile(&source, &flags)
        };
        let objects = vec![part(&["-DPART=1", "-DMAIN=1"]), part(&["-DPART=2"])];
        Program::new("life", objects, vec![], &["the last"])
    })
}

/// Two C++ objects over the C++ library: exceptions, run-time types, static objects, threads.
fn cxx() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let compiler = || support::cxx().expect("a C++ compiler is installed");
        let text = std::fs::read_to_string(support::source("cxx.h")).expect("it is there");
        let header = support::text_file("cxx.h", &text);
        let header = header.to_str().expect("UTF-8");
        let part = |name| {
            let flags = ["-O1", "-fPIC", "-std=c++17", "-include", header];
            support::compile_by(compiler(), &support::source(name), &flags)
        };
        let objects = vec![part("cxx_main.cpp"), part("cxx_part.cpp")];
        let executable = support::link_by(compiler(), "cxx", &objects);
        let library = PathBuf::from("libstdc++.so.6");
        Program::linked("cxx", &executable, objects, vec![library], &["C++"])
    })
}

/// Functions in 70,000 sections of their own, more than fit into the numbers of ELF's first version, and a C program that
/// calls all of them. Compilers take a minute for such an object with `-ffunction-sections`; an assembler takes a second.
fn many_sections() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let function = if cfg!(target_arch = "aarch64") {
            "ldr w1, 1f\nadd w0, w0, w1\nret\n1: .long \\n"
        } else {
            "lea \\n(%rdi), %eax\nret"
        };
        let text = format!(
            ".altmacro\n.macro one n\n.section .text.f\\n,\"ax\",%progbits\nf\\n:\n{function}\n\
             .section .data.rel.ro,\"aw\"\n.quad f\\n\n.endm\n\
             .section .data.rel.ro,\"aw\"\n.globl all\nall:\nn = 0\n\
             .rept 70000\none %n\nn = n + 1\n.endr\n.quad 0\n.section .note.GNU-stack,\"\"\n"
        );
        let source = support::text_file("many_sections.s", &text);
        let object = support::compile(&source, &[]);
        let text = "#include <stdio.h>\nextern int (*const all[])(int);\n\
             int main(void) { unsigned sum = 0; for (int i = 0; all[i]; ++i) sum = sum * 31 + all[i](i);\n\
             printf(\"%u\\nof\\nmany\\nfunctions\\n\", sum); return 0; }\n";
        let main = support::compile_text("many_main", text, &["-O1", "-fPIC"]);
        Program::new("many_sections", vec![main, object], vec![], &[])
    })
}

fn runs_as_linked(program: &Program) {
    assert_eq!(program.load(support::rtdyld(None)), program.linked);
}

fn runs_as_linked_when_scattered(program: &Program) {
    let library = support::shared(&support::source("scatter.c"));
    assert_eq!(
        program.load(support::rtdyld(Some(&library))),
        program.linked
    );
}

/// With a reservation for each object, and direct references between them.
fn runs_as_linked_in_a_window(program: &Program) {
    let library = support::shared(&support::source("scatter.c"));
    for preload in [None, Some(library.as_path())] {
        let mut rtdyld = support::rtdyld(preload);
        rtdyld.arg("--manager=window");
        assert_eq!(program.load(rtdyld), program.linked, "{preload:?}");
    }
}

#[test]
fn lua_runs_as_it_does_when_linked() {
    runs_as_linked(lua());
}

#[test]
fn zstd_runs_as_it_does_when_linked() {
    runs_as_linked(zstd());
}

#[test]
fn sqlite_runs_as_it_does_when_linked() {
    runs_as_linked(sqlite());
}

#[test]
fn rust_objects_without_a_standard_library_serve_a_c_program() {
    runs_as_linked(without_std());
}

#[test]
fn a_rust_program_finds_its_standard_library_in_a_shared_object() {
    runs_as_linked(&with_std(&["one", "two"]));
}

#[test]
fn a_rust_panic_unwinds_through_loaded_code_and_is_caught() {
    let program = with_std(&["panic"]);
    assert!(
        program.linked.stdout.contains("caught: true"),
        "{:?}",
        program.linked
    );
    runs_as_linked(&program);
}

#[test]
fn constructors_destructors_and_indirect_functions_run_in_the_linkers_order() {
    runs_as_linked(life());
    runs_as_linked_in_a_window(life());
}

#[test]
fn exceptions_and_static_objects_of_cplusplus_work_as_when_linked() {
    runs_as_linked(cxx());
    runs_as_linked_when_scattered(cxx());
    runs_as_linked_in_a_window(cxx());
}

#[test]
fn an_object_of_70_000_sections_runs_as_it_does_when_linked() {
    runs_as_linked(many_sections());
    runs_as_linked_when_scattered(many_sections());
    runs_as_linked_in_a_window(many_sections());
}

#[test]
fn lua_runs_wherever_the_system_places_mappings() {
    runs_as_linked_when_scattered(lua());
}

#[test]
fn zstd_runs_wherever_the_system_places_mappings() {
    runs_as_linked_when_scattered(zstd());
}

#[test]
fn sqlite_runs_wherever_the_system_places_mappings() {
    runs_as_linked_when_scattered(sqlite());
}

#[test]
fn rust_objects_run_wherever_the_system_places_mappings() {
    runs_as_linked_when_scattered(without_std());
    runs_as_linked_when_scattered(&with_std(&["panic"]));
}

#[test]
fn lua_runs_in_a_window_object_by_object() {
    runs_as_linked_in_a_window(lua());
}

#[test]
fn zstd_runs_in_a_window_object_by_object() {
    runs_as_linked_in_a_window(zstd());
}

#[test]
fn sqlite_runs_in_a_window_object_by_object() {
    runs_as_linked_in_a_window(sqlite());
}

#[test]
fn rust_objects_run_in_a_window_object_by_object() {
    runs_as_linked_in_a_window(without_std());
    runs_as_linked_in_a_window(&with_std(&["one", "two"]));
}

#[test]
fn a_rust_panic_unwinds_through_code_in_a_window() {
    runs_as_linked_in_a_window(&with_std(&["panic"]));
}

/// Objects that say where they are. They refer to each other through GOTs only, so that they run wherever they lie.
fn addresses() -> Vec<PathBuf> {
    let flags = ["-O1", "-fPIC"];
    let part = |name| {
        let text = format!(
            "int variable_{name} = 1; const int constant_{name} = 2; int zero_{name}[500];\n\
             int function_{name}(void) {{ return variable_{name} + constant_{name} + zero_{name}[0]; }}\n"
        );
        support::compile_text(&format!("part_{name}"), &text, &flags)
    };
    let text = "#include <stdio.h>\n\
         #define PART(x) extern int variable_##x, zero_##x[], function_##x(void); extern const int constant_##x;\n\
         #define SAY(x) printf(\"%p %p %p %p \", &variable_##x, &constant_##x, zero_##x, function_##x)\n\
         PART(a) PART(b)\n\
         int main(void) { SAY(a); SAY(b); printf(\"%p\\n\", main); return function_a() + function_b(); }\n";
    let main = support::compile_text("addresses", text, &flags);
    vec![main, part("a"), part("b")]
}

/// How far apart three objects with a reservation each lie, in bytes, where the system scatters mappings.
fn distance_with(option: &str) -> u64 {
    let library = support::shared(&support::source("scatter.c"));
    let mut rtdyld = support::rtdyld(Some(&library));
    let objects = addresses();
    rtdyld.args([option, "--print-alloc-requests"]);
    let said = run(rtdyld.args(&objects));
    assert_eq!(said.status, "exit status: 6", "{said:?}");
    let reservations = said.stdout.matches("reserveAllocationSpace(").count();
    assert_eq!(reservations, objects.len(), "{said:?}");
    let last = said.stdout.lines().last().expect("the program's own line");
    let address = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
    let addresses: Result<Vec<u64>, _> = last.split(' ').map(address).collect();
    let addresses = addresses.unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(addresses.len(), 9, "{said:?}");
    addresses.iter().max().expect("nine") - addresses.iter().min().expect("nine")
}

#[test]
fn in_a_window_the_reservations_of_all_objects_lie_within_2_gib() {
    let far = distance_with("--manager=per-object");
    assert!(far > 2 << 30, "nothing was scattered: {far:#x}");
    let near = distance_with("--manager=window");
    assert!(near < 2 << 30, "{near:#x}");
}

#[test]
fn a_program_of_one_object_needs_no_common_block() {
    let parts = sqlite();
    let object = support::merge("sqlite_whole", &parts.objects);
    let arguments: Vec<&str> = parts.arguments.iter().map(String::as_str).collect();
    let program = Program::new("sqlite_whole", vec![object], vec![], &arguments);
    let library = support::shared(&support::source("scatter.c"));
    let mut rtdyld = support::rtdyld(Some(&library));
    rtdyld.arg("--manager=per-object");
    assert_eq!(program.load(rtdyld), program.linked);
}

#[test]
fn objects_out_of_reach_of_each_other_are_refused_with_the_relocations_name() {
    let library = support::shared(&support::source("scatter.c"));
    let mut rtdyld = support::rtdyld(Some(&library));
    rtdyld.arg("--manager=per-object");
    let refused = lua().load(rtdyld);
    let kind = if cfg!(target_arch = "aarch64") {
        "R_AARCH64_"
    } else {
        "R_X86_64_"
    };
    assert_eq!(refused.status, "exit status: 1", "{refused:?}");
    assert_eq!(refused.stdout, "", "nothing of it may run");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    assert!(refused.stderr.contains(kind), "{refused:?}");
}

/// Without this the tests above could pass because nothing was scattered.
#[test]
fn scattered_mappings_are_out_of_every_relocations_reach() {
    let object = support::compile_text(
        "far",
        "#include <stdio.h>\n\
         #include <sys/mman.h>\n\
         static char *map(void) { return mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }\n\
         int main(void) { char *a = map(), *b = map(); printf(\"%ld\\n\", (long)(b - a) >> 30); return 0; }\n",
        &["-O1", "-fPIC"],
    );
    let executable = support::link("far", &[object]);
    let library = support::shared(&support::source("scatter.c"));
    let said = run(&mut support::program(&executable, Some(&library)));
    assert_eq!(said.stdout, "6\n", "{said:?}");
}
