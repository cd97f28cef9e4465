//! The tables in `src/reach/` against GNU ld and lld.
//!
//! `reach/generate.py` has asked the linkers about both ends of each row: the last X inside, the first one outside, X that is
//! not aligned, targets at both borders of a page. `reach/answers.txt` is what they said. Where a linker does not do as the
//! ABI says, the table follows the ABI and [`DEVIATIONS`] names the case and the reason.

use std::collections::BTreeSet;

use nearcode::reach::{RelocationRange, Value, aarch64, x86_64};

const ANSWERS: &str = include_str!("reach/answers.txt");

/// A linker that is not of the table's opinion.
struct Deviation {
    linkers: &'static [&'static str],
    /// Without `R_`.
    relocations: &'static [&'static str],
    /// Each X that only one of the two accepts.
    values: &'static [i64],
    /// And the ABI's word on it, with its section.
    reason: &'static str,
}

const GNU: &[&str] = &["ld"];
const LLD: &[&str] = &["lld-14", "lld-22"];
const ALL: &[&str] = &["ld", "lld-14", "lld-22"];

const DEVIATIONS: &[Deviation] = &[
    Deviation {
        linkers: GNU,
        relocations: &["X86_64_16"],
        values: &[-0x8001],
        reason: "accepts down to -2^16. AMD64 ABI, Relocation Types: 16 bits; such a value has lost its sign",
    },
    Deviation {
        linkers: GNU,
        relocations: &["X86_64_8"],
        values: &[-0x81],
        reason: "accepts down to -2^8. AMD64 ABI, Relocation Types: 8 bits; such a value has lost its sign",
    },
    Deviation {
        linkers: GNU,
        relocations: &["X86_64_PC16"],
        values: &[-0x8001, 0x8000],
        reason: "accepts +-2^16. AMD64 ABI, Relocation Types: 16 bits; such a distance has lost its sign",
    },
    Deviation {
        linkers: GNU,
        relocations: &["X86_64_SIZE32"],
        values: &[-0x8000_0000],
        reason: "takes sizes for unsigned. AMD64 ABI, Relocation Types: Z + A in 32 bits, no reading is prescribed",
    },
    Deviation {
        linkers: LLD,
        relocations: &["X86_64_SIZE32"],
        values: &[0xffff_ffff],
        reason: "takes sizes for signed. AMD64 ABI, Relocation Types: Z + A in 32 bits, no reading is prescribed",
    },
    Deviation {
        linkers: GNU,
        relocations: &["X86_64_GOTPC32_TLSDESC"],
        values: &[-0x8000_0001, 0x8000_0000],
        reason: "does not check. AMD64 ABI, Relocation Types: a displacement of 32 bits, which the CPU sign-extends",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_ABS32"],
        values: &[-0x8000_0000],
        reason: "takes data for unsigned. aaelf64, Data relocations: -2^31 <= X < 2^32",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_ABS16"],
        values: &[-0x8000],
        reason: "takes data for unsigned. aaelf64, Data relocations: -2^15 <= X < 2^16",
    },
    Deviation {
        linkers: LLD,
        relocations: &["AARCH64_PREL32"],
        values: &[0x8000_0000],
        reason: "accepts up to 2^32, as aaelf64, Data relocations, lets it: what reads the field takes it for negative",
    },
    Deviation {
        linkers: LLD,
        relocations: &["AARCH64_PREL16"],
        values: &[0x8000],
        reason: "accepts up to 2^16, as aaelf64, Data relocations, lets it: what reads the field takes it for negative",
    },
    Deviation {
        linkers: ALL,
        relocations: &["AARCH64_TSTBR14"],
        values: &[-0x7ffe, 0x7ffa],
        reason: "drops two bits. aaelf64, Control-flow relocations: all offsets are multiples of 4",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_CONDBR19"],
        values: &[-0xf_fffe, 0xf_fffa],
        reason: "drops two bits. aaelf64, Control-flow relocations: all offsets are multiples of 4",
    },
    Deviation {
        linkers: ALL,
        relocations: &["AARCH64_JUMP26", "AARCH64_CALL26"],
        values: &[-0x7ff_fffe, 0x7ff_fffa],
        reason: "drops two bits. aaelf64, Control-flow relocations: all offsets are multiples of 4",
    },
    Deviation {
        linkers: LLD,
        relocations: &["AARCH64_MOVW_PREL_G3"],
        values: &[i64::MIN],
        reason: "writes MOVZ. aaelf64, Group relocations (PC-relative): MOVN of the inverted bits if X < 0; any X fits",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_ADR_GOT_PAGE"],
        values: &[-0x1_0000_1000, 0x1_0000_0000],
        reason: "does not check. aaelf64, GOT-relative instruction relocations: -2^32 <= X < 2^32",
    },
    Deviation {
        linkers: LLD,
        relocations: &["AARCH64_LD64_GOTPAGE_LO15"],
        values: &[0x8000],
        reason: "does not check. aaelf64, GOT-relative instruction relocations: 0 <= X < 2^15",
    },
    Deviation {
        linkers: LLD,
        relocations: &["AARCH64_PLT32"],
        values: &[0x7fff_ffff],
        reason: "makes a veneer for the last three bytes. aaelf64, Data relocations: -2^31 <= X < 2^31",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_TLSGD_ADR_PREL21", "AARCH64_TLSDESC_ADR_PREL21"],
        values: &[-0x10_0001, 0x10_0000],
        reason: "does not check. aaelf64, General Dynamic TLS and TLS descriptor relocations: -2^20 <= X < 2^20",
    },
    Deviation {
        linkers: GNU,
        relocations: &[
            "AARCH64_TLSGD_ADR_PAGE21",
            "AARCH64_TLSIE_ADR_GOTTPREL_PAGE21",
            "AARCH64_TLSDESC_ADR_PAGE21",
        ],
        values: &[-0x1_0000_1000, 0x1_0000_0000],
        reason: "does not check. aaelf64, Thread-local storage relocations: -2^32 <= X < 2^32",
    },
    Deviation {
        linkers: GNU,
        relocations: &[
            "AARCH64_TLSIE_LD_GOTTPREL_PREL19",
            "AARCH64_TLSDESC_LD_PREL19",
        ],
        values: &[-0x10_0004, 0x10_0000],
        reason: "does not check. aaelf64, Initial Exec TLS and TLS descriptor relocations: -2^20 <= X < 2^20",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_TLSLE_MOVW_TPREL_G2"],
        values: &[-0x1_0000_0000_0000, 0, 0xffff_ffff_ffff],
        reason: "refuses every X. aaelf64, Local Exec TLS relocations: -2^48 <= X < 2^48",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_TLSLE_MOVW_TPREL_G1"],
        values: &[-0x1_0000_0000, 0x1_0000_0000],
        reason: "writes MOVZ without a check. aaelf64, Local Exec TLS relocations: MOVN if X < 0; -2^32 <= X < 2^32",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_TLSLE_MOVW_TPREL_G0"],
        values: &[-0x1_0000, 0x1_0000],
        reason: "writes MOVZ without a check. aaelf64, Local Exec TLS relocations: MOVN if X < 0; -2^16 <= X < 2^16",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_TLSLD_MOVW_DTPREL_G2"],
        values: &[-0x1_0000_0000_0000],
        reason: "writes MOVZ. aaelf64, Local Dynamic TLS relocations: MOVN if X < 0",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_TLSLD_MOVW_DTPREL_G1"],
        values: &[-0x1_0000_0000],
        reason: "writes MOVZ. aaelf64, Local Dynamic TLS relocations: MOVN if X < 0",
    },
    Deviation {
        linkers: GNU,
        relocations: &["AARCH64_TLSLD_MOVW_DTPREL_G0"],
        values: &[-0x1_0000],
        reason: "writes MOVZ. aaelf64, Local Dynamic TLS relocations: MOVN if X < 0",
    },
];

