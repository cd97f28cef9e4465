//! What a linked program's references lead to: relocations, GOT slots, stubs, and objects far away from each other.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "support/far_apart.rs"]
mod far_apart;
#[path = "support/objects.rs"]
mod objects;
mod support;

use nearcode::Address;
use nearcode::loader::{Library, LoadError, Placement, Program, Resolver};
use region::Protection;

use far_apart::FarApart;
use objects::{File, call, jump, link, load_from_got, number, returns};

#[test]
fn data_relocations_of_every_size_hold_what_they_say() {
    let bytes = if cfg!(target_arch = "x86_64") {
        "n8: .byte small\n.zero 7\nr8: .byte there - .\n.zero 7"
    } else {
        "n8: .quad 0x7f\nr8: .quad there - ." // AArch64 has no such relocations.
    };
    // A weak symbol's distance is the linker's to compute, even within a section.
    let text = format!(
        ".globl n8, r8, n16, r16, n32, r32, n64, r64, section\n\
         {bytes}\n\
         n16: .2byte small + 0x100\n.zero 6\n\
         r16: .2byte there - .\n.zero 6\n\
         .weak there\nthere: .quad 0\n\
         n32: .long small + 0x10000\n.zero 4\n\
         r32: .long there - .\n.zero 4\n\
         n64: .quad absolute + 1\n\
         r64: .quad there - .\n\
         section: .quad .Linside + 8\n\
         .globl absolute\n.set absolute, 0x1122334455667788\n.globl small\n.set small, 0x7f\n\
         .section .rodata\n.zero 24\n.Linside: .zero 8\n.quad 4711"
    );
    let program = link(&[File::assemble("numbers.o", &text)], &()).unwrap();
    let address = |name| program.address(name).unwrap().get();
    let distance = |from| address("there").wrapping_sub(address(from));
    for (symbol, expected, mask) in [
        ("n8", 0x7f, 0xff),
        ("r8", distance("r8"), 0xff),
        ("n16", 0x17f, 0xffff),
        ("r16", distance("r16"), 0xffff),
        ("n32", 0x1_007f, 0xffff_ffff),
        ("r32", distance("r32"), 0xffff_ffff),
        ("n64", 0x1122_3344_5566_7789, u64::MAX),
        ("r64", distance("r64"), u64::MAX),
    ] {
        assert_eq!(number(&program, symbol) & mask, expected & mask, "{symbol}");
    }
    assert_eq!(address("absolute"), 0x1122_3344_5566_7788);
    let inside = number(&program, "section");
    // SAFETY: the relocated number is the address of 8 bytes of .rodata, in a program that is alive.
    assert_eq!(unsafe { (inside as usize as *const u64).read() }, 4711);
}

/// A function of the test itself.
extern "C" fn forty_two() -> i32 {
    42
}

fn far_away(name: &str) -> Option<Address> {
    let address = forty_two as extern "C" fn() -> i32 as usize as u64;
    match name {
        "far" => Some(Address::new(address)),
        "before_far" => Some(Address::new(address - 24)),
        _ => None,
    }
}

/// Links, out of reach of the test's own function.
fn link_far_away(files: &[File], resolver: &dyn Resolver) -> Program {
    let mut far_apart = FarApart::from(far_away("far").unwrap());
    let loader = objects::load(files).unwrap();
    loader.link(&mut far_apart, resolver).unwrap()
}

fn stubs(program: &Program) -> usize {
    let stubs = program
        .sections()
        .filter(|section| section.name() == ".stubs");
    stubs.map(|section| section.size() / 16).sum()
}

#[test]
fn a_branch_to_a_far_symbol_goes_through_one_stub_for_each_target() {
    let function = |name, target| format!(".text\n.globl {name}\n{name}: {}\n", jump(target));
    let inside = if cfg!(target_arch = "aarch64") {
        "before_far + 24"
    } else {
        "before_far@PLT + 24" // Without the word the assembler takes it for data.
    };
    let a = function("a", "far") + &function("b", "far") + &function("c", inside);
    let files = [
        File::assemble("one.o", &a),
        File::assemble("two.o", &function("d", "far")),
    ];
    let program = link_far_away(&files, &far_away);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(call(&program, name), 42, "{name}");
    }
    assert_eq!(stubs(&program), 2);
}

