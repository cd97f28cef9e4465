//! Many modules in one MCJIT: mappings stay few, and everything lies in the window.

mod support;

use self::support::llvm::CODE_MODEL_JIT_DEFAULT;
use self::support::ways::mcjit_ways;
use self::support::{ir, map};

const MODULES: usize = 300;

/// By itself in this program: what it counts is the process's.
#[test]
fn many_modules_take_no_mappings_of_their_own() {
    let ways = mcjit_ways();
    for way in ways.iter().filter(|way| way.window.is_some()) {
        let name = way.name;
        let engine = way.engine(ir::PICK, CODE_MODEL_JIT_DEFAULT);
        assert_eq!(engine.call("pick", 2), 114);
        let before = map::mappings();
        for number in 0..MODULES {
            engine.add(&ir::counting(number));
            assert_eq!(engine.call(&format!("f{number}"), 1), number as i32 + 1);
        }
        map::assert_few_since(before, name);
        assert_eq!(way.memory.stats().objects(), MODULES + 1, "{name}");
    }
}