/// Rows that none of these linkers knows, or whose ends no GOT reaches: the ABI's text alone stands behind them.
const UNANSWERED: &[(&str, &str)] = &[
    ("R_X86_64_CODE_5_GOTPCRELX", "AMD64 ABI, Relocation Types"),
    ("R_X86_64_CODE_5_GOTTPOFF", "AMD64 ABI, Relocation Types"),
    (
        "R_X86_64_CODE_5_GOTPC32_TLSDESC",
        "AMD64 ABI, Relocation Types",
    ),
    ("R_X86_64_CODE_6_GOTPCRELX", "AMD64 ABI, Relocation Types"),
    (
        "R_X86_64_CODE_6_GOTPC32_TLSDESC",
        "AMD64 ABI, Relocation Types",
    ),
    (
        "R_AARCH64_MOVW_GOTOFF_G0",
        "aaelf64, Group relocations (GOT-relative)",
    ),
    (
        "R_AARCH64_MOVW_GOTOFF_G1_NC",
        "aaelf64, Group relocations (GOT-relative)",
    ),
    (
        "R_AARCH64_MOVW_GOTOFF_G2",
        "aaelf64, Group relocations (GOT-relative)",
    ),
    (
        "R_AARCH64_MOVW_GOTOFF_G2_NC",
        "aaelf64, Group relocations (GOT-relative)",
    ),
    (
        "R_AARCH64_MOVW_GOTOFF_G3",
        "aaelf64, Group relocations (GOT-relative)",
    ),
    (
        "R_AARCH64_GOTREL64",
        "aaelf64, GOT-relative data relocations",
    ),
    (
        "R_AARCH64_GOTREL32",
        "aaelf64, GOT-relative data relocations",
    ),
    (
        "R_AARCH64_TLSLD_LD_PREL19",
        "aaelf64, Local Dynamic TLS relocations",
    ),
    (
        "R_AARCH64_TLSLE_LDST128_TPREL_LO12",
        "aaelf64, Local Exec TLS relocations",
    ),
    (
        "R_AARCH64_TLSGD_MOVW_G1",
        "aaelf64, General Dynamic TLS relocations",
    ),
    (
        "R_AARCH64_TLSGD_MOVW_G0_NC",
        "aaelf64, General Dynamic TLS relocations",
    ),
    (
        "R_AARCH64_TLSLD_MOVW_G1",
        "aaelf64, Local Dynamic TLS relocations",
    ),
    (
        "R_AARCH64_TLSLD_MOVW_G0_NC",
        "aaelf64, Local Dynamic TLS relocations",
    ),
    (
        "R_AARCH64_TLSIE_MOVW_GOTTPREL_G1",
        "aaelf64, Initial Exec TLS relocations",
    ),
    (
        "R_AARCH64_TLSIE_MOVW_GOTTPREL_G0_NC",
        "aaelf64, Initial Exec TLS relocations",
    ),
    (
        "R_AARCH64_TLSDESC_OFF_G1",
        "aaelf64, TLS descriptor relocations",
    ),
    (
        "R_AARCH64_TLSDESC_OFF_G0_NC",
        "aaelf64, TLS descriptor relocations",
    ),
    (
        "R_AARCH64_TLSLD_LDST128_DTPREL_LO12",
        "aaelf64, Local Dynamic TLS relocations",
    ),
    (
        "R_AARCH64_TLSLD_LDST128_DTPREL_LO12_NC",
        "aaelf64, Local Dynamic TLS relocations",
    ),
];

