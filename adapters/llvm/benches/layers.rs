//! Loads small modules into one engine, calls each once, and keeps them.
//!
//! `cargo bench -p nearcode-llvm --bench layers -- MODE COUNT` prints one line: `MODE COUNT us/module pss-bytes/module mappings`:
//! processor time, and the mappings of the whole process. Objects are compiled once and renamed; MCJIT, whose C interface takes IR
//! only, gets them through its C++ one.
//!
//! | mode | host | memory |
//! |---|---|---|
//! | `mcjit-llvm`, `rtdyld-llvm` | MCJIT, ORC over RuntimeDyld | LLVM's `SectionMemoryManager` |
//! | `jitlink-llvm` | LLJIT as it is, which is over JITLink on this CPU from LLVM 17 on | LLVM's |
//! | `mcjit`, `rtdyld`, `jitlink` | the same with classes of ours | a window at two addresses |
//! | `mcjit-same`, `rtdyld-same`, `jitlink-same` | | a window at the same address |
//! | `mcjit-blocks`, `rtdyld-blocks`, `jitlink-blocks` | | dedicated blocks |
//! | `mcjit-callbacks` | MCJIT with LLVM's C callbacks | a window at the same address |

#[path = "../../../benches/process/mod.rs"]
mod process;
#[path = "../tests/support/mod.rs"]
mod support;

use std::ffi::{c_char, c_void};
use std::process::exit;
use std::ptr::null_mut;

use nearcode_llvm::nearcode::WindowOptions;

use self::process::{arguments, pss};
use self::support::llvm::{
    CODE_MODEL_SMALL, LLVMOrcCreateRTDyldObjectLinkingLayerWithSectionMemoryManager,
    LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator, Ref,
};
use self::support::ways::{mcjit_ways_in, orc_ways_in};
use self::support::{Engine, Jit, compile, ir, map};

/// Room for what takes whole pages.
const WINDOW: WindowOptions = WindowOptions::new().with_size(2 << 30).with_code(512 << 20);

/// Names in objects have this many digits.
const DIGITS: usize = 5;

/// What this process has used of its processors, in seconds: others may use them, too.
fn cpu_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it fills in what it is given.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Module number 0, ready to be renamed.
fn template() -> String {
    ir::counting(0)
        .replace("count0", &format!("count{:0DIGITS$}", 0))
        .replace("f0", &format!("f{:0DIGITS$}", 0))
}

/// The object with another number in its names.
fn renamed(object: &[u8], number: usize) -> Vec<u8> {
    let (old, new) = (format!("{:0DIGITS$}", 0), format!("{number:0DIGITS$}"));
    let mut renamed = object.to_vec();
    for prefix in ["f", "count"] {
        let old = format!("\0{prefix}{old}\0").into_bytes();
        let found = object.windows(old.len()).position(|bytes| bytes == old);
        let start = found.expect("the name is in the object") + 1 + prefix.len();
        renamed[start..start + DIGITS].copy_from_slice(new.as_bytes());
    }
    renamed
}

extern "C" fn llvms_own_layer(_: *mut c_void, session: Ref, _: *const c_char) -> Ref {
    // SAFETY: LLVM's session.
    unsafe { LLVMOrcCreateRTDyldObjectLinkingLayerWithSectionMemoryManager(session) }
}

fn usage() -> ! {
    eprintln!("usage: layers MODE COUNT");
    exit(2)
}

fn main() {
    let arguments = arguments();
    let [mode, count] = &arguments[..] else {
        usage()
    };
    let Ok(count) = count.parse::<usize>() else {
        usage()
    };
    let (host, memory) = mode.split_once('-').unwrap_or((mode, "two addresses"));
    let suffix = match memory {
        "same" => "same address",
        other => other,
    };
    let run = match host {
        "mcjit" => mcjit(suffix, count),
        "rtdyld" => orc("RuntimeDyld", suffix, count),
        "jitlink" => orc("JITLink", suffix, count),
        _ => usage(),
    };
    println!("{mode} {count} {:.1} {} {}", run.0, run.1, run.2);
    exit(0); // The system is quicker at ending it, and nothing is measured any more.
}

/// Time in microseconds, memory in bytes, both for each module, and mappings.
type Run = (f64, usize, usize);

fn measure(count: usize, mut load: impl FnMut(usize)) -> Run {
    load(0); // What comes with the first module is not measured.
    let (before, start) = (pss(), cpu_time());
    for number in 1..=count {
        load(number);
    }
    let time = (cpu_time() - start) * 1e6 / count as f64;
    let memory = pss().saturating_sub(before) / count;
    (time, memory, map::mappings())
}

fn mcjit(memory: &str, count: usize) -> Run {
    let first = "define i32 @first(i32 %i) { ret i32 %i }";
    let engine = match memory {
        // Beside no window: one would lie between what LLVM puts far apart, and its code would not reach its GOT.
        "llvm" => Engine::new(first, null_mut(), CODE_MODEL_SMALL),
        _ => {
            let ways = mcjit_ways_in(WINDOW);
            let way = ways.iter().find(|way| way.name.ends_with(memory));
            let way = way.unwrap_or_else(|| usage());
            way.engine(first, CODE_MODEL_SMALL)
        }
    };
    let object = compile(&template(), CODE_MODEL_SMALL);
    let run = measure(count, |number| {
        engine.add_object(&renamed(&object, number));
        assert_eq!(engine.call(&format!("f{number:0DIGITS$}"), 1), 1);
    });
    std::mem::forget(engine);
    run
}

fn orc(host: &str, memory: &str, count: usize) -> Run {
    let object = compile(&template(), CODE_MODEL_SMALL);
    let jit = match (host, memory) {
        ("RuntimeDyld", "llvm") => Jit::new(|builder| {
            // SAFETY: the builder is LLVM's.
            unsafe {
                LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(
                    builder,
                    llvms_own_layer,
                    null_mut(),
                );
            }
        }),
        (_, "llvm") => Jit::new(|_| ()),
        _ => {
            let name = format!("{host}, {memory}");
            let ways = orc_ways_in(WINDOW);
            let way = ways.iter().find(|way| way.name == name);
            way.unwrap_or_else(|| usage()).jit()
        }
    };
    let jit = jit.expect("a JIT");
    let mut trackers = Vec::with_capacity(count + 1);
    let run = measure(count, |number| {
        trackers.push(jit.add(&renamed(&object, number)).expect("an object"));
        let called = jit.call(&format!("f{number:0DIGITS$}"), 1);
        assert_eq!(called, Ok(1));
    });
    std::mem::forget((trackers, jit));
    run
}