#[test]
fn a_branch_to_an_absolute_address_goes_through_a_stub() {
    const MARK: u64 = 0x1122_3344_5566_7788;
    let text = format!(
        ".text\n.globl function\nfunction: {}\n.globl host\n.set host, {MARK:#x}",
        jump("host")
    );
    let mut file = File::assemble("absolute.o", &text);
    // The address is only known now.
    let mark = MARK.to_le_bytes();
    let at = file
        .bytes
        .windows(8)
        .position(|bytes| bytes == mark)
        .unwrap();
    let address = far_away("far").unwrap().get();
    file.bytes[at..at + 8].copy_from_slice(&address.to_le_bytes());
    let program = link_far_away(&[file], &());
    assert_eq!(call(&program, "function"), 42);
}

#[test]
fn a_branch_to_a_near_symbol_is_direct() {
    let callee = format!(".text\n.globl callee\ncallee:\n{}", returns(7));
    let caller = format!(".text\n.globl caller\ncaller: {}", jump("callee"));
    let files = [
        File::assemble("caller.o", &caller),
        File::assemble("callee.o", &callee),
    ];
    let program = link(&files, &()).unwrap();
    assert_eq!((call(&program, "caller"), stubs(&program)), (7, 0));
}

#[test]
fn objects_that_share_a_reservation_share_one_got_slot_for_each_symbol() {
    let function = |name, symbols: [&str; 2]| {
        let loads = symbols.map(load_from_got).join("\n");
        format!(".text\n.globl {name}\n{name}:\n{loads}\nret")
    };
    let files = [
        File::assemble("one.o", &function("one", ["strlen", "memcpy"])),
        File::assemble("two.o", &function("two", ["memcpy", "strlen"])),
        File::assemble("three.o", &function("three", ["strlen", "one"])),
    ];
    let process = Library::process().unwrap();
    let slots = |program: &Program| {
        let tables = program
            .sections()
            .filter(|section| section.name() == ".got");
        tables.map(|table| table.size() / 8).collect::<Vec<_>>()
    };
    let together = link(&files, &process).unwrap();
    assert_eq!(slots(&together), [3]);
    let address = |program: &Program, name| {
        // SAFETY: these functions return an address, in a program that is alive.
        let function: extern "C" fn() -> u64 = unsafe { program.function(name) }.unwrap();
        Address::new(function())
    };
    assert_eq!(Some(address(&together, "three")), together.address("one"));
    assert_eq!(address(&together, "one"), address(&together, "one"));
    let loader = objects::load(&files)
        .unwrap()
        .with_placement(Placement::PerObject);
    let apart = objects::finish(loader, &process).unwrap();
    assert_eq!(slots(&apart), [2, 2, 2]);
    assert_eq!(Some(address(&apart, "three")), apart.address("one"));
}

