//! The rules of this house that no compiler knows, checked on the sources as text.
//! Each rule is a function from a file's path and text to what it finds, so that each can be shown to find something.
//! Indentation as `cargo fmt` keeps it is taken for granted.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/` from the ground up. A file may name modules of its own floor and of those below.
const ROOMS: &[&str] = &[
    "num kind id reach layout error trap choices", // Arithmetic.
    "sys icache unwind thread debug",              // System.
    "stats window dedicated memory reservation image", // Policy,
    "manager",                                     // and its door.
    "loader fuzzing",                              // Integrations.
];

/// Every file with unsafe code outside of its tests, and what for.
const UNSAFE: &[(&str, &str)] = &[
    ("src/sys/mod.rs", "changes permissions"),
    ("src/sys/block.rs", "turns a mapping into slices"),
    ("src/sys/pool.rs", "changes permissions of parts"),
    ("src/sys/dual/linux.rs", "places mappings"),
    ("src/sys/dual/unsupported.rs", "the same signatures"),
    ("src/sys/bti/linux_aarch64.rs", "a bit for mprotect"),
    ("src/sys/bti/none.rs", "the same signatures"),
    ("src/sys/forks/linux_count.rs", "registers a handler"),
    ("src/sys/forks/linux_mark.rs", "reads a page of its own"),
    ("src/sys/mapping/windows.rs", "functions of the system"),
    ("src/sys/pages/linux.rs", "advises the kernel"),
    ("src/sys/pages/others.rs", "the same signatures"),
    ("src/icache/aarch64.rs", "instructions without another form"),
    ("src/icache/apple.rs", "a function of the system"),
    ("src/icache/loongarch64.rs", "an instruction"),
    ("src/icache/riscv64.rs", "a system call"),
    ("src/icache/stub.rs", "the signature of the other files"),
    ("src/icache/windows.rs", "functions of the system"),
    ("src/icache/x86_64.rs", "the signature of the other files"),
    ("src/unwind/libgcc.rs", "functions of the unwinder"),
    ("src/unwind/libunwind.rs", "functions of the unwinder"),
    ("src/unwind/mod.rs", "hands memory to the unwinder"),
    ("src/unwind/unsupported.rs", "the same signatures"),
    ("src/thread/aarch64.rs", "an instruction"),
    ("src/thread/block.rs", "declares"),
    ("src/thread/room.rs", "clears what was left"),
    ("src/thread/x86_64.rs", "an instruction"),
    ("src/debug/gdb/mod.rs", "keeps entries of a list"),
    ("src/debug/gdb/list.rs", "changes a list that others read"),
    ("src/debug/gdb/unsupported.rs", "the same signatures"),
    ("src/debug/system/linux.rs", "maps a page of a file"),
    ("src/dedicated.rs", "passes on that it is not sealed"),
    ("src/memory.rs", "the same, and publishes code"),
    ("src/window/backing.rs", "passes promises on"),
    ("src/window/lease.rs", "lends spans out"),
    ("src/window/release.rs", "overwrites code, gives pages back"),
    ("src/window/shared.rs", "clears spans, changes permissions"),
    ("src/reservation.rs", "keeps memory unsealed until then"),
    ("src/image.rs", "registers tables"),
    ("src/manager.rs", "declares, and passes promises on"),
    ("src/loader/mod.rs", "declares, and passes promises on"),
    ("src/loader/execute/mod.rs", "calls what was loaded"),
    (
        "src/loader/execute/choice_linux_aarch64.rs",
        "calls a resolver",
    ),
    ("src/loader/execute/choice_others.rs", "calls a resolver"),
    (
        "src/loader/execute/environment_linux.rs",
        "a variable of the C library",
    ),
    (
        "src/loader/execute/exit_unix.rs",
        "a function of the C library",
    ),
    ("src/loader/execute/exit_others.rs", "the same signature"),
    ("src/loader/execute/thread_end.rs", "calls destructors"),
    ("src/loader/library.rs", "opens libraries by name"),
    ("src/loader/tls/native/aarch64.rs", "assembly"),
    ("src/loader/tls/native/registry.rs", "makes blocks"),
    ("src/loader/tls/native/table.rs", "finds blocks"),
    ("src/loader/tls/native/descriptor.rs", "declares assembly"),
    ("src/loader/tls/native/x86_64.rs", "assembly"),
    ("adapters/cranelift/src/memory.rs", "makes functions"),
    ("adapters/cranelift/src/provider.rs", "declares"),
    ("adapters/llvm/src/callbacks.rs", "LLVM calls it"),
    ("adapters/llvm/src/jitlink.rs", "the same"),
    ("adapters/llvm/src/orc.rs", "the same"),
    ("adapters/llvm/src/rtdyld.rs", "the same"),
    ("adapters/llvm/src/sections.rs", "passes LLVM's word on"),
    ("adapters/llvm/src/variables.rs", "passes a promise on"),
];

