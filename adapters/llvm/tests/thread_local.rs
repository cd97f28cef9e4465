//! Thread-local variables behind RuntimeDyld, from compilers that make them the system's own and from those that emulate them.
#![cfg(feature = "cxx")]

mod support;

use std::thread;

use self::support::llvm::{CODE_MODEL_JIT_DEFAULT, CODE_MODEL_SMALL};
use self::support::ways::{mcjit_ways, orc_ways};
use self::support::{compile, ir};

/// MCJIT compiles them so; `__emutls_get_address` is libgcc's.
#[test]
fn emulated_variables_begin_with_any_value_in_each_thread() {
    for way in mcjit_ways() {
        let name = way.name;
        let engine = way.engine(&ir::thread_local(1, 5), CODE_MODEL_JIT_DEFAULT);
        let count = || (engine.call("last_mine", 2), engine.call("last_mine", 2));
        assert_eq!(count(), (5, 7), "{name}");
        let later = thread::scope(|scope| scope.spawn(count).join());
        assert_eq!(later.unwrap(), (5, 7), "{name}");
        assert!(way.memory.take_failure().is_none(), "{name}");
    }
    let object = compile(ir::EMULATED, CODE_MODEL_SMALL);
    for way in orc_ways() {
        let name = way.name;
        let jit = way.jit().unwrap();
        let _object = jit.add(&object).unwrap();
        let count = || (jit.call("last_mine", 2), jit.call("last_mine", 2));
        assert_eq!(count(), (Ok(5), Ok(7)), "{name}");
        let later = thread::scope(|scope| scope.spawn(count).join());
        assert_eq!(later.unwrap(), (Ok(5), Ok(7)), "{name}");
    }
}

#[cfg(target_arch = "x86_64")]
mod native {
    use std::sync::mpsc::channel;
    use std::thread;

    use nearcode_llvm::nearcode::Error;

    use super::support::llvm::{CODE_MODEL_JIT_DEFAULT, CODE_MODEL_SMALL};
    use super::support::ways::{ForOrc, Way, mcjit_ways, orc_ways};
    use super::support::{REPORTED, child, compile, ir};

    /// LLVM ends the process behind the callbacks, and needs its own runtime behind JITLink.
    fn ways() -> Vec<Way<ForOrc>> {
        let mut ways = orc_ways();
        ways.retain(|way| way.name.starts_with("RuntimeDyld"));
        assert_eq!(ways.len(), 3);
        ways
    }

    #[test]
    fn each_thread_has_variables_of_its_own_behind_orc() {
        let object = compile(ir::THREAD_LOCAL, CODE_MODEL_SMALL);
        let other = compile(ir::THREAD_LOCAL_OF_OTHERS, CODE_MODEL_SMALL);
        for way in ways() {
            let name = way.name;
            let jit = way.jit().unwrap();
            let count = |i| jit.call("count_mine", i);
            let (ask, asked) = channel();
            thread::scope(|scope| {
                let earlier = scope.spawn(move || asked.into_iter().map(count).collect::<Vec<_>>());
                let _object = jit.add(&object).unwrap();
                assert_eq!((count(2), count(2)), (Ok(8), Ok(16)), "{name}");
                ask.send(5).unwrap();
                ask.send(5).unwrap();
                drop(ask);
                assert_eq!(earlier.join().unwrap(), [Ok(20), Ok(40)], "{name}");
                let later = scope.spawn(|| (count(1), count(1)));
                assert_eq!(later.join().unwrap(), (Ok(4), Ok(8)), "{name}");
                let _other = jit.add(&other).unwrap();
                assert_eq!(jit.call("read_general", 3), Ok(4 + 3), "{name}");
            });
            assert!(way.memory.take_failure().is_none(), "{name}");
        }
    }

    #[test]
    fn each_thread_has_variables_of_its_own_behind_mcjit() {
        let object = compile(ir::THREAD_LOCAL, CODE_MODEL_SMALL);
        let ways = mcjit_ways();
        for way in ways.iter().filter(|way| way.name != "callbacks") {
            let name = way.name;
            let engine = way.engine(&ir::counting(1), CODE_MODEL_JIT_DEFAULT);
            engine.add_object(&object);
            let count = || (engine.call("count_mine", 2), engine.call("count_mine", 2));
            assert_eq!(count(), (8, 16), "{name}");
            let later = thread::scope(|scope| scope.spawn(count).join());
            assert_eq!(later.unwrap(), (8, 16), "{name}");
            assert_eq!(engine.call("f1", 1), 2, "{name}");
            assert!(way.memory.take_failure().is_none(), "{name}");
        }
    }

