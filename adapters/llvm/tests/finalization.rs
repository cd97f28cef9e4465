//! What JITLink needs for a graph's finalization only: memory of its own, which goes when the graph's actions have run.
#![cfg(feature = "cxx")]

mod support;

use std::sync::{Mutex, PoisonError};

use nearcode_llvm::Memory;

use self::support::llvm::CODE_MODEL_SMALL;
use self::support::ways::{ForOrc, Way, orc_ways};
use self::support::{Jit, compile, ir, map};

/// What an action sees of itself while it runs.
struct Seen {
    /// Of the code and of the constant.
    addresses: [u64; 2],
    permissions: [Option<String>; 2],
    objects: usize,
    granted: usize,
    code: [u8; 4],
}

/// Whose action is going to run, and what it saw.
static WATCHED: Mutex<(Option<Memory>, Vec<Seen>)> = Mutex::new((None, Vec::new()));

extern "C" fn observe(code: u64, constant: u64) {
    let (memory, seen) = &mut *WATCHED.lock().unwrap();
    let stats = memory.as_ref().expect("somebody watches").stats();
    let addresses = [code, constant];
    seen.push(Seen {
        addresses,
        permissions: addresses.map(map::permissions),
        objects: stats.objects(),
        granted: stats.granted(),
        code: bytes_at(code),
    });
}

fn bytes_at(address: u64) -> [u8; 4] {
    // SAFETY: the test knows that something is mapped there.
    unsafe { (address as *const [u8; 4]).read_volatile() }
}

/// One test at a time watches.
fn watched<T>(way: &Way<ForOrc>, run: impl FnOnce(&Jit) -> T) -> (T, Vec<Seen>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    *WATCHED.lock().unwrap() = (Some(way.memory.clone()), Vec::new());
    let jit = way.jit().unwrap();
    jit.prepare();
    jit.define("observe", observe as *const () as u64).unwrap();
    let result = run(&jit);
    let (_, seen) = std::mem::take(&mut *WATCHED.lock().unwrap());
    (result, seen)
}

fn ways() -> Vec<Way<ForOrc>> {
    let mut ways = orc_ways();
    ways.retain(|way| way.name.starts_with("JITLink"));
    assert_eq!(ways.len(), 3);
    ways
}

#[test]
fn what_finalization_needs_goes_when_its_actions_have_run() {
    let object = compile(&ir::preparing(1), CODE_MODEL_SMALL);
    for way in ways() {
        let name = way.name;
        let ((), seen) = watched(&way, |jit| {
            let tracker = jit.add(&object).unwrap();
            assert_eq!(jit.call("read_answer", 1), Ok(43), "{name}");
            let stats = way.memory.stats();
            assert_eq!((stats.in_flight(), stats.objects()), (0, 1), "{name}");
            tracker.remove().unwrap();
            assert_eq!(way.memory.stats().objects(), 0, "{name}");
        });
        let [seen] = &seen[..] else {
            panic!("{name}: the action runs once, not {} times", seen.len());
        };
        assert_eq!(seen.objects, 2, "{name}: a reservation of its own");
        let [code, constant] = &seen.permissions;
        assert_eq!(code.as_deref(), Some("r-x"), "{name}");
        // Before LLVM 17, JITLink makes all data of ELF objects writable.
        let expected = if support::major() < 17 { "rw-" } else { "r--" };
        assert_eq!(constant.as_deref(), Some(expected), "{name}");
        assert!(seen.addresses.iter().all(|&at| way.contains(at)), "{name}");
    }
}

#[test]
fn what_finalization_needed_is_no_longer_there_afterwards() {
    let object = compile(&ir::preparing(1), CODE_MODEL_SMALL);
    for way in ways() {
        let name = way.name;
        watched(&way, |jit| {
            let _tracker = jit.add(&object).unwrap();
            assert_eq!(jit.call("read_answer", 0), Ok(42), "{name}");
            let granted = way.memory.stats().granted();
            let (_, seen) = &*WATCHED.lock().unwrap();
            let seen = &seen[0];
            assert!(granted < seen.granted, "{name}: {granted}");
            match way.window {
                Some(_) => assert_ne!(bytes_at(seen.addresses[0]), seen.code, "{name}"),
                // Another thread may have got something there meanwhile, but no code.
                None => {
                    let now = map::permissions(seen.addresses[0]);
                    assert_ne!(now.as_deref(), Some("r-x"), "{name}");
                }
            }
        });
    }
}

#[test]
fn an_action_that_fails_leaves_nothing_behind() {
    let object = compile(&ir::preparing(0), CODE_MODEL_SMALL);
    for way in ways() {
        let name = way.name;
        let ((), seen) = watched(&way, |jit| {
            let _tracker = jit.add(&object).unwrap();
            assert!(jit.address("read_answer").is_err(), "{name}");
            let stats = way.memory.stats();
            assert_eq!((stats.in_flight(), stats.objects()), (0, 0), "{name}");
        });
        assert_eq!(seen.len(), 1, "{name}");
    }
}

#[test]
fn many_graphs_leave_nothing_of_their_finalization_behind() {
    let object = compile(&ir::preparing(1), CODE_MODEL_SMALL);
    for way in ways() {
        let name = way.name;
        let (granted, seen) = watched(&way, |jit| {
            let granted = (0..50).map(|_| {
                let tracker = jit.add(&object).unwrap();
                assert_eq!(jit.call("read_answer", 0), Ok(42), "{name}");
                let granted = way.memory.stats().granted();
                tracker.remove().unwrap();
                granted
            });
            granted.collect::<Vec<_>>()
        });
        assert_eq!(seen.len(), 50, "{name}");
        assert!(
            granted.iter().all(|&each| each == granted[0]),
            "{granted:?}"
        );
    }
}
