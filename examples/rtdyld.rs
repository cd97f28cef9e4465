//! Loads, links and runs object files: `llvm-rtdyld`'s job, on this crate's loader.
//!
//! `rtdyld [--execute] [--entry=main] [--dylib=LIBRARY]... [--manager=dedicated|per-object|window] [--preallocate=BYTES]
//! [--print-alloc-requests] [--show-times] [--gdb] [--perf-map] [--jitdump=FOLDER] OBJECT... [--args ARGUMENT...]`
//!
//! Loads all objects, runs their constructors, calls the entry as C calls `main` (its first argument is the first object), and
//! exits with its result. What the objects do not define comes from this process and the libraries.
//!
//! | option | what |
//! |---|---|
//! | `--manager=dedicated` | all objects share one block: the default |
//! | `--manager=per-object` | each has a block of its own, wherever the system maps it |
//! | `--manager=window` | each has a reservation of its own in one window, where they reach each other |
//! | `--preallocate=BYTES` | a block has as many bytes of each kind more than its objects need; 0, the default, is what they need |
//! | `--print-alloc-requests` | prints what the loader asks the memory manager for, section by section |
//! | `--show-times` | says at the end, on standard error, how long reading, linking and running took |
//! | `--gdb` | lets debuggers know of the objects; built with the feature `gdb` |
//! | `--perf-map` | writes their functions into `/tmp/perf-PID.map`, which stays there; built with the feature `perf` |
//! | `--jitdump=FOLDER` | writes them and their code into a jitdump in this folder; the same |
//!
//! One dash is as good as two. Failures of its own are one line, and status 1.

use std::ffi::CString;
use std::path::PathBuf;
use std::process::exit;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

#[cfg(feature = "perf")]
use nearcode::debug::{JitDump, PerfMap};
use nearcode::loader::{Library, LoadError, Loader, Placement, Sections};
use nearcode::{
    Address, AllocationSpace, DedicatedBlocks, Error, Image, PerKind, ReservationId,
    ReservingMemoryManager, SectionId, SectionKind, SectionMemoryManager, SectionRequest, Window,
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

const USAGE: &str = "rtdyld [--execute] [--entry=main] [--dylib=LIBRARY]... \
    [--manager=dedicated|per-object|window] [--preallocate=BYTES] [--print-alloc-requests] [--show-times] [--gdb] \
    [--perf-map] [--jitdump=FOLDER] OBJECT... [--args ARGUMENT...]";

struct Options {
    entry: String,
    libraries: Vec<String>,
    sections: Sections,
    manager: Manager,
    /// More of each kind of memory than is needed, in bytes.
    preallocate: usize,
    times: Option<Times>,
    /// Who is told of the program.
    listeners: Vec<Listener>,
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
            sections: Sections::Joined,
            manager: Manager::Dedicated,
            preallocate: 0,
            times: None,
            listeners: Vec::new(),
            shell: |manager| Box::new(manager),
            objects: Vec::new(),
            arguments: Vec::new(),
        };
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix('-') else {
                options.objects.push(word);
                continue;
            };
            let option = option.strip_prefix('-').unwrap_or(option);
            match option.split_once('=').unwrap_or((option, "")) {
                ("help", "") => {
                    println!("{USAGE}");
                    exit(0);
                }
                ("execute", "") => {} // What it does anyway.
                ("entry", name) if !name.is_empty() => options.entry = name.into(),
                ("dylib", name) if !name.is_empty() => options.libraries.push(name.into()),
                ("manager", "dedicated") => options.manager = Manager::Dedicated,
                ("manager", "per-object") => options.manager = Manager::PerObject,
                ("manager", "window") => options.manager = Manager::Window,
                ("preallocate", bytes) => {
                    let bytes = bytes
                        .parse()
                        .map_err(|_| format!("{word} is no number of bytes"));
                    options.preallocate = bytes?;
                }
                ("print-alloc-requests", "") => {
                    options.sections = Sections::Apart;
                    options.shell = |manager| Box::new(Printing(manager))
                }
                ("show-times", "") => options.times = Some(Times::default()),
                ("gdb", "") => options.listeners.push(Listener::Gdb),
                ("perf-map", "") => options.listeners.push(Listener::PerfMap),
                ("jitdump", folder) if !folder.is_empty() => {
                    options.listeners.push(Listener::JitDump(folder.into()));
                }
                ("args", "") => options.arguments.extend(words.by_ref()),
                _ => return Err(format!("{word} is no option; {USAGE}")),
            }
        }
        if options.objects.is_empty() {
            return Err(format!("no object file; {USAGE}"));
        }
        Ok(options)
    }
}

