//! The checks that every architecture's table has to pass, and the laws between the tables.

use super::*;

/// Relocation numbers, the first and the last X that they accept, and the step between two X.
/// Written from the ABI's text, never from the constants under test.
pub(super) type Ends = (&'static [u32], i64, i64, i64);

/// A page-aligned address with room on both sides, so that `PLACE + X` is X away also in pages.
const PLACE: u64 = 0x40_0000_0000_0000;

fn check_x(row: &RelocationRange, x: i64) -> Result<i64, RangeError> {
    match row.value() {
        Value::Absolute | Value::LowBits => row.check(PLACE, x as u64),
        _ => row.check(PLACE, PLACE.wrapping_add_signed(x)),
    }
}

/// One row at both ends: inside accepted, one step outside refused, and half a step inside refused
/// where the field is scaled.
fn check_ends(row: &RelocationRange, first: i64, last: i64, step: i64) {
    let name = row.name();
    for x in [first, 0, last] {
        assert_eq!(check_x(row, x), Ok(x), "{name} refuses {x:#x}");
    }
    for x in [first - step, last + step] {
        let error = check_x(row, x).expect_err(name);
        assert_eq!((error.relocation(), error.value()), (name, x));
    }
    if step > 1 && row.value() != Value::PageRelative {
        for x in [first + step / 2, last - step / 2] {
            let error = check_x(row, x).expect_err(name);
            assert_eq!(error.multiple_of(), step as u64, "{name}");
        }
    }
}

/// A row that the ABI does not check: everything is accepted that is a multiple of `step`.
fn check_unchecked(row: &RelocationRange, step: i64) {
    let name = row.name();
    for target in [0, 0x1230, 0x7fff_ffff_ffff_fff0, 0x8000_0000_0000_0000] {
        assert!(row.check(PLACE, target).is_ok(), "{name}");
        if step > 1 {
            let error = row.check(PLACE, target + step as u64 / 2).expect_err(name);
            assert_eq!(error.multiple_of(), step as u64, "{name}");
        }
    }
}

/// The whole of one table: sorted, unique, and every row covered by exactly one line of `ends` or
/// `unchecked`.
pub(super) fn check_table(
    table: &'static [RelocationRange],
    prefix: &str,
    ends: &[Ends],
    unchecked: &[(&[u32], i64)],
) {
    assert!(table.is_sorted_by(|a, b| a.number < b.number), "{prefix}");
    let mut names: Vec<&str> = table.iter().map(|row| row.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table.len(), "two rows share a name");
    assert!(names.iter().all(|name| name.starts_with(prefix)));

    let mut covered = Vec::new();
    for &(numbers, first, last, step) in ends {
        for &number in numbers {
            check_ends(find(table, number).expect("a row"), first, last, step);
            covered.push(number);
        }
    }
    for &(numbers, step) in unchecked {
        for &number in numbers {
            check_unchecked(find(table, number).expect("a row"), step);
            covered.push(number);
        }
    }
    covered.sort_unstable();
    let numbers: Vec<u32> = table.iter().map(|row| row.number()).collect();
    assert_eq!(covered, numbers, "the test's rows against the table's");
}

#[test]
fn a_reach_is_between_one_byte_and_four_gibibytes() {
    assert_eq!(Reach::default().bytes(), 0x7ff0_0000);
    assert_eq!(Reach::ADRP.bytes(), 0x1_0000_0000);
    assert_eq!(Reach::new(0x1_0000_0000), Some(Reach::ADRP));
    assert_eq!(Reach::new(0x1_0000_0001), None);
    assert_eq!(Reach::new(0), None);
    assert!(Reach::PREL32 < Reach::ADRP);
}

#[test]
fn an_unknown_number_has_no_range() {
    assert_eq!(aarch64::range(0), None);
    assert_eq!(x86_64::range(u32::MAX), None);
    assert_eq!(aarch64::range(283), Some(&aarch64::CALL26));
}

/// The windows' corners: the low end of the address space, the middle, and across its wrap-around.
fn windows(reach: Reach, start_step: u64) -> impl Iterator<Item = (u64, u64)> {
    let last = reach.bytes() - 1;
    let starts = [0, 0x1000, 0x7f12_3456_7000, 0xffff_ffff_8000_0000];
    starts
        .into_iter()
        .flat_map(move |start: u64| [start, start + start_step])
        .flat_map(move |start| [(start, start.wrapping_add(last)), (start, start)])
        .flat_map(|(low, high)| [(low, high), (high, low)])
}

#[test]
fn any_two_addresses_of_a_prel32_window_reach_each_other() {
    let rows = [
        aarch64::PREL32,
        aarch64::PLT32,
        aarch64::GOTPCREL32,
        aarch64::ADR_PREL_PG_HI21,
        aarch64::ADR_GOT_PAGE,
        x86_64::PC32,
        x86_64::PLT32,
        x86_64::GOTPCREL,
        x86_64::REX_GOTPCRELX,
        riscv64::PCREL_HI20,
        riscv64::GOT_HI20,
        riscv64::PCREL32,
        loongarch64::PCALA_HI20,
        loongarch64::GOT_PC_HI20,
        loongarch64::PCREL32,
    ];
    for row in rows {
        // The first byte of a window may lie anywhere, also at the end of a page.
        for (place, target) in windows(Reach::PREL32, 0xfff) {
            row.check(place, target).expect("inside the window");
            // Half a MiB of addend, on either side.
            for addend in [-0x8_0000, 0x8_0000] {
                let target = target.wrapping_add_signed(addend);
                row.check(place, target).expect("the addend's slack");
            }
        }
    }
}

#[test]
fn any_two_addresses_of_an_adrp_window_that_starts_on_a_page_reach_each_other() {
    for (place, target) in windows(Reach::ADRP, 0x1000) {
        aarch64::ADR_PREL_PG_HI21
            .check(place, target)
            .expect("inside the window");
    }
    // One page more, or a start inside a page, is one page too far.
    let row = aarch64::ADR_PREL_PG_HI21;
    assert!(row.check(0x1fff, 0x1_0000_1fff).is_err());
    assert_eq!(row.check(0x1_0000_1fff, 0x1fff), Ok(-0x1_0000_0000));
    assert_eq!(row.check(0x1fff, 0x1_0000_0fff), Ok(0xffff_f000));
}

#[test]
fn pages_are_four_kibibytes_whatever_the_kernel_uses() {
    assert_eq!(Value::PageRelative.of(0x1ffc, 0x2000), 0x1000);
    assert_eq!(Value::PageRelative.of(0x1000, 0x1fff), 0);
    assert_eq!(Value::FromPage.of(0x1ffc, 0x2004), 0x1004);
    assert_eq!(Value::LowBits.of(0x1ffc, 0x1234_5678), 0x678);
}

#[test]
fn distances_wrap_as_the_cpu_s_do() {
    assert_eq!(x86_64::PC32.check(u64::MAX, 1), Ok(2));
    assert_eq!(x86_64::PC32.check(1, u64::MAX), Ok(-2));
    // Half of the address space apart: neither up nor down.
    assert!(aarch64::CALL26.check(0, 1 << 63).is_err());
}

#[test]
fn an_error_names_the_relocation_both_addresses_the_distance_and_the_broken_limit() {
    let message = |range: RelocationRange, place, target| {
        let error = range.check(place, target).expect_err("out of range");
        assert_eq!((error.place(), error.target()), (place, target));
        assert_eq!((error.min(), error.max()), (range.min(), range.max()));
        error.to_string()
    };
    assert_eq!(
        message(aarch64::CALL26, 0x1000, 0x800_1000),
        "R_AARCH64_CALL26 at 0x1000 cannot refer to 0x8001000: \
         the distance 0x8000000 is above the limit 0x7ffffff"
    );
    assert_eq!(
        message(aarch64::CALL26, 0x1000_0000, 0x7ff_fffc),
        "R_AARCH64_CALL26 at 0x10000000 cannot refer to 0x7fffffc: \
         the distance -0x8000004 is below the limit -0x8000000"
    );
    assert_eq!(
        message(aarch64::CALL26, 0x1000, 0x1002),
        "R_AARCH64_CALL26 at 0x1000 cannot refer to 0x1002: \
         the distance 0x2 is not a multiple of 4"
    );
    assert_eq!(
        message(x86_64::ABS32, 0x1000, 0x1_0000_0000),
        "R_X86_64_32 at 0x1000 cannot refer to 0x100000000: \
         the value 0x100000000 is above the limit 0xffffffff"
    );
}

#[test]
fn a_limit_of_zero_has_no_sign() {
    let error = x86_64::ABS32.check(0, u64::MAX).unwrap_err();
    let message = "R_X86_64_32 at 0x0 cannot refer to 0xffffffffffffffff: the value -0x1 is below the limit 0x0";
    assert_eq!(error.to_string(), message);
}

#[test]
fn every_row_is_found_by_its_number() {
    type Find = fn(u32) -> Option<&'static RelocationRange>;
    let tables: [(&[RelocationRange], Find); 4] = [
        (aarch64::TABLE, aarch64::range),
        (x86_64::TABLE, x86_64::range),
        (riscv64::TABLE, riscv64::range),
        (loongarch64::TABLE, loongarch64::range),
    ];
    for (table, find) in tables {
        for row in table {
            assert_eq!(find(row.number()), Some(row));
        }
        assert_eq!(find(0x1000), None);
    }
}

#[test]
fn the_last_value_inside_is_only_misaligned() {
    let error = aarch64::CALL26.check(0, 0x7ff_ffff).unwrap_err();
    assert!(
        error.to_string().ends_with("is not a multiple of 4"),
        "{error}"
    );
}