/// Files that have `unsafe fn`s for the promise in their contract, and at most one unsafe block for each, to pass it on.
const ONLY_DECLARE: &[&str] = &[
    "src/manager.rs",
    "src/loader/mod.rs",
    "adapters/cranelift/src/provider.rs",
];

/// Sources of other packages of this repository. This one is published without them.
const ADAPTERS: &[&str] = &["adapters/cranelift/src", "adapters/llvm/src"];

/// Beside what begins with a dot. `Cargo.toml.orig` is what cargo adds to a published package.
const TOP_LEVEL: &str = "Cargo.toml Cargo.toml.orig Cargo.lock README.md LICENSE CHANGELOG.md \
    src tests benches examples fuzz adapters target";

/// `None` for what is in no room.
fn floor(module: &str) -> Option<usize> {
    ROOMS
        .iter()
        .position(|room| room.split(' ').any(|known| known == module))
}

fn imports_point_down(path: &str, text: &str) -> Vec<String> {
    let Some(own) = module_of(path).first().cloned() else {
        return Vec::new(); // The front page has every room below it.
    };
    let mut named = modules_named(path, text);
    named.push((1, own.clone())); // Finds a file that is in no room.
    named.retain(|(_, other)| floor(other).is_none_or(|other| Some(other) > floor(&own)));
    let finding = |(line, other)| format!("{path}:{line}: {other} is above {own}, or in no room");
    named.into_iter().map(finding).collect()
}

fn unsafe_is_where_the_table_says(path: &str, text: &str) -> Vec<String> {
    let lines = lines(path, text).into_iter().filter(|line| !line.in_tests);
    let code: Vec<String> = lines.map(|line| line.code).collect();
    let count = |word: &str| -> usize { code.iter().map(|line| line.matches(word).count()).sum() };
    let (blocks, functions) = (count("unsafe {"), count("unsafe fn"));
    let others = ["unsafe impl", "unsafe extern", "allow(unsafe_code"].map(count);
    let is_unsafe = blocks + functions + others.iter().sum::<usize>() > 0;
    let only_declares = blocks <= functions;
    // Arithmetic, and the loader but for these files and this room, stay safe whatever the table says.
    let is_closed = match path.strip_prefix("src/loader/") {
        Some(file) => {
            !["mod.rs", "library.rs"].contains(&file)
                && !["execute/", "tls/native/"]
                    .map(|room| file.starts_with(room))
                    .contains(&true)
        }
        None => module_of(path).first().and_then(|own| floor(own)) == Some(0),
    };
    let finding = match (is_unsafe, UNSAFE.iter().any(|(row, _)| *row == path)) {
        (false, false) => return Vec::new(),
        (false, true) => "its row in UNSAFE is no longer needed",
        (true, _) if is_closed => "no unsafe code may live here",
        (true, false) => "unsafe code without a row in UNSAFE",
        (true, true) if only_declares || !ONLY_DECLARE.contains(&path) => return Vec::new(),
        (true, true) => "does more than pass promises on",
    };
    vec![format!("{path}: {finding}")]
}

fn files_are_short(path: &str, text: &str) -> Vec<String> {
    match text.lines().count() {
        ..=600 => Vec::new(),
        count => vec![format!("{path}: {count} lines; split it by noun")],
    }
}

fn has_no_loose_ends(path: &str, text: &str) -> Vec<String> {
    let judge = |line: Line| {
        let has = |words: &[&str]| words.iter().any(|word| line.code.contains(word));
        let unfinished = has(&["todo!", "unimplemented!", "dbg!"]);
        let mixed = line.in_function && has(&["#[cfg", "cfg!("]);
        (unfinished || mixed).then(|| format!("{path}:{}: {}", line.number, line.code))
    };
    lines(path, text).into_iter().filter_map(judge).collect()
}

fn belongs_at_the_top(name: &str) -> bool {
    name.starts_with('.') || TOP_LEVEL.split(' ').any(|known| known == name)
}

/// A line of code without its comments and what its strings say, and where it stands.
#[derive(Clone, Default)]
struct Line {
    number: usize,
    code: String,
    /// The modules around it, from the root.
    module: Vec<String>,
    in_function: bool,
    /// In a module under `#[cfg(test)]`.
    in_tests: bool,
}

fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let names = path
        .split('/')
        .filter(|name| !matches!(*name, "mod" | "lib"));
    names.map(String::from).collect()
}

