//! Thread-local variables of loaded programs, from compilers in every model, in threads that were there before and in threads
//! that came later.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/child.rs"]
mod child;
#[path = "support/objects.rs"]
mod objects;
mod support;

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle, ThreadId};

use nearcode::loader::{Library, LoadError, Placement, Program};
use nearcode::{Address, SectionMemoryManager, Window};

use objects::File;

/// `step` adds 28 in each call, from three times START on.
const COUNTER: &str = r#"
__thread int first = START;
__thread int zero;
static __thread long inner = START;
static __thread _Alignas(64) char wide[100];
extern __thread int other;
int target = 11;
#if START
static __thread int *pointer = &target;
int pointed(void) { return *pointer; }
#else
int pointed(void) { return 11; }
#endif
long step(void) {
    static __thread long a;
    static __thread short b;
    first += 1; zero += 2; inner += 3; other += 4; wide[99] += 5; a += 6; b += 7;
    return first + zero + inner + other + wide[99] + a + b;
}
void *place(void) { return &first; }
long misaligned(void) { return (unsigned long)wide % 64; }
"#;
const OTHER: &str = "__thread int other = START;";

/// A compiler, where it is installed.
type Compiler = fn() -> Option<Command>;

fn cc() -> Option<Command> {
    Some(Command::new(support::cc()))
}

/// The two objects.
fn compile(compiler: Compiler, flags: &str, start: &str) -> Vec<File> {
    let flags: Vec<&str> = flags.split(' ').chain([start]).collect();
    let files = [("counter", COUNTER), ("other", OTHER)].map(|(name, text)| {
        let source = support::text_file(&format!("{name}.c"), text);
        let command = compiler().expect("it was there");
        let object = support::compile_by(command, &source, &flags);
        File::read(&format!("{name}.o"), &object)
    });
    files.to_vec()
}

fn link(files: &[File]) -> Result<Program, LoadError> {
    objects::link(files, &Library::process()?)
}

type Step = extern "C" fn() -> i64;
type Place = extern "C" fn() -> usize;

/// A thread that runs what it is sent.
struct Worker {
    jobs: Sender<Box<dyn FnOnce() + Send>>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn new() -> Self {
        let (jobs, received): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let thread = thread::spawn(move || received.into_iter().for_each(|job| job()));
        Self { jobs, thread }
    }

    /// What `job` returns, run over there.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let job = Box::new(move || sender.send(job()).expect("somebody waits for it"));
        self.jobs.send(job).expect("the thread is there");
        result.recv().expect("the job comes to its end")
    }

    fn end(self) {
        drop(self.jobs);
        self.thread.join().expect("no job panicked");
    }
}

fn function<F: Copy>(program: &Program, name: &str) -> F {
    // SAFETY: the tests ask for the types that the sources have, and keep programs alive.
    unsafe { program.function(name) }.unwrap()
}

/// Old and new threads take turns, each with variables of its own.
fn take_turns(program: &Program, old: &[Worker], start: i64, case: &str) {
    let (step, place): (Step, Place) = (function(program, "step"), function(program, "place"));
    let misaligned: Step = function(program, "misaligned");
    assert_eq!(objects::call(program, "pointed"), 11, "{case}");
    let new = [Worker::new(), Worker::new()];
    let workers = || old.iter().chain(&new);
    for turn in 1..4 {
        let expected = 3 * start + 28 * turn;
        assert_eq!(step(), expected, "{case}");
        for worker in workers() {
            assert_eq!(worker.run(move || step()), expected, "{case}");
        }
    }
    let mut places = HashSet::from([place()]);
    for worker in workers() {
        assert!(places.insert(worker.run(move || place())), "{case}");
        assert_eq!(worker.run(move || misaligned()), 0, "{case}");
    }
    new.into_iter().for_each(Worker::end);
}

/// Models that need nothing of a thread before it asks.
const DYNAMIC: &[&str] = &[
    "-O0 -fPIC",
    "-O2 -fPIC",
    "-O2 -fPIC -fno-plt",
    "-O2 -fPIC -ftls-model=local-dynamic",
];

const DYNAMIC_GCC: &[&str] = if cfg!(target_arch = "aarch64") {
    &["-O2 -fPIC -mtls-dialect=trad", "-O2 -fPIC -mcmodel=tiny"]
} else {
    &[
        "-O2 -fPIC -mtls-dialect=gnu2",
        "-O0 -fPIC -mtls-dialect=gnu2",
        "-O2 -fPIC -mtls-dialect=gnu2 -ftls-model=local-dynamic",
        "-O2 -fPIC -mcmodel=large",
    ]
};