/// Rows whose targets are entries of the GOT, which linkers align by themselves and put behind its beginning.
const SLOTS: &[&str] = &[
    "R_AARCH64_MOVW_GOTOFF_G0_NC",
    "R_AARCH64_MOVW_GOTOFF_G1",
    "R_AARCH64_GOT_LD_PREL19",
    "R_AARCH64_LD64_GOTOFF_LO15",
    "R_AARCH64_LD64_GOTPAGE_LO15",
    "R_AARCH64_LD64_GOT_LO12_NC",
    "R_AARCH64_TLSIE_LD64_GOTTPREL_LO12_NC",
    "R_AARCH64_TLSIE_LD_GOTTPREL_PREL19",
    "R_AARCH64_TLSDESC_LD_PREL19",
    "R_AARCH64_TLSDESC_LD64_LO12",
];

/// One link by each linker.
struct Case {
    relocation: &'static str,
    place: u64,
    target: u64,
    x: i64,
    /// Linker and answer, of those that gave one.
    answers: Vec<(&'static str, &'static str)>,
}

fn cases() -> Vec<Case> {
    let head = ANSWERS
        .lines()
        .find_map(|line| line.strip_prefix("# relocation place target X "));
    let linkers: Vec<&str> = head.expect("a head").split(' ').collect();
    assert_eq!(linkers, ALL);
    let lines = ANSWERS.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| case(line, &linkers)).collect()
}

fn case(line: &'static str, linkers: &[&'static str]) -> Case {
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words.len(), 4 + linkers.len(), "{line}");
    let number = |word: &str| {
        let (sign, digits) = match word.strip_prefix("-0x") {
            Some(digits) => (-1, digits),
            None => (1, &word[2..]),
        };
        sign * i128::from_str_radix(digits, 16).expect("a hexadecimal number")
    };
    let answers = linkers.iter().copied().zip(words[4..].iter().copied());
    Case {
        relocation: words[0],
        place: number(words[1]) as u64,
        target: number(words[2]) as u64,
        x: number(words[3]) as i64,
        answers: answers.filter(|(_, answer)| *answer != "-").collect(),
    }
}

