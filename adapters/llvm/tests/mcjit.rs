//! IR compiled by MCJIT, loaded through every way, and run by the CPU; and what is left of a refusal that MCJIT drops.

mod support;

use nearcode_llvm::nearcode::{Error, WindowOptions};

use self::support::llvm::{CODE_MODEL_JIT_DEFAULT, CODE_MODEL_SMALL};
use self::support::ways::{mcjit_ways, mcjit_ways_in};
use self::support::{ir, map};

const SMALL: WindowOptions = WindowOptions::new()
    .with_size(8 << 20)
    .with_floor(8 << 20)
    .with_code(2 << 20);

#[test]
fn mcjit_runs_modules_that_refer_to_each_other() {
    for code_model in [CODE_MODEL_JIT_DEFAULT, CODE_MODEL_SMALL] {
        for way in mcjit_ways() {
            let name = way.name;
            let engine = way.engine(ir::PICK, code_model);
            assert_eq!(engine.call("pick", 2), 114, "{name}");
            engine.add(ir::PICK_MORE);
            assert_eq!(engine.call("pick_more", 3), 221 + 7, "{name}");
            assert_eq!(engine.call("pick", 1), 307, "{name}");
            for (symbol, permissions) in [("pick", "r-x"), ("pick_more", "r-x")] {
                let address = engine.address(symbol);
                assert!(way.contains(address), "{name}: {symbol} at {address:#x}");
                assert_eq!(map::permissions(address).unwrap(), permissions, "{name}");
            }
            assert!(way.memory.take_failure().is_none(), "{name}");
            assert!(way.memory.stats().objects() >= 1, "{name}");
            drop(engine);
            assert_eq!(way.memory.stats().objects(), 0, "{name}");
        }
    }
}

#[test]
fn exceptions_cross_modules_of_mcjit() {
    for way in mcjit_ways() {
        let engine = way.engine(ir::THROW, CODE_MODEL_JIT_DEFAULT);
        engine.add(ir::CATCH);
        assert_eq!(engine.call("catch_it", 5), 1005, "{}", way.name);
        assert!(way.memory.take_failure().is_none());
    }
}

#[test]
fn a_full_window_is_a_failure_that_mcjit_drops_and_the_memory_keeps() {
    let ways = mcjit_ways_in(SMALL);
    for way in ways.iter().filter(|way| way.window.is_some()) {
        let name = way.name;
        let engine = way.engine(&ir::spacious(16 << 20), CODE_MODEL_JIT_DEFAULT);
        let address = engine.address("spacious");
        let failure = way.memory.take_failure();
        assert!(
            matches!(failure, Some(Error::WindowExhausted { .. })),
            "{name}: {failure:?}"
        );
        assert_eq!(way.memory.stats().objects(), 0, "{name}");
        assert_ne!(address, 0, "{name}: MCJIT knows nothing");

        engine.add(&ir::counting(1));
        assert_eq!(engine.call("f1", 5), 6, "{name}");
        assert_ne!(engine.address("f1"), address, "{name}");
        assert!(way.memory.take_failure().is_none(), "{name}");
        drop(engine);
        let stats = way.memory.stats();
        assert_eq!((stats.in_flight(), stats.objects()), (0, 0), "{name}");
    }
}

#[cfg(feature = "cxx")]
#[test]
fn an_unwind_table_that_is_none_is_a_failure_that_the_memory_keeps() {
    for way in mcjit_ways().iter().filter(|way| way.name != "callbacks") {
        let name = way.name;
        let engine = way.engine(ir::BAD_TABLE, CODE_MODEL_JIT_DEFAULT);
        engine.address("unlucky");
        let failure = way.memory.take_failure();
        assert!(
            matches!(failure, Some(Error::InvalidEhFrame { .. })),
            "{name}: {failure:?}"
        );
        engine.add(&ir::counting(1));
        assert_eq!(engine.call("f1", 5), 6, "{name}");
    }
}
