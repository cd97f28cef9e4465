//! What the tests of real programs share: the compilers for the target of this test, a cache of what they made, and the
//! command lines that run a program here or through the emulator that cargo was told of.
#![allow(dead_code)] // Each test crate uses its own part.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};

/// What this test was compiled for, in rustc's words.
const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// What a program left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `exit status: 3` or `signal: 11 (SIGSEGV)`.
    pub(crate) status: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Outcome {
        status: output.status.to_string(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a tool that must succeed; its standard output.
fn must(command: &mut Command) -> String {
    let outcome = run(command);
    assert!(
        outcome.status == "exit status: 0",
        "{command:?} ended with {}:\n{}{}",
        outcome.status,
        outcome.stdout,
        outcome.stderr
    );
    outcome.stdout
}

/// The C compiler for this test's target: `NEARCODE_CC`, else the cross compiler if there is one, else `cc`.
pub(crate) fn cc() -> &'static OsStr {
    static CC: OnceLock<OsString> = OnceLock::new();
    let cross = "aarch64-linux-gnu-gcc";
    let runs = |tool| Command::new(tool).arg("--version").output().is_ok();
    CC.get_or_init(|| match env::var_os("NEARCODE_CC") {
        Some(chosen) => chosen,
        None if cfg!(target_arch = "aarch64") && runs(cross) => cross.into(),
        None => "cc".into(),
    })
}

/// clang for this test's target, where it is installed.
pub(crate) fn clang() -> Option<Command> {
    let mut command = Command::new("clang");
    let installed = command.arg("--version").output().is_ok();
    let mut command = Command::new("clang");
    if cfg!(target_arch = "aarch64") {
        command.arg("--target=aarch64-linux-gnu");
    }
    installed.then_some(command)
}

/// The C++ compiler beside [`cc`], where it is installed.
pub(crate) fn cxx() -> Option<Command> {
    let cc = cc().to_string_lossy().into_owned();
    let tool = match cc.strip_suffix("gcc") {
        Some(prefix) => format!("{prefix}g++"),
        None => "c++".into(),
    };
    let installed = Command::new(&tool).arg("--version").output().is_ok();
    installed.then(|| Command::new(tool))
}

/// `rustc` for this test's target. `RUSTC` names another one, as it does for cargo.
fn rustc() -> Command {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--target", TARGET, "--edition", "2024"]);
    command
}

/// A file of this repository's `tests/programs`.
pub(crate) fn source(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there", path.display());
    path
}

/// The folder of a package that `tests/programs/Cargo.toml` names; cargo downloads it if it is not there yet.
pub(crate) fn package(name: &str) -> PathBuf {
    static METADATA: OnceLock<String> = OnceLock::new();
    let metadata = METADATA.get_or_init(|| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["metadata", "--format-version=1", "--locked"]);
        must(cargo.arg("--manifest-path").arg(source("Cargo.toml")))
    });
    // A dependency has a name too, but only a package's own is followed by its version; its manifest is the next one.
    let place = metadata
        .split_once(&format!("{{\"name\":\"{name}\",\"version\":"))
        .and_then(|(_, package)| package.split_once("\"manifest_path\":\""))
        .and_then(|(_, path)| path.split_once("/Cargo.toml\""));
    match place {
        Some((folder, _)) => PathBuf::from(folder),
        None => panic!("cargo metadata does not say where {name} lies"),
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a folder's entry").path())
}

/// All C files of a folder, in order.
pub(crate) fn c_files(folder: &Path) -> Vec<PathBuf> {
    let is_c = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let mut files: Vec<PathBuf> = entries(folder).filter(is_c).collect();
    files.sort();
    files
}

/// The object of one C file.
pub(crate) fn compile(source: &Path, flags: &[&str]) -> PathBuf {
    compile_by(Command::new(cc()), source, flags)
}

/// The object of one file, from another compiler.
pub(crate) fn compile_by(mut command: Command, source: &Path, flags: &[&str]) -> PathBuf {
    command.args(flags).arg("-c").arg(source);
    made(&stem(source), "o", command, &[source])
}

/// The object of a C text.
pub(crate) fn compile_text(name: &str, text: &str, flags: &[&str]) -> PathBuf {
    compile(&text_file(&format!("{name}.c"), text), flags)
}

/// A file with this text; `name` ends as its language wants.
pub(crate) fn text_file(name: &str, text: &str) -> PathBuf {
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    let (stem, extension) = name.split_once('.').expect("a name with its extension");
    let file = format!("{stem}-{:016x}.{extension}", hash.finish());
    kept(&file, |draft| {
        fs::write(draft, text).expect("cargo's folder for tests is writable");
    })
}

/// One relocatable object out of several and of what they need from archives.
pub(crate) fn merge(name: &str, inputs: &[PathBuf]) -> PathBuf {
    let mut command = Command::new(cc());
    command.args(["-r", "-nostdlib"]).args(inputs);
    made(name, "o", command, inputs)
}

/// The executable that the system's linker makes of objects and shared objects: what a loaded program is compared with.
pub(crate) fn link(name: &str, inputs: &[PathBuf]) -> PathBuf {
    link_by(Command::new(cc()), name, inputs)
}

