//! Loads, links and runs object files: `llvm-rtdyld`'s job, on this crate's loader.
//!
//! `rtdyld [--execute] [--entry=main] [--dylib=LIBRARY]... [--per-object | --window] [--print-alloc-requests] OBJECT...
//! [--args ARGUMENT...]`
//!
//! Loads all objects into one block, calls the entry as C calls `main` (its first argument is the first object), and exits with
//! its result. What the objects do not define comes from this process and the libraries. `--per-object` gives each object a
//! block of its own, wherever the system maps it; `--window` gives each a reservation of its own in one window, where they
//! reach each other. `--print-alloc-requests` prints what the loader asks the memory manager for. Failures of its own are one
//! line, and status 1.

use std::ffi::CString;
use std::process::exit;
use std::ptr::NonNull;

use nearcode::loader::{Library, LoadError, Loader, Placement};
use nearcode::{
    Address, AllocationSpace, Error, Image, ReservationId, ReservingMemoryManager, SectionId,
    SectionKind, SectionMemoryManager, SectionRequest, Window,
};

fn main() {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(status) => exit(status),
        Err(message) => {
            eprintln!("rtdyld: {message}");
            exit(1);
        }
    }
}

const USAGE: &str = "rtdyld [--execute] [--entry=main] [--dylib=LIBRARY]... [--per-object | --window] \
    [--print-alloc-requests] OBJECT... [--args ARGUMENT...]";

struct Options {
    entry: String,
    libraries: Vec<String>,
    placement: Placement,
    manager: fn() -> Result<SectionMemoryManager, Error>,
    /// What stands between the loader and the manager.
    shell: fn(SectionMemoryManager) -> Box<dyn ReservingMemoryManager>,
    objects: Vec<String>,
    arguments: Vec<String>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            entry: "main".into(),
            libraries: Vec::new(),
            placement: Placement::Together,
            manager: || Ok(SectionMemoryManager::new()),
            shell: |manager| Box::new(manager),
            objects: Vec::new(),
            arguments: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("--help", "") => return Err(USAGE.into()),
                ("--execute", "") => {} // What it does anyway.
                ("--entry", name) if !name.is_empty() => options.entry = name.into(),
                ("--dylib", name) if !name.is_empty() => options.libraries.push(name.into()),
                ("--per-object", "") => options.placement = Placement::PerObject,
                ("--window", "") => {
                    options.placement = Placement::PerObject;
                    options.manager = || Ok(SectionMemoryManager::in_window(&Window::new()?));
                }
                ("--print-alloc-requests", "") => {
                    options.shell = |manager| Box::new(Printing(manager))
                }
                ("--args", "") => options.arguments.extend(words.by_ref()),
                _ if word.starts_with("--") => return Err(format!("{word} is no option; {USAGE}")),
                _ => options.objects.push(word),
            }
        }
        if options.objects.is_empty() {
            return Err(format!("no object file; {USAGE}"));
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Result<i32, String> {
    let files = options
        .objects
        .iter()
        .map(|path| std::fs::read(path).map_err(|error| format!("{path}: {error}")));
    let files = files.collect::<Result<Vec<_>, String>>()?;
    let arguments = options.objects.iter().take(1).chain(&options.arguments);
    let arguments = arguments
        .map(|argument| CString::new(argument.as_str()).map_err(|error| error.to_string()));
    let arguments = arguments.collect::<Result<Vec<_>, String>>()?;
    load_and_call(options, &files, &arguments).map_err(|error| error.to_string())
}

fn load_and_call(
    options: &Options,
    files: &[Vec<u8>],
    arguments: &[CString],
) -> Result<i32, LoadError> {
    let mut libraries = Vec::new();
    for name in &options.libraries {
        // SAFETY: whoever names a library on the command line wants its initialization to run.
        libraries.push(unsafe { Library::open(name) }?);
    }
    libraries.insert(0, Library::process()?);

    let mut loader = Loader::new()?.with_placement(options.placement);
    for (name, bytes) in options.objects.iter().zip(files) {
        loader.load(name, bytes)?;
    }
    let mut manager = (options.shell)((options.manager)()?);
    // SAFETY: whoever names an object on the command line wants its code to run; its unwind tables come with it.
    let program = unsafe { loader.link_with_eh_frames(&mut *manager, &libraries) }?;
    // SAFETY: as above; the entry of a C program is its `main`.
    unsafe { program.run_main(&options.entry, arguments) }
}

/// A memory manager that says what it is asked for, in llvm-rtdyld's words.
struct Printing(SectionMemoryManager);

impl ReservingMemoryManager for Printing {
    fn reserve_allocation_space(
        &mut self,
        space: &AllocationSpace<'_>,
    ) -> Result<ReservationId, Error> {
        let totals = space.totals()?;
        let total = |kind| {
            format!(
                "{:#x}, {}",
                totals[kind].size(),
                totals[kind].align().bytes()
            )
        };
        let [code, rodata, rwdata] = SectionKind::ALL.map(total);
        println!("reserveAllocationSpace(Code = {code}, ROData = {rodata}, RWData = {rwdata})");
        self.0.reserve_allocation_space(space)
    }

    fn allocate_section(&mut self, request: &SectionRequest<'_>) -> Result<SectionId, Error> {
        let function = if request.kind() == SectionKind::Code {
            "allocateCodeSection"
        } else {
            "allocateDataSection"
        };
        let (size, align, name) = (
            request.footprint()?,
            request.align().bytes(),
            request.name(),
        );
        println!("{function}(Size = {size:#x}, Alignment = {align}, SectionName = {name})");
        self.0.allocate_section(request)
    }

    fn section_mut(&mut self, id: SectionId) -> Result<&mut [u8], Error> {
        self.0.section_mut(id)
    }

    fn write_pointer(&mut self, id: SectionId) -> Result<NonNull<u8>, Error> {
        self.0.write_pointer(id)
    }

    fn address(&self, id: SectionId) -> Result<Address, Error> {
        self.0.address(id)
    }

    unsafe fn register_eh_frames(&mut self, id: SectionId) -> Result<(), Error> {
        // SAFETY: the contract is the same.
        unsafe { self.0.register_eh_frames(id) }
    }

    fn abandon(&mut self, reservation: ReservationId) -> Result<(), Error> {
        self.0.abandon(reservation)
    }

    fn finalize_memory(&mut self) -> Result<Image, Error> {
        self.0.finalize_memory()
    }
}
