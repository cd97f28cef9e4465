//! LLVM's C callbacks, for hosts without a C++ compiler: `LLVMCreateSimpleMCJITMemoryManager`, and ORC's like of it from
//! LLVM 16 on.
//!
//! LLVM knows one pointer for writing and running here and announces nothing, so all of this takes a window written at the
//! [same address](nearcode::Writing::SameAddress), where each object takes a page of each kind at least. LLVM registers unwind
//! tables itself, and leaves those of an object whose finalization failed registered under ORC: such an object's memory stays in
//! use.

#![allow(unsafe_code)] // LLVM calls it.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{self, NonNull};

use nearcode::{Error, SectionKind};

use crate::memory::Memory;
#[cfg(orc_callbacks)]
use crate::orc;
use crate::sections;

type AllocateCode =
    unsafe extern "C" fn(*mut c_void, usize, c_uint, c_uint, *const c_char) -> *mut u8;
type AllocateData =
    unsafe extern "C" fn(*mut c_void, usize, c_uint, c_uint, *const c_char, c_int) -> *mut u8;
type Finalize = unsafe extern "C" fn(*mut c_void, *mut *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    /// `llvm-c/ExecutionEngine.h`.
    fn LLVMCreateSimpleMCJITMemoryManager(
        opaque: *mut c_void,
        allocate_code: AllocateCode,
        allocate_data: AllocateData,
        finalize: Finalize,
        destroy: Destroy,
    ) -> *mut c_void;

    /// `llvm-c/OrcEE.h`.
    #[cfg(orc_callbacks)]
    fn LLVMOrcCreateRTDyldObjectLinkingLayerWithMCJITMemoryManagerLikeCallbacks(
        session: *mut c_void,
        create_context_opaque: *mut c_void,
        create_context: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
        notify_terminating: Destroy,
        allocate_code: AllocateCode,
        allocate_data: AllocateData,
        finalize: Finalize,
        destroy: Destroy,
    ) -> *mut c_void;
}

/// An `LLVMMCJITMemoryManagerRef`, for `LLVMMCJITCompilerOptions::MCJMM` of one engine, which then owns it.
///
/// # Errors
///
/// [`Error::Unsupported`] without a window at the same address.
pub fn mcjit_memory_manager(memory: &Memory) -> Result<*mut c_void, Error> {
    memory.check_is_one_pointer_enough()?;
    let sections = Box::into_raw(Box::new(sections::Sections::new(memory)));
    // SAFETY: the callbacks take what they are given here, and LLVM destroys it once, at last.
    Ok(unsafe {
        LLVMCreateSimpleMCJITMemoryManager(
            sections.cast(),
            allocate_code,
            allocate_data,
            finalize,
            destroy,
        )
    })
}

/// An `LLVMOrcObjectLayerRef` over RuntimeDyld, for the `LLVMOrcExecutionSessionRef` that is given. Removing a resource tracker
/// gives memory back.
///
/// # Errors
///
/// [`Error::Unsupported`] without a window at the same address.
///
/// # Safety
///
/// `session` is an execution session of the LLVM that this crate was built for, and outlives the layer.
#[cfg(orc_callbacks)]
pub unsafe fn object_linking_layer(
    memory: &Memory,
    session: *mut c_void,
) -> Result<*mut c_void, Error> {
    memory.check_is_one_pointer_enough()?;
    let memory = Box::into_raw(Box::new(memory.clone()));
    // SAFETY: the session is the caller's word; the callbacks take what they are given here, and LLVM says when it is no longer
    // needed.
    Ok(unsafe {
        LLVMOrcCreateRTDyldObjectLinkingLayerWithMCJITMemoryManagerLikeCallbacks(
            session,
            memory.cast(),
            create_context,
            terminate,
            allocate_code,
            allocate_data,
            finalize,
            destroy_context,
        )
    })
}

/// Makes an `LLVMOrcLLJITBuilderRef` build a JIT over [`object_linking_layer`].
///
/// # Errors
///
/// [`Error::Unsupported`] without a window at the same address.
///
/// # Safety
///
/// `builder` is one of the LLVM that this crate was built for.
#[cfg(orc_callbacks)]
pub unsafe fn use_in_lljit(memory: &Memory, builder: *mut c_void) -> Result<(), Error> {
    memory.check_is_one_pointer_enough()?;
    // SAFETY: the builder is the caller's word, and creates the session that the layer is for.
    unsafe { orc::set_layer(builder, memory, object_linking_layer) };
    Ok(())
}

