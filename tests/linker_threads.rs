//! Offsets of thread-local variables against GNU ld: in a block, from the thread pointer, and in the fields of all instructions
//! that hold them.
//!
//! What goes through GOT entries is not compared: GNU ld leaves entries to the dynamic linker, or changes the instructions.
//! The CPU says whether they are right: tests/thread_local.rs. Offsets from the thread pointer are compared for the CPU that this
//! is not: on its own the loader's are those of a part of the test's executable.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use nearcode::loader::{Loader, Machine};
use nearcode::{Address, SectionMemoryManager};
use object::{Object as _, ObjectSection as _};

/// Variables of two objects: of all kinds, alignments and sizes.
const FIRST: &str = ".section .tdata,\"awT\",%progbits\n.balign 64\n.byte 1\n.globl a\na: .skip 0x1231\n\
    .section .tbss,\"awT\",%nobits\n.balign 16\n.skip 48\n.globl b\nb: .skip 0x3456\n";
const SECOND: &str = ".section .tdata,\"awT\",%progbits\n.balign 8\n.skip 5\n.globl c\nc: .quad 7\n\
    .section .tbss,\"awT\",%nobits\n.balign 32\n.globl d\nd: .skip 99\n.globl e\ne:\n";

/// Every how many bytes to damage one: each, but on aarch64, which is mostly an emulator.
const STRIDE: usize = if cfg!(target_arch = "aarch64") { 17 } else { 1 };

/// A CPU, its tools, and instructions with the offset of `@` in them.
struct Row {
    machine: Machine,
    cc: &'static str,
    ld: &'static str,
    /// In the block.
    dynamic: &'static [&'static str],
    /// Through GOT entries.
    entries: &'static [&'static str],
    /// From the thread pointer.
    fixed: &'static [&'static str],
}

const ROWS: [Row; 2] = [
    Row {
        machine: Machine::X86_64,
        cc: "x86_64-linux-gnu-gcc",
        ld: "x86_64-linux-gnu-ld",
        dynamic: &["lea @@dtpoff(%rax), %rcx", "add $@@dtpoff, %rcx"],
        entries: &[
            "lea @@tlsgd(%rip), %rdi",
            "lea @@tlsld(%rip), %rdi",
            "lea @@tlsdesc(%rip), %rax",
        ],
        fixed: &[
            "mov %fs:@@tpoff, %eax",
            "lea @@tpoff(%rax), %rcx",
            "movabs $@@tpoff, %rax",
        ],
    },
    Row {
        machine: Machine::Aarch64,
        cc: "aarch64-linux-gnu-gcc",
        ld: "aarch64-linux-gnu-ld",
        dynamic: &[
            "movz x0, #:dtprel_g1:@",
            "movk x0, #:dtprel_g1_nc:@",
            "movz x0, #:dtprel_g0:@",
            "movk x0, #:dtprel_g0_nc:@",
            "add x0, x0, #:dtprel_hi12:@",
            "add x0, x0, #:dtprel_lo12_nc:@",
            "ldrb w0, [x0, #:dtprel_lo12_nc:@]",
        ],
        entries: &[
            "adrp x0, :tlsgd:@",
            "adrp x0, :tlsldm:@",
            "movz x0, #:tlsgd_g1:@",
            "adrp x0, :tlsdesc:@",
        ],
        fixed: &[
            "movz x0, #:tprel_g1:@",
            "movk x0, #:tprel_g1_nc:@",
            "movz x0, #:tprel_g0:@",
            "movk x0, #:tprel_g0_nc:@",
            "add x0, x0, #:tprel_hi12:@",
            "add x0, x0, #:tprel_lo12_nc:@",
            "ldrb w0, [x0, #:tprel_lo12_nc:@]",
        ],
    },
];

impl Row {
    fn assemble(&self, name: &str, text: &str) -> PathBuf {
        let source = support::text_file(&format!("{name}.s"), text);
        support::compile_by(Command::new(self.cc), &source, &[])
    }

