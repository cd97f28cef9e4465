//! A window where the system forbids executable memory: `PR_SET_MDWE`, a filter like systemd's `MemoryDenyWriteExecute`,
//! `vm.memfd_noexec=2`, and all of them together. Written at two addresses it behaves as everywhere; at one it says that it
//! cannot be, or works, and never turns into something else.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "support/window_cases.rs"]
mod cases;
#[path = "support/child.rs"]
mod child;
#[path = "support/window_lives.rs"]
mod lives;
#[path = "support/window_tools.rs"]
mod tools;

use std::io::Error as System;

use nearcode::{
    AllocationSpace, Error, ReservingMemoryManager, SectionKind, SectionMemoryManager, Window,
    WindowOptions, Writing,
};
use tools::{KernelsMap, assert_empty, function, request, returning, run, window};

/// What this process refuses itself, or has refused.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// What is or was writable never becomes executable, in this process.
    Mdwe,
    /// The system calls that would do it are denied.
    Filter,
    /// No memory file without the seal against being executed, in this namespace of processes.
    Noexec,
}

/// `prctl(2)`, Linux 6.3.
const PR_SET_MDWE: i32 = 65;
const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;

fn forbid_gaining_execution() {
    // SAFETY: changes what this process may do, and no memory.
    let answer = unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0u64, 0u64, 0u64) };
    if answer != 0 {
        skip("PR_SET_MDWE");
    }
}

/// Ends a child that cannot be what it is to be.
fn skip(what: &str) -> ! {
    println!("skipped: {what}: {}", System::last_os_error());
    std::process::exit(0);
}

/// One instruction of a filter (linux/filter.h).
fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// What systemd denies (src/shared/seccomp-util.c, seccomp_memory_deny_write_execute): system call, bits of its third argument,
/// and the value of these bits.
fn denied() -> [(libc::c_long, i32, i32); 4] {
    let both = libc::PROT_WRITE | libc::PROT_EXEC;
    [
        (libc::SYS_mmap, both, both),
        (libc::SYS_mprotect, libc::PROT_EXEC, libc::PROT_EXEC),
        (libc::SYS_pkey_mprotect, libc::PROT_EXEC, libc::PROT_EXEC),
        (libc::SYS_shmat, libc::SHM_EXEC, libc::SHM_EXEC),
    ]
}

fn install_filter() {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let and = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = Vec::new();
    for (call, bits, value) in denied() {
        program.push(instruction(load, 0, 0, 0)); // seccomp_data.nr
        program.push(instruction(equal, 0, 4, call as u32));
        program.push(instruction(load, 0, 0, 16 + 2 * 8)); // The lower half of seccomp_data.args[2].
        program.push(instruction(and, 0, 0, bits as u32));
        program.push(instruction(equal, 0, 1, value as u32));
        program.push(instruction(answer, 0, 0, refuse));
    }
    program.push(instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: changes what this process may do, and no memory.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) };
    let mode = u64::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the kernel copies the program, which is as long as it says.
    let installed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
    if (promised, installed) != (0, 0) {
        skip("a seccomp filter");
    }
}

/// Lets every process started from here on be in a namespace of its own.
fn enter_namespace() -> Result<(), System> {
    // SAFETY: changes where children of this thread live.
    match unsafe { libc::unshare(libc::CLONE_NEWPID) } {
        0 => Ok(()),
        _ => Err(System::last_os_error()),
    }
}

/// The system refuses what it is to refuse: without that the test would show nothing.
fn assert_enforced(rules: &[Rule]) {
    let size = region::page::size();
    let memory = region::alloc(size, region::Protection::READ_WRITE).unwrap();
    let start = memory.as_ptr::<u8>();
    // SAFETY: a page of our own; it is refused.
    let gained = unsafe { region::protect(start, size, region::Protection::READ_EXECUTE) };
    assert_eq!(gained.is_err(), rules != [Rule::Noexec]);
    // SAFETY: makes a file and touches no memory; 0x10 is MFD_EXEC.
    let file = unsafe { libc::memfd_create(c"executable".as_ptr(), 0x10) };
    assert_eq!(file < 0, rules.contains(&Rule::Noexec));
}

