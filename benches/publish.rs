//! Publishes objects of a typical size, one after the other, and calls each once after its own finalization.
//!
//! `cargo bench --bench publish -- MODE COUNT [SCALE]` prints one line: `MODE COUNT ns/object pss-bytes/object mappings`; for
//! `window-fork` the third column is microseconds for a `fork`.
//!
//! | mode | what |
//! |---|---|
//! | `dedicated` | a block for each object, all of them alive at the end |
//! | `dedicated-churn` | a block for each object, gone before the next one: load and unload |
//! | `window` | all objects in one window, written at two addresses, all of them alive at the end |
//! | `window-churn` | the same, each gone before the next one |
//! | `window-replace` | 20,000 alive; a random one goes, another comes |
//! | `window-threads` | as `window`, by two threads that share the work |
//! | `window-same-address` | as `window`, written where it runs |
//! | `window-fork` | as `window`, then `fork` alone, as the parent sees it; the median of 15 |
//!
//! Sizes are those of an object that Numba makes of a small function; SCALE multiplies them. Memory is the proportional set size
//! (PSS), so that pages that are mapped twice count once. A failure ends the run with the object's number.

mod objects;
mod process;

use std::io;
use std::process::exit;
use std::time::Instant;

use nearcode::{SectionMemoryManager, Writing};

use self::objects::{Object, window};
use self::process::{arguments, mappings, or_end, pss};

/// How many objects are alive while one after the other is replaced.
const LIVE: usize = 20_000;

const THREADS: usize = 2;

const FORKS: usize = 15;

/// How long a `fork` takes, in nanoseconds: the median. Children end at once, before the next one comes.
#[cfg(unix)]
fn fork_time() -> Result<f64, io::Error> {
    let mut times = Vec::with_capacity(FORKS);
    for _ in 0..FORKS {
        let start = Instant::now();
        // SAFETY: this is the only thread, and the child does nothing that could need another.
        let child = unsafe { libc::fork() };
        let time = start.elapsed().as_nanos() as f64;
        match child {
            // SAFETY: it runs none of the handlers that belong to the parent.
            0 => unsafe { libc::_exit(0) },
            -1 => return Err(io::Error::last_os_error()),
            _ => times.push(time),
        }
        // SAFETY: null is for who does not want to know how the child ended.
        if unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } != child {
            return Err(io::Error::last_os_error());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[FORKS / 2])
}

#[cfg(not(unix))]
fn fork_time() -> Result<f64, io::Error> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Live,
    Fork,
    Churn,
    Replace,
    Threads,
}

/// Numbers without a pattern, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's linear congruential generator (MMIX), of which the upper bits are good.
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

fn main() {
    let arguments = arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [mode, count, ref scale @ ..] = arguments[..] else {
        eprintln!("usage: publish MODE COUNT [SCALE]");
        exit(2);
    };
    let count: usize = or_end(count.parse(), 0);
    let scale: f64 = or_end(scale.first().unwrap_or(&"1").parse(), 0);
    let object = or_end(Object::new(scale), 0);
    let (window, what) = match mode {
        "dedicated" => (None, Mode::Live),
        "dedicated-churn" => (None, Mode::Churn),
        "window" => (Some(window(Writing::TwoAddresses)), Mode::Live),
        "window-churn" => (Some(window(Writing::TwoAddresses)), Mode::Churn),
        "window-replace" => (Some(window(Writing::TwoAddresses)), Mode::Replace),
        "window-threads" => (Some(window(Writing::TwoAddresses)), Mode::Threads),
        "window-fork" => (Some(window(Writing::TwoAddresses)), Mode::Fork),
        "window-same-address" => (Some(window(Writing::SameAddress)), Mode::Live),
        _ => or_end(Err("no such mode"), 0),
    };
    let manager = || match &window {
        Some(window) => SectionMemoryManager::in_window(window),
        None => SectionMemoryManager::new(),
    };
    let mut live = Vec::new();
    let mut manager_of_all = manager();
    if what == Mode::Replace {
        live.extend((0..LIVE).map(|number| or_end(object.publish(&mut manager_of_all), number)));
    }
    let before = pss();
    let start = Instant::now();
    match what {
        Mode::Live | Mode::Fork => {
            for number in 0..count {
                live.push(or_end(object.publish(&mut manager_of_all), number));
            }
        }
        Mode::Churn => {
            for number in 0..count {
                drop(or_end(object.publish(&mut manager_of_all), number));
            }
        }
        Mode::Replace => {
            let mut random = Random(1);
            for number in 0..count {
                drop(live.swap_remove(random.below(LIVE)));
                live.push(or_end(object.publish(&mut manager_of_all), number));
            }
        }
        Mode::Threads => {
            let publish = || {
                let mut manager = manager();
                let publish = |number| or_end(object.publish(&mut manager), number);
                (0..count / THREADS).map(publish).collect::<Vec<_>>()
            };
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(publish)).collect();
                for thread in threads {
                    let images = thread.join().expect("it ends the process where it fails");
                    std::mem::forget(images); // As below; they stay where they are.
                }
            });
        }
    }
    let time = start.elapsed().as_nanos() as f64 / count as f64;
    let memory = pss().saturating_sub(before) as f64 / count as f64;
    let time = match what {
        Mode::Fork => or_end(fork_time(), count) / 1000.0,
        _ => time,
    };
    println!("{mode} {count} {time:.0} {memory:.0} {}", mappings());
    std::mem::forget(live); // The system is quicker at it, and nothing is measured any more.
}
