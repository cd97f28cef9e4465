//! inkwell's MCJIT over a window: one line of `main` is different, and the 30 above it say how.

use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::memory_manager::McjitMemoryManager;
use inkwell::targets::CodeModel;
use nearcode_llvm::Memory;
use nearcode_llvm::callbacks::Sections;
use nearcode_llvm::nearcode::{SectionKind, Window, WindowOptions, Writing};

/// What inkwell passes on, in this crate's words.
#[derive(Debug)]
struct InWindow(Sections);

impl McjitMemoryManager for InWindow {
    fn allocate_code_section(&mut self, size: usize, align: u32, _: u32, name: &str) -> *mut u8 {
        self.0.allocate(SectionKind::Code, size, align, name)
    }

    fn allocate_data_section(
        &mut self,
        size: usize,
        align: u32,
        _: u32,
        name: &str,
        is_read_only: bool,
    ) -> *mut u8 {
        let kind = match is_read_only {
            true => SectionKind::ReadOnlyData,
            false => SectionKind::ReadWriteData,
        };
        self.0.allocate(kind, size, align, name)
    }

    fn finalize_memory(&mut self) -> Result<(), String> {
        self.0.finalize()
    }

    fn destroy(&mut self) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One window for all engines.
    let window = Window::with_options(&WindowOptions::new().with_writing(Writing::SameAddress))?;
    let memory = Memory::in_window(&window);

    let context = Context::create();
    let module = context.create_module("sum");
    let i64_type = context.i64_type();
    let sum = module.add_function(
        "sum",
        i64_type.fn_type(&[i64_type.into(), i64_type.into()], false),
        None,
    );
    let builder = context.create_builder();
    builder.position_at_end(context.append_basic_block(sum, "entry"));
    let [a, b] = [0, 1].map(|number| sum.get_nth_param(number).expect("two").into_int_value());
    builder.build_return(Some(&builder.build_int_add(a, b, "sum")?))?;

    // In place of `module.create_jit_execution_engine(OptimizationLevel::Default)?`:
    let engine = module.create_mcjit_execution_engine_with_memory_manager(
        InWindow(Sections::new(&memory)?),
        OptimizationLevel::Default,
        CodeModel::JITDefault,
        false,
        false,
    )?;

    // SAFETY: the function is of this type, and the engine is alive.
    let sum = unsafe { engine.get_function::<unsafe extern "C" fn(u64, u64) -> u64>("sum")? };
    // inkwell drops what MCJIT drops: ask the memory before calling.
    if let Some(failure) = memory.take_failure() {
        return Err(failure.into());
    }
    // SAFETY: it takes any numbers.
    assert_eq!(unsafe { sum.call(20, 22) }, 42);
    println!(
        "42, by one of {} objects in {window:?}",
        window.stats().objects()
    );
    Ok(())
}
