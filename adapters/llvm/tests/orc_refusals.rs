//! What ORC is told when there is no memory, and what the embedder can find out.
#![cfg(any(feature = "cxx", orc_callbacks))]

mod support;

use nearcode_llvm::nearcode::{Error, WindowOptions};

use self::support::llvm::CODE_MODEL_SMALL;
use self::support::ways::{orc_ways, orc_ways_in};
use self::support::{REPORTED, compile, ir};

const SMALL: WindowOptions = WindowOptions::new()
    .with_size(8 << 20)
    .with_floor(8 << 20)
    .with_code(2 << 20);

fn reported(text: &str) -> bool {
    let reported = REPORTED.lock().unwrap();
    reported.iter().any(|message| message.contains(text))
}

#[test]
fn a_full_window_is_an_error_of_orc_and_the_next_object_loads() {
    let ways = orc_ways_in(SMALL);
    for way in ways.iter().filter(|way| way.window.is_some()) {
        let name = way.name;
        let jit = way.jit().unwrap();
        let too_large = compile(&ir::spacious(16 << 20), CODE_MODEL_SMALL);
        let tracker = jit.add(&too_large).unwrap();
        assert!(jit.address("spacious").is_err(), "{name}");
        let failure = way.memory.take_failure();
        assert!(
            matches!(failure, Some(Error::WindowExhausted { requested, .. }) if requested >= 16 << 20),
            "{name}: {failure:?}"
        );
        assert!(way.memory.take_failure().is_none(), "{name}");
        assert!(reported("a window has no room for"), "{name}");
        tracker.remove().unwrap();
        let stats = way.memory.stats();
        // LLVM has registered the callbacks' unwind table, for ever.
        let kept = usize::from(name == "callbacks");
        assert_eq!((stats.in_flight(), stats.objects()), (kept, 0), "{name}");
        let panic = std::panic::catch_unwind(|| panic!("unwinds past all tables"));
        assert!(panic.is_err());

        let _fits = jit
            .add(&compile(&ir::spacious(100), CODE_MODEL_SMALL))
            .unwrap();
        assert_eq!(jit.call("spacious", 1), Ok(2), "{name}");
    }
}

#[cfg(feature = "cxx")]
#[test]
fn an_unwind_table_that_is_none_is_an_error_at_finalization() {
    for way in orc_ways() {
        let name = way.name;
        if !name.starts_with("RuntimeDyld") {
            continue; // LLVM reads the table itself.
        }
        let jit = way.jit().unwrap();
        let _bad = jit.add(&compile(ir::BAD_TABLE, CODE_MODEL_SMALL)).unwrap();
        assert!(jit.address("unlucky").is_err(), "{name}");
        let failure = way.memory.take_failure();
        assert!(
            matches!(failure, Some(Error::InvalidEhFrame { .. })),
            "{name}: {failure:?}"
        );
        assert_eq!(way.memory.stats().objects(), 0, "{name}");
    }
}

extern "C" fn increment(i: i32) -> i32 {
    i + 1
}

/// On x86-64 RuntimeDyld announces no GOT slots for calls: 8 bytes for each function.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_got_that_llvm_did_not_announce_lies_in_reach_or_is_an_error() {
    for (count, fits_into_a_block) in [(300, true), (3000, false)] {
        let object = compile(&ir::calling(count), CODE_MODEL_SMALL);
        for way in orc_ways() {
            let name = way.name;
            let jit = way.jit().unwrap();
            for number in 0..count {
                let address = increment as *const () as u64;
                jit.define(&format!("e{number}"), address).unwrap();
            }
            let _calls = jit.add(&object).unwrap();
            let called = jit.call("call_all", 1);
            if fits_into_a_block || name != "RuntimeDyld, blocks" {
                assert_eq!(called, Ok(1 + count as i32), "{name}");
                assert!(way.memory.take_failure().is_none(), "{name}");
                continue;
            }
            assert!(called.is_err(), "{name}");
            let failure = way.memory.take_failure();
            assert!(
                matches!(failure, Some(Error::ReservationExhausted { requested, .. }) if requested == 8 * count),
                "{name}: {failure:?}"
            );
        }
    }
}
