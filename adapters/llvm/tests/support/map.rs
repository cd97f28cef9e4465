//! The system's own map of this process.

use std::fs;

use super::child::is_emulated;

/// How many mappings this process has.
pub fn mappings() -> usize {
    lines().len()
}

/// What LLVM and the allocator may take for themselves meanwhile.
const OTHERS: usize = 30;

/// Nothing was mapped for modules since there were `before` mappings. An emulator makes the map up by itself: there this says
/// nothing.
pub fn assert_few_since(before: usize, name: &str) {
    let now = mappings();
    assert!(
        now < before + OTHERS || is_emulated(),
        "{name}: {before} mappings, then {now}"
    );
}

/// The permissions of the mapping that an address lies in.
pub fn permissions(address: u64) -> Option<String> {
    let find = |line: &String| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        (start..end)
            .contains(&address)
            .then(|| rest[..3].to_string())
    };
    lines().iter().find_map(find)
}

/// Mappings that are writable and executable at once.
pub fn writable_and_executable() -> Vec<String> {
    let is_both = |line: &String| line.contains(" rwx");
    lines().into_iter().filter(is_both).collect()
}

fn lines() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/maps").expect("a map of this process");
    text.lines().map(String::from).collect()
}
