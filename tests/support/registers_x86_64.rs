//! Registers of x86-64, in assembly.

use std::fmt::Write as _;

/// Room for the values of all registers.
#[repr(C, align(64))]
pub(crate) struct Area(pub(crate) [u8; 4096]);

impl Default for Area {
    fn default() -> Self {
        Self([0; 4096])
    }
}

/// All but the one for results and the stack pointer. RBP comes last: it leads to the values.
const GENERAL: [&str; 14] = [
    "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rbp",
];

/// Vector registers: name, size in bytes, how many, and the instruction that moves them.
pub(crate) type Vectors = Vec<(&'static str, usize, usize, &'static str)>;

/// What this CPU has.
pub(crate) fn sets() -> Vec<(&'static str, Vectors)> {
    let mut sets = vec![("sse", vec![("xmm", 16, 16, "movdqu")])];
    if std::arch::is_x86_feature_detected!("avx") {
        sets.push(("avx", vec![("ymm", 32, 16, "vmovdqu")]));
    }
    if std::arch::is_x86_feature_detected!("avx512bw") {
        sets.push((
            "avx512",
            vec![("zmm", 64, 32, "vmovdqu64"), ("k", 8, 8, "kmovq")],
        ));
    }
    sets
}

/// Of all that is compared, in bytes.
pub(crate) fn size(vectors: &Vectors) -> usize {
    let sizes = vectors.iter().map(|(_, size, count, _)| size * count);
    sizes.sum::<usize>() + 8 * GENERAL.len()
}

/// `check(before, after)`: loads all registers from one area, asks for the address of `variable` and stores them to the
/// other. What it returns is the variable's value. It calls with the stack aligned, and not.
pub(crate) fn function(vectors: &Vectors) -> String {
    let each = |store: bool| {
        let (mut text, mut at) = (String::new(), 0);
        for (name, size, count, instruction) in vectors {
            for number in 0..*count {
                let (register, memory) = (format!("%{name}{number}"), format!("{at}(%rbp)"));
                let _ = match store {
                    true => writeln!(text, "{instruction} {register}, {memory}"),
                    false => writeln!(text, "{instruction} {memory}, {register}"),
                };
                at += size;
            }
        }
        for register in GENERAL {
            let _ = match (store, register) {
                (true, "rbp") => writeln!(text, "pop %rcx\nmov %rcx, {at}(%rbp)"),
                (true, _) => writeln!(text, "mov %{register}, {at}(%rbp)"),
                (false, _) => writeln!(text, "mov {at}(%rbp), %{register}"),
            };
            at += 8;
        }
        text
    };
    let call = "lea variable@tlsdesc(%rip), %rax\ncall *variable@tlscall(%rax)\n";
    let mut text = String::from(".globl check\n.type check, %function\ncheck:\n");
    for register in ["rbx", "rbp", "r12", "r13", "r14", "r15", "rsi"] {
        let _ = writeln!(text, "push %{register}");
    }
    let _ = writeln!(text, "mov %rdi, %rbp\n{}", each(false));
    let _ = writeln!(text, "{call}push %rax\n{call}pop %rax");
    // The second area is on the stack; RBP is there behind it.
    let _ = writeln!(text, "push %rbp\nmov 8(%rsp), %rbp\n{}", each(true));
    let _ = writeln!(text, "mov %fs:(%rax), %rax\npop %rsi");
    for register in ["r15", "r14", "r13", "r12", "rbp", "rbx"] {
        let _ = writeln!(text, "pop %{register}");
    }
    text + "ret\n"
}
