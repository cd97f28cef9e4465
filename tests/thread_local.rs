//! Thread-local variables of loaded programs, from compilers in every model, in threads that were there before and in threads
//! that came later.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/objects.rs"]
mod objects;
mod support;

use std::collections::HashSet;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use nearcode::loader::{Library, LoadError, Program};

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
