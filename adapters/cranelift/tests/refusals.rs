//! What becomes of a module when the system refuses, in the midst of it or in a child of `fork`.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "../../../tests/support/child.rs"]
mod child;
#[path = "support/mod.rs"]
mod support;

use std::io::{Error as System, ErrorKind};

use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};
use cranelift_module::{Linkage, ModuleError};
use nearcode_cranelift::nearcode;
use nearcode_cranelift::{Error, WindowMemoryProvider};
use support::{Jit, assert_empty, window};

/// Runs a test again, and there `work`, which takes rights away from its process.
fn alone(test: &str, work: fn()) {
    if child::argument().is_some() {
        work();
        println!("reached the end");
        return;
    }
    if child::is_emulated() {
        println!("skipped: {test}: an emulator has rules of its own");
        return;
    }
    let output = child::in_a_child(test, "child");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    if let Some((_, why)) = stdout.split_once("skipped: ") {
        println!("skipped: {why}");
    } else {
        assert!(stdout.contains("reached the end"), "{stdout}{stderr}");
    }
}

/// Ends a child that cannot be what it is to be.
fn skip(what: &str) -> ! {
    println!("skipped: {what}: {}", System::last_os_error());
    std::process::exit(0);
}

/// What is writable never becomes executable in this process (`prctl(2)`, Linux 6.3).
fn forbid_gaining_execution() {
    const PR_SET_MDWE: i32 = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
    // SAFETY: changes what this process may do, and no memory.
    let answer = unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0u64, 0u64, 0u64) };
    if answer != 0 {
        skip("PR_SET_MDWE");
    }
}

/// No permission of any memory changes any more in this process.
fn forbid_protecting() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = [
        instruction(load, 0, 0, 0), // seccomp_data.nr
        instruction(equal, 0, 1, libc::SYS_mprotect as u32),
        instruction(answer, 0, 0, refuse),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
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

#[track_caller]
fn reason(error: &ModuleError) -> &Error {
    let ModuleError::Backend(inner) = error else {
        panic!("{error:?}")
    };
    inner.downcast_ref().expect("an error of ours")
}

#[test]
fn a_finalization_that_the_system_refuses_is_an_error_and_can_be_tried_again() {
    let test = "a_finalization_that_the_system_refuses_is_an_error_and_can_be_tried_again";
    alone(test, || {
        let window = window();
        let (mut jit, memory) = Jit::in_window(&window);
        let before = jit.adder(&memory, "before", 1);
        forbid_gaining_execution();
        let id = jit.define_adder("after", 2);
        for _ in 0..2 {
            let error = jit.module.finalize_definitions().unwrap_err();
            assert!(error.to_string().contains("mprotect"), "{error}");
            let reason = reason(&error);
            let is_named = matches!(
                reason,
                Error::Memory(nearcode::Error::System { source, .. })
                    if source.kind() == ErrorKind::PermissionDenied
            );
            assert!(is_named, "{reason:?}");
            let place = jit.module.get_finalized_function(id);
            let protection = region::query(place).unwrap().protection();
            assert_eq!(protection, region::Protection::READ_WRITE);
            // SAFETY: it is refused.
            let refused = unsafe { memory.function::<extern "C" fn()>(place) };
            assert!(matches!(refused, Err(Error::NotCode(_))), "{refused:?}");
        }
        assert_eq!(before(1), 2);
        drop((jit, memory, before));
        assert_empty(&window);
    });
}

#[test]
fn a_module_that_lost_its_memory_gets_no_more() {
    alone("a_module_that_lost_its_memory_gets_no_more", || {
        let window = window();
        let (mut jit, memory) = Jit::in_window(&window);
        let before = jit.adder(&memory, "before", 1);
        jit.define_adder("after", 2);
        forbid_protecting();
        let error = jit.module.finalize_definitions().unwrap_err();
        assert!(matches!(reason(&error), Error::Memory(_)), "{error:?}");
        let error = jit.module.finalize_definitions().unwrap_err();
        assert!(matches!(reason(&error), Error::Lost), "{error:?}");
        let id = jit.declare("more", Linkage::Export, 1);
        let error = jit.define(id, |_, _, parameters| parameters[0]);
        let Err(ModuleError::Allocation { err }) = error else {
            panic!("{error:?}")
        };
        assert!(err.to_string().contains("could not be undone"), "{err}");
        assert_eq!(before(1), 2);
        drop((jit, memory, before));
        assert_eq!(window.stats().asked(), 0);
    });
}

/// Runs `work` in a child of `fork`, and says whether it returned.
fn in_a_fork(work: impl FnOnce()) -> bool {
    // SAFETY: the child allocates from one heap and takes no lock that another thread could have.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", System::last_os_error()),
        0 => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: it runs none of the handlers that belong to the parent.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(ended, child);
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

#[test]
fn a_child_runs_what_was_finalized_and_gets_an_error_for_more() {
    let test = "a_child_runs_what_was_finalized_and_gets_an_error_for_more";
    alone(test, || {
        let window = window();
        let (mut jit, memory) = Jit::in_window(&window);
        let add = jit.adder(&memory, "add", 1);
        let mut provider = WindowMemoryProvider::new(&window).unwrap();
        let code = || JITMemoryKind::Executable;
        provider.allocate(16, 16, code()).unwrap();
        assert!(in_a_fork(|| {
            assert_eq!(add(1), 2);
            let refused = provider.allocate(16, 16, code()).unwrap_err();
            assert!(refused.to_string().contains("forked"), "{refused}");
            let refused = provider.finalize(BranchProtection::None);
            assert!(refused.is_err_and(|error| error.to_string().contains("forked")));
            drop((provider, jit, memory));
        }));
        assert_eq!(add(2), 3);
    });
}
