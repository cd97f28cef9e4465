//! Functions of TLS descriptors change one register, whether they find a thread's block or make it.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/objects.rs"]
mod objects;
mod support;

#[cfg_attr(target_arch = "x86_64", path = "support/registers_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "support/registers_aarch64.rs")]
mod registers;

use std::thread;

use objects::File;

/// A variable, aligned as strictly as no other, and a large one in front of it.
const VARIABLE: &str = ".section .tbss,\"awT\",%nobits\n.skip 3000\n.balign 4096\n.skip 40\n\
     .globl before, after\nbefore: .skip 8\n\
     .section .tdata,\"awT\",%progbits\n.balign 8\n.globl variable\nvariable: .quad 0x0123456789abcdef\n.text\n";

#[test]
fn descriptors_change_nothing_but_what_they_return() {
    for (name, vectors) in registers::sets() {
        let text = format!("{VARIABLE}{}", registers::function(&vectors));
        let program = objects::link(&[File::assemble(&format!("{name}.o"), &text)], &()).unwrap();
        // SAFETY: the assembly defines it so, and the program is alive until the end of the round.
        let check: extern "C" fn(&mut registers::Area, &mut registers::Area) -> u64 =
            unsafe { program.function("check") }.unwrap();
        let run = || {
            let mut before = registers::Area::default();
            for turn in 1..4 {
                for (number, byte) in before.0.iter_mut().enumerate() {
                    *byte = (number * 7 + turn) as u8;
                }
                let mut after = registers::Area::default();
                let value = check(&mut before, &mut after);
                assert_eq!(value, 0x0123_4567_89ab_cdef, "{name} {turn}");
                let size = registers::size(&vectors);
                assert!(before.0[..size] == after.0[..size], "{name} {turn}");
                // What was kept is not all there is: the rest was not touched.
                assert!(after.0[size..].iter().all(|&byte| byte == 0), "{name}");
            }
        };
        run();
        for _ in 0..3 {
            thread::scope(|scope| scope.spawn(run).join()).unwrap();
        }
    }
}