/// Runs a test again, and there `work`, where these rules hold.
fn under(test: &str, rules: &[Rule], work: fn()) {
    let needs_namespace = rules.contains(&Rule::Noexec);
    match child::argument().as_deref() {
        None if child::is_emulated() => {
            println!("skipped: {test}: an emulator has rules of its own")
        }
        None => start(test, if needs_namespace { "outside" } else { "inside" }),
        Some("outside") => match enter_namespace() {
            Ok(()) => start(test, "inside"),
            Err(error) => println!("skipped: {test}: no namespace: {error}"),
        },
        Some(_) => {
            for rule in rules {
                match rule {
                    Rule::Mdwe => forbid_gaining_execution(),
                    Rule::Filter => install_filter(),
                    Rule::Noexec => {
                        if std::fs::write("/proc/sys/vm/memfd_noexec", "2").is_err() {
                            skip("vm.memfd_noexec");
                        }
                    }
                }
            }
            assert_enforced(rules);
            work();
            println!("reached the end");
        }
    }
}

fn start(test: &str, argument: &str) {
    let output = child::in_a_child(test, argument);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    let skipped = stdout.lines().find_map(|line| line.split_once("skipped: "));
    match skipped {
        Some((_, why)) => println!("skipped: {why}"),
        None => assert!(stdout.contains("reached the end"), "{stdout}{stderr}"),
    }
    if argument == "inside" && skipped.is_none() {
        println!("reached the end"); // For whoever has started this one.
    }
}

/// Written at two addresses, everything is as everywhere; and nobody who left it open gets anything else.
fn two_addresses_behave() {
    cases::run_all(Writing::TwoAddresses);
    let window = Window::with_options(&WindowOptions::new()).unwrap();
    assert_eq!(window.capabilities().writing(), Writing::TwoAddresses);
    same_address_is_refused_or_works();
}

/// Written where it runs: a typed error, after which everything is as before, or it works.
fn same_address_is_refused_or_works() {
    let window = window(Writing::SameAddress);
    let mut map = KernelsMap::open();
    for value in 0..20 {
        let mut manager = SectionMemoryManager::in_window(&window);
        manager
            .reserve_allocation_space(&AllocationSpace::EMPTY)
            .unwrap();
        let constants = request(SectionKind::ReadOnlyData, 100, 8);
        let constants = manager.allocate_section(&constants).unwrap();
        let code = function(&mut manager, value).unwrap();
        let place = manager.address(code).unwrap().get() as usize;
        let before = window.stats();
        match manager.finalize_memory() {
            Ok(image) => assert_eq!(run(&image, code), i32::from(value)),
            Err(Error::System { operation, .. }) => {
                assert_eq!(operation, "mprotect to r-x");
                assert_eq!(window.stats(), before);
                assert_eq!(manager.section_mut(code).unwrap(), returning(value));
                manager.section_mut(constants).unwrap().fill(1);
            }
            Err(error) => panic!("{error}"),
        }
        let page = map.inside(place..place + 1);
        assert_ne!(page[0].permissions[1], page[0].permissions[2], "{page:x?}");
        assert_eq!(window.capabilities().writing(), Writing::SameAddress);
        // What was asked for may have changed its mind: data alone needs no execution.
        drop(manager);
        let mut manager = SectionMemoryManager::in_window(&window);
        let constants = request(SectionKind::ReadOnlyData, 100, 8);
        let constants = manager.allocate_section(&constants).unwrap();
        manager.section_mut(constants).unwrap().fill(7);
        let image = manager.finalize_memory().unwrap();
        assert_eq!(tools::bytes(&image, constants), [7; 100]);
    }
    assert_empty(&window);
}

#[test]
fn a_window_lives_under_mdwe() {
    under(
        "a_window_lives_under_mdwe",
        &[Rule::Mdwe],
        two_addresses_behave,
    );
}

#[test]
fn a_window_lives_under_a_filter_that_denies_write_and_execute() {
    let test = "a_window_lives_under_a_filter_that_denies_write_and_execute";
    under(test, &[Rule::Filter], two_addresses_behave);
}

#[test]
fn a_window_lives_where_memory_files_must_not_be_executable() {
    let test = "a_window_lives_where_memory_files_must_not_be_executable";
    under(test, &[Rule::Noexec], two_addresses_behave);
}

#[test]
fn a_window_lives_under_all_of_them_together() {
    let test = "a_window_lives_under_all_of_them_together";
    // The setting first: the filter keeps this process from nothing that it needs, but from more privileges.
    let rules = [Rule::Noexec, Rule::Mdwe, Rule::Filter];
    under(test, &rules, two_addresses_behave);
}
