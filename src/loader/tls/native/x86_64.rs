//! x86-64: the functions of TLS descriptors (Oliva and de Melo, *Thread-Local Storage Descriptors for
//! IA32 and AMD64/EM64T*).
//!
//! Such a function is called with the address of its descriptor in RAX and returns the variable's offset from the thread
//! pointer there. It changes nothing else but flags, and nobody has aligned the stack. What Rust may change on the way to a new
//! block is kept by XSAVE.
#![allow(unsafe_code)] // None of it has another form than assembly.

use std::arch::{asm, global_asm};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{distance, table};

/// What XSAVE needs for all that the system has enabled, in bytes; zero if there is no XSAVE. Then FXSAVE keeps all there is.
static XSAVE_SIZE: AtomicUsize = AtomicUsize::new(0);

/// x87, SSE, AVX, AVX-512 and APX: all that functions use for arguments or as they like (Intel SDM volume 1, 13.1). Not
/// AMX's tiles, which nothing here touches.
const STATE: u32 = 0x8_00e7;

/// The size of FXSAVE's area, in bytes (Intel SDM volume 1, 10.5). XSAVE's header comes behind it.
const FXSAVE_SIZE: usize = 512;

/// Finds out how registers are kept.
pub(super) fn prepare() {
    if !std::arch::is_x86_feature_detected!("xsave") || XSAVE_SIZE.load(Ordering::Relaxed) != 0 {
        return;
    }
    let size: u64;
    // SAFETY: leaf 13 exists where there is XSAVE; EBX of its subleaf 0 is the size (Intel SDM volume 2, CPUID). RBX is LLVM's,
    // so that it is kept by hand.
    unsafe {
        asm!(
            "xchg {size}, rbx",
            "cpuid",
            "xchg {size}, rbx",
            size = inout(reg) 0_u64 => size,
            inout("eax") 13 => _,
            inout("ecx") 0 => _,
            out("edx") _,
            options(nomem, nostack, preserves_flags),
        );
    }
    XSAVE_SIZE.store(size as u32 as usize, Ordering::Relaxed);
}

global_asm!(
    ".pushsection .text",
    concat!(".globl ", symbol!("fixed_descriptor")),
    concat!(".hidden ", symbol!("fixed_descriptor")),
    concat!(".type ", symbol!("fixed_descriptor"), ", @function"),
    ".p2align 4",
    concat!(symbol!("fixed_descriptor"), ":"),
    "endbr64",
    "mov rax, qword ptr [rax + 8]",
    "ret",
    //
    concat!(".globl ", symbol!("dynamic_descriptor")),
    concat!(".hidden ", symbol!("dynamic_descriptor")),
    concat!(".type ", symbol!("dynamic_descriptor"), ", @function"),
    ".p2align 4",
    concat!(symbol!("dynamic_descriptor"), ":"),
    "endbr64",
    "push rcx",
    "push rdx",
    // The block, if this thread's table is where it is in every thread, and has it.
    "mov rcx, qword ptr [rip + {distance}]",
    "test rcx, rcx",
    "jz 2f",
    "mov rcx, qword ptr fs:[rcx]",
    "test rcx, rcx",
    "jz 2f",
    "mov rdx, qword ptr [rax + 8]",
    "cmp rdx, qword ptr [rcx]",
    "jae 2f",
    "mov rcx, qword ptr [rcx + rdx]",
    "test rcx, rcx",
    "jz 2f",
    "mov rax, qword ptr [rax + 16]",
    "add rax, rcx",
    "sub rax, qword ptr fs:[0]",
    "pop rdx",
    "pop rcx",
    "ret",
    // A function finds it: keep all that it may change.
    "2:",
    "push rbp",
    "mov rbp, rsp",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "lea rdi, [rax + 8]",
    "mov rcx, qword ptr [rip + {size}]",
    "test rcx, rcx",
    "jz 3f",
    "sub rsp, rcx",
    "and rsp, -64",
    "xor edx, edx",
    "mov qword ptr [rsp + {fxsave_size}], rdx", // The header has to be zero where XSAVE does not write it.
    "mov qword ptr [rsp + {fxsave_size} + 8], rdx",
    "mov qword ptr [rsp + {fxsave_size} + 16], rdx",
    "mov qword ptr [rsp + {fxsave_size} + 24], rdx",
    "mov qword ptr [rsp + {fxsave_size} + 32], rdx",
    "mov qword ptr [rsp + {fxsave_size} + 40], rdx",
    "mov qword ptr [rsp + {fxsave_size} + 48], rdx",
    "mov qword ptr [rsp + {fxsave_size} + 56], rdx",
    "mov eax, {state}",
    "xsave64 [rsp]",
    "call {address}",
    "mov rcx, rax",
    "mov eax, {state}",
    "xor edx, edx",
    "xrstor64 [rsp]",
    "jmp 4f",
    "3:",
    "sub rsp, {fxsave_size}",
    "and rsp, -64",
    "fxsave64 [rsp]",
    "call {address}",
    "mov rcx, rax",
    "fxrstor64 [rsp]",
    "4:",
    "mov rax, rcx",
    "sub rax, qword ptr fs:[0]",
    "lea rsp, [rbp - 48]",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rbp",
    "pop rdx",
    "pop rcx",
    "ret",
    ".popsection",
    distance = sym distance::TABLE,
    size = sym XSAVE_SIZE,
    address = sym table::slow_address,
    state = const STATE,
    fxsave_size = const FXSAVE_SIZE,
);