    /// Both linkers' bytes of the code.
    fn compare(&self, forms: &[&str], flags: &[&str]) {
        let variables = ["a", "b", "c", "d", "e", "a+3", "d-17"];
        let code: String = variables
            .iter()
            .flat_map(|variable| {
                forms
                    .iter()
                    .map(move |form| form.replacen('@', variable, 1) + "\n")
            })
            .collect();
        let objects = [
            self.assemble("threads_first", FIRST),
            self.assemble("threads_second", SECOND),
            self.assemble("threads_code", &format!(".text\n{code}")),
        ];
        let theirs = self.ld(&objects, flags);
        let files = objects.map(|path| std::fs::read(path).unwrap());
        let mut loader = Loader::for_machine(self.machine);
        for (number, file) in files.iter().enumerate() {
            loader.load(&format!("{number}.o"), file).unwrap();
        }
        let mut manager = SectionMemoryManager::new();
        let program = loader.link(&mut manager, &()).unwrap();
        let mut sections = program.sections();
        let text = sections.find(|section| section.name() == ".text" && section.object() == "2.o");
        let text = text.unwrap();
        let start = text.address().get() as usize as *const u8;
        // SAFETY: a section of a program that is alive, and code can be read.
        let ours = unsafe { std::slice::from_raw_parts(start, text.size()) };
        assert!(!ours.is_empty());
        let differs = ours
            .iter()
            .zip(&theirs)
            .position(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "{}: {code}", self.machine);
        assert_eq!(ours.len(), theirs.len());
    }

    /// What GNU ld makes of the last object's code.
    fn ld(&self, objects: &[PathBuf], flags: &[&str]) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let out = folder.join(format!("threads-{}-{}", self.machine, flags.len()));
        let mut command = Command::new(self.ld);
        command.args(flags).args(["--no-relax", "-e", "0", "-o"]);
        let outcome = support::run(command.arg(&out).args(objects));
        assert_eq!(outcome.status, "exit status: 0", "{outcome:?}");
        let bytes = std::fs::read(&out).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let text = file.section_by_name(".text").unwrap();
        text.data().unwrap().to_vec()
    }

    fn is_installed(&self) -> bool {
        let there = |tool| Command::new(tool).arg("--version").output().is_ok();
        let is_installed = there(self.cc) && there(self.ld);
        if !is_installed {
            println!(
                "{} and {} are not installed: not compared",
                self.cc, self.ld
            );
        }
        is_installed
    }
}

#[test]
fn offsets_in_a_block_are_those_of_ld() {
    for row in ROWS.iter().filter(|row| row.is_installed()) {
        row.compare(row.dynamic, &["-shared", "-z", "notext"]);
    }
}

#[test]
fn offsets_from_the_thread_pointer_are_those_of_ld() {
    let others = ROWS.iter().filter(|row| Some(row.machine) != Machine::HOST);
    for row in others.filter(|row| row.is_installed()) {
        row.compare(row.fixed, &["-static"]);
    }
}

#[test]
fn no_byte_of_an_object_with_thread_local_variables_can_make_the_loader_panic() {
    for row in ROWS.iter().filter(|row| row.is_installed()) {
        let code: Vec<String> = row
            .dynamic
            .iter()
            .chain(row.entries)
            .map(|form| form.replacen('@', "a", 1))
            .collect();
        let text = format!("{FIRST}.text\n{}\n", code.join("\n"));
        let original = std::fs::read(row.assemble("threads_damaged", &text)).unwrap();
        let link = |bytes: &[u8]| {
            let mut loader = Loader::for_machine(row.machine).with_max_bytes(1 << 24);
            loader.load("damaged.o", bytes)?;
            let anything = |_: &str| Some(Address::new(0x7000_0000_0000));
            loader.link(&mut SectionMemoryManager::new(), &anything)
        };
        link(&original).unwrap();
        let (mut fine, mut refused) = (0, 0);
        let mut bytes = original.clone();
        for at in (0..original.len()).step_by(STRIDE) {
            for value in [0, 0xff, original[at] ^ 1, original[at] ^ 0x80] {
                bytes[at] = value;
                match link(&bytes) {
                    Ok(_) => fine += 1,
                    Err(_) => refused += 1,
                }
            }
            bytes[at] = original[at];
        }
        println!("{}: {fine} fine, {refused} refused", row.machine);
        assert!(fine > 100 && refused > 50);
    }
}
