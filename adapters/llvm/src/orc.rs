//! The door to `LLJIT`: its builder asks for an object layer once it has a session.

#![allow(unsafe_code)] // LLVM calls it.

use std::ffi::{c_char, c_void};
use std::ptr;

use nearcode::Error;

use crate::memory::Memory;

/// Makes a layer over some memory for a session.
pub(crate) type MakeLayer = unsafe fn(&Memory, *mut c_void) -> Result<*mut c_void, Error>;

unsafe extern "C" {
    /// `llvm-c/LLJIT.h`.
    fn LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(
        builder: *mut c_void,
        create: unsafe extern "C" fn(*mut c_void, *mut c_void, *const c_char) -> *mut c_void,
        context: *mut c_void,
    );
}

/// What the builder keeps until then. It asks once; if it never does, this is never freed.
struct Creator {
    memory: Memory,
    make: MakeLayer,
}

/// # Safety
///
/// `builder` is an `LLVMOrcLLJITBuilderRef`, and `make` takes the sessions that it creates.
pub(crate) unsafe fn set_layer(builder: *mut c_void, memory: &Memory, make: MakeLayer) {
    let memory = memory.clone();
    let context = Box::into_raw(Box::new(Creator { memory, make }));
    // SAFETY: the builder is the caller's word, and `create` takes this context.
    unsafe { LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(builder, create, context.cast()) };
}

unsafe extern "C" fn create(
    context: *mut c_void,
    session: *mut c_void,
    _: *const c_char,
) -> *mut c_void {
    // SAFETY: made into a pointer for this, and the builder asks once.
    let creator = unsafe { Box::from_raw(context.cast::<Creator>()) };
    // SAFETY: the builder's own session, of which `set_layer` has the caller's word.
    let layer = creator
        .memory
        .failure
        .guard(|| unsafe { (creator.make)(&creator.memory, session) });
    layer.unwrap_or(ptr::null_mut())
}
