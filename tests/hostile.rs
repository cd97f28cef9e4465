//! Windows and dedicated blocks where the system forbids, or has little of, what they need: a row for each setting, in a process
//! of its own. Either everything works, and `capabilities()` says how, or there is one typed error; never is a page writable and
//! executable, never is anything out of reach, and nothing is left behind.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "support/window_cases.rs"]
mod cases;
#[path = "support/child.rs"]
mod child;
#[path = "support/window_lives.rs"]
mod lives;
#[path = "support/poor_lives.rs"]
mod poor_lives;
#[path = "support/scattered.rs"]
mod scattered;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/window_tools.rs"]
mod tools;

use std::io::Error as System;

use nearcode::Writing;
use poor_lives::{Outcome, SOURCES, Source, check};
use rustix::process::Resource;
use settings::Denial;

use Outcome::{MayBeRefused, Refused, Works};

/// A system that is not as it should be.
struct Setting {
    /// Whether it is for a namespace of processes, and not for one process.
    needs_namespace: bool,
    /// What lives once before.
    warms_up: &'static [Source],
    /// What `make` and `outcomes` get, one after the other in one process.
    levels: &'static [usize],
    make: fn(usize) -> Result<(), System>,
    /// The addresses that a window is to have.
    size: usize,
    /// What becomes of a window at two addresses, at the same address, at whichever can be had; and of dedicated blocks.
    outcomes: fn(usize) -> [Outcome; 4],
    /// What else holds.
    also: fn(),
}

const ALWAYS: Setting = Setting {
    needs_namespace: false,
    warms_up: &SOURCES,
    levels: &[0],
    make: |_| Ok(()),
    size: 64 << 20,
    outcomes: |_| [Works; 4],
    also: || (),
};

/// Where nothing gains the permission to be executed.
const NOTHING_GAINS: [Outcome; 4] = [
    Works,
    Refused(&["mprotect to r-x"]),
    Works,
    Refused(&["mprotect to r-x"]),
];

/// Where a window at two addresses is refused.
const fn not_at_two(operations: &'static [&'static str]) -> [Outcome; 4] {
    [Refused(operations), Works, Works, Works]
}

const NO_ADDRESSES: Outcome = Refused(&["mmap", "mmap of a view"]);

const NO_MEMORY: Outcome = MayBeRefused(&[
    "mmap",
    "mmap of a view",
    "mmap of data",
    "madvise(MADV_WIPEONFORK)",
    "madvise(MADV_DONTFORK)",
    "madvise(MADV_DONTDUMP)",
    "mprotect to ---",
    "mprotect to rw-",
    "mprotect to r--",
    "mprotect to r-x",
]);