/// The same for a binding that has a trait in place of the C functions, such as inkwell's `McjitMemoryManager`.
#[derive(Debug)]
pub struct Sections(sections::Sections);

impl Sections {
    /// For one engine.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] without a window at the same address.
    pub fn new(memory: &Memory) -> Result<Self, Error> {
        memory.check_is_one_pointer_enough()?;
        Ok(Self(sections::Sections::new(memory)))
    }

    /// Where to write a section of `size` bytes that is aligned to `align` bytes. Null only where there is no memory at all: a
    /// section that is refused gets some that never runs, and [`finalize`](Self::finalize) fails.
    pub fn allocate(&mut self, kind: SectionKind, size: usize, align: u32, name: &str) -> *mut u8 {
        let place = self.0.allocate(kind, size, align as usize, name);
        place.map_or(ptr::null_mut(), |place| place.write.as_ptr())
    }

    /// Makes what was allocated since the last time executable or read-only.
    ///
    /// # Errors
    ///
    /// A text for LLVM; [`Memory::take_failure`] has the error. Nothing that was in flight will ever run.
    pub fn finalize(&mut self) -> Result<(), String> {
        self.0.finalize()
    }
}

#[cfg(orc_callbacks)]
unsafe extern "C" fn create_context(memory: *mut c_void) -> *mut c_void {
    // SAFETY: a `Memory` that `terminate` frees later, and LLVM may ask on many threads.
    let memory = unsafe { &*memory.cast::<Memory>() };
    Box::into_raw(Box::new(sections::Sections::new(memory))).cast()
}

#[cfg(orc_callbacks)]
unsafe extern "C" fn destroy_context(opaque: *mut c_void) {
    // SAFETY: made into a pointer for this, and LLVM calls nothing with it any more.
    unsafe { Box::from_raw(opaque.cast::<sections::Sections>()) }.end_behind_orc();
}

#[cfg(orc_callbacks)]
unsafe extern "C" fn terminate(memory: *mut c_void) {
    // SAFETY: a `Memory` that was made into a pointer for this, and LLVM asks for no more contexts.
    drop(unsafe { Box::from_raw(memory.cast::<Memory>()) });
}

/// # Safety
///
/// `opaque` is a pointer to `sections::Sections` that LLVM does not use elsewhere at the same time, and `name` is a text.
unsafe fn allocate(
    opaque: *mut c_void,
    kind: SectionKind,
    size: usize,
    align: c_uint,
    name: *const c_char,
) -> *mut u8 {
    // SAFETY: the caller's word.
    let sections = unsafe { &mut *opaque.cast::<sections::Sections>() };
    // SAFETY: the caller's word.
    let name = unsafe { CStr::from_ptr(name) };
    let place = sections.allocate(kind, size, align as usize, &name.to_string_lossy());
    place.map_or(ptr::null_mut(), |place| place.write.as_ptr())
}

unsafe extern "C" fn allocate_code(
    opaque: *mut c_void,
    size: usize,
    align: c_uint,
    _: c_uint,
    name: *const c_char,
) -> *mut u8 {
    // SAFETY: LLVM passes what it was given, and a text of its own.
    unsafe { allocate(opaque, SectionKind::Code, size, align, name) }
}

unsafe extern "C" fn allocate_data(
    opaque: *mut c_void,
    size: usize,
    align: c_uint,
    _: c_uint,
    name: *const c_char,
    is_read_only: c_int,
) -> *mut u8 {
    let kind = match is_read_only {
        0 => SectionKind::ReadWriteData,
        _ => SectionKind::ReadOnlyData,
    };
    // SAFETY: LLVM passes what it was given, and a text of its own.
    unsafe { allocate(opaque, kind, size, align, name) }
}

unsafe extern "C" fn finalize(opaque: *mut c_void, message: *mut *mut c_char) -> c_int {
    // SAFETY: LLVM passes what it was given.
    let sections = unsafe { &mut *opaque.cast::<sections::Sections>() };
    let Err(text) = sections.finalize() else {
        return 0;
    };
    if let Some(message) = NonNull::new(message) {
        // SAFETY: LLVM has room for one pointer there, and frees what it points to.
        unsafe { message.write(message_of(text)) };
    }
    1
}

unsafe extern "C" fn destroy(opaque: *mut c_void) {
    // SAFETY: made into a pointer for this, and LLVM calls nothing with it any more.
    drop(unsafe { Box::from_raw(opaque.cast::<sections::Sections>()) });
}

/// A text that `free` frees.
pub(crate) fn message_of(text: String) -> *mut c_char {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: a text with its end.
    unsafe { libc::strdup(text.as_ptr()) }
}
