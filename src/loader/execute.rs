//! Running loaded code. Everything that executes an object's instructions stands in this file.
#![allow(unsafe_code)] // Turns addresses into functions, and calls them.

use std::ffi::{CString, c_char, c_int};
use std::ptr::null_mut;

use super::error::LoadError;
use super::machine::Machine;
use super::program::Program;
use crate::error::Error;
use crate::id::SectionId;
use crate::kind::SectionKind;
use crate::manager::ReservingMemoryManager;

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

impl Program {
    /// The function called `name`, as a function pointer of type `F`.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoSuchSymbol`]; [`LoadError::NotCode`] if it is data, or if the program is for another CPU.
    ///
    /// # Safety
    ///
    /// `F` is a function pointer of the type that the symbol has. It is only called while this program, and all that it was
    /// linked against, is alive. The code does what it may do.
    pub unsafe fn function<F: Copy>(&self, name: &str) -> Result<F, LoadError> {
        const {
            assert!(
                size_of::<F>() == size_of::<fn()>(),
                "F is a function pointer"
            )
        };
        let symbol = self.symbol(name);
        let symbol = symbol.ok_or_else(|| LoadError::NoSuchSymbol(name.into()))?;
        if symbol.kind != Some(SectionKind::Code) || Some(self.machine) != Machine::HOST {
            return Err(LoadError::NotCode(name.into()));
        }
        let code = symbol.address.get() as usize as *const ();
        // SAFETY: both are pointers of the same size; that F is the function's type is the caller's promise.
        Ok(unsafe { std::mem::transmute_copy::<*const (), F>(&code) })
    }

    /// Calls the function called `entry` as C calls `main`, with copies of `arguments`, and returns its result.
    ///
    /// # Errors
    ///
    /// As for [`function`](Self::function).
    ///
    /// # Safety
    ///
    /// `entry` is an `int (int, char **)`, all that the program was linked against is alive, and the code does what it may
    /// do. It keeps no argument beyond the call.
    pub unsafe fn run_main(&self, entry: &str, arguments: &[CString]) -> Result<i32, LoadError> {
        type Main = unsafe extern "C" fn(c_int, *mut *mut c_char) -> c_int;
        // SAFETY: the type is the caller's promise; the program lives as long as `self` is borrowed.
        let main: Main = unsafe { self.function(entry) }?;
        let count = c_int::try_from(arguments.len()).expect("arguments fit into memory");
        // The strings and the array of pointers are the program's to modify, and a null pointer ends the array (C11, 5.1.2.2.1).
        let mut strings: Vec<Vec<u8>> = arguments
            .iter()
            .map(|argument| argument.as_bytes_with_nul().to_vec())
            .collect();
        let mut pointers: Vec<*mut c_char> = strings
            .iter_mut()
            .map(|string| string.as_mut_ptr().cast())
            .collect();
        pointers.push(null_mut());
        // SAFETY: argc, argv and the strings are as C says they are, for as long as the call lasts.
        Ok(unsafe { main(count, pointers.as_mut_ptr()) })
    }
}
