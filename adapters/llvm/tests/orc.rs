//! IR compiled by LLVM, loaded into ORC through every way, and run by the CPU.
#![cfg(any(feature = "cxx", orc_callbacks))]

mod support;

use self::support::llvm::{CODE_MODEL_LARGE, CODE_MODEL_SMALL};
use self::support::ways::orc_ways;
use self::support::{compile, ir, map};

#[test]
fn orc_runs_modules_that_refer_to_each_other() {
    for code_model in [CODE_MODEL_SMALL, CODE_MODEL_LARGE] {
        for way in orc_ways() {
            let name = way.name;
            // Before LLVM 17, JITLink makes all data of ELF objects writable.
            let constants = match name.starts_with("JITLink") && support::major() < 17 {
                true => "rw-",
                false => "r--",
            };
            let jit = way.jit().unwrap();
            let _pick = jit.add(&compile(ir::PICK, code_model)).unwrap();
            let _more = jit.add(&compile(ir::PICK_MORE, code_model)).unwrap();
            assert_eq!(jit.call("pick_more", 3), Ok(121 + 7), "{name}");
            assert_eq!(jit.call("pick", 2), Ok(214), "{name}");
            for (symbol, permissions) in [
                ("pick", "r-x"),
                ("pick_more", "r-x"),
                ("factor", constants),
                ("counter", "rw-"),
            ] {
                let address = jit.address(symbol).unwrap();
                assert!(way.contains(address), "{name}: {symbol} at {address:#x}");
                assert_eq!(map::permissions(address).unwrap(), permissions, "{name}");
            }
            assert_eq!(map::writable_and_executable(), Vec::<String>::new());
            assert_eq!(way.memory.stats().objects(), 2, "{name}");
            drop((_pick, _more));
            drop(jit);
            assert_eq!(way.memory.stats().objects(), 0, "{name}");
            assert!(way.memory.take_failure().is_none(), "{name}");
        }
    }
}

#[test]
fn exceptions_cross_modules_of_orc() {
    for way in orc_ways() {
        let jit = way.jit().unwrap();
        let throw = jit.add(&compile(ir::THROW, CODE_MODEL_SMALL)).unwrap();
        let catch = jit.add(&compile(ir::CATCH, CODE_MODEL_SMALL)).unwrap();
        assert_eq!(jit.call("catch_it", 5), Ok(1005), "{}", way.name);
        catch.remove().unwrap();
        throw.remove().unwrap();
        assert_eq!(way.memory.stats().objects(), 0, "{}", way.name);
        // What was registered for the first is gone.
        let _throw = jit.add(&compile(ir::THROW, CODE_MODEL_SMALL)).unwrap();
        let _catch = jit.add(&compile(ir::CATCH, CODE_MODEL_SMALL)).unwrap();
        assert_eq!(jit.call("catch_it", 6), Ok(1006), "{}", way.name);
    }
}

#[test]
fn removing_a_tracker_gives_memory_back() {
    for way in orc_ways() {
        let name = way.name;
        let jit = way.jit().unwrap();
        let object = compile(ir::PICK, CODE_MODEL_SMALL);
        let _stays = jit
            .add(&compile(&ir::counting(0), CODE_MODEL_SMALL))
            .unwrap();
        assert_eq!(jit.call("f0", 1), Ok(1));
        let before = way.memory.stats();
        for _ in 0..50 {
            let tracker = jit.add(&object).unwrap();
            assert_eq!(jit.call("pick", 2), Ok(114), "{name}");
            assert_eq!(way.memory.stats().objects(), 2, "{name}");
            tracker.remove().unwrap();
            assert_eq!(way.memory.stats().objects(), 1, "{name}");
            assert_eq!(way.memory.stats().granted(), before.granted(), "{name}");
            assert!(jit.address("pick").is_err(), "{name}");
        }
        assert_eq!(jit.call("f0", 1), Ok(2));
    }
}

#[test]
fn threads_load_and_unload_at_the_same_time() {
    const THREADS: usize = 3;
    let modules: Vec<Vec<u8>> = (0..THREADS * 20)
        .map(|number| compile(&ir::counting(number), CODE_MODEL_SMALL))
        .collect();
    for way in orc_ways() {
        let name = way.name;
        let jit = way.jit().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (jit, modules) = (&jit, &modules);
                scope.spawn(move || {
                    for number in (thread..modules.len()).step_by(THREADS) {
                        let tracker = jit.add(&modules[number]).unwrap();
                        let called = jit.call(&format!("f{number}"), 1);
                        assert_eq!(called, Ok(number as i32 + 1), "{name}");
                        if number % 2 == 0 {
                            tracker.remove().unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(way.memory.stats().objects(), modules.len() / 2, "{name}");
        assert!(way.memory.take_failure().is_none(), "{name}");
    }
}
