//! LLVM's C interface, as far as the tests go: the declarations hold for every version that is claimed.

#![allow(dead_code)] // Each test uses some of it.

use std::ffi::{c_char, c_int, c_uint, c_void};

pub type Ref = *mut c_void;

#[repr(C)]
pub struct McjitOptions {
    pub opt_level: c_uint,
    pub code_model: c_uint,
    pub no_frame_pointer_elimination: c_int,
    pub fast_isel: c_int,
    pub memory_manager: Ref,
}

#[repr(C)]
pub struct SymbolPair {
    pub name: Ref,
    pub address: u64,
    /// `LLVMJITSymbolFlags`: exported is 1, callable 4.
    pub generic_flags: u8,
    pub target_flags: u8,
}

pub const CODE_MODEL_JIT_DEFAULT: c_uint = 1;
pub const CODE_MODEL_SMALL: c_uint = 3;
pub const CODE_MODEL_LARGE: c_uint = 6;
pub const OPT_LEVEL_DEFAULT: c_uint = 2;
pub const RELOC_STATIC: c_uint = 1;
pub const RELOC_PIC: c_uint = 2;
pub const OBJECT_FILE: c_uint = 1;

unsafe extern "C" {
    pub fn LLVMParseCommandLineOptions(
        count: c_int,
        arguments: *const *const c_char,
        overview: *const c_char,
    );
    pub fn LLVMContextCreate() -> Ref;
    pub fn LLVMContextDispose(context: Ref);
    pub fn LLVMCreateMemoryBufferWithMemoryRangeCopy(
        bytes: *const c_char,
        len: usize,
        name: *const c_char,
    ) -> Ref;
    pub fn LLVMDisposeMemoryBuffer(buffer: Ref);
    pub fn LLVMGetBufferStart(buffer: Ref) -> *const c_char;
    pub fn LLVMGetBufferSize(buffer: Ref) -> usize;
    pub fn LLVMParseIRInContext(
        context: Ref,
        buffer: Ref,
        module: *mut Ref,
        message: *mut *mut c_char,
    ) -> c_int;
    pub fn LLVMDisposeModule(module: Ref);
    pub fn LLVMDisposeMessage(message: *mut c_char);
    pub fn LLVMSetTarget(module: Ref, triple: *const c_char);
    pub fn LLVMGetDefaultTargetTriple() -> *mut c_char;
    pub fn LLVMGetTargetFromTriple(
        triple: *const c_char,
        target: *mut Ref,
        message: *mut *mut c_char,
    ) -> c_int;
    pub fn LLVMCreateTargetMachine(
        target: Ref,
        triple: *const c_char,
        cpu: *const c_char,
        features: *const c_char,
        level: c_uint,
        reloc: c_uint,
        code_model: c_uint,
    ) -> Ref;
    pub fn LLVMDisposeTargetMachine(machine: Ref);
    pub fn LLVMTargetMachineEmitToMemoryBuffer(
        machine: Ref,
        module: Ref,
        file_type: c_uint,
        message: *mut *mut c_char,
        buffer: *mut Ref,
    ) -> c_int;

    pub fn LLVMLinkInMCJIT();
    pub fn LLVMCreateMCJITCompilerForModule(
        engine: *mut Ref,
        module: Ref,
        options: *mut McjitOptions,
        size: usize,
        message: *mut *mut c_char,
    ) -> c_int;
    pub fn LLVMAddModule(engine: Ref, module: Ref);
    pub fn LLVMRemoveModule(
        engine: Ref,
        module: Ref,
        removed: *mut Ref,
        message: *mut *mut c_char,
    ) -> c_int;
    pub fn LLVMGetFunctionAddress(engine: Ref, name: *const c_char) -> u64;
    pub fn LLVMGetGlobalValueAddress(engine: Ref, name: *const c_char) -> u64;
    pub fn LLVMDisposeExecutionEngine(engine: Ref);

    /// own.cpp
    #[cfg(feature = "cxx")]
    pub fn nearcode_own_add_object(engine: Ref, bytes: *const c_char, len: usize);
    #[cfg(feature = "cxx")]
    pub fn nearcode_own_add_prepare(jit: Ref);

    pub fn LLVMConsumeError(error: Ref);
    pub fn LLVMGetErrorMessage(error: Ref) -> *mut c_char;
    pub fn LLVMDisposeErrorMessage(message: *mut c_char);
    pub fn LLVMOrcCreateLLJITBuilder() -> Ref;
    pub fn LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(
        builder: Ref,
        create: extern "C" fn(*mut c_void, Ref, *const c_char) -> Ref,
        context: *mut c_void,
    );
    pub fn LLVMOrcCreateLLJIT(jit: *mut Ref, builder: Ref) -> Ref;
    pub fn LLVMOrcDisposeLLJIT(jit: Ref) -> Ref;
    pub fn LLVMOrcLLJITGetExecutionSession(jit: Ref) -> Ref;
    pub fn LLVMOrcLLJITGetMainJITDylib(jit: Ref) -> Ref;
    pub fn LLVMOrcLLJITGetGlobalPrefix(jit: Ref) -> c_char;
    pub fn LLVMOrcLLJITAddObjectFileWithRT(jit: Ref, tracker: Ref, buffer: Ref) -> Ref;
    pub fn LLVMOrcLLJITLookup(jit: Ref, address: *mut u64, name: *const c_char) -> Ref;
    pub fn LLVMOrcLLJITMangleAndIntern(jit: Ref, name: *const c_char) -> Ref;
    pub fn LLVMOrcJITDylibCreateResourceTracker(dylib: Ref) -> Ref;
    pub fn LLVMOrcResourceTrackerRemove(tracker: Ref) -> Ref;
    pub fn LLVMOrcReleaseResourceTracker(tracker: Ref);
    pub fn LLVMOrcAbsoluteSymbols(pairs: *mut SymbolPair, count: usize) -> Ref;
    pub fn LLVMOrcJITDylibDefine(dylib: Ref, unit: Ref) -> Ref;
    pub fn LLVMOrcJITDylibAddGenerator(dylib: Ref, generator: Ref);
    pub fn LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(
        generator: *mut Ref,
        prefix: c_char,
        filter: *const c_void,
        context: *mut c_void,
    ) -> Ref;
    pub fn LLVMOrcExecutionSessionSetErrorReporter(
        session: Ref,
        report: extern "C" fn(*mut c_void, Ref),
        context: *mut c_void,
    );
    pub fn LLVMOrcCreateRTDyldObjectLinkingLayerWithSectionMemoryManager(session: Ref) -> Ref;

    #[cfg(target_arch = "x86_64")]
    pub fn LLVMInitializeX86TargetInfo();
    #[cfg(target_arch = "x86_64")]
    pub fn LLVMInitializeX86Target();
    #[cfg(target_arch = "x86_64")]
    pub fn LLVMInitializeX86TargetMC();
    #[cfg(target_arch = "x86_64")]
    pub fn LLVMInitializeX86AsmPrinter();
    #[cfg(target_arch = "x86_64")]
    pub fn LLVMInitializeX86AsmParser();
    #[cfg(target_arch = "aarch64")]
    pub fn LLVMInitializeAArch64TargetInfo();
    #[cfg(target_arch = "aarch64")]
    pub fn LLVMInitializeAArch64Target();
    #[cfg(target_arch = "aarch64")]
    pub fn LLVMInitializeAArch64TargetMC();
    #[cfg(target_arch = "aarch64")]
    pub fn LLVMInitializeAArch64AsmPrinter();
    #[cfg(target_arch = "aarch64")]
    pub fn LLVMInitializeAArch64AsmParser();
}

#[cfg(target_arch = "x86_64")]
const INITIALIZE: [unsafe extern "C" fn(); 5] = [
    LLVMInitializeX86TargetInfo,
    LLVMInitializeX86Target,
    LLVMInitializeX86TargetMC,
    LLVMInitializeX86AsmPrinter,
    LLVMInitializeX86AsmParser,
];

#[cfg(target_arch = "aarch64")]
const INITIALIZE: [unsafe extern "C" fn(); 5] = [
    LLVMInitializeAArch64TargetInfo,
    LLVMInitializeAArch64Target,
    LLVMInitializeAArch64TargetMC,
    LLVMInitializeAArch64AsmPrinter,
    LLVMInitializeAArch64AsmParser,
];

pub fn initialize_targets() {
    for initialize in INITIALIZE {
        // SAFETY: one thread at a time does this.
        unsafe { initialize() };
    }
}
