//! The list itself, where programs are ELF files. Names and layout are GDB's (*Debugging with GDB*, "Using the Interface").

use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

/// Whether there is a list.
pub(crate) const SUPPORTED: bool = true;

/// GDB's `jit_code_entry`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    file: *const u8,
    size: u64,
}

/// GDB's `jit_descriptor`.
#[repr(C)]
struct Descriptor {
    /// 1.
    version: u32,
    /// A GDB `jit_actions_t`.
    action: u32,
    /// What the action is about.
    relevant: *mut Entry,
    first: *mut Entry,
}

/// GDB's `JIT_NOACTION`, `JIT_REGISTER_FN`, `JIT_UNREGISTER_FN`.
const NO_ACTION: u32 = 0;
const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;

// Rust has no weak definitions but in assembly, and strong ones would be the second ones beside LLVM's. `ret` is the same word on
// all of these CPUs.
std::arch::global_asm!(
    ".pushsection .text.__jit_debug_register_code, \"ax\", @progbits",
    ".weak __jit_debug_register_code",
    ".hidden __jit_debug_register_code",
    ".type __jit_debug_register_code, @function",
    ".p2align 4",
    "__jit_debug_register_code:",
    "ret",
    ".size __jit_debug_register_code, . - __jit_debug_register_code",
    ".popsection",
    //
    ".pushsection .data.__jit_debug_descriptor, \"aw\", @progbits",
    ".weak __jit_debug_descriptor",
    ".hidden __jit_debug_descriptor",
    ".type __jit_debug_descriptor, @object",
    ".p2align 3",
    "__jit_debug_descriptor:",
    ".4byte 1, 0",
    ".8byte 0, 0",
    ".size __jit_debug_descriptor, . - __jit_debug_descriptor",
    ".popsection",
);

unsafe extern "C" {
    fn __jit_debug_register_code();
    static mut __jit_debug_descriptor: Descriptor;
}

/// Whoever has it changes the list.
static LOCK: Mutex<()> = Mutex::new(());

impl Entry {
    /// For a file that stays where it is.
    pub(super) fn new(file: &[u8]) -> Self {
        Self {
            next: ptr::null_mut(),
            previous: ptr::null_mut(),
            file: file.as_ptr(),
            size: file.len() as u64,
        }
    }
}

/// Puts an entry in front of all others, and lets debuggers know.
///
/// # Safety
///
/// The entry is in no list. It and its file stay where they are until it has left this one.
pub(super) unsafe fn enter(entry: NonNull<Entry>) {
    let _turn = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let list = &raw mut __jit_debug_descriptor;
    let entry = entry.as_ptr();
    // SAFETY: the list is this thread's while it has the lock.
    let first = unsafe { (*list).first };
    // SAFETY: the caller's entry, which nobody else has.
    unsafe { (*entry).next = first };
    if !first.is_null() {
        // SAFETY: entries of the list are alive.
        unsafe { (*first).previous = entry };
    }
    // SAFETY: as for reading it.
    unsafe { (*list).first = entry };
    announce(REGISTER, entry);
}

/// Takes an entry out, and lets debuggers know.
///
/// # Safety
///
/// The entry is in the list.
pub(super) unsafe fn leave(entry: NonNull<Entry>) {
    let _turn = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let list = &raw mut __jit_debug_descriptor;
    let entry = entry.as_ptr();
    // SAFETY: the caller's entry, in the list and so alive.
    let Entry { next, previous, .. } = unsafe { entry.read() };
    if previous.is_null() {
        // SAFETY: the list is this thread's while it has the lock.
        unsafe { (*list).first = next };
    } else {
        // SAFETY: entries of the list are alive.
        unsafe { (*previous).next = next };
    }
    if !next.is_null() {
        // SAFETY: as above.
        unsafe { (*next).previous = previous };
    }
    announce(UNREGISTER, entry);
}

/// Calls the function that debuggers stop in. Through raw pointers: a reference would let the compiler take it that nobody
/// reads the list meanwhile.
fn announce(action: u32, entry: *mut Entry) {
    let list = &raw mut __jit_debug_descriptor;
    let tell = |action, entry| {
        // SAFETY: whoever calls this has the lock.
        unsafe { (*list).action = action };
        // SAFETY: as above.
        unsafe { (*list).relevant = entry };
    };
    tell(action, entry);
    // SAFETY: it takes nothing and does nothing; a debugger reads the list meanwhile.
    unsafe { __jit_debug_register_code() };
    tell(NO_ACTION, ptr::null_mut());
}

/// All files of the list, as a debugger reads them that comes now.
#[cfg(test)]
pub(super) fn files() -> Vec<Vec<u8>> {
    let _turn = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut files = Vec::new();
    let list = &raw const __jit_debug_descriptor;
    // SAFETY: nobody changes it while this thread has the lock.
    let list = unsafe { list.read() };
    assert_eq!((list.version, list.action), (1, NO_ACTION));
    let (mut entry, mut before) = (list.first, ptr::null_mut());
    while !entry.is_null() {
        // SAFETY: entries of the list are alive, and so are their files.
        let found = unsafe { &*entry };
        assert_eq!(found.previous, before);
        // SAFETY: as above.
        let file = unsafe { std::slice::from_raw_parts(found.file, found.size as usize) };
        files.push(file.to_vec());
        (before, entry) = (entry, found.next);
    }
    files
}
