//! Many modules in one ORC JIT: mappings stay few, and everything lies in the window.
#![cfg(any(feature = "cxx", orc_callbacks))]

mod support;

use self::support::llvm::CODE_MODEL_SMALL;
use self::support::ways::orc_ways;
use self::support::{compile, ir, map};

const MODULES: usize = 300;

/// By itself in this program: what it counts is the process's.
#[test]
fn many_modules_take_no_mappings_of_their_own() {
    let modules: Vec<_> = (0..MODULES)
        .map(|number| compile(&ir::counting(number), CODE_MODEL_SMALL))
        .collect();
    let ways = orc_ways();
    for way in ways.iter().filter(|way| way.window.is_some()) {
        let name = way.name;
        let jit = way.jit().unwrap();
        let first = jit.add(&compile(ir::PICK, CODE_MODEL_SMALL)).unwrap();
        assert_eq!(jit.call("pick", 2), Ok(114));
        let before = map::mappings();
        let mut trackers = vec![first];
        for (number, object) in modules.iter().enumerate() {
            trackers.push(jit.add(object).unwrap());
            assert_eq!(jit.call(&format!("f{number}"), 1), Ok(number as i32 + 1));
            for symbol in ["f", "count"] {
                let address = jit.address(&format!("{symbol}{number}")).unwrap();
                assert!(way.contains(address), "{name}: {address:#x}");
            }
        }
        map::assert_few_since(before, name);
        assert_eq!(way.memory.stats().objects(), MODULES + 1, "{name}");
        while trackers.len() > 1 {
            trackers.swap_remove(trackers.len() / 2).remove().unwrap();
        }
        map::assert_few_since(before, name);
        assert_eq!(way.memory.stats().objects(), 1, "{name}");
    }
}
