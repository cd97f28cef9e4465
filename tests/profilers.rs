//! perf knows code that was made at run time by name: what `perf report` and `perf inject` make of our files is the oracle. Where
//! it is not installed, or may not measure, the tests say that they were skipped.
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

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::LazyLock;

use nearcode::debug::{JitDump, PerfMap, Symbol};
use nearcode::loader::Loader;
use nearcode::{Address, Error};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use objects::File;
use support::Outcome;

/// A program that spends a quarter of a second in one function, or a little more.
const SPINS: &str = "
#include <time.h>
static volatile long seen;
static long __attribute__((noinline)) busy_loop(long turns)
{
    long sum = seen;
    for (long i = 0; i < turns; i++)
        sum = sum * 31 + (i ^ sum >> 7);
    return sum;
}
int main(void)
{
    clock_t end = clock() + CLOCKS_PER_SEC / 4;
    while (clock() < end)
        seen = busy_loop(1000000);
    return 0;
}
";

fn spins() -> PathBuf {
    support::compile_text("spins", SPINS, &["-O1", "-fPIC", "-fno-omit-frame-pointer"])
}

/// An empty folder of this test's own.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("perf")
        .join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("cargo's folder for tests is writable");
    folder
}

/// `perf record` with a clock of software, which virtual machines have, too. `None` where it may not.
fn record(test: &str, folder: &Path) -> Option<Command> {
    let skipped = |why: &str| println!("skipped: {test}: {why}");
    if child::is_emulated() {
        skipped("a profiler here would see the emulator");
        return None;
    }
    let data = folder.join("perf.data");
    let perf = || {
        let mut perf = Command::new("perf");
        perf.args([
            "record",
            "-k",
            "mono",
            "-e",
            "cpu-clock",
            "-F",
            "499",
            "-g",
            "-o",
        ]);
        perf.arg(&data).arg("--").env("HOME", folder);
        perf
    };
    match perf().arg("true").output() {
        Err(_) => skipped("no perf"),
        Ok(tried) if !tried.status.success() => {
            let why = String::from_utf8_lossy(&tried.stderr);
            skipped(&format!(
                "perf refuses: {}",
                why.lines().next().unwrap_or_default()
            ));
        }
        Ok(_) => return Some(perf()),
    }
    None
}

/// What a tool of perf says in a folder, where it keeps its copies of what it saw, too.
fn perf(folder: &Path, arguments: &[&str]) -> String {
    let mut perf = Command::new("perf");
    let Outcome {
        status,
        stdout,
        stderr,
    } = support::run(perf.args(arguments).current_dir(folder).env("HOME", folder));
    assert_eq!(
        status, "exit status: 0",
        "perf {arguments:?}: {stdout}{stderr}"
    );
    stdout
}

/// Which part of the samples a function has, in percent.
fn percent(report: &str, function: &str) -> f64 {
    let of_function = |line: &&str| line.trim_end().ends_with(&format!("[.] {function}"));
    let line = report.lines().find(of_function);
    let line = line.unwrap_or_else(|| panic!("no {function} in\n{report}"));
    let number = line.trim_start().split('%').next().unwrap_or_default();
    number
        .parse()
        .expect("a report's line begins with a number")
}

/// A perf map of a process that has ended, or is going to: gone in the end.
struct Map(PathBuf);

