//! Programs beyond one link: what runs by itself and when, sections that lie together, and programs linked against earlier ones.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nearcode::loader::{Library, LoadError, Loader, Placement, Program, ProgramSection};
use nearcode::{Address, SectionMemoryManager, SectionRequest, Window};

use objects::{File, call, link, number};

fn c(name: &str, text: &str) -> File {
    let object = support::compile_text(name, text, &["-O1", "-fPIC"]);
    File::read(&format!("{name}.o"), &object)
}

fn loader<'f>(files: &'f [&File]) -> Loader<'f> {
    let mut loader = Loader::new().unwrap();
    for file in files {
        loader.load(&file.name, &file.bytes).unwrap();
    }
    loader
}

/// What the functions of a test have said, in the order of the calls.
static SAID: AtomicI32 = AtomicI32::new(0);

extern "C" fn say(digit: i32) {
    SAID.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |said| {
        Some(said * 10 + digit)
    })
    .unwrap();
}

fn saying(name: &str) -> Option<Address> {
    (name == "say").then(|| Address::from(say as *const ()))
}

#[test]
fn destructors_run_once_when_the_program_is_dropped_and_only_if_constructors_did() {
    let text = "extern void say(int);\n\
        static int ready;\n\
        __attribute__((constructor)) static void begin(void) { ready = 40; say(1); }\n\
        __attribute__((destructor)) static void end(void) { say(3); }\n\
        int answer(void) { say(2); return ready + 2; }\n";
    let file = c("begins_and_ends", text);
    let linked = || {
        let mut manager = SectionMemoryManager::new();
        loader(&[&file]).link(&mut manager, &saying).unwrap()
    };
    let said = || SAID.swap(0, Ordering::SeqCst);

    let program = linked();
    // SAFETY: the type is the function's.
    let early = unsafe { program.function::<extern "C" fn() -> i32>("answer") };
    let early = early.unwrap_err();
    assert!(
        matches!(&early, LoadError::NotInitialized(name) if name == "answer"),
        "{early}"
    );
    drop(program);
    assert_eq!(said(), 0, "what never began does not end");

    let program = linked();
    for _ in 0..2 {
        // SAFETY: its functions do nothing but call `say`.
        unsafe { program.initialize(&[]) }.unwrap();
    }
    assert_eq!(call(&program, "answer"), 42);
    assert_eq!(said(), 12);
    drop(program);
    assert_eq!(said(), 3);

    let program = linked();
    // SAFETY: as above.
    unsafe { program.initialize(&[]) }.unwrap();
    program.into_image().leak();
    assert_eq!(said(), 1, "who keeps the memory keeps the program");
}

#[test]
fn constructors_see_what_those_before_them_set_and_an_empty_environment_if_there_is_none() {
    if !child::is_alone(
        "constructors_see_what_those_before_them_set_and_an_empty_environment_if_there_is_none",
    ) {
        return;
    }
    let text = "extern int setenv(const char *, const char *, int), clearenv(void), strcmp(const char *, const char *);\n\
        static int first, second, third;\n\
        #define CONSTRUCTOR(n) __attribute__((constructor(n))) static void at_##n(int count, char **arguments, char **variables)\n\
        static int number(char **variables) { int n = 0; while (variables[n]) ++n; return n; }\n\
        CONSTRUCTOR(101) { first = number(variables); setenv(\"NEARCODE_SET\", \"1\", 1); }\n\
        CONSTRUCTOR(102) { second = number(variables); clearenv(); }\n\
        CONSTRUCTOR(103) { third = count + (arguments[0] != 0) + number(variables); }\n\
        int before(void) { return first; } int after(void) { return second; } int cleared(void) { return third; }\n";
    let there = std::env::vars_os().count() as i32;
    let process = Library::process().unwrap();
    let program = link(&[c("sets_variables", text)], &process).unwrap();
    // SAFETY: no other thread looks at the environment.
    unsafe { program.initialize(&[]) }.unwrap();
    let seen = ["before", "after", "cleared"].map(|name| call(&program, name));
    assert_eq!(seen, [there, there + 1, 0]);
}

/// Registrations of three objects, one of which has none, and another has them in two pieces.
fn registrations() -> [File; 3] {
    let entry = "struct entry { int number; };\n\
        #define ENTRY(n) __attribute__((section(\"entries\"), used, aligned(4))) static struct entry entry##n = { n };\n";
    let bounds = "extern struct entry __start_entries[], __stop_entries[];\n\
        extern char __start_nobody[] __attribute__((weak));\n\
        int sum(void) { int sum = 0; for (struct entry *e = __start_entries; e < __stop_entries; ++e) sum += e->number; return sum; }\n\
        int count(void) { return __stop_entries - __start_entries; }\n\
        int nobody(void) { return __start_nobody != 0; }\n";
    [
        c(
            "first_entries",
            &format!("{entry}{bounds}ENTRY(1) ENTRY(20)"),
        ),
        c("no_entries", "int nothing;"),
        c(
            "other_entries",
            &format!("{entry}ENTRY(300)\n__asm__(\".section entries,\\\"aw\\\"; .long 4000\");"),
        ),
    ]
}

