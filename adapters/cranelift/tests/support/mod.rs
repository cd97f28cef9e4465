//! What the tests share: small windows, and a compiler of functions from numbers to a number.
#![allow(dead_code)] // Each test crate uses its own part.

use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, FuncRef, InstBuilder, Signature, Value, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITMemoryProvider, JITModule};
use cranelift_module::{FuncId, Linkage, Module, ModuleResult, default_libcall_names};
use nearcode_cranelift::nearcode::{Window, WindowOptions, Writing};
use nearcode_cranelift::{Function, ModuleMemory, WindowMemoryProvider};

pub type Nullary = extern "C" fn() -> i64;
pub type Unary = extern "C" fn(i64) -> i64;

pub fn options() -> WindowOptions {
    let options = WindowOptions::new().with_writing(Writing::SameAddress);
    options.with_size(32 << 20).with_code(8 << 20)
}

/// 32 MiB, 8 MiB of them for code.
pub fn window() -> Window {
    Window::with_options(&options()).unwrap()
}

/// Nothing of it is in use.
#[track_caller]
pub fn assert_empty(window: &Window) {
    let stats = window.stats();
    let used = (stats.asked(), stats.granted());
    assert_eq!(used, (0, 0), "{stats:?}");
    assert_eq!((stats.in_flight(), stats.objects()), (0, 0), "{stats:?}");
}

/// A module, and what it takes to add to it.
pub struct Jit {
    pub module: JITModule,
    context: Context,
    functions: FunctionBuilderContext,
}

impl Jit {
    pub fn with(builder: JITBuilder) -> Self {
        let module = JITModule::new(builder);
        Self {
            context: module.make_context(),
            module,
            functions: FunctionBuilderContext::new(),
        }
    }

    pub fn over(provider: impl JITMemoryProvider + Send + 'static) -> Self {
        let mut builder = builder();
        builder.memory_provider(Box::new(provider));
        Self::with(builder)
    }

    /// One that calls what is at these addresses, by name.
    pub fn in_window_with(window: &Window, symbols: &[(&str, *const u8)]) -> (Self, ModuleMemory) {
        let provider = WindowMemoryProvider::new(window).unwrap();
        let memory = provider.memory();
        let mut builder = builder();
        builder.memory_provider(Box::new(provider));
        builder.symbols(symbols.iter().copied());
        (Self::with(builder), memory)
    }

    pub fn in_window(window: &Window) -> (Self, ModuleMemory) {
        Self::in_window_with(window, &[])
    }

    /// From so many numbers to one.
    pub fn signature(&self, parameters: usize) -> Signature {
        let mut signature = self.module.make_signature();
        signature.params = vec![AbiParam::new(types::I64); parameters];
        signature.returns = vec![AbiParam::new(types::I64)];
        signature
    }

    pub fn declare(&mut self, name: &str, linkage: Linkage, parameters: usize) -> FuncId {
        let signature = self.signature(parameters);
        self.module
            .declare_function(name, linkage, &signature)
            .unwrap()
    }

    pub fn define(
        &mut self,
        id: FuncId,
        body: impl FnOnce(&mut FunctionBuilder, &mut JITModule, &[Value]) -> Value,
    ) -> ModuleResult<()> {
        let declarations = self.module.declarations();
        let signature = declarations.get_function_decl(id).signature.clone();
        self.context.func.signature = signature;
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.functions);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let parameters = builder.block_params(block).to_vec();
        let result = body(&mut builder, &mut self.module, &parameters);
        builder.ins().return_(&[result]);
        builder.seal_all_blocks();
        builder.finalize(self.module.target_config());
        let defined = self.module.define_function(id, &mut self.context);
        self.module.clear_context(&mut self.context);
        defined
    }

    /// A function that adds a number to its parameter.
    pub fn define_adder(&mut self, name: &str, number: i64) -> FuncId {
        let id = self.declare(name, Linkage::Export, 1);
        self.define(id, |builder, _, parameters| {
            builder.ins().iadd_imm_s(parameters[0], number)
        })
        .unwrap();
        id
    }

    pub fn unary(&self, memory: &ModuleMemory, id: FuncId) -> Function<Unary> {
        // SAFETY: the tests declare what they define, and keep what that calls.
        unsafe { memory.function(self.module.get_finalized_function(id)) }.unwrap()
    }

    pub fn nullary(&self, memory: &ModuleMemory, id: FuncId) -> Function<Nullary> {
        // SAFETY: the tests declare what they define, and keep what that calls.
        unsafe { memory.function(self.module.get_finalized_function(id)) }.unwrap()
    }

    /// An adder, ready to be called.
    pub fn adder(&mut self, memory: &ModuleMemory, name: &str, number: i64) -> Function<Unary> {
        let id = self.define_adder(name, number);
        self.module.finalize_definitions().unwrap();
        self.unary(memory, id)
    }
}

pub fn builder() -> JITBuilder {
    JITBuilder::new(default_libcall_names()).unwrap()
}

/// What `callee` returns for these arguments.
pub fn call(builder: &mut FunctionBuilder, callee: FuncRef, arguments: &[Value]) -> Value {
    let call = builder.ins().call(callee, arguments);
    builder.inst_results(call)[0]
}

/// `callee` of another module, called without a detour: it has to be in reach.
pub fn nearby(builder: &mut FunctionBuilder, module: &mut JITModule, callee: FuncId) -> FuncRef {
    let callee = module.declare_func_in_func(callee, builder.func);
    builder.func.dfg.ext_funcs[callee].colocated = true;
    callee
}
