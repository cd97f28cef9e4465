//! Running loaded code. Everything that executes an object's instructions stands in this room.
#![allow(unsafe_code)] // Turns addresses into functions, and calls them.

#[cfg_attr(
    all(target_arch = "aarch64", target_os = "linux"),
    path = "choice_linux_aarch64.rs"
)]
#[cfg_attr(
    not(all(target_arch = "aarch64", target_os = "linux")),
    path = "choice_others.rs"
)]
mod choice;
#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    path = "environment_linux.rs"
)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "environment_others.rs"
)]
mod environment;
#[cfg_attr(unix, path = "exit_unix.rs")]
#[cfg_attr(not(unix), path = "exit_others.rs")]
mod exit;
mod thread_end;

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::OnceLock;

use self::choice::choose;
use self::environment::environment;
use self::exit::run_registered;
use self::thread_end::ThreadEnds;
pub(super) use self::thread_end::{AT_THREAD_END, at_thread_end};
use super::automatic::{Array, Automatic, Indirect};
use super::error::LoadError;
use super::program::Program;
use crate::error::Error;
use crate::id::SectionId;
use crate::kind::SectionKind;
use crate::manager::ReservingMemoryManager;
use crate::num::Address;

/// Somebody's promise that the unwind table of the program that is being linked is true of its code.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrueEhFrames(());

impl TrueEhFrames {
    /// # Safety
    ///
    /// It is so, for the program that this value is used for.
    pub(super) unsafe fn promise() -> Self {
        Self(())
    }

    /// Asks for the table in section `id`, which is the program's or a part of it, to be registered.
    pub(super) fn register(
        self,
        manager: &mut dyn ReservingMemoryManager,
        id: SectionId,
    ) -> Result<(), Error> {
        // SAFETY: this value is the promise that the table is true; relocated, it still is.
        unsafe { manager.register_eh_frames(id) }
    }
}

/// A program from its constructors to its destructors.
#[derive(Debug)]
pub(super) struct Life {
    /// What runs when threads end.
    ends: Option<ThreadEnds>,
    automatic: Automatic,
    /// Once the constructors have run: what they were called with.
    started: OnceLock<Arguments>,
}

impl Life {
    /// Of a program with these functions; `None` if nothing ever runs by itself.
    pub(super) fn of(automatic: Automatic) -> Option<Box<Self>> {
        let comes_last = !automatic.destructors.is_empty() || automatic.handle.is_some();
        let is_any = automatic.comes_first() || comes_last;
        is_any.then(|| {
            Box::new(Self {
                ends: automatic.handle.map(ThreadEnds::new),
                automatic,
                started: OnceLock::new(),
            })
        })
    }

    /// Ends without destructors.
    pub(super) fn forget(mut self) {
        if let Some(ends) = self.ends.take() {
            ends.forget();
        }
        self.automatic = Automatic::default();
    }

    /// # Safety
    ///
    /// Resolvers and constructors do what they may do, here and now.
    unsafe fn start(&self, arguments: &[CString]) {
        self.started.get_or_init(|| {
            for Indirect { resolver, slot } in &self.automatic.indirect {
                // SAFETY: the symbol's type says that it is a resolver; the rest is the caller's promise.
                let target = unsafe { choose(code(*resolver)) };
                let slot = slot.get() as usize as *mut u64;
                // SAFETY: the slot is a number of the program's own, read-write data that nobody reads yet.
                unsafe { slot.write(target) };
            }
            let mut arguments = Arguments::new(arguments);
            for function in self.automatic.constructors.iter().flat_map(functions) {
                type Constructor = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char);
                // SAFETY: an array of constructors holds functions that can be called so: those that take no arguments do not
                // look at them.
                let function = unsafe { transmute::<*const (), Constructor>(function) };
                // For each anew: the one before may have set variables, which moves them.
                let (count, strings, environment) = arguments.as_c_passes_them();
                // SAFETY: by this function's contract.
                unsafe { function(count, strings, environment) };
            }
            arguments
        });
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.ends = None; // In front of what runs when the program goes, as in C++.
        if let Some(handle) = self.automatic.handle {
            // SAFETY: whoever ran the program's code promised that what it registers may run here.
            unsafe { run_registered(handle.get() as usize as *mut c_void) };
        }
        if self.started.get().is_none() {
            return;
        }
        for function in self.automatic.destructors.iter().flat_map(functions) {
            // SAFETY: an array of destructors holds functions of this type.
            let function = unsafe { transmute::<*const (), unsafe extern "C" fn()>(function) };
            // SAFETY: whoever initialized the program promised that it may run here.
            unsafe { function() };
        }
    }
}

/// The functions of an array in the order in which they run. Places without one are passed over.
fn functions(array: &Array) -> impl Iterator<Item = *const ()> + use<> {
    let Array {
        start,
        count,
        is_backwards,
    } = *array;
    let order = move |number: usize| {
        if is_backwards {
            count - 1 - number
        } else {
            number
        }
    };
    let addresses = (0..count).map(move |number| {
        let at = (start.get() as usize + order(number) * size_of::<u64>()) as *const u64;
        // SAFETY: the array is a section of the program, which is finalized and alive. Its alignment is the object's to choose.
        Address::new(unsafe { at.read_unaligned() })
    });
    // Zero and -1 begin and end old lists.
    let are_none = [0, u64::MAX];
    let some = addresses.filter(move |address| !are_none.contains(&address.get()));
    some.map(code)
}

fn code(address: Address) -> *const () {
    address.get() as usize as *const ()
}

