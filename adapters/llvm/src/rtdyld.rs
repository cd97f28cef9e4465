//! RuntimeDyld with a class of ours behind it, under MCJIT or ORC.
//!
//! RuntimeDyld announces what an object needs and asks where each section will run, so all of this takes windows of both ways of
//! writing, and [blocks](crate::Memory::in_blocks). Unwind tables are registered when code is finalized.

#![allow(unsafe_code)] // LLVM calls it.

use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::slice;

use nearcode::{Error, PerKind, SectionKind};

use crate::callbacks::message_of;
use crate::memory::Memory;
use crate::orc;
use crate::place::Place;
use crate::sections::Sections;

/// `Extent` of nearcode.h.
#[repr(C)]
pub(crate) struct CExtent {
    pub(crate) size: usize,
    pub(crate) align: usize,
}

/// `Place` of nearcode.h.
#[repr(C)]
pub(crate) struct CPlace {
    pub(crate) write: *mut u8,
    pub(crate) address: u64,
}

/// `SectionsTable` of nearcode.h.
#[repr(C)]
struct SectionsTable {
    reserve: unsafe extern "C" fn(*mut c_void, CExtent, CExtent, CExtent),
    allocate: unsafe extern "C" fn(*mut c_void, u8, CExtent, *const c_char, usize) -> CPlace,
    allocate_thread_local: unsafe extern "C" fn(*mut c_void, CExtent) -> CPlace,
    register_eh_frames: unsafe extern "C" fn(*mut c_void, *mut u8),
    finalize: unsafe extern "C" fn(*mut c_void) -> *mut c_char,
    destroy: unsafe extern "C" fn(*mut c_void),
    create: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    destroy_memory: unsafe extern "C" fn(*mut c_void),
}

static TABLE: SectionsTable = SectionsTable {
    reserve,
    allocate,
    allocate_thread_local,
    register_eh_frames,
    finalize,
    destroy,
    create,
    destroy_memory,
};

unsafe extern "C" {
    fn nearcode_llvm_is_the_same() -> bool;
    fn nearcode_llvm_mcjit_memory_manager(
        table: *const SectionsTable,
        sections: *mut c_void,
    ) -> *mut c_void;
    fn nearcode_llvm_rtdyld_layer(
        table: *const SectionsTable,
        memory: *mut c_void,
        session: *mut c_void,
    ) -> *mut c_void;
}

/// An `LLVMMCJITMemoryManagerRef`, for `LLVMMCJITCompilerOptions::MCJMM` of one engine, which then owns it.
///
/// # Errors
///
/// [`Error::Unsupported`] where the LLVM that is linked is of another version than `llvm-config` said.
pub fn mcjit_memory_manager(memory: &Memory) -> Result<*mut c_void, Error> {
    check_version()?;
    let sections = Box::into_raw(Box::new(Sections::new(memory)));
    // SAFETY: the table takes these sections, and the class destroys them once, at last.
    Ok(unsafe { nearcode_llvm_mcjit_memory_manager(&TABLE, sections.cast()) })
}

/// An `LLVMOrcObjectLayerRef` for the `LLVMOrcExecutionSessionRef` that is given. Removing a resource tracker gives memory back.
///
/// # Errors
///
/// [`Error::Unsupported`] where the LLVM that is linked is of another version than `llvm-config` said.
///
/// # Safety
///
/// `session` is an execution session of the LLVM that this crate was built for, and outlives the layer.
pub unsafe fn object_linking_layer(
    memory: &Memory,
    session: *mut c_void,
) -> Result<*mut c_void, Error> {
    check_version()?;
    let memory = Box::into_raw(Box::new(memory.clone()));
    // SAFETY: the session is the caller's word; the table takes this memory, and the layer destroys it once, at last.
    Ok(unsafe { nearcode_llvm_rtdyld_layer(&TABLE, memory.cast(), session) })
}

