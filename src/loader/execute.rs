//! Running loaded code. Everything that executes an object's instructions stands in this file.
#![allow(unsafe_code)] // Turns addresses into functions, and calls them.

use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

use super::error::LoadError;
use super::program::Program;
use crate::error::Error;
use crate::id::SectionId;
use crate::manager::ReservingMemoryManager;

/// Somebody's promise that the `.eh_frame` sections of a loader's objects are true of their code.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrueEhFrames(());

impl TrueEhFrames {
    /// # Safety
    ///
    /// It is so, for all objects of the loader that keeps this value.
    pub(super) unsafe fn promise() -> Self {
        Self(())
    }

    /// Asks for the table in section `id`, which is one of these sections, to be registered.
    pub(super) fn register(
        self,
        manager: &mut dyn ReservingMemoryManager,
        id: SectionId,
    ) -> Result<(), Error> {
        // SAFETY: this value is the promise that the table is true; relocated, it still is.
        unsafe { manager.register_eh_frames(id) }
    }
}

impl Program {
    /// The function called `name`, as a function pointer of type `F`.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoSuchSymbol`].
    ///
    /// # Safety
    ///
    /// `F` is a function pointer of the type that the symbol has, and is not called once the program is dropped. The code
    /// does what it may do.
    pub unsafe fn function<F: Copy>(&self, name: &str) -> Result<F, LoadError> {
        const {
            assert!(
                size_of::<F>() == size_of::<fn()>(),
                "F is a function pointer"
            )
        };
        let address = self
            .address(name)
            .ok_or_else(|| LoadError::NoSuchSymbol(name.into()))?;
        let code = address.get() as usize as *const ();
        // SAFETY: both are pointers of the same size; that F is the function's type is the caller's promise.
        Ok(unsafe { std::mem::transmute_copy::<*const (), F>(&code) })
    }

    /// Calls the function called `entry` as C calls `main`, and returns its result.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoSuchSymbol`].
    ///
    /// # Safety
    ///
    /// `entry` is an `int (int, char **)`, and the code does what it may do.
    pub unsafe fn run_main(&self, entry: &str, arguments: &[CString]) -> Result<i32, LoadError> {
        type Main = unsafe extern "C" fn(c_int, *const *const c_char) -> c_int;
        // SAFETY: the type is the caller's promise; the program lives as long as `self` is borrowed.
        let main: Main = unsafe { self.function(entry) }?;
        let count = c_int::try_from(arguments.len()).expect("arguments fit into memory");
        let mut pointers: Vec<*const c_char> =
            arguments.iter().map(|argument| argument.as_ptr()).collect();
        pointers.push(null()); // argv[argc] is a null pointer (C11, 5.1.2.2.1).
        // SAFETY: argc, argv and the strings are as C says they are, for as long as the call lasts.
        Ok(unsafe { main(count, pointers.as_ptr()) })
    }
}
