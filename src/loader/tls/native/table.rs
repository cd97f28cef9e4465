//! The table of one thread, and how the thread finds it.
#![allow(unsafe_code)] // Reads the table without a lock, and asks to be told when a thread ends.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, without_provenance};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::registry;

/// In bytes.
const WORD: usize = size_of::<usize>();

thread_local! {
    /// The first word of this thread's table; null as long as there is none. Assembly reads it, too.
    static TABLE: Cell<*const AtomicUsize> = const { Cell::new(ptr::null()) };
}

/// The blocks of one thread.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Its length in bytes, itself included, then a word for each module. Empty, if it has never had a block.
    words: Box<[AtomicUsize]>,
}

impl Table {
    /// The block of module `number`, or zero.
    pub(super) fn get(&self, number: usize) -> usize {
        let word = self.words.get(number);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The same, and the module has none any more.
    pub(super) fn take(&self, number: usize) -> usize {
        let word = self.words.get(number);
        word.map_or(0, |word| word.swap(0, Ordering::Relaxed))
    }

    /// The block of module `number`, the largest there is being `last`. Only the table's own thread does this: the table may
    /// move, and becomes what the thread finds.
    pub(super) fn put(&mut self, number: usize, block: usize, last: usize) {
        if number >= self.words.len() {
            let len = (last + 1).next_power_of_two();
            let old = self.words.iter().map(|word| word.load(Ordering::Relaxed));
            let words = [len * WORD].into_iter().chain(old.skip(1));
            let words = words.chain(std::iter::repeat(0)).take(len);
            let words: Box<[_]> = words.map(AtomicUsize::new).collect();
            TABLE.set(words.as_ptr()); // Before the old one goes.
            self.words = words;
        }
        self.words[number].store(block, Ordering::Relaxed);
    }

    /// In words: numbers of modules are below.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }
}

/// A thread that has a table. From 1.
pub(super) type ThreadNumber = usize;

/// The system's key for the number of each thread. Its destructor runs when a thread ends, behind the destructors of C++'s
/// and Rust's thread-local variables, and not for the main thread, which ends with the process.
static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();

/// Sees to it that the ends of threads are told.
pub(super) fn prepare() -> Result<(), &'static str> {
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: a place for a key, and a function of the right type.
        let code = unsafe { libc::pthread_key_create(&raw mut key, Some(end)) };
        (code == 0).then_some(key)
    });
    key.map(|_| ())
        .ok_or("one more user of thread-specific data")
}

/// The number of this thread.
pub(super) fn this_thread() -> ThreadNumber {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let key = KEY.get().copied().flatten();
    let key = key.expect("there is no module without a key");
    // SAFETY: the key was created and is never deleted.
    let known = unsafe { libc::pthread_getspecific(key) }.addr();
    if known != 0 {
        return known;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: as above. If the system has no room for it, the thread's blocks live as long as their programs.
    unsafe { libc::pthread_setspecific(key, without_provenance(number)) };
    number
}

/// The thread whose number this was ends. What it still runs may begin again, with another number.
extern "C" fn end(number: *mut c_void) {
    TABLE.set(ptr::null());
    registry::forget(number.addr());
}

/// Where this thread keeps the address of its table.
pub(super) fn place() -> usize {
    TABLE.with(|table| ptr::from_ref(table).addr())
}

/// What loaded code gives: a module and an offset in its block.
type Pair = [usize; 2];

/// The function to call with a pair, as the ABIs' `__tls_get_addr`.
pub(in crate::loader::tls) fn get_address() -> usize {
    address as extern "C" fn(&Pair) -> usize as usize
}

/// The address of a variable of this thread.
extern "C" fn address(&[module, offset]: &Pair) -> usize {
    let table = TABLE.get();
    if !table.is_null() {
        // SAFETY: the first word of this thread's table, which only this thread replaces.
        let size = unsafe { &*table }.load(Ordering::Relaxed);
        if module < size {
            // SAFETY: inside of the table, by its own word.
            let word = unsafe { table.byte_add(module) };
            // SAFETY: as above.
            let block = unsafe { &*word }.load(Ordering::Relaxed);
            if block != 0 {
                return block.wrapping_add(offset);
            }
        }
    }
    slow_address(&[module, offset])
}

/// The same of a variable whose block may have to be made.
#[cold]
pub(super) extern "C" fn slow_address(&[module, offset]: &Pair) -> usize {
    registry::block(module).wrapping_add(offset)
}
