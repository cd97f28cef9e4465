//! Registers of AArch64, in assembly.

use std::fmt::Write as _;

/// Room for the values of all registers.
#[repr(C, align(64))]
pub(crate) struct Area(pub(crate) [u8; 4096]);

impl Default for Area {
    fn default() -> Self {
        Self([0; 4096])
    }
}

/// Name of a set of vector registers.
pub(crate) type Vectors = &'static str;

/// What this CPU has: compilers rely on the low 128 bits only.
pub(crate) fn sets() -> Vec<(&'static str, Vectors)> {
    vec![("neon", "q")]
}

/// All but X0, for results; X9, for the function's address here; X18, a system's; X30, which every call changes.
const GENERAL: [usize; 27] = [
    1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29,
];

/// Of all that is compared, in bytes.
pub(crate) fn size(_: &Vectors) -> usize {
    32 * 16 + GENERAL.len() * 8
}

/// `check(before, after)`: loads all registers from one area, asks for the address of `variable` and stores them to the
/// other. What it returns is the variable's value.
pub(crate) fn function(vectors: &Vectors) -> String {
    let each = |instruction: &str| {
        let mut text = String::new();
        for number in 0..32 {
            let at = 16 * number;
            let _ = writeln!(text, "{instruction} {vectors}{number}, [x0, #{at}]");
        }
        for (place, number) in GENERAL.iter().enumerate() {
            let at = 512 + 8 * place;
            let _ = writeln!(text, "{instruction} x{number}, [x0, #{at}]");
        }
        text
    };
    // What is the caller's, from 32 bytes above the stack pointer.
    let kept = |instruction: &str| {
        let pairs = (19..29).step_by(2).map(|number| ("x", number));
        let pairs = pairs.chain((8..16).step_by(2).map(|number| ("d", number)));
        let pairs = pairs.enumerate().map(|(place, (letter, number))| {
            let (next, at) = (number + 1, 32 + 16 * place);
            format!("{instruction} {letter}{number}, {letter}{next}, [sp, #{at}]\n")
        });
        pairs.collect::<String>()
    };
    format!(
        ".globl check\n.type check, %function\ncheck: stp x29, x30, [sp, #-192]!\nstr x1, [sp, #16]\n{}{}\
         adrp x0, :tlsdesc:variable\nldr x9, [x0, #:tlsdesc_lo12:variable]\nadd x0, x0, #:tlsdesc_lo12:variable\n\
         .tlsdesccall variable\nblr x9\nstr x0, [sp, #24]\nldr x0, [sp, #16]\n{}\
         ldr x0, [sp, #24]\nmrs x1, tpidr_el0\nldr x0, [x1, x0]\n{}ldp x29, x30, [sp], #192\nret\n",
        kept("stp"),
        each("ldr"),
        each("str"),
        kept("ldp"),
    )
}
