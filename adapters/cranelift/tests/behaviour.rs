//! What embedders do with cranelift-jit, in a window.

#[path = "support/mod.rs"]
mod support;

use std::thread;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData, types};
use cranelift_module::{DataDescription, Linkage, Module};
use nearcode_cranelift::{Function, WindowMemoryProvider};
use region::Protection;
use support::{Jit, Unary, assert_empty, call, nearby, window};

fn protection<T>(pointer: *const T) -> Protection {
    region::query(pointer).unwrap().protection()
}

#[test]
fn functions_of_a_module_call_each_other() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    // Each calls the other with one less, so the first is defined before the second has an address.
    let names = ["is_even", "is_odd"];
    let ids = names.map(|name| jit.declare(name, Linkage::Export, 1));
    for (this, other, at_zero) in [(ids[0], ids[1], 1), (ids[1], ids[0], 0)] {
        jit.define(this, |builder, module, parameters| {
            let [ends, goes_on, done] = [(); 3].map(|()| builder.create_block());
            builder.append_block_param(done, types::I64);
            let is_zero = builder.ins().icmp_imm_s(IntCC::Equal, parameters[0], 0);
            builder.ins().brif(is_zero, ends, &[], goes_on, &[]);
            builder.switch_to_block(ends);
            let result = builder.ins().iconst(types::I64, at_zero);
            builder.ins().jump(done, &[BlockArg::Value(result)]);
            builder.switch_to_block(goes_on);
            let other = module.declare_func_in_func(other, builder.func);
            let less = builder.ins().iadd_imm_s(parameters[0], -1);
            let result = call(builder, other, &[less]);
            builder.ins().jump(done, &[BlockArg::Value(result)]);
            builder.switch_to_block(done);
            builder.block_params(done)[0]
        })
        .unwrap();
    }
    jit.module.finalize_definitions().unwrap();
    let [is_even, is_odd] = ids.map(|id| jit.unary(&memory, id));
    assert_eq!(
        [is_even(10), is_even(7), is_odd(7), is_odd(0)],
        [1, 0, 1, 0]
    );
}

#[test]
fn data_refers_to_functions_and_data_and_code_to_all_of_it() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let adders = [100, 200].map(|number| jit.define_adder(&format!("add{number}"), number));
    let mut declare = |name, writable| {
        let declared = jit
            .module
            .declare_data(name, Linkage::Local, writable, false);
        declared.unwrap()
    };
    let (counter, pointer) = (declare("counter", true), declare("pointer", true));
    let table = declare("table", false);
    let mut data = DataDescription::new();
    data.define_zeroinit(8);
    jit.module.define_data(counter, &data).unwrap();
    // A variable with the address of another, and a constant with those of functions.
    let mut data = DataDescription::new();
    data.define_zeroinit(8);
    let target = jit.module.declare_data_in_data(counter, &mut data);
    data.write_data_addr(0, target, 0);
    jit.module.define_data(pointer, &data).unwrap();
    let mut data = DataDescription::new();
    data.define(vec![0; 16].into());
    data.set_align(8);
    for (place, adder) in [0, 8].into_iter().zip(adders) {
        let target = jit.module.declare_func_in_data(adder, &mut data);
        data.write_function_addr(place, target);
    }
    jit.module.define_data(table, &data).unwrap();

    // Calls both functions of the table, and counts, through the pointer, how often it was called.
    let id = jit.declare("both", Linkage::Export, 1);
    let signature = jit.signature(1);
    jit.define(id, |builder, module, parameters| {
        let flags = MemFlagsData::new();
        let signature = builder.import_signature(signature);
        let table = module.declare_data_in_func(table, builder.func);
        let table = builder.ins().symbol_value(types::I64, table);
        let mut value = parameters[0];
        for place in [0, 8] {
            let adder = builder.ins().load(types::I64, flags, table, place);
            let call = builder.ins().call_indirect(signature, adder, &[value]);
            value = builder.inst_results(call)[0];
        }
        let pointer = module.declare_data_in_func(pointer, builder.func);
        let pointer = builder.ins().symbol_value(types::I64, pointer);
        let counter = builder.ins().load(types::I64, flags, pointer, 0);
        let count = builder.ins().load(types::I64, flags, counter, 0);
        let count = builder.ins().iadd_imm_s(count, 1);
        builder.ins().store(flags, count, counter, 0);
        value
    })
    .unwrap();
    let before = window.stats();
    assert_eq!((before.in_flight(), before.objects()), (1, 0));
    jit.module.finalize_definitions().unwrap();

    let both = jit.unary(&memory, id);
    assert_eq!([both(1), both(2)], [301, 302]);
    let (counter, size) = jit.module.get_finalized_data(counter);
    // SAFETY: the variable is there as long as the module is.
    let count = unsafe { counter.cast::<i64>().read() };
    assert_eq!((count, size), (2, 8));
    // The kernel's own word for who may do what.
    assert_eq!(protection(counter), Protection::READ_WRITE);
    let (table, _) = jit.module.get_finalized_data(table);
    assert_eq!(protection(table), Protection::READ);
    let code = jit.module.get_finalized_function(id);
    assert_eq!(protection(code), Protection::READ_EXECUTE);
}