#[test]
fn what_only_relocations_write_to_is_read_only_in_a_linked_program() {
    let got = load_from_got("strlen");
    let text = format!(
        ".globl variable\nvariable: .quad 1\n\
         .section .data.rel.ro.local, \"aw\"\n.globl table\ntable: .quad variable\n\
         .section .init_array, \"aw\"\n.globl array\narray: .quad variable\n\
         .text\n.globl function\nfunction:\n{got}\nret"
    );
    let process = Library::process().unwrap();
    let program = link(&[File::assemble("constant.o", &text)], &process).unwrap();
    let protection = |address: Address| {
        // The system's own view.
        region::query(address.get() as usize as *const u8)
            .unwrap()
            .protection()
    };
    let got = program
        .sections()
        .find(|section| section.name() == ".got")
        .unwrap();
    assert_eq!(protection(got.address()), Protection::READ);
    for (symbol, expected) in [
        ("variable", Protection::READ_WRITE),
        ("table", Protection::READ),
        ("array", Protection::READ),
        ("function", Protection::READ_EXECUTE),
    ] {
        assert_eq!(
            protection(program.address(symbol).unwrap()),
            expected,
            "{symbol}"
        );
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn instructions_reach_symbols_of_other_sections_as_the_assembler_says() {
    // Each row: how a function gets to 7, with `target` a function that returns it and `seven` an aligned number. The first
    // GOT slot is another's.
    for body in [
        "cbz xzr, target\nmov w0, #1\nret",
        "cmp xzr, xzr\nb.eq target\nmov w0, #1\nret",
        "tbz xzr, #5, target\nmov w0, #1\nret",
        "adr x9, target\nbr x9",
        "ldr w0, seven\nret",
        "adrp x9, seven\nldrb w0, [x9, :lo12:seven]\nret",
        "adrp x9, seven\nldrh w0, [x9, :lo12:seven]\nret",
        "adrp x9, seven\nldr w0, [x9, :lo12:seven]\nret",
        "adrp x9, seven\nldr x0, [x9, :lo12:seven]\nret",
        "adrp x9, seven\nldr q0, [x9, :lo12:seven]\nfmov w0, s0\nret",
        "adrp x9, :pg_hi21_nc:seven\nadd x9, x9, :lo12:seven\nldr w0, [x9]\nret",
        "ldr x9, :got:seven\nldr w0, [x9]\nret",
        "adrp x9, _GLOBAL_OFFSET_TABLE_\nldr x9, [x9, :gotpage_lo15:seven]\nldr w0, [x9]\nret",
        "movz x9, :abs_g3:seven\nmovk x9, :abs_g2_nc:seven\nmovk x9, :abs_g1_nc:seven\n\
         movk x9, :abs_g0_nc:seven\nldr w0, [x9]\nret",
        "movz x0, :abs_g0_s:small\nret",
        "mov x0, #8\nmovz x9, :abs_g0_s:minus_one\nadd x0, x0, x9\nret",
        "movz x0, :abs_g1:small_high\nlsr x0, x0, #16\nret",
        "adrp x9, _GLOBAL_OFFSET_TABLE_\nadd x9, x9, :lo12:_GLOBAL_OFFSET_TABLE_\n\
         ldr x9, [x9, :gotoff_lo15:seven]\nldr w0, [x9]\nret",
        "adrp x9, _GLOBAL_OFFSET_TABLE_\nadd x9, x9, :lo12:_GLOBAL_OFFSET_TABLE_\n\
         movz x10, :gotoff_g1:seven\nmovk x10, :gotoff_g0_nc:seven\nldr x9, [x9, x10]\nldr w0, [x9]\nret",
        // Each counts from itself.
        "adr x9, .\nmovz x10, :prel_g3:seven+4\nmovk x10, :prel_g2_nc:seven+8\nmovk x10, :prel_g1_nc:seven+12\n\
         movk x10, :prel_g0_nc:seven+16\nldr w0, [x9, x10]\nret",
        "adr x9, .\nmovz x10, :prel_g2:seven+4\nmovk x10, :prel_g1_nc:seven+8\nmovk x10, :prel_g0_nc:seven+12\n\
         ldr w0, [x9, x10]\nret",
        "adr x9, .\nmovz x10, :prel_g1:seven+4\nmovk x10, :prel_g0_nc:seven+8\nldr w0, [x9, x10]\nret",
        "adr x9, .\nmovz x10, :prel_g0:target+4\nadd x9, x9, x10\nbr x9",
        "adr x9, .\nmovz x10, :prel_g0:before+4\nadd x9, x9, x10\nbr x9", // Made a MOVN.
    ] {
        let text = format!(
            ".balign 16\n.zero 0x7f0\nseven: .quad 7, 0\n.globl seven\n\
             .globl small, minus_one, small_high\n\
             .set small, 7\n.set minus_one, -1\n.set small_high, 0x70000\n\
             .section .text.target, \"ax\"\n.globl target\ntarget: mov w0, #7\nret\n\
             .text\n.weak before\nbefore: mov w0, #7\nret\n\
             .globl function\nldr x9, :got:function\nfunction:\n{body}"
        );
        let program = link(&[File::assemble("reach.o", &text)], &()).unwrap();
        assert_eq!(call(&program, "function"), 7, "{body}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn instructions_reach_symbols_of_other_sections_as_the_assembler_says() {
    // Each row: how a function gets to 7, with `target` a function that returns it, `seven` a number, and the GOT in rcx. The
    // first slot is another's.
    for body in [
        "jmp *target@GOTPCREL(%rip)",
        "sub $8, %rsp\ncall *target@GOTPCREL(%rip)\nadd $8, %rsp\nret",
        "mov target@GOTPCREL(%rip), %rax\njmp *%rax",
        "mov seven@GOTPCREL(%rip), %r11\nmov (%r11), %eax\nret",
        "mov seven@GOTPCREL(%rip), %eax\nlea seven-7(%rip), %rdx\nsub %edx, %eax\nret",
        "xor %edx, %edx\nadd seven@GOTPCREL(%rip), %rdx\nmov (%rdx), %eax\nret",
        "mov seven@GOT(%rcx), %rax\nmov (%rax), %eax\nret",
        "movabs $seven@GOT, %rax\nmov (%rcx, %rax), %rax\nmov (%rax), %eax\nret",
        "movabs $target@GOTPLT, %rax\njmp *(%rcx, %rax)",
        "movabs $target@PLTOFF, %rax\nadd %rcx, %rax\njmp *%rax",
        "movabs $seven@GOTOFF, %rax\nmov (%rcx, %rax), %eax\nret",
        "lea .(%rip), %rax\n.byte 0x48, 0xba\n.quad seven@GOTPCREL+9\nmov (%rax, %rdx), %rax\nmov (%rax), %eax\nret",
        "lea .(%rip), %rax\nmovabs $_GLOBAL_OFFSET_TABLE_+7, %rdx\nadd %rdx, %rax\nsub %rcx, %rax\nadd $7, %rax\nret",
        "mov $seven@SIZE-9, %eax\nret",
        "movabs $seven@SIZE-9, %rax\nret",
    ] {
        let text = format!(
            ".globl seven\n.size seven, 16\nseven: .quad 7, 0\n\
             .section .text.target, \"ax\"\n.globl target\ntarget: mov $7, %eax\nret\n\
             .text\n.globl function\nadd function@GOTPCREL(%rip), %rax\n\
             function: lea _GLOBAL_OFFSET_TABLE_(%rip), %rcx\n{body}"
        );
        let program = link(&[File::assemble("reach.o", &text)], &()).unwrap();
        assert_eq!(call(&program, "function"), 7, "{body}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn instructions_go_through_the_got_only_to_what_is_out_of_reach() {
    // With `near` in the program and `far` out of its reach; what the one to `near` begins with.
    for (body, start) in [
        ("jmp *{}@GOTPCREL(%rip)", 0xe9),
        (
            "push %rbx\ncall *{}@GOTPCREL(%rip)\npop %rbx\nret",
            0xe8_6753,
        ),
        ("mov {}@GOTPCREL(%rip), %rax\njmp *%rax", 0x05_8d48),
        ("mov {}@GOTPCREL(%rip), %r9\njmp *%r9", 0x0d_8d4c),
    ] {
        let function = |name, target| {
            let body = body.replace("{}", target);
            format!(".text\n.globl {name}\n{name}: {body}\n")
        };
        let text = function("a", "near") + &function("b", "far");
        let text = format!("{text}.globl near\nnear: {}", returns(7));
        let program = link_far_away(&[File::assemble("got.o", &text)], &far_away);
        assert_eq!(
            (call(&program, "a"), call(&program, "b")),
            (7, 42),
            "{body}"
        );
        let mask = u64::MAX >> u64::leading_zeros(start);
        assert_eq!(number(&program, "a") & mask, start, "{body}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_size_of_what_no_object_defines_is_unknown() {
    let file = File::assemble("size.o", ".long far@SIZE");
    let error = link(&[file], &far_away).unwrap_err().to_string();
    assert_eq!(
        error,
        "size.o: .data+0x0: the size of a symbol that no object defines for far is not supported"
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_size_that_its_field_cannot_hold_is_no_matter_of_addresses() {
    let text = ".globl large\n.size large, 0x100000000\nlarge: .long large@SIZE";
    let error = link(&[File::assemble("large.o", text)], &()).unwrap_err();
    let LoadError::OutOfReach { source, advice, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.value(), 1 << 32);
    assert_eq!(*advice, "the symbol is too large for this field");
}

#[test]
fn objects_far_away_from_each_other_call_each_other_and_share_data_through_the_got() {
    let even = "extern int depth, common_count[4]; int odd(int);\n\
        int even(int n) { depth++; common_count[1] += 2; return n == 0 ? 1 : odd(n - 1); }\n\
        int start(void) { return even(10) * 1000 + depth * 10 + common_count[1]; }";
    let odd = "int even(int); int depth = 3; int common_count[4];\n\
        int odd(int n) { depth++; return n == 0 ? 0 : even(n - 1); }";
    let files = [
        File::compile("even.o", even, &["-fcommon"]),
        File::compile("odd.o", odd, &["-fcommon"]),
        File::compile(
            "unused.o",
            "int common_count[4]; long unused = 1;",
            &["-fcommon"],
        ),
    ];
    let loader = objects::load(&files)
        .unwrap()
        .with_placement(Placement::PerObject);
    let mut far_apart = FarApart::default();
    let program = loader.link(&mut far_apart, &()).unwrap();
    let distance = |a, b| {
        let address = |name| program.address(name).unwrap().get();
        address(a).abs_diff(address(b))
    };
    assert!(
        distance("even", "odd") > 1 << 32,
        "{:#x}",
        distance("even", "odd")
    );
    assert!(stubs(&program) >= 2);
    assert_eq!(call(&program, "start"), 1000 + 14 * 10 + 12);
}

#[test]
fn a_direct_reference_works_within_a_block_and_is_refused_beyond_reach() {
    let user = "extern int answer __attribute__((visibility(\"hidden\"))); int ask(void) { return answer; }";
    let files = [
        File::compile("user.o", user, &[]),
        File::compile(
            "owner.o",
            "__attribute__((visibility(\"hidden\"))) int answer = 42;",
            &[],
        ),
    ];
    assert_eq!(call(&link(&files, &()).unwrap(), "ask"), 42);

    let apart = || {
        objects::load(&files)
            .unwrap()
            .with_placement(Placement::PerObject)
    };
    match objects::finish(apart(), &()) {
        Ok(program) => assert_eq!(call(&program, "ask"), 42), // The two blocks happen to be neighbours.
        Err(error) => assert!(matches!(error, LoadError::OutOfReach { .. }), "{error}"),
    }

    let error = apart().link(&mut FarApart::default(), &()).unwrap_err();
    let LoadError::OutOfReach {
        place,
        symbol,
        source,
        advice,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (&*place.object, &*place.section, &**symbol),
        ("user.o", ".text", "answer")
    );
    assert!(source.to_string().contains("the limit"), "{source}");
    assert!(advice.contains("another reservation"), "{advice}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
#[cfg(target_arch = "x86_64")] // The AArch64 assembler of binutils 2.40 does not know its relocation for this.
fn a_distance_to_a_far_function_in_data_leads_to_its_stub() {
    // What clang writes into relative vtables: the distance from the table, not from the field.
    let text = format!(
        ".section .rodata, \"a\"\n.globl table\n.balign 4\ntable: .long 0, 0\n.reloc table+4, R_X86_64_PLT32, far + 4\n\
         .text\n.globl b\nb: {}",
        jump("far")
    );
    let program = link_far_away(&[File::assemble("table.o", &text)], &far_away);
    let table = program.address("table").unwrap().get();
    // SAFETY: two words of a program that is alive.
    let distance = unsafe { *((table + 4) as usize as *const i32) };
    let mut stubs = program
        .sections()
        .filter(|section| section.name() == ".stubs");
    let stub = table.wrapping_add_signed(distance.into());
    assert_eq!(stub, stubs.next().unwrap().address().get());
}