/// Makes an `LLVMOrcLLJITBuilderRef` build a JIT over [`object_linking_layer`].
///
/// # Errors
///
/// [`Error::Unsupported`] where the LLVM that is linked is of another version than `llvm-config` said.
///
/// # Safety
///
/// `builder` is one of the LLVM that this crate was built for.
pub unsafe fn use_in_lljit(memory: &Memory, builder: *mut c_void) -> Result<(), Error> {
    check_version()?;
    // SAFETY: the builder is the caller's word, and creates the session that the layer is for.
    unsafe { orc::set_layer(builder, memory, object_linking_layer) };
    Ok(())
}

/// # Errors
///
/// [`Error::Unsupported`].
pub(crate) fn check_version() -> Result<(), Error> {
    // SAFETY: it only looks.
    match unsafe { nearcode_llvm_is_the_same() } {
        true => Ok(()),
        false => Err(Error::Unsupported(
            "an LLVM of another version than this crate was built for: set NEARCODE_LLVM_CONFIG",
        )),
    }
}

unsafe extern "C" fn create(memory: *mut c_void) -> *mut c_void {
    // SAFETY: a `Memory` that `destroy_memory` frees later, and LLVM may ask on many threads.
    let memory = unsafe { &*memory.cast::<Memory>() };
    Box::into_raw(Box::new(Sections::new(memory))).cast()
}

unsafe extern "C" fn destroy_memory(memory: *mut c_void) {
    // SAFETY: a `Memory` that was made into a pointer for this, and nobody asks for more of it.
    drop(unsafe { Box::from_raw(memory.cast::<Memory>()) });
}

unsafe extern "C" fn reserve(sections: *mut c_void, code: CExtent, ro: CExtent, rw: CExtent) {
    // SAFETY: the class passes what it was given, and is not used by two threads at a time.
    let sections = unsafe { &mut *sections.cast::<Sections>() };
    let totals = [code, ro, rw].map(|extent| (extent.size, extent.align));
    let [code, ro, rw] = totals;
    sections.reserve(PerKind::new(code, ro, rw));
}

unsafe extern "C" fn allocate(
    sections: *mut c_void,
    kind: u8,
    extent: CExtent,
    name: *const c_char,
    name_size: usize,
) -> CPlace {
    // SAFETY: the class passes what it was given, and is not used by two threads at a time.
    let sections = unsafe { &mut *sections.cast::<Sections>() };
    let name = match NonNull::new(name.cast_mut()) {
        // SAFETY: LLVM's text of that many bytes.
        Some(name) => unsafe { slice::from_raw_parts(name.as_ptr().cast::<u8>(), name_size) },
        None => &[],
    };
    let name = String::from_utf8_lossy(name);
    let kind = kind_of(kind);
    c_place(sections.allocate(kind, extent.size, extent.align, &name))
}

unsafe extern "C" fn allocate_thread_local(sections: *mut c_void, extent: CExtent) -> CPlace {
    // SAFETY: the class passes what it was given, and is not used by two threads at a time.
    let sections = unsafe { &mut *sections.cast::<Sections>() };
    c_place(sections.allocate_thread_local(extent.size, extent.align))
}

fn c_place(place: Option<Place>) -> CPlace {
    match place {
        Some(place) => CPlace {
            write: place.write.as_ptr(),
            address: place.address,
        },
        None => CPlace {
            write: ptr::null_mut(),
            address: 0,
        },
    }
}

unsafe extern "C" fn register_eh_frames(sections: *mut c_void, write: *mut u8) {
    // SAFETY: the class passes what it was given, and is not used by two threads at a time.
    let sections = unsafe { &mut *sections.cast::<Sections>() };
    if let Some(write) = NonNull::new(write) {
        sections.register_eh_frames(write);
    }
}

unsafe extern "C" fn finalize(sections: *mut c_void) -> *mut c_char {
    // SAFETY: the class passes what it was given, and is not used by two threads at a time.
    let sections = unsafe { &mut *sections.cast::<Sections>() };
    sections
        .finalize()
        .map_or_else(message_of, |()| ptr::null_mut())
}

unsafe extern "C" fn destroy(sections: *mut c_void) {
    // SAFETY: made into a pointer for this, and the class is gone.
    drop(unsafe { Box::from_raw(sections.cast::<Sections>()) });
}

/// `Kind` of nearcode.h.
pub(crate) fn kind_of(kind: u8) -> SectionKind {
    SectionKind::ALL[usize::from(kind)]
}
