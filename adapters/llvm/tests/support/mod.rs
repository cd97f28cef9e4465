//! Owned types around LLVM's C interface: IR in, code that runs out.

#![allow(dead_code)] // Each test uses some of it.

#[path = "../../../../tests/support/child.rs"]
pub mod child;
pub mod ir;
pub mod llvm;
pub mod map;
pub mod ways;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, Once};

use self::llvm::*;

/// What LLVM said when it refused.
pub type Refused = String;

/// The LLVM that is tested.
pub fn major() -> u32 {
    env!("NEARCODE_LLVM_MAJOR").parse().expect("a number")
}

/// Once for each process: targets, and what LLVM 14 has to be told to read the tests' IR.
pub fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        initialize_targets();
        read_opaque_pointers();
        // SAFETY: it only makes the linker keep MCJIT.
        unsafe { LLVMLinkInMCJIT() };
    });
}

#[cfg(typed_pointers)]
fn read_opaque_pointers() {
    let arguments = [c"tests".as_ptr(), c"-opaque-pointers".as_ptr()];
    // SAFETY: two texts.
    unsafe { LLVMParseCommandLineOptions(2, arguments.as_ptr(), null()) };
}

#[cfg(not(typed_pointers))]
fn read_opaque_pointers() {}

fn text(text: &str) -> CString {
    CString::new(text).expect("a text without zeros")
}

fn owned(message: *mut c_char) -> String {
    // SAFETY: LLVM's message, read once.
    let text = unsafe { CStr::from_ptr(message) };
    let text = text.to_string_lossy().into_owned();
    // SAFETY: read for the last time.
    unsafe { LLVMDisposeMessage(message) };
    text
}

pub struct Context(Ref);

impl Context {
    pub fn new() -> Self {
        initialize();
        // SAFETY: it takes nothing.
        Self(unsafe { LLVMContextCreate() })
    }

    /// A module that the caller gives away or disposes of.
    pub fn parse(&self, ir: &str) -> Ref {
        let (mut module, mut message) = (null_mut(), null_mut());
        // SAFETY: the bytes are copied.
        let buffer = unsafe {
            LLVMCreateMemoryBufferWithMemoryRangeCopy(
                ir.as_ptr().cast(),
                ir.len(),
                c"test".as_ptr(),
            )
        };
        // SAFETY: the buffer is given away.
        let failed = unsafe { LLVMParseIRInContext(self.0, buffer, &mut module, &mut message) };
        assert_eq!(failed, 0, "{}", owned_if(failed, message));
        module
    }
}

fn owned_if(failed: c_int, message: *mut c_char) -> String {
    if failed == 0 {
        return String::new();
    }
    owned(message)
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: its modules are gone.
        unsafe { LLVMContextDispose(self.0) };
    }
}

/// An object file for this machine, position-independent.
#[allow(clippy::multiple_unsafe_ops_per_block)] // One fact holds for all of them.
pub fn compile(ir: &str, code_model: u32) -> Vec<u8> {
    let context = Context::new();
    let module = context.parse(ir);
    let (mut target, mut message, mut buffer) = (null_mut(), null_mut(), null_mut());
    // SAFETY: all that follows uses what LLVM just made, once; module, machine and buffer are disposed of at the end.
    unsafe {
        let triple = LLVMGetDefaultTargetTriple();
        let failed = LLVMGetTargetFromTriple(triple, &mut target, &mut message);
        assert_eq!(failed, 0, "{}", owned_if(failed, message));
        let machine = LLVMCreateTargetMachine(
            target,
            triple,
            c"".as_ptr(),
            c"".as_ptr(),
            OPT_LEVEL_DEFAULT,
            RELOC_PIC,
            code_model,
        );
        LLVMSetTarget(module, triple);
        let failed = LLVMTargetMachineEmitToMemoryBuffer(
            machine,
            module,
            OBJECT_FILE,
            &mut message,
            &mut buffer,
        );
        assert_eq!(failed, 0, "{}", owned_if(failed, message));
        let size = LLVMGetBufferSize(buffer);
        let bytes = std::slice::from_raw_parts(LLVMGetBufferStart(buffer).cast(), size).to_vec();
        LLVMDisposeMemoryBuffer(buffer);
        LLVMDisposeModule(module);
        LLVMDisposeTargetMachine(machine);
        LLVMDisposeMessage(triple);
        bytes
    }
}