fn rows() -> impl Iterator<Item = &'static RelocationRange> {
    aarch64::TABLE.iter().chain(x86_64::TABLE)
}

/// Who deviates: linker, relocation, X.
type Deviant = (&'static str, String, i64);

#[test]
fn linkers_accept_what_the_table_accepts_and_refuse_what_it_refuses() {
    let mut found: BTreeSet<Deviant> = BTreeSet::new();
    for case in cases() {
        let name = case.relocation;
        let row = rows().find(|row| row.name() == name);
        let row = row.unwrap_or_else(|| panic!("no row for {name}"));
        let checked = row.check(case.place, case.target);
        let x = checked.unwrap_or_else(|error| error.value());
        assert_eq!(x, case.x, "X of {name}");
        for (linker, answer) in case.answers {
            let accepts = match answer {
                "yes" => true,
                "no" | "other" => false,
                word => panic!("{linker} says {word}"),
            };
            if accepts != checked.is_ok() {
                found.insert((linker, name.into(), case.x));
            }
        }
    }
    let mut listed: BTreeSet<Deviant> = BTreeSet::new();
    for deviation in DEVIATIONS {
        assert!(deviation.reason.contains(", "), "{}", deviation.reason);
        for linker in deviation.linkers {
            for relocation in deviation.relocations {
                let relocation = format!("R_{relocation}");
                let values = deviation.values.iter();
                listed.extend(values.map(|&x| (*linker, relocation.clone(), x)));
            }
        }
    }
    let unlisted: Vec<_> = found.difference(&listed).collect();
    assert!(unlisted.is_empty(), "against the table: {unlisted:#x?}");
    let settled: Vec<_> = listed.difference(&found).collect();
    assert!(settled.is_empty(), "listed, but agree: {settled:#x?}");
}

/// What the linkers have to be asked about a row: each X.
fn questions(row: &RelocationRange) -> Vec<i64> {
    let is_slot = SLOTS.contains(&row.name());
    let is_checked = row.min() != i64::MIN;
    let step = match row.value() {
        Value::PageRelative => 0x1000,
        _ => row.multiple_of() as i64,
    };
    let last = row.max() & -step;
    match row.value() {
        Value::LowBits => vec![0],
        Value::PageRelative if !is_checked => vec![-(1 << 33), 0, 1 << 33],
        // Neither end of these is an offset in a GOT that can be made.
        _ if is_slot && (!is_checked || row.max() > 1 << 20) => vec![0x1000, 0x1_0008],
        _ if !is_checked => vec![row.min(), row.max()],
        _ if is_slot && row.min() == 0 => vec![last, last + step],
        Value::PageRelative => vec![row.min() - step, row.min(), last, last + step],
        _ if is_slot || step == 1 => vec![row.min() - step, row.min(), last, last + step],
        _ => {
            let ends = [row.min() - step, row.min(), last, last + step];
            let between = [row.min() + step / 2, last - step / 2];
            [ends.as_slice(), &between].concat()
        }
    }
}

#[test]
fn linkers_were_asked_about_both_ends_of_every_row() {
    let cases = cases();
    for row in rows() {
        let name = row.name();
        let mut of_row = cases.iter().filter(|case| case.relocation == name);
        if UNANSWERED.iter().any(|(listed, _)| *listed == name) {
            assert!(of_row.all(|case| case.answers.is_empty()), "{name}");
            continue;
        }
        let of_row: Vec<&Case> = of_row.filter(|case| !case.answers.is_empty()).collect();
        for x in questions(row) {
            assert!(of_row.iter().any(|case| case.x == x), "{name} of {x:#x}");
        }
        if row.value() == Value::LowBits {
            let is_carried = |case: &&Case| case.target > 0xfff && case.x > 0x100;
            assert!(of_row.iter().any(is_carried), "{name}");
            let is_aligned = |case: &&Case| case.x as u64 % row.multiple_of() == 0;
            let must_be_aligned = row.multiple_of() > 1 && !SLOTS.contains(&name);
            let all = of_row.iter().all(is_aligned);
            assert_ne!(all, must_be_aligned, "{name}");
        }
    }
}
