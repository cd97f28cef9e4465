//! One MCJIT and many modules, each compiled by LLVM, with a GOT, and calling an earlier one: what Numba does in a long session.
//!
//! `cargo run -p nearcode-llvm --release --example one_engine -- [MODULES] [llvm]`: 50,000 in a window, or with `llvm` as many as
//! LLVM's own memory manager gets, which ends the process where the kernel refuses the next mapping.

#[path = "../tests/support/mod.rs"]
mod support;

use std::env;
use std::ptr::null_mut;

use nearcode_llvm::nearcode::Window;
use nearcode_llvm::{Memory, rtdyld};

use self::support::llvm::CODE_MODEL_SMALL;
use self::support::{Engine, map};

/// Module number `n`: counts its calls, calls the C library, which is far away and reached through the GOT, and module `n / 2`.
fn module(number: usize) -> String {
    let next = number / 2;
    format!(
        "
@calls{number} = global i32 0
declare i32 @abs(i32)
declare i32 @f{next}(i32)

define i32 @f{number}(i32 %i) {{
  %old = load i32, ptr @calls{number}
  %new = add i32 %old, 1
  store i32 %new, ptr @calls{number}
  %positive = call i32 @abs(i32 %i)
  %more = add i32 %positive, 1
  %result = call i32 @f{next}(i32 %more)
  ret i32 %result
}}"
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let modules: usize = arguments.next().as_deref().unwrap_or("50000").parse()?;
    let is_llvms_own = arguments.next().is_some();

    let window = Window::new()?;
    let memory = Memory::in_window(&window);
    let manager = match is_llvms_own {
        true => null_mut(),
        false => rtdyld::mcjit_memory_manager(&memory)?,
    };
    let first = "define i32 @f0(i32 %i) { ret i32 %i }";
    let engine = Engine::new(first, manager, CODE_MODEL_SMALL);
    assert_eq!(engine.call("f0", 1), 1);
    let before = map::mappings();
    for number in 1..=modules {
        let added = engine.add(&module(number));
        let address = engine.address(&format!("f{number}"));
        if let Some(failure) = memory.take_failure() {
            return Err(format!("module {number}: {failure}").into());
        }
        let depth = number.ilog2() as i32 + 1;
        let called = engine.call(&format!("f{number}"), -7);
        assert_eq!(called, 7 + depth, "module {number} at {address:#x}");
        engine.forget(added);
        if number % 5000 == 0 || number == modules {
            let mappings = map::mappings().saturating_sub(before);
            let stats = memory.stats();
            println!(
                "{number} modules: {mappings} more mappings, {} bytes committed",
                stats.committed()
            );
        }
    }
    Ok(())
}