/// A function of the C convention at an address.
///
/// # Safety
///
/// The function that is there takes and returns one `int`.
pub unsafe fn function(address: u64) -> extern "C-unwind" fn(c_int) -> c_int {
    assert_ne!(address, 0);
    let pointer = address as *const c_void;
    // SAFETY: the caller's word.
    unsafe { std::mem::transmute(pointer) }
}

/// An engine of MCJIT.
pub struct Engine {
    engine: Ref,
    context: Context,
}

impl Engine {
    /// `memory_manager` is given away; null is LLVM's own.
    pub fn new(ir: &str, memory_manager: Ref, code_model: u32) -> Self {
        let context = Context::new();
        let module = context.parse(ir);
        let mut options = McjitOptions {
            opt_level: OPT_LEVEL_DEFAULT,
            code_model,
            no_frame_pointer_elimination: 0,
            fast_isel: 0,
            memory_manager,
        };
        let (mut engine, mut message) = (null_mut(), null_mut());
        // SAFETY: the module and the memory manager are given away.
        let failed = unsafe {
            LLVMCreateMCJITCompilerForModule(
                &mut engine,
                module,
                &mut options,
                size_of::<McjitOptions>(),
                &mut message,
            )
        };
        assert_eq!(failed, 0, "{}", owned_if(failed, message));
        Self { engine, context }
    }

    /// The module belongs to the engine.
    pub fn add(&self, ir: &str) -> Ref {
        let module = self.context.parse(ir);
        // SAFETY: the module is given away.
        unsafe { LLVMAddModule(self.engine, module) };
        module
    }

    /// Adds an object file.
    #[cfg(feature = "cxx")]
    pub fn add_object(&self, object: &[u8]) {
        // SAFETY: the bytes are copied.
        unsafe { nearcode_own_add_object(self.engine, object.as_ptr().cast(), object.len()) };
    }

    /// Frees a module whose code is finalized. The code stays.
    pub fn forget(&self, module: Ref) {
        let (mut removed, mut message) = (null_mut(), null_mut());
        // SAFETY: the engine gives it back.
        unsafe { LLVMRemoveModule(self.engine, module, &mut removed, &mut message) };
        // SAFETY: nobody else has it.
        unsafe { LLVMDisposeModule(removed) };
    }

    /// Compiles and finalizes what it has to.
    pub fn address(&self, name: &str) -> u64 {
        let name = text(name);
        // SAFETY: a text.
        unsafe { LLVMGetFunctionAddress(self.engine, name.as_ptr()) }
    }

    /// Calls a function that takes and returns an `int`.
    pub fn call(&self, name: &str, argument: c_int) -> c_int {
        // SAFETY: the tests' functions are like that.
        let function = unsafe { function(self.address(name)) };
        function(argument)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: nothing of it is in use; the context goes after it.
        unsafe { LLVMDisposeExecutionEngine(self.engine) };
    }
}

fn check(error: Ref) -> Result<(), Refused> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: an error, consumed here.
    let message = unsafe { LLVMGetErrorMessage(error) };
    // SAFETY: LLVM's message, read once.
    let owned = unsafe { CStr::from_ptr(message) }.to_string_lossy().into();
    // SAFETY: read for the last time.
    unsafe { LLVMDisposeErrorMessage(message) };
    Err(owned)
}

/// ORC's ready-made JIT.
pub struct Jit(Ref);

// SAFETY: a session and all that belongs to it has locks of its own.
unsafe impl Sync for Jit {}

// SAFETY: as far as the tests go, that of looking up and calling.
unsafe impl Sync for Engine {}

/// A part of what is in a [`Jit`].
pub struct Tracker(Ref);

