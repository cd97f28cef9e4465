//! gdb sees through code that was made at run time: what it says is the oracle, in processes that stop there. Where it is not
//! installed, or may not trace, the tests say that they were skipped.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "support/child.rs"]
mod child;
#[path = "../src/choices.rs"]
mod choices;
#[path = "support/damaged.rs"]
mod damaged;
#[path = "support/objects.rs"]
mod objects;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use nearcode::debug::{GdbImage, Symbol};
use nearcode::loader::{Loader, Machine, Program};
use nearcode::{
    Align, AllocationSpace, Error, Image, ReservingMemoryManager, SectionKind,
    SectionMemoryManager, SectionRequest,
};
use object::{Object as _, ObjectSection as _};

use objects::File;
use support::Outcome;

/// A program that stops three calls deep, with a variable of each kind.
const STOPS: &str = "
#include <stdlib.h>
int depth;
int common_numbers[4];
static int inner(int left)
{
    common_numbers[2] = 77;
    if (left == 0)
        abort();
    depth++;
    return inner(left - 1) + 1;
}
int middle(int left) { return inner(left) * 2; }
int main(void) { return middle(2); }
";

fn stops() -> PathBuf {
    let flags = [
        "-g",
        "-O1",
        "-fPIC",
        "-fcommon",
        "-fomit-frame-pointer",
        "-fno-optimize-sibling-calls",
    ];
    support::compile_text("stops", STOPS, &flags)
}

/// Whether there is a debugger to ask. Says what is missing.
fn can_debug(test: &str) -> bool {
    let runs = || Command::new("gdb").arg("--version").output().is_ok();
    let missing = if child::is_emulated() {
        "a debugger here would see the emulator"
    } else if !runs() {
        "no gdb"
    } else {
        return true;
    };
    println!("skipped: {test}: {missing}");
    false
}

/// What gdb says to `commands` about a program. `None` where it may not trace.
fn gdb(test: &str, commands: &[&str], program: &Command) -> Option<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]).env("DEBUGINFOD_URLS", "");
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.arg("--args").arg(program.get_program());
    gdb.args(program.get_args());
    for (name, value) in program.get_envs() {
        gdb.env(name, value.expect("a variable that is set"));
    }
    let Outcome { stdout, stderr, .. } = support::run(&mut gdb);
    if stderr.contains("ptrace: Operation not permitted") {
        println!("skipped: {test}: gdb may not trace");
        return None;
    }
    Some(stdout + &stderr)
}

/// The functions of a backtrace from the first of these names on, without arguments and addresses.
fn frames(text: &str, first: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let name = |line: &str| {
        let words = line.split_once(" in ").map(|(_, rest)| rest);
        let words = words.or_else(|| line.split_once("  ").map(|(_, rest)| rest));
        words
            .and_then(|words| words.split(" (").next())
            .map(String::from)
    };
    let names = lines.filter_map(name);
    names.skip_while(|name| name != first).collect()
}

/// Runs a test of this program in gdb.
fn test_in_gdb(test: &str, commands: &[&str]) -> Option<String> {
    if !can_debug(test) {
        return None;
    }
    let mut program = Command::new(std::env::current_exe().expect("this program has a path"));
    program.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    program.env("NEARCODE_CHILD", "gdb");
    gdb(test, commands, &program)
}

#[test]
fn a_backtrace_goes_through_loaded_code_with_names_and_lines() {
    let test = "a_backtrace_goes_through_loaded_code_with_names_and_lines";
    if !can_debug(test) {
        return;
    }
    for manager in ["dedicated", "per-object", "window"] {
        let mut rtdyld = support::rtdyld(None);
        rtdyld.arg("--gdb").arg(format!("--manager={manager}"));
        rtdyld.arg(stops());
        let commands = [
            "run",
            "backtrace",
            "info symbol middle",
            "print depth",
            "print common_numbers",
            "list middle",
        ];
        let Some(text) = gdb(test, &commands, &rtdyld) else {
            return;
        };
        let names = frames(&text, "inner");
        assert!(names.len() > 6, "{text}");
        assert_eq!(
            names[..5],
            ["inner", "inner", "inner", "middle", "main"],
            "{text}"
        );
        assert!(names[5].contains("run_main"), "{text}");
        // The host's own. Where that has all its debugging information, gdb goes on to what called it.
        assert!(names[6..].iter().any(|name| name == "main"), "{text}");
        for expected in [
            "middle in section .text",
            " = 2\n",
            " = {0, 0, 77, 0}\n",
            "13\tint middle(int left) { return inner(left) * 2; }",
        ] {
            assert!(
                text.contains(expected),
                "{manager}: no {expected:?} in\n{text}"
            );
        }
    }
}

