//! Thousands of modules in one process, which must not be seen in its memory or its kernel mappings.
#![cfg(target_os = "linux")]

#[path = "../../../tests/support/child.rs"]
mod child;
#[path = "support/mod.rs"]
mod support;

use std::fs;

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, types};
use cranelift_module::{DataDescription, Linkage, Module};
use nearcode_cranelift::Function;
use support::{Jit, Unary, assert_empty, call, nearby, window};

/// Each with three kinds of memory.
const MODULES: i64 = 3000;
/// Where an emulator translates every one of them anew.
const EMULATED: i64 = 500;
const LIVE: usize = 50;

fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines() {
        let permissions = line.split_whitespace().nth(1).unwrap();
        assert!(!permissions.contains("wx"), "{line}");
    }
    maps.lines().count()
}

/// What is resident, in bytes. (`/proc/self/statm`: the second number, in pages.)
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split(' ').nth(1).unwrap();
    pages.parse::<usize>().unwrap() * region::page::size()
}

/// Modules with code, constants and variables, which call a function of another one. Of these the oldest goes at times, the
/// newest at others.
fn come_and_go() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let shared = jit.adder(&memory, "shared", 1000);
    let symbols = [("shared", *shared as *const u8)];
    let mut live: Vec<(i64, Function<Unary>)> = Vec::new();
    let (mut after_warming_up, mut most) = (None, (0, 0));
    let modules = if child::is_emulated() {
        EMULATED
    } else {
        MODULES
    };
    for number in 0..modules {
        let (mut jit, memory) = Jit::in_window_with(&window, &symbols);
        let mut datum = |name, writable: bool| {
            let module = &mut jit.module;
            let id = module
                .declare_data(name, Linkage::Local, writable, false)
                .unwrap();
            let mut data = DataDescription::new();
            data.define(number.to_le_bytes().repeat(10).into());
            data.set_align(8);
            module.define_data(id, &data).unwrap();
            id
        };
        let data = [datum("constant", false), datum("variable", true)];
        let callee = jit.declare("shared", Linkage::Import, 1);
        let id = jit.declare("entry", Linkage::Export, 1);
        jit.define(id, |builder, module, parameters| {
            let mut sum = parameters[0];
            for datum in data {
                let datum = module.declare_data_in_func(datum, builder.func);
                let datum = builder.ins().symbol_value(types::I64, datum);
                let flags = MemFlagsData::new();
                let value = builder.ins().load(types::I64, flags, datum, 72);
                sum = builder.ins().iadd(sum, value);
            }
            let callee = nearby(builder, module, callee);
            call(builder, callee, &[sum])
        })
        .unwrap();
        jit.module.finalize_definitions().unwrap();
        live.push((number, jit.unary(&memory, id)));
        if live.len() > LIVE {
            let goes = if number % 3 == 0 { 0 } else { live.len() - 2 };
            let (number, function) = live.remove(goes);
            assert_eq!(function(1), 1 + 2 * number + 1000);
        }
        if number % 100 == 99 {
            let now = (mappings(), resident());
            after_warming_up.get_or_insert(now);
            most = (most.0.max(now.0), most.1.max(now.1));
        }
    }
    for (number, function) in &live {
        assert_eq!(function(2), 2 + 2 * number + 1000);
    }
    let before = after_warming_up.unwrap();
    println!("mappings and resident bytes: {before:?}, at most {most:?}");
    // An emulator makes the map up by itself, and its memory grows with what it translates.
    if !child::is_emulated() {
        assert!(most.0 <= before.0 + 8, "{} > {}", most.0, before.0);
        assert!(most.1 <= before.1 + (4 << 20), "{} > {}", most.1, before.1);
    }
    let stats = window.stats();
    assert!(
        stats.objects() == 1 + LIVE && stats.committed() < 4 << 20,
        "{stats:?}"
    );
    drop((live, jit, memory, shared));
    assert_empty(&window);
}

#[test]
fn modules_that_come_and_go_leave_nothing_behind() {
    let test = "modules_that_come_and_go_leave_nothing_behind";
    if child::argument().is_some() {
        return come_and_go();
    }
    // In a process of its own: nobody else maps anything meanwhile.
    let output = child::in_a_child(test, "child");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}
