//! What loaded C++ wants to run when a thread ends: the destructors of `thread_local` objects.
//!
//! The C library would run them even if their program is gone by then. So they are kept here: at a thread's end those run whose
//! programs are alive, the last one first; when a program goes, its own run on the thread that drops it, and those of other
//! threads never do.
#![allow(unsafe_code)] // Calls what was registered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::num::Address;

/// What the Itanium C++ ABI calls the function to register with ("Thread-local dtor API").
pub(in crate::loader) const AT_THREAD_END: &str = "__cxa_thread_atexit";

/// The function of that name.
pub(in crate::loader) fn at_thread_end() -> Address {
    let function = register as unsafe extern "C" fn(_, _, _) -> _;
    Address::new(function as usize as u64)
}

type Destructor = unsafe extern "C" fn(*mut c_void);

/// Something to run.
struct End {
    destructor: Destructor,
    object: *mut c_void,
    /// The handle of its program, and whether that is alive; `None` for a handle of its own making.
    handle: usize,
    program: Option<Weak<Token>>,
}

/// A program that is alive.
#[derive(Debug)]
struct Token;

/// The programs that are alive, by their handles.
static PROGRAMS: Mutex<BTreeMap<usize, Weak<Token>>> = Mutex::new(BTreeMap::new());

fn programs() -> MutexGuard<'static, BTreeMap<usize, Weak<Token>>> {
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static ENDS: Ends = const { Ends(RefCell::new(Vec::new())) };
}

/// Of one thread, in the order in which they were registered.
struct Ends(RefCell<Vec<End>>);

impl Drop for Ends {
    fn drop(&mut self) {
        while let Some(end) = self.0.get_mut().pop() {
            end.run();
        }
    }
}

impl End {
    fn run(self) {
        // Held meanwhile.
        let program = self.program.as_ref().map(Weak::upgrade);
        if !matches!(program, Some(None)) {
            // SAFETY: the program that registered it is alive, and whoever runs its code promised that it may.
            unsafe { (self.destructor)(self.object) };
        }
    }
}

/// # Safety
///
/// The destructor can be called with the object for as long as the program with this handle is alive.
unsafe extern "C" fn register(
    destructor: Destructor,
    object: *mut c_void,
    handle: *mut c_void,
) -> c_int {
    let handle = handle.addr();
    let end = End {
        destructor,
        object,
        handle,
        program: programs().get(&handle).cloned(),
    };
    // A thread whose destructors have run already takes no more.
    let registered = ENDS.try_with(|ends| ends.0.borrow_mut().push(end));
    if registered.is_ok() { 0 } else { -1 }
}

/// Says that a program is alive. Dropping it runs what this thread has to run for it.
#[derive(Debug)]
pub(in crate::loader) struct ThreadEnds {
    handle: usize,
    _token: Arc<Token>,
}

impl ThreadEnds {
    /// For the program with this handle.
    pub(in crate::loader) fn new(handle: Address) -> Self {
        let (handle, token) = (handle.get() as usize, Arc::new(Token));
        programs().insert(handle, Arc::downgrade(&token));
        Self {
            handle,
            _token: token,
        }
    }

    /// Ends it without running anything, neither now nor later.
    pub(in crate::loader) fn forget(mut self) {
        programs().remove(&self.handle);
        self.handle = usize::MAX; // Nobody's.
    }
}

impl Drop for ThreadEnds {
    fn drop(&mut self) {
        let last = || {
            ENDS.try_with(|ends| {
                let mut ends = ends.0.borrow_mut();
                let last = ends.iter().rposition(|end| end.handle == self.handle)?;
                Some(ends.remove(last))
            })
        };
        while let Ok(Some(end)) = last() {
            end.run();
        }
        programs().remove(&self.handle);
    }
}