#[test]
fn a_breakpoint_is_met_that_was_set_before_there_was_code() {
    let test = "a_breakpoint_is_met_that_was_set_before_there_was_code";
    if !can_debug(test) {
        return;
    }
    let mut rtdyld = support::rtdyld(None);
    rtdyld.arg("--gdb").arg(stops());
    let commands = [
        "set breakpoint pending on",
        "break middle",
        "run",
        "backtrace 2",
    ];
    if let Some(text) = gdb(test, &commands, &rtdyld) {
        assert_eq!(frames(&text, "middle"), ["middle", "main"], "{text}");
    }
}

#[test]
fn gdb_forgets_what_was_dropped() {
    let test = "gdb_forgets_what_was_dropped";
    if child::argument().is_some() {
        let files = [
            File::compile("kept.o", "int kept_function(void) { return 1; }", &[]),
            File::compile("gone.o", "int gone_function(void) { return 2; }", &[]),
        ];
        let load = |file: &File| -> Program {
            let mut loader = Loader::new().unwrap().with_gdb();
            loader.load(&file.name, &file.bytes).unwrap();
            objects::finish(loader, &|_: &str| None).unwrap()
        };
        let [kept, gone] = [load(&files[0]), load(&files[1])];
        let both = (
            objects::call(&kept, "kept_function"),
            objects::call(&gone, "gone_function"),
        );
        assert_eq!(both, (1, 2));
        drop(gone);
        std::process::abort();
    }
    let commands = [
        "run",
        "info address kept_function",
        "info address gone_function",
    ];
    if let Some(text) = test_in_gdb(test, &commands) {
        let known = |name| format!("Symbol \"{name}\" is at 0x");
        assert!(text.contains(&known("kept_function")), "{text}");
        assert!(text.contains("No symbol \"gone_function\""), "{text}");
    }
}

extern "C" fn stop() {
    std::process::abort();
}

/// The bytes of a section of an object.
fn section(file: &File, name: &str) -> Vec<u8> {
    let file = object::File::parse(&*file.bytes).expect("the assembler's file");
    let section = file.section_by_name(name).expect("it has this section");
    section.data().expect("it is in the file").to_vec()
}

/// Puts code and an unwind table into memory, as a loader of somebody's own does, and says where they are.
fn place(code: &[u8], table: &mut [u8]) -> (Image, Symbol<'static>, nearcode::Address) {
    let mut manager = SectionMemoryManager::new();
    let requests = [
        SectionRequest::new(
            "code",
            SectionKind::Code,
            code.len(),
            Align::new(16).unwrap(),
        ),
        SectionRequest::new(
            "table",
            SectionKind::ReadOnlyData,
            table.len(),
            Align::new(8).unwrap(),
        ),
    ];
    let plan = AllocationSpace::Sections(&requests);
    manager.reserve_allocation_space(&plan).unwrap();
    let [text, frames] = requests.map(|request| manager.allocate_section(&request).unwrap());
    let (text_at, frames_at) = (
        manager.address(text).unwrap(),
        manager.address(frames).unwrap(),
    );
    // The record of the one function begins behind that of all, whose length is in its first word, and has the distance to the
    // function behind its own first two words.
    let all = u32::from_le_bytes(table[..4].try_into().unwrap()) as usize;
    let field = 4 + all + 8;
    let distance = text_at.get().wrapping_sub(frames_at.get() + field as u64);
    table[field..field + 4].copy_from_slice(&(distance as i32).to_le_bytes());
    manager.section_mut(text).unwrap().copy_from_slice(code);
    manager.section_mut(frames).unwrap().copy_from_slice(table);
    let image = manager.finalize_memory().unwrap();
    let symbol = Symbol::new("jit_frameless", text_at, code.len() as u64).unwrap();
    (image, symbol, frames_at)
}

/// A function that calls the one that it is given, and keeps no frame pointer.
fn frameless() -> File {
    let body = if cfg!(target_arch = "aarch64") {
        "sub sp, sp, #48\n.cfi_adjust_cfa_offset 48\nstr x30, [sp, #8]\n.cfi_offset 30, -40\nblr x0\nldr x30, [sp, #8]\n\
         add sp, sp, #48\n.cfi_adjust_cfa_offset -48\nret"
    } else {
        "sub $40, %rsp\n.cfi_adjust_cfa_offset 40\ncall *%rdi\nadd $40, %rsp\n.cfi_adjust_cfa_offset -40\nret"
    };
    File::assemble(
        "frameless.o",
        &format!(".text\n.cfi_startproc\n{body}\n.cfi_endproc"),
    )
}