/// The same by another compiler.
pub(crate) fn link_by(mut command: Command, name: &str, inputs: &[PathBuf]) -> PathBuf {
    command
        .args(inputs)
        .args(["-lm", "-Wl,-rpath"])
        .arg(cache());
    made(name, "exe", command, inputs)
}

/// A shared object from one C file, for `LD_PRELOAD` or `--dylib`.
pub(crate) fn shared(source: &Path) -> PathBuf {
    let mut command = Command::new(cc());
    command.args(["-shared", "-fPIC", "-O1"]).arg(source);
    made(&stem(source), "so", command, &[source])
}

/// What rustc makes of a file: an object (`o`) or a shared object (`so`).
pub(crate) fn rust(source: &Path, extension: &str, flags: &[&str]) -> PathBuf {
    let mut command = rustc();
    command.arg("-O").args(flags).arg(source); // What comes last wins.
    if extension == "so" {
        let mut linker = OsString::from("linker=");
        linker.push(cc());
        command.arg("-C").arg(linker);
    }
    let name = format!("lib{}", stem(source)); // `--extern` wants it so.
    made(&name, extension, command, &[source])
}

/// An archive of rustc's own, such as `core`.
pub(crate) fn rust_archive(name: &str) -> PathBuf {
    let folder = must(rustc().args(["--print", "target-libdir"]));
    let start = format!("lib{name}-");
    entries(Path::new(folder.trim()))
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "rlib")
                && stem(path).starts_with(&start)
        })
        .unwrap_or_else(|| panic!("rustc has no {start}*.rlib for {TARGET} in {folder}"))
}

/// A command for a program of this test's target: through the emulator that cargo uses for its tests, if any.
/// `preload` is a library that goes in front of the C library.
pub(crate) fn program(path: &Path, preload: Option<&Path>) -> Command {
    let mut runner = String::new();
    if cfg!(target_arch = "aarch64") {
        runner = env::var("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").unwrap_or_default();
    }
    let mut words = runner.split_whitespace();
    let Some(emulator) = words.next() else {
        let mut command = Command::new(path);
        command.envs(preload.map(|library| ("LD_PRELOAD", library)));
        return command;
    };
    let mut command = Command::new(emulator);
    command.args(words);
    if let Some(library) = preload {
        // In our environment it would go in front of the emulator's own C library. This is an option of qemu-user.
        command.args(["-E", &format!("LD_PRELOAD={}", library.display())]);
    }
    command.arg(path);
    command
}

/// The command line `rtdyld`, an example of this crate.
pub(crate) fn rtdyld(preload: Option<&Path>) -> Command {
    let test = env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().nth(2).expect("tests lie in deps");
    let path = folder.join("examples/rtdyld");
    let hint = "run `cargo build --examples` or plain `cargo test`, which builds them";
    assert!(path.is_file(), "{} is not there: {hint}", path.display());
    program(&path, preload)
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().expect("a file's name");
    stem.to_string_lossy().into_owned()
}

/// Where made files are kept between runs.
fn cache() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    fs::create_dir_all(&folder).expect("cargo's folder for tests is writable");
    folder
}

/// A file of the cache, made first if it is not there: `make` gets the path to write to, which ends in the file's own name
/// because rustc writes that into a shared object. What is ready moves into place in one step.
fn kept(file: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static DRAFTS: AtomicUsize = AtomicUsize::new(0);
    let place = cache().join(file);
    if !place.exists() {
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let folder = cache().join(format!("draft-{}-{number}", process::id()));
        fs::create_dir_all(&folder).expect("cargo's folder for tests is writable");
        make(&folder.join(file));
        fs::rename(folder.join(file), &place).expect("a rename within one folder");
        fs::remove_dir_all(&folder).expect("a folder of our own");
    }
    place
}

/// What `command` makes of `inputs`, kept under a name that tells them from others: the compilers, the command line, and each
/// input's path, size and time of change. Headers are not looked at: those we use never change under their path.
fn made(name: &str, kind: &str, mut command: Command, inputs: &[impl AsRef<Path>]) -> PathBuf {
    let mut hash = DefaultHasher::new();
    (versions(), format!("{command:?}")).hash(&mut hash);
    for input in inputs {
        let input = input.as_ref();
        let file =
            fs::metadata(input).unwrap_or_else(|error| panic!("{}: {error}", input.display()));
        (input, file.len(), file.modified().ok()).hash(&mut hash);
    }
    kept(&format!("{name}-{:016x}.{kind}", hash.finish()), |draft| {
        let _turn = Turn::wait();
        must(command.arg("-o").arg(draft));
    })
}

/// What the two compilers say of themselves, asked once.
fn versions() -> &'static str {
    static VERSIONS: OnceLock<String> = OnceLock::new();
    VERSIONS.get_or_init(|| must(Command::new(cc()).arg("--version")) + &must(rustc().arg("-V")))
}

/// The right to run a compiler: two at a time, however many tests there are.
struct Turn;

static FREE_TURNS: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

impl Turn {
    fn wait() -> Turn {
        let free = FREE_TURNS.0.lock().expect("nothing panics under it");
        let mut free = FREE_TURNS
            .1
            .wait_while(free, |free| *free == 0)
            .expect("nothing panics under it");
        *free -= 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Ok(mut free) = FREE_TURNS.0.lock() {
            *free += 1;
        }
        FREE_TURNS.1.notify_one();
    }
}
