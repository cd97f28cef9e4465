//! What benchmarks ask of their process. Each of them uses its own part.
#![allow(dead_code)]

use std::fmt::Display;
use std::fs;
use std::process::exit;

/// The command line, without the argument that cargo bench adds.
pub fn arguments() -> Vec<String> {
    let arguments = std::env::args().skip(1);
    arguments.filter(|argument| argument != "--bench").collect()
}

/// The proportional set size (PSS), in bytes: pages that are mapped twice count once.
pub fn pss() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// Kernel mappings.
pub fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count())
}

/// A failure ends the run with the object's number.
pub fn or_end<T>(result: Result<T, impl Display>, object: usize) -> T {
    result.unwrap_or_else(|error| {
        println!("{error} at object {object}");
        exit(1)
    })
}