impl Map {
    fn of(process: u32) -> Self {
        Self(PathBuf::from(format!("/tmp/perf-{process}.map")))
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).expect("the process has written it");
        text.lines().map(String::from).collect()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_perf_map_gives_a_report_its_names() {
    let test = "a_perf_map_gives_a_report_its_names";
    let folder = folder(test);
    let Some(mut record) = record(test, &folder) else {
        return;
    };
    // The shell says which process it is, and becomes the program.
    record.args(["sh", "-c", "echo $$ && exec \"$0\" \"$@\""]);
    record.arg(support::rtdyld(None).get_program());
    let Outcome { status, stdout, .. } = support::run(record.arg("--perf-map").arg(spins()));
    assert_eq!(status, "exit status: 0");
    let process = stdout.lines().next().and_then(|line| line.parse().ok());
    let _map = Map::of(process.expect("a number"));
    let report = perf(
        &folder,
        &["report", "--stdio", "--no-children", "-g", "none"],
    );
    assert!(percent(&report, "busy_loop") > 50.0, "{report}");
}

#[test]
fn a_jitdump_gives_a_report_its_names_and_code_wherever_that_is() {
    let test = "a_jitdump_gives_a_report_its_names_and_code_wherever_that_is";
    for manager in ["dedicated", "window"] {
        let folder = folder(test);
        let Some(mut record) = record(test, &folder) else {
            return;
        };
        record.arg(support::rtdyld(None).get_program());
        record.arg(format!("--manager={manager}"));
        record.arg(format!("--jitdump={}", folder.display()));
        assert_eq!(support::run(record.arg(spins())).status, "exit status: 0");
        perf(
            &folder,
            &["inject", "--jit", "-i", "perf.data", "-o", "jit.data"],
        );
        let report = [
            "report",
            "-i",
            "jit.data",
            "--stdio",
            "--no-children",
            "-g",
            "none",
        ];
        let report = perf(&folder, &report);
        assert!(percent(&report, "busy_loop") > 50.0, "{manager}: {report}");
        // Frame pointers lead from there through the program to this crate, and to the example's main.
        let callers = [
            "report",
            "-i",
            "jit.data",
            "--stdio",
            "--no-children",
            "-S",
            "busy_loop",
        ];
        let callers = perf(&folder, &callers);
        assert!(callers.contains("main"), "{callers}");
    }
}

#[test]
fn perf_reads_from_a_jitdump_the_code_that_is_in_memory() {
    let test = "perf_reads_from_a_jitdump_the_code_that_is_in_memory";
    if let Some(folder) = child::argument() {
        let dump = JitDump::create_in(Path::new(&folder)).unwrap();
        let file = File::assemble("two.o", &two_functions());
        let mut loader = Loader::new().unwrap().with_jit_dump(&dump);
        loader.load(&file.name, &file.bytes).unwrap();
        let program = objects::finish(loader, &|_: &str| None).unwrap();
        assert_eq!(
            (
                objects::call(&program, "one"),
                objects::call(&program, "two")
            ),
            (1, 2)
        );
        drop((dump, program));
        return;
    }
    let folder = folder(test);
    let Some(mut record) = record(test, &folder) else {
        return;
    };
    record.arg(std::env::current_exe().expect("this program has a path"));
    record.args(["--exact", test, "--nocapture"]);
    record.env("NEARCODE_CHILD", &folder);
    let Outcome {
        status,
        stdout,
        stderr,
    } = support::run(&mut record);
    assert_eq!(status, "exit status: 0", "{stdout}{stderr}");
    perf(
        &folder,
        &["inject", "--jit", "-i", "perf.data", "-o", "jit.data"],
    );
    let object = File::assemble("two.o", &two_functions());
    let object = object::File::parse(&*object.bytes).unwrap();
    let code = object.section_by_name(".text").unwrap().data().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "so") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let made = object::File::parse(&*bytes).unwrap();
        let symbol = made.symbols().find(|symbol| symbol.is_definition());
        let text = made.section_by_name(".text").unwrap().data().unwrap();
        found.push((symbol.unwrap().name().unwrap().to_owned(), text.to_vec()));
    }
    found.sort();
    let (one, two) = code.split_at(code.len() / 2);
    assert_eq!(
        found,
        [("one".into(), one.to_vec()), ("two".into(), two.to_vec())]
    );
}

/// Two functions of the same length; the second one does not say how long it is.
fn two_functions() -> String {
    let (one, two) = (objects::returns(1), objects::returns(2));
    format!(
        ".text\n.globl one, two\n.type one, %function\none:\n{one}\n.size one, . - one\ntwo:\n{two}"
    )
}

