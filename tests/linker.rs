//! The loader against GNU ld: random objects with relocations of every kind, linked at the same addresses, have the same bytes.
//!
//! Nothing runs here, so that both CPUs are tested on each. Compared are all bytes of all sections, with one exception: where
//! a field leads to a GOT entry, both fields have to lead to an entry that holds the symbol's address, since each linker has
//! an order of its own for entries. Not compared are veneers, whose form is each linker's own, and `.eh_frame`, which GNU ld
//! rewrites.
//!
//! Instructions that linkers change so that they need no GOT entry have a test of their own, with lld beside GNU ld.
//!
//! `NEARCODE_SEED` is a number for other objects than the usual ones.
#![cfg(feature = "loader")]

#[path = "support/object_files.rs"]
mod object_files;
#[path = "support/pretended.rs"]
mod pretended;
#[path = "support/random_objects.rs"]
mod random_objects;
#[path = "support/relocations.rs"]
mod relocations;

use std::collections::{HashMap, HashSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use nearcode::Address;
use nearcode::loader::{LoadError, Loader, Machine, Sections};
use nearcode::reach::Value;
use object::{Object as _, ObjectSection as _};

use object_files::Reader;
use pretended::Pretended;
use random_objects::{Batch, Home, Random, Section};
use relocations::{Kind, Operand, kinds};

/// Objects for each CPU, and how many of them are linked at once.
const CASES: usize = 1000;
const BATCH: usize = 50;

/// A linker for one CPU.
struct Ld {
    program: &'static str,
    emulation: &'static str,
    flags: &'static [&'static str],
    folder: PathBuf,
}

impl Ld {
    /// GNU ld, which leaves instructions as they are. `None` if it is not installed.
    fn find(machine: Machine, purpose: &str) -> Option<Self> {
        let (emulation, programs) = match machine {
            Machine::Aarch64 => ("aarch64linux", ["aarch64-linux-gnu-ld", "ld"]),
            _ => ("elf_x86_64", ["x86_64-linux-gnu-ld", "ld"]),
        };
        Self::among(
            &programs,
            emulation,
            emulation,
            &["-static", "--no-relax"],
            &format!("{purpose}-{machine}"),
        )
    }

    /// GNU ld and lld, as far as they are installed, so that they change instructions as the loader does. In a program whose
    /// address is known, GNU ld would write addresses into some.
    fn find_relaxing() -> Vec<Self> {
        let (gnu, emulation) = (["x86_64-linux-gnu-ld", "ld"], "elf_x86_64");
        let flags = &["-pie", "--no-dynamic-linker"];
        let gnu = Self::among(&gnu, emulation, emulation, flags, "relaxed");
        let lld = ["ld.lld", "ld.lld-22", "ld.lld-14"];
        let lld = Self::among(&lld, "LLD", emulation, &["-static"], "relaxed-lld");
        gnu.into_iter().chain(lld).collect()
    }

    /// The first of `programs` that says `word` when it is asked what it is.
    fn among(
        programs: &[&'static str],
        word: &str,
        emulation: &'static str,
        flags: &'static [&'static str],
        purpose: &str,
    ) -> Option<Self> {
        let says = |program: &&&str| {
            let output = Command::new(program).arg("-V").output();
            output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(word))
        };
        let Some(program) = programs.iter().find(says) else {
            // Past the test harness, which shows nothing of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped: no {}", programs[0]);
            return None;
        };
        let folder = format!("{purpose}-{}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).expect("cargo's folder for tests is writable");
        Some(Self {
            program,
            emulation,
            flags,
            folder,
        })
    }