#[test]
fn a_backtrace_goes_through_code_of_a_custom_loader() {
    let test = "a_backtrace_goes_through_code_of_a_custom_loader";
    if child::argument().is_some() {
        let file = frameless();
        let mut table = section(&file, ".eh_frame");
        let (image, symbol, frames_at) = place(&section(&file, ".text"), &mut table);
        let described = GdbImage::of_symbols_and_eh_frame(&[symbol], frames_at, &table);
        let registration = described.unwrap().register().unwrap();
        let code = symbol.address().get() as usize as *const u8;
        // SAFETY: the code takes a function, calls it and returns; the image is alive.
        let function: extern "C" fn(extern "C" fn()) = unsafe { std::mem::transmute(code) };
        function(stop);
        drop((registration, image));
    }
    if let Some(text) = test_in_gdb(test, &["run", "backtrace"]) {
        let names = frames(&text, "jit_frameless");
        assert!(names.len() > 3, "{text}");
        assert!(names[1].contains(test), "{text}");
    }
}

#[test]
fn many_scattered_symbols_are_found() {
    let test = "many_scattered_symbols_are_found";
    if child::argument().is_some() {
        let names: Vec<String> = (0..20_000).map(|number| format!("jit_{number}")).collect();
        let symbols = names.iter().zip(1..).map(|(name, number)| {
            let address = nearcode::Address::new(0x10_0000_0000 + number * 0x40);
            Symbol::new(name, address, 0x20).unwrap()
        });
        let symbols: Vec<_> = symbols.collect();
        let registration = GdbImage::of_symbols(&symbols).unwrap().register();
        assert!(registration.is_ok());
        stop();
    }
    let commands = [
        "run",
        "info symbol 0x1000000050",
        "info symbol 0x1000138800",
        "info symbol 0x1000138820",
    ];
    if let Some(text) = test_in_gdb(test, &commands) {
        let places = ["jit_0 + 16 in section", "jit_19999 in section"];
        for place in places {
            assert!(text.contains(place), "no {place} in {text}");
        }
        assert!(text.contains("No symbol matches 0x1000138820"), "{text}");
    }
}

#[test]
fn code_that_does_not_run_here_is_refused() {
    let file = File::assemble("data.o", ".globl it\nit: .quad 1");
    let mut loader = Loader::new().unwrap().with_gdb();
    loader.load(&file.name, &file.bytes).unwrap();
    let elsewhere = loader.map_section(|_, address| address);
    let refused = objects::finish(elsewhere, &|_: &str| None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "not supported on this platform: telling debuggers of code that does not run here"
    );
    let other = match Machine::HOST {
        Some(Machine::X86_64) => Machine::Aarch64,
        _ => Machine::X86_64,
    };
    let loader = Loader::for_machine(other).with_gdb();
    assert!(objects::finish(loader, &|_: &str| None).is_err());
}

#[test]
fn objects_of_every_form_can_be_registered() {
    // Groups of which a copy goes, thread-local variables, no symbols at all, sections without names.
    let group = ".section .text.g,\"axG\",%progbits,g,comdat\n.weak g\ng: .zero 16\n.section .tdata,\"awT\",%progbits\n\
                 .quad 1\n.section .tbss,\"awT\",%nobits\n.zero 8\n.comm shared, 16, 8";
    let files = [
        File::assemble("one.o", group),
        File::assemble("two.o", &format!("{group}\n.data\n.quad g, shared")),
        File::assemble("none.o", ""),
    ];
    let loader = objects::load(&files).unwrap().with_gdb();
    let program = objects::finish(loader, &|_: &str| None).unwrap();
    assert!(program.address("shared").is_some());
    drop(program);
    let registered = GdbImage::from_elf(Vec::new()).register();
    assert!(
        !matches!(registered, Err(Error::Unsupported(_))),
        "nobody looks into it here"
    );
}

#[test]
fn the_list_is_nobody_elses_to_see() {
    // Hidden and weak: a library beside this program keeps its own pair, and a definition in it wins.
    let path = std::env::current_exe().expect("this program has a path");
    let bytes = std::fs::read::<&Path>(&path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    for name in ["__jit_debug_register_code", "__jit_debug_descriptor"] {
        let found = file
            .symbols()
            .filter(|symbol| object::ObjectSymbol::name(symbol) == Ok(name));
        assert_eq!(found.count(), 1, "{name}");
        let mut exports = file.dynamic_symbols();
        assert!(exports.all(|symbol| object::ObjectSymbol::name(&symbol) != Ok(name)));
    }
}

#[test]
fn damaged_objects_can_be_registered_if_they_can_be_linked() {
    let read = damaged::TestCase::read;
    choices::made_up("loader_link", 2000, 200, read, |case| {
        if case.runs_here() {
            damaged::check_with(case, |loader| loader.with_gdb());
        }
    });
}
