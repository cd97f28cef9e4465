//! Compiles small modules, calls each once, and drops it before the next one comes, or keeps it.
//!
//! `cargo bench -p nearcode-cranelift --bench modules -- MODE COUNT [bytes]` prints one line:
//! `MODE COUNT ns/module pss-bytes/module mappings`, where memory and mappings are what has come and is there at the end. With
//! `bytes` the machine code is compiled once, and each module gets a copy: what is left is mostly the memory's cost.
//!
//! | mode | whose memory | each module |
//! |---|---|---|
//! | `window` | `WindowMemoryProvider` | is dropped |
//! | `window-live` | the same | stays alive |
//! | `system` | cranelift's `SystemMemoryProvider`, its default | is dropped, its memory stays |
//! | `system-free` | the same | is ended with `free_memory` |
//! | `arena` | cranelift's `ArenaMemoryProvider` of three pages | is dropped, its memory stays |
//! | `arena-free` | the same | is ended with `free_memory` |
//!
//! A module is a function that calls another, which reads a table and counts in a variable: some 100 bytes of code, 64 of
//! constants, 8 of variables. A failure ends the run with the module's number.

#[path = "../../../benches/process/mod.rs"]
mod process;

use std::collections::HashMap;
use std::fmt::Display;
use std::mem;
use std::process::exit;
use std::time::Instant;

use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{
    ArenaMemoryProvider, JITBuilder, JITMemoryProvider, JITModule, SystemMemoryProvider,
};
use cranelift_module::{
    DataDescription, FuncId, Linkage, Module, ModuleReloc, ModuleResult, default_libcall_names,
};
use nearcode_cranelift::WindowMemoryProvider;
use nearcode_cranelift::nearcode::{Window, WindowOptions, Writing};

use self::process::{arguments, mappings, pss};

/// Ends the process where a module fails.
fn or_end<T, E: Display>(result: Result<T, E>, number: usize) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("module {number}: {error}");
        exit(1)
    })
}

fn isa() -> OwnedTargetIsa {
    let mut flags = settings::builder();
    // As `JITBuilder::new` sets them.
    for flag in ["use_colocated_libcalls", "is_pic"] {
        or_end(flags.set(flag, "false"), 0);
    }
    let isa = or_end(cranelift_native::builder(), 0);
    or_end(isa.finish(settings::Flags::new(flags)), 0)
}

type Provider = Box<dyn JITMemoryProvider + Send>;

/// Machine code, and what it is to be linked with.
struct Compiled {
    code: Vec<u8>,
    relocations: Vec<ModuleReloc>,
}

/// Makes modules.
struct Compiler {
    context: Context,
    functions: FunctionBuilderContext,
    /// By their number in a module, where they are compiled once for all.
    compiled: Option<HashMap<FuncId, Compiled>>,
}

impl Compiler {
    /// Fills a module, and returns its entry: what it gets plus 40, plus how often it was called.
    fn fill(&mut self, module: &mut JITModule) -> ModuleResult<FuncId> {
        let mut signature = module.make_signature();
        signature.params.push(AbiParam::new(types::I64));
        signature.returns.push(AbiParam::new(types::I64));
        let inner = module.declare_function("inner", Linkage::Local, &signature)?;
        let entry = module.declare_function("entry", Linkage::Export, &signature)?;
        let table = module.declare_data("table", Linkage::Local, false, false)?;
        let counter = module.declare_data("counter", Linkage::Local, true, false)?;
        let mut data = DataDescription::new();
        data.define([40, 0, 0, 0, 0, 0, 0, 0].repeat(8).into());
        data.set_align(8);
        module.define_data(table, &data)?;
        data.clear();
        data.define_zeroinit(8);
        module.define_data(counter, &data)?;
        self.function(module, inner, &signature, |builder, module, parameter| {
            let flags = MemFlagsData::new();
            let table = module.declare_data_in_func(table, builder.func);
            let table = builder.ins().symbol_value(types::I64, table);
            let constant = builder.ins().load(types::I64, flags, table, 24);
            let counter = module.declare_data_in_func(counter, builder.func);
            let counter = builder.ins().symbol_value(types::I64, counter);
            let count = builder.ins().load(types::I64, flags, counter, 0);
            let count = builder.ins().iadd_imm_s(count, 1);
            builder.ins().store(flags, count, counter, 0);
            let sum = builder.ins().iadd(constant, count);
            builder.ins().iadd(sum, parameter)
        })?;
        self.function(module, entry, &signature, |builder, module, parameter| {
            let inner = module.declare_func_in_func(inner, builder.func);
            let call = builder.ins().call(inner, &[parameter]);
            builder.inst_results(call)[0]
        })?;
        Ok(entry)
    }