fn lines(path: &str, text: &str) -> Vec<Line> {
    // The items whose braces are open: the least indentation of their lines, and what those have in common.
    let mut scopes = vec![(0, Line::default())];
    scopes[0].1.module = module_of(path);
    let (mut lines, mut for_tests) = (Vec::new(), false);
    for (number, text) in (1..).zip(text.lines()) {
        let indent = text.len() - text.trim_start().len();
        let text = text.trim().replace("\\\"", "").replace("'\"'", "");
        let outside_strings: Vec<&str> = text.split('"').step_by(2).collect();
        let code = outside_strings.join("\"\"");
        let code = code.split("//").next().unwrap_or("").trim();
        if code.starts_with('}') || (code.starts_with(')') && code.ends_with(';')) {
            scopes.retain(|(least, _)| *least <= indent);
        }
        let mut inner = scopes.last().expect("the file's own").1.clone();
        (inner.number, inner.code) = (number, code.into());
        lines.push(inner.clone());
        let words: Vec<&str> = code.split(' ').collect();
        let item = words.iter().position(|word| ["mod", "fn"].contains(word));
        if let Some(item) = item.filter(|_| !code.ends_with(['}', ';'])) {
            if words[item] == "mod" {
                inner.module.push(words[item + 1].into());
                inner.in_tests |= for_tests;
            } else {
                inner.in_function = true;
            }
            scopes.push((indent + 1, inner));
        }
        for_tests = code == "#[cfg(test)]" || (for_tests && code.starts_with("#["));
    }
    lines
}

/// The line and the first module below the root of every path that begins with `crate`, `self` or `super`.
fn modules_named(path: &str, text: &str) -> Vec<(usize, String)> {
    let lines = lines(path, text);
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let starts = ["crate::", "self::", "super::"].map(|start| line.code.match_indices(start));
        for (at, _) in starts.into_iter().flatten() {
            if line.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue; // In the middle of a path.
            }
            let further: Vec<&str> = lines[i + 1..].iter().map(|l| l.code.as_str()).collect();
            let rest = format!("{} {}", &line.code[at..], further.join(" "));
            let mut modules = Vec::new();
            follow(&rest, line.module.clone(), &mut modules);
            found.extend(modules.into_iter().map(|module| (line.number, module)));
        }
    }
    found
}

/// Adds the first modules of the path, or tree of paths, that `rest` begins with and that starts at `base`. What is behind it.
fn follow<'a>(mut rest: &'a str, mut base: Vec<String>, found: &mut Vec<String>) -> &'a str {
    loop {
        if let Some(tree) = rest.strip_prefix('{') {
            rest = tree.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                rest = follow(rest, base.clone(), found);
                rest = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
                rest = rest.trim_start_matches([',', ' ']);
            }
            return rest.get(1..).unwrap_or("");
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        match &rest[..end] {
            "crate" => base.clear(),
            "self" => {}
            "super" => drop(base.pop()),
            name => base.push(name.into()),
        }
        rest = &rest[end..];
        if !rest.starts_with("::") {
            found.push(base.first().cloned().unwrap_or_default());
            return rest;
        }
        rest = &rest[2..];
    }
}

/// All Rust files below some folders of this package: the path from its root, and the text.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder of this package");
            paths.extend(entries.map(|entry| entry.expect("a folder's entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("it lies below the root");
            let text = fs::read_to_string(&path).expect("a source is text");
            files.push((name.to_string_lossy().replace('\\', "/"), text));
        }
    }
    files
}

