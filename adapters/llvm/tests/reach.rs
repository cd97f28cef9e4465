//! The bug that this is for: in an address space without luck, LLVM's own memory manager puts code and its GOT further apart than
//! an instruction reaches, and LLVM runs on.
#![cfg(any(feature = "cxx", orc_callbacks))]

#[path = "../../../tests/support/scattered.rs"]
mod scattered;
mod support;

use std::ffi::{c_char, c_void};
use std::os::unix::process::ExitStatusExt;
use std::ptr::null_mut;

use self::support::llvm::*;
use self::support::ways::orc_ways;
use self::support::{Jit, Tracker, child, compile, ir};

const MODULES: usize = 40;

const SIGSEGV: i32 = 11;

fn modules() -> Vec<Vec<u8>> {
    let object = |number| compile(&ir::counting(number), CODE_MODEL_SMALL);
    (0..MODULES).map(object).collect()
}

/// Each of them is called when it is loaded, and once more at the end.
fn load(jit: &Jit, modules: &[Vec<u8>]) -> Vec<Tracker> {
    let mut trackers = Vec::new();
    for (number, object) in modules.iter().enumerate() {
        trackers.push(jit.add(object).unwrap());
        assert_eq!(jit.call(&format!("f{number}"), 1), Ok(number as i32 + 1));
    }
    for number in 0..modules.len() {
        assert_eq!(jit.call(&format!("f{number}"), 1), Ok(number as i32 + 2));
    }
    trackers
}

fn in_a_child(test: &str) -> std::process::Output {
    child::in_a_child(test, "child")
}

#[test]
fn every_module_reaches_its_got_wherever_the_system_maps() {
    if child::argument().is_none() {
        let output = in_a_child("every_module_reaches_its_got_wherever_the_system_maps");
        let said = String::from_utf8_lossy(&output.stderr);
        return assert!(output.status.success(), "{}\n{said}", output.status);
    }
    let modules = modules();
    let ways = orc_ways();
    let jits: Vec<Jit> = ways.iter().map(|way| way.jit().unwrap()).collect();
    scattered::scatter(4); // A block takes three pages.
    let mut trackers = Vec::new();
    for (way, jit) in ways.iter().zip(&jits) {
        eprintln!("{}", way.name);
        trackers.extend(load(jit, &modules));
        assert!(way.memory.take_failure().is_none());
    }
}

extern "C" fn llvms_own_layer(_: *mut c_void, session: Ref, _: *const c_char) -> Ref {
    // SAFETY: LLVM's session.
    unsafe { LLVMOrcCreateRTDyldObjectLinkingLayerWithSectionMemoryManager(session) }
}

#[test]
fn llvms_own_manager_does_not_reach() {
    if child::argument().is_none() {
        let output = in_a_child("llvms_own_manager_does_not_reach");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("all is compiled"), "{said}");
        return assert_eq!(output.status.signal(), Some(SIGSEGV), "{said}");
    }
    let modules = modules();
    let jit = Jit::new(|builder| {
        // SAFETY: the builder is LLVM's.
        unsafe {
            LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(builder, llvms_own_layer, null_mut());
        }
    });
    let jit = jit.unwrap();
    eprintln!("all is compiled");
    scattered::scatter(1);
    load(&jit, &modules);
}
