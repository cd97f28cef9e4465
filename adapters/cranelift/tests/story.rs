//! An address space without luck: what is mapped next lands more than 4 GiB from the rest. Modules refer to data and to each
//! other there as everywhere, where cranelift's own provider cannot.
#![cfg(target_os = "linux")]

#[path = "../../../tests/support/child.rs"]
mod child;
#[path = "../../../tests/support/scattered.rs"]
mod scattered;
#[path = "support/mod.rs"]
mod support;

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, types};
use cranelift_jit::SystemMemoryProvider;
use cranelift_module::{DataDescription, Linkage, Module};
use support::{Jit, Unary, call, nearby, window};

/// A function that adds a constant of its module to what it gets.
fn add_constant(jit: &mut Jit, number: i64) -> *const u8 {
    let name = format!("constant{number}");
    let constant = jit.module.declare_data(&name, Linkage::Local, false, false);
    let constant = constant.unwrap();
    let mut data = DataDescription::new();
    data.define(number.to_le_bytes().into());
    data.set_align(8);
    jit.module.define_data(constant, &data).unwrap();
    let id = jit.declare(&format!("add{number}"), Linkage::Export, 1);
    jit.define(id, |builder, module, parameters| {
        let constant = module.declare_data_in_func(constant, builder.func);
        let constant = builder.ins().symbol_value(types::I64, constant);
        let flags = MemFlagsData::new();
        let number = builder.ins().load(types::I64, flags, constant, 0);
        builder.ins().iadd(parameters[0], number)
    })
    .unwrap();
    jit.module.finalize_definitions().unwrap();
    jit.module.get_finalized_function(id)
}

fn run(pointer: *const u8) -> i64 {
    // SAFETY: it is what `add_constant` or the test made, and its module is alive.
    let function: Unary = unsafe { std::mem::transmute(pointer) };
    function(1)
}

fn in_a_window() {
    let window = window();
    // What tests, compiler and C library set up at the first use.
    let (mut jit, _first) = Jit::in_window(&window);
    assert_eq!(run(add_constant(&mut jit, 1)), 2);
    scattered::scatter(1);
    let mut callees = Vec::new();
    for number in 2..100 {
        let callee = add_constant(&mut jit, number);
        assert_eq!(run(callee), 1 + number);
        let (mut other, _memory) = Jit::in_window_with(&window, &[("callee", callee)]);
        let declared = other.declare("callee", Linkage::Import, 1);
        let caller = other.declare("caller", Linkage::Export, 1);
        other
            .define(caller, |builder, module, parameters| {
                let callee = nearby(builder, module, declared);
                call(builder, callee, parameters)
            })
            .unwrap();
        other.module.finalize_definitions().unwrap();
        assert_eq!(run(other.module.get_finalized_function(caller)), 1 + number);
        callees.push(other);
    }
    println!("reached the end");
}

fn over_cranelifts_own() {
    let mut jit = Jit::over(SystemMemoryProvider::new());
    // Where there is no memory to be had, nobody should look for names for a backtrace.
    std::panic::set_hook(Box::new(|panic| {
        println!("ended by {panic}");
        std::process::exit(0);
    }));
    scattered::scatter(1);
    for number in 2..100 {
        assert_eq!(run(add_constant(&mut jit, number)), 1 + number);
    }
    println!("reached the end");
}

/// What a process of its own writes.
fn ending(test: &str) -> (String, String) {
    let output = child::in_a_child(test, "child");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn modules_of_a_window_reach_each_other_and_their_data() {
    if child::argument().is_some() {
        return in_a_window();
    }
    let (stdout, stderr) = ending("modules_of_a_window_reach_each_other_and_their_data");
    assert!(stdout.contains("reached the end"), "{stdout}{stderr}");
}

#[test]
fn cranelifts_own_provider_ends_the_program() {
    if child::argument().is_some() {
        return over_cranelifts_own();
    }
    let (stdout, stderr) = ending("cranelifts_own_provider_ends_the_program");
    // Of a distance that is no `i32`.
    let ended = stdout.contains("ended by") && stdout.contains("TryFromIntError");
    assert!(ended, "{stdout}{stderr}");
}
