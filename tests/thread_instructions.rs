//! The ways to a thread-local variable that the ABI of AArch64 has and compilers hardly take: all lead to the same place.
#![cfg(all(feature = "loader", target_os = "linux", target_arch = "aarch64"))]

#[path = "support/objects.rs"]
mod objects;
mod support;

use std::thread;

use objects::File;

/// Each returns the address of `v`, with the GOT in X20, the thread pointer in X21.
const DYNAMIC: &[&str] = &[
    "adrp x0, :tlsgd:v\nadd x0, x0, #:tlsgd_lo12:v\nbl __tls_get_addr",
    "adr x0, :tlsgd:v\nbl __tls_get_addr",
    "movz x0, #:tlsgd_g1:v\nmovk x0, #:tlsgd_g0_nc:v\nadd x0, x20, x0\nbl __tls_get_addr",
    "adrp x0, :tlsldm:v\nadd x0, x0, #:tlsldm_lo12_nc:v\nbl __tls_get_addr\n\
     add x0, x0, #:dtprel_hi12:v\nadd x0, x0, #:dtprel_lo12_nc:v",
    "adr x0, :tlsldm:v\nbl __tls_get_addr\n\
     movz x1, #:dtprel_g1:v\nmovk x1, #:dtprel_g0_nc:v\nadd x0, x0, x1",
    "adrp x0, :tlsdesc:v\nldr x1, [x0, #:tlsdesc_lo12:v]\nadd x0, x0, #:tlsdesc_lo12:v\n\
     .tlsdesccall v\nblr x1\nadd x0, x0, x21",
    "ldr x1, :tlsdesc:v\nadr x0, :tlsdesc:v\n.tlsdesccall v\nblr x1\nadd x0, x0, x21",
    "movz x0, #:tlsdesc_off_g1:v\nmovk x0, #:tlsdesc_off_g0_nc:v\n.tlsdescldr v\nldr x1, [x20, x0]\n\
     .tlsdescadd v\nadd x0, x20, x0\n.tlsdesccall v\nblr x1\nadd x0, x0, x21",
    "adrp x0, :tlsdesc:_TLS_MODULE_BASE_\nldr x1, [x0, #:tlsdesc_lo12:_TLS_MODULE_BASE_]\n\
     add x0, x0, #:tlsdesc_lo12:_TLS_MODULE_BASE_\n.tlsdesccall _TLS_MODULE_BASE_\nblr x1\n\
     add x0, x0, #:dtprel_hi12:v\nadd x0, x0, #:dtprel_lo12_nc:v\nadd x0, x0, x21",
];

const FIXED: &[&str] = &[
    "adrp x0, :gottprel:v\nldr x0, [x0, #:gottprel_lo12:v]\nadd x0, x0, x21",
    "ldr x0, :gottprel:v\nadd x0, x0, x21",
    "movz x0, #:gottprel_g1:v\nmovk x0, #:gottprel_g0_nc:v\nldr x0, [x20, x0]\nadd x0, x0, x21",
    "add x0, x21, #:tprel_hi12:v\nadd x0, x0, #:tprel_lo12_nc:v",
    "movz x0, #:tprel_g1:v\nmovk x0, #:tprel_g0_nc:v\nadd x0, x0, x21",
];

fn check(section: &str, ways: &[&[&str]]) {
    let ways: Vec<&str> = ways.iter().copied().flatten().copied().collect();
    let mut text = format!("{section}\n.skip 24\n.globl v\nv: .skip 8\n.text\n");
    for (number, way) in ways.iter().enumerate() {
        text += &format!(
            ".globl way{number}\n.type way{number}, %function\nway{number}: stp x29, x30, [sp, #-32]!\n\
             stp x20, x21, [sp, #16]\nmrs x21, tpidr_el0\nadrp x20, _GLOBAL_OFFSET_TABLE_\n\
             add x20, x20, #:lo12:_GLOBAL_OFFSET_TABLE_\n{way}\nldp x20, x21, [sp, #16]\nldp x29, x30, [sp], #32\nret\n"
        );
    }
    let program = objects::link(&[File::assemble("ways.o", &text)], &()).unwrap();
    let functions: Vec<extern "C" fn() -> usize> = (0..ways.len())
        // SAFETY: the assembly defines them so, and the program is alive until the end of this function.
        .map(|number| unsafe { program.function(&format!("way{number}")) }.unwrap())
        .collect();
    let run = || {
        let places: Vec<usize> = functions.iter().map(|function| function()).collect();
        assert!(
            places.iter().all(|place| *place == places[0]),
            "{places:x?}"
        );
        places[0]
    };
    let own = run();
    let other = thread::scope(|scope| scope.spawn(run).join().unwrap());
    assert_ne!(own, other);
}

#[test]
fn all_dynamic_ways_lead_to_one_place() {
    check(".section .tdata,\"awT\",%progbits\n.byte 1", &[DYNAMIC]);
}

#[test]
fn with_fixed_offsets_all_ways_lead_to_one_place() {
    check(".section .tbss,\"awT\",%nobits", &[DYNAMIC, FIXED]);
}