#[test]
fn sections_of_one_name_lie_together_where_something_refers_to_their_bounds() {
    let files = registrations();
    let program = link(&files, &()).unwrap();
    assert_eq!(call(&program, "sum"), 4321);
    assert_eq!(call(&program, "count"), 4);
    assert_eq!(call(&program, "nobody"), 0);
    let start = program
        .sections()
        .filter(|section| section.name() == "entries");
    assert_eq!(start.map(|section| section.size()).sum::<usize>(), 4 * 4);
}

#[test]
fn sections_that_cannot_lie_together_are_an_error() {
    let files = registrations();
    let [first, _, other] = &files;
    let files = [first, other];
    let separate = loader(&files).with_placement(Placement::PerObject);
    let window = Window::new().unwrap();
    let mut manager = SectionMemoryManager::in_window(&window);
    let refused = separate.link(&mut manager, &()).unwrap_err().to_string();
    assert!(
        refused.contains("all sections entries begin or end"),
        "{refused}"
    );
    assert_eq!(window.stats().in_flight(), 0);
    let code = File::assemble("code.o", ".section entries,\"ax\"\nnop\nnop\nnop\nnop");
    let files = [first, &code];
    let refused = loader(&files).link(&mut manager, &()).unwrap_err();
    assert!(refused.to_string().contains("is code here"), "{refused}");
}

#[test]
fn a_program_keeps_alive_what_it_was_linked_against() {
    let window = Window::new().unwrap();
    let mut manager = SectionMemoryManager::in_window(&window);
    let base = c(
        "base",
        "int shared = 5; int twice(int n) { return 2 * n; }\n\
        __attribute__((visibility(\"hidden\"))) int hidden = 1; int both = 1;",
    );
    let middle = c(
        "middle",
        "extern int shared, twice(int); int both = 2; int middle(void) { return twice(++shared); }",
    );
    let top = c(
        "top",
        "extern int shared, both, middle(void); int top(void) { return 100 * both + 10 * middle() + shared; }",
    );
    let mut grow = |file: &File, earlier: &[&Arc<Program>]| {
        let files = [file];
        let mut loader = loader(&files);
        for &program in earlier {
            loader = loader.with_program(Arc::clone(program));
        }
        loader.link(&mut manager, &()).map(Arc::new)
    };
    let first = grow(&base, &[]).unwrap();
    let second = grow(&middle, &[&first]).unwrap();
    let third = grow(&top, &[&second, &first]).unwrap();
    assert_eq!(
        call(&third, "top"),
        200 + 10 * 12 + 6,
        "of two programs the first one counts"
    );
    assert_eq!(number_of(&first, "shared"), 6);

    let refused = grow(
        &c(
            "peeks",
            "extern int hidden; int peek(void) { return hidden; }",
        ),
        &[&first],
    );
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "undefined: hidden (in peeks.o)");

    drop((first, second));
    assert_eq!(window.stats().objects(), 3);
    assert_eq!(call(&third, "top"), 200 + 10 * 14 + 7);
    drop(third);
    assert_eq!(window.stats().objects(), 0);
}

/// The `int` at a symbol.
fn number_of(program: &Program, symbol: &str) -> i32 {
    number(program, symbol) as u32 as i32
}

#[test]
fn a_program_for_another_address_space_is_relocated_for_it_and_does_not_run_here() {
    let file = c(
        "elsewhere",
        "int variable = 5; int *pointer = &variable; int get(void) { return *pointer; } int (*function)(void) = get;",
    );
    let files = [&file];
    let window = Window::new().unwrap();
    let mut manager = SectionMemoryManager::in_window(&window);
    // All of it 2^40 bytes further up.
    let further_up = |_: &SectionRequest<'_>, here: Address| here.wrapping_add(1 << 40);
    let program = loader(&files).map_section(further_up);
    let program = program.link(&mut manager, &()).unwrap();
    let address = |name| program.address(name).unwrap();
    let here = |name| {
        let own = |section: &ProgramSection<'_>| {
            let offset = address(name).get().wrapping_sub(section.address().get());
            (offset < section.size() as u64).then_some((section.id(), offset as usize))
        };
        let (id, offset) = program.sections().find_map(|s| own(&s)).unwrap();
        let start = program.image().pointer(id).unwrap().as_ptr();
        let number = start.wrapping_add(offset).cast::<u64>();
        // SAFETY: these are symbols of 8 bytes of data, in an image that is alive.
        unsafe { number.read_unaligned() }
    };
    assert_eq!(here("pointer"), address("variable").get());
    assert_eq!(here("function"), address("get").get());
    let distance = address("get").get() - window.address().get();
    assert_eq!(distance >> 40, 1);
    // SAFETY: the type is the function's; it is not called.
    let refused = unsafe { program.function::<extern "C" fn() -> i32>("get") };
    assert!(matches!(refused, Err(LoadError::NotCode(_))));
    drop(program);

    let crooked = loader(&files).map_section(|_, here| here.wrapping_add(1));
    let refused = crooked.link(&mut manager, &()).unwrap_err().to_string();
    assert!(refused.contains("not aligned"), "{refused}");
    let unwound = loader(&files).map_section(further_up);
    // SAFETY: refused.
    let refused = unsafe { unwound.link_with_eh_frames(&mut manager, &()) };
    assert!(refused.is_err());
    let stats = window.stats();
    assert_eq!((stats.objects(), stats.in_flight()), (0, 0));
}