/// Who gives memory to which objects.
#[derive(Clone, Copy, PartialEq)]
enum Manager {
    Dedicated,
    PerObject,
    Window,
}

impl Manager {
    fn placement(self) -> Placement {
        match self {
            Self::Dedicated => Placement::Together,
            Self::PerObject | Self::Window => Placement::PerObject,
        }
    }

    fn start(self, preallocate: usize) -> Result<SectionMemoryManager, Error> {
        let headroom = PerKind::new(preallocate, preallocate, preallocate);
        Ok(match self {
            Self::Dedicated | Self::PerObject => {
                SectionMemoryManager::with_blocks(DedicatedBlocks::new().with_headroom(headroom))
            }
            Self::Window => SectionMemoryManager::in_window(&Window::new()?),
        })
    }
}

/// A debugger or a profiler, behind features of the crate.
enum Listener {
    Gdb,
    PerfMap,
    JitDump(PathBuf),
}

impl Listener {
    fn listen<'data>(&self, loader: Loader<'data>) -> Result<Loader<'data>, Error> {
        match self {
            Self::Gdb => with_gdb(loader),
            Self::PerfMap => with_perf(loader, None),
            Self::JitDump(folder) => with_perf(loader, Some(folder)),
        }
    }
}

#[cfg(feature = "gdb")]
fn with_gdb(loader: Loader<'_>) -> Result<Loader<'_>, Error> {
    Ok(loader.with_gdb())
}

#[cfg(not(feature = "gdb"))]
fn with_gdb(_: Loader<'_>) -> Result<Loader<'_>, Error> {
    Err(Error::Other("--gdb: build with the feature gdb".into()))
}

/// With a jitdump in a folder, or a perf map.
#[cfg(feature = "perf")]
fn with_perf<'data>(
    loader: Loader<'data>,
    folder: Option<&PathBuf>,
) -> Result<Loader<'data>, Error> {
    Ok(match folder {
        Some(folder) => loader.with_jit_dump(&JitDump::create_in(folder)?),
        None => loader.with_perf_map(&PerfMap::open()?),
    })
}

#[cfg(not(feature = "perf"))]
fn with_perf<'data>(_: Loader<'data>, _: Option<&PathBuf>) -> Result<Loader<'data>, Error> {
    let reason = "--perf-map, --jitdump: build with the feature perf";
    Err(Error::Other(reason.into()))
}

/// How long each part took, printed when it goes.
#[derive(Clone, Default)]
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn add(this: &mut Option<Self>, part: &'static str, start: Instant) {
        if let Some(Self(parts)) = this {
            parts.push((part, start.elapsed()));
        }
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        for (part, time) in &self.0 {
            eprintln!("{:>12.6} s  {part}", time.as_secs_f64());
        }
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

    let mut times = options.times.clone();
    let start = Instant::now();
    let mut loader = Loader::new()?
        .with_placement(options.manager.placement())
        .with_sections(options.sections);
    for listener in &options.listeners {
        loader = listener.listen(loader)?;
    }
    for (name, bytes) in options.objects.iter().zip(files) {
        loader.load(name, bytes)?;
    }
    Times::add(&mut times, "reading objects", start);
    let start = Instant::now();
    let mut manager = (options.shell)(options.manager.start(options.preallocate)?);
    // SAFETY: whoever names an object on the command line wants its code to run; its unwind tables come with it.
    let program = unsafe { loader.link_with_eh_frames(&mut *manager, &libraries) }?;
    Times::add(&mut times, "linking", start);
    let start = Instant::now();
    // SAFETY: as above; the entry of a C program is its `main`.
    let status = unsafe { program.run_main(&options.entry, arguments) };
    drop(program); // Its destructors run.
    Times::add(&mut times, "running", start);
    status
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