    fn function(
        &mut self,
        module: &mut JITModule,
        id: FuncId,
        signature: &Signature,
        body: impl FnOnce(&mut FunctionBuilder, &mut JITModule, Value) -> Value,
    ) -> ModuleResult<()> {
        let known = self.compiled.as_ref().and_then(|all| all.get(&id));
        if let Some(Compiled { code, relocations }) = known {
            return module.define_function_bytes(id, 1, code, relocations);
        }
        self.context.func.signature = signature.clone();
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.functions);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let parameter = builder.block_params(block)[0];
        let result = body(&mut builder, module, parameter);
        builder.ins().return_(&[result]);
        builder.seal_all_blocks();
        builder.finalize(module.target_config());
        module.define_function(id, &mut self.context)?;
        if let (Some(all), Some(made)) = (&mut self.compiled, self.context.compiled_code()) {
            let relocations = made.buffer.relocs().iter();
            let function = &self.context.func;
            let relocations =
                relocations.map(|one| ModuleReloc::from_mach_reloc(one, function, id));
            let compiled = Compiled {
                relocations: relocations.collect(),
                code: made.code_buffer().to_vec(),
            };
            all.insert(id, compiled);
        }
        module.clear_context(&mut self.context);
        Ok(())
    }
}

/// What becomes of a module when it was called.
#[derive(Clone, Copy)]
enum End {
    Kept,
    Dropped,
    Freed,
}

fn main() {
    let arguments = arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mode, count, compiled) = match arguments[..] {
        [mode, count] => (mode, count, None),
        [mode, count, "bytes"] => (mode, count, Some(HashMap::new())),
        _ => {
            eprintln!("usage: modules MODE COUNT [bytes]");
            exit(2);
        }
    };
    let count: usize = or_end(count.parse(), 0);
    let options = WindowOptions::new().with_writing(Writing::SameAddress);
    let window = or_end(Window::with_options(&options), 0);
    let ours = || Box::new(or_end(WindowMemoryProvider::new(&window), 0)) as Provider;
    let system = || Box::new(SystemMemoryProvider::new()) as Provider;
    let size = 3 * region::page::size();
    let arena = || Box::new(or_end(ArenaMemoryProvider::new_with_size(size), 0)) as Provider;
    let (provider, end): (&dyn Fn() -> Provider, End) = match mode {
        "window" => (&ours, End::Dropped),
        "window-live" => (&ours, End::Kept),
        "system" => (&system, End::Dropped),
        "system-free" => (&system, End::Freed),
        "arena" => (&arena, End::Dropped),
        "arena-free" => (&arena, End::Freed),
        _ => or_end(Err("no such mode"), 0),
    };

    let isa = isa();
    let mut compiler = Compiler {
        context: Context::new(),
        functions: FunctionBuilderContext::new(),
        compiled,
    };
    let mut kept = Vec::new();
    let mut run = |number| {
        let mut builder = JITBuilder::with_isa(isa.clone(), default_libcall_names());
        builder.memory_provider(provider());
        let mut module = JITModule::new(builder);
        let entry = or_end(compiler.fill(&mut module), number);
        or_end(module.finalize_definitions(), number);
        let entry = module.get_finalized_function(entry);
        // SAFETY: it is declared so, and the module is there.
        let entry: extern "C" fn(i64) -> i64 = unsafe { mem::transmute(entry) };
        assert_eq!(entry(number as i64), number as i64 + 41);
        match end {
            End::Kept => kept.push(module),
            End::Dropped => drop(module),
            // SAFETY: nothing of it is called any more.
            End::Freed => unsafe { module.free_memory() },
        }
    };
    (0..10).for_each(&mut run); // Warms up.
    let (memory, maps) = (pss(), mappings());
    let start = Instant::now();
    (0..count).for_each(&mut run);
    let time = start.elapsed().as_nanos() as f64 / count as f64;
    let memory = (pss() as f64 - memory as f64) / count as f64;
    let maps = mappings() as i64 - maps as i64;
    println!("{mode} {count} {time:.0} {memory:.0} {maps}");
    exit(0); // The system is quicker at it.
}