#[test]
fn a_map_has_a_line_for_each_function() {
    let test = "a_map_has_a_line_for_each_function";
    if !child::is_alone(test) {
        return;
    }
    let written = Map::of(process::id());
    fs::write(&written.0, "1000 10 another JIT's\n").unwrap();
    let map = PerfMap::open().unwrap();
    let body = objects::returns(1);
    let text = format!(
        ".text\n.globl one, two, alias\n.type one, %function\none:\nalias:\n{body}\nlabel:\n{body}\n.size one, . - one\n\
         two:\n{body}\n.type local, %function\nlocal:\n{body}\n.size local, . - local\n.size beyond, 1000\n.type beyond, %function\n\
         beyond:\n{body}\n.section .text.nameless,\"ax\",%progbits\n{body}\n.section .data\n.globl data\ndata: .quad 1\n"
    );
    let file = File::assemble("functions.o", &text);
    let size = |name: &str| {
        let object = object::File::parse(&*file.bytes).unwrap();
        object.section_by_name(name).unwrap().size()
    };
    let each = size(".text") / 5;
    let mut loader = Loader::new().unwrap().with_perf_map(&map);
    loader.load(&file.name, &file.bytes).unwrap();
    let program = objects::finish(loader, &|_: &str| None).unwrap();
    let one = program.address("one").unwrap().get();
    let nameless = program
        .sections()
        .find(|section| section.name() == ".text.nameless");
    let nameless = nameless.unwrap().address().get();
    let mut lines = written.lines();
    lines[1..].sort();
    let line = |address: u64, size: u64, name: &str| format!("{address:x} {size:x} {name}");
    let mut expected = [
        line(one, 2 * each, "one"),
        line(one + 2 * each, each, "two"),
        line(one + 3 * each, each, "local"),
        line(one + 4 * each, each, "beyond"),
        line(nameless, each, "[.text.nameless]"),
    ];
    expected.sort();
    assert_eq!(lines[0], "1000 10 another JIT's");
    assert_eq!(lines[1..], expected);
    drop(program);
    assert_eq!(written.lines().len(), 6, "names stay");
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let test = "files_that_are_not_ours_are_refused";
    if !child::is_alone(test) {
        return;
    }
    let written = Map::of(process::id());
    let target = folder(test).join("target");
    fs::write(&target, "").unwrap();
    symlink(&target, &written.0).unwrap();
    assert!(matches!(
        PerfMap::open(),
        Err(Error::File {
            operation: "open",
            ..
        })
    ));
    fs::remove_file(&written.0).unwrap();
    fs::create_dir(&written.0).unwrap();
    assert!(matches!(
        PerfMap::open(),
        Err(Error::File {
            operation: "open",
            ..
        })
    ));
    fs::remove_dir(&written.0).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"");

    let folder = folder(test);
    let missing = folder.join("missing");
    let refused = JitDump::create_in(&missing).unwrap_err().to_string();
    let start = format!(
        "cannot create {}/jit-{}.dump: ",
        missing.display(),
        process::id()
    );
    assert!(refused.starts_with(&start), "{refused}");
    let first = JitDump::create_in(&folder).unwrap();
    let second = JitDump::create_in(&folder).unwrap_err().to_string();
    assert!(second.ends_with("somebody is writing to it"), "{second}");
    let size = fs::metadata(first.path()).unwrap().len();
    drop(first);
    let again = JitDump::create_in(&folder).unwrap();
    assert_eq!(
        fs::metadata(again.path()).unwrap().len(),
        size,
        "what was there is gone"
    );
}

#[test]
fn a_child_of_fork_has_files_of_its_own() {
    let test = "a_child_of_fork_has_files_of_its_own";
    if !child::is_alone(test) {
        return;
    }
    let written = Map::of(process::id());
    let map = PerfMap::open().unwrap();
    let dump = JitDump::create_in(&folder(test)).unwrap();
    let before = fs::read(dump.path()).unwrap();
    let symbol = Symbol::new("it", Address::new(0x1000), 1).unwrap();
    // SAFETY: the child touches what this thread alone has, and leaves without running anybody's destructors.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let map = matches!(map.add(&[symbol]), Err(Error::InheritedFile { .. }));
        let dump_too = matches!(
            dump.add(&[(symbol, &[0])]),
            Err(Error::InheritedFile { .. })
        );
        drop(dump);
        // SAFETY: ends the child.
        unsafe { libc::_exit(if map && dump_too { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child, and writes into a variable of this thread.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(fs::read(dump.path()).unwrap(), before);
    assert_eq!(written.lines(), [""; 0]);
    dump.add(&[(symbol, &[0])]).unwrap();
    assert!(fs::metadata(dump.path()).unwrap().len() > before.len() as u64);
}

#[test]
fn what_a_jitdump_cannot_hold_is_refused_and_nothing_is_written() {
    let folder = folder("what_a_jitdump_cannot_hold");
    let dump = JitDump::create_in(&folder).unwrap();
    let before = fs::read(dump.path()).unwrap();
    let [good, bad] =
        ["good", "bad"].map(|name| Symbol::new(name, Address::new(0x1000), 2).unwrap());
    let refused = dump.add(&[(good, &[1, 2]), (bad, &[1])]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "\"bad\" is no symbol: its code has another size than it says"
    );
    assert_eq!(fs::read(dump.path()).unwrap(), before);
}

#[test]
fn a_marker_is_no_code_and_rules_against_written_code_allow_it() {
    let test = "a_marker_is_no_code_and_rules_against_written_code_allow_it";
    if !child::is_alone(test) {
        return;
    }
    /// `prctl(2)`, Linux 6.3.
    const PR_SET_MDWE: i32 = 65;
    // SAFETY: changes what this process may do, and no memory.
    if unsafe { libc::prctl(PR_SET_MDWE, 1u64, 0u64, 0u64, 0u64) } != 0 {
        println!("skipped: {test}: no PR_SET_MDWE, or an emulator");
    }
    let dump = JitDump::create_in(&folder(test)).unwrap();
    let symbol = Symbol::new("large", Address::new(0x1000), 100_000).unwrap();
    dump.add(&[(symbol, &[0x90; 100_000])]).unwrap();
    let map = fs::read_to_string("/proc/self/maps").unwrap();
    let name = dump
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let line = map
        .lines()
        .find(|line| line.ends_with(&name))
        .expect("perf looks for this line");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1], "r-xs");
    let offset = u64::from_str_radix(words[2], 16).unwrap();
    assert!(offset > fs::metadata(dump.path()).unwrap().len(), "{line}");
    drop(dump);
    let map = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!map.contains(&name));
}