    /// The file that it makes of objects and a script, or what it says.
    fn link(&self, objects: &[Vec<u8>], script: &str) -> Result<Vec<u8>, String> {
        let write = |name: &str, contents: &[u8]| {
            fs::write(self.folder.join(name), contents).expect("the folder is writable");
        };
        write("script", script.as_bytes());
        let mut command = Command::new(self.program);
        command.current_dir(&self.folder).env("LC_ALL", "C");
        command.args(["-m", self.emulation, "-T", "script", "-o", "out", "-e", "0"]);
        command.args(self.flags);
        command.args(["--no-check-sections", "--verbose"]);
        command.args(["-znorelro", "-znoexecstack", "-zmax-page-size=4096"]);
        for (number, object) in objects.iter().enumerate() {
            let name = format!("{number}.o");
            write(&name, object);
            command.arg(name);
        }
        let output = command.output().expect("it was there a moment ago");
        if output.status.success() {
            Ok(fs::read(self.folder.join("out")).expect("ld has written it"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Ld {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Puts each section where it belongs. The GOT's name stands for the beginning of `.got.plt` on x86-64.
fn script(batch: &Batch) -> String {
    let mut script = String::new();
    let mut sections: Vec<(u64, String, &str)> = Vec::new();
    let got = match batch.machine {
        Machine::Aarch64 => "*(.got) *(.got.plt)",
        _ => "*(.got.plt) *(.got)",
    };
    sections.push((batch.got, ".got".into(), got));
    for section in &batch.sections {
        sections.push((section.address, section.name.clone(), ""));
    }
    for symbol in &batch.symbols {
        match symbol.home {
            Home::Outside => writeln!(script, "{} = {:#x};", symbol.name, symbol.address).unwrap(),
            Home::Common => sections.push((symbol.address, ".common".into(), "*(COMMON)")),
            _ => {}
        }
    }
    sections.sort_unstable();
    script.push_str("SECTIONS {\n");
    for (address, name, contents) in sections {
        match contents {
            "" => writeln!(script, "{name} {address:#x} : {{ *({name}) }}").unwrap(),
            _ => writeln!(script, "{name} {address:#x} : {{ {contents} }}").unwrap(),
        }
    }
    script.push_str("}\n");
    script
}

/// What the loader makes of some objects of a batch.
fn load(batch: &Batch, objects: Range<usize>) -> Result<Pretended, LoadError> {
    let files: Vec<Vec<u8>> = objects
        .map(|object| batch.write(object, Reader::Loader))
        .collect();
    let mut loader = Loader::for_machine(batch.machine).with_sections(Sections::Apart);
    for (number, file) in files.iter().enumerate() {
        loader.load(&format!("{number}.o"), file)?;
    }
    let mut manager = Pretended::new(batch.addresses());
    let outside = |name: &str| {
        let mut symbols = batch.symbols.iter();
        let symbol = symbols.find(|symbol| symbol.name == name && symbol.home == Home::Outside)?;
        Some(Address::new(symbol.address))
    };
    loader.link(&mut manager, &outside)?;
    Ok(manager)
}

/// One linker's bytes of a section, and of the GOT.
struct Linked<'a> {
    whose: &'static str,
    bytes: Vec<u8>,
    got: &'a [u8],
}

impl Linked<'_> {
    /// The fields that lead to GOT entries: each entry has to hold its symbol's address. Then they no longer differ.
    fn follow_slots(&mut self, batch: &Batch, section: &Section) {
        for site in section.sites.iter().filter(|site| site.kind.is_slot()) {
            let at = site.offset as usize;
            let is_written = self.whose == "loader" || site.kind.number_for_ld(batch.machine) != 0;
            if site.kind.operand == Operand::SlotFromGotHigh && is_written {
                let is_zero = site.kind.is_zero(&self.bytes[at..]);
                assert!(is_zero, "{}: {site:x?} of {}", self.whose, section.name);
            } else if site.kind.operand != Operand::SlotLow && is_written {
                let place = section.address + site.offset;
                let kind = site.kind;
                let slot = kind.slot(
                    batch.machine,
                    &self.bytes[at..],
                    place,
                    site.addend,
                    batch.got,
                );
                let entry = usize::try_from(slot.wrapping_sub(batch.got)).ok();
                let entry = entry.and_then(|entry| self.got.get(entry..)?.first_chunk());
                let symbol = &batch.symbols[site.symbol];
                assert_eq!(
                    entry.map(|entry| u64::from_le_bytes(*entry)),
                    Some(symbol.address),
                    "{}: the entry at {slot:#x}, for {symbol:x?}, that {site:x?} of {} leads to",
                    self.whose,
                    section.name
                );
            }
        }
        // Only now: an `adrp` was read together with the load behind it.
        for site in section.sites.iter().filter(|site| site.kind.is_slot()) {
            site.kind.blank(&mut self.bytes[site.offset as usize..]);
        }
    }
}

/// Compares a batch. How many relocations were in it.
fn compare(ld: &Ld, batch: &Batch) -> usize {
    let ours = load(batch, 0..batch.objects);
    let ours = ours.unwrap_or_else(|error| panic!("the loader refuses: {error}"));
    let files: Vec<Vec<u8>> = (0..batch.objects)
        .map(|object| batch.write(object, Reader::Ld))
        .collect();
    let script = script(batch);
    let theirs = ld.link(&files, &script);
    let theirs = theirs.unwrap_or_else(|error| panic!("ld refuses: {error}"));
    let theirs = object::File::parse(&*theirs).expect("ld writes ELF");
    let their_sections: HashMap<&str, (u64, &[u8])> = theirs
        .sections()
        .map(|section| {
            let name = section.name().expect("ld writes names");
            let data = section.data().expect("ld writes data");
            (name, (section.address(), data))
        })
        .collect();
    let their_got = their_sections
        .get(".got")
        .map_or(&[][..], |section| section.1);
    let mut count = 0;
    let sections = batch.sections.iter();
    for section in sections.filter(|section| !section.contents.is_empty()) {
        let name = &section.name;
        let (address, bytes) = their_sections[&**name];
        assert_eq!(address, section.address, "{name}");
        let mut ours = Linked {
            whose: "loader",
            bytes: ours.bytes(name).expect("a section").to_vec(),
            got: ours.bytes(".got").unwrap_or_default(),
        };
        let mut theirs = Linked {
            whose: "ld",
            bytes: bytes.to_vec(),
            got: their_got,
        };
        assert_eq!(ours.bytes.len(), theirs.bytes.len(), "{name}");
        ours.follow_slots(batch, section);
        theirs.follow_slots(batch, section);
        let mut pairs = ours.bytes.iter().zip(&theirs.bytes);
        if let Some(at) = pairs.position(|(ours, theirs)| ours != theirs) {
            let mut sites = section.sites.iter().rev();
            let site = sites.find(|site| site.offset as usize <= at);
            let symbol = site.map(|site| &batch.symbols[site.symbol]);
            let end = (at + 8).min(ours.bytes.len());
            panic!(
                "{name}+{at:#x}: {:x?} are {:x?} from ld, in {section:x?} of {site:x?}, {symbol:x?}",
                &ours.bytes[at..end],
                &theirs.bytes[at..end],
            );
        }
        count += section.sites.len();
    }
    count
}

fn seed() -> Random {
    let seed = env::var("NEARCODE_SEED").map_or(4711, |seed| seed.parse().expect("a number"));
    println!("NEARCODE_SEED={seed}");
    Random(seed)
}

fn compare_all(machine: Machine) {
    let Some(ld) = Ld::find(machine, "bytes") else {
        return;
    };
    let mut random = seed();
    let mut relocations = 0;
    let mut compared = HashSet::new();
    for _ in 0..CASES / BATCH {
        let batch = Batch::new(&mut random, machine, BATCH);
        relocations += compare(&ld, &batch);
        let sites = batch.sections.iter().flat_map(|section| &section.sites);
        compared.extend(sites.map(|site| site.kind.number));
    }
    println!("{machine}: {CASES} objects, {relocations} relocations");
    for kind in kinds(machine) {
        assert!(compared.contains(&kind.number), "{kind:?} never came up");
    }
}

#[test]
fn aarch64_objects_become_what_ld_makes_of_them() {
    compare_all(Machine::Aarch64);
}

#[test]
fn x86_64_objects_become_what_ld_makes_of_them() {
    compare_all(Machine::X86_64);
}

/// An instruction that goes through the GOT to what it could reach becomes one that goes there.
#[test]
fn x86_64_instructions_do_without_the_got_as_linkers_make_them() {
    let linkers = Ld::find_relaxing();
    let mut random = seed();
    let mut count = 0;
    for _ in 0..CASES / BATCH {
        let batch = Batch::relaxed(&mut random, BATCH);
        for ld in &linkers {
            count += compare(ld, &batch);
        }
    }
    println!("{count} instructions, {} linkers", linkers.len());
}

/// Addends with which a relocation of its own place is out of range by one step, or is misaligned.
fn addends_out_of_range(machine: Machine, kind: &Kind, place: u64, got: u64) -> Vec<i64> {
    let range = kind.range(machine);
    let step = range.multiple_of() as i64;
    let [mut below, mut above] = match range.name() {
        // GNU ld makes veneers, does not check, or does not know it: tests/reach_table.rs has the answers of others.
        "R_AARCH64_CALL26" | "R_AARCH64_JUMP26" => return Vec::new(),
        "R_AARCH64_ADR_GOT_PAGE" | "R_AARCH64_GOTPCREL32" => return Vec::new(),
        // It would take 4,096 GOT entries, as it does there.
        "R_AARCH64_LD64_GOTPAGE_LO15" | "R_AARCH64_LD64_GOTOFF_LO15" => return Vec::new(),
        // Not known to GNU ld, or out of range only in a GOT that is too large to make.
        name if name.contains("MOVW_GOTOFF") || name.contains("_CODE_") => return Vec::new(),
        // GNU ld is laxer than the ABI.
        "R_X86_64_16" | "R_X86_64_PC16" => [-0x1_0001, 0x1_0000],
        "R_X86_64_8" => [-0x101, 0x100],
        _ if range.value() == Value::LowBits && step > 1 => return vec![step / 2],
        _ if range.min() == i64::MIN => return Vec::new(),
        _ => [range.min() - step, (range.max() & -step) + step],
    };
    let origin = match (kind.operand, range.value()) {
        (Operand::Slot, _) if machine == Machine::Aarch64 => return vec![0], // Far away from the GOT as it is.
        (Operand::Slot, _) => {
            // Whichever entry it is: there are few.
            (below, above) = (below - 0x1000, above + 0x1000);
            place.wrapping_sub(got)
        }
        (Operand::SlotFromGot, _) => {
            (below, above) = (below - 0x1000, above + 0x1000);
            0
        }
        (Operand::Got, _) => place.wrapping_sub(got),
        (Operand::SymbolFromGot, _) => got.wrapping_sub(place),
        (Operand::Size, _) => 0,
        (_, Value::Absolute) => place.wrapping_neg(),
        _ => 0,
    };
    [below, above]
        .map(|x| origin.wrapping_add_signed(x) as i64)
        .to_vec()
}

fn refuse_all(machine: Machine) {
    let Some(ld) = Ld::find(machine, "refusals") else {
        return;
    };
    let got = 0x1234_0000_0000;
    let mut relocations = Vec::new();
    let computed = |kind: &&Kind| !matches!(kind.operand, Operand::Nothing | Operand::SlotLow);
    for kind in kinds(machine).iter().filter(computed) {
        for side in 0..2 {
            let place = got + 0x1000_0000 + 0x1000 * relocations.len() as u64;
            let addends = addends_out_of_range(machine, kind, place, got);
            relocations.extend(addends.get(side).map(|&addend| (kind, place, addend)));
        }
    }
    let batch = Batch::singles(machine, got, &relocations);
    let files: Vec<Vec<u8>> = (0..batch.objects)
        .map(|object| batch.write(object, Reader::Ld))
        .collect();
    let message = ld
        .link(&files, &script(&batch))
        .expect_err("all are out of range");
    for (number, (kind, ..)) in relocations.iter().enumerate() {
        let name = kind.range(machine).name();
        let error = load(&batch, number..number + 1).expect_err(name);
        let LoadError::OutOfReach { source, .. } = &error else {
            panic!("{name}: {error}");
        };
        assert_eq!(source.relocation(), name);
        let offset = kind.head.len();
        let place = format!("(.s{number}+{offset:#x}): relocation truncated to fit: ");
        let is_refused = message.lines().any(|line| line.contains(&place));
        assert!(is_refused, "ld accepts {error}:\n{message}");
    }
    println!("{machine}: {} relocations are refused", relocations.len());
}

#[test]
fn what_is_out_of_range_on_aarch64_is_refused_by_both() {
    refuse_all(Machine::Aarch64);
}

#[test]
fn what_is_out_of_range_on_x86_64_is_refused_by_both() {
    refuse_all(Machine::X86_64);
}

/// GNU ld ignores the addend; aaelf64 says G(GDAT(S + A)).
#[test]
fn an_addend_on_aarch64_is_part_of_what_a_got_entry_holds() {
    let kinds = kinds(Machine::Aarch64).iter();
    for kind in kinds.filter(|kind| kind.is_slot() && kind.mask != 0) {
        let relocations = [(kind, 0x2000, 0), (kind, 0x3000, 0x18), (kind, 0x4000, -8)];
        let batch = Batch::singles(Machine::Aarch64, 0x1000, &relocations);
        let linked = load(&batch, 0..3).unwrap();
        let got = linked.bytes(".got").unwrap();
        let entries = got
            .chunks_exact(8)
            .map(|entry| u64::from_le_bytes(entry.try_into().unwrap()));
        assert_eq!(
            entries.collect::<Vec<_>>(),
            [0x2000, 0x3018, 0x3ff8],
            "{kind:?}"
        );
    }
}

#[test]
fn every_relocation_that_the_loader_knows_is_compared() {
    for machine in [Machine::Aarch64, Machine::X86_64] {
        for number in 0..2048 {
            let known = kinds(machine).iter().find(|kind| kind.number == number);
            let kind = known.unwrap_or_else(|| Box::leak(Box::new(Kind::nothing(number))));
            let batch = Batch::singles(machine, 0x1000, &[(kind, 0x2000, 0)]);
            let error = load(&batch, 0..1).err();
            let is_unsupported = matches!(error, Some(LoadError::Unsupported { .. }));
            assert_eq!(
                is_unsupported,
                known.is_none(),
                "{machine} {number}: {error:?}"
            );
        }
    }
}
