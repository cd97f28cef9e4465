//! Who keeps the code of a module: the module itself, and whoever may still run it.
//!
//! Law: finalized memory goes when the last of them has gone, or at once with [`JITModule::free_memory`].
//!
//! [`JITModule::free_memory`]: cranelift_jit::JITModule::free_memory
#![allow(unsafe_code)] // Turns addresses into functions.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, mem};

use nearcode::{Address, Image, SectionKind};

use crate::error::Error;

/// The finalized code and data of one module. Clones are the same memory, and each of them keeps it.
///
/// It outlives the module, whose tables need not be kept only because its code is. What the module finalizes later is part
/// of it as well.
///
/// ```
/// # use cranelift_codegen::ir::{AbiParam, InstBuilder, types};
/// # use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
/// # use cranelift_jit::{JITBuilder, JITModule};
/// # use cranelift_module::{Linkage, Module, default_libcall_names};
/// # use nearcode_cranelift::nearcode::{Window, WindowOptions, Writing};
/// use nearcode_cranelift::{Function, WindowMemoryProvider};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let window = Window::with_options(&WindowOptions::new().with_writing(Writing::SameAddress))?;
/// # let mut builder = JITBuilder::new(default_libcall_names())?;
/// let provider = WindowMemoryProvider::new(&window)?;
/// let memory = provider.memory();
/// builder.memory_provider(Box::new(provider));
/// # let mut module = JITModule::new(builder);
/// # let mut context = module.make_context();
/// # let mut functions = FunctionBuilderContext::new();
/// # let parameter = AbiParam::new(types::I32);
/// # context.func.signature.params = vec![parameter; 2];
/// # context.func.signature.returns = vec![parameter];
/// # let add = module.declare_function("add", Linkage::Export, &context.func.signature)?;
/// # let mut body = FunctionBuilder::new(&mut context.func, &mut functions);
/// # let block = body.create_block();
/// # body.append_block_params_for_function_params(block);
/// # body.switch_to_block(block);
/// # let (a, b) = (body.block_params(block)[0], body.block_params(block)[1]);
/// # let sum = body.ins().iadd(a, b);
/// # body.ins().return_(&[sum]);
/// # body.seal_all_blocks();
/// # body.finalize(module.target_config());
/// # module.define_function(add, &mut context)?;
/// // ... define functions, `module.finalize_definitions()?`, and then:
/// # module.finalize_definitions()?;
/// let add = module.get_finalized_function(add);
/// // SAFETY: it was declared as a function from two `i32` to one, and calls nobody.
/// let add: Function<extern "C" fn(i32, i32) -> i32> = unsafe { memory.function(add)? };
/// drop((module, memory));
/// assert_eq!(add(40, 2), 42); // The function keeps its code.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ModuleMemory(Arc<Mutex<Vec<Image>>>);

impl ModuleMemory {
    pub(crate) fn add(&self, image: Image) {
        self.images().push(image);
    }

    /// Gives all of it back, whoever keeps it.
    pub(crate) fn free(&self) {
        let images = mem::take(&mut *self.images());
        drop(images); // Without the lock.
    }

    /// A function of the module, which keeps its memory: `pointer` is what
    /// [`get_finalized_function`](cranelift_jit::JITModule::get_finalized_function) returns.
    ///
    /// # Errors
    ///
    /// [`Error::NotCode`] where no finalized code of this module is.
    ///
    /// # Safety
    ///
    /// At `pointer` begins a function of type `F`, a function pointer. What it calls or refers to outside of its module is
    /// there whenever it is called: keep the memory of those modules as well. Copies of the plain function pointer are not
    /// called when this value and all others that keep the memory are gone. Nobody calls `free_memory` on the module before
    /// the last call.
    pub unsafe fn function<F: Copy>(&self, pointer: *const u8) -> Result<Function<F>, Error> {
        const {
            assert!(
                size_of::<F>() == size_of::<fn()>(),
                "F is a function pointer"
            )
        };
        let address = Address::from(pointer);
        if !self.has_code_at(address) {
            return Err(Error::NotCode(address));
        }
        // SAFETY: both are pointers of the same size; that F is the function's type is the caller's promise.
        let function = unsafe { mem::transmute_copy::<*const u8, F>(&pointer) };
        Ok(Function {
            function,
            memory: self.clone(),
        })
    }

    fn has_code_at(&self, address: Address) -> bool {
        let images = self.images();
        let mut code = images
            .iter()
            .rev() // What is asked for is mostly what was finalized last.
            .flat_map(Image::sections)
            .filter(|section| section.kind() == SectionKind::Code);
        code.any(|code| {
            let offset = address.get().wrapping_sub(code.address().get());
            offset < code.size() as u64
        })
    }

    fn images(&self) -> MutexGuard<'_, Vec<Image>> {
        // A list is whole whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ModuleMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModuleMemory")
            .field(&*self.images())
            .finish()
    }
}

/// A function that keeps the memory of its module: to call, and to hand to whoever calls it later.
#[derive(Clone, Debug)]
pub struct Function<F> {
    function: F,
    memory: ModuleMemory,
}

impl<F> Function<F> {
    /// The memory that it keeps.
    pub fn memory(&self) -> &ModuleMemory {
        &self.memory
    }
}

impl<F> Deref for Function<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.function
    }
}