/// Mounts a file system without execution over a folder, for this process only.
fn forbid_execution(folder: &Path) -> Result<(), std::io::Error> {
    let done = |answer: i32| match answer {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    let folder = CString::new(folder.to_str().unwrap()).unwrap();
    // SAFETY: changes which mounts this thread sees, and no memory.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (root, tmpfs, none) = (c"/".as_ptr(), c"tmpfs".as_ptr(), std::ptr::null());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the paths are alive and end with a zero; there are no data.
    done(unsafe { libc::mount(none, root, none, private, none.cast()) })?;
    // SAFETY: as above.
    done(unsafe { libc::mount(tmpfs, folder.as_ptr(), tmpfs, libc::MS_NOEXEC, none.cast()) })
}

#[test]
fn a_folder_without_execution_is_refused() {
    let test = "a_folder_without_execution_is_refused";
    if !child::is_alone_natively(test) {
        return;
    }
    let folder = folder(test);
    if let Err(why) = forbid_execution(&folder) {
        return println!("skipped: {test}: nothing can be mounted: {why}");
    }
    let refused = JitDump::create_in(&folder).unwrap_err();
    let path = folder.join(format!("jit-{}.dump", process::id()));
    assert_eq!(
        refused.to_string(),
        format!(
            "cannot map as executable {}: Operation not permitted (os error 1)",
            path.display()
        )
    );
    assert!(!path.exists());
}

#[test]
fn code_that_does_not_run_here_is_refused() {
    let test = "code_that_does_not_run_here_is_refused";
    let dump = JitDump::create_in(&folder(test)).unwrap();
    let file = File::assemble("data.o", ".globl it\nit: .quad 1");
    let mut loader = Loader::new().unwrap().with_jit_dump(&dump);
    loader.load(&file.name, &file.bytes).unwrap();
    let elsewhere = loader.map_section(|_, address| address);
    let refused = objects::finish(elsewhere, &|_: &str| None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "not supported on this platform: telling profilers of code that does not run here"
    );
}

#[test]
fn a_link_that_fails_for_its_names_leaves_nothing() {
    let test = "a_link_that_fails_for_its_names_leaves_nothing";
    if !child::is_alone(test) {
        return;
    }
    let dump = JitDump::create_in(&folder(test)).unwrap();
    let size = fs::metadata(dump.path()).unwrap().len();
    let file = File::assemble("two.o", &two_functions());
    let mut loader = Loader::new().unwrap().with_jit_dump(&dump);
    loader.load(&file.name, &file.bytes).unwrap();
    let limit = libc::rlimit {
        rlim_cur: size + 10,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a signal's default is changed to an error, which Rust's library does not do for this one.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    // SAFETY: reads a structure of this thread.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    assert_eq!(limited, 0);
    let refused = objects::finish(loader, &|_: &str| None)
        .unwrap_err()
        .to_string();
    assert!(refused.starts_with("cannot write to "), "{refused}");
    // Half a record is none.
    assert_eq!(fs::metadata(dump.path()).unwrap().len(), size);
}

#[test]
fn damaged_objects_have_names_if_they_can_be_linked() {
    static DUMP: LazyLock<JitDump> = LazyLock::new(|| {
        let folder = folder("damaged_objects_have_names_if_they_can_be_linked");
        JitDump::create_in(&folder).unwrap()
    });
    let read = damaged::TestCase::read;
    choices::made_up("loader_link", 2000, 200, read, |case| {
        if case.runs_here() {
            damaged::check_with(case, |loader| loader.with_jit_dump(&DUMP));
        }
    });
    assert!(fs::metadata(DUMP.path()).unwrap().len() > 1000);
}