/// Models in which all threads have a variable at the same offset.
const STATIC: &[&str] = &["-O2 -fPIC -ftls-model=initial-exec", "-O2 -fPIE"];

fn compilers() -> impl Iterator<Item = (&'static str, Compiler)> {
    let all: [(&str, Compiler); 2] = [("cc", cc), ("clang", support::clang)];
    all.into_iter().filter(|(name, compiler)| {
        let is_there = compiler().is_some();
        if !is_there {
            println!("{name} is not installed: its objects are not tested");
        }
        is_there
    })
}

#[test]
fn each_thread_has_its_own_variables_in_all_dynamic_models() {
    for (name, compiler) in compilers() {
        let own = if name == "cc" { DYNAMIC_GCC } else { &[] };
        for flags in DYNAMIC.iter().chain(own) {
            let case = format!("{name} {flags}");
            let old = [Worker::new(), Worker::new()];
            let program = link(&compile(compiler, flags, "-DSTART=5")).unwrap();
            assert_eq!(program.thread_blocks(), 0, "{case}");
            take_turns(&program, &old, 5, &case);
            // The two new ones have ended.
            assert_eq!(program.thread_blocks(), 3, "{case}");
            let [first, second] = old;
            first.end();
            assert_eq!(program.thread_blocks(), 2, "{case}");
            drop(program);
            second.end();
        }
    }
}

#[test]
fn each_thread_has_its_own_variables_at_fixed_offsets() {
    for (name, compiler) in compilers() {
        for flags in STATIC {
            let case = format!("{name} {flags}");
            let old = [Worker::new(), Worker::new()];
            let program = link(&compile(compiler, flags, "-DSTART=0")).unwrap();
            take_turns(&program, &old, 0, &case);
            assert_eq!(program.thread_blocks(), 0, "{case}");
            old.into_iter().for_each(Worker::end);
        }
    }
}

/// What linking these texts says, in the order of names.
fn refusal(texts: &[(&str, &str)]) -> String {
    let files: Vec<File> = texts
        .iter()
        .map(|(name, text)| File::assemble(name, text))
        .collect();
    link(&files).expect_err("it cannot be linked").to_string()
}

/// Assembly that finds a variable at a fixed offset from the thread pointer.
fn at_fixed_offset(symbol: &str) -> String {
    if cfg!(target_arch = "aarch64") {
        format!("adrp x0, :gottprel:{symbol}\nldr x0, [x0, #:gottprel_lo12:{symbol}]")
    } else {
        format!("mov {symbol}@gottpoff(%rip), %rax")
    }
}

/// A section of `size` zeros for each thread, called `name`.
fn zeros(name: &str, size: usize, align: usize) -> String {
    format!(
        ".section .tbss,\"awT\",%nobits\n.balign {align}\n.globl {name}\n.type {name}, %object\n{name}: .skip {size}\n.text\n"
    )
}