    #[test]
    fn another_first_value_is_an_error_that_says_what_to_do_and_takes_nothing_away() {
        let object = compile(&ir::thread_local(250, 5), CODE_MODEL_SMALL);
        for way in ways() {
            let name = way.name;
            for _ in 0..5 {
                let jit = way.jit().unwrap();
                let _object = jit.add(&object).unwrap();
                assert!(jit.address("last_mine").is_err(), "{name}");
                let failure = way.memory.take_failure();
                let Some(Error::Unsupported(reason)) = failure else {
                    panic!("{name}: {failure:?}");
                };
                for part in ["does not begin with zero", "-femulated-tls"] {
                    assert!(reason.contains(part), "{name}: {reason}");
                }
                let reported = REPORTED.lock().unwrap();
                let is_reported = reported.iter().any(|message| message.contains(reason));
                assert!(is_reported, "{name}: {reported:?}");
            }
            assert_eq!(way.memory.stats().objects(), 0, "{name}");
        }
    }

    #[test]
    fn another_first_value_is_a_failure_that_mcjit_drops_and_the_memory_keeps() {
        let object = compile(&ir::thread_local(250, 5), CODE_MODEL_SMALL);
        let ways = mcjit_ways();
        for way in ways.iter().filter(|way| way.name != "callbacks") {
            let name = way.name;
            let engine = way.engine(&ir::counting(1), CODE_MODEL_JIT_DEFAULT);
            assert_eq!(engine.call("f1", 1), 2, "{name}");
            engine.add_object(&object);
            engine.address("last_mine");
            let failure = way.memory.take_failure();
            assert!(
                matches!(failure, Some(Error::Unsupported(_))),
                "{name}: {failure:?}"
            );
            assert_eq!(engine.call("f1", 1), 3, "{name}");
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_an_error_and_the_next_object_loads() {
        let large = compile(&ir::thread_local(1025, 0), CODE_MODEL_SMALL);
        let small = compile(ir::THREAD_LOCAL, CODE_MODEL_SMALL);
        for way in ways() {
            let name = way.name;
            let jit = way.jit().unwrap();
            let _large = jit.add(&large).unwrap();
            assert!(jit.address("last_mine").is_err(), "{name}");
            let failure = way.memory.take_failure();
            assert!(
                matches!(failure, Some(Error::ThreadRoomExhausted { requested, .. }) if requested >= 4100),
                "{name}: {failure:?}"
            );
            let _small = jit.add(&small).unwrap();
            assert_eq!(jit.call("count_mine", 1), Ok(4), "{name}");
        }
    }

    /// Three times 1000 bytes, forty times, where there are 4096 for all.
    #[test]
    fn what_a_tracker_removes_is_given_out_again_where_there_is_one_thread() {
        const NAME: &str =
            "native::what_a_tracker_removes_is_given_out_again_where_there_is_one_thread";
        if child::argument().is_none() {
            let output = child::in_a_child(NAME, "child");
            let said = String::from_utf8_lossy(&output.stdout);
            return assert!(said.contains("1 passed"), "{said}");
        }
        let object = compile(&ir::thread_local(250, 0), CODE_MODEL_SMALL);
        // SAFETY: nothing else runs in this process, so that the child finds no lock held.
        match unsafe { libc::fork() } {
            0 => {
                let result = std::panic::catch_unwind(|| load_and_remove(&object));
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(if result.is_ok() { 0 } else { 1 }) }
            }
            process => {
                let mut status = 0;
                // SAFETY: waits for the child just made.
                let waited = unsafe { libc::waitpid(process, &raw mut status, 0) };
                assert_eq!((waited, status), (process, 0));
            }
        }
    }

    fn load_and_remove(object: &[u8]) {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        assert_eq!(tasks.count(), 1);
        for way in ways() {
            let jit = way.jit().unwrap();
            for _ in 0..40 {
                let tracker = jit.add(object).unwrap();
                assert_eq!(jit.call("last_mine", 3), Ok(0), "{}", way.name);
                assert_eq!(jit.call("last_mine", 3), Ok(3), "{}", way.name);
                tracker.remove().unwrap();
            }
        }
    }
}

/// So README says.
#[cfg(target_arch = "aarch64")]
#[test]
fn runtime_dyld_ends_the_process_at_variables_that_are_not_emulated() {
    use self::support::child;

    if child::argument().is_none() {
        let output = child::in_a_child(
            "runtime_dyld_ends_the_process_at_variables_that_are_not_emulated",
            "child",
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        return assert!(said.contains("Relocation type not implemented"), "{said}");
    }
    let object = compile(ir::THREAD_LOCAL, CODE_MODEL_SMALL);
    let ways = orc_ways();
    let way = ways.iter().find(|way| way.name.starts_with("RuntimeDyld"));
    let jit = way.unwrap().jit().unwrap();
    let _object = jit.add(&object).unwrap();
    let _ = jit.call("count_mine", 1);
}