macro_rules! settings {
    ($($(#[$how:meta])* $name:ident: $setting:expr;)*) => {
        $(
            #[test]
            $(#[$how])*
            fn $name() {
                under(stringify!($name), &$setting);
            }
        )*
    };
}

settings! {
    nothing_is_amiss: ALWAYS;

    what_was_writable_never_becomes_executable: Setting {
        make: |_| settings::forbid_gaining_execution(),
        outcomes: |_| NOTHING_GAINS,
        also: || cases::run_all(Writing::TwoAddresses),
        ..ALWAYS
    };

    a_filter_denies_write_and_execute: Setting {
        make: |_| settings::deny_write_and_execute(),
        outcomes: |_| NOTHING_GAINS,
        also: || cases::run_all(Writing::TwoAddresses),
        ..ALWAYS
    };

    memory_files_must_not_be_executable: Setting {
        needs_namespace: true,
        levels: &[0, 1, 2],
        make: settings::seal_memory_files,
        also: || cases::run_all(Writing::TwoAddresses),
        ..ALWAYS
    };

    all_of_these_together: Setting {
        needs_namespace: true,
        make: |_| {
            // First, since the filter keeps this process from more privileges.
            settings::seal_memory_files(2)?;
            settings::forbid_gaining_execution()?;
            settings::deny_write_and_execute()
        },
        outcomes: |_| NOTHING_GAINS,
        also: || cases::run_all(Writing::TwoAddresses),
        ..ALWAYS
    };

    little_address_space: Setting {
        levels: &[64, 128, 256, 512, 1024],
        make: |mebibytes| settings::limit(Resource::As, mebibytes << 20),
        size: 512 << 20,
        also: || {
            settings::limit(Resource::As, 128 << 20).unwrap();
            poor_lives::a_smaller_window_is_told();
        },
        ..ALWAYS
    };

    files_of_no_size: Setting {
        levels: &[0, 1],
        make: |mebibytes| settings::limit(Resource::Fsize, mebibytes << 20),
        outcomes: |_| not_at_two(&["ftruncate"]),
        ..ALWAYS
    };

    few_descriptors: Setting {
        levels: &[0, 1, 2, 3],
        make: settings::leave_descriptors,
        outcomes: |free| match free {
            0 => not_at_two(&["memfd_create"]),
            1 => not_at_two(&["open of /proc/thread-self/fd for a read-only view"]),
            _ => [Works; 4],
        },
        ..ALWAYS
    };

    no_proc: Setting {
        make: |_| settings::hide_proc(),
        outcomes: |_| not_at_two(&["open of /proc/thread-self/fd for a read-only view"]),
        also: poor_lives::nothing_smaller_is_tried,
        ..ALWAYS
    };

    no_proc_where_nothing_gains_execution: Setting {
        make: |_| {
            settings::forbid_gaining_execution()?;
            settings::hide_proc()
        },
        outcomes: |_| [
            Refused(&["open of /proc/thread-self/fd for a read-only view"]),
            Refused(&["mprotect to r-x"]),
            Refused(&["mprotect to r-x"]),
            Refused(&["mprotect to r-x"]),
        ],
        ..ALWAYS
    };

    memory_that_is_locked: Setting {
        make: |_| settings::lock_what_comes(),
        ..ALWAYS
    };

    memory_that_is_locked_within_a_limit: Setting {
        levels: &[6],
        make: |mebibytes| settings::lock_at_most(mebibytes << 20),
        outcomes: |_| [NO_ADDRESSES, NO_ADDRESSES, NO_ADDRESSES, Works],
        ..ALWAYS
    };

    huge_pages_always: Setting {
        make: |_| settings::huge_pages_always(),
        also: poor_lives::a_byte_costs_a_small_page,
        ..ALWAYS
    };

    the_last_mappings: Setting {
        levels: &[0, 1, 2, 4, 6, 8, 10, 12, 16, 24],
        make: settings::leave_mappings,
        outcomes: |free| if free < 24 { [NO_MEMORY; 4] } else { [Works; 4] },
        ..ALWAYS
    };

    small_gaps: Setting {
        make: |_| {
            scattered::scatter((60 << 20) / region::page::size());
            Ok(())
        },
        size: 512 << 20,
        ..ALWAYS
    };

    no_barrier: Setting {
        // Who publishes registers for it, on x86-64 only for code at two addresses.
        warms_up: match cfg!(target_arch = "x86_64") {
            true => &[Source::SameAddress, Source::Blocks],
            false => &[],
        },
        make: |_| settings::filter(&[Denial {
            call: libc::SYS_membarrier,
            argument: 0,
            bits: 0,
            value: 0,
            answer: libc::ENOSYS,
        }]),
        outcomes: |_| match cfg!(target_arch = "x86_64") {
            true => not_at_two(&["membarrier"]),
            false => [Refused(&["membarrier"]); 4],
        },
        ..ALWAYS
    };

    no_pages_in_advance: Setting {
        make: |_| settings::filter(&[Denial {
            call: libc::SYS_madvise,
            argument: 2,
            bits: !0,
            value: libc::MADV_POPULATE_WRITE,
            answer: libc::EINVAL,
        }]),
        outcomes: |_| not_at_two(&["madvise(MADV_POPULATE_WRITE)"]),
        ..ALWAYS
    };

    memory_files_without_seals_against_execution: Setting {
        make: |_| settings::filter(&[Denial {
            call: libc::SYS_memfd_create,
            argument: 1,
            bits: 0x8, // MFD_NOEXEC_SEAL, Linux 6.3.
            value: 0x8,
            answer: libc::EINVAL,
        }]),
        ..ALWAYS
    };

    no_memory_files: Setting {
        make: |_| settings::filter(&[Denial {
            call: libc::SYS_memfd_create,
            argument: 0,
            bits: 0,
            value: 0,
            answer: libc::EPERM,
        }]),
        outcomes: |_| not_at_two(&["memfd_create"]),
        ..ALWAYS
    };
}

/// Runs a test again in a process of its own, and there checks what holds under a setting.
fn under(test: &str, setting: &Setting) {
    match child::argument().as_deref() {
        None if child::is_emulated() => {
            println!("skipped: {test}: an emulator has rules of its own")
        }
        None if setting.needs_namespace => start(test, "outside"),
        None => start(test, "inside"),
        Some("outside") => match settings::enter_namespace() {
            Ok(()) => start(test, "inside"),
            Err(error) => println!("skipped: {test}: {error}"),
        },
        Some(_) => {
            let mut map = tools::KernelsMap::open();
            poor_lives::warm_up(setting.warms_up, &mut map);
            for &level in setting.levels {
                if let Err(error) = (setting.make)(level) {
                    println!("skipped: {test} at {level}: {error}");
                    continue;
                }
                for (source, outcome) in SOURCES.iter().zip((setting.outcomes)(level)) {
                    let got = check(*source, setting.size, outcome, &mut map);
                    println!("{test} at {level}: {source:?}: {got}");
                }
            }
            (setting.also)();
            println!("reached the end");
        }
    }
}

/// A skipped setting is named, and never counted as one that was there.
fn start(test: &str, argument: &str) {
    let output = child::in_a_child(test, argument);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let is_over = stdout.contains("reached the end") || stdout.contains("skipped: ");
    assert!(output.status.success() && is_over, "{stdout}{stderr}");
    let said = |line: &&str| line.contains(test) || *line == "reached the end";
    stdout
        .lines()
        .filter(said)
        .for_each(|line| println!("{line}"));
}