#[test]
fn what_cannot_be_had_is_refused_with_the_symbol_and_the_way_out() {
    let fixed = at_fixed_offset("own");
    let initialized =
        format!(".section .tdata,\"awT\",%progbits\n.globl own\nown: .quad 1\n.text\n{fixed}");
    let aligned = zeros("own", 8, 128) + &fixed;
    let large = zeros("own", 4097, 1) + &fixed;
    let address = zeros("own", 8, 8) + ".data\n.quad own";
    let misplaced = ".data\n.globl own\n.type own, %tls_object\nown: .quad 1";
    let table: [(&str, &[&str]); 6] = [
        (
            &initialized,
            &[
                "fixed offset",
                "do not all begin with zero",
                "-fPIC",
                "for own",
                ".text+",
            ],
        ),
        (
            &aligned,
            &["fixed offset", "alignment above 64", "-fPIC", "for own"],
        ),
        (&large, &["fixed offset", "4096 bytes", "-fPIC", "for own"]),
        (&address, &["differs by thread", "for own", ".data+0x0"]),
        (&fixed, &["no object of the program defines", "for own"]),
        (misplaced, &["own is thread-local, but in no section"]),
    ];
    for (text, expected) in table {
        let message = refusal(&[("refused.o", &format!(".text\n{text}"))]);
        for part in expected.iter().chain(&["refused.o: "]) {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
    let quoted = ".data\n.globl \"two\\nlines\"\n.type \"two\\nlines\", %tls_object\n\"two\\nlines\": .quad 1";
    assert_eq!(refusal(&[("refused.o", quoted)]).lines().count(), 1);
    let plain = ("plain.o", ".globl own\nown: .quad 1");
    let message = refusal(&[("asks.o", &format!(".text\n{fixed}")), plain]);
    assert!(
        message.contains("a symbol that is not thread-local, for own"),
        "{message}"
    );
}

#[test]
fn a_block_counts_for_what_a_program_may_reserve() {
    let half = (1 << 29) + 8;
    let files = [("a.o", "a"), ("b.o", "b")].map(|(file, name)| {
        let text = format!(".text\n{}{}", zeros(name, half, 8), at_fixed_offset(name));
        File::assemble(file, &text)
    });
    let error = link(&files).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.starts_with("b.o: .tbss of 536870920 bytes"),
        "{message}"
    );
}

#[test]
fn a_link_that_fails_gives_the_room_at_fixed_offsets_back() {
    let text = format!(
        ".text\n{}{}\n.data\n.quad missing",
        zeros("own", 1024, 64),
        at_fixed_offset("own")
    );
    for _ in 0..20 {
        let message = refusal(&[("fails.o", &text)]);
        assert_eq!(message, "undefined: missing (in fails.o)");
    }
}

/// A program with 1,000 bytes at fixed offsets, of which `fill` reports the sum and makes ones.
const FILLS: &str = "static __thread char room[1000] __attribute__((tls_model(\"initial-exec\")));\n\
    int fill(void) { int sum = 0; for (int i = 0; i < 1000; i++) { sum += room[i]; room[i] = 1; } return sum; }";

#[test]
fn room_at_fixed_offsets_is_given_out_again_only_where_nobody_can_see_what_was_left() {
    const NAME: &str =
        "room_at_fixed_offsets_is_given_out_again_only_where_nobody_can_see_what_was_left";
    let file = File::compile("fills.o", FILLS, &[]);
    if child::argument().is_none() {
        let output = child::in_a_child(NAME, "child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        return;
    }
    let files = [file];
    let fill = || link(&files).map(|program| objects::call(&program, "fill"));
    // The test has a thread of its own, and another one waits for it.
    let sums: Vec<_> = (0..5).map(|_| fill()).collect();
    assert!(
        matches!(sums[..], [Ok(0), Ok(0), Ok(0), Ok(0), Err(_)]),
        "{sums:?}"
    );
    // SAFETY: nothing else runs in this process, so that the child finds no lock held.
    match unsafe { libc::fork() } {
        0 => {
            let is_alone = fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
            let is_right = !is_alone || (0..20).all(|_| matches!(fill(), Ok(0)));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if is_right { 0 } else { 1 }) }
        }
        process => {
            let mut status = 0;
            // SAFETY: waits for the child just made.
            let waited = unsafe { libc::waitpid(process, &raw mut status, 0) };
            assert_eq!((waited, status), (process, 0));
        }
    }
}

#[test]
fn threads_come_and_go_while_programs_do() {
    let files = compile(cc, "-O2 -fPIC", "-DSTART=5");
    let rounds = 20; // Before a byte overflows.
    let kept = link(&files).unwrap();
    let kept_step: Step = function(&kept, "step");
    thread::scope(|scope| {
        let threads = [(); 3].map(|()| {
            scope.spawn(|| {
                for round in 1..=rounds {
                    let program = link(&files).unwrap();
                    let step: Step = function(&program, "step");
                    let threads = [(); 3].map(|()| thread::spawn(move || [step(), step()]));
                    for thread in threads {
                        assert_eq!(thread.join().unwrap(), [43, 71]);
                    }
                    assert_eq!((step(), kept_step()), (43, 15 + 28 * round));
                    assert_eq!(program.thread_blocks(), 1);
                }
            })
        });
        for thread in threads {
            thread.join().unwrap(); // To the end of the thread itself.
        }
    });
    assert_eq!(kept.thread_blocks(), 0);
}

#[test]
fn objects_of_one_program_share_its_block_wherever_they_lie() {
    let window = Window::new().unwrap();
    let files = compile(cc, "-O2 -fPIC", "-DSTART=5");
    let managers = [
        SectionMemoryManager::new(),
        SectionMemoryManager::in_window(&window),
    ];
    for (number, mut manager) in managers.into_iter().enumerate() {
        let loader = objects::load(&files).unwrap();
        let loader = loader.with_placement(Placement::PerObject);
        let program = loader
            .link(&mut manager, &Library::process().unwrap())
            .unwrap();
        take_turns(&program, &[Worker::new()], 5, &format!("manager {number}"));
    }
}