/// `argv`: strings and an array of pointers that are the program's to modify, ended by a null pointer (C11, 5.1.2.2.1).
#[derive(Debug)]
struct Arguments {
    _strings: Vec<Vec<u8>>,
    pointers: Vec<*mut c_char>,
}

// SAFETY: the pointers are to strings that move along, and only handed to the program.
unsafe impl Send for Arguments {}
// SAFETY: as above.
unsafe impl Sync for Arguments {}

impl Arguments {
    fn new(arguments: &[CString]) -> Self {
        let strings = arguments
            .iter()
            .map(|argument| argument.as_bytes_with_nul());
        let mut strings: Vec<Vec<u8>> = strings.map(<[u8]>::to_vec).collect();
        let pointers = strings.iter_mut().map(|string| string.as_mut_ptr().cast());
        Self {
            pointers: pointers.chain([null_mut()]).collect(),
            _strings: strings,
        }
    }

    /// `argc`, `argv`, and the environment, as the GNU C library passes them to constructors, and Unix to `main`. Without an
    /// environment an empty one: it ends where the arguments do.
    fn as_c_passes_them(&mut self) -> (c_int, *mut *mut c_char, *mut *mut c_char) {
        let count = self.pointers.len() - 1;
        let strings = self.pointers.as_mut_ptr();
        let environment = match environment() {
            none if none.is_null() => strings.wrapping_add(count),
            own => own,
        };
        let count = c_int::try_from(count).expect("arguments fit into memory");
        (count, strings, environment)
    }
}

impl Program {
    /// Decides for indirect functions, and runs the constructors, in the order of linkers. They are called with `arguments`
    /// and the environment of the process, on Linux; elsewhere with an empty one. From the second time on nothing happens.
    ///
    /// When the program is dropped, its destructors run: first what it registered by `__cxa_atexit`, as C++ objects do, then
    /// its `.fini_array`s, on the thread that drops it.
    ///
    /// # Errors
    ///
    /// [`LoadError::NotCode`] if the program is for another CPU or another address space.
    ///
    /// # Safety
    ///
    /// All that the program was linked against is alive until it is dropped, and the code does what it may do: here, and its
    /// destructors where it is dropped. No other thread is still in its code then, also not to end. What C++ has registered for
    /// the end of a thread runs there while the program is alive, on the thread that drops it before all else, and never
    /// afterwards. Destructors of Rust's `thread_local!`s are known to the standard library only: threads that need them end
    /// before the program.
    pub unsafe fn initialize(&self, arguments: &[CString]) -> Result<(), LoadError> {
        if !self.runs_here {
            return Err(LoadError::NotCode("a constructor".into()));
        }
        if let Some(life) = &self.life {
            // SAFETY: the contract is the same.
            unsafe { life.start(arguments) };
        }
        Ok(())
    }

    /// The function called `name`, as a function pointer of type `F`.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoSuchSymbol`]; [`LoadError::NotCode`] if it is data, or if the program is for another CPU or
    /// another address space;
    /// [`LoadError::NotInitialized`] if something has to run [before](Self::initialize) it.
    ///
    /// # Safety
    ///
    /// `F` is a function pointer of the type that the symbol has. It is only called while this program, and all that it was
    /// linked against, is alive. The code does what it may do; what it registers by `__cxa_atexit` may be run when the program
    /// is dropped.
    pub unsafe fn function<F: Copy>(&self, name: &str) -> Result<F, LoadError> {
        const {
            assert!(
                size_of::<F>() == size_of::<fn()>(),
                "F is a function pointer"
            )
        };
        let code = code(self.callable(name)?);
        let life = self.life.as_ref();
        if life.is_some_and(|life| life.automatic.comes_first() && life.started.get().is_none()) {
            return Err(LoadError::NotInitialized(name.into()));
        }
        // SAFETY: both are pointers of the same size; that F is the function's type is the caller's promise.
        Ok(unsafe { std::mem::transmute_copy::<*const (), F>(&code) })
    }

    /// [Initializes](Self::initialize) the program, calls the function called `entry` as C calls `main`, with copies of
    /// `arguments` and the environment that constructors get, and returns its result.
    ///
    /// # Errors
    ///
    /// As for [`function`](Self::function).
    ///
    /// # Safety
    ///
    /// `entry` is an `int (int, char **)`, or takes the environment as well, and keeps no argument beyond the call. The
    /// contract of [`initialize`](Self::initialize) holds.
    pub unsafe fn run_main(&self, entry: &str, arguments: &[CString]) -> Result<i32, LoadError> {
        type Main = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;
        self.callable(entry)?; // Before anything runs.
        // SAFETY: the contract is the same.
        unsafe { self.initialize(arguments) }?;
        // SAFETY: the type is the caller's promise; the program lives as long as `self` is borrowed.
        let main: Main = unsafe { self.function(entry) }?;
        let mut arguments = Arguments::new(arguments);
        let (count, strings, environment) = arguments.as_c_passes_them();
        // SAFETY: argc, argv and the strings are as C says they are, for as long as the call lasts. Who takes no environment does
        // not look at it.
        Ok(unsafe { main(count, strings, environment) })
    }

    /// The code that a symbol names.
    fn callable(&self, name: &str) -> Result<Address, LoadError> {
        let symbol = self.symbol(name);
        let symbol = symbol.ok_or_else(|| LoadError::NoSuchSymbol(name.into()))?;
        if symbol.kind != Some(SectionKind::Code) || !self.runs_here {
            return Err(LoadError::NotCode(name.into()));
        }
        Ok(symbol.address)
    }
}
