//! JITLink with a memory manager of ours, as an ORC layer.
//!
//! JITLink knows what a graph needs before it asks for the first byte, and writes apart from where code runs: both ways of writing
//! serve it, and [blocks](crate::Memory::in_blocks) need no headroom.

#![allow(unsafe_code)] // LLVM calls it.

use std::ffi::{c_char, c_void};
use std::{ptr, slice};

use nearcode::Error;

use crate::callbacks::message_of;
use crate::graph::{Graph, Lifetime, Segment};
use crate::memory::Memory;
use crate::orc;
use crate::rtdyld::{CExtent, CPlace, check_version, kind_of};

/// `Segment` of nearcode.h.
#[repr(C)]
struct CSegment {
    extent: CExtent,
    place: CPlace,
    kind: u8,
    is_for_finalization_only: bool,
}

/// `GraphsTable` of nearcode.h.
#[repr(C)]
struct GraphsTable {
    allocate:
        unsafe extern "C" fn(*mut c_void, *mut CSegment, usize, *mut *mut c_char) -> *mut c_void,
    finalize: unsafe extern "C" fn(*mut c_void) -> *mut c_char,
    end_finalization: unsafe extern "C" fn(*mut c_void),
    destroy: unsafe extern "C" fn(*mut c_void),
    destroy_memory: unsafe extern "C" fn(*mut c_void),
}

static TABLE: GraphsTable = GraphsTable {
    allocate,
    finalize,
    end_finalization,
    destroy,
    destroy_memory,
};

unsafe extern "C" {
    fn nearcode_llvm_jitlink_layer(
        table: *const GraphsTable,
        memory: *mut c_void,
        session: *mut c_void,
    ) -> *mut c_void;
}

/// An `LLVMOrcObjectLayerRef` for the `LLVMOrcExecutionSessionRef` that is given. Removing a resource tracker gives memory back.
///
/// Unwind tables are registered by an LLJIT that the layer is part of; up to LLVM 20 by the layer.
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
    Ok(unsafe { nearcode_llvm_jitlink_layer(&TABLE, memory.cast(), session) })
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

unsafe extern "C" fn allocate(
    memory: *mut c_void,
    segments: *mut CSegment,
    count: usize,
    message: *mut *mut c_char,
) -> *mut c_void {
    // SAFETY: a `Memory` that `destroy_memory` frees later, and LLVM may ask on many threads.
    let memory = unsafe { &*memory.cast::<Memory>() };
    let segments = match count {
        0 => &mut [],
        // SAFETY: the class's own list of that many.
        _ => unsafe { slice::from_raw_parts_mut(segments, count) },
    };
    let wanted = segments.iter().map(|segment| Segment {
        kind: kind_of(segment.kind),
        size: segment.extent.size,
        align: segment.extent.align,
        lifetime: match segment.is_for_finalization_only {
            true => Lifetime::Finalization,
            false => Lifetime::Standard,
        },
    });
    let wanted: Vec<Segment> = wanted.collect();
    match memory.failure.guard(|| Graph::allocate(memory, &wanted)) {
        Ok((graph, places)) => {
            for (segment, place) in segments.iter_mut().zip(places) {
                segment.place = CPlace {
                    write: place.write.as_ptr(),
                    address: place.address,
                };
            }
            Box::into_raw(Box::new(graph)).cast()
        }
        Err(text) => {
            // SAFETY: the class has room for a pointer there, and frees what it points to.
            unsafe { message.write(message_of(text)) };
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn finalize(graph: *mut c_void) -> *mut c_char {
    // SAFETY: the class passes what it was given, to one thread at a time.
    let graph = unsafe { &mut *graph.cast::<Graph>() };
    graph
        .finalize()
        .map_or_else(message_of, |()| ptr::null_mut())
}

unsafe extern "C" fn end_finalization(graph: *mut c_void) {
    // SAFETY: the class passes what it was given, to one thread at a time.
    unsafe { &mut *graph.cast::<Graph>() }.end_finalization();
}

unsafe extern "C" fn destroy(graph: *mut c_void) {
    // SAFETY: made into a pointer for this, and nobody uses it any more.
    drop(unsafe { Box::from_raw(graph.cast::<Graph>()) });
}

unsafe extern "C" fn destroy_memory(memory: *mut c_void) {
    // SAFETY: a `Memory` that was made into a pointer for this, and the layer is gone.
    drop(unsafe { Box::from_raw(memory.cast::<Memory>()) });
}