#[test]
fn a_program_for_another_address_space_has_no_threads_to_have_variables() {
    let files = compile(cc, "-O2 -fPIC", "-DSTART=5");
    let loader = objects::load(&files).unwrap();
    let loader = loader.map_section(|_, address| address);
    let error = objects::finish(loader, &Library::process().unwrap()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("in another address space, for "),
        "{message}"
    );
}

/// Objects of each thread that tell when they come and go, in two objects and in both at once.
const NOISY: &str = r#"
extern "C" void note(int);
struct Noisy { int value; Noisy(int v) : value(v) { note(v); } ~Noisy() { note(-value); } };
extern thread_local Noisy elsewhere;
inline thread_local Noisy shared(3);
"#;

static NOTES: Mutex<Vec<(ThreadId, i32)>> = Mutex::new(Vec::new());

extern "C" fn note(what: i32) {
    let note = (thread::current().id(), what);
    NOTES.lock().expect("nothing panics with it").push(note);
}

/// What this thread or another one has noted since it was last asked.
fn notes(thread: ThreadId) -> Vec<i32> {
    let mut notes = NOTES.lock().expect("nothing panics with it");
    let (own, others) = notes.drain(..).partition(|(of, _)| *of == thread);
    *notes = others;
    let own: Vec<(ThreadId, i32)> = own;
    own.into_iter().map(|(_, what)| what).collect()
}

#[test]
fn cplusplus_objects_come_when_a_thread_asks_and_go_with_it_or_with_the_program() {
    let clang: Compiler = support::clang;
    for (name, compiler) in [("c++", support::cxx as Compiler), ("clang", clang)] {
        if compiler().is_none() {
            println!("{name} is not installed: its objects are not tested");
            continue;
        }
        let files = [
            (
                "user",
                "thread_local Noisy first(1);\nextern \"C\" int touch() { return first.value + elsewhere.value + shared.value; }",
            ),
            (
                "other",
                "thread_local Noisy elsewhere(2);\nextern \"C\" int other() { return shared.value; }",
            ),
        ];
        let files = files.map(|(name, text)| {
            let source = support::text_file(&format!("{name}.cpp"), &format!("{NOISY}{text}"));
            let flags = ["-std=c++17", "-O1", "-fPIC", "-fno-exceptions"];
            let object = support::compile_by(compiler().expect("it was there"), &source, &flags);
            File::read(&format!("{name}.o"), &object)
        });
        let own = |name: &str| (name == "note").then(|| Address::from(note as *const ()));
        let program = objects::link(&files, &(own, Library::process().unwrap())).unwrap();
        let touch: extern "C" fn() -> i32 = function(&program, "touch");
        let (ends, stays) = (Worker::new(), Worker::new());
        let (ended, stayed) = (ends.thread.thread().id(), stays.thread.thread().id());
        for worker in [&ends, &stays] {
            assert_eq!(worker.run(move || touch() + touch()), 12, "{name}");
            let mut came = notes(worker.thread.thread().id());
            came.sort_unstable();
            assert_eq!(came, [1, 2, 3], "{name}");
        }
        ends.end();
        let mut went = notes(ended);
        went.sort_unstable();
        assert_eq!(went, [-3, -2, -1], "{name}");
        assert_eq!(touch(), 6, "{name}");
        let came = notes(thread::current().id());
        drop(program);
        let went: Vec<i32> = notes(thread::current().id());
        let backwards: Vec<i32> = came.iter().rev().map(|what| -what).collect();
        assert_eq!((came.len(), &went), (3, &backwards), "{name}");
        stays.end();
        assert_eq!(notes(stayed), [], "{name}");
    }
}

#[test]
fn rust_variables_are_each_threads_own() {
    let text = "use std::cell::Cell;\n\
        thread_local! { static COUNT: Cell<i32> = const { Cell::new(40) }; }\n\
        #[unsafe(no_mangle)]\npub extern \"C\" fn count() -> i32 { COUNT.set(COUNT.get() + 1); COUNT.get() }\n";
    let source = support::text_file("counts.rs", text);
    let flags = ["--emit=obj", "--crate-type=lib", "-C", "panic=abort"];
    let object = support::rust(&source, "o", &flags);
    let program = link(&[File::read("counts.o", &object)]).unwrap();
    let count: extern "C" fn() -> i32 = function(&program, "count");
    for _ in 0..2 {
        let other = thread::spawn(move || (count(), count())).join().unwrap();
        assert_eq!(other, (41, 42));
    }
    assert_eq!((count(), program.thread_blocks()), (41, 1));
}