#[test]
fn a_module_calls_into_another_by_address_and_directly() {
    let window = window();
    let (mut first, callee) = Jit::in_window(&window);
    let add = first.adder(&callee, "add", 40);
    let symbols = [("add", *add as *const u8)];
    let (mut second, caller) = Jit::in_window_with(&window, &symbols);
    let add = second.declare("add", Linkage::Import, 1);
    let ids = ["by_address", "directly"].map(|name| second.declare(name, Linkage::Export, 1));
    for id in ids {
        second
            .define(id, |builder, module, parameters| {
                let add = if id == ids[0] {
                    module.declare_func_in_func(add, builder.func)
                } else {
                    nearby(builder, module, add)
                };
                call(builder, add, parameters)
            })
            .unwrap();
    }
    second.module.finalize_definitions().unwrap();
    let functions = ids.map(|id| second.unary(&caller, id));
    assert_eq!(functions.each_ref().map(|function| function(2)), [42, 42]);
    // The callee's compiler goes; its memory is kept.
    drop(first);
    assert_eq!(functions.each_ref().map(|function| function(3)), [43, 43]);
}

#[test]
fn a_module_goes_on_after_each_of_many_finalizations() {
    const ROUNDS: i64 = 300;
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let mut functions: Vec<Function<Unary>> = Vec::new();
    let mut previous = jit.define_adder("f0", 1);
    for round in 1..=ROUNDS {
        // Of what is finalized, and of what is not.
        let id = jit.declare(&format!("f{round}"), Linkage::Export, 1);
        jit.define(id, |builder, module, parameters| {
            let previous = module.declare_func_in_func(previous, builder.func);
            let value = call(builder, previous, parameters);
            builder.ins().iadd_imm_s(value, 1)
        })
        .unwrap();
        jit.module.finalize_definitions().unwrap();
        functions.push(jit.unary(&memory, id));
        previous = id;
    }
    jit.module.finalize_definitions().expect("nothing to do");
    for (round, function) in (1..).zip(&functions) {
        assert_eq!(function(1000), 1000 + round + 1);
    }
    assert_eq!(window.stats().objects(), ROUNDS as usize);
    drop(functions);
    drop(memory);
    drop(jit);
    assert_empty(&window);
}

#[test]
fn library_calls_reach_the_c_library() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let signature = jit.signature(1);
    let strlen = jit
        .module
        .declare_function("strlen", Linkage::Import, &signature)
        .unwrap();
    let text = jit
        .module
        .declare_data("text", Linkage::Local, true, false)
        .unwrap();
    let mut data = DataDescription::new();
    data.define_zeroinit(2000);
    jit.module.define_data(text, &data).unwrap();
    let id = jit.declare("filled", Linkage::Export, 0);
    jit.define(id, |builder, module, _| {
        let text = module.declare_data_in_func(text, builder.func);
        let text = builder.ins().symbol_value(types::I64, text);
        let letter = builder.ins().iconst(types::I8, i64::from(b'x'));
        let size = builder.ins().iconst(types::I64, 1234);
        builder.call_memset(module.target_config(), text, letter, size); // ir::LibCall::Memset
        let strlen = module.declare_func_in_func(strlen, builder.func);
        call(builder, strlen, &[text])
    })
    .unwrap();
    jit.module.finalize_definitions().unwrap();
    assert_eq!(jit.nullary(&memory, id)(), 1234);
}

#[test]
fn the_memory_of_a_module_goes_with_the_module() {
    let window = window();
    let (mut kept, memory) = Jit::in_window(&window);
    let keeps = kept.adder(&memory, "keeps", 7);
    for number in 0..10 {
        let provider = WindowMemoryProvider::new(&window).unwrap();
        let mut jit = Jit::over(provider);
        jit.define_adder("finalized", number);
        jit.module.finalize_definitions().unwrap();
        jit.define_adder("in_flight", number);
        let stats = window.stats();
        assert_eq!((stats.objects(), stats.in_flight()), (2, 1));
        drop(jit);
        let stats = window.stats();
        assert_eq!((stats.objects(), stats.in_flight()), (1, 0));
    }
    assert_eq!(keeps(1), 8);
}

#[test]
fn memory_that_is_kept_outlives_the_module() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let add = jit.adder(&memory, "add", 5);
    drop(memory);
    jit.define_adder("in_flight", 6);
    drop(jit);
    let stats = window.stats();
    assert_eq!((stats.objects(), stats.in_flight()), (1, 0));
    let clone = add.clone();
    let elsewhere = thread::spawn(move || clone(1)).join().unwrap();
    assert_eq!((elsewhere, add(2)), (6, 7));
    drop(add);
    assert_empty(&window);
}

#[test]
fn free_memory_is_complete() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let add = jit.adder(&memory, "add", 5);
    assert_eq!(add(1), 6);
    jit.define_adder("in_flight", 6);
    // SAFETY: nothing of the module is called from here on.
    unsafe { jit.module.free_memory() };
    assert_empty(&window);
    drop(add);
    assert_empty(&window);
}

#[test]
fn modules_of_many_threads_share_a_window_and_call_each_others_functions() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let shared = jit.adder(&memory, "shared", 1);
    let work = |thread: i64| {
        let mut functions = vec![shared.clone()];
        for _ in 0..50 {
            let last = functions.last().expect("the shared one");
            let symbols = [("last", **last as *const u8)];
            let (mut jit, memory) = Jit::in_window_with(&window, &symbols);
            let callee = jit.declare("last", Linkage::Import, 1);
            let id = jit.declare("next", Linkage::Export, 1);
            jit.define(id, |builder, module, parameters| {
                let callee = nearby(builder, module, callee);
                let value = call(builder, callee, parameters);
                builder.ins().iadd_imm_s(value, thread)
            })
            .unwrap();
            jit.module.finalize_definitions().unwrap();
            functions.push(jit.unary(&memory, id));
        }
        for (number, function) in (0..).zip(&functions) {
            assert_eq!(function(10), 11 + thread * number);
        }
        // Whoever calls another goes first.
        while functions.pop().is_some() {}
    };
    thread::scope(|scope| {
        for thread in 1..=4 {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
    assert_eq!(shared(1), 2);
    drop((jit, memory, shared));
    assert_empty(&window);
}