fn assert_obeyed(rule: fn(&str, &str) -> Vec<String>, folders: &[&str]) {
    let files = sources(folders);
    assert!(files.len() > 10, "{folders:?} hold more than {files:?}");
    let mut found = Vec::new();
    for (path, text) in files {
        found.extend(rule(&path, &text));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn imports_point_down_only() {
    assert_obeyed(imports_point_down, &["src"]);
}

#[test]
fn unsafe_code_lives_where_the_table_says() {
    assert_obeyed(
        unsafe_is_where_the_table_says,
        &[&["src"], ADAPTERS].concat(),
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has_adapters = root.join("adapters").is_dir();
    for (row, _) in UNSAFE {
        let is_elsewhere = row.starts_with("adapters/") && !has_adapters;
        assert!(
            is_elsewhere || root.join(row).is_file(),
            "{row} is in UNSAFE, but gone"
        );
    }
    for folder in [&["src"], ADAPTERS].concat() {
        let front_page = fs::read_to_string(root.join(folder).join("lib.rs"));
        let denies = |text: String| text.contains("\n#![deny(unsafe_code)]");
        assert!(front_page.map_or(!has_adapters, denies), "{folder}");
    }
}

#[test]
fn no_file_is_too_long() {
    let folders = ["src", "tests", "examples", "benches", "adapters"];
    assert_obeyed(files_are_short, &folders);
}

#[test]
fn sources_are_finished_and_have_no_cfg_in_functions() {
    assert_obeyed(has_no_loose_ends, &[&["src"], ADAPTERS].concat());
}

#[test]
fn nothing_else_lies_at_the_top() {
    let entries = fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the root of this package");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into()).collect();
    names.retain(|name| !belongs_at_the_top(name));
    assert!(names.is_empty(), "at the top level there is also {names:?}");
}

/// Each line of `table` is a path and a text, in which `\n` ends a line.
#[track_caller]
fn assert_finds(count: usize, rule: fn(&str, &str) -> Vec<String>, table: &str) {
    for row in table.trim().lines() {
        let (path, text) = row.trim().split_once(": ").expect("a path and a text");
        let found = rule(path, &text.replace("\\n", "\n"));
        assert_eq!(found.len(), count, "in {row}: {found:?}");
    }
}

#[test]
fn a_room_that_imports_upwards_is_found() {
    let upwards = r"
        src/sys/mod.rs: use crate::image::Image;
        src/layout/block.rs: use super::super::icache;
        src/num.rs: mod tests {\n    use super::super::sys;\n}
        src/image.rs: use crate::{\n    num::{self, Span},\n    stats::A as B,\n    manager,\n};
        src/stats.rs: fn f() {\n    g(crate::num::N, crate::loader::L);\n}
        src/trap.rs: use crate::Error;
        src/trap.rs: use super::*;
        src/homeless.rs: // No room names it.";
    assert_finds(1, imports_point_down, upwards);
    let downwards = r#"
        src/loader/link.rs: use crate::{manager::M, num::{self, Span}};\nuse super::plan::Plan;
        src/image.rs: use crate::reservation::R; // Not crate::manager.\nf("crate::loader");
        src/num.rs: mod tests {\n    use super::*;\n}\nuse super::error;
        src/lib.rs: use self::loader::Loader;"#;
    assert_finds(0, imports_point_down, downwards);
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    let elsewhere = r#"
        src/stats.rs: unsafe {
        src/stats.rs: pub unsafe fn f() {}
        src/stats.rs: unsafe impl Send for X {}
        src/stats.rs: unsafe extern "C" {
        src/num.rs: #![allow(unsafe_code)]
        src/loader/plan.rs: unsafe {
        src/image.rs: #[cfg(test)]\nmod tests {\n    unsafe {\n    }\n}
        src/manager.rs: unsafe fn f() {\n    unsafe { g() }\n    unsafe { h() }\n}
        src/image.rs: // Its row is not needed."#;
    assert_finds(1, unsafe_is_where_the_table_says, elsewhere);
    let in_place = r"
        src/image.rs: unsafe {
        src/manager.rs: unsafe fn f() {\n    unsafe { g() }\n}
        src/stats.rs: // unsafe {\n#[cfg(test)]\nmod tests {\n    unsafe {\n    }\n}";
    assert_finds(0, unsafe_is_where_the_table_says, in_place);
}

#[test]
fn a_file_of_601_lines_is_found() {
    assert!(files_are_short("src/long.rs", &"\n".repeat(600)).is_empty());
    assert_eq!(files_are_short("src/long.rs", &"\n".repeat(601)).len(), 1);
}

#[test]
fn unfinished_code_and_cfg_in_functions_are_found() {
    let bad = r"
        src/a.rs: fn f() {\n    todo!()\n}
        src/a.rs: fn f() { unimplemented!() }
        src/a.rs: const X: u8 = dbg!(1);
        src/a.rs: impl X {\n    fn f(\n    ) {\n        #[cfg(unix)]\n        g();\n    }\n}
        src/a.rs: fn f() -> bool {\n    cfg!(unix)\n}";
    assert_finds(1, has_no_loose_ends, bad);
    let good = r#"
        src/a.rs: fn f() {\n}\n#[cfg(unix)]\nfn g() {} // todo!
        src/a.rs: trait T {\n    fn f(\n    );\n    #[cfg(unix)]\n    fn g();\n}
        src/a.rs: fn f() {\n    "todo!"\n}\nconst X: bool = cfg!(unix);"#;
    assert_finds(0, has_no_loose_ends, good);
}

#[test]
fn a_stranger_at_the_top_level_is_found() {
    assert!(!belongs_at_the_top("notes.txt") && !belongs_at_the_top("scripts"));
    assert!(belongs_at_the_top("src") && belongs_at_the_top(".ci"));
}
