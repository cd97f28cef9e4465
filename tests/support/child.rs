//! Tests that need a process of their own start this program again.

#![allow(dead_code)] // No test file needs all of it.

use std::process::{Command, Output};

/// Runs a test of this program in a process of its own, where [`argument`] is `argument`.
pub fn in_a_child(test: &str, argument: &str) -> Output {
    let program = std::env::current_exe().expect("this program has a path");
    let runner = runner();
    let mut words = runner
        .split_whitespace()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    words.push(program.to_str().expect("a path that is text").to_owned());
    let mut child = Command::new(&words[0]);
    child
        .args(&words[1..])
        .args(["--exact", test, "--nocapture", "--test-threads=1"]);
    // One heap, which grows where it is: otherwise malloc takes islands for arenas of its own.
    child.env("MALLOC_ARENA_MAX", "1");
    // A backtrace takes memory, which a child may not get: its panic would then wait for itself.
    child.env("RUST_BACKTRACE", "0");
    child
        .env("NEARCODE_CHILD", argument)
        .output()
        .expect("the test program starts again")
}

/// As [`is_alone`], for what an emulator's own rules would not show: there the test is skipped.
pub fn is_alone_natively(test: &str) -> bool {
    if argument().is_none() && is_emulated() {
        println!("skipped: {test}: an emulator has rules of its own");
        return false;
    }
    is_alone(test)
}

/// Runs a test again in a process of its own, of which nobody else is a thread. Whether this is that process.
pub fn is_alone(test: &str) -> bool {
    if argument().is_some() {
        return true;
    }
    let output = in_a_child(test, "child");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    false
}

/// Where cargo is told of an emulator for this CPU.
const RUNNER: Option<&str> = if cfg!(target_arch = "aarch64") {
    Some("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER")
} else if cfg!(target_arch = "riscv64") {
    Some("CARGO_TARGET_RISCV64GC_UNKNOWN_LINUX_GNU_RUNNER")
} else {
    None
};

/// The program that runs this one, where cargo was told of one; empty elsewhere.
fn runner() -> String {
    RUNNER
        .and_then(|variable| std::env::var(variable).ok())
        .unwrap_or_default()
}

/// Whether this process runs under an emulator.
pub fn is_emulated() -> bool {
    !runner().is_empty()
}

/// What this process was started for, if it is a child.
pub fn argument() -> Option<String> {
    std::env::var("NEARCODE_CHILD").ok()
}