impl Jit {
    /// `configure` is told the builder.
    pub fn new(configure: impl FnOnce(Ref)) -> Result<Self, Refused> {
        initialize();
        let mut jit = null_mut();
        // SAFETY: it takes nothing.
        let builder = unsafe { LLVMOrcCreateLLJITBuilder() };
        configure(builder);
        // SAFETY: the builder is given away.
        check(unsafe { LLVMOrcCreateLLJIT(&mut jit, builder) })?;
        let jit = Self(jit);
        let mut generator = null_mut();
        // SAFETY: the JIT is alive.
        let prefix = unsafe { LLVMOrcLLJITGetGlobalPrefix(jit.0) };
        // SAFETY: no filter.
        check(unsafe {
            LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(
                &mut generator,
                prefix,
                null(),
                null_mut(),
            )
        })?;
        // SAFETY: the generator is given away.
        unsafe { LLVMOrcJITDylibAddGenerator(jit.dylib(), generator) };
        // SAFETY: the session is alive as long as the JIT is.
        let session = unsafe { LLVMOrcLLJITGetExecutionSession(jit.0) };
        // SAFETY: it takes any context.
        unsafe { LLVMOrcExecutionSessionSetErrorReporter(session, report, null_mut()) };
        Ok(jit)
    }

    fn dylib(&self) -> Ref {
        // SAFETY: the JIT is alive.
        unsafe { LLVMOrcLLJITGetMainJITDylib(self.0) }
    }

    /// From now on what objects have in `.prepare` is there for their finalization only, and functions in there are called then.
    /// Over JITLink only.
    #[cfg(feature = "cxx")]
    pub fn prepare(&self) {
        // SAFETY: the JIT is alive, and its layer the caller's word.
        unsafe { nearcode_own_add_prepare(self.0) };
    }

    /// A function of this program, under a name.
    pub fn define(&self, name: &str, address: u64) -> Result<(), Refused> {
        let name = text(name);
        // SAFETY: the JIT is alive.
        let name = unsafe { LLVMOrcLLJITMangleAndIntern(self.0, name.as_ptr()) };
        let mut pair = SymbolPair {
            name,
            address,
            generic_flags: 1 | 4,
            target_flags: 0,
        };
        // SAFETY: one pair, whose name is given away.
        let unit = unsafe { LLVMOrcAbsoluteSymbols(&mut pair, 1) };
        // SAFETY: the unit is given away.
        check(unsafe { LLVMOrcJITDylibDefine(self.dylib(), unit) })
    }

    /// Adds an object file, to be linked when one of its symbols is looked up.
    pub fn add(&self, object: &[u8]) -> Result<Tracker, Refused> {
        // SAFETY: the library is alive.
        let tracker = Tracker(unsafe { LLVMOrcJITDylibCreateResourceTracker(self.dylib()) });
        // SAFETY: the bytes are copied.
        let buffer = unsafe {
            LLVMCreateMemoryBufferWithMemoryRangeCopy(
                object.as_ptr().cast(),
                object.len(),
                c"object".as_ptr(),
            )
        };
        // SAFETY: the buffer is given away.
        check(unsafe { LLVMOrcLLJITAddObjectFileWithRT(self.0, tracker.0, buffer) })?;
        Ok(tracker)
    }

    pub fn address(&self, name: &str) -> Result<u64, Refused> {
        let name = text(name);
        let mut address = MaybeUninit::new(0);
        // SAFETY: a text.
        check(unsafe { LLVMOrcLLJITLookup(self.0, address.as_mut_ptr(), name.as_ptr()) })?;
        // SAFETY: it was 0 at first.
        Ok(unsafe { address.assume_init() })
    }

    /// Calls a function that takes and returns an `int`.
    pub fn call(&self, name: &str, argument: c_int) -> Result<c_int, Refused> {
        // SAFETY: the tests' functions are like that.
        let function = unsafe { function(self.address(name)?) };
        Ok(function(argument))
    }
}

/// What the sessions of this process have reported.
pub static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

extern "C" fn report(_: *mut c_void, error: Ref) {
    if let Err(message) = check(error) {
        REPORTED.lock().expect("nobody panics here").push(message);
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        // SAFETY: nothing of it is in use.
        let error = unsafe { LLVMOrcDisposeLLJIT(self.0) };
        check(error).expect("a JIT ends");
    }
}

impl Tracker {
    /// Unloads what it tracks.
    pub fn remove(self) -> Result<(), Refused> {
        // SAFETY: the JIT is alive.
        check(unsafe { LLVMOrcResourceTrackerRemove(self.0) })
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // SAFETY: the last use of it; what it tracks stays.
        unsafe { LLVMOrcReleaseResourceTracker(self.0) };
    }
}
